"""How a scenario's policy learns on sites' worlds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsched.agents.branches import Tried
from fedsched.agents.config import EncoderConfig, MessageConfig, PolicyConfig, TriggerConfig
from fedsched.agents.constraint import Constraint
from fedsched.agents.imitation import Demonstration, ImitationConfig, Imitator, Lesson
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.noise import NoiseConfig
from fedsched.agents.parameters import move_towards, parameters_from_numpy, parameters_to_numpy
from fedsched.agents.policy import Policy
from fedsched.agents.population import linear_weights, set_linear_weights
from fedsched.agents.ppo import Losses, PpoConfig
from fedsched.agents.rollout import Rollouts
from fedsched.agents.vine import Vine, VineConfig, VineLosses
from fedsched.envs.core import Branching, World, WorldSpec, stream
from fedsched.sim.domains import domain_of
from fedsched.sim.domains.base import FloatArray, Judgement, SiteWorlds, Teaching
from fedsched.sim.scenario import Messages, Scenario

HUBER = 10.0
"""Deviations of the returns from which on the error of a value counts linearly (Yu et al. 2022)."""

Parameters = dict[str, npt.NDArray[np.float32]]


def make_policy(scenario: Scenario, spec: WorldSpec, device: str = "cpu") -> Policy:
    """The scenario's policy with its initial parameters.

    Args:
        scenario: The whole scenario.
        spec: Of a site's worlds. With `sharing: agent` the policy is this site's; otherwise features alone matter,
            which all sites of a domain have in common, and so the policy is the same for every site.
        device: Where it lives.
    """
    agents, domain = scenario.agents, domain_of(scenario)
    encoder = agents.encoder
    config = PolicyConfig(
        encoder=EncoderConfig(
            kind=encoder.kind,
            width=encoder.width,
            hidden=max(4, encoder.width // 2),
            heads=encoder.heads,
            layers=encoder.layers,
            blocks=encoder.blocks,
            scoring=encoder.scoring,
        ),
        messages=message_config(agents.messages, encoder.heads),
        sharing=agents.sharing,
        critic=agents.ppo.critic if agents.ppo.advantage == "gae" else "none",
        memory=encoder.memory,
    )
    return Policy(spec, config, domain.soft_rules(scenario.start), seed=scenario.seed).to(device)


def message_config(messages: Messages, heads: int) -> MessageConfig | None:
    """The stages of messages that a scenario describes; None: no messages."""
    if not messages.sent:
        return None
    trigger = TriggerConfig(messages.share, messages.measure, messages.timeout)
    return MessageConfig(
        rounds=messages.rounds,
        latent=messages.latent,
        heads=heads,
        kl=messages.kl,
        quantised=messages.quantised,
        trigger=trigger if messages.trigger == "uncertain" else None,
        dropout=messages.dropped,
    )


def learner_config(scenario: Scenario, weights: Mapping[str, float]) -> LearnerConfig:
    """The learner that a scenario describes."""
    ppo, wait, imitation = scenario.agents.ppo, scenario.agents.constraints.wait, scenario.agents.imitation
    noise = scenario.agents.exploration
    before = sum(part.updates for part in (imitation, scenario.agents.vine) if part is not None)
    return LearnerConfig(
        weights={part: weight for part, weight in weights.items() if weight},
        advantage=ppo.advantage,
        rollouts=ppo.rollouts if ppo.advantage == "group" else 1,
        gamma=ppo.discount,
        tau_s=ppo.tau,
        trace=ppo.gae_lambda,
        noise=None if noise is None else NoiseConfig(noise.target, noise.correlation),
        constraint=None if wait is None else Constraint("wait", wait.aim),
        ppo=PpoConfig(
            lr=ppo.learning_rate,
            lr_end=PpoConfig.lr_end if ppo.anneal else 1.0,
            iterations=max(1, scenario.federation.rounds * scenario.federation.local_updates - before),
            epochs=ppo.epochs,
            minibatch=ppo.minibatch,
            minibatches=ppo.minibatches,
            chunk=ppo.chunk,
            clip=ppo.clip,
            huber=HUBER if ppo.value_loss == "huber" else None,
            grad_norm=ppo.gradient_norm,
            entropy=ppo.entropy,
            entropy_end=PpoConfig.entropy_end if ppo.anneal else 1.0,
        ),
    )


def imitation_config(scenario: Scenario) -> ImitationConfig | None:
    """How the policy imitates before it learns; None where it does not."""
    wanted = scenario.agents.imitation
    return (
        None if wanted is None else ImitationConfig(wanted.updates, wanted.decay, wanted.learning_rate, wanted.epochs)
    )


def vine_config(scenario: Scenario) -> VineConfig | None:
    """How the policy learns from branches before PPO; None where it does not."""
    wanted = scenario.agents.vine
    if wanted is None:
        return None
    return VineConfig(
        every=wanted.every,
        horizon_s=wanted.horizon,
        keep=wanted.keep,
        iterations=wanted.updates,
        lr=wanted.learning_rate,
        epochs=wanted.epochs,
        minibatch=wanted.minibatch,
        entropy=wanted.entropy,
    )


class Trainer:
    """One policy and its learner on the training worlds of one site, or of all sites (`learning: central`).

    Args:
        scenario: The whole scenario.
        sites: The worlds to learn on.
    """

    def __init__(self, scenario: Scenario, sites: Sequence[SiteWorlds]) -> None:
        self._scenario, self._sites = scenario, tuple(sites)
        first = scenario.sites[self._sites[0].name]
        self._config = learner_config(scenario, first.weights.model_dump())
        order = list(scenario.sites).index(self._sites[0].name)
        noise = int(stream(scenario.seed, "sim/learner", order, len(self._sites)).integers(1 << 31))
        self.policy = make_policy(scenario, self._sites[0].spec, self._sites[0].device)
        self._kinds = [kind.name for kind in self._sites[0].spec.kinds]
        self.learner = Learner(self.policy, self._config, noise)
        imitation = imitation_config(scenario)
        self._imitator = None if imitation is None else Imitator(self.policy, imitation, noise + 1)
        vine = vine_config(scenario)
        self._vine = None if vine is None else Vine(self.policy, self.learner.averaged, vine, noise + 2)
        self._worlds: dict[tuple[str, int], World] = {}
        self.updates = 0

    @property
    def parameters(self) -> Parameters:
        """Copies of the learning policy's parameters."""
        return parameters_to_numpy(self.policy)

    @property
    def averaged(self) -> Parameters:
        """Copies of the running average over updates, the better choice to act with."""
        return parameters_to_numpy(self.learner.averaged)

    def load_parameters(self, parameters: Parameters) -> None:
        """Overwrites the learning policy's parameters."""
        parameters_from_numpy(self.policy, parameters)

    def update(self) -> Losses | Lesson | VineLosses:
        """Collects episodes at every site and learns once: from the teacher first, then from branches, then by PPO."""
        if self._imitator is not None and not self._imitator.done:
            lesson = self._imitator.update([self._demonstration(self._imitator, worlds) for worlds in self._sites])
            move_towards(self.learner.averaged, self.policy, 1.0)
            self.updates += 1
            return lesson
        if self._vine is not None and not self._vine.done:
            growth = self._vine.update([self._tried(self._vine, worlds) for worlds in self._sites])
            self.updates += 1
            return growth
        rollouts = [self._rollouts(worlds) for worlds in self._sites]
        self.updates += 1
        return self.learner.update(rollouts)

    def judge(self, worlds: SiteWorlds, parameters: Parameters | None = None) -> Judgement:
        """The greedy policy on validation windows; the running average without other parameters."""
        policy = self.learner.averaged
        if parameters is not None:
            policy = make_policy(self._scenario, worlds.spec, worlds.device)
            parameters_from_numpy(policy, parameters)
        return worlds.judge(policy)

    def trial(self, worlds: SiteWorlds, candidates: FloatArray, generation: int) -> FloatArray:
        """Costs [P] of linear scores [P, n] on fresh training windows."""
        return worlds.trial(self.policy, candidates, generation)

    def linear(self) -> FloatArray:
        """The linear scores [n] of all kinds that the policy starts from."""
        return linear_weights(self.policy, *self._kinds)

    def start_from(self, weights: FloatArray) -> Parameters:
        """Gives the policy other linear scores [n] to start from; returns its parameters."""
        for policy in (self.policy, self.learner.averaged):
            set_linear_weights(policy, self._kinds, weights)
        return self.parameters

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to go on exactly."""
        imitator = None if self._imitator is None else self._imitator.state()
        vine = None if self._vine is None else self._vine.state()
        return {"learner": self.learner.state(), "imitator": imitator, "vine": vine, "updates": self.updates}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of the same scenario and sites."""
        self.learner.load(state["learner"])
        if self._imitator is not None:
            self._imitator.load(state["imitator"])
        if self._vine is not None:
            self._vine.load(state["vine"])
        self.updates = state["updates"]

    def _tried(self, vine: Vine, worlds: SiteWorlds) -> Tried:
        wanted = self._scenario.agents.vine
        assert wanted is not None
        world, copies = self._world(worlds), self._world(worlds, wanted.branches)
        assert isinstance(world, Branching), "the scenario has been checked to branch no others"
        assert isinstance(copies, Branching)
        episodes = worlds.draw("train", world.batch, self.updates)
        return vine.collect(world, copies, episodes.instances, episodes.seeds)

    def _rollouts(self, worlds: SiteWorlds) -> Rollouts:
        copies = self._scenario.sites[worlds.name].copies
        groups = max(1, copies // self._config.rollouts)
        episodes, world = worlds.draw("train", groups, self.updates), self._world(worlds)
        return self.learner.collect(world, episodes.instances, episodes.seeds, worlds.reference(episodes))

    def _demonstration(self, imitator: Imitator, worlds: SiteWorlds) -> Demonstration:
        world, wanted = self._world(worlds), self._scenario.agents.imitation
        assert wanted is not None
        assert isinstance(worlds, Teaching), "the scenario has been checked to imitate no others"
        episodes = worlds.draw("train", world.batch, self.updates)
        return imitator.collect(world, worlds.teacher(wanted.teacher), episodes.instances, episodes.seeds)

    def _world(self, worlds: SiteWorlds, branches: int = 0) -> World:
        """The worlds of a site that episodes are played in, or those with room for so many branches."""
        key = worlds.name, branches
        if key not in self._worlds:
            groups = max(1, self._scenario.sites[worlds.name].copies // self._config.rollouts)
            self._worlds[key] = worlds.world(branches or groups * self._config.rows_per_instance)
        return self._worlds[key]
