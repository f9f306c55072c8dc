"""Rules for environments of which nothing is known."""

import numpy as np
import torch

from fedsched.envs.core import Controller, KindSpec, Observation, Reads, Tokens, World, WorldSpec, stream


class RandomActions:
    """Any legal action with equal probability; vectors uniformly between their bounds."""

    name = "random"
    reads: Reads = "observation"

    def reset(self, world: World) -> None:
        """Draws the same again in the next episodes of the batch."""
        self._spec: WorldSpec = world.spec
        self._rng = stream(0, "foreign/random-rule")

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """Actions by kind; the idle action for inactive agents."""
        return {kind.name: self._draw(kind, observation.kinds[kind.name]) for kind in self._spec.kinds}

    def _draw(self, kind: KindSpec, tokens: Tokens) -> torch.Tensor:
        if kind.bounds is not None:
            shape = (*tokens.active.shape, len(kind.bounds[0]))
            drawn = torch.from_numpy(self._rng.uniform(*kind.bounds, size=shape).astype(np.float32))
            low, high = (torch.from_numpy(side) for side in kind.bounds)
            return torch.where(tokens.active[:, :, None], drawn.clamp(low, high), torch.zeros(()).clamp(low, high))
        noise = torch.from_numpy(self._rng.random(tokens.action_mask.shape))
        return noise.masked_fill(~tokens.action_mask, -1.0).argmax(2)


class FirstAction:
    """The first legal action, which often means to stay; of vectors the one nearest to zero."""

    name = "first"
    reads: Reads = "observation"

    def reset(self, world: World) -> None:
        """Notes the kinds."""
        self._spec: WorldSpec = world.spec

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """Actions by kind."""
        return {kind.name: self._first(kind, observation.kinds[kind.name]) for kind in self._spec.kinds}

    def _first(self, kind: KindSpec, tokens: Tokens) -> torch.Tensor:
        if kind.bounds is None:
            return tokens.action_mask.int().argmax(2)
        low, high = (torch.from_numpy(side) for side in kind.bounds)
        return torch.zeros(()).clamp(low, high).expand(*tokens.active.shape, -1)


RULES: dict[str, type[RandomActions | FirstAction]] = {"random": RandomActions, "first": FirstAction}
"""The rules that `best-rule` is chosen from."""


def controller(rule: str) -> Controller:
    """The rule of that name."""
    return RULES[rule]()
