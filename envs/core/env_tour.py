"""An episode of a PettingZoo environment under random legal actions: recorded, checked moment by moment, replayed."""

import copy
import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pettingzoo
from gymnasium import spaces

from fedsched.envs.core.broken import require

Moment = tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any], dict[Any, Any], dict[Any, Any]]
"""Observations, rewards, terminations, truncations and infos by agent, as `step` returns them."""


@dataclass
class Tour:
    """What an episode showed.

    Attributes:
        seed: Of its reset.
        actions: Of every step, by agent.
        shown: A fingerprint of all that the reset and every step returned.
    """

    seed: int
    actions: list[dict[Any, Any]] = field(default_factory=list)
    shown: list[bytes] = field(default_factory=list)

    def digest(self) -> str:
        """A fingerprint of all of it."""
        return hashlib.blake2b(b"".join(self.shown), digest_size=16).hexdigest()


def tour(env: pettingzoo.ParallelEnv, cycles: int, seed: int) -> Tour:
    """Plays an episode of at most `cycles` steps; raises CheckError for the first law that a moment breaks."""
    made = Tour(seed)
    acting_spaces = _seeded(env)
    seen, infos = env.reset(seed=seed)
    made.shown.append(fingerprint((seen, infos)))
    require(bool(env.agents), "agents", "nobody is there after the reset")
    gone: set[Any] = set()
    _check_present(env, gone)
    for agent in env.agents:
        _check_seen(env, agent, seen, infos)
    while env.agents and len(made.actions) < cycles:
        acting = list(env.agents)
        actions = {agent: _draw(acting_spaces[agent], seen[agent], infos[agent]) for agent in acting}
        made.actions.append(copy.deepcopy(actions))
        moment: Moment = env.step(actions)
        made.shown.append(fingerprint(moment))
        seen, *_, infos = moment
        _check_step(env, acting, moment, gone)
    return made


def replay(env: pettingzoo.ParallelEnv, known: Tour, law: str, first: int = 0) -> None:
    """Plays the actions of a tour again, from its step `first` on; raises CheckError where something differs.

    Args:
        env: To be reset here, or with `first` > 0 standing before that step.
        known: What it must show.
        law: Which is broken otherwise.
        first: Step to begin with.
    """
    if first == 0:
        require(fingerprint(env.reset(seed=known.seed)) == known.shown[0], law, "the reset shows something else")
    for step in range(first, len(known.actions)):
        same = set(env.agents) == set(known.actions[step])
        require(same, law, f"other agents are there before step {step + 1}")
        shown = fingerprint(env.step(copy.deepcopy(known.actions[step])))
        require(shown == known.shown[step + 1], law, f"step {step + 1} shows something else")


def fingerprint(value: object) -> bytes:
    """Equal for equal contents: order of keys, sharing of objects and the process do not matter."""
    if isinstance(value, Mapping):
        parts = sorted((fingerprint(key), fingerprint(inner)) for key, inner in value.items())
        return _mixed("mapping", *(part for pair in parts for part in pair))
    if isinstance(value, (set, frozenset)):
        return _mixed("set", *sorted(map(fingerprint, value)))
    if isinstance(value, (tuple, list)):
        return _mixed("list", *map(fingerprint, value))
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        return _mixed(f"{value.dtype}{value.shape}", value.tobytes())
    if isinstance(value, (str, bytes, bool, int, float, type(None))):
        return _mixed(type(value).__name__, repr(value).encode())
    return _mixed("object", pickle.dumps(value))


def _mixed(kind: str, *parts: bytes) -> bytes:
    mixed = hashlib.blake2b(kind.encode(), digest_size=16)
    for part in parts:
        mixed.update(len(part).to_bytes(8, "little") + part)
    return mixed.digest()


def _seeded(env: pettingzoo.ParallelEnv) -> dict[Any, Any]:
    """Copies of the action spaces, each with its own seed, so that drawing leaves the environment's alone."""
    drawn = {agent: copy.deepcopy(env.action_space(agent)) for agent in env.possible_agents}
    for number, space in enumerate(drawn.values()):
        space.seed(11 + number)
    return drawn


def _draw(space: "spaces.Space[Any]", seen: object, info: Mapping[str, Any]) -> object:
    mask = mask_of(seen, info)
    return space.sample() if mask is None else space.sample(mask=np.asarray(mask, np.int8))


def mask_of(seen: object, info: Mapping[str, Any]) -> object:
    """The action mask of an observation, else of its info; None without one."""
    if isinstance(seen, Mapping) and "action_mask" in seen:
        return seen["action_mask"]
    return info.get("action_mask")


def _check_step(env: pettingzoo.ParallelEnv, acting: list[Any], moment: Moment, gone: set[Any]) -> None:
    seen, rewards, ended, cut, infos = moment
    for agent in acting:
        for returned, what in ((rewards, "reward"), (ended, "termination"), (cut, "truncation"), (infos, "info")):
            require(agent in returned, "agents", f"{agent} acted, but was given no {what}")
        good = isinstance(rewards[agent], (float, np.floating)) and bool(np.isfinite(rewards[agent]))
        require(good, "reward", f"{agent} got {rewards[agent]!r}, not a finite float")
        flags = isinstance(ended[agent], (bool, np.bool_)) and isinstance(cut[agent], (bool, np.bool_))
        require(flags, "agents", f"{agent}: termination and truncation are no bools")
        over = bool(ended[agent] or cut[agent])
        require(agent in seen, "last observation" if over else "agents", f"{agent} acted, but saw nothing then")
        _check_seen(env, agent, seen, infos)
        if over:
            gone.add(agent)
        else:
            require(agent in env.agents, "agents", f"{agent} left without being terminated or truncated")
    _check_present(env, gone)
    for agent in set(env.agents) - set(acting):
        require(agent in seen, "agents", f"{agent} is new, but sees nothing")
        _check_seen(env, agent, seen, infos)


def _check_present(env: pettingzoo.ParallelEnv, gone: set[Any]) -> None:
    present = set(env.agents)
    require(not present & gone, "no return", f"ended, but still or again there: {sorted(map(str, present & gone))}")
    strangers = present - set(env.possible_agents)
    require(not strangers, "agents", f"not among 'possible_agents': {sorted(map(str, strangers))}")


def _check_seen(
    env: pettingzoo.ParallelEnv, agent: object, observations: Mapping[Any, Any], infos: Mapping[Any, Any]
) -> None:
    seen, info = observations[agent], infos.get(agent, {})
    check_value(env.observation_space(agent), seen, f"{agent}: an observation")
    mask = mask_of(seen, info)
    if mask is None or not isinstance(env.action_space(agent), spaces.Discrete):
        return
    array, count = np.asarray(mask).reshape(-1), int(env.action_space(agent).n)
    require(len(array) == count, "legal action", f"{agent}: a mask of {len(array)} for {count} actions")
    require(bool(array.any()), "legal action", f"{agent}: the mask allows nothing")
    other = info.get("action_mask", mask)
    require(np.array_equal(array, np.asarray(other).reshape(-1)), "legal action", f"{agent}: info holds another mask")


def check_value(space: "spaces.Space[Any]", value: object, name: str) -> None:
    """Finite numbers of the space's shape, dtype and range; raises CheckError for the first that differs."""
    if isinstance(space, spaces.Dict) and isinstance(value, Mapping):
        require(set(value) == set(space.spaces), "space", f"{name} has keys {sorted(value)}, not those of {space}")
        for key, inner in space.spaces.items():
            check_value(inner, value[key], f"{name}, {key!r}")
        return
    if isinstance(space, spaces.Tuple) and isinstance(value, tuple) and len(value) == len(space.spaces):
        for number, inner in enumerate(space.spaces):
            check_value(inner, value[number], f"{name}, {number}")
        return
    if isinstance(space, (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete)):
        array = np.asarray(value)
        require(array.shape == space.shape, "shape", f"{name} is {array.shape}, not {space.shape}")
        require(array.dtype == space.dtype, "dtype", f"{name} is {array.dtype}, not {space.dtype}")
        require(bool(np.isfinite(array).all()), "finite", f"{name} holds NaN or infinity")
    require(bool(space.contains(value)), "space", f"{name} lies outside {space}")
