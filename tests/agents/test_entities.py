from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import collect
from fedsched.agents.config import EncoderConfig, PolicyConfig
from fedsched.agents.decisions import Decisions, concatenate, gather
from fedsched.agents.entities import Entities
from fedsched.agents.policy import Policy
from fedsched.envs.core import KindSpec, Tokens


@pytest.fixture(params=["linked", "all see all", "identity"])
def kind(crossing: ModuleType, request: pytest.FixtureRequest) -> KindSpec:
    found = crossing.kind(linked=request.param != "all see all", identity=request.param == "identity")
    assert isinstance(found, KindSpec)
    return found


def seen(tokens: Tokens, kind: KindSpec) -> Decisions:
    return gather(tokens, kind, 0, "all", None)[0]


def entities_of(decisions: Decisions) -> Entities:
    assert decisions.entities is not None
    return decisions.entities


def said(decisions: Decisions) -> list[tuple[Any, ...]]:
    """What every decision says in words that do not depend on numbering: features of entities, rows, pairs."""
    entities, lines = entities_of(decisions), []
    for d in range(len(decisions)):
        one = decisions.select(torch.tensor([d]))
        own = entities_of(one)
        features = [tuple(t) for t in own.tokens.tolist()]
        rows = [tuple(r) for r in one.rows.tolist()]
        concerns = {(rows[r], features[e]) for r, e in zip(own.concerns.first, own.concerns.second, strict=True)}
        links = None if own.links is None else own.links
        pairs = links and {(features[i], features[j]) for i, j in zip(links.first, links.second, strict=True)}
        lines.append((tuple(one.own[0].tolist()), tuple(features), tuple(rows), concerns, pairs))
    assert entities.pointers.shape[0] == len(decisions) + 1
    return lines


def test_gathered_entities_are_those_that_loops_find(kind: KindSpec, crossing: ModuleType) -> None:
    tokens = crossing.tokens(kind)
    decisions, where, action = gather(tokens, kind, 0, "all", None)
    for d, place in enumerate(where.tolist()):
        b, a = divmod(place, len(kind.agents))
        live = tokens.entity_mask[b, a].nonzero().squeeze(1).tolist()
        entities = entities_of(decisions.select(torch.tensor([d])))
        assert torch.equal(entities.tokens, tokens.entities[b, a, live])
        concerns, links = set(), set()
        for r, n in enumerate(action[decisions.pointers[d] : decisions.pointers[d + 1]].tolist()):
            for e, slot in enumerate(live):
                if n == slot if isinstance(kind.relation, str) else kind.relation[a, n, slot]:
                    concerns.add((r, e))
        if kind.links is not None:
            links = {(i, j) for i, s in enumerate(live) for j, t in enumerate(live) if kind.links[a, s, t] and i != j}
            assert entities.links is not None
            assert links == set(zip(entities.links.first.tolist(), entities.links.second.tolist(), strict=True))
        else:
            assert entities.links is None
        found = list(zip(entities.concerns.first.tolist(), entities.concerns.second.tolist(), strict=True))
        assert (set(found), len(found)) == (concerns, len(concerns))


def test_batches_are_cut_and_joined_without_a_change(kind: KindSpec, crossing: ModuleType) -> None:
    whole = seen(crossing.tokens(kind), kind)
    order = torch.tensor([7, 2, 9, 0, 1, 5])
    parts = [whole.select(chunk) for chunk in order.split(2)]
    joined = concatenate(parts, [0, 0, 0])
    expected = said(whole)
    assert said(joined) == [expected[d] for d in order.tolist()]
    assert said(whole.select(order)) == said(joined)


def test_joined_with_a_linked_batch_unlinked_entities_still_see_all(crossing: ModuleType) -> None:
    free, linked = crossing.kind(linked=False), crossing.kind()
    parts = [seen(crossing.tokens(kind), kind) for kind in (free, linked)]
    joined = entities_of(concatenate(parts, [0, 0]).select(torch.arange(len(parts[0]))))
    pairs, alone = joined.seen(), entities_of(parts[0]).seen()
    assert torch.equal(pairs.pointers, alone.pointers)
    for d in range(len(parts[0])):
        chosen = [each.select(torch.tensor([d])) for each in (pairs, alone)]
        one, other = (set(zip(c.first.tolist(), c.second.tolist(), strict=True)) for c in chosen)
        assert one == other


def test_a_row_gets_the_sum_of_its_entities(kind: KindSpec, crossing: ModuleType) -> None:
    decisions = seen(crossing.tokens(kind), kind)
    entities = entities_of(decisions)
    features = len(kind.entity)
    sums = entities.row_sums(entities.tokens, decisions.pointers)
    np.testing.assert_allclose(sums, decisions.rows[:, :features], atol=1e-6)


def test_nothing_gathered_aliases_the_world(crossing: ModuleType) -> None:
    kind = crossing.kind()
    tokens = crossing.tokens(kind)
    before = entities_of(seen(tokens, kind)).tokens.clone()
    decisions = seen(tokens, kind)
    tokens.entities.zero_()
    assert torch.equal(entities_of(decisions).tokens, before)


def test_a_kind_without_slots_has_no_entities(crossing: ModuleType) -> None:
    kind = replace(crossing.kind(linked=False, identity=True, slots=0), entity=())
    decisions = seen(crossing.tokens(kind), kind)
    assert entities_of(decisions).tokens.shape == (0, 0)
    assert entities_of(decisions).pointers.tolist() == [0] * (len(decisions) + 1)


@pytest.mark.parametrize("look", [False, True])
def test_rollouts_store_entities_only_if_the_encoder_looks_at_them(look: bool, queue: Callable[..., Any]) -> None:
    world = queue(4, jobs=6, slots=32)
    rows, no = torch.arange(4), torch.zeros(4, dtype=torch.bool)
    config = PolicyConfig(encoder=EncoderConfig("attention" if look else "pointwise"))
    rollouts = collect(Policy(world.spec, config), world, rows, rows, torch.Generator().manual_seed(0), no, rows)
    decisions = rollouts.taken["server"].decisions
    if not look:
        assert decisions.entities is None
        return
    entities = entities_of(decisions)
    assert torch.equal(entities.pointers, decisions.pointers)
    assert torch.equal(entities.tokens, decisions.rows[:, :2])
    assert torch.equal(entities.concerns.first, entities.concerns.second)


def test_the_rows_of_vector_actions_are_the_entities(crossing: ModuleType) -> None:
    kind = replace(crossing.kind(), relation="identity", actions=0, bounds=(-np.ones(2), np.ones(2)))
    decisions = seen(crossing.tokens(crossing.kind()), kind)
    entities = entities_of(decisions)
    assert torch.equal(entities.pointers, decisions.pointers)
    assert torch.equal(entities.row_sums(entities.tokens, decisions.pointers), decisions.rows)
