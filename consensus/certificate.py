"""Proof, for anyone with the membership list, that a quorum of sites settled a plan; and the file that carries it."""

import json
from collections.abc import Mapping
from typing import Self

import msgspec

from fedsched.consensus.bids import Link, SignedBid
from fedsched.consensus.errors import CertificateError
from fedsched.consensus.membership import Membership, Scope
from fedsched.consensus.messages import Decided, vote_statement
from fedsched.consensus.plan import Plan, log_of, plan_violation

RECORD_VERSION = 1


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A quorum's signed commits to one plan.

    Attributes:
        plan: Digest of the plan, 32 bytes.
        view: The view in which it was decided.
        seq: The step of the settlement at which it was decided.
        membership: Digest of the membership that signed, 32 bytes.
        signatures: Pairs of site and signature, by site.
    """

    plan: bytes
    view: int
    seq: int
    membership: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, decided: Decided, membership: Membership) -> Self:
        """The certificate inside a decision."""
        proposal = decided.pre_prepare.proposal
        signatures = tuple((membership.names[one.replica], one.signature) for one in decided.commits)
        return cls(proposal.digest, proposal.view, proposal.seq, membership.digest, tuple(sorted(signatures)))


def verify_certificate(plan: Plan, certificate: Certificate, membership: Membership) -> None:
    """Checks that a quorum of `membership` committed exactly `plan`; needs nothing else.

    Raises:
        CertificateError: Says what does not fit.
    """
    here = f"plan of row {plan.row}, epoch {plan.epoch}"
    if not certificate.membership == plan.membership == membership.digest:
        raise CertificateError(f"{here}: it was settled by another membership; ask for the list that was in force")
    if certificate.plan != plan.digest:
        raise CertificateError(f"{here}: the certificate belongs to another plan, or the plan was changed")
    scope = Scope(membership, plan.row, plan.epoch)
    statement = vote_statement("commit", certificate.view, certificate.seq, certificate.plan)
    index = {name: i for i, name in enumerate(membership.names)}
    signers = {site for site, _ in certificate.signatures}
    if len(signers) != len(certificate.signatures) or len(signers) < membership.quorum:
        raise CertificateError(f"{here}: {len(signers)} distinct signers, a quorum is {membership.quorum}")
    for site, signature in certificate.signatures:
        if site not in index or not scope.signed(index[site], signature, statement.kind, *statement.fields):
            raise CertificateError(f"{here}: the signature of {site!r} is not genuine")


class PlanRecord(msgspec.Struct, frozen=True):
    """All that an auditor needs of one settlement; what `plans/<row>/epoch-*.json` holds.

    A run may write notes of its own beside these fields; nobody signed them and the loader passes over them.

    Attributes:
        version: Version of this layout.
        membership: The sites and their public keys.
        links: The links that the plan was cleared under.
        bids: The ordered bids with their signatures, by site.
        plan: The settled plan.
        certificate: Its proof.
    """

    version: int
    membership: Membership
    links: tuple[Link, ...]
    bids: tuple[SignedBid, ...]
    plan: Plan
    certificate: Certificate

    def to_builtins(self) -> dict[str, object]:
        """The record as dicts, lists, strings and integers, ready for `json.dump`; bytes become base64."""
        builtins: dict[str, object] = msgspec.to_builtins(self)
        return builtins

    def verify(self, membership: Membership | None = None) -> None:
        """Checks certificate, bids and every rule of the plan.

        Args:
            membership: The list that the auditor trusts; None trusts the one in the record.

        Raises:
            CertificateError: Says what does not fit.
        """
        if membership is not None and membership != self.membership:
            raise CertificateError("the record names another membership than the trusted one; get the right list")
        verify_certificate(self.plan, self.certificate, self.membership)
        reason = plan_violation(self.plan, log_of(self.membership, self.plan, self.bids, self.links))
        if reason is not None:
            raise CertificateError(f"plan of row {self.plan.row}, epoch {self.plan.epoch} breaks a rule: {reason}")


def load_record(source: str | bytes | Mapping[str, object]) -> PlanRecord:
    """The record in a JSON text or in what `json.load` made of one; verify it before believing it.

    Raises:
        CertificateError: It is not a record of this version.
    """
    try:
        loaded = json.loads(source) if isinstance(source, str | bytes) else source
        record = msgspec.convert(loaded, PlanRecord)
    except (msgspec.ValidationError, ValueError) as error:
        raise CertificateError(f"not a plan record ({error}); expected a file that a run wrote in plans/") from error
    if record.version != RECORD_VERSION:
        raise CertificateError(f"plan record of version {record.version}; this program reads version {RECORD_VERSION}")
    return record
