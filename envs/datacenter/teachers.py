"""Dispatch rules that read what the agents see and nothing else: whoever imitates them can do as they do."""

import torch

from fedsched.envs.core import Observation, Reads, World
from fedsched.envs.core.names import unknown_name
from fedsched.envs.datacenter.model import DatacenterError
from fedsched.envs.datacenter.rules import EASY
from fedsched.envs.datacenter.world import HOLD_ACTION, JOB_FEATURES, KIND, OWN_FEATURES, DatacenterWorld

TEACHERS = tuple(f"{rule}{easy}" for rule in ("fcfs", "sjf", "saf", "wfp3", "unicep") for easy in ("", EASY))
"""The rules that observations tell enough for; F1 to F4 rank by absolute times, which no agent sees."""

_TINY = 1e-15


class SeenRule:
    """A dispatch rule on the features of the jobs, with EASY backfilling where its name ends in `-easy`.

    It decides as `RuleController` does, but for jobs that the features' float32 cannot tell apart: the first to arrive
    goes then. Contract: `envs.core.Controller`.

    Args:
        name: One of TEACHERS.

    Raises:
        DatacenterError: Another name; the message suggests the nearest one.
    """

    reads: Reads = "observation"

    def __init__(self, name: str) -> None:
        if name not in TEACHERS:
            raise DatacenterError(unknown_name("teacher", name, TEACHERS))
        self.name = name
        self._rule, self._easy = name.removesuffix(EASY), name.endswith(EASY)

    def reset(self, world: World) -> None:
        """Checks the world; raises DatacenterError where it is no data centre."""
        if not isinstance(world, DatacenterWorld):
            raise DatacenterError(f"{self.name} schedules data centres, not {world.spec.name}")

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """The rule's pick for every cluster that must decide, hold for the others; int64 [B, C] by kind."""
        tokens = observation.kinds[KIND]
        legal = tokens.action_mask[:, :, :HOLD_ACTION] & tokens.active[:, :, None]
        if not self._easy:
            legal = legal & (tokens.own[:, :, OWN_FEATURES.index("stage")] == 0.0)[:, :, None]
        slot = priority(self._rule, tokens.entities).masked_fill(~legal, torch.inf).argmin(2)
        return {KIND: slot.masked_fill(~legal.any(2), HOLD_ACTION)}


def priority(rule: str, jobs: torch.Tensor) -> torch.Tensor:
    """What ranks jobs as the rule does, float64 [...] of features [..., Fe]; the smallest goes first.

    A cluster's speed, by which it sees estimates divided, changes no order.
    """
    feature = {name: jobs[..., k] for k, name in enumerate(JOB_FEATURES)}
    if rule == "fcfs":
        return -feature["log_wait"].double()
    if rule == "sjf":
        return feature["log_estimate"].double()
    if rule == "saf":
        return feature["log_area"].double()
    processors = _unscaled(feature["log_width"]).round()
    if rule == "wfp3":
        return -(_unscaled(feature["log_slowdown"]) ** 3) * processors
    # the tiny terms rank jobs of one processor, also before they have waited
    work = torch.log2(processors.clamp(min=1.0 + _TINY)) * _unscaled(feature["log_estimate"])
    return -(_unscaled(feature["log_wait"]) + _TINY) / work


def _unscaled(feature: torch.Tensor) -> torch.Tensor:
    """The x of a feature ln(1 + x) / 16."""
    return torch.expm1(feature.double() * 16.0)
