"""Does a PettingZoo environment keep its word? PettingZoo's own tests let much pass; these laws do not."""

import contextlib
import copy
import io
import json
import pickle
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pettingzoo
from pettingzoo.test import parallel_api_test, parallel_seed_test

from fedsched.envs.core.broken import CheckError, require
from fedsched.envs.core.elsewhere import check_elsewhere, resume_elsewhere
from fedsched.envs.core.env_tour import Tour, check_value, replay, tour
from fedsched.envs.core.pettingzoo import WorldParallelEnv

MakeEnv = Callable[[], pettingzoo.ParallelEnv]
SEED = 7


@dataclass
class Findings:
    """What a check that was passed has found out.

    Attributes:
        steps: Of the episode that was played.
        steps_per_s: Of one environment, in CPU time.
        passed: Names of the laws, in the order in which they were looked at.
        skipped: Laws that do not apply, and why.
    """

    steps: int = 0
    steps_per_s: float = 0.0
    passed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def check_env(
    make_env: MakeEnv,
    *,
    cycles: int = 200,
    entry_point: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    resumes: bool = False,
    floor: float | None = None,
) -> Findings:
    """Checks a PettingZoo parallel environment: the tests that PettingZoo ships, and what these let pass.

    One moment: every observation lies in its space (`shape`, `dtype`, `finite`, `space`); rewards are finite floats
    (`reward`); masks allow something and are those of the infos (`legal action`); `agents` are who they say and what
    ends never comes back (`no return`) but sees its end (`last observation`); `state` lies in `state_space`.
    Episodes of equal seeds and actions, compared to their end with infos: of two environments (`determinism`), after
    an episode that was left in the middle (`reset`), in processes with other hash seeds (`processes`), and of copies
    made in the middle (`deepcopy`; `pickle`, which goes on in another process). Of these, many environments keep only
    their arguments (gymnasium's `EzPickle`), so copies are looked at where `resumes` says so.

    Args:
        make_env: Builds a fresh environment.
        cycles: Longest episode that is played.
        entry_point: `module:function` or `file.py:function` that builds the same environment elsewhere; without it
            processes are not compared.
        arguments: Of that function; JSON.
        resumes: Whether copies made in the middle of an episode are to go on as the original.
        floor: Steps per CPU second that one environment must reach (`speed`); None: not looked at.

    Raises:
        CheckError: Naming the first law that is broken.
    """
    found = Findings()
    start = time.process_time()
    known = tour(make_env(), cycles, SEED)
    found.steps = len(known.actions)
    found.steps_per_s = found.steps / max(time.process_time() - start, 1e-9)
    found.passed.append("moments")
    replay(make_env(), known, "determinism")
    found.passed.append("determinism")
    _check_reset(make_env(), known)
    found.passed.append("reset")
    _check_state(make_env(), known, found)
    _check_processes(entry_point, arguments, known, cycles, found)
    if resumes:
        _check_copies(make_env, known, entry_point)
        found.passed += ["deepcopy", "pickle"]
    if floor is not None:
        message = f"{found.steps_per_s:.0f} steps per CPU second, {floor:g} are wanted"
        require(found.steps_per_s >= floor, "speed", message)
        found.passed.append("speed")
    _check_upstream(make_env, cycles, found)
    env = make_env()
    if isinstance(env.unwrapped, WorldParallelEnv):
        _check_replacement(env)
    return found


def _check_reset(env: pettingzoo.ParallelEnv, known: Tour) -> None:
    """Neither an episode left in the middle nor one played to its end leaves anything behind."""
    middle = max(1, len(known.actions) // 2)
    tour(env, middle, known.seed + 1)
    replay(env, known, "reset")
    replay(env, known, "reset")


def _check_state(env: pettingzoo.ParallelEnv, known: Tour, found: Findings) -> None:
    space = getattr(env, "state_space", None)
    if space is None:
        found.skipped["state"] = "there is no 'state_space'"
        return
    env.reset(seed=known.seed)
    for actions in [{}, *known.actions]:
        if actions:
            env.step(copy.deepcopy(actions))
        try:
            check_value(space, env.state(), "the state")
        except CheckError as error:
            raise CheckError("state", str(error)) from error
    found.passed.append("state")


def _check_copies(make_env: MakeEnv, known: Tour, entry_point: str | None) -> None:
    """A copy made in the middle goes on as the original would have, and neither disturbs the other."""
    middle = len(known.actions) // 2
    env = make_env()
    env.reset(seed=known.seed)
    for actions in known.actions[:middle]:
        env.step(copy.deepcopy(actions))
    try:
        packed, made = pickle.dumps(env), copy.deepcopy(env)
    except Exception as error:  # whatever the parts of an environment say to being copied
        raise CheckError("pickle", f"cannot be copied: {type(error).__name__}: {error}") from error
    replay(made, known, "deepcopy", middle)
    replay(env, known, "deepcopy", middle)
    resume_elsewhere(packed, known, middle, entry_point)


def _check_processes(
    entry_point: str | None, arguments: Mapping[str, Any] | None, known: Tour, cycles: int, found: Findings
) -> None:
    if entry_point is None:
        found.skipped["processes"] = "no entry point was given"
        return
    given = json.dumps(dict(arguments or {}))
    check_elsewhere(known.digest(), "env", entry_point, given, str(known.seed), str(cycles))
    found.passed.append("processes")


def _check_upstream(make_env: MakeEnv, cycles: int, found: Findings) -> None:
    """PettingZoo's own."""
    tests: dict[str, Callable[[], None]] = {
        "parallel_api_test": lambda: parallel_api_test(make_env(), num_cycles=cycles),
        "parallel_seed_test": lambda: parallel_seed_test(make_env, num_cycles=cycles),
    }
    for law, test in tests.items():
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("error", UserWarning)
            try:
                test()
            except (AssertionError, UserWarning) as error:
                raise CheckError(law, str(error)) from error
        found.passed.append(law)


def _check_replacement(env: pettingzoo.ParallelEnv) -> None:
    """An illegal action is replaced and flagged."""
    _, infos = env.reset(seed=0)
    actions = {agent: env.action_space(agent).sample(mask=infos[agent].get("action_mask")) for agent in env.agents}
    wrong = {agent: int(env.action_space(agent).n) for agent in env.agents if "action_mask" in infos[agent]}
    if wrong:
        *_, infos = env.step(actions | wrong)
        flagged = {agent for agent in actions if infos[agent]["illegal_action"]}
        require(flagged == set(wrong), "illegal action", f"flagged are {flagged}, illegal were {set(wrong)}")
