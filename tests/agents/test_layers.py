import numpy as np
import pytest
import torch
from torch import nn

from fedsched.agents.layers import Dense, Owners, linear, own_of
from fedsched.agents.segments import pointers_of, segment_of


def drawn(lines: int, copies: int, seed: int = 0) -> tuple[torch.Tensor, torch.Generator]:
    """Owners int64 [lines], of which the first has none, and a generator."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, copies, (lines,), generator=generator), generator


def alone(layer: Dense, copy: int) -> nn.Linear:
    """One agent's own layer as an ordinary one."""
    one = nn.Linear(layer.weight.shape[2], layer.weight.shape[1], layer.bias is not None)
    with torch.no_grad():
        one.weight.copy_(layer.weight[copy])
        if layer.bias is not None:
            one.bias.copy_(layer.bias[copy])
    return one


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("inner", [(), (3,), (2, 3)])
def test_stacked_layers_equal_a_loop_over_agents_and_so_do_their_gradients(inner: tuple[int, ...], bias: bool) -> None:
    owner, generator = drawn(40, 6)
    layer = Dense(5, 4, 6, bias)
    lines = torch.randn(40, *inner, 5, generator=generator, requires_grad=True)
    weights = torch.randn(40, *inner, 4, generator=generator)
    out = layer(lines, Owners.of(owner, 6))
    torch.autograd.backward((out * weights).sum())
    ones = [alone(layer, copy) for copy in range(6)]
    again = lines.detach().clone().requires_grad_()
    slow = torch.stack([ones[int(o)](again[i]) for i, o in enumerate(owner)])
    torch.autograd.backward((slow * weights).sum())
    np.testing.assert_allclose(out.detach(), slow.detach(), atol=1e-5)
    assert lines.grad is not None
    assert layer.weight.grad is not None
    np.testing.assert_allclose(lines.grad, np.asarray(again.grad), atol=1e-5)
    for copy, one in enumerate(ones):
        theirs = torch.zeros_like(one.weight) if one.weight.grad is None else one.weight.grad
        np.testing.assert_allclose(layer.weight.grad[copy], theirs, atol=1e-4)
        if layer.bias is not None and one.bias.grad is not None:
            assert layer.bias.grad is not None
            np.testing.assert_allclose(layer.bias.grad[copy], one.bias.grad, atol=1e-4)


def test_a_finer_axis_is_laid_out_as_if_sorted_afresh() -> None:
    owner, generator = drawn(30, 5)
    counts = torch.randint(0, 4, (30,), generator=generator)
    pointers = pointers_of(counts)
    segment = segment_of(pointers)
    finer, fresh = Owners.of(owner, 5).over(pointers, segment), Owners.of(owner[segment], 5)
    for name, value in vars(fresh).items():
        same = getattr(finer, name)
        assert torch.equal(same, value) if isinstance(value, torch.Tensor) else same == value


@pytest.mark.parametrize("shares", [(25, 25, 25, 25), (97, 1, 1, 1), (0, 0, 100, 0), (1, 0, 2, 0)])
def test_at_most_twice_the_lines_are_computed_however_they_are_shared(shares: tuple[int, ...]) -> None:
    owner = torch.repeat_interleave(torch.arange(4), torch.tensor(shares))
    owners = Owners.of(owner[torch.randperm(len(owner), generator=torch.Generator().manual_seed(0))], 4)
    assert owners.line.shape[0] <= 2 * len(owner)
    assert torch.equal(owners.line[owners.place], torch.arange(len(owner)))
    assert (owners.tile is None) == (len(set(shares)) == 1)


def test_nobody_deciding_is_no_error() -> None:
    owners = Owners.of(torch.zeros(0, dtype=torch.int64), 3)
    rows = owners.over(torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    for layout in (owners, rows):
        assert Dense(4, 2, 3)(torch.zeros(0, 4), layout).shape == (0, 2)
        assert Dense(4, 2, 3)(torch.zeros(0, 7, 4), layout).shape == (0, 7, 2)


def test_a_shared_layer_is_an_ordinary_linear_one() -> None:
    torch.manual_seed(3)
    ordinary = nn.Linear(4, 2)
    torch.manual_seed(3)
    layer = Dense(4, 2)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"weight": (2, 4), "bias": (2,)}
    lines = torch.randn(3, 5, 4)
    assert torch.equal(layer(lines), ordinary(lines))
    assert torch.equal(linear(lines, layer.weight, layer.bias, None), ordinary(lines))


def test_copies_start_apart_each_as_an_ordinary_layer_would() -> None:
    layer = Dense(100, 50, 8)
    assert float(layer.weight.detach().abs().max()) <= 0.1
    assert float(layer.weight.detach().std()) == pytest.approx(0.1 / 3**0.5, rel=0.02)
    assert len({float(copy[0, 0]) for copy in layer.weight.detach()}) == 8
    layer.start(lambda weight: nn.init.orthogonal_(weight, 2.0))
    for copy in layer.weight.detach():
        np.testing.assert_allclose(copy @ copy.T, 4 * np.eye(50), atol=1e-4)


def test_a_plain_parameter_is_shared_or_the_owners() -> None:
    owner, _ = drawn(7, 4)
    table = torch.arange(8.0).reshape(4, 2)
    assert torch.equal(own_of(table, Owners.of(owner, 4), 7), table[owner])
    assert torch.equal(own_of(table[0], None, 7), table[0].expand(7, 2))
