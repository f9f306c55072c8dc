"""The spaces and entry points of foreign environments."""

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from fedsched.envs.core.entry_point import ArgumentsError, EntryPointError, load
from fedsched.envs.core.foreign import foreign_world
from fedsched.envs.core.foreign_spaces import SpaceError, action_codec, observation_codec

SPREAD = "mpe2.simple_spread_v3:parallel_env"


def test_spaces_without_a_form_are_told_with_their_agent() -> None:
    real = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    for space in (real, spaces.Box(0, 3, (2,), np.int64), spaces.Text(3), spaces.MultiDiscrete([99, 99])):
        with pytest.raises(SpaceError, match=r"^walker: actions of"):
            action_codec("walker", space)
    for space in (spaces.Sequence(spaces.Discrete(3)), spaces.Graph(real, None)):
        with pytest.raises(SpaceError, match=r"^walker: observations of"):
            observation_codec("walker", space)


def test_nested_observations_are_joined() -> None:
    space = spaces.Dict(
        {
            "action_mask": spaces.MultiBinary(2),
            "place": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32))),
            "flags": spaces.MultiBinary(2),
        }
    )
    codec = observation_codec("walker", space)
    value = {
        "action_mask": np.array([1, 0], np.int8),
        "place": (np.int64(1), np.array([0.5, -0.5], np.float32)),
        "flags": np.array([0, 1], np.int8),
    }
    assert codec.size == 7
    assert codec.mask is not None
    assert codec.read(value).tolist() == [0, 1, 0, 1, 0, 0.5, -0.5]
    with pytest.raises(ValueError, match="outside"):
        codec.read(value | {"flags": np.array([0, 2], np.int8)})


def test_rounding_does_not_leave_the_bounds() -> None:
    low, high = np.array([0.1]), np.array([0.3])
    codec = action_codec("walker", spaces.Box(low, high, dtype=np.float64))
    for side in (low, high):
        assert codec.space is not None
        assert codec.space.contains(codec.vector(side.astype(np.float32)))


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        ("mpe2.simple_spread_v3", "is no entry point"),
        ("mpe3.simple_spread_v3:parallel_env", "there is no module 'mpe3'; install"),
        ("mpe2.simple_spread_v9:parallel_env", "there is no module 'mpe2.simple_spread_v9'"),
        ("mpe2.simple_spread_v3:parallel", "has no function 'parallel'"),
        ("nowhere/yard.py:parallel_env", "there is no file 'nowhere/yard.py'"),
    ],
)
def test_entry_points_that_name_nothing_are_told(entry_point: str, message: str) -> None:
    with pytest.raises(EntryPointError, match=message):
        foreign_world(entry_point)


def test_arguments_and_broken_modules_are_told(tmp_path: Path) -> None:
    with pytest.raises(ArgumentsError, match=r"parallel_env\(M=3\) raised TypeError: .*'M'"):
        foreign_world(SPREAD, {"M": 3})
    broken = tmp_path / "broken.py"
    broken.write_text("import nowhere_to_be_found\n")
    with pytest.raises(EntryPointError, match="cannot be imported"):
        load(f"{broken}:parallel_env")
    # a broken file is not remembered
    broken.write_text("def parallel_env():\n    return 1\n")
    assert load(f"{broken}:parallel_env")() == 1
