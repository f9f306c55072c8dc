"""Laws of the clearing: conservation, bounds, rationality, indifference to order, nothing left over; toy markets."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fedsched.consensus import Bid, Link, Lot, clear, objective
from fedsched.consensus.clearing import match, meet

SITES = ("a", "b", "c", "d")

limits = st.dictionaries(st.sampled_from(["data_mb_per_unit", "max_width"]), st.integers(0, 4), max_size=2).map(
    lambda found: tuple(sorted(found.items()))
)
lots = st.builds(
    Lot,
    resource=st.sampled_from(["hours", "tasks"]),
    quantity=st.integers(1, 9),
    unit_value=st.integers(0, 20),
    window=st.sampled_from([(0, 10), (5, 15), (10, 20)]),
    limits=limits,
)
markets = st.tuples(*[st.tuples(st.lists(lots, max_size=3), st.lists(lots, max_size=3)) for _ in SITES]).map(
    lambda found: tuple(Bid(site, 0, tuple(o), tuple(a)) for site, (o, a) in zip(SITES, found, strict=True))
)
networks = st.dictionaries(
    st.sampled_from([(a, b) for a in SITES for b in SITES if a != b]),
    st.tuples(st.integers(0, 12), st.integers(0, 3)),
    min_size=4,
).map(lambda found: tuple(Link(a, b, capacity, 0, cost) for (a, b), (capacity, cost) in found.items()))
law = settings(max_examples=150, deadline=None, derandomize=True)


@given(markets, networks)
@law
def test_no_lot_and_no_link_is_used_beyond_what_it_holds(bids: tuple[Bid, ...], links: tuple[Link, ...]) -> None:
    asks, offers, data = Counter(), Counter(), Counter()
    for one in clear(bids, links):
        asks[one.giver, one.ask] += one.quantity
        offers[one.taker, one.offer] += one.quantity
        data[one.giver, one.taker] += one.quantity * dict(one.limits).get("data_mb_per_unit", 0)
    by_site = {bid.site: bid for bid in bids}
    assert all(used <= by_site[site].asks[i].quantity for (site, i), used in asks.items())
    assert all(used <= by_site[site].offers[i].quantity for (site, i), used in offers.items())
    capacity = {(link.source, link.target): link.capacity for link in links}
    assert all(used <= capacity[direction] for direction, used in data.items())


@given(markets, networks)
@law
def test_both_ends_gain_and_get_what_they_signed(bids: tuple[Bid, ...], links: tuple[Link, ...]) -> None:
    by_site = {bid.site: bid for bid in bids}
    costs = {(link.source, link.target): link.unit_cost for link in links}
    for one in clear(bids, links):
        ask, offer = by_site[one.giver].asks[one.ask], by_site[one.taker].offers[one.offer]
        bounds = dict(one.limits)
        freight = bounds.get("data_mb_per_unit", 0) * costs[one.giver, one.taker]
        assert offer.unit_value <= one.price <= ask.unit_value - freight
        assert one.giver != one.taker
        assert one.resource == ask.resource == offer.resource
        assert one.quantity > 0
        for lot in (ask, offer):
            assert lot.window[0] <= one.window[0] < one.window[1] <= lot.window[1]
            assert all(bounds[name] <= bound for name, bound in lot.limits)


@given(markets, networks)
@law
def test_no_site_gives_and_takes_one_resource_at_once(bids: tuple[Bid, ...], links: tuple[Link, ...]) -> None:
    plan = clear(bids, links)
    givers, takers = ({(getattr(one, end), one.resource) for one in plan} for end in ("giver", "taker"))
    assert givers.isdisjoint(takers)


@given(markets, networks, st.randoms(use_true_random=False))
@law
def test_the_order_of_bids_and_links_does_not_matter(bids: tuple[Bid, ...], links: tuple[Link, ...], rng: Any) -> None:
    shuffled, rewired = list(bids), list(links)
    rng.shuffle(shuffled)
    rng.shuffle(rewired)
    assert clear(shuffled, rewired) == clear(bids, links)


@given(markets, networks)
@law
def test_nothing_profitable_is_left_over(bids: tuple[Bid, ...], links: tuple[Link, ...]) -> None:
    """The slow twin: try to add one unit of every possible pair to the finished plan."""
    plan = clear(bids, links)
    asks, offers, data = Counter(), Counter(), Counter()
    for one in plan:
        asks[one.giver, one.ask] += one.quantity
        offers[one.taker, one.offer] += one.quantity
        data[one.giver, one.taker] += one.quantity * one.data_per_unit
    roles = {(one.giver, one.resource): "give" for one in plan} | {(one.taker, one.resource): "take" for one in plan}
    by_site = {bid.site: bid for bid in bids}
    for link in links:
        giver, taker = by_site[link.source], by_site[link.target]
        for i, ask in enumerate(giver.asks):
            for j, offer in enumerate(taker.offers):
                pair = match(giver.site, (i, ask), taker.site, (j, offer), link)
                fits = (
                    pair is not None
                    and pair.surplus > 0
                    and asks[giver.site, i] < ask.quantity
                    and offers[taker.site, j] < offer.quantity
                    and data[giver.site, taker.site] + pair.terms.data_per_unit <= link.capacity
                    and roles.get((giver.site, ask.resource), "give") == "give"
                    and roles.get((taker.site, ask.resource), "take") == "take"
                )
                assert not fits


def hours(quantity: Any, value: Any, **bounds: Any) -> Any:
    return Lot("hours", quantity, value, (0, 10), tuple(sorted(bounds.items())))


def test_toy_market_by_hand() -> None:
    """a asks 10 at 9, b asks 10 at 7; c offers 12 at 3, d offers 5 at 1. Best first: a-d 5, a-c 5, b-c 7."""
    bids = (
        Bid("a", 0, (), (hours(10, 9),)),
        Bid("b", 0, (), (hours(10, 7),)),
        Bid("c", 0, (hours(12, 3),)),
        Bid("d", 0, (hours(5, 1),)),
    )
    links = tuple(Link(x, y, 100) for x in SITES for y in SITES if x != y)
    plan = clear(bids, links)
    assert [(one.giver, one.taker, one.quantity, one.price) for one in plan] == [
        ("a", "c", 5, 6),
        ("a", "d", 5, 5),
        ("b", "c", 7, 5),
    ]
    assert objective(plan, bids, links) == 5 * 8 + 5 * 6 + 7 * 4


def test_a_narrow_link_cuts_the_quantity_and_the_rest_goes_elsewhere() -> None:
    bids = (
        Bid("a", 0, (), (hours(10, 9, data_mb_per_unit=4),)),
        Bid("b", 0, (hours(10, 1),)),
        Bid("c", 0, (hours(10, 2),)),
    )
    links = (Link("a", "b", 13), Link("a", "c", 100))
    assert [(one.taker, one.quantity) for one in clear(bids, links)] == [("b", 3), ("c", 7)]


def test_without_a_link_in_that_direction_there_is_no_trade() -> None:
    bids = (Bid("a", 0, (), (hours(1, 9),)), Bid("b", 0, (hours(1, 1),)))
    assert clear(bids, (Link("b", "a", 100),)) == ()
    assert len(clear(bids, (Link("a", "b", 100),))) == 1


def test_the_better_match_decides_whether_a_site_gives_or_takes() -> None:
    bids = (
        Bid("a", 0, (), (hours(5, 20),)),
        Bid("b", 0, (hours(5, 1),), (hours(5, 9),)),
        Bid("c", 0, (hours(5, 2),)),
    )
    links = (Link("a", "b", 100), Link("b", "c", 100))
    assert [(one.giver, one.taker) for one in clear(bids, links)] == [("a", "b")]


def test_meet_takes_the_lower_bound_of_both_sides() -> None:
    assert meet((("width", 32), ("x", 1)), (("estimate", 5), ("width", 8))) == (("estimate", 5), ("width", 8), ("x", 1))


def test_a_class_of_work_that_the_offer_cannot_take_at_all_is_not_promised() -> None:
    """Widths 9 to 16 do not fit an offer of width 8, in part they fit one of width 12."""
    wanted = hours(5, 9, width=16, width_above=8)
    bids = (Bid("a", 0, (), (wanted,)), Bid("b", 0, (hours(5, 1, width=8),)), Bid("c", 0, (hours(5, 2, width=12),)))
    plan = clear(bids, (Link("a", "b", 100), Link("a", "c", 100)))
    assert [(one.taker, one.limits) for one in plan] == [("c", (("width", 12), ("width_above", 8)))]


def test_meet_takes_the_higher_bound_of_lower_ends() -> None:
    assert meet((("width_above", 4),), (("width_above", 8),)) == (("width_above", 8),)


def test_at_equal_surplus_the_offer_that_keeps_the_limits_comes_first() -> None:
    bids = (
        Bid("a", 0, (), (hours(5, 9, max_width=32),)),
        Bid("b", 0, (hours(5, 1, max_width=8),)),
        Bid("c", 0, (hours(5, 1, max_width=64),)),
    )
    links = (Link("a", "b", 100), Link("a", "c", 100))
    assert [(one.taker, one.limits) for one in clear(bids, links)] == [("c", (("max_width", 32),))]
