"""The PettingZoo view shows what the world shows and does what it is told."""

from types import ModuleType
from typing import Any

import numpy as np
import pettingzoo
import pytest
import torch

from fedsched.envs.core import IllegalActionError, WorldError
from fedsched.envs.core.pettingzoo import WorldParallelEnv, register

WEIGHTS = {"value": 2.0, "flow": 0.5}
STILL = {"mover_0": 3, "mover_1": 3, "valve": np.zeros(1, np.float32)}


def test_it_plays_the_same_episode_as_the_world(toy: ModuleType) -> None:
    env, world = WorldParallelEnv(toy.ToyWorld(), WEIGHTS), toy.ToyWorld()
    seen, _ = env.reset(seed=5, options={"instance": 2})
    tokens = world.reset(torch.tensor([2]), torch.tensor([5])).kinds["mover"]
    steps = 0
    while env.agents:
        for a, name in enumerate(("mover_0", "mover_1")):
            if name in seen:
                assert np.array_equal(seen[name]["own"], tokens.own[0, a].numpy())
                assert np.array_equal(seen[name]["action_mask"], tokens.action_mask[0, a].numpy())
        pick = int(np.argmax(seen["mover_0"]["action_mask"]))
        chosen = {"mover_0": pick, "mover_1": 3, "valve": np.full(1, 0.5, np.float32)}
        seen, rewards, ended, cut, infos = env.step({name: chosen[name] for name in env.agents})
        moved = world.step({"mover": torch.tensor([[pick, 3]]), "valve": torch.tensor([[[0.5]]])})
        tokens = moved.observation.kinds["mover"]
        assert rewards["mover_0"] == pytest.approx(2.0 * float(moved.reward["mover"][0, 0, 0]))
        assert rewards["valve"] == pytest.approx(0.5 * float(moved.reward["valve"][0, 0, 1]))
        assert infos["mover_0"]["reward_parts"]["value"] == float(moved.reward["mover"][0, 0, 0])
        assert infos["valve"]["time_s"] == float(moved.observation.time_s[0])
        steps += 1
        assert ("mover_1" in env.agents) == (steps < 6)
        assert not any(cut.values())
    assert steps == 11
    assert ended == {"mover_0": True, "valve": True}


def test_spaces_name_what_the_kind_has_and_are_the_same_objects(toy: ModuleType) -> None:
    env = WorldParallelEnv(toy.ToyWorld(), WEIGHTS)
    assert list(env.observation_space("mover_0")) == ["action_mask", "actions", "entities", "entity_mask", "own"]
    assert list(env.observation_space("valve")) == ["own"]
    assert env.action_space("mover_0").n == 4
    assert env.action_space("valve").shape == (1,)
    assert env.observation_space("valve") is env.observation_space("valve")
    flat = WorldParallelEnv(toy.ToyWorld(), WEIGHTS, flatten=True)
    assert flat.observation_space("mover_0").shape == (4 + 4 + 3 + 3 + 2,)
    seen, _ = flat.reset(seed=1)
    assert flat.observation_space("mover_0").contains(seen["mover_0"])


@pytest.mark.parametrize("action", [99, -1, 1.5, "left"])
def test_an_illegal_choice_becomes_the_idle_one_or_raises(toy: ModuleType, action: object) -> None:
    lenient, other = WorldParallelEnv(toy.ToyWorld(), WEIGHTS), WorldParallelEnv(toy.ToyWorld(), WEIGHTS)
    lenient.reset(seed=3)
    other.reset(seed=3)
    *first, infos = lenient.step(STILL | {"mover_0": action})
    *second, _ = other.step(STILL)
    assert infos["mover_0"]["illegal_action"]
    assert not infos["mover_1"]["illegal_action"]
    assert str(first) == str(second)
    strict = WorldParallelEnv(toy.ToyWorld(), WEIGHTS, strict=True)
    strict.reset(seed=3)
    with pytest.raises(IllegalActionError, match="mover_0"):
        strict.step(STILL | {"mover_0": action})


def test_an_inactive_agent_may_only_idle(toy: ModuleType) -> None:
    env = WorldParallelEnv(toy.ToyWorld(), WEIGHTS)
    env.reset(seed=3)
    _, _, _, _, infos = env.step(STILL)
    assert not infos["mover_1"]["active"]
    assert infos["mover_1"]["action_mask"].tolist() == [0, 0, 0, 1]
    _, rewards, _, _, infos = env.step(STILL | {"mover_1": 0})
    assert infos["mover_1"]["illegal_action"]
    assert rewards["mover_1"] == 0


def test_a_vector_is_clipped_or_raises(toy: ModuleType) -> None:
    env = WorldParallelEnv(toy.ToyWorld(), WEIGHTS)
    env.reset(seed=3)
    seen, _, _, _, infos = env.step(STILL | {"valve": np.full(1, 7, np.float32)})
    assert infos["valve"]["illegal_action"]
    assert seen["valve"]["own"][1] == 1.0
    strict = WorldParallelEnv(toy.ToyWorld(), WEIGHTS, strict=True)
    strict.reset(seed=3)
    with pytest.raises(IllegalActionError, match="valve"):
        strict.step(STILL | {"valve": np.full(1, 7, np.float32)})


def test_observations_do_not_change_afterwards(toy: ModuleType) -> None:
    env = WorldParallelEnv(toy.ToyWorld(), WEIGHTS)
    first, _ = env.reset(seed=3)
    kept = {name: {key: value.copy() for key, value in seen.items()} for name, seen in first.items()}
    env.step(STILL)
    assert all(np.array_equal(first[name][key], kept[name][key]) for name in kept for key in kept[name])


def test_resets_without_a_seed_differ_and_unknown_options_are_left_to_others(toy: ModuleType) -> None:
    env = WorldParallelEnv(toy.ToyWorld(), WEIGHTS)
    levels = [float(env.reset(options={"other": 1})[0]["valve"]["own"][0]) for _ in range(3)]
    assert len(set(levels)) == 3
    assert levels[0] == float(env.reset(seed=0)[0]["valve"]["own"][0])


def test_misuse_is_named(toy: ModuleType) -> None:
    with pytest.raises(WorldError, match="batch of one"):
        WorldParallelEnv(toy.ToyWorld(2), WEIGHTS)
    with pytest.raises(WorldError, match="no reward part speed; toy has value, flow"):
        WorldParallelEnv(toy.ToyWorld(), {"speed": 1.0})
    env = WorldParallelEnv(toy.ToyWorld(), WEIGHTS)
    with pytest.raises(WorldError, match="call reset first"):
        env.step({})
    env.reset(seed=1)
    with pytest.raises(WorldError, match="actions for lift"):
        env.step(STILL | {"lift": 0})
    with pytest.raises(WorldError, match="valve must decide"):
        env.step({"mover_0": 3, "mover_1": 3})
    with pytest.raises(WorldError, match="toy has instances 0 to 4"):
        env.reset(options={"instance": 9})


def test_it_is_made_through_pettingzoos_registry(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def parallel_env(**options: Any) -> WorldParallelEnv:
        return WorldParallelEnv(toy.ToyWorld(), WEIGHTS, **options)

    monkeypatch.setattr(toy, "parallel_env", parallel_env, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "toy_world", toy)
    name = register("toy-test", "toy_world:parallel_env")
    assert name == register("toy-test", "toy_world:parallel_env") == "fedsched/toy-test-v0"
    assert pettingzoo.make("parallel", name, strict=True).strict
    pettingzoo.parallel_registry.pop(name)
