"""The arrays behind the streets: records and their fields, what a reset leaves behind, room for plans."""

from functools import cache

import pytest
import torch

from fedsched.envs.core import WorldError
from fedsched.envs.intersections import arrays
from fedsched.envs.intersections.kernels.state import Vehicle, layout
from fedsched.envs.intersections.problem import Problem, grid_problem
from fedsched.envs.intersections.world import IntersectionsWorld

SECONDS = 240


@cache
def problem() -> Problem:
    return grid_problem(1)


def run(world: IntersectionsWorld, seeds: list[int], seconds: int = SECONDS) -> None:
    rows = torch.zeros(world.batch, dtype=torch.int64)
    world.reset(rows, torch.tensor(seeds))
    keep = {world.spec.kinds[0].name: torch.full((world.batch, len(world.problem.signals)), world.problem.phases)}
    world.step(keep, torch.full((world.batch,), float(seconds), dtype=torch.float64))


def test_fields_are_views_of_the_records() -> None:
    world = IntersectionsWorld(problem(), 1, "program")
    run(world, [0])
    vehicles, fields = world.traffic["vehicle"], layout(Vehicle)[0]
    for name in fields:
        column = world.traffic[name]
        assert column.shape == vehicles.shape[:2]
        assert column.untyped_storage().data_ptr() == vehicles.untyped_storage().data_ptr()
    ends = [offset + world.traffic[name].element_size() for name, (_, offset) in fields.items()]
    begins = [offset for _, offset in fields.values()]
    assert all(end <= begin for end, begin in zip(ends, [*begins[1:], vehicles.shape[2]], strict=True))
    on = int(world.traffic["count"][0])
    assert on > 20
    assert sorted(set(world.traffic["id"][0, :on].tolist())) == sorted(world.traffic["id"][0, :on].tolist())


def test_nothing_of_an_episode_is_left_in_the_next() -> None:
    """Also of slots that the next one does not use, though a reset clears only those that were used."""
    used, fresh = IntersectionsWorld(problem(), 2, "program"), IntersectionsWorld(problem(), 2, "program")
    run(used, [3, 4])
    most = used.traffic["most"].tolist()
    assert min(most) > 20
    assert bool((used.traffic["vehicle"][:, max(most) :] == 0).all())
    assert bool((used.traffic["vehicle"][0, : most[0]] != 0).any())
    for seconds in (0, 60):
        run(used, [5, 6], seconds)
        run(fresh, [5, 6], seconds)
        for name, column in arrays.stored(used.traffic).items():
            assert torch.equal(column, fresh.traffic[name]), (seconds, name)


def test_plans_without_room_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "PLANNED", 0)
    with pytest.raises(WorldError, match=r"world 0: no room for the links .* give the world more slots"):
        run(IntersectionsWorld(problem(), 1, "program"), [0])
