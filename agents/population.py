"""A population of linear scores that plays many candidates in one batch of a world."""

import numpy as np
import numpy.typing as npt
import torch

from fedsched.agents.collect import idle_actions, play
from fedsched.agents.decisions import AgentError, gather
from fedsched.agents.network import SKIP_SCALE
from fedsched.agents.policy import Policy
from fedsched.agents.segments import segment_argmax
from fedsched.envs.core import Observation, World, WorldSpec

FloatArray = npt.NDArray[np.float64]


def linear_weights(policy: Policy, kind: str) -> FloatArray:
    """The linear term of a kind in units of score, flattened [(1 + gates) * features]: where a search starts.

    Of agents that own their parameters, the first one's: before learning all have the same.
    """
    skip = policy.choosing(kind).skip.detach()
    weights = skip.reshape(-1, *skip.shape[-2:])[0].cpu().numpy().astype(np.float64)
    return np.asarray(weights.reshape(-1) * SKIP_SCALE)


@torch.no_grad()
def set_linear_weights(policy: Policy, kind: str, weights: FloatArray) -> None:
    """Overwrites the linear term of a kind, of every agent, with weights in units of score as from `linear_weights`."""
    skip = policy.choosing(kind).skip
    skip.copy_(torch.from_numpy(weights / SKIP_SCALE).reshape(skip.shape[-2:]))


class LinearPopulation:
    """Acts greedily by linear scores alone, each candidate in its own rows of a batch."""

    def __init__(self, policy: Policy, spec: WorldSpec, batch: int, candidates: FloatArray, device: str) -> None:
        """Candidates [P, (1 + gates) * features] take B / P neighbouring rows each.

        Raises:
            AgentError: A world with several kinds, or a batch that P does not divide.
        """
        if len(spec.kinds) != 1:
            raise AgentError(f"{spec.name} has {len(spec.kinds)} kinds; a linear population plays worlds with one")
        if batch % candidates.shape[0]:
            raise AgentError(f"{candidates.shape[0]} candidates cannot share {batch} rows equally")
        self._kind = spec.kinds[0]
        network = policy.choosing(self._kind.name)
        self._gate = network.gate
        shape = (candidates.shape[0], *network.skip.shape[-2:])
        self._weights = torch.from_numpy(candidates).to(device, torch.float32).reshape(shape)
        self._rows_each = batch // candidates.shape[0]
        self._idle = idle_actions(spec, batch, device)[self._kind.name]

    @torch.no_grad()
    def __call__(self, observation: Observation) -> dict[str, torch.Tensor]:
        """Actions int64 [B, A] by kind."""
        found, place, action = gather(observation.kinds[self._kind.name], self._kind, 0, "no", None)
        weights = self._weights[torch.div(found.moment, self._rows_each, rounding_mode="floor")]
        gates = found.own.index_select(1, self._gate)[:, :, None]
        linear = weights[:, 0] + (weights[:, 1:] * gates).sum(1)
        segment = found.segment()
        scores = (found.rows * linear.index_select(0, segment)).sum(1)
        picked = action.index_select(0, segment_argmax(scores, segment, len(found)))
        return {self._kind.name: self._idle.reshape(-1).index_copy(0, place, picked).reshape(self._idle.shape)}


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
