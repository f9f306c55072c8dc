"""The same batch through TorchRL's loss and estimator and through ours.

TorchRL is an oracle here and never a dependency: without it these tests are skipped. They run in any environment that
has it, with the root of the checkout on the path:

    pip install torchrl pytest numpy pettingzoo gymnasium
    PYTHONPATH=. python -m pytest tests/agents/test_torchrl.py
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsched.agents.advantage import gae
from fedsched.agents.collect import collect
from fedsched.agents.config import PolicyConfig
from fedsched.agents.decisions import Decisions
from fedsched.agents.experience import Experience
from fedsched.agents.minibatches import Chunks
from fedsched.agents.policy import Policy, critic_input
from fedsched.agents.ppo import PpoConfig, Terms, loss_terms
from fedsched.agents.recall import judge_chunks
from fedsched.envs.core import KindSpec, WorldSpec

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def torchrl() -> Any:
    """The library, where it is installed."""
    return pytest.importorskip("torchrl", exc_type=ImportError)


@dataclass(frozen=True)
class Case:
    """A policy that has moved away from the one that acted, and what that one did; chunks where it remembers."""

    policy: Policy
    part: Experience
    chunks: Chunks | None = None

    @property
    def kind(self) -> str:
        """The only one that there is."""
        return next(iter(self.policy.kinds))


def move(policy: Policy, generator: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def choices(world: Any, memory: int) -> Case:
    """Choices among jobs; with memory in chunks of three steps."""
    policy = Policy(world.spec, PolicyConfig(critic="central", memory=memory))
    rows, no, generator = torch.arange(40), torch.zeros(40, dtype=torch.bool), torch.Generator().manual_seed(0)
    rollouts = collect(policy, world, rows, rows, generator, no, rows)
    taken = rollouts.taken["server"]
    assert taken.value is not None
    advantage, noise = torch.randn(2, len(taken.decisions), generator=generator)
    move(policy, generator)
    part = Experience(taken.decisions, taken.choice, taken.log_prob, advantage, taken.value, taken.value + noise)
    chunks = Chunks.of([(rollouts.times.shape[0] - 1, rollouts.batch)], 3) if memory else None
    return Case(policy, part, chunks)


@torch.no_grad()
def vectors() -> Case:
    """Vectors of two numbers, of agents that own their parameters."""
    count, generator = 200, torch.Generator().manual_seed(0)
    bounds = np.array([-2.0, 0.0], dtype=np.float32), np.array([2.0, 1.0], dtype=np.float32)
    kind = KindSpec("arm", ("arm0", "arm1"), own=("x", "y"), bounds=bounds)
    spec = WorldSpec("aim", (kind,), np.zeros((2, 0), dtype=np.int64), ("miss",), ("miss",))
    policy = Policy(spec, PolicyConfig(messages=None, critic="independent", sharing="agent"))
    line, own = torch.arange(count), torch.randn(count, 2, generator=generator)
    empty = torch.zeros(count + 1, dtype=torch.int64)
    decisions = Decisions(
        own, torch.zeros(0, 0), empty, torch.div(line, 2, rounding_mode="floor"), line % 2, critic=own
    )
    before = policy.judge({"arm": decisions}).distribution["arm"]
    choice = before.sample(generator)
    advantage, value, returns = torch.randn(3, count, generator=generator)
    move(policy, generator)
    return Case(policy, Experience(decisions, choice, before.log_prob(choice), advantage, value, returns))


@pytest.fixture(params=["choices", "memory", "vectors"])
def case(request: pytest.FixtureRequest, queue: Callable[..., Any]) -> Case:
    if request.param == "vectors":
        return vectors()
    return choices(queue(40, jobs=5, agents=2), memory=8 if request.param == "memory" else 0)


class Padded(nn.Module):
    """Our policy's scores as a table with a mask; what the mask forbids scores high, and every line is shifted."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def forward(self, _line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        decisions = self.case.part.decisions
        counts = decisions.pointers.diff()
        width = int(counts.max())
        mask = torch.arange(width) < counts[:, None]
        logits = torch.full(mask.shape, 50.0).index_put((mask.nonzero(as_tuple=True)), self._scores(decisions))
        return logits + torch.arange(len(decisions))[:, None] % 7, mask

    def _scores(self, decisions: Decisions) -> torch.Tensor:
        """Of all rows in their order; a policy with memory judges them step by step."""
        policy, kind, chunks = self.case.policy, self.case.kind, self.case.chunks
        if chunks is None:
            return policy.judge({kind: decisions}).distribution[kind].log_probs
        parts: list[torch.Tensor] = [torch.empty(0)] * len(decisions)
        for judged, chosen in judge_chunks(policy, {kind: decisions}, chunks):
            found = judged.distribution[kind]
            for line, scores in zip(
                chosen[kind].tolist(), found.log_probs.split(found.pointers.diff().tolist()), strict=True
            ):
                parts[line] = scores
        return torch.cat(parts)


class Spread(nn.Module):
    """Means and deviations of our policy's vectors."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def forward(self, _line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.case.policy.judge({self.case.kind: self.case.part.decisions}).distribution[self.case.kind]
        return found.mean, found.log_std.exp()


class Value(nn.Module):
    """Our critic's normalised value."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def forward(self, _line: torch.Tensor) -> torch.Tensor:
        decisions, policy = self.case.part.decisions, self.case.policy
        owners = policy.network(self.case.kind).owners(decisions)
        value: torch.Tensor = policy.critic(self.case.kind)(critic_input(decisions), owners)
        return value[:, None]


def actor(case: Case) -> Any:
    """TorchRL's distributions of our policy's scores, or of its means and deviations."""
    from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
    from torchrl.modules import IndependentNormal, MaskedCategorical

    vector = case.part.choice.dim() == 2
    keys = ["loc", "scale"] if vector else ["logits", "mask"]
    choose = ProbabilisticTensorDictModule(
        in_keys=keys,
        out_keys=["action"],
        distribution_class=IndependentNormal if vector else MaskedCategorical,
        return_log_prob=True,
    )
    score = TensorDictModule(Spread(case) if vector else Padded(case), in_keys=["line"], out_keys=keys)
    return ProbabilisticTensorDictSequential(score, choose)


def theirs(case: Case, kind: str, clip_value: float | None) -> dict[str, torch.Tensor]:
    """TorchRL's losses on our batch."""
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl.objectives import ClipPPOLoss

    judge, part = TensorDictModule(Value(case), in_keys=["line"], out_keys=["state_value"]), case.part
    loss = ClipPPOLoss(
        actor(case), judge, clip_epsilon=0.2, entropy_coeff=1.0, critic_coeff=1.0, loss_critic_type=kind,
        clip_value=clip_value, functional=False,
    )  # fmt: skip
    assert part.value is not None
    assert part.returns is not None
    critic, lines = case.policy.critic(case.kind), len(part.decisions)
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
@pytest.mark.parametrize(("loss", "huber", "factor"), [("l2", None, 2.0), ("smooth_l1", 1.0, 1.0)])
def test_losses_and_gradients_are_torchrls(
    case: Case, loss: str, huber: float | None, factor: float, clip_value: float | None
) -> None:
    """Its squared loss has no half in it; its Huber loss has delta 1."""
    config = PpoConfig(clip=0.2, value_clip=clip_value is not None, huber=huber)
    ours: Terms = loss_terms(case.policy, {case.kind: case.part}, config, case.chunks)
    other = theirs(case, loss, clip_value)
    pairs = {
        "loss_objective": ours.policy,
        "loss_critic": factor * ours.value,
        "loss_entropy": -ours.entropy,
    }
    for name, mine in pairs.items():
        torch.testing.assert_close(mine, other[name], atol=1e-5, rtol=1e-5)
        found, expected = gradient(case.policy, mine), gradient(case.policy, other[name])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
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
