"""A foreign environment is a world: what its agents see, do and get is what the environment itself says."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from fedsched.envs.core import IllegalActionError, Observation, Transition, WorldError, WorldSpec, stream
from fedsched.envs.core.check import check_world
from fedsched.envs.core.episodes import all_ended, legal_actions, play, start
from fedsched.envs.core.foreign import ForeignWorld, foreign_world
from fedsched.envs.core.foreign_layout import ForeignError, NeighbourError
from fedsched.envs.core.pettingzoo import WorldParallelEnv

YARD = f"{Path(__file__).with_name('yard.py')}:parallel_env"
SPREAD = "mpe2.simple_spread_v3:parallel_env"
PAIRS = [(0, 5), (1, 6), (0, 7)]


def every_action(spec: WorldSpec, observation: Observation, step: int) -> dict[str, torch.Tensor]:
    return legal_actions(spec, observation, PAIRS, step)


def story(world: ForeignWorld) -> list[Transition]:
    """All transitions of an episode of every row."""
    observation, moves = start(world, PAIRS), []
    while not moves or not all_ended(moves[-1]).all():
        moves.append(copied(world.step(every_action(world.spec, observation, len(moves)))))
        observation = moves[-1].observation
    return moves


def copied(moved: Transition) -> Transition:
    kinds = {
        name: type(tokens)(**{field: value.clone() for field, value in vars(tokens).items()})
        for name, tokens in moved.observation.kinds.items()
    }
    return Transition(**{**vars(moved), "observation": Observation(moved.observation.time_s.clone(), kinds)})


def test_agents_with_equal_spaces_are_a_kind(yard: ModuleType) -> None:
    spec = ForeignWorld(yard.Yard).spec
    assert [(kind.name, kind.agents) for kind in spec.kinds] == [
        ("digger", ("digger_0", "digger_1")), ("scout", ("scout",)), ("pump", ("pump_0",)), ("helper", ("helper",)),
    ]  # fmt: skip
    digger, scout, pump = spec.kind("digger"), spec.kind("scout"), spec.kind("pump")
    assert digger.own == (*(f"observation_{n}" for n in range(4)), "is_digger_0", "is_digger_1")
    assert digger.action == ("action_0", "action_1", "action_2")
    assert (len(scout.own), scout.actions, len(scout.action)) == (10, 6, 5)
    assert pump.bounds is not None
    assert [side.tolist() for side in pump.bounds] == [[-1, -1], [2, 2]]
    assert spec.neighbours.tolist()[1] == [0, 2, 3, 4]
    assert not spec.exact


def test_what_agents_see_at_the_start(yard: ModuleType) -> None:
    world = ForeignWorld(yard.Yard, 3)
    seen = start(world, PAIRS).kinds
    rng = np.random.default_rng(int(stream(5, "foreign/reset", 0).integers(1 << 31)))
    assert torch.equal(seen["digger"].own[0, 0, :4], torch.tensor(rng.random(4), dtype=torch.float32))
    assert seen["digger"].own[:, :, 4:].tolist() == [[[1, 0], [0, 1]]] * 3
    assert seen["digger"].action_mask[0].tolist() == [[False, True, True]] * 2
    assert seen["scout"].own[0, 0].tolist() == [1] + [0] * 9
    assert seen["scout"].actions[0, 0, 4].tolist() == [0, 1, 0, 1, 0]
    assert seen["pump"].own[0, 0].tolist() == [200]
    assert seen["helper"].alive.all()
    assert not seen["helper"].active.any()


def test_agents_come_and_go(yard: ModuleType) -> None:
    moves = story(ForeignWorld(yard.Yard, 3))
    assert len(moves) == 8
    diggers, scouts, helpers = ([m.observation.kinds[n] for m in moves] for n in ("digger", "scout", "helper"))
    assert [bool(h.active[0, 0]) for h in helpers] == [False, *[True] * 6, False]
    # terminated: the last observation, then zeros and the number
    assert [bool(m.terminated["digger"][0, 1]) for m in moves] == [False, False, *[True] * 6]
    assert bool(diggers[2].own[0, 1, :4].all())
    assert diggers[3].own[0, 1].tolist() == [0, 0, 0, 0, 0, 1]
    assert diggers[2].action_mask[0, 1].tolist() == [True, False, False]
    # cut off alone: dead, not terminated, and its last observation stays for bootstrapping
    assert [bool(s.alive[0, 0]) for s in scouts] == [True] * 4 + [False] * 4
    assert not any(bool(m.terminated["scout"].any()) for m in moves)
    assert all(s.own[0, 0].argmax() == 5 for s in scouts[4:])
    # cut off with the world: alive in the last observation
    assert [bool(m.truncated.all()) for m in moves] == [False] * 7 + [True]
    assert diggers[7].alive.tolist() == [[True, False]] * 3
    assert not diggers[7].active.any()


def test_who_never_came_has_terminated_when_all_is_over(yard: ModuleType) -> None:
    """Nothing is bootstrapped from an agent that saw nothing."""
    [moved] = story(ForeignWorld(lambda: yard.Yard(length=1), 3))
    assert bool(moved.truncated.all())
    assert bool(moved.terminated["helper"].all())
    assert not moved.observation.kinds["helper"].alive.any()
    assert bool(moved.observation.kinds["pump"].alive.all())


@pytest.mark.parametrize("masks_in_infos", [False, True])
def test_the_environment_is_told_and_asked_what_it_would_be_by_hand(yard: ModuleType, masks_in_infos: bool) -> None:
    def make() -> Any:
        return yard.Yard(masks_in_infos=masks_in_infos)

    world, twin = ForeignWorld(make, 3), make()
    observation = start(world, PAIRS)
    twin.reset(seed=int(stream(PAIRS[1][1], "foreign/reset", PAIRS[1][0]).integers(1 << 31)))
    total = np.zeros(5)
    for step in range(8):
        actions = every_action(world.spec, observation, step)
        table = {
            "digger_0": np.int64(5 + actions["digger"][1, 0]), "digger_1": np.int64(5 + actions["digger"][1, 1]),
            "scout": np.array(divmod(int(actions["scout"][1, 0]), 3)), "pump_0": actions["pump"][1, 0].double().numpy(),
            "helper": np.int64(actions["helper"][1, 0]),
        }  # fmt: skip
        acting = list(twin.agents)
        seen, rewards, *_ = twin.step({agent: table[agent] for agent in acting})
        moved = world.step(actions)
        observation = moved.observation
        assert {name: float(observation.time_s[b]) for b, name in enumerate("abc")} == dict.fromkeys("abc", step + 1)
        got = np.concatenate([moved.reward[kind.name][1, :, 0].numpy() for kind in world.spec.kinds])
        known = [rewards.get(agent, 0.0) for agent in twin.possible_agents]
        assert got == pytest.approx(known)
        total += known
        ground = seen["digger_0"] if masks_in_infos else seen["digger_0"]["observation"]
        assert observation.kinds["digger"].own[1, 0, :4].tolist() == pytest.approx(ground.reshape(-1), abs=1e-7)
    found = world.metrics()
    assert float(found["return"][1]) == pytest.approx(total.mean(), rel=1e-6)
    assert float(found["worst_return"][1]) == pytest.approx(total.min(), rel=1e-6)
    assert found["length"].tolist() == [8, 8, 8]


@pytest.mark.parametrize("entry_point", [YARD, SPREAD, "mpe2.simple_tag_v3:parallel_env"])
@pytest.mark.parametrize("arguments", [{}, {"continuous_actions": True}])
def test_foreign_worlds_keep_the_contract(entry_point: str, arguments: dict[str, Any]) -> None:
    if entry_point == YARD and arguments:
        arguments = {"masks_in_infos": True}
    check_world(lambda batch: foreign_world(entry_point, arguments, batch), steps=30)


def test_our_own_worlds_keep_it_as_foreign_ones(toy: ModuleType) -> None:
    weights = {"value": 1.0, "flow": 0.5}
    check_world(lambda batch: ForeignWorld(lambda: WorldParallelEnv(toy.ToyWorld(), weights, strict=True), batch))


def test_a_row_depends_on_its_episode_alone_and_workers_change_nothing() -> None:
    worlds = [foreign_world(YARD, {}, 3, workers) for workers in (0, 2, 3)]
    alone = [play(foreign_world(YARD), [pair], 20)[0] for pair in PAIRS]
    for world in worlds:
        with world:
            for _ in range(2):  # the second time after a reset
                for episode, known in zip(play(world, PAIRS, 20), alone, strict=True):
                    assert len(episode) == len(known) == 9
                    for now, then in zip(episode, known, strict=True):
                        assert all(np.array_equal(now[name], then[name]) for name in now)


def test_rows_are_reset_alone_and_wait_for_their_clock(yard: ModuleType) -> None:
    world = ForeignWorld(yard.Yard, 3)
    observation = start(world, PAIRS)
    until = torch.tensor([2.0, 1.0, 9.0], dtype=torch.float64)
    elapsed = [world.step(every_action(world.spec, observation, step), until).elapsed_s.tolist() for step in range(2)]
    assert elapsed == [[1, 1, 1], [1, 0, 1]]
    again = world.reset(*torch.tensor(PAIRS).T, where=torch.tensor([True, False, False]))
    assert again.time_s.tolist() == [0, 1, 2]
    assert world.restore(world.snapshot()).time_s.tolist() == [0, 0, 0]
    with pytest.raises(WorldError, match="not of 3 copies of yard"):
        world.restore(ForeignWorld(yard.Yard, 2).snapshot())


def test_a_limit_cuts_off_who_lives(yard: ModuleType) -> None:
    moves = story(ForeignWorld(yard.Yard, 3, limit=4))
    assert len(moves) == 4
    assert bool(moves[-1].truncated.all())
    assert moves[-1].observation.kinds["digger"].alive.tolist() == [[True, False]] * 3
    assert not moves[-1].observation.kinds["digger"].active.any()


WRONG = {
    "nan observation": "agent digger_0, step 4: an observation holds nan",
    "nan reward": "agent digger_0, step 4: a reward holds nan",
    "no legal action": "agent digger_0, step 4: its action mask allows nothing",
    "wrong shape": r"agent digger_0, step 4: an observation has shape \(1, 2\), its space has \(2, 2\)",
    "wrong mask": "agent digger_0, step 4: the action mask has 4 entries, there are 3 actions",
    "nan mask": "agent digger_0, step 4: the action mask holds nan, neither 0 nor 1",
    "raises": "step 4: step raised:\n(.|\n)*RuntimeError: the ground gave way",
    "stranger": "agent stranger, step 4: is not one of 'possible_agents'",
    "returns": "agent digger_1, step 4: has ended, but is in 'agents'",
    "leaves": "agent digger_0, step 4: left 'agents' without being terminated or truncated",
    "no agents at reset": "step 0: no agents after the reset",
    "no observation": "agent pump_0, step 4: got no observation",
    "no reward": "agent digger_0, step 4: no reward, termination or truncation",
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_an_environment_does_wrong_is_told_before_anybody_learns_from_it(fault: str) -> None:
    world = foreign_world(YARD, {"fault": fault}, 3)
    with pytest.raises(ForeignError, match=f"^yard: world 0, {WRONG[fault]}"):
        story(world)
    if fault != "no agents at reset":
        with pytest.raises(WorldError, match="reset all rows"):
            world.reset(*torch.tensor(PAIRS).T, where=torch.tensor([True, False, False]))
        assert start(world, PAIRS).time_s.tolist() == [0, 0, 0]


def test_workers_tell_what_is_wrong_and_are_told_when_they_are_gone() -> None:
    with foreign_world(YARD, {"fault": "raises"}, 3, 2) as world, pytest.raises(ForeignError, match="gave way"):
        story(world)
    with foreign_world(YARD, {"fault": "dies"}, 3, 2) as world:
        with pytest.raises(ForeignError, match=r"worker 0 \(worlds 0 to 1\): its process is gone, exit code 3"):
            story(world)
        with pytest.raises(ForeignError, match="its process is gone"):
            start(world, PAIRS)
    with pytest.raises(ForeignError, match="closed"):
        start(world, PAIRS)


def test_an_interrupt_ends_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    world = foreign_world(YARD, {}, 3, 2)
    stepper: Any = world._stepper
    workers = list(stepper._workers)
    monkeypatch.setattr(stepper, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(world, PAIRS)
    assert [worker.poll() for worker in workers] == [0, 0]


def test_a_dead_worker_does_not_confuse_the_others() -> None:
    with foreign_world(YARD, {}, 3, 2) as world:
        stepper: Any = world._stepper
        stepper._workers[1].kill()
        stepper._workers[1].wait()
        for _ in range(2):
            with pytest.raises(ForeignError, match=r"worker 1 \(world 2\): its process is gone, exit code -9"):
                start(world, PAIRS)


def test_a_forgotten_world_leaves_no_process_behind() -> None:
    world = foreign_world(YARD, {}, 3, 2)
    stepper: Any = world._stepper
    workers = list(stepper._workers)
    assert [worker.poll() for worker in workers] == [None, None]
    del world, stepper
    gc.collect()
    assert [worker.poll() for worker in workers] == [0, 0]
    assert not any(Path(f"/proc/{worker.pid}").exists() for worker in workers if os.name == "posix")


def test_illegal_actions_are_refused_before_the_environment_hears_of_them(yard: ModuleType) -> None:
    world = ForeignWorld(yard.Yard, 3)
    observation = start(world, PAIRS)
    for kind, value in (("digger", 0), ("digger", 3), ("digger", -1), ("helper", 1), ("pump", 2.5), ("pump", np.nan)):
        actions = every_action(world.spec, observation, 0)
        actions[kind][2, 0] = value
        with pytest.raises(IllegalActionError, match=f"^yard: world 2, agent {kind}(_0)?, step 0: action"):
            world.step(actions)
    assert world.metrics()["length"].tolist() == [0, 0, 0]


def test_neighbours_may_be_named(yard: ModuleType) -> None:
    named = {"digger_0": ["scout", "helper"], "scout": ["digger_0"]}
    spec = ForeignWorld(yard.Yard, neighbours=named).spec
    assert spec.neighbours.tolist() == [[2, 4], [-1, -1], [0, -1], [-1, -1], [-1, -1]]
    for wrong in ({"digger_0": ["nobody"]}, {"nobody": ["scout"]}):
        with pytest.raises(NeighbourError, match=r"yard: neighbours of .*: no agent 'nobody'; there are digger_0"):
            ForeignWorld(yard.Yard, neighbours=wrong)


def test_a_spec_with_neighbours_that_point_nowhere_cannot_be_made(yard: ModuleType) -> None:
    spec = ForeignWorld(yard.Yard).spec
    for wrong in (5, -2):
        table = spec.neighbours.copy()
        table[1, 2] = wrong
        with pytest.raises(WorldError, match=f"yard: agent digger_1: neighbour {wrong} is no agent; there are 0 to 4"):
            WorldSpec(spec.name, spec.kinds, table, spec.reward_parts, spec.metrics)
    with pytest.raises(WorldError, match="one line for each of 5 agents"):
        WorldSpec(spec.name, spec.kinds, spec.neighbours[:3], spec.reward_parts, spec.metrics)


class NoAgents(gymnasium.Space[int]):
    """Not an environment."""


def nobody(yard: ModuleType) -> Any:
    env = yard.Yard()
    env.possible_agents = []
    return env


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda yard: yard.aec_env(), "agents take turns .*'parallel_env'.*aec_to_parallel"),
        (nobody, "yard: has no agents"),
        (lambda _: gymnasium.make("CartPole-v1"), "has one agent"),
        (lambda _: object(), "object is no ParallelEnv, it lacks possible_agents, reset"),
    ],
)
def test_what_is_no_parallel_environment_is_told(yard: ModuleType, make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ForeignError, match=message):
        ForeignWorld(lambda: make(yard))


def test_copies_must_be_alike_and_workers_have_something_to_do(yard: ModuleType) -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append(yard.Yard(masks_in_infos=len(made) == 2))
        return made[-1]

    with pytest.raises(ForeignError, match="copy 2 has other agents or spaces"):
        ForeignWorld(make, 3)
    for batch, workers in ((0, 0), (2, 3), (2, -1)):
        with pytest.raises(WorldError, match="at least one copy"):
            ForeignWorld(yard.Yard, batch, workers)
    with pytest.raises(ForeignError, match=r"cannot be sent to a worker.*use 'foreign_world' with an entry point"):
        ForeignWorld(lambda: yard.Yard(), 2, 2)
