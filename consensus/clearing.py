"""The deterministic floor of every plan: who takes whose work, by integers alone.

Three stages, in reading order. `auction` ranks all pairs of an ask and an offer by surplus. `resolve` walks down the
ranking and settles conflicts: the same work or the same capacity promised twice, or a site that would give and take one
resource at once. `allocate` cuts what is left to what the link can carry. The better-ranked match always goes first;
since nothing is ever given back, no profitable match is left over when the walk ends.

Surplus per unit = the ask's value - the offer's value - the link's cost of the data that moves with a unit. The price
splits it in half, the odd milli-unit to the asking site. A match that narrows the ask's limits may find less work than
its quantity says, so at equal surplus it comes after those that do not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from fedsched.consensus.bids import ABOVE, DATA_LIMIT, Bid, Limits, Link, Lot


class Transfer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A commitment: `giver` may hand over work, `taker` does it.

    Attributes:
        giver: The site whose ask is served.
        ask: Index among the giver's asks.
        taker: The site whose offer serves it.
        offer: Index among the taker's offers.
        resource: What is traded.
        quantity: Units at most.
        window: Start and end, whole seconds: where both lots' windows overlap.
        limits: Bounds on every piece of work, sorted by name: the tighter one of both lots.
        price: Milli-currency per unit that the giver pays the taker.
    """

    giver: str
    ask: int
    taker: str
    offer: int
    resource: str
    quantity: int
    window: tuple[int, int]
    limits: Limits
    price: int

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What makes a transfer unique in its plan, and its place there."""
        return (self.giver, self.ask, self.taker, self.offer)

    @property
    def data_per_unit(self) -> int:
        """Megabytes that move with a unit at most."""
        return dict(self.limits).get(DATA_LIMIT, 0)


class Match(NamedTuple):
    """A pair that would gain: one unit's terms, before anybody else is looked at."""

    surplus: int
    narrowed: bool
    terms: Transfer


def meet(first: Limits, second: Limits) -> Limits:
    """The limits that satisfy both sides: the tighter bound where both name one, else the only one."""
    merged = dict(first)
    for name, bound in second:
        tighter = max if name.endswith(ABOVE) else min
        merged[name] = tighter(bound, merged.get(name, bound))
    return tuple(sorted(merged.items()))


def is_empty(limits: Limits) -> bool:
    """Whether no piece of work can satisfy the limits: a bound does not exceed its own `_above`."""
    bounds = dict(limits)
    floors = ((name.removesuffix(ABOVE), floor) for name, floor in limits if name.endswith(ABOVE))
    return any(name in bounds and bounds[name] <= floor for name, floor in floors)


def match(giver: str, ask: tuple[int, Lot], taker: str, offer: tuple[int, Lot], link: Link) -> Match | None:
    """The terms on which an ask and an offer meet, with the quantity both could do; None where they cannot."""
    (i, wanted), (j, free) = ask, offer
    window = (max(wanted.window[0], free.window[0]), min(wanted.window[1], free.window[1]))
    if giver == taker or wanted.resource != free.resource or window[0] >= window[1]:
        return None
    limits = meet(wanted.limits, free.limits)
    if is_empty(limits):
        return None
    bounds = dict(limits)
    surplus = wanted.unit_value - free.unit_value - bounds.get(DATA_LIMIT, 0) * link.unit_cost
    narrowed = any(bounds[name] != bound for name, bound in wanted.limits)
    quantity = min(wanted.quantity, free.quantity)
    price = free.unit_value + surplus // 2
    return Match(surplus, narrowed, Transfer(giver, i, taker, j, wanted.resource, quantity, window, limits, price))


@dataclass
class Ledger:
    """What is still to be had while a plan is cleared."""

    asks: dict[tuple[str, int], int]
    offers: dict[tuple[str, int], int]
    links: dict[tuple[str, str], int]
    roles: dict[tuple[str, str], Literal["give", "take"]] = field(default_factory=dict)

    def book(self, transfer: Transfer) -> None:
        """Takes a transfer's quantity, data and roles out of what is left."""
        self.asks[transfer.giver, transfer.ask] -= transfer.quantity
        self.offers[transfer.taker, transfer.offer] -= transfer.quantity
        self.links[transfer.giver, transfer.taker] -= transfer.quantity * transfer.data_per_unit
        self.roles[transfer.giver, transfer.resource] = "give"
        self.roles[transfer.taker, transfer.resource] = "take"


def ledger(bids: Iterable[Bid], links: Iterable[Link]) -> Ledger:
    """All that the bids and links hold, untouched."""
    bids = tuple(bids)
    return Ledger(
        asks={(bid.site, i): lot.quantity for bid in bids for i, lot in enumerate(bid.asks)},
        offers={(bid.site, i): lot.quantity for bid in bids for i, lot in enumerate(bid.offers)},
        links={(link.source, link.target): link.capacity for link in links},
    )


def auction(bids: Sequence[Bid], links: Iterable[Link]) -> list[Match]:
    """Stage 1: every pair with a positive surplus, best first; ties by limits kept, then sites and lots."""
    by_site = {bid.site: bid for bid in bids}
    found = [
        match(link.source, ask, link.target, offer, link)
        for link in links
        if link.source in by_site and link.target in by_site
        for ask in enumerate(by_site[link.source].asks)
        for offer in enumerate(by_site[link.target].offers)
    ]
    gains = [pair for pair in found if pair is not None and pair.surplus > 0]
    return sorted(gains, key=lambda pair: (-pair.surplus, pair.narrowed, pair.terms.key))


def resolve(terms: Transfer, left: Ledger) -> int:
    """Stage 2: the units that contradict no better-ranked match; a site keeps the first role it got in a resource."""
    if left.roles.get((terms.giver, terms.resource), "give") != "give":
        return 0
    if left.roles.get((terms.taker, terms.resource), "take") != "take":
        return 0
    return min(left.asks[terms.giver, terms.ask], left.offers[terms.taker, terms.offer])


def allocate(terms: Transfer, quantity: int, left: Ledger) -> int:
    """Stage 3: the units among `quantity` whose data the link from giver to taker can still carry."""
    if terms.data_per_unit == 0:
        return quantity
    return min(quantity, left.links[terms.giver, terms.taker] // terms.data_per_unit)


def clear(bids: Sequence[Bid], links: Sequence[Link]) -> tuple[Transfer, ...]:
    """The transfers that the written rules give, sorted by giver, ask, taker and offer.

    A pure function of the set of bids and the set of links (one bid per site, one link per direction): their order does
    not matter. Greedy by surplus, so not the optimum, but maximal: no profitable transfer fits beside it.
    """
    left = ledger(bids, links)
    booked = []
    for _, _, terms in auction(bids, links):
        quantity = allocate(terms, resolve(terms, left), left)
        if quantity > 0:
            transfer = msgspec.structs.replace(terms, quantity=quantity)
            left.book(transfer)
            booked.append(transfer)
    return tuple(sorted(booked, key=lambda transfer: transfer.key))
