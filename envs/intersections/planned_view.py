"""What the two levels of a planned world see: tokens of planners, and of the signals' phases beside the plan."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fedsched.envs.core import KindSpec, Tokens, WorldSpec
from fedsched.envs.intersections.chains import Chain
from fedsched.envs.intersections.plans import PLANS, SPLITS, WAVES, Planner, Plans

PLANNER = "planner"
PLAN_FEATURES = ("planned", "owed")
"""Of a phase: whether the plan shows it now; share of the running cycle that it was granted less what it got."""
OWN_FEATURES = ("flow", "log_queue", "load", "signals", "hour_sin", "hour_cos")
SIGNAL_FEATURES = ("flow", "log_queue", "load", "main_share", "along_share")
CHOICE_FEATURES = ("current", "none", *SPLITS[1:], *WAVES[1:], "cycle", "load", "led")
"""Of a plan: flags, cycle in 100 s, greatest share of its green that a movement needs, share of the chain's traffic
in the direction of the wave."""


def planned_spec(spec: WorldSpec, chains: Sequence[Chain]) -> WorldSpec:
    """The spec of a world of signals with planners beside them."""
    [signal] = spec.kinds
    signal = replace(signal, action=(*signal.action, *PLAN_FEATURES))
    most = max(len(way.signals) for way in chains)
    relation = np.zeros((len(chains), len(PLANS) + 1, most), dtype=np.bool_)
    for p, way in enumerate(chains):
        relation[p, 1 : len(PLANS), : len(way.signals)] = True
    planner = KindSpec(
        name=PLANNER,
        agents=tuple(f"chain {signal.agents[way.signals[0]]}" for way in chains),
        own=OWN_FEATURES,
        entity=SIGNAL_FEATURES,
        entities=most,
        action=CHOICE_FEATURES,
        actions=len(PLANS) + 1,
        idle=len(PLANS),
        relation=relation,
    )
    neighbours = np.pad(spec.neighbours, ((0, len(chains)), (0, 0)), constant_values=-1)
    site = spec.site
    if site is not None:
        site = np.concatenate([site, site[[way.signals[0] for way in chains]]])
    return replace(spec, kinds=(signal, planner), neighbours=neighbours, site=site)


class PlannerView:
    """Makes the tokens of planners; P chains of up to E signals.

    Args:
        planner: Of the signals.
        chains: Of these.
        device: Where it computes.
    """

    def __init__(self, planner: Planner, chains: Sequence[Chain], device: str = "cpu") -> None:
        self._planner = planner
        most = max(len(way.signals) for way in chains)
        place = [[*way.signals, *[0] * (most - len(way.signals))] for way in chains]
        self._place = torch.tensor(place, device=device)
        self.there = torch.tensor([[n < len(way.signals) for n in range(most)] for way in chains], device=device)
        legal = torch.ones((len(chains), len(PLANS)), dtype=torch.bool)
        legal[:, 1:] = planner.waves.cpu().repeat(1, len(SPLITS))
        self.legal = legal.to(device)
        flags = torch.zeros((len(PLANS), len(CHOICE_FEATURES)), device=device)
        flags[0, CHOICE_FEATURES.index("none")] = 1.0
        for k, name in enumerate(PLANS):
            for part in name.split("-"):
                if part in CHOICE_FEATURES:
                    flags[k, CHOICE_FEATURES.index(part)] = 1.0
        self._flags = flags

    def own_and_signals(
        self, flow: torch.Tensor, queue: torch.Tensor, load: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Own features but for the hour [B, P, 4], and those of the signals, [B, P, E, Fe].

        Args:
            flow: float64 [B, A, E], vehicles/s that want to pass.
            queue: float64 [B, A, E], vehicles that halted in the mean.
            load: float64 [B, A], Webster's Y.
        """
        whole, halted = flow.sum(-1), queue.sum(-1)
        along, against = ((flow * main).sum(-1) for main in self._planner.main)
        both = along + against
        features = torch.stack(
            [
                2.0 * whole,
                halted.log1p() / 4.0,
                load.clamp(max=2.0),
                both / whole.clamp(min=1e-9),
                torch.where(both > 0, along / both.clamp(min=1e-9), 0.5),
            ],
            -1,
        )
        seen = features[:, self._place] * self.there[..., None]
        count = self.there.sum(1)
        total = halted[:, self._place] * self.there
        own = [
            seen[..., 0].sum(-1) / count,
            (total.sum(-1) / count).log1p() / 4.0,
            seen[..., 2].amax(-1),
            (count / 16.0).expand(flow.shape[0], -1),
        ]
        return torch.stack(own, -1).float(), seen.float()

    def choices(self, plans: Plans, flow: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Features of all plans and of `keep`, float32 [B, P, K + 1, Fa]; `chosen` int64 [B, P] runs now."""
        batch, chains = chosen.shape
        found = self._flags.expand(batch, chains, -1, -1).clone()
        found.scatter_(2, chosen[:, :, None, None].expand(-1, -1, -1, 1), 1.0)  # `current` is the first
        there = self.there[..., None]
        cycle = (plans.cycle[:, self._place] * there).sum(2) / there.sum(1)
        found[..., CHOICE_FEATURES.index("cycle")] = cycle.float() / 100.0
        load = (plans.load[:, self._place] * there).amax(2)
        found[..., CHOICE_FEATURES.index("load")] = load.clamp(max=2.0).float()
        along, against = (((flow * main).sum(-1)[:, self._place] * self.there).sum(-1) for main in self._planner.main)
        share = torch.stack([along, against], -1) / (along + against).clamp(min=1e-9)[..., None]
        waves = self._flags[:, [CHOICE_FEATURES.index(name) for name in WAVES[1:]]]
        found[..., CHOICE_FEATURES.index("led")] = share.float() @ waves.T
        return torch.nn.functional.pad(found, (0, 0, 0, 1))


def with_plan(tokens: Tokens, planned: torch.Tensor, owed: torch.Tensor) -> Tokens:
    """Tokens of signals whose phases carry `planned` and `owed`, float32 [B, A, N] each; `keep` has zeros."""
    beside = torch.nn.functional.pad(torch.stack([planned, owed], -1), (0, 0, 0, 1))
    return replace(tokens, actions=torch.cat([tokens.actions, beside], -1))
