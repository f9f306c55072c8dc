"""Spaces of a PettingZoo environment as kinds of agents: what is read of observations, and what actions stand for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from fedsched.envs.core.world import KindSpec, WorldError

Array = npt.NDArray[Any]
Space = spaces.Space[Any]

MASK = "action_mask"
"""Key of an observation, or of an info, that says which actions are legal."""
MOST_ACTIONS = 4096
"""Combinations that an action of several parts may have at most."""


class SpaceError(WorldError):
    """A space that cannot be used; the message names the agent and the space."""


@dataclass(frozen=True)
class ObservationCodec:
    """How observations of one space become rows of numbers.

    Attributes:
        size: Numbers in a row.
        read: A row [size] of an observation; ValueError for one of another form.
        mask: The `action_mask` of an observation; None where observations hold none.
    """

    size: int
    read: Callable[[Any], Array]
    mask: Callable[[Any], object] | None = None


@dataclass(frozen=True)
class ActionCodec:
    """What the actions of one space are called in a world.

    Attributes:
        choices: The environment's action of every number; empty for vectors.
        tokens: float32 [N, Fa], one line for each number; one-hot in every part of the action.
        features: Names of its columns.
        space: That of vectors; None for a choice.
    """

    choices: tuple[Any, ...]
    tokens: Array
    features: tuple[str, ...] = ()
    space: spaces.Box | None = None

    def vector(self, action: Array) -> Array:
        """The environment's action of a vector float32 [D]; inside the bounds after rounding, too."""
        assert self.space is not None
        shaped = action.reshape(self.space.shape).astype(self.space.dtype)
        return np.clip(shaped, self.space.low, self.space.high)


@dataclass(frozen=True)
class KindLayout:
    """A kind of agent and its codecs.

    Attributes:
        spec: Of the kind.
        ids: Names of the agents in the environment.
        observation: Its codec.
        action: Its codec.
        numbered: Whether `own` ends with the agent's number, one-hot.
    """

    spec: KindSpec
    ids: tuple[Any, ...]
    observation: ObservationCodec
    action: ActionCodec
    numbered: bool


def observation_codec(agent: str, space: Space) -> ObservationCodec:
    """The codec of an observation space.

    Boxes are flattened, Discrete and MultiDiscrete become one-hot, Dict and Tuple are joined in gymnasium's order; the
    key `action_mask` of a Dict is no feature.

    Raises:
        SpaceError: A space without a fixed number of numbers, such as Graph or Sequence.
    """
    if isinstance(space, spaces.Dict) and MASK in space.spaces:
        rest = {key: part for key, part in space.spaces.items() if key != MASK}
        if len(rest) == 1:
            [(key, only)] = rest.items()
            inner = observation_codec(agent, only)
            return replace(inner, read=lambda value: inner.read(value[key]), mask=itemgetter(MASK))
        inner = observation_codec(agent, spaces.Dict(rest))
        kept = tuple(rest)
        return replace(inner, read=lambda value: inner.read({key: value[key] for key in kept}), mask=itemgetter(MASK))
    if isinstance(space, spaces.Box):
        return ObservationCodec(int(np.prod(space.shape, dtype=np.int64)), _box_reader(space.shape))
    flat = spaces.flatten_space(space) if space.is_np_flattenable else None
    if not isinstance(flat, spaces.Box):
        raise SpaceError(f"{agent}: observations of {space} have no fixed number of numbers; use Box, Discrete or Dict")
    return ObservationCodec(flat.shape[0], _flat_reader(space))


def _box_reader(shape: tuple[int, ...]) -> Callable[[Any], Array]:
    def read(value: object) -> Array:
        array = np.asarray(value)
        if array.shape != shape:
            raise ValueError(f"an observation has shape {array.shape}, its space has {shape}")
        return array.reshape(-1)

    return read


def _flat_reader(space: Space) -> Callable[[Any], Array]:
    def read(value: object) -> Array:
        if not space.contains(value):
            raise ValueError(f"an observation lies outside {space}")
        return np.asarray(spaces.flatten(space, value))

    return read


def action_codec(agent: str, space: Space) -> ActionCodec:
    """The codec of an action space: Discrete, MultiDiscrete and MultiBinary are choices, real bounded Boxes vectors.

    Raises:
        SpaceError: Another space, an unbounded Box, or more than MOST_ACTIONS combinations.
    """
    if isinstance(space, spaces.Box):
        if not np.issubdtype(space.dtype, np.floating) or not space.is_bounded():
            raise SpaceError(f"{agent}: actions of {space} need real numbers with finite bounds; give the Box such")
        return ActionCodec((), np.zeros((0, 0), np.float32), (), space)
    sizes, start = _parts(agent, space)
    count = int(np.prod(sizes, dtype=np.int64))
    if count > MOST_ACTIONS:
        raise SpaceError(f"{agent}: actions of {space} have {count} combinations, at most {MOST_ACTIONS} can be scored")
    digits = np.stack(np.unravel_index(np.arange(count), sizes), 1)
    tokens = np.concatenate([np.eye(size, dtype=np.float32)[digits[:, p]] for p, size in enumerate(sizes)], 1)
    if isinstance(space, spaces.Discrete):
        choices = tuple(space.dtype.type(n) for n in range(start, start + count))
        return ActionCodec(choices, tokens, tuple(f"action_{n}" for n in range(count)))
    shown = (digits + start).astype(space.dtype).reshape(count, *(space.shape or ()))
    features = tuple(f"action_{p}_{n}" for p, size in enumerate(sizes) for n in range(size))
    return ActionCodec(tuple(shown), tokens, features)


def _parts(agent: str, space: Space) -> tuple[tuple[int, ...], Any]:
    """How many values each part of an action has, and the first of them."""
    if isinstance(space, spaces.Discrete):
        return (int(space.n),), int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(int(n) for n in space.nvec.reshape(-1)), space.start.reshape(-1)
    if isinstance(space, spaces.MultiBinary):
        return (2,) * int(np.prod(space.shape, dtype=np.int64)), 0
    raise SpaceError(f"{agent}: actions of {space} cannot be chosen; use Discrete, MultiDiscrete or a bounded Box")
