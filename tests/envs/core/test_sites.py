"""A site's part of a shared world: its agents, their neighbours among themselves, their tokens and actions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedsched.envs.core import WorldError, agents_of, on_device, part_of, put_together, tokens_of
from tests.envs.core.toy import SPEC, ToyWorld

SHARED = replace(SPEC, site=np.array([0, 1, 1]), neighbours=np.array([[1, 2], [0, 2], [1, -1]]))


def test_a_part_keeps_its_agents_and_the_neighbours_among_them() -> None:
    mover, valve = part_of(SHARED, 1).kinds
    assert (mover.agents, valve.agents) == (("mover_1",), ("valve",))
    assert part_of(SHARED, 1).neighbours.tolist() == [[-1, 1], [0, -1]]
    assert part_of(SHARED, 0).neighbours.tolist() == [[-1, -1]]
    assert part_of(SHARED, 0).agents == ("mover_0",)
    assert part_of(SHARED, 1).site is None


def test_a_world_that_is_not_shared_or_a_site_without_agents_is_told() -> None:
    with pytest.raises(WorldError, match="site 2 has no agent here; the world's sites are 0, 1"):
        part_of(SHARED, 2)
    with pytest.raises(WorldError, match="the world's sites are not given"):
        part_of(SPEC, 0)


def test_parts_see_their_own_and_their_actions_make_the_whole() -> None:
    world = ToyWorld(2)
    rows = torch.arange(2)
    seen = world.reset(rows, rows)
    parts = {site: on_device(tokens_of(SHARED, seen, site), "cpu") for site in (0, 1)}
    assert torch.equal(parts[0].kinds["mover"].own, seen.kinds["mover"].own[:, :1])
    assert torch.equal(parts[1].kinds["mover"].action_mask, seen.kinds["mover"].action_mask[:, 1:])
    assert parts[0].kinds["valve"].own.shape[1] == 0
    assert {name: rows.tolist() for name, rows in agents_of(SHARED, 1).items()} == {"mover": [1], "valve": [0]}
    idle = {"mover": torch.full((2, 2), 3), "valve": torch.zeros(2, 1, 1)}
    told = {
        0: {"mover": torch.tensor([[0], [1]]), "valve": torch.zeros(2, 0, 1)},
        1: {"mover": torch.tensor([[2], [2]]), "valve": torch.ones(2, 1, 1)},
    }
    whole = put_together(SHARED, told, idle)
    assert whole["mover"].tolist() == [[0, 2], [1, 2]]
    assert whole["valve"].flatten().tolist() == [1.0, 1.0]
    assert put_together(SHARED, {0: told[0]}, idle)["mover"].tolist() == [[0, 3], [1, 3]]
    assert idle["mover"].tolist() == [[3, 3], [3, 3]]
