from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fedsched.agents.config import EncoderConfig, EncoderKind, PolicyConfig
from fedsched.agents.decisions import Decisions, gather
from fedsched.agents.messages import Understood
from fedsched.agents.network import ChoiceNetwork, SoftRule
from fedsched.agents.scoring import DotScore
from fedsched.agents.segments import pointers_of, segment_of
from fedsched.envs.core import KindSpec, Tokens

ACTIONS, OWN, WIDTH = 5, 18, 16


def plain(batch: int = 40) -> tuple[KindSpec, Decisions]:
    """A world like those that nobody here wrote: features, and actions that are one-hot tokens; some are illegal."""
    kind = KindSpec(
        "walker",
        ("walker",),
        own=tuple(f"x{i}" for i in range(OWN)),
        action=tuple(f"a{i}" for i in range(ACTIONS)),
        actions=ACTIONS,
    )
    generator = torch.Generator().manual_seed(0)
    legal = torch.rand(batch, 1, ACTIONS, generator=generator) < 0.7
    legal[:, :, 2] = True
    everyone = torch.ones(batch, 1, dtype=torch.bool)
    tokens = Tokens(
        own=torch.randn(batch, 1, OWN, generator=generator),
        entities=torch.zeros(batch, 1, 0, 0),
        entity_mask=torch.zeros(batch, 1, 0, dtype=torch.bool),
        actions=torch.eye(ACTIONS).expand(batch, 1, ACTIONS, ACTIONS),
        action_mask=legal,
        active=everyone,
        alive=everyone,
    )
    return kind, gather(tokens, kind, 0, "no", None)[0]


def network(kind: KindSpec, encoder: EncoderConfig) -> ChoiceNetwork:
    torch.manual_seed(0)
    return ChoiceNetwork(kind, PolicyConfig(encoder=encoder, messages=None), SoftRule(), 0)


def test_dot_scores_of_one_hot_actions_are_an_mlp_with_a_linear_head() -> None:
    """Equal logits and equal gradients, with the weights of an `nn.Sequential` copied."""
    kind, decisions = plain()
    ours = network(kind, EncoderConfig(scoring="dot", layers=2, width=WIDTH))
    mlp = nn.Sequential(
        nn.Linear(OWN, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, ACTIONS, bias=False)
    )
    with torch.no_grad():
        for layer, twin in zip(ours.state.layers, (mlp[0], mlp[2]), strict=True):
            layer.weight.copy_(twin.weight)
            layer.bias.copy_(twin.bias)
        ours.score.key.weight.copy_(mlp[4].weight.T)
    logits = mlp(decisions.own).flatten()
    rows = decisions.rows.argmax(1) + ACTIONS * decisions.segment()
    table = torch.full((len(decisions) * ACTIONS,), -torch.inf).index_copy(0, rows, logits[rows])
    expected = table.reshape(-1, ACTIONS).log_softmax(1).flatten()[rows]
    scored = ours(decisions, decisions.segment(), None).log_probs
    torch.testing.assert_close(scored, expected, atol=1e-6, rtol=0)
    weights = torch.randn(scored.shape, generator=torch.Generator().manual_seed(1))
    torch.autograd.backward([(scored * weights).sum(), (expected * weights).sum()])
    torch.testing.assert_close(ours.score.key.weight.grad, mlp[4].weight.grad.T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.state.layers[0].weight.grad, mlp[0].weight.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [None, 7])
def test_a_dot_score_is_the_product_of_a_query_and_a_key_row_by_row(width: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    score = DotScore(6, 9, width)
    pointers = pointers_of(torch.tensor([3, 1, 4]))
    state, features = torch.randn(3, 6, generator=generator), torch.randn(8, 9, generator=generator)
    segment = segment_of(pointers)
    scored = score(state, features, segment).detach()
    for row in range(8):
        asked = state[segment[row]]
        query = asked if score.query is None else score.query(asked)
        assert float(scored[row]) == pytest.approx(float((query @ score.key(features[row])).detach()), abs=1e-6)


@pytest.mark.parametrize("encoder", ["pointwise", "attention", "hierarchical", "gat"])
@pytest.mark.parametrize("layers", [0, 2])
def test_dot_scores_start_near_zero_and_all_parameters_learn(
    encoder: EncoderKind, layers: int, queue: Callable[..., Any]
) -> None:
    world = queue(16, jobs=5)
    rows = torch.arange(16)
    kind = world.spec.kinds[0]
    decisions = gather(world.reset(rows, rows).kinds["server"], kind, 0, "all", None)[0]
    ours = network(kind, EncoderConfig(encoder, scoring="dot", layers=layers))
    log_probs = ours(decisions, decisions.segment(), None).log_probs
    assert float((log_probs.detach().exp() - 0.2).abs().max()) < 0.01
    torch.autograd.backward(
        (log_probs * torch.randn(log_probs.shape, generator=torch.Generator().manual_seed(0))).sum()
    )
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


def test_what_others_said_is_part_of_the_query(queue: Callable[..., Any]) -> None:
    world = queue(2, jobs=5)
    rows = torch.arange(2)
    kind = world.spec.kinds[0]
    decisions = gather(world.reset(rows, rows).kinds["server"], kind, 0, "no", None)[0]
    torch.manual_seed(0)
    ours = ChoiceNetwork(kind, PolicyConfig(encoder=EncoderConfig(scoring="dot")), SoftRule(), 0)
    heard = [Understood(torch.full((2, 16), told), torch.zeros(2, 0, 18)) for told in (0.0, 1.0)]
    silent, told = (ours(decisions, decisions.segment(), words).log_probs for words in heard)
    assert not torch.equal(silent, told)
