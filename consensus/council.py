"""The federation's council: one call settles one epoch's plan, in simulated time, for one chain of plans.

This is what a run uses. Everything below it is the protocol that also works between machines; here all replicas live in
one thread, which makes a settlement a pure function of seed, row, epoch, parent plan and bids.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fedsched.consensus.behaviours import BEHAVIOURS, Culprit
from fedsched.consensus.bids import Bid, Link, SignedBid
from fedsched.consensus.certificate import RECORD_VERSION, Certificate, PlanRecord, verify_certificate
from fedsched.consensus.draws import Draws
from fedsched.consensus.errors import ConsensusError, UnsettledError
from fedsched.consensus.events import Settled, Timing
from fedsched.consensus.evidence import Evidence
from fedsched.consensus.gate import Gate
from fedsched.consensus.keys import SiteKey
from fedsched.consensus.membership import Membership, Scope
from fedsched.consensus.network import Network, NetworkConfig
from fedsched.consensus.plan import GENESIS, Log, Plan, Rules
from fedsched.consensus.replica import Replica

LIMIT_TICKS = 2000


@dataclass(frozen=True)
class Settlement:
    """What the sites of a federation settled for one epoch of one row.

    Attributes:
        plan: The settled plan.
        certificate: A quorum's signatures under it.
        bids: The ordered bids, signed, by site; a site that is missing here does not take part in the plan.
        links: The links that the plan was cleared under.
        membership: The sites and their public keys.
        view: The view in which the plan was decided; 0 is the epoch's first leader.
        view_changes: How many new views an honest replica entered, at most.
        latency_ms: Simulated milliseconds until the last honest replica had the plan.
        messages: Frames sent.
        bytes: Their size.
        evidence: What honest replicas can prove against others.
        faulty: Sites that were told to misbehave, sorted.
        agreed: Whether every honest replica ordered the same bids and settled the same plan.
        trace: Digest of all frames; equal for equal inputs.
    """

    plan: Plan
    certificate: Certificate
    bids: tuple[SignedBid, ...]
    links: tuple[Link, ...]
    membership: Membership
    view: int
    view_changes: int
    latency_ms: int
    messages: int
    bytes: int
    evidence: tuple[Evidence, ...]
    faulty: tuple[str, ...]
    agreed: bool
    trace: str

    def record(self) -> PlanRecord:
        """What an auditor needs; `record().to_builtins()` goes into the run folder."""
        return PlanRecord(RECORD_VERSION, self.membership, self.links, self.bids, self.plan, self.certificate)


class Council:
    """Settles plans among at least four sites.

    Args:
        federation: Name of the federation. Plans of two councils with equal name and keys are indistinguishable to an
            auditor, so a run that settles the same epochs again (another evaluation) needs another name.
        keys: Secret key by site.
        links: All links between sites.
        faults: Behaviour by faulty site: `silent`, `equivocating`, `slow` or `lying`.
        network: Delay and loss.
        seed: Seed of delays, losses and the behaviours' choices.

    Attributes:
        membership: The sites and their public keys.

    Raises:
        ConsensusError: Fewer than four sites, an unknown fault or site, or two links in one direction.
    """

    def __init__(
        self,
        federation: str,
        keys: Mapping[str, SiteKey],
        *,
        links: tuple[Link, ...] = (),
        faults: Mapping[str, str] | None = None,
        network: NetworkConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.membership = Membership.of(federation, keys)
        self._keys = dict(keys)
        self._links = links
        self._faults = dict(sorted((faults or {}).items()))
        self._network = network or NetworkConfig()
        self._seed = seed
        self._timing = Timing()
        self._chain: dict[int, tuple[int, bytes]] = {}
        self._check()

    def _check(self) -> None:
        sites = set(self.membership.names)
        for site, fault in self._faults.items():
            if site not in sites:
                raise ConsensusError(f"faults name site {site!r}; the federation has {', '.join(sorted(sites))}")
            if fault not in BEHAVIOURS:
                raise ConsensusError(f"unknown fault {fault!r} of site {site!r}; known: {', '.join(BEHAVIOURS)}")
        directions = [(link.source, link.target) for link in self._links]
        for direction in directions:
            if not sites.issuperset(direction):
                raise ConsensusError(f"link {direction[0]}->{direction[1]} leads out of the federation")
        if len(set(directions)) != len(directions):
            raise ConsensusError("two links run in the same direction between two sites; add up their capacities")

    def settle(self, epoch: int, bids: Mapping[str, Bid], row: int = 0) -> Settlement:
        """Orders the bids of one epoch and settles its plan.

        Args:
            epoch: Later than any epoch that was settled for `row` before.
            bids: Bid by site; a site that is not there bids nothing.
            row: Which chain of plans.

        Raises:
            ConsensusError: A bid is filed under another site or epoch, or the epoch is over.
            UnsettledError: The honest replicas did not finish in time, as with more faults than the sites tolerate.
        """
        log = self._log(epoch, row)
        signed = self._signed(log.scope, bids)
        network = self._assemble(log)
        in_time = network.run(signed, LIMIT_TICKS * self._network.tick_ms)
        settled = [network.outcomes[index].settled for index in network.honest]
        plans = [one for one in settled if one is not None]
        if not in_time or not plans:
            raise UnsettledError(self._excuse(log.scope, network, plans))
        settlement = self._report(log, network, plans, tuple(signed.values()))
        verify_certificate(settlement.plan, settlement.certificate, self.membership)
        self._chain[row] = (epoch, settlement.plan.digest)
        return settlement

    def _log(self, epoch: int, row: int) -> Log:
        last, parent = self._chain.get(row, (-1, GENESIS))
        if epoch <= last:
            raise ConsensusError(
                f"row {row} has settled epoch {last} already, epoch {epoch} is over: settle later epochs, or make a "
                "council with another federation name for another period"
            )
        return Log(Scope(self.membership, row, epoch), parent, self._links)

    def _signed(self, scope: Scope, bids: Mapping[str, Bid]) -> dict[int, SignedBid]:
        for site, bid in bids.items():
            if site not in self._keys or (bid.site, bid.epoch) != (site, scope.epoch):
                raise ConsensusError(
                    f"bid of {bid.site!r} for epoch {bid.epoch} is filed under {site!r} for epoch {scope.epoch}; sites "
                    f"are {', '.join(self.membership.names)}"
                )
        own = {site: bids.get(site, Bid(site, scope.epoch)) for site in self.membership.names}
        return {i: SignedBid.by(self._keys[site], own[site], scope) for i, site in enumerate(self.membership.names)}

    def _assemble(self, log: Log) -> Network:
        names, rules, occasion = self.membership.names, Rules(), (self._seed, log.scope.row, log.scope.epoch)
        replicas = [Replica(i, self._keys[site], log, rules, self._timing) for i, site in enumerate(names)]
        patience_ms = self._timing.timeout * self._network.tick_ms
        culprits = {
            names.index(site): (
                fault,
                Culprit(names.index(site), self._keys[site], log.scope, Draws(occasion, f"fault {site}"), patience_ms),
            )
            for site, fault in self._faults.items()
        }
        return Network(replicas, Gate(log.scope), culprits, self._network, Draws(occasion, "network"))

    def _report(self, log: Log, network: Network, plans: list[Settled], signed: tuple[SignedBid, ...]) -> Settlement:
        plan, certificate = plans[0].plan, plans[0].certificate
        inputs = {one.site for one in plan.inputs}
        outcomes = [network.outcomes[index] for index in network.honest]
        return Settlement(
            plan=plan,
            certificate=certificate,
            bids=tuple(one for one in signed if one.bid.site in inputs),
            links=log.links,
            membership=self.membership,
            view=certificate.view,
            view_changes=max(outcome.views for outcome in outcomes),
            latency_ms=max(outcome.at_ms for outcome in outcomes),
            messages=network.messages,
            bytes=network.bytes,
            evidence=network.evidence,
            faulty=tuple(self._faults),
            agreed=network.agreed,
            trace=network.trace,
        )

    def _excuse(self, scope: Scope, network: Network, plans: list[Settled]) -> str:
        faults = ", ".join(f"{site} {fault}" for site, fault in self._faults.items()) or "none"
        tolerated = self.membership.n - self.membership.required_bids
        return (
            f"row {scope.row}, epoch {scope.epoch}: {len(plans)} of {len(network.honest)} honest replicas settled "
            f"within {network.now_ms} simulated ms and {max(one.views for one in network.outcomes)} new view(s); "
            f"faults: {faults}; {self.membership.n} sites tolerate {tolerated}. Lower the faults or the loss "
            f"({self._network.loss}), or add sites"
        )
