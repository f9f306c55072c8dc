"""Waiting areas inside junctions: who may leave them."""

from types import ModuleType

import pytest

from fedsched.envs.intersections.reference.junctions import is_open
from fedsched.envs.intersections.reference.state import Item, Street, Vehicle
from fedsched.envs.intersections.tables import LinkKind


@pytest.mark.parametrize("entry", ["r", "g"])
def test_whoever_is_left_in_a_waiting_area_lets_standing_vehicles_with_priority_go(
    streets: ModuleType, entry: str
) -> None:
    """SUMO 1.28 kept its left-overs standing in 96 of 108 such seconds of cologne1, and let 9 go."""
    street = Street(streets.scene("permissive_left").tables)
    inner = street.link_kind.index(LinkKind.INNER)
    foe_link = street.response[street.response_begin[inner]]
    street.link_state[street.link_entry[inner]], street.link_state[foe_link] = entry, "G"
    left_over, foe = Vehicle(0, 0, 0, 0, 1.0, waiting=20), Vehicle(1, 0, 0, 0, 1.0)
    own = Item(inner, 2.6, 0.0, True, arrival=0.0, arrival_speed=2.6, leave=2.0, leave_speed=5.0)
    assert is_open(street, left_over, own, True, 0)
    coming = Item(foe_link, 2.6, 0.0, True, arrival=0.3, arrival_speed=2.6, leave=3.0, distance=1.0)
    street.approaching[foe_link].append((foe, coming))
    assert foe.speed == 0
    assert not is_open(street, left_over, own, True, 0)
