"""How a scenario's policy learns on a site's worlds, and how it is judged on validation windows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsched.agents.collect import evaluate
from fedsched.agents.constraint import Constraint
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.network import PolicyConfig
from fedsched.agents.parameters import parameters_from_numpy, parameters_to_numpy
from fedsched.agents.policy import Policy
from fedsched.agents.population import linear_weights, set_linear_weights
from fedsched.agents.ppo import Losses, PpoConfig
from fedsched.agents.rollout import Reference, Rollouts
from fedsched.envs.core import WorldSpec, stream
from fedsched.envs.datacenter.world import KIND, REWARD_PARTS, DatacenterWorld, site_spec
from fedsched.sim.scenario import Scenario
from fedsched.sim.worlds import EASY_RULES, SiteWorlds, soft_rule

Parameters = dict[str, npt.NDArray[np.float32]]
FloatArray = npt.NDArray[np.float64]

WAIT_PRICE = 5.0
"""What a unit of excess over the bound on the wait costs a checkpoint's score."""


def make_policy(scenario: Scenario, worlds: SiteWorlds) -> Policy:
    """The scenario's policy for a site with its initial parameters, the same for every site."""
    return new_policy(scenario, site_spec(worlds.site)).to(worlds.device)


def new_policy(scenario: Scenario, spec: WorldSpec) -> Policy:
    """The scenario's policy with its initial parameters, on the CPU."""
    agents = scenario.agents
    config = PolicyConfig(
        encoder=agents.encoder.kind,
        width=agents.encoder.width,
        hidden=max(4, agents.encoder.width // 2),
        heads=agents.encoder.heads,
        rounds=agents.messages.rounds if agents.messages.trigger == "always" else 0,
        message=agents.messages.latent,
        critic=agents.ppo.advantage == "gae",
    )
    return Policy(spec, config, soft_rule(agents.start), seed=scenario.seed)


def learner_config(scenario: Scenario, weights: Mapping[str, float]) -> LearnerConfig:
    """The learner that a scenario describes."""
    ppo, wait = scenario.agents.ppo, scenario.agents.constraints.wait
    return LearnerConfig(
        weights={part: weight for part, weight in weights.items() if weight},
        advantage=ppo.advantage,
        rollouts=ppo.rollouts if ppo.advantage == "group" else 1,
        gamma=ppo.discount,
        tau_s=ppo.tau,
        trace=ppo.gae_lambda,
        constraint=None if wait is None else Constraint("wait", wait.aim),
        ppo=PpoConfig(
            lr=ppo.learning_rate,
            iterations=max(1, scenario.federation.rounds * scenario.federation.local_updates),
            epochs=ppo.epochs,
            minibatch=ppo.minibatch,
            clip=ppo.clip,
            entropy=ppo.entropy,
        ),
    )


@dataclass(frozen=True)
class Judgement:
    """A policy on the validation windows, against the rule with the least mean bounded slowdown there.

    Attributes:
        slowdown: Ratio of mean bounded slowdowns.
        noise: Standard error of that ratio over the windows, paired with the rule.
        wait: Ratio of mean waits.
        rule: That rule.
    """

    slowdown: float
    noise: float
    wait: float
    rule: str

    def score(self, at_most: float | None) -> float:
        """Less is better: the slowdown, and a price for waits beyond the bound."""
        return self.slowdown + WAIT_PRICE * max(0.0, self.wait - at_most if at_most is not None else 0.0)


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
        self.policy = make_policy(scenario, self._sites[0])
        self.learner = Learner(self.policy, self._config, noise)
        self._worlds: dict[str, DatacenterWorld] = {}
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

    def update(self) -> Losses:
        """Collects rollouts at every site and learns from them once."""
        rollouts = [self._rollouts(worlds) for worlds in self._sites]
        self.updates += 1
        return self.learner.update(rollouts)

    def judge(self, worlds: SiteWorlds, parameters: Parameters | None = None) -> Judgement:
        """The greedy policy on validation windows; the running average without other parameters."""
        policy = self.learner.averaged
        if parameters is not None:
            policy = make_policy(self._scenario, worlds)
            parameters_from_numpy(policy, parameters)
        instances, totals = worlds.validation
        world = self._world(worlds, "validation", len(instances))
        figures = evaluate(policy, world, instances, instances)
        best = totals.bounded_slowdown[:, EASY_RULES.index(worlds.best_rule)]
        difference = (figures["bounded_slowdown"] - best) / best.mean()
        return Judgement(
            slowdown=float(1.0 + difference.mean()),
            noise=float(difference.std() / len(instances) ** 0.5),
            wait=float(figures["wait_s"].mean() / totals.wait_s[:, self._bounding_rule(worlds)].mean().clamp(min=1e-9)),
            rule=worlds.best_rule,
        )

    def trial(self, worlds: SiteWorlds, candidates: FloatArray, generation: int) -> FloatArray:
        """Costs [P] of linear scores [P, n] on fresh training windows.

        The mean, over the share of windows where it is highest, of ln(jobs + weighted cost) relative to the bounding
        rule's; and a price for each unit of wait beyond what training aims at.
        """
        search = self._scenario.agents.search
        assert search is not None
        count = len(candidates)
        instances = worlds.draw("train", search.windows, generation, 1)
        world = self._world(worlds, "search", count * search.windows)
        each = instances.repeat(count)
        world.reset(each, each)
        lines = torch.from_numpy(candidates).float().reshape(count, 2, -1)
        world.run_linear(lines.repeat_interleave(search.windows, 0).to(world.device))
        totals = -world.arrays.state["total"].mean(1).view(count, search.windows, -1)
        mix = totals.new_tensor([self._config.weights.get(part, 0.0) for part in REWARD_PARTS])
        costs = self._rule_costs(worlds, instances)
        reference = self._reference(worlds, instances, costs)
        mine, rule = ((reference.offset + parts @ mix).clamp(min=1e-9).log() for parts in (totals, costs))
        worst = math.ceil(search.worst * search.windows)
        cost = (mine - rule).topk(worst, dim=1).values.mean(1)
        wait = self._scenario.agents.constraints.wait
        if wait is not None:
            ratio = totals[:, :, REWARD_PARTS.index("wait")].sum(1) / reference.limit.sum()
            cost += WAIT_PRICE * (ratio - wait.aim).clamp(min=0.0)
        return np.asarray(cost.cpu().numpy())

    def linear(self) -> FloatArray:
        """The linear scores [n] that the policy starts from."""
        return linear_weights(self.policy, KIND)

    def start_from(self, weights: FloatArray) -> Parameters:
        """Gives the policy other linear scores [n] to start from; returns its parameters."""
        for policy in (self.policy, self.learner.averaged):
            set_linear_weights(policy, KIND, weights)
        return self.parameters

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to go on exactly."""
        return {"learner": self.learner.state(), "updates": self.updates}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of the same scenario and sites."""
        self.learner.load(state["learner"])
        self.updates = state["updates"]

    def _rollouts(self, worlds: SiteWorlds) -> Rollouts:
        copies = self._scenario.sites[worlds.name].copies
        groups = max(1, copies // self._config.rollouts)
        instances = worlds.draw("train", groups, self.updates)
        world = self._world(worlds, "train", groups * self._config.rows_per_instance)
        reference = self._reference(worlds, instances, self._rule_costs(worlds, instances))
        return self.learner.collect(world, instances, instances, reference)

    def _rule_costs(self, worlds: SiteWorlds, instances: torch.Tensor) -> torch.Tensor:
        """Reward parts of the bounding rule on these instances, as costs, [n, parts]."""
        return worlds.rules(instances, (EASY_RULES[self._bounding_rule(worlds)],)).costs[:, 0]

    def _reference(self, worlds: SiteWorlds, instances: torch.Tensor, costs: torch.Tensor) -> Reference:
        """What the bounding rule, of those `costs`, makes jobs wait on these instances, and how many jobs there are."""
        jobs = [len(worlds.training.window(int(instance)).jobs) for instance in instances]
        limit = costs[:, REWARD_PARTS.index("wait")].clamp(min=1e-3)
        return Reference(limit, torch.tensor(jobs, dtype=torch.float64, device=worlds.device))

    def _bounding_rule(self, worlds: SiteWorlds) -> int:
        wait = self._scenario.agents.constraints.wait
        if wait is None or wait.of == "best-rule":
            return EASY_RULES.index(worlds.best_rule)
        return EASY_RULES.index(wait.of if wait.of.endswith("-easy") else f"{wait.of}-easy")

    def _world(self, worlds: SiteWorlds, purpose: str, batch: int) -> DatacenterWorld:
        key = f"{worlds.name}/{purpose}"
        if key not in self._worlds:
            self._worlds[key] = worlds.world(batch)
        return self._worlds[key]
