"""Acting: a policy drives a world from reset until all its episodes have ended."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from fedsched.agents.bootstrap import LastValues
from fedsched.agents.inputs import check_rewards, check_step
from fedsched.agents.mailbox import Traffic
from fedsched.agents.policy import Policy
from fedsched.agents.rollout import Recorder, Reference, Rollouts
from fedsched.agents.speech import Sending
from fedsched.agents.step import PolicyStep
from fedsched.envs.core import Observation, Transition, World, WorldSpec


def idle_actions(spec: WorldSpec, batch: int, device: str = "cpu") -> dict[str, torch.Tensor]:
    """The idle action of every agent by kind: int64 [B, A], or float32 [B, A, K], zero cut at the bounds."""
    idle = {}
    for kind in spec.kinds:
        one = torch.tensor(kind.idle, device=device)
        if kind.bounds is not None:
            one = torch.from_numpy(np.clip(0.0, *kind.bounds).astype(np.float32)).to(device)
        idle[kind.name] = one.expand(batch, len(kind.agents), *one.shape).clone()
    return idle


class Ended:
    """Which agents have terminated and which worlds are over.

    Attributes:
        terminated: bool [B, A] by kind.
        truncated: bool [B], cut off before all agents had terminated.
        over: bool [B], cut off or without a living agent.
    """

    def __init__(self, spec: WorldSpec, batch: int, device: str) -> None:
        """Nobody has ended yet."""
        self.over = torch.zeros(batch, dtype=torch.bool, device=device)
        self.terminated = {
            k.name: torch.zeros(batch, len(k.agents), dtype=torch.bool, device=device) for k in spec.kinds
        }
        self.truncated = torch.zeros(batch, dtype=torch.bool, device=device)

    def observe(self, transition: Transition) -> None:
        """Takes note of a step."""
        running = ~self.over
        self.truncated = self.truncated | (transition.truncated & running)
        ended = [t | (transition.terminated[name] & running[:, None]) for name, t in self.terminated.items()]
        self.terminated = dict(zip(self.terminated, ended, strict=True))
        gone = [t | ~transition.observation.kinds[name].alive for name, t in self.terminated.items()]
        self.over = self.over | self.truncated | (gone[0] if len(gone) == 1 else torch.cat(gone, 1)).all(1)


def quieten(observation: Observation, over: torch.Tensor) -> Observation:
    """The observation without decisions of worlds that are over; the last one of a truncated world may ask for some."""
    if not bool(over.any()):
        return observation
    kinds = {name: replace(tokens, active=tokens.active & ~over[:, None]) for name, tokens in observation.kinds.items()}
    return replace(observation, kinds=kinds)


@torch.no_grad()
def collect(
    policy: Policy,
    world: World,
    instances: torch.Tensor,
    seeds: torch.Tensor,
    generator: torch.Generator,
    greedy: torch.Tensor,
    group: torch.Tensor,
    reference: Reference | None = None,
) -> Rollouts:
    """Runs every row of a world from reset to its end.

    Args:
        policy: Acts for all agents.
        world: Reset here.
        instances: int64 [B].
        seeds: int64 [B].
        generator: Of the action noise, on the world's device.
        greedy: bool [B], rows that take the likeliest action.
        group: int64 [B], rows with equal instance and seed.
        reference: Per row, kept with the rollouts.

    Raises:
        AgentError: An observation or a reward that is not finite, or an agent that must decide and may do nothing.
    """
    actor = _Sampler(policy, world, generator, greedy)
    # from time 0, so that what accrues before an agent's first decision is counted, but not as that decision's doing
    observation = world.reset(instances, seeds, until_s=torch.zeros(world.batch, dtype=torch.float64).to(world.device))
    recorder, ended = Recorder(world.spec, observation.time_s), Ended(world.spec, world.batch, world.device)
    last = None if policy.config.critic == "none" else LastValues(policy, world.spec, observation)
    while not bool(ended.over.all()):
        running = ~ended.over
        transition = world.step(actor.act(quieten(observation, ended.over), recorder))
        recorder.advance(transition, running)
        if last is not None:
            last.observe(transition, running, recorder.steps, actor.memory)
        ended.observe(transition)
        observation = transition.observation
    check_rewards(world.spec, recorder.rewards())
    return _rollouts(world, recorder, ended, last, group, greedy, reference)


def _rollouts(
    world: World,
    recorder: Recorder,
    ended: Ended,
    last: LastValues | None,
    group: torch.Tensor,
    greedy: torch.Tensor,
    reference: Reference | None,
) -> Rollouts:
    return Rollouts(
        spec=world.spec,
        taken=recorder.taken(),
        times=recorder.times(),
        rewards=recorder.rewards(),
        terminated=ended.terminated,
        truncated=ended.truncated,
        last=last,
        group=group,
        greedy=greedy,
        reference=reference,
        metrics={name: values.clone() for name, values in world.metrics().items()},
        traffic=recorder.traffic,
    )


class _Sampler:
    """A policy that acts with noise, but for the rows that are greedy."""

    def __init__(self, policy: Policy, world: World, generator: torch.Generator, greedy: torch.Tensor) -> None:
        self._policy, self._spec, self._generator = policy, world.spec, generator
        self._greedy = greedy if bool(greedy.any()) else None
        self._sending = policy.practise(generator, self._greedy)
        self._mailbox = policy.mailbox(world.spec, world.batch, world.device)
        self.memory = policy.memory(world.spec, world.batch, world.device)
        self._idle = idle_actions(world.spec, world.batch, world.device)

    def act(self, observation: Observation, recorder: Recorder) -> dict[str, torch.Tensor]:
        """Draws, records and returns actions int64 [B, A] or float32 [B, A, K] by kind."""
        step: PolicyStep = self._policy(self._spec, observation, self.memory, self._mailbox, self._sending)
        check_step(self._spec, self._policy, step, recorder.steps)
        self._mailbox, self.memory = step.mailbox, step.memory
        parts = step.distribution
        choice = {name: part.sample(self._generator, self._quiet(step, name)) for name, part in parts.items()}
        recorder.decide(step, choice, {name: part.log_prob(choice[name]) for name, part in parts.items()})
        return step.actions(choice, self._idle)

    def _quiet(self, step: PolicyStep, kind: str) -> torch.Tensor | None:
        """Which decisions of a kind take the likeliest action, bool [D]; None where no row is greedy."""
        return None if self._greedy is None else self._greedy.index_select(0, step.decisions[kind].moment)


class GreedyActor:
    """A policy as something that acts: the likeliest action of every active agent, the idle one of the others.

    Attributes:
        mailbox: What the agents last heard.
        memory: What they remember; None for a feed-forward policy.
        traffic: Sent between them so far.
    """

    def __init__(
        self, policy: Policy, spec: WorldSpec, batch: int, device: str = "cpu", sending: Sending | None = None
    ) -> None:
        """Binds a policy to worlds of a spec; its mailbox starts empty.

        Args:
            policy: Acts for all agents.
            spec: Of the worlds.
            batch: Their number.
            device: Where they live.
            sending: Who sends messages, from `Policy.use`; None: as configured.
        """
        self._policy, self._spec, self._sending, self._steps = policy, spec, sending, 0
        self._idle = idle_actions(spec, batch, device)
        self.mailbox = policy.mailbox(spec, batch, device)
        self.memory = policy.memory(spec, batch, device)
        self.traffic = Traffic()

    @torch.no_grad()
    def __call__(self, observation: Observation) -> dict[str, torch.Tensor]:
        """Actions int64 [B, A] or float32 [B, A, K] by kind; raises AgentError where `check_step` does."""
        step: PolicyStep = self._policy(self._spec, observation, self.memory, self.mailbox, self._sending)
        check_step(self._spec, self._policy, step, self._steps)
        self._steps += 1
        self.mailbox, self.memory = step.mailbox, step.memory
        self.traffic = self.traffic + step.traffic
        return step.actions({name: part.mode() for name, part in step.distribution.items()}, self._idle)


def play(
    world: World,
    instances: torch.Tensor,
    seeds: torch.Tensor,
    act: Callable[[Observation], Mapping[str, torch.Tensor]],
) -> dict[str, torch.Tensor]:
    """The world's metrics, each [B], after `act` has played every row from its reset to its end."""
    observation = world.reset(instances, seeds)
    ended = Ended(world.spec, world.batch, world.device)
    while not bool(ended.over.all()):
        transition = world.step(act(quieten(observation, ended.over)))
        ended.observe(transition)
        observation = transition.observation
    return {name: values.clone() for name, values in world.metrics().items()}


def evaluate(policy: Policy, world: World, instances: torch.Tensor, seeds: torch.Tensor) -> dict[str, torch.Tensor]:
    """The world's metrics, each [B], after greedy episodes on `instances` [B] and `seeds` [B]."""
    return play(world, instances, seeds, GreedyActor(policy, world.spec, world.batch, world.device))
