"""Does a world keep the contract? Plays seeded episodes of random legal actions and names the law that is broken.

`python -m fedsched.envs.core.check ENTRY SEED STEPS INSTANCE...` prints the digest of a world's episodes; `check_world`
calls it under other hash seeds.
"""

import contextlib
import copy
import importlib
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pettingzoo
import torch
from pettingzoo.test import parallel_api_test, parallel_seed_test

from fedsched.envs.core.episodes import (
    Episode,
    Pair,
    all_ended,
    all_over,
    digest,
    legal_actions,
    moment,
    play,
    start,
)
from fedsched.envs.core.laws import CheckError, require
from fedsched.envs.core.pettingzoo import WorldParallelEnv
from fedsched.envs.core.world import IllegalActionError, KindSpec, World

MakeWorld = Callable[[int], World]
"""Builds a fresh world of that batch size."""


def check_world(
    make_world: MakeWorld,
    *,
    instances: Sequence[int] = (0, 1, 2),
    seed: int = 0,
    steps: int = 200,
    entry_point: str | None = None,
) -> None:
    """Checks a world against the contract of `fedsched.envs.core.World`.

    Args:
        make_world: Builds a fresh world of a given batch size.
        instances: Problems to play; two at least.
        seed: Of the worlds and of the random legal actions.
        steps: Longest episode that is played.
        entry_point: `module:function` or `file.py:function` of `make_world`, to compare processes with unlike hash
            seeds; not compared without it.

    Raises:
        CheckError: Naming the first law that is broken.
    """
    pairs = [(instance, seed + n) for n, instance in enumerate(instances)]
    alone = [play(make_world(1), [pair], steps)[0] for pair in pairs]
    _check_illegal(make_world(1), pairs, steps)
    _check_ended(make_world(1), pairs[0], steps)
    if not make_world(1).spec.exact:
        return
    for pair, episode in zip(pairs, alone, strict=True):
        _equal("determinism", play(make_world(1), [pair], steps)[0], episode)
    _check_reset(make_world(1), pairs, alone, steps)
    for order in (range(len(pairs)), range(len(pairs) - 1, -1, -1)):
        together = play(make_world(len(pairs)), [pairs[n] for n in order], steps)
        for n, episode in zip(order, together, strict=True):
            _equal("batch", episode, alone[n])
    _check_where(make_world(len(pairs)), pairs, alone, steps)
    _check_snapshot(make_world, pairs, alone, steps)
    if entry_point is not None:
        digests = {_digest_elsewhere(entry_point, seed, steps, instances, hash_seed) for hash_seed in (1, 2)}
        require(digests == {digest(alone)}, "processes", "another process with another hash seed plays differently")


def _equal(law: str, played: Episode, known: Episode) -> None:
    for step, (a, b) in enumerate(zip(played, known, strict=False)):
        for name in a.keys() & b.keys():
            require(np.array_equal(a[name], b[name]), law, f"{name} differs at step {step}")
    require(len(played) == len(known), law, f"episodes of {len(played) - 1} and {len(known) - 1} steps")


def check_env(make_env: Callable[[], pettingzoo.ParallelEnv], *, cycles: int = 200) -> None:
    """Checks a PettingZoo environment: the tests that PettingZoo ships, and what these let pass.

    Every observation lies in its space (shape, dtype, range, finite), rewards are finite floats, masks allow something
    and are those of the infos, dead agents stay dead, and two environments play a whole episode alike.

    Args:
        make_env: Builds a fresh environment.
        cycles: Longest episode that is played.

    Raises:
        CheckError: Naming the first law that is broken.
    """
    first, second = _tour(make_env(), cycles), _tour(make_env(), cycles)
    for step, (a, b) in enumerate(zip(first, second, strict=False)):
        require(a == b, "determinism", f"two environments with one seed differ at step {step}")
    require(len(first) == len(second), "determinism", "two environments with one seed end at different steps")
    _upstream("parallel_api_test", lambda: parallel_api_test(make_env(), num_cycles=cycles))
    _upstream("parallel_seed_test", lambda: parallel_seed_test(make_env, num_cycles=cycles))
    env = make_env()
    if isinstance(env.unwrapped, WorldParallelEnv):
        _check_replacement(env)


def _upstream(law: str, test: Callable[[], None]) -> None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("error", UserWarning)
        try:
            test()
        except (AssertionError, UserWarning) as error:
            raise CheckError(law, str(error)) from error


def _tour(env: pettingzoo.ParallelEnv, cycles: int) -> list[bytes]:
    """Plays one episode with legal actions; all that was returned, step by step."""
    seen, infos = env.reset(seed=7)
    for agent in env.possible_agents:
        env.action_space(agent).seed(11)
    shown = [pickle.dumps((seen, infos))]
    dead: set[str] = set()
    for _ in range(cycles):
        for agent in seen:
            _check_seen(env, agent, seen[agent], infos[agent])
        if not env.agents:
            break
        acting = set(env.agents)
        actions = {agent: env.action_space(agent).sample(mask=infos[agent].get("action_mask")) for agent in env.agents}
        seen, rewards, ended, cut, infos = env.step(actions)
        shown.append(pickle.dumps((seen, rewards, ended, cut, infos)))
        for agent, reward in rewards.items():
            good = isinstance(reward, float) and bool(np.isfinite(reward))
            require(good, "reward", f"{agent} got {reward!r}, not a finite float")
        dead |= {agent for agent in acting if ended[agent] or cut[agent]}
        require(not dead & set(env.agents), "no return", f"dead, but still there: {dead & set(env.agents)}")
    return shown


def _check_seen(env: pettingzoo.ParallelEnv, agent: str, seen: object, info: dict[str, Any]) -> None:
    space = env.observation_space(agent)
    values = seen.values() if isinstance(seen, dict) else [seen]
    finite = all(bool(np.isfinite(np.asarray(value)).all()) for value in values)
    require(finite, "finite", f"{agent}: an observation holds NaN or infinity")
    require(bool(space.contains(seen)), "space", f"{agent}: an observation lies outside {space}")
    if isinstance(seen, dict) and "action_mask" in seen:
        mask = seen["action_mask"]
        require(bool(mask.any()), "legal action", f"{agent}: the mask allows nothing")
        require(np.array_equal(mask, info["action_mask"]), "legal action", f"{agent}: info holds another mask")


def _check_replacement(env: pettingzoo.ParallelEnv) -> None:
    """An illegal action is replaced and flagged."""
    _, infos = env.reset(seed=0)
    actions = {agent: env.action_space(agent).sample(mask=infos[agent].get("action_mask")) for agent in env.agents}
    wrong = {agent: int(env.action_space(agent).n) for agent in env.agents if "action_mask" in infos[agent]}
    if wrong:
        *_, infos = env.step(actions | wrong)
        flagged = {agent for agent in actions if infos[agent]["illegal_action"]}
        require(flagged == set(wrong), "illegal action", f"flagged are {flagged}, illegal were {set(wrong)}")


def _check_illegal(world: World, pairs: Sequence[Pair], steps: int) -> None:
    """The first chance of every kind to do something illegal must raise."""
    for kind in world.spec.kinds:
        for pair in pairs:
            if _provoke(world, kind, pair, steps):
                break


def _provoke(world: World, kind: KindSpec, pair: Pair, steps: int) -> bool:
    observation = start(world, [pair])
    for step in range(steps):
        actions = legal_actions(world.spec, observation, [pair], step)
        tokens = observation.kinds[kind.name]
        wrong = torch.nonzero(~tokens.action_mask & tokens.active[:, :, None])
        if kind.bounds is not None and bool(tokens.active.any()):
            wrong = torch.nonzero(tokens.active)
        if len(wrong):
            place = wrong[0].tolist()
            actions[kind.name][0, place[1]] = place[2] if kind.bounds is None else float(kind.bounds[1].max()) + 1.0
            try:
                world.step(actions)
            except IllegalActionError:
                return True
            raise CheckError("illegal action", f"{kind.agents[place[1]]}: no IllegalActionError at step {step}")
        moved = world.step(actions)
        observation = moved.observation
        if all_ended(moved).all():
            break
    return False


def _check_ended(world: World, pair: Pair, steps: int) -> None:
    """After the end of an episode idling changes nothing, and everything else raises."""
    observation = start(world, [pair])
    for step in range(steps):
        if all_over(observation).all():
            break
        observation = world.step(legal_actions(world.spec, observation, [pair], step)).observation
    if not all_over(observation).all():
        return
    last = moment(observation, 0)
    idle = legal_actions(world.spec, observation, [pair], steps)
    _equal("ended", [moment(world.step(idle).observation, 0)], [last])
    for kind in world.spec.kinds:
        if kind.actions > 1:
            wrong = idle | {kind.name: (idle[kind.name] + 1) % kind.actions}
            try:
                world.step(wrong)
            except IllegalActionError:
                continue
            raise CheckError("ended", f"{kind.name} acts after the end of its episode without an IllegalActionError")


def _check_reset(world: World, pairs: Sequence[Pair], alone: Sequence[Episode], steps: int) -> None:
    """An episode that is left in the middle leaves nothing behind."""
    for other, pair, episode in zip((*pairs[1:], pairs[0]), pairs, alone, strict=True):
        play(world, [other], max(1, len(episode) // 2))
        _equal("reset", play(world, [pair], steps)[0], episode)


def _check_where(world: World, pairs: Sequence[Pair], alone: Sequence[Episode], steps: int) -> None:
    """A reset of row 0 starts that row afresh and leaves the others alone."""
    half = min(len(episode) for episode in alone) // 2
    episodes = play(world, pairs, half)
    table = torch.tensor(pairs, dtype=torch.int64, device=world.device)
    where = torch.arange(world.batch, device=world.device) == 0
    observation = world.reset(table[:, 0].contiguous(), table[:, 1].contiguous(), where)
    _equal("where", [moment(observation, 0)], alone[0][:1])
    later = play(world, pairs, steps, observation, first=half)
    for b in range(1, world.batch):
        _equal("where", episodes[b] + later[b][1:], alone[b])


def _check_snapshot(make_world: MakeWorld, pairs: Sequence[Pair], alone: Sequence[Episode], steps: int) -> None:
    """A fresh world goes on from a copied snapshot as the first one would have."""
    for pair, episode in zip(pairs, alone, strict=True):
        half = len(episode) // 2
        world, fresh = make_world(1), make_world(1)
        play(world, [pair], half)
        snapshot = copy.deepcopy(world.snapshot())
        require(len(pickle.dumps(snapshot)) > 0, "snapshot", "a snapshot cannot be pickled")
        start(fresh, [pair])
        later = play(fresh, [pair], steps, fresh.restore(snapshot), first=half)[0]
        _equal("snapshot", later, episode[half:])


def _digest_elsewhere(entry_point: str, seed: int, steps: int, instances: Sequence[int], hash_seed: int) -> str:
    command = [sys.executable, "-m", "fedsched.envs.core.check", entry_point, *map(str, (seed, steps, *instances))]
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    require(done.returncode == 0, "processes", f"{entry_point} fails in a process of its own: {done.stderr[-500:]}")
    return done.stdout.strip()


def _load(entry_point: str) -> MakeWorld:
    place, _, name = entry_point.rpartition(":")
    if not place.endswith(".py"):
        return cast("MakeWorld", getattr(importlib.import_module(place), name))
    found = importlib.util.spec_from_file_location(Path(place).stem, place)
    if found is None or found.loader is None:
        raise CheckError("processes", f"{place} is no Python file")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return cast("MakeWorld", getattr(module, name))


def _main(entry_point: str, seed: str, steps: str, *instances: str) -> None:
    make_world = _load(entry_point)
    pairs = [(int(instance), int(seed) + n) for n, instance in enumerate(instances)]
    sys.stdout.write(digest([play(make_world(1), [pair], int(steps))[0] for pair in pairs]) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
