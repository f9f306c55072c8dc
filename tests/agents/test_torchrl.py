"""The same batch through TorchRL's loss and estimator and through ours.

TorchRL is an oracle here and never a dependency: without it these tests are skipped. They run in any environment that
has it, with the root of the checkout on the path:

    pip install torchrl pytest numpy pettingzoo gymnasium
    PYTHONPATH=. python -m pytest tests/agents/test_torchrl.py
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fedsched.agents.advantage import gae
from fedsched.agents.collect import collect
from fedsched.agents.config import PolicyConfig
from fedsched.agents.experience import Experience
from fedsched.agents.policy import Policy, critic_input
from fedsched.agents.ppo import PpoConfig, Terms, loss_terms

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def torchrl() -> Any:
    """The library, where it is installed."""
    return pytest.importorskip("torchrl", exc_type=ImportError)


@pytest.fixture
def batch(queue: Callable[..., Any]) -> tuple[Policy, Experience]:
    """A policy that has moved away from the one that acted, and what that one did."""
    world = queue(40, jobs=5, agents=2)
    policy = Policy(world.spec, PolicyConfig(critic="central"))
    rows, no = torch.arange(40), torch.zeros(40, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    taken = collect(policy, world, rows, rows, generator, no, rows).taken["server"]
    assert taken.value is not None
    advantage, noise = torch.randn(2, len(taken.decisions), generator=generator)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    value, returns = taken.value, taken.value + noise
    return policy, Experience(taken.decisions, taken.choice, taken.log_prob, advantage, value, returns)


class Padded(nn.Module):
    """Our policy's scores as a table with a mask; what the mask forbids scores high, and every line is shifted."""

    def __init__(self, policy: Policy, experience: Experience) -> None:
        super().__init__()
        self.policy, self.experience = policy, experience

    def forward(self, _line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        decisions = self.experience.decisions
        ours = self.policy.judge({"server": decisions}).distribution["server"]
        place = torch.arange(decisions.rows.shape[0]) - decisions.pointers[ours.segment]
        width = int(decisions.pointers.diff().max())
        logits = torch.full((len(decisions), width), 50.0).index_put((ours.segment, place), ours.log_probs)
        mask = torch.arange(width) < decisions.pointers.diff()[:, None]
        return logits + torch.arange(len(decisions))[:, None] % 7, mask


class Value(nn.Module):
    """Our critic's normalised value."""

    def __init__(self, policy: Policy, experience: Experience) -> None:
        super().__init__()
        self.policy, self.experience = policy, experience

    def forward(self, _line: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.policy.critic("server")(critic_input(self.experience.decisions))
        return value[:, None]


def theirs(policy: Policy, part: Experience, kind: str, clip_value: float | None) -> dict[str, torch.Tensor]:
    """TorchRL's losses on our batch."""
    from tensordict import TensorDict
    from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
    from torchrl.modules import MaskedCategorical
    from torchrl.objectives import ClipPPOLoss

    choose = ProbabilisticTensorDictModule(
        in_keys=["logits", "mask"], out_keys=["action"], distribution_class=MaskedCategorical, return_log_prob=True
    )
    score = TensorDictModule(Padded(policy, part), in_keys=["line"], out_keys=["logits", "mask"])
    judge = TensorDictModule(Value(policy, part), in_keys=["line"], out_keys=["state_value"])
    loss = ClipPPOLoss(
        ProbabilisticTensorDictSequential(score, choose), judge, clip_epsilon=0.2, entropy_coeff=1.0, critic_coeff=1.0,
        loss_critic_type=kind, clip_value=clip_value, functional=False,
    )  # fmt: skip
    assert part.value is not None
    assert part.returns is not None
    critic, lines = policy.critic("server"), len(part.decisions)
    table = {
        "line": torch.arange(lines),
        "action": part.choice,
        "action_log_prob": part.log_prob,
        "advantage": part.advantage[:, None],
        "state_value": critic.normalise(part.value)[:, None],
        "value_target": critic.normalise(part.returns)[:, None],
    }
    found: dict[str, torch.Tensor] = dict(loss(TensorDict(table, batch_size=[lines])).items())
    return found


def gradient(policy: Policy, loss: torch.Tensor) -> torch.Tensor:
    """All parameters' gradients of a loss, in one line."""
    found = torch.autograd.grad(loss, list(policy.parameters()), retain_graph=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in found])


@pytest.mark.usefixtures("torchrl")
@pytest.mark.parametrize("clip_value", [None, 0.2])
@pytest.mark.parametrize(("kind", "huber", "factor"), [("l2", None, 2.0), ("smooth_l1", 1.0, 1.0)])
def test_losses_and_gradients_are_torchrls(
    batch: tuple[Policy, Experience], kind: str, huber: float | None, factor: float, clip_value: float | None
) -> None:
    """Its squared loss has no half in it; its Huber loss has delta 1."""
    policy, part = batch
    config = PpoConfig(clip=0.2, value_clip=clip_value is not None, huber=huber)
    ours: Terms = loss_terms(policy, {"server": part}, config)
    other = theirs(policy, part, kind, clip_value)
    pairs = {
        "loss_objective": ours.policy,
        "loss_critic": factor * ours.value,
        "loss_entropy": -ours.entropy,
    }
    for name, mine in pairs.items():
        torch.testing.assert_close(mine, other[name], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gradient(policy, mine), gradient(policy, other[name]), atol=1e-5, rtol=1e-5)
    assert float(ours.clip_fraction) == pytest.approx(float(other["clip_fraction"]))
    assert 0.05 < float(ours.clip_fraction) < 0.95


@pytest.mark.usefixtures("torchrl")
@pytest.mark.parametrize("lam", [0.5, 0.95, 1.0])
def test_advantages_are_torchrls_where_episodes_terminate_and_are_cut_off_inside(lam: float) -> None:
    from torchrl.objectives.value.functional import vec_generalized_advantage_estimate

    generator = torch.Generator().manual_seed(0)
    rows, steps = 5, 40
    reward, value, after = torch.randn(3, rows, steps, generator=generator)
    cut, terminated = torch.rand(2, rows, steps, generator=generator) < 0.1
    done = cut | terminated
    done[:, -1] = True
    # inside an episode the next value is the value of the next step, at its end that of its last observation
    following = torch.where(done, after, value.roll(-1, 1))
    expected, _ = vec_generalized_advantage_estimate(
        0.95, lam, *(t[..., None] for t in (value, following, reward, done, terminated))
    )
    episode = (done.reshape(-1).cumsum(0) - done.reshape(-1).long()).reshape(rows, steps)
    bootstrap = after.masked_fill(terminated, 0.0)[done]
    order = torch.arange(rows * steps).reshape(rows, steps).T.reshape(-1)  # step by step, as rollouts are
    found = gae(*(t.reshape(-1)[order] for t in (reward, value, torch.full_like(value, 0.95), episode)), bootstrap, lam)
    torch.testing.assert_close(found, expected[..., 0].reshape(-1)[order], atol=1e-5, rtol=1e-5)
