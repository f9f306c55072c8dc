from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import IntersectionsError, Phase, Signal
from fedsched.envs.intersections.signals import green_phases, movements, transition

FOLDER = Path(__file__).parent / "networks"
STATES = "GgyrsuoO"


def signal(*states: str) -> Signal:
    phases = tuple(Phase(10, state, 10, 10) for state in states)
    return Signal("x", "static", "0", 0, phases, ((),) * len(states[0]))


def test_an_agent_chooses_from_phases_with_green_and_without_yellow() -> None:
    assert green_phases(signal("GGrr", "yyrr", "rrrr", "rrss", "rrgG", "Gyrr", "ssrg")) == (0, 4, 6)


def test_a_signal_without_green_is_an_error() -> None:
    with pytest.raises(IntersectionsError, match="'x' has no phase with a green link"):
        green_phases(signal("rr", "yy"))


def test_only_what_loses_its_green_is_yellow() -> None:
    assert transition("GgGrsG", "rrGGrs") == "yyGrsy"
    assert transition("Grr", "Ggr") == "Grr"


@given(st.lists(st.tuples(st.sampled_from(STATES), st.sampled_from(STATES)), min_size=1, max_size=20))
def test_between_two_phases_every_link_keeps_its_state_or_shows_yellow(links: list[tuple[str, str]]) -> None:
    before, after = ("".join(column) for column in zip(*links, strict=True))
    between = transition(before, after)
    for a, b, c in zip(before, between, after, strict=True):
        assert b == ("y" if a in "gG" and c not in "gG" else a)
    assert (between == before) == all(not (a in "gG" and c not in "gG") for a, c in links)


def test_phases_of_different_signals_have_no_transition() -> None:
    with pytest.raises(IntersectionsError, match="2 and 3 links"):
        transition("Gr", "Grr")


def test_the_movements_of_a_signal_are_all_its_links() -> None:
    network = read_network(FOLDER / "lights.net.xml.gz")
    for light in network.signals:
        found = movements(network, light)
        links = [place for movement in found for place in movement.links]
        assert sorted(links) == [n for n, connections in enumerate(light.connections) if connections]
        assert len({(m.source, m.target) for m in found}) == len(found)
        for movement in found:
            assert {network.lanes[lane].edge for lane in movement.lanes} == {movement.source}
            assert not set(movement.protected) & set(movement.permissive)
            for n, phase in enumerate(light.phases):
                shown = {phase.state[place] for place in movement.links}
                assert (n in movement.protected) == (shown == {"G"})
                assert (n in movement.protected + movement.permissive) == bool(shown & set("gG"))


def test_four_arms_have_twelve_movements_and_four_turns_back() -> None:
    network = read_network(FOLDER / "lights.net.xml.gz")
    light = next(light for light in network.signals if light.id == "A0")
    turns = [movement.turn.name for movement in movements(network, light)]
    assert {name: turns.count(name) for name in turns} == {"RIGHT": 4, "STRAIGHT": 4, "LEFT": 4, "TURN": 4}
    assert len(green_phases(light)) >= 2
    assert green_phases(replace(light, phases=light.phases[:1])) == (0,)
