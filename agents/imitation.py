"""Imitation: a policy learns from a controller what to do in the states that it gets into itself.

DAgger (Ross et al. 2011): in iteration k the teacher drives a share beta^k of the steps and the policy the others; the
teacher labels every state that was visited; the policy learns from all labels so far. With beta = 1 the teacher always
drives, which is behaviour cloning.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fedsched.agents.collect import Ended, idle_actions, quieten
from fedsched.agents.decisions import AgentError
from fedsched.agents.gaussian import sample_of
from fedsched.agents.gradient import descend, message_charge
from fedsched.agents.inputs import check_step
from fedsched.agents.labelled import Labelled, merge_labelled, record_from, to_plain
from fedsched.agents.minibatches import minibatches
from fedsched.agents.policy import Policy
from fedsched.agents.rollout import Recorder
from fedsched.agents.segments import segment_argmax
from fedsched.agents.step import PolicyStep
from fedsched.envs.core import Controller, Observation, World


@dataclass(frozen=True)
class ImitationConfig:
    """How a policy imitates.

    Attributes:
        updates: Iterations of DAgger planned.
        decay: Share of the steps of iteration k that the teacher drives, to the power k; 1: behaviour cloning.
        lr: Adam's step size.
        epochs: Passes over all labels so far, in each iteration.
        minibatch: Decisions per gradient step, roughly: decisions of one moment stay together.
        grad_norm: Bound on the norm of the gradient.
    """

    updates: int = 3
    decay: float = 0.5
    lr: float = 5e-3
    epochs: int = 4
    minibatch: int = 512
    grad_norm: float = 1.0


@dataclass(frozen=True)
class Demonstration:
    """What a teacher said about the episodes of one world.

    Attributes:
        labelled: By kind; kinds without decisions are left out.
        moments: A bound on their moments.
        agreement: Share of the decisions with a choice in which the policy's likeliest action was the teacher's; of
            vectors none counts.
        metrics: The world's, each [B].
    """

    labelled: Mapping[str, Labelled]
    moments: int
    agreement: float
    metrics: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Lesson:
    """Diagnostics of an imitation update.

    Attributes:
        cross_entropy: Nats per decision, mean over the last epoch; of vectors minus the logarithm of the density.
        agreement: On the episodes just played, before anything was learned from them.
        taught: Share of the steps that the teacher drove there.
        decisions: Labelled so far.
    """

    cross_entropy: float
    agreement: float
    taught: float
    decisions: int


@torch.no_grad()
def demonstrate(
    policy: Policy,
    world: World,
    teacher: Controller,
    instances: torch.Tensor,
    seeds: torch.Tensor,
    share: float,
    generator: torch.Generator,
) -> Demonstration:
    """Plays episodes that policy and teacher drive in turns, all decisions labelled by the teacher.

    Args:
        policy: Draws its actions; its messages are exchanged whoever drives.
        world: Reset here.
        teacher: Asked at every state.
        instances: int64 [B].
        seeds: int64 [B].
        share: Of the steps that the teacher drives, drawn for each world and step.
        generator: Of these draws and of the policy's.

    Raises:
        AgentError: A teacher that reads more than the observation, or names an action that is not legal; an observation
            that is not finite, or an agent that must decide and may do nothing.
    """
    pair = _Pair(policy, world, teacher, share, generator)
    observation = world.reset(instances, seeds)
    recorder, ended = Recorder(world.spec, observation.time_s), Ended(world.spec, world.batch, world.device)
    while not bool(ended.over.all()):
        running = ~ended.over
        transition = world.step(pair.act(quieten(observation, ended.over), recorder))
        recorder.advance(transition, running)
        ended.observe(transition)
        observation = transition.observation
    return Demonstration(
        labelled={name: Labelled(taken.decisions, taken.choice) for name, taken in recorder.taken().items()},
        moments=(recorder.times().shape[0] - 1) * world.batch,
        agreement=pair.agreed / max(1, pair.asked),
        metrics={name: values.clone() for name, values in world.metrics().items()},
    )


class _Pair:
    """A policy and its teacher at one wheel.

    Attributes:
        asked: Decisions so far in which there was a choice.
        agreed: Those of them in which the policy's likeliest action was the teacher's.
    """

    def __init__(
        self, policy: Policy, world: World, teacher: Controller, share: float, generator: torch.Generator
    ) -> None:
        if teacher.reads != "observation":
            raise AgentError(f"teacher {teacher.name} reads the true state: a policy cannot learn what it does not see")
        teacher.reset(world)
        self._policy, self._spec, self._teacher = policy, world.spec, teacher
        self._share, self._generator = share, generator
        self._sending = policy.practise(generator)
        self._mailbox = policy.mailbox(world.spec, world.batch, world.device)
        self._idle = idle_actions(world.spec, world.batch, world.device)
        self.asked = self.agreed = 0

    def act(self, observation: Observation, recorder: Recorder) -> dict[str, torch.Tensor]:
        """Labels, records and returns the actions of whoever drives, int64 [B, A] or float32 [B, A, K] by kind."""
        step: PolicyStep = self._policy(self._spec, observation, None, self._mailbox, self._sending)
        self._mailbox = step.mailbox
        check_step(self._spec, self._policy, step, recorder.steps)
        told = self._teacher.act(observation)
        label = {name: labels(step, name, told[name], self._teacher.name) for name in step.distribution}
        for name, part in step.distribution.items():
            if self._spec.kind(name).bounds is not None:
                continue
            open_ones = step.decisions[name].pointers.diff() > 1
            self.asked += int(open_ones.sum())
            self.agreed += int(((part.mode() == label[name]) & open_ones).sum())
        recorder.decide(step, label, {name: part.log_prob(label[name]) for name, part in step.distribution.items()})
        own = step.actions({n: part.sample(self._generator) for n, part in step.distribution.items()}, self._idle)
        batch = observation.time_s.shape[0]
        taught = torch.rand(batch, generator=self._generator, device=observation.time_s.device) < self._share
        return {name: torch.where(_across(taught, action), told[name], action) for name, action in own.items()}


def _across(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Marks [B] in a shape that spreads over [B, A, ...]."""
    return rows.reshape(-1, *[1] * (like.dim() - 1))


def labels(step: PolicyStep, kind: str, told: torch.Tensor, teacher: str) -> torch.Tensor:
    """What the policy would have to choose to act as the teacher does: rows, or the samples behind vectors.

    Args:
        step: What the policy made of the observation.
        kind: Of agents.
        told: int64 [B, A] or float32 [B, A, K], the teacher's actions.
        teacher: Its name, for messages.

    Returns:
        int64 [D], rows counted inside each decision, or float32 [D, K].

    Raises:
        AgentError: An action that is no legal one of its agent.
    """
    decisions = step.decisions[kind]
    wanted = told.flatten(0, 1).index_select(0, step.place[kind])
    bounds = step.spec.kind(kind).bounds
    if bounds is not None:
        return sample_of(wanted, bounds)
    segment = decisions.segment()
    meant = step.action[kind] == wanted.index_select(0, segment)
    row = segment_argmax(meant.float(), segment, len(decisions))
    wrong = (~meant.index_select(0, row)).nonzero()
    if len(wrong):
        first = int(wrong[0])
        raise AgentError(
            f"teacher {teacher}: action {int(wanted[first])} of agent {int(decisions.agent[first])} in world "
            f"{int(decisions.moment[first])} is not among its legal ones"
        )
    return row - decisions.pointers[:-1]


def agreement(
    policy: Policy, world: World, teacher: Controller, instances: torch.Tensor, seeds: torch.Tensor, seed: int = 0
) -> float:
    """Share of equal actions, greedy policy against teacher, in episodes that the sampled policy drives alone.

    Decisions without a choice do not count. `instances` and `seeds` are int64 [B], of episodes that nothing was learned
    from; `seed` rules the policy's draws.
    """
    generator = torch.Generator(world.device).manual_seed(seed)
    return demonstrate(policy, world, teacher, instances, seeds, 0.0, generator).agreement


class Imitator:
    """Teaches a policy what a controller does.

    Attributes:
        policy: Learns.
        updates: Made so far.
    """

    def __init__(self, policy: Policy, config: ImitationConfig, seed: int) -> None:
        """Prepares the first iteration; `seed` rules who drives, the policy's draws and the minibatches.

        Raises:
            AgentError: A policy with memory: labels are learned one by one, not in the order of an episode.
        """
        if policy.config.memory:
            raise AgentError("a policy with memory cannot imitate: set memory to 0, or learn from rewards alone")
        self.policy, self._config = policy, config
        self._generator = torch.Generator(next(policy.parameters()).device).manual_seed(seed)
        self._adam = torch.optim.Adam(policy.parameters(), lr=config.lr, eps=1e-5)
        self._labelled: dict[str, Labelled] = {}
        self._moments = 0
        self.updates = 0

    @property
    def done(self) -> bool:
        """Whether all planned iterations have been made."""
        return self.updates >= self._config.updates

    @property
    def share(self) -> float:
        """Share of the steps that the teacher drives now."""
        return float(self._config.decay**self.updates)

    def collect(self, world: World, teacher: Controller, instances: torch.Tensor, seeds: torch.Tensor) -> Demonstration:
        """Plays the episodes of `instances` and `seeds`, int64 [B], for the next update; see `demonstrate`."""
        return demonstrate(self.policy, world, teacher, instances, seeds, self.share, self._generator)

    def update(self, demonstrations: Sequence[Demonstration]) -> Lesson:
        """Learns from the labels of one or several worlds, and from all earlier ones.

        Raises:
            AgentError: No decision was ever labelled, or a gradient that is not finite.
        """
        taught = self.share
        for one in demonstrations:
            self._labelled = merge_labelled(self._labelled, one.labelled, self._moments)
            self._moments += one.moments
        count = sum(len(part.decisions) for part in self._labelled.values())
        if not count:
            raise AgentError("there are no decisions to imitate")
        pieces = max(1, round(count / self._config.minibatch))
        losses: list[torch.Tensor] = []
        for _ in range(self._config.epochs):
            split = minibatches(self._labelled, self._moments, pieces, self._generator)
            losses = [self._step(piece) for piece in split]
        self.updates += 1
        lesson = Lesson(
            cross_entropy=float(torch.stack(losses).mean()),
            agreement=sum(one.agreement for one in demonstrations) / len(demonstrations),
            taught=taught,
            decisions=count,
        )
        if self.done:
            self._labelled = {}
        return lesson

    def state(self) -> dict[str, Any]:
        """Everything beside the policy that `load` needs to go on exactly, the labels among it."""
        return {
            "adam": copy.deepcopy(self._adam.state_dict()),
            "generator": self._generator.get_state(),
            "updates": self.updates,
            "moments": self._moments,
            "labelled": {name: to_plain(part) for name, part in self._labelled.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of an imitator with the same configuration."""
        self._adam.load_state_dict(copy.deepcopy(state["adam"]))
        self._generator.set_state(state["generator"])
        self.updates, self._moments = state["updates"], state["moments"]
        self._labelled = {name: record_from(Labelled, part) for name, part in state["labelled"].items()}

    def _step(self, piece: Mapping[str, Labelled]) -> torch.Tensor:
        judged = self.policy.judge({name: part.decisions for name, part in piece.items()})
        log_prob = torch.cat([judged.distribution[name].log_prob(part.choice) for name, part in piece.items()])
        loss = -log_prob.mean() + message_charge(self.policy, judged)
        descend(self.policy, self._adam, loss, self._config.grad_norm, f"imitation {self.updates + 1}")
        return loss.detach()
