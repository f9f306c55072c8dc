"""The intersections world keeps the contract of worlds and its own laws."""

import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.envs.core import IllegalActionError, WorldError
from fedsched.envs.core.check import check_world
from fedsched.envs.intersections.network import Turn
from fedsched.envs.intersections.problem import Problem, grid_problem, make_problem, merge
from fedsched.envs.intersections.signals import transition
from fedsched.envs.intersections.timing import Timing
from fedsched.envs.intersections.world import KIND, MOVEMENT_FEATURES, REWARD_PARTS, IntersectionsWorld, fold

FOREVER = float("inf")


@cache
def problem() -> Problem:
    return grid_problem(3)


def make(batch: int, timing: str | Timing = "sumo_rl", **options: Any) -> IntersectionsWorld:
    return IntersectionsWorld(problem(), batch, timing, **options)


def make_for_processes(batch: int) -> IntersectionsWorld:
    return make(batch)


def reset(world: IntersectionsWorld, **options: Any) -> Any:
    rows = torch.arange(world.batch)
    return world.reset(rows % 3, rows, **options)


def rotate(world: IntersectionsWorld, observation: Any, every: int = 1, step: int = 0) -> dict[str, torch.Tensor]:
    """The next phase in turn where a signal must decide, in every so manieth step; else the current one."""
    count = torch.tensor([len(signal.phases) for signal in world.problem.signals])
    current = world.control["target"].long()
    chosen = (current + 1) % count if step % every == 0 else current
    return {KIND: torch.where(observation.kinds[KIND].active, chosen, world.spec.kinds[0].idle)}


def seconds(world: IntersectionsWorld, last: int, every: int = 3) -> Iterator[Any]:
    """Transitions of one second each."""
    observation = reset(world, until_s=torch.zeros(world.batch, dtype=torch.float64))
    for now in range(1, last + 1):
        until = torch.full((world.batch,), float(now), dtype=torch.float64)
        moved = world.step(rotate(world, observation, every, now // 5), until)
        observation = moved.observation
        yield moved


def shown(world: IntersectionsWorld, signal: int = 0) -> str:
    """What a controlled signal showed in the last second of row 0; a dot where it controls no link."""
    model, links = world.problem.signals[signal], world.problem.tables.links
    state = ["."] * len(model.phases[0])
    for own in model.links:
        for link in own:
            state[links.signal_index[link]] = chr(int(world.traffic["state"][0, link]))
    return "".join(state)


@pytest.mark.parametrize("timing", ["sumo_rl", "free"])
def test_the_contract_is_kept(timing: str) -> None:
    place = f"{Path(__file__)}:make_for_processes" if timing == "sumo_rl" else None
    check_world(lambda batch: make(batch, timing), steps=12, entry_point=place)


def test_nobody_is_lost_at_any_second() -> None:
    world = make(2)
    for _ in seconds(world, 150):
        traffic = world.traffic
        for row in range(world.batch):
            inserted = (traffic["trip_inserted"][row] >= 0).nonzero().flatten().tolist()
            arrived = (traffic["trip_arrived"][row] >= 0).nonzero().flatten().tolist()
            inside = traffic["id"][row, : int(traffic["count"][row])].tolist()
            assert sorted([*arrived, *inside]) == inserted
            assert int(traffic["arrived"][row]) == len(arrived)
    assert len(arrived) > 5
    assert len(inside) > 20


def test_a_signal_shows_yellow_and_then_what_was_chosen() -> None:
    world = make(1, Timing("slow", 20, 4))
    observation = reset(world)
    phases = problem().signals[0].phases
    now, target = 0, 0
    for choice in (0, 1, 3, 2, 2, 1):  # 0 to 1: permissive to protected; 3 to 2: nobody loses it
        before, target = target, choice
        chosen = torch.full((1, 9), choice, dtype=torch.int64)
        for second in range(20):
            now += 1
            action = {KIND: chosen if second == 0 else torch.full((1, 9), 4)}
            observation = world.step(action, torch.tensor([float(now)], dtype=torch.float64)).observation
            between = transition(phases[before], phases[target])
            expected = between if second < 4 else phases[target]
            assert shown(world) == expected, (choice, second)
            assert bool(observation.kinds[KIND].active.all()) == (second == 19)


def test_programs_run_as_if_no_world_were_there(streets: ModuleType) -> None:
    world = make(2, "program")
    reset(world)
    until = torch.full((2,), 300.0, dtype=torch.float64)
    world.step({KIND: torch.full((2, 9), 4)}, until)
    own = make_problem(problem().network, [problem().demands[1]], 0.0, 1200.0)
    alone = streets.Streets(own.tables, [1], slots=1200)
    alone.run(300)
    count = int(world.traffic["count"][1])
    assert count > 50
    for name in ("id", "lane", "position", "speed"):
        assert torch.equal(world.traffic[name][1, :count], alone.traffic[name][0, :count])


def test_stops_in_between_change_nothing() -> None:
    whole, cut = make(1), make(1)
    *_, last = seconds(cut, 120)
    observation, gained = reset(whole), torch.zeros(1, 9, len(REWARD_PARTS))
    now = 0
    while now < 120:
        actions = rotate(whole, observation, 3, (now + 1) // 5)
        moved = whole.step(actions, torch.full((1,), 120.0, dtype=torch.float64))
        observation, now = moved.observation, int(moved.observation.time_s[0])
        gained += moved.reward[KIND]
    for name in ("own", "entities", "action_mask"):
        assert torch.equal(getattr(observation.kinds[KIND], name), getattr(last.observation.kinds[KIND], name))
    torch.testing.assert_close(whole.counts["total"], cut.counts["total"], rtol=0, atol=0)
    torch.testing.assert_close(gained.double(), whole.counts["total"], rtol=1e-5, atol=1e-3)


def walk(problem: Problem, world: IntersectionsWorld, slot: int) -> tuple[int, float]:
    """The signalled link that a vehicle of row 0 meets next, -1 for none, and how far; lane by lane."""
    lanes, links, ways = problem.tables.lanes, problem.tables.links, problem.tables.ways
    traffic = world.traffic
    lane, place = int(traffic["lane"][0, slot]), int(traffic["place"][0, slot])
    distance = float(lanes.length[lane] - traffic["position"][0, slot])
    while True:
        row = int(traffic["way"][0, slot]) + place
        if lanes.internal[lane]:
            link = int(lanes.link_begin[lane])
        elif place == int(traffic["last"][0, slot]):
            return -1, 0.0
        else:
            link = int(ways.link[row, lanes.index[lane]])
            if link < 0:
                onto = ways.edge[row + 1]
                entries = [k for k in range(len(links.source)) if lanes.edge[links.source[k]] == ways.edge[row]]
                link = next(k for k in entries if lanes.edge[links.target[k]] == onto)
            if links.signal[link] >= 0:
                return link, distance
        lane = int(links.next[link])
        place += int(not lanes.internal[lane])
        distance += float(lanes.length[lane])


def test_everybody_counts_where_the_next_signal_is() -> None:
    world = make(1)
    number = {int(link): q for q, link in enumerate(problem().signal_links)}
    for now, _ in enumerate(seconds(world, 180)):
        if now % 30 != 29:
            continue
        expected = {name: torch.zeros(len(number), dtype=torch.int32) for name in ("near", "seen", "halting")}
        for slot in range(int(world.traffic["count"][0])):
            link, distance = walk(problem(), world, slot)
            if link >= 0 and distance <= 200:
                expected["seen"][number[link]] += 1
                expected["near"][number[link]] += int(distance <= 50)
                expected["halting"][number[link]] += int(world.traffic["speed"][0, slot] < 0.1)
        count = int(world.traffic["count"][0])
        on = world.traffic["lane"][0, :count].masked_fill(world.traffic["position"][0, :count] > 200, -1)
        halting = world.traffic["speed"][0, :count] < 0.1
        expected["out_seen"] = torch.stack([(on == lane).sum() for lane in problem().out_lanes]).int()
        expected["out_halting"] = torch.stack([(halting & (on == lane)).sum() for lane in problem().out_lanes]).int()
        for name, counts in expected.items():
            assert torch.equal(world.counts[name][0], counts), (now, name)
        assert now < 60 or all(int(expected[name].sum()) > 0 for name in ("near", "seen", "halting", "out_seen"))


def test_rewards_are_what_a_slow_count_says() -> None:
    world = make(1)
    place = {signal.index: a for a, signal in enumerate(problem().signals)}
    lanes, links = problem().tables.lanes, problem().tables.links
    weights = {"passenger": 1.0, "bus": 3.0, "emergency": 10.0}
    weight = [weights[kind.vehicle_class] for kind in problem().demands[0].types]
    expected = torch.zeros(9, len(REWARD_PARTS), dtype=torch.float64)
    speeds: dict[int, float] = {}
    for _ in seconds(world, 150):
        driving = {int(world.traffic["id"][0, slot]): slot for slot in range(int(world.traffic["count"][0]))}
        for trip, slot in driving.items():
            link, distance = walk(problem(), world, slot)
            if link < 0:
                speeds[trip] = float(world.traffic["speed"][0, slot])
                continue
            a, speed = place[int(links.signal[link])], float(world.traffic["speed"][0, slot])
            kind = int(world.traffic["kind"][0, slot])
            limit = float(lanes.speed[int(world.traffic["lane"][0, slot])] * world.traffic["factor"][0, slot])
            late = 1.0 - min(1.0, speed / min(limit, problem().tables.types.max_speed[kind]))
            if distance <= 200:
                expected[a, 0] -= late
                expected[a, 1] -= float(speed < 0.1)
                expected[a, 8] -= late * weight[kind]
            expected[a, 2] -= float(speed < 0.1)
            if trip in speeds:
                heavy = problem().demands[0].types[kind].vehicle_class == "bus"
                engine = (15e3, 0.008, 2.4, 6e3, 250) if heavy else (1500, 0.015, 0.33, 3e3, 300)
                mass, rolling, drag, idle, per_kwh = engine
                force = mass * (speed - speeds[trip]) + mass * 9.81 * rolling + 1.3 * drag * speed**2
                burnt = (max(0.0, force) * speed + idle) / 3.6e6 * per_kwh
                expected[a, 6] -= burnt
                expected[a, 7] -= 2.39 * burnt
            speeds[trip] = speed
    for part in (0, 1, 2, 6, 7, 8):
        torch.testing.assert_close(world.counts["total"][0, :, part], expected[:, part], rtol=1e-9, atol=1e-9)
    assert float(expected[:, 1].sum()) < -100


def test_what_is_seen_are_the_counts_scaled() -> None:
    world = make(1)
    for moved in seconds(world, 240, every=5):
        for values in (moved.observation.kinds[KIND].entities, moved.observation.kinds[KIND].actions):
            assert float(values.min()) >= 0.0
            assert float(values.max()) <= 1.2
    tokens = moved.observation.kinds[KIND]
    names, number = MOVEMENT_FEATURES, {int(link): q for q, link in enumerate(problem().signal_links)}
    greens = {"protected": "G", "yellow": "y"}
    seen = 0
    for a, signal in enumerate(problem().signals):
        for e, own in enumerate(signal.links):
            values = dict(zip(names, tokens.entities[0, a, e].tolist(), strict=True))
            q = [number[link] for link in own]
            queue, near = int(world.counts["halting"][0, q].sum()), int(world.counts["near"][0, q].sum())
            moving = int(world.counts["seen"][0, q].sum()) - queue
            seen += moving + queue
            assert values["log_queue"] == pytest.approx(np.log1p(queue) / 4, abs=1e-6)
            assert values["log_approaching"] == pytest.approx(np.log1p(moving) / 4, abs=1e-6)
            assert values["log_near"] == pytest.approx(np.log1p(near) / 4, abs=1e-6)
            shown_now = {chr(int(world.traffic["state"][0, link])) for link in own}
            for name, light in greens.items():
                assert values[name] == float(light in shown_now)
            assert values["permissive"] == float("g" in shown_now and "G" not in shown_now)
            assert (values["log_since_green"] == 0.0) >= bool(shown_now & set("gG"))
            turn = {Turn.RIGHT: "right", Turn.STRAIGHT: "straight", Turn.LEFT: "left"}[signal.movements[e].turn]
            assert [values[name] for name in ("right", "straight", "left", "back")].count(1.0) == 1
            assert values[turn] == 1.0
    assert seen > 50
    target = world.control["target"][0].tolist()
    assert [row.argmax().item() for row in tokens.actions[0, :, :, 0]] == target


def test_throughput_is_the_signals_that_routes_have_passed() -> None:
    world = make(1)
    for _ in seconds(world, 300):
        pass
    lanes, links, ways = problem().tables.lanes, problem().tables.links, problem().tables.ways
    signalled = {
        (int(lanes.edge[links.source[k]]), int(lanes.edge[links.target[k]])) for k in np.flatnonzero(links.signal >= 0)
    }
    traffic, first = world.traffic, int(world.traffic["first_trip"][0])
    at = {int(traffic["id"][0, slot]): slot for slot in range(int(traffic["count"][0]))}
    passed = 0
    for trip in (traffic["trip_inserted"][0] >= 0).nonzero().flatten().tolist():
        row, edges = problem().tables.vehicles.way[first + trip], problem().tables.vehicles.edges[first + trip]
        done = edges - 1
        if trip in at:
            slot = at[trip]
            done = int(traffic["place"][0, slot]) + int(lanes.internal[int(traffic["lane"][0, slot])])
        passed += sum((int(ways.edge[row + i]), int(ways.edge[row + i + 1])) in signalled for i in range(done))
    throughput = world.counts["total"][0, :, REWARD_PARTS.index("throughput")]
    assert passed > 200
    assert float(throughput.sum()) == passed


def test_pressure_is_queue_minus_queue_behind() -> None:
    merged = merge(problem().demands)
    dense = dataclasses.replace(merged, trips=tuple(sorted(merged.trips, key=lambda trip: trip.depart_s)))
    crowded = make_problem(problem().network, [dense], 0.0, 1200.0)
    world = IntersectionsWorld(crowded, 1, Timing("hold", 2000, 0))
    outs = [{lane for lanes in signal.targets for lane in lanes} for signal in crowded.signals]
    row = torch.tensor([int(signal.id[1]) for signal in crowded.signals])
    world.reset(torch.tensor([0]), torch.tensor([0]))
    chosen = 2 * (row % 2)[None]  # whoever gets past the first row stands before the second
    total = torch.zeros(9, dtype=torch.float64)
    for now in range(1, 401):
        world.step({KIND: chosen}, torch.tensor([float(now)], dtype=torch.float64))
        chosen = torch.full((1, 9), 4)
        count = int(world.traffic["count"][0])
        halting = (world.traffic["speed"][0, :count] < 0.1) & (world.traffic["position"][0, :count] <= 200)
        stood_on = world.traffic["lane"][0, :count][halting].tolist()
        for a, lanes in enumerate(outs):
            total[a] += sum(lane in lanes for lane in stood_on)
    queue, pressure = world.counts["total"][0, :, 1], world.counts["total"][0, :, 3]
    torch.testing.assert_close(pressure - queue, total)
    assert float(total.sum()) > 50


def test_overflow_names_world_and_room() -> None:
    world = make(2, slots=5)
    with pytest.raises(WorldError, match=r"world \d: more than 5 vehicles"):
        for _ in seconds(world, 60):
            pass


def test_unknown_instances_and_foreign_snapshots_are_refused() -> None:
    world = make(2)
    with pytest.raises(WorldError, match=r"instances \[0, 3\]: this world has 0 to 2"):
        world.reset(torch.tensor([0, 3]), torch.tensor([0, 0]))
    with pytest.raises(WorldError, match=r"instances and seeds are \[2\], got \[2\] and \[1\]"):
        world.reset(torch.tensor([0, 1]), torch.tensor([0]))
    other = IntersectionsWorld(grid_problem(1), 2)
    with pytest.raises(WorldError, match="another problem"):
        world.restore(other.snapshot())


def test_illegal_actions_name_signal_and_choices() -> None:
    world = make(1)
    reset(world)
    with pytest.raises(IllegalActionError, match="actions are those of 'signal', got 'light'"):
        world.step({"light": torch.zeros(1, 9, dtype=torch.int64)})
    with pytest.raises(IllegalActionError, match=r"world 0, signal B0: action 4 is illegal; legal: \[0, 1, 2, 3\]"):
        world.step({KIND: torch.where(torch.arange(9) == 3, 4, 0)[None]})
    with pytest.raises(IllegalActionError, match="int64"):
        world.step({KIND: torch.zeros(1, 8, dtype=torch.int64)})


def test_seeds_of_any_size_are_told_apart() -> None:
    seeds = [0, 7, (1 << 31) - 1, 1 << 31, (1 << 40) + 7, (1 << 62) + 7, -7]
    folded = [fold(seed) for seed in seeds]
    assert folded[:3] == seeds[:3]
    assert len(set(folded)) == len(seeds)
    assert all(0 <= value < 1 << 31 for value in folded)
