"""What holds for every encoder of rows."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from fedsched.agents.config import EncoderConfig, EncoderKind
from fedsched.agents.decisions import AgentError, Decisions, gather
from fedsched.agents.encoder import make_encoder
from fedsched.agents.entities import Entities
from fedsched.agents.gat import GATv2
from fedsched.envs.core import KindSpec, Tokens

LOOKING: tuple[EncoderKind, ...] = ("attention", "hierarchical", "gat", "graph")
looking = pytest.mark.parametrize("encoder", LOOKING)
every = pytest.mark.parametrize("encoder", ["pointwise", *LOOKING])


def strong(network: nn.Module) -> nn.Module:
    """The network with all weights well away from their start, so that every part has an effect."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network


def built(kind: KindSpec, encoder: EncoderKind, heads: int = 2) -> nn.Module:
    config = EncoderConfig(encoder, width=12, hidden=6, heads=heads, blocks=2)
    return strong(make_encoder(kind, config, len(kind.own)))


def seen(tokens: Tokens, kind: KindSpec) -> Decisions:
    return gather(tokens, kind, 0, "all", None)[0]


def entities_of(decisions: Decisions) -> Entities:
    assert decisions.entities is not None
    return decisions.entities


def encode(network: nn.Module, decisions: Decisions) -> torch.Tensor:
    encoded = network(decisions.own, decisions, decisions.segment())
    assert isinstance(encoded, torch.Tensor)
    return encoded


@every
def test_the_rows_of_a_decision_do_not_depend_on_its_batch(encoder: EncoderKind, crossing: ModuleType) -> None:
    """One by one, without any padding, and all at once, with decisions of 0 to 70 entities."""
    for kind in (crossing.kind(), crossing.kind(linked=False, slots=70)):
        network = built(kind, encoder)
        whole = seen(crossing.tokens(kind), kind)
        sparse = seen(crossing.tokens(kind, live=0.1, seed=1), kind)
        for batch in (whole, sparse):
            alone = [encode(network, batch.select(torch.tensor([d]))) for d in range(len(batch))]
            torch.testing.assert_close(encode(network, batch), torch.cat(alone), atol=1e-5, rtol=1e-4)


@every
def test_the_order_of_entities_does_not_matter(encoder: EncoderKind, crossing: ModuleType) -> None:
    kind = crossing.kind()
    tokens = crossing.tokens(kind)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    entities, mask = tokens.entities[:, :, order], tokens.entity_mask[:, :, order]
    assert isinstance(kind.relation, np.ndarray)
    assert kind.links is not None
    turned_kind = replace(kind, relation=kind.relation[:, :, order], links=kind.links[:, order][:, :, order])
    turned = replace(tokens, entities=entities, entity_mask=mask)
    network = built(kind, encoder)
    straight = encode(network, seen(tokens, kind))
    torch.testing.assert_close(encode(network, seen(turned, turned_kind)), straight, atol=1e-5, rtol=1e-4)


@every
def test_gradients_reach_every_parameter_and_are_finite(encoder: EncoderKind, crossing: ModuleType) -> None:
    kind = crossing.kind()
    network = built(kind, encoder)
    encoded = encode(network, seen(crossing.tokens(kind, batch=16), kind))
    torch.autograd.backward((encoded * torch.randn(encoded.shape, generator=torch.Generator().manual_seed(0))).sum())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().max()) > 1e-7, name


@looking
def test_decisions_without_entities_are_finite_and_learnt_from(encoder: EncoderKind, crossing: ModuleType) -> None:
    kind = crossing.kind()
    network = built(kind, encoder)
    empty = crossing.tokens(kind, live=0.0)
    decisions = seen(empty, kind)
    encoded = encode(network, decisions)
    torch.autograd.backward(encoded.sum())
    assert bool(encoded.isfinite().all())
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in network.parameters())
    assert encode(network, decisions.select(torch.arange(0))).shape == (0, 6)


def changed(tokens: Tokens, b: int, a: int, slot: int) -> Tokens:
    entities = tokens.entities.clone()
    entities[b, a, slot] += 1.0
    return replace(tokens, entities=entities)


@looking
def test_an_entity_that_nothing_is_linked_to_changes_only_the_rows_that_concern_it(
    encoder: EncoderKind, crossing: ModuleType
) -> None:
    """Slot 6 is seen by nobody, slot 5 by slot 0 alone; action 0 concerns slot 0, action 1 slot 1, and so on.

    What weighs features by all entities, or hears all of them for the agent, is switched off.
    """
    links = np.zeros((3, 7, 7), dtype=np.bool_)
    links[:, 0, 5] = True
    kind = replace(crossing.kind(identity=True), links=links)
    tokens = replace(crossing.tokens(kind, live=1.1), action_mask=torch.ones(4, 3, 5, dtype=torch.bool))
    tokens.entity_mask[:] = True
    network = built(kind, encoder)
    network.body.blocks = network.body.blocks[:1] if encoder != "attention" else None
    for name, parameter in network.named_parameters():
        if "excite" in name or "seen.lin_l" in name:
            parameter.data.zero_()
    before = encode(network, seen(tokens, kind)).reshape(-1, 5, 6)
    for slot, moved in ((6, [False] * 5), (5, [True] + [False] * 4), (1, [False, True, False, False, False])):
        after = encode(network, seen(changed(tokens, 1, 0, slot), kind)).reshape(-1, 5, 6)
        differ = (after - before).abs().amax(2) > 1e-6
        expected = torch.zeros_like(differ)
        expected[2] = torch.tensor(moved)  # the first world has two decisions
        assert torch.equal(differ, expected)


@looking
def test_a_dead_entity_changes_nothing(encoder: EncoderKind, crossing: ModuleType) -> None:
    """Even where a world forgot to clean its slot."""
    kind = crossing.kind()
    tokens = crossing.tokens(kind)
    dead = (~tokens.entity_mask[1, 1]).nonzero()[0, 0]
    network = built(kind, encoder)
    before, after = (encode(network, seen(t, kind)) for t in (tokens, changed(tokens, 1, 1, int(dead))))
    assert torch.equal(before, after)


@looking
def test_every_entity_that_may_be_looked_at_has_an_effect(encoder: EncoderKind, crossing: ModuleType) -> None:
    kind = crossing.kind(linked=False, identity=True, slots=12)
    tokens = crossing.tokens(kind, live=1.1)
    network = built(kind, encoder)
    before = encode(network, seen(tokens, kind))
    after = encode(network, seen(changed(tokens, 1, 0, 11), kind))
    decisions = seen(tokens, kind)
    first, last = decisions.pointers[2], decisions.pointers[3]
    differ = (after - before).abs().amax(1) > 1e-6
    assert bool(differ[first:last].all())
    assert int(differ.sum()) == int(last - first)


@looking
def test_decisions_gathered_without_entities_are_refused(encoder: EncoderKind, crossing: ModuleType) -> None:
    kind = crossing.kind()
    blind = gather(crossing.tokens(kind), kind, 0, "no", None)[0]
    with pytest.raises(AgentError, match="gathered without the entities"):
        encode(built(kind, encoder), blind)


@looking
def test_a_kind_without_entities_is_encoded_row_by_row(encoder: EncoderKind, crossing: ModuleType) -> None:
    kind = replace(crossing.kind(linked=False, identity=True, slots=0), entity=())
    decisions = seen(crossing.tokens(kind), kind)
    plain = encode(built(kind, "pointwise"), decisions)
    assert torch.equal(encode(built(kind, encoder), decisions), plain)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("linked", [True, False])
def test_dense_and_sparse_graph_attention_are_one(heads: int, linked: bool, crossing: ModuleType) -> None:
    """The state of one loads into the other; both then give the same rows, and the same gradients."""
    kind = crossing.kind(linked=linked, slots=20)
    dense, sparse = built(kind, "gat", heads), built(kind, "graph", heads)
    with torch.no_grad():
        for parameter in sparse.parameters():
            parameter.zero_()
    sparse.load_state_dict(dense.state_dict())
    for share in (0.0, 0.1, 0.9):
        decisions = seen(crossing.tokens(kind, batch=9, live=share), kind)
        assert int(entities_of(decisions).pointers.diff().min()) == 0
        rows = [encode(network, decisions) for network in (dense, sparse)]
        torch.testing.assert_close(*rows, atol=1e-5, rtol=1e-5)
        for network, encoded in zip((dense, sparse), rows, strict=True):
            network.zero_grad()
            torch.autograd.backward(encoded.square().sum())
        for (name, one), other in zip(dense.named_parameters(), sparse.parameters(), strict=True):
            assert one.grad is not None, name
            assert other.grad is not None, name
            torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-3)


def test_graph_attention_ranks_neighbours_unlike_for_unlike_hearers() -> None:
    """What GATv2 can and its first version could not: who matters most depends on who asks."""
    network = GATv2(2, 1)
    with torch.no_grad():
        network.lin_l.weight.copy_(torch.eye(2))
        network.lin_r.weight.copy_(torch.eye(2))
        network.att.copy_(torch.tensor([[[40.0, 40.0]]]))
    nodes = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
    heard = network(nodes, nodes, torch.ones(1, 1, 2, dtype=torch.bool), None)
    torch.testing.assert_close(heard, nodes, atol=1e-4, rtol=0)


def test_agents_cannot_own_a_graph_encoder_each(crossing: ModuleType) -> None:
    with pytest.raises(AgentError, match="take gat"):
        make_encoder(crossing.kind(), EncoderConfig("graph"), 2, copies=3)


@pytest.mark.parametrize("config", [EncoderConfig("attention", heads=3), EncoderConfig("gat", heads=5)])
def test_heads_share_the_units_equally(config: EncoderConfig, crossing: ModuleType) -> None:
    with pytest.raises(AgentError, match="heads cannot share"):
        make_encoder(crossing.kind(), config, 2)
