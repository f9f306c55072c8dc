"""Branches: what every legal action of some decisions would have led to.

At some moments of an episode the world is copied once for every legal action of some agents. Each copy takes its action
there, everybody else does what the policy would, and the policy drives on until a horizon. Copies share the world's
randomness (common random numbers), so the difference of two costs is what the one decision made of it, for all agents
of the world and not only for who took it.

Source: the vine of Schulman et al. 2015, "Trust Region Policy Optimization", section 5.2, over all actions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from fedsched.agents.collect import Ended, idle_actions, quieten
from fedsched.agents.decisions import AgentError, Decisions, concatenate
from fedsched.agents.mailbox import Mailbox
from fedsched.agents.policy import Policy
from fedsched.agents.segments import rows_of, segment_mean
from fedsched.agents.step import PolicyStep
from fedsched.envs.core import Branching, Observation


@dataclass(frozen=True)
class Branches:
    """What the actions of some decisions of one kind cost; the others stand beside them for their messages.

    Attributes:
        decisions: D decisions, all those of the moments at which something was tried.
        cost: float32 [R], of the row's action until the horizon less the mean over its decision; zero where untried.
        tried: bool [D], the decisions whose actions were tried.
    """

    decisions: Decisions
    cost: torch.Tensor
    tried: torch.Tensor

    def select(self, chosen: torch.Tensor) -> "Branches":
        """Some decisions, `chosen` int64 [C]."""
        rows, _ = rows_of(self.decisions.pointers, chosen)
        return Branches(self.decisions.select(chosen), self.cost.index_select(0, rows), self.tried[chosen])


@dataclass(frozen=True)
class Tried:
    """What was tried in the episodes of one world.

    Attributes:
        branches: By kind.
        moments: A bound on their moments.
        metrics: Of the episodes themselves, as the policy drove them, each [B].
    """

    branches: Mapping[str, Branches]
    moments: int
    metrics: Mapping[str, torch.Tensor]


def merge_branches(parts: Sequence[Tried]) -> tuple[dict[str, Branches], int]:
    """All branches by kind, the moments of each part behind those of the parts before; and a bound on them."""
    shifts = [sum(part.moments for part in parts[:k]) for k in range(len(parts))]
    merged = {}
    for name in sorted({name for part in parts for name in part.branches}):
        present = [(part.branches[name], by) for part, by in zip(parts, shifts, strict=True) if name in part.branches]
        merged[name] = Branches(
            concatenate([part.decisions for part, _ in present], [by for _, by in present]),
            torch.cat([part.cost for part, _ in present]),
            torch.cat([part.tried for part, _ in present]),
        )
    return merged, sum(part.moments for part in parts)


def require_forgetful(policy: Policy) -> None:
    """Raises AgentError for a policy with memory: what it would remember in a copy belongs to another episode."""
    if policy.config.memory:
        raise AgentError("a policy with memory cannot try out branches: set memory to 0")


@torch.no_grad()
def branch_out(
    policy: Policy,
    world: Branching,
    copies: Branching,
    instances: torch.Tensor,
    seeds: torch.Tensor,
    every: int,
    horizon_s: float,
    generator: torch.Generator,
) -> Tried:
    """Plays episodes greedily and tries the actions of as many decisions as there is room for, now and then.

    Args:
        policy: Drives the episodes and the copies.
        world: Reset here; B rows.
        copies: A world of the same problem, of any batch: the room for copies.
        instances: int64 [B].
        seeds: int64 [B].
        every: Steps from one moment of trying to the next; the first is drawn.
        horizon_s: How long copies are driven.
        generator: Draws moments and decisions.

    Raises:
        AgentError: A policy with memory, a kind with vector actions, or more actions of a decision than copies.
    """
    require_forgetful(policy)
    if any(kind.bounds is not None for kind in world.spec.kinds):
        raise AgentError(f"{world.spec.name}: vector actions cannot be tried out one by one")
    trial = _Trial(policy, copies, horizon_s, generator)
    place = world.spec, world.batch, world.device
    mailbox, idle, ended = policy.mailbox(*place), idle_actions(*place), Ended(*place)
    observation = world.reset(instances, seeds)
    number, first = 0, int(torch.randint(every, (1,), generator=generator, device=world.device))
    found: list[Tried] = []
    while not bool(ended.over.all()):
        step = policy(world.spec, quieten(observation, ended.over), None, mailbox)
        mailbox = step.mailbox
        actions = step.actions({name: part.mode() for name, part in step.distribution.items()}, idle)
        if number % every == first:
            found.append(Tried(trial(world, step, actions), world.batch, {}))
        moved = world.step(actions)
        ended.observe(moved)
        observation, number = moved.observation, number + 1
    branches, moments = merge_branches(found)
    return Tried(branches, moments, {name: values.clone() for name, values in world.metrics().items()})


class _Trial:
    """Tries actions in copies of a world."""

    def __init__(self, policy: Policy, copies: Branching, horizon_s: float, generator: torch.Generator) -> None:
        self._policy, self._copies, self._horizon_s, self._generator = policy, copies, horizon_s, generator
        self._idle = idle_actions(copies.spec, copies.batch, copies.device)

    def __call__(self, world: Branching, step: PolicyStep, actions: Mapping[str, torch.Tensor]) -> dict[str, Branches]:
        """Every legal action of decisions drawn at random, as many as the copies hold.

        Args:
            world: At the moment of the step.
            step: What the policy makes of it.
            actions: What it would do.
        """
        plans = [_Plan.of(name, step.decisions[name], picked) for name, picked in self._draw(step).items()]
        origin = torch.cat([plan.origin for plan in plans])
        source = torch.nn.functional.pad(origin, (0, self._copies.batch - len(origin)))  # what is left copies row 0
        tried = {name: action.index_select(0, source) for name, action in actions.items()}
        begin = 0
        for plan in plans:
            copy = begin + torch.arange(len(plan.rows), device=source.device)
            agent = step.place[plan.kind].index_select(0, plan.decision) % actions[plan.kind].shape[1]
            tried[plan.kind][copy, agent] = step.action[plan.kind].index_select(0, plan.rows)
            begin += len(plan.rows)
        if not begin:
            return {}
        lost = self._drive(world, source, tried, step.mailbox.rows(source))[:begin]
        parts = torch.split(lost, [len(plan.rows) for plan in plans])
        company = origin if self._policy.messenger is not None else origin[:0]
        pairs = zip(plans, parts, strict=True)
        return {plan.kind: _branches(step.decisions[plan.kind], plan, part, company) for plan, part in pairs}

    def _draw(self, step: PolicyStep) -> dict[str, torch.Tensor]:
        """Decisions with a choice, int64 [C] by kind, whose actions the copies have room for."""
        counts = {name: part.pointers.diff() for name, part in step.decisions.items()}
        names, sizes = list(counts), torch.cat(list(counts.values()))
        kind = torch.cat([torch.full_like(counts[name], k) for k, name in enumerate(names)])
        place = torch.cat([torch.arange(len(counts[name]), device=sizes.device) for name in names])
        room = self._copies.batch
        if bool((sizes > room).any()):
            raise AgentError(f"a decision has {int(sizes.max())} actions, but only {room} branches; give it as many")
        order = torch.randperm(len(sizes), generator=self._generator, device=sizes.device)
        order = order[sizes[order] > 1]
        order = order[sizes[order].cumsum(0) <= room]
        return {name: place[order[kind[order] == k]].sort().values for k, name in enumerate(names)}

    def _drive(
        self, world: Branching, source: torch.Tensor, actions: Mapping[str, torch.Tensor], mailbox: Mailbox
    ) -> torch.Tensor:
        """What copies have lost at the horizon, float64 [N], that begin with these actions."""
        copies = self._copies
        end = copies.branch(world, source).time_s + self._horizon_s
        moved = copies.step(actions, end)
        ended = Ended(copies.spec, copies.batch, copies.device)
        ended.observe(moved)
        observation: Observation = moved.observation
        while bool((~ended.over & (observation.time_s < end)).any()):
            step = self._policy(copies.spec, quieten(observation, ended.over), None, mailbox)
            mailbox = step.mailbox
            greedy = {name: part.mode() for name, part in step.distribution.items()}
            moved = copies.step(step.actions(greedy, self._idle), end)
            ended.observe(moved)
            observation = moved.observation
        return copies.lost()


@dataclass(frozen=True)
class _Plan:
    """Which copies try which rows of the decisions of a kind, N in all."""

    kind: str
    picked: torch.Tensor  # int64 [C], the decisions
    rows: torch.Tensor  # int64 [N]
    decision: torch.Tensor  # int64 [N]
    origin: torch.Tensor  # int64 [N], the world's row to copy

    @classmethod
    def of(cls, kind: str, decisions: Decisions, picked: torch.Tensor) -> "_Plan":
        rows, pointers = rows_of(decisions.pointers, picked)
        decision = picked.repeat_interleave(pointers.diff())
        return cls(kind, picked, rows, decision, decisions.moment.index_select(0, decision))


def _branches(decisions: Decisions, plan: _Plan, lost: torch.Tensor, company: torch.Tensor) -> Branches:
    """The tried decisions with what their rows have lost, float64 [N], and all decisions of the moments `company`."""
    tried = torch.zeros(len(decisions), dtype=torch.bool, device=lost.device)
    tried[plan.picked] = True
    cost = torch.zeros(len(decisions.rows), dtype=torch.float64, device=lost.device).index_copy(0, plan.rows, lost)
    segment = decisions.segment()
    mean = segment_mean(cost[:, None], decisions.pointers, segment).index_select(0, segment)[:, 0]
    kept = tried | torch.isin(decisions.moment, company)
    return Branches(decisions, (cost - mean).float(), tried).select(kept.nonzero().squeeze(1))
