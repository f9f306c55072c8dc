"""Streets as a PettingZoo environment: `fedsched/intersections-v0`.

History: v0, the features of `fedsched.envs.intersections.world`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fedsched.envs.core import stream
from fedsched.envs.core.pettingzoo import Array, WorldParallelEnv
from fedsched.envs.intersections.drawing import Canvas, frame_pixels, frame_svg
from fedsched.envs.intersections.maps import NAMES, resco_problem
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, grid_problem, read_problem
from fedsched.envs.intersections.timing import Timing
from fedsched.envs.intersections.viewer import frame, make_picture
from fedsched.envs.intersections.world import IntersectionsWorld

WEIGHTS: Mapping[str, float] = {"queue": 1.0}
"""Reward unless weights are given: minus the vehicle-seconds of halting within 200 m before the signal."""


class IntersectionsParallelEnv(WorldParallelEnv):
    """The signals of one city; the seed of a reset draws one of its demands, unless `options={"instance": k}` does.

    Args:
        world: A batch of one.
        weights: As in `WorldParallelEnv`, like the other options.
        flatten: One Box instead of a dict.
        strict: Raises for an illegal action.
        render_mode: `rgb_array` (pixels) or `svg` (text); see `drawing`.
    """

    RENDER_MODES = ("rgb_array", "svg")

    def __init__(
        self,
        world: IntersectionsWorld,
        weights: Mapping[str, float],
        *,
        flatten: bool = False,
        strict: bool = False,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(world, weights, flatten=flatten, strict=strict, render_mode=render_mode)
        self._streets = world
        self._demands = len(world.problem.demands)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Starts an episode; without a seed, that of the last one plus one.

        Raises:
            WorldError: An unknown instance.
        """
        number = self._seed + 1 if seed is None else seed
        drawn = int(stream(number, "intersections/env").integers(self._demands))
        return super().reset(number, {"instance": drawn, **(options or {})})

    def render(self) -> Array | str | None:
        """The streets now: uint8 [H, W, 3], or an SVG image; None without a mode.

        Raises:
            WorldError: An unknown mode.
        """
        super().render()
        if self.render_mode is None:
            return None
        draw = frame_svg if self.render_mode == "svg" else frame_pixels
        return draw(self._canvas, frame(self._streets))

    @cached_property
    def _canvas(self) -> Canvas:
        return Canvas(make_picture(self._streets.problem))


def parallel_env(
    city: str | Path | Problem | None = None,
    timing: str | Timing = "sumo_rl",
    *,
    controlled: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    flatten: bool = False,
    strict: bool = False,
    render_mode: str | None = None,
) -> IntersectionsParallelEnv:
    """The signals of a city, one agent each.

    Args:
        city: A `.sumocfg`, the name of one of RESCO's maps (see `maps`), or a problem; by default `grid3x3`, a
            grid of nine signals that is shipped.
        timing: When signals decide: `resco`, `sumo_rl`, `free`, or a timing of your own.
        controlled: Ids of the signals that are agents; by default all. A problem, or a map of RESCO, names its own.
        weights: Weight of every reward part that counts, see `world.REWARD_PARTS`; by default WEIGHTS.
        flatten: Observations as one Box.
        strict: Raises for an illegal action instead of replacing it.
        render_mode: `rgb_array` or `svg`.

    Raises:
        IntersectionsError: A city that cannot be used, an unknown timing, or signals beside what names its own.
        WorldError: Weights of unknown parts.
    """
    world = IntersectionsWorld(_problem(city, controlled), 1, timing)
    wanted = WEIGHTS if weights is None else weights
    return IntersectionsParallelEnv(world, wanted, flatten=flatten, strict=strict, render_mode=render_mode)


def _problem(city: str | Path | Problem | None, controlled: Sequence[str] | None) -> Problem:
    if city is None or city == "grid3x3":
        return grid_problem(controlled=controlled)
    if not isinstance(city, Problem) and str(city) not in NAMES:
        return read_problem(city, controlled)
    if controlled is not None:
        raise IntersectionsError("this city names its signals: leave out `controlled`")
    return city if isinstance(city, Problem) else resco_problem(str(city))
