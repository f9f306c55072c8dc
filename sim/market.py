"""Translation between what a domain trades and what the sites agree on; neither room knows the other."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedsched.consensus import Bid, Council, Link, NetworkConfig, Settlement, SiteKey
from fedsched.consensus import Lot as BidLot
from fedsched.envs.core import Delivery, Lot
from fedsched.sim.scenario import Plan, Scenario

MEGABIT = 1e6


def make_council(scenario: Scenario, plan: Plan, occasion: str, run: str = "") -> Council:
    """The replicas of all sites.

    Args:
        scenario: The whole scenario.
        plan: Links and epochs.
        occasion: What is operated, so that no two chains of plans of a run can be mixed up.
        run: Id of the run, so that those of two runs cannot either; what is settled does not depend on it.
    """
    settings = scenario.consensus
    return Council(
        "/".join(part for part in (scenario.name, run, occasion) if part),
        {name: SiteKey.from_seed(_key_seed(scenario, run, name)) for name in scenario.sites},
        links=_links(scenario, plan),
        faults=settings.faults,
        network=NetworkConfig(delay_ms=round(settings.network.delay * 1000), loss=settings.network.loss),
        seed=scenario.seed,
    )


def bid_of(site: str, epoch: int, lots: Sequence[Lot]) -> Bid:
    """A site's lots as its bid for one epoch."""
    sides: dict[str, list[BidLot]] = {"offer": [], "ask": []}
    for lot in lots:
        sides[lot.side].append(BidLot(lot.resource, lot.quantity, lot.unit_value, lot.window, lot.limits))
    return Bid(site, epoch, tuple(sides["offer"]), tuple(sides["ask"]))


def deliveries_of(settlement: Settlement, plan: Plan, both: bool = False) -> dict[str, list[Delivery]]:
    """What each giver has to hand over under a settled plan, by site; what each taker accepts too, where asked for."""
    wanted: dict[str, list[Delivery]] = {}
    for transfer in settlement.plan.transfers:
        link = plan.link(transfer.giver, transfer.taker)
        delivery = Delivery(
            side="give",
            resource=transfer.resource,
            quantity=transfer.quantity,
            window=transfer.window,
            peer=transfer.taker,
            limits=transfer.limits,
            bandwidth_bps=link.bandwidth,
            latency_s=link.latency,
        )
        wanted.setdefault(transfer.giver, []).append(delivery)
        if both:
            wanted.setdefault(transfer.taker, []).append(replace(delivery, side="take", peer=transfer.giver))
    return wanted


def settlement_event(settlement: Settlement) -> Mapping[str, object]:
    """What the run's event log says about a settlement."""
    plan = settlement.plan
    return {
        "plan": plan.digest.hex(),
        "transfers": len(plan.transfers),
        "quantity": sum(transfer.quantity for transfer in plan.transfers),
        "signatures": len(settlement.certificate.signatures),
        "view": settlement.view,
        "view_changes": settlement.view_changes,
        "latency_ms": settlement.latency_ms,
        "messages": settlement.messages,
        "bytes": settlement.bytes,
        "faulty": list(settlement.faulty),
        "evidence": len(settlement.evidence),
        "agreed": settlement.agreed,
    }


def _links(scenario: Scenario, plan: Plan) -> tuple[Link, ...]:
    links = []
    for source in scenario.sites:
        for target in scenario.sites:
            if source != target:
                link = plan.link(source, target)
                capacity = int(link.bandwidth * plan.epoch / 8 / MEGABIT)
                links.append(Link(source, target, min(capacity, 1 << 40), round(link.latency * 1000)))
    return tuple(links)


def _key_seed(scenario: Scenario, run: str, name: str) -> bytes:
    """A simulated site's secret: a run that is continued has its keys again, and no other run has them."""
    text = f"{scenario.name}/{scenario.seed}/{run}/{name}".encode()
    return hashlib.blake2b(text, digest_size=32, person=b"fedsched-keys").digest()
