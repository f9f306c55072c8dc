"""Random tokens of a kind whose actions concern several entities, some of which see only some others."""

import numpy as np
import torch

from fedsched.envs.core import KindSpec, Tokens

AGENTS, SLOTS, ACTIONS = 3, 7, 5


def kind(linked: bool = True, identity: bool = False, slots: int = SLOTS) -> KindSpec:
    """A kind of three agents with up to seven entities and five actions."""
    rng = np.random.default_rng(3)
    return KindSpec(
        name="crossing",
        agents=tuple(f"crossing{a}" for a in range(AGENTS)),
        own=("clock", "load"),
        entity=("queue", "speed", "room"),
        entities=slots,
        action=("current", "hold"),
        actions=ACTIONS,
        idle=0,
        relation="identity" if identity else rng.random((AGENTS, ACTIONS, slots)) < 0.4,
        links=rng.random((AGENTS, slots, slots)) < 0.3 if linked else None,
    )


def tokens(kind: KindSpec, batch: int = 4, seed: int = 0, live: float = 0.6) -> Tokens:
    """Random ones; the first agent of the first world sees nothing, the last one of it does not decide."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, len(kind.agents))
    mask = torch.rand(*shape, kind.entities, generator=generator) < live
    mask[0, 0] = False
    legal = torch.rand(*shape, kind.actions, generator=generator) < 0.6
    legal[..., -1] = True
    active = torch.ones(shape, dtype=torch.bool)
    active[0, -1] = False
    return Tokens(
        own=torch.randn(*shape, len(kind.own), generator=generator),
        entities=torch.randn(*shape, kind.entities, len(kind.entity), generator=generator) * mask[..., None],
        entity_mask=mask,
        actions=torch.randn(*shape, kind.actions, len(kind.action), generator=generator),
        action_mask=legal,
        active=active,
        alive=torch.ones(shape, dtype=torch.bool),
    )
