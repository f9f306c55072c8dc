"""Parameters as they cross to federation: a plain dict of float32 arrays by name."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fedsched.agents.decisions import AgentError


def parameters_to_numpy(module: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """Copies of all parameters by name; buffers (normaliser statistics) stay at home."""
    return {name: p.detach().cpu().numpy().astype(np.float32) for name, p in module.named_parameters()}


def require_same_shapes(
    own: Mapping[str, torch.Tensor], given: Mapping[str, npt.NDArray[np.float32]] | Mapping[str, torch.Tensor]
) -> None:
    """Raises AgentError where names or shapes of `given` differ from those of a policy's `own` numbers."""
    strange = [f"{name} is missing" for name in sorted(own.keys() - given.keys())]
    strange += [f"{name} is unknown" for name in sorted(given.keys() - own.keys())]
    for name in sorted(own.keys() & given.keys()):
        here, there = tuple(own[name].shape), tuple(given[name].shape)
        if here != there:
            strange.append(f"{name} has shape {there}, the policy {here}")
    if strange:
        raise AgentError(
            f"these parameters are of another policy, one with other settings of encoder, sharing, messages or critic, "
            f"or of a world with other features or agents: {'; '.join(strange)}"
        )


@torch.no_grad()
def parameters_from_numpy(module: nn.Module, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Overwrites all parameters.

    Raises:
        AgentError: Names or shapes differ from the module's, or a number is not finite; nothing is changed then.
    """
    own = dict(module.named_parameters())
    require_same_shapes(own, arrays)
    wild = [name for name in own if not np.isfinite(arrays[name]).all()]
    if wild:
        raise AgentError(f"parameters that are not finite: {', '.join(wild)}; take those of an earlier round")
    for name, parameter in own.items():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name], dtype=np.float32)))


@torch.no_grad()
def move_towards(target: nn.Module, source: nn.Module, step: float) -> None:
    """Moves every parameter, target += step * (source - target) ; buffers are copied."""
    fresh = dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        parameter.lerp_(fresh[name], step)
    buffers = dict(source.named_buffers())
    for name, buffer in target.named_buffers():
        buffer.copy_(buffers[name])
