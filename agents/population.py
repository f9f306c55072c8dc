"""A population of linear scores that plays many candidates in one batch of a world."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from fedsched.agents.collect import idle_actions, play
from fedsched.agents.decisions import AgentError, gather
from fedsched.agents.network import SKIP_SCALE
from fedsched.agents.policy import Policy
from fedsched.agents.segments import segment_argmax
from fedsched.envs.core import KindSpec, Observation, Tokens, World, WorldSpec

FloatArray = npt.NDArray[np.float64]


def linear_weights(policy: Policy, *kinds: str) -> FloatArray:
    """The linear terms of kinds in units of score: where a search starts.

    Each is flattened, [(1 + gates) * features]; those of several kinds follow one another. Of agents that own their
    parameters, the first one's: before learning all have the same.
    """
    skips = [policy.choosing(kind).skip.detach() for kind in kinds]
    firsts = [skip.reshape(-1, *skip.shape[-2:])[0].cpu().numpy().astype(np.float64) for skip in skips]
    return np.concatenate([first.reshape(-1) for first in firsts]) * SKIP_SCALE


@torch.no_grad()
def set_linear_weights(policy: Policy, kinds: str | Sequence[str], weights: FloatArray) -> None:
    """Overwrites the linear terms of kinds, of every agent, with weights in units of score as from `linear_weights`."""
    kinds = [kinds] if isinstance(kinds, str) else kinds
    for kind, part in zip(kinds, _parts(policy, kinds, weights), strict=True):
        skip = policy.choosing(kind).skip
        skip.copy_(torch.from_numpy(part / SKIP_SCALE).reshape(skip.shape[-2:]))


def _parts(policy: Policy, kinds: Sequence[str], weights: FloatArray) -> list[FloatArray]:
    """Weights [..., n] of several kinds, kind by kind."""
    shapes = [policy.choosing(kind).skip.shape[-2:] for kind in kinds]
    ends = np.cumsum([shape.numel() for shape in shapes])
    if weights.shape[-1] != ends[-1]:
        raise AgentError(f"{weights.shape[-1]} linear weights; the policy has {ends[-1]} for {', '.join(kinds)}")
    return list(np.split(weights, ends[:-1], -1))


class LinearPopulation:
    """Acts greedily by linear scores alone, each candidate in its own rows of a batch."""

    def __init__(self, policy: Policy, spec: WorldSpec, batch: int, candidates: FloatArray, device: str) -> None:
        """Candidates [P, n], as from `linear_weights` of all kinds, take B / P neighbouring rows each.

        Raises:
            AgentError: A batch that P does not divide, or candidates of another length.
        """
        if batch % candidates.shape[0]:
            raise AgentError(f"{candidates.shape[0]} candidates cannot share {batch} rows equally")
        names = [kind.name for kind in spec.kinds]
        self._kinds = [
            _Candidates(kind, policy, part, batch // candidates.shape[0], device)
            for kind, part in zip(spec.kinds, _parts(policy, names, candidates), strict=True)
        ]
        self._idle = idle_actions(spec, batch, device)

    @torch.no_grad()
    def __call__(self, observation: Observation) -> dict[str, torch.Tensor]:
        """Actions int64 [B, A] by kind."""
        return {
            one.kind.name: one.choose(observation.kinds[one.kind.name], self._idle[one.kind.name])
            for one in self._kinds
        }


class _Candidates:
    """Candidates' scores of one kind."""

    def __init__(self, kind: KindSpec, policy: Policy, weights: FloatArray, rows_each: int, device: str) -> None:
        self.kind, self._rows_each = kind, rows_each
        network = policy.choosing(kind.name)
        self._gate = network.gate
        shape = (weights.shape[0], *network.skip.shape[-2:])
        self._weights = torch.from_numpy(np.ascontiguousarray(weights)).to(device, torch.float32).reshape(shape)

    def choose(self, tokens: Tokens, idle: torch.Tensor) -> torch.Tensor:
        """The action of the highest score of every active agent, `idle` [B, A] of the others."""
        if not bool(tokens.active.any()):
            return idle
        found, place, action = gather(tokens, self.kind, 0, "no", None)
        weights = self._weights[torch.div(found.moment, self._rows_each, rounding_mode="floor")]
        gates = found.own.index_select(1, self._gate)[:, :, None]
        linear = weights[:, 0] + (weights[:, 1:] * gates).sum(1)
        segment = found.segment()
        scores = (found.rows * linear.index_select(0, segment)).sum(1)
        picked = action.index_select(0, segment_argmax(scores, segment, len(found)))
        return idle.reshape(-1).index_copy(0, place, picked).reshape(idle.shape)


def play_population(
    policy: Policy, candidates: FloatArray, world: World, instances: torch.Tensor, seeds: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Metrics of every candidate on every instance.

    Args:
        policy: Names the gates and features of the linear term; its weights do not matter.
        candidates: float64 [P, n], as from `Cma.ask`.
        world: Of batch P * I.
        instances: int64 [I].
        seeds: int64 [I].

    Returns:
        The world's metrics, each [P, I].
    """
    count = candidates.shape[0]
    act = LinearPopulation(policy, world.spec, world.batch, candidates, world.device)
    metrics = play(world, instances.repeat(count), seeds.repeat(count), act)
    return {name: values.reshape(count, -1) for name, values in metrics.items()}
