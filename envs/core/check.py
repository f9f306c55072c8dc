"""Does a world keep the contract, or a PettingZoo environment its word? Names the law that is broken.

`check_world` plays seeded episodes of random legal actions in a world of ours. `check_env` does so in any PettingZoo
parallel environment; so does `python -m fedsched.envs.core.check package.module:parallel_env`.
"""

import argparse
import copy
import json
import pickle
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch

from fedsched.envs.core.elsewhere import check_elsewhere
from fedsched.envs.core.entry_point import EntryPoint
from fedsched.envs.core.env_check import check_env
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
from fedsched.envs.core.world import IllegalActionError, KindSpec, World, WorldError

__all__ = ["CheckError", "MakeWorld", "check_env", "check_world"]

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
        check_elsewhere(digest(alone), "world", entry_point, *map(str, (seed, steps, *instances)))


def _equal(law: str, played: Episode, known: Episode) -> None:
    for step, (a, b) in enumerate(zip(played, known, strict=False)):
        for name in a.keys() & b.keys():
            require(np.array_equal(a[name], b[name]), law, f"{name} differs at step {step}")
    require(len(played) == len(known), law, f"episodes of {len(played) - 1} and {len(known) - 1} steps")


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
    over = bool(all_over(observation).all())
    for step in range(steps):
        if over:
            break
        moved = world.step(legal_actions(world.spec, observation, [pair], step))
        observation, over = moved.observation, bool(all_ended(moved).all())
    if not over:
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


def main(arguments: Sequence[str]) -> int:
    """Checks an environment by its entry point; 1 where a law is broken, 2 where there is nothing to check."""
    parser = argparse.ArgumentParser(prog="python -m fedsched.envs.core.check", description=check_env.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("entry_point", help="package.module:parallel_env, or path/to/file.py:parallel_env")
    parser.add_argument("--arguments", type=json.loads, default={}, help="keyword arguments, as a JSON object")
    parser.add_argument("--cycles", type=int, default=200, help="longest episode that is played")
    parser.add_argument("--resumes", action="store_true", help="copies made in the middle go on as the original")
    parser.add_argument("--floor", type=float, help="steps per CPU second that it must reach")
    given = parser.parse_args(arguments)
    make_env = EntryPoint(given.entry_point, given.arguments)
    try:
        found = check_env(make_env, **vars(given))
    except CheckError as error:
        sys.stderr.write(f"broken law: {error}\n")
        return 1
    except WorldError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    skipped = "".join(f"skipped {law}: {why}\n" for law, why in found.skipped.items())
    sys.stdout.write(f"passed: {', '.join(found.passed)}\n{skipped}")
    sys.stdout.write(f"{found.steps} steps, {found.steps_per_s:.0f} a CPU second with all checks\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
