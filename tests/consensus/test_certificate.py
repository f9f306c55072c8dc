"""Certificates and records: believed by a stranger when genuine, refused after any change."""

import json
from typing import Any

import msgspec
import pytest

from fedsched.consensus import CertificateError, Council, Membership, load_record, verify_certificate


@pytest.fixture
def settlement(federation: Any) -> Any:
    return Council("toy", federation.keys, links=federation.links).settle(0, federation.bids())


def change(record: Any, **fields: dict[str, Any]) -> Any:
    return msgspec.structs.replace(record, **fields)


def test_a_stranger_with_the_membership_list_believes_a_genuine_certificate(settlement: Any, federation: Any) -> None:
    strangers_list = Membership("toy", federation.membership.sites)
    verify_certificate(settlement.plan, settlement.certificate, strangers_list)


def test_every_change_to_plan_or_certificate_is_refused(settlement: Any, federation: Any) -> None:
    plan, certificate, membership = settlement.plan, settlement.certificate, federation.membership
    (name, signature), *rest = certificate.signatures
    tampered = [
        (change(plan, objective=plan.objective + 1), certificate),
        (change(plan, epoch=1), certificate),
        (change(plan, row=1), certificate),
        (plan, change(certificate, view=1)),
        (plan, change(certificate, seq=certificate.seq + 1)),
        (plan, change(certificate, plan=bytes(32))),
        (plan, change(certificate, membership=bytes(32))),
        (plan, change(certificate, signatures=tuple(rest))),
        (plan, change(certificate, signatures=((name, signature), (name, signature), rest[0]))),
        (plan, change(certificate, signatures=((name, bytes(64)), *rest))),
        (plan, change(certificate, signatures=(("nobody", signature), *rest))),
        (plan, change(certificate, signatures=((name, rest[0][1]), *rest))),
    ]
    for other_plan, other_certificate in tampered:
        with pytest.raises(CertificateError):
            verify_certificate(other_plan, other_certificate, membership)


def test_the_record_survives_json_and_verifies(settlement: Any, federation: Any) -> None:
    text = json.dumps(settlement.record().to_builtins())
    record = load_record(text)
    assert record == settlement.record() == load_record(json.loads(text))
    record.verify(federation.membership)
    assert load_record(json.loads(text) | {"occasion": "a note of the run"}) == record


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("plan", "transfers", 0, "quantity"), 1),
        (("plan", "transfers", 0, "price"), 1),
        (("plan", "parent"), "AAAA"),
        (("bids", 0, "bid", "asks", 0, "unit_value"), 5),
        (("bids", 0, "signature"), "AAAA"),
        (("links", 0, "capacity"), 7),
        (("certificate", "view"), 9),
        (("membership", "federation"), "other"),
    ],
)
def test_any_edit_of_the_file_is_found(settlement: Any, path: Any, value: Any) -> None:
    loaded = json.loads(json.dumps(settlement.record().to_builtins()))
    place = loaded
    for step in path[:-1]:
        place = place[step]
    assert place[path[-1]] != value
    place[path[-1]] = value
    with pytest.raises(CertificateError):
        load_record(loaded).verify()


def test_a_removed_bid_is_found(settlement: Any) -> None:
    loaded = settlement.record().to_builtins()
    loaded["bids"] = loaded["bids"][1:]
    with pytest.raises(CertificateError, match="V2"):
        load_record(loaded).verify()


def test_a_record_with_its_own_forged_membership_fails_the_auditors_list(settlement: Any, federation_of: Any) -> None:
    record = settlement.record()
    record.verify()
    with pytest.raises(CertificateError, match="another membership"):
        record.verify(federation_of(5).membership)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"version": 1}'])
def test_what_is_no_record_is_refused(text: Any) -> None:
    with pytest.raises(CertificateError, match="not a plan record"):
        load_record(text)


def test_another_version_is_refused(settlement: Any) -> None:
    with pytest.raises(CertificateError, match="version 2"):
        load_record(settlement.record().to_builtins() | {"version": 2})
