"""A data centre as a run sees it: judged by bounded slowdown, and by waits that must not grow."""

import math

import numpy as np
import torch

from fedsched.agents.collect import evaluate
from fedsched.agents.policy import Policy
from fedsched.agents.rollout import Reference
from fedsched.envs.core import WorldSpec
from fedsched.envs.datacenter.exchange import Market
from fedsched.envs.datacenter.teachers import SeenRule
from fedsched.envs.datacenter.world import REWARD_PARTS, DatacenterWorld, site_spec
from fedsched.sim.domains.base import Episodes, FloatArray, Judgement, Simulator, Split
from fedsched.sim.domains.datacenter.operation import DatacenterOperation
from fedsched.sim.domains.datacenter.worlds import EASY_RULES, DatacenterWorlds
from fedsched.sim.scenario import Scenario

WAIT_PRICE = 5.0
"""What a unit of excess over the bound on the wait costs a checkpoint's score."""


class DatacenterSite(DatacenterWorlds):
    """The worlds of a data centre (contract: `fedsched.sim.domains.base.SiteWorlds`)."""

    def __init__(self, scenario: Scenario, name: str, device: str = "cpu") -> None:
        super().__init__(scenario, name, device)
        self._scenario = scenario
        market = scenario.plan.market if scenario.plan else None
        self._market = Market(market.wait_value, market.carbon_price) if market is not None else Market()
        self._bound = scenario.agents.constraints.wait
        self._kept: dict[str, DatacenterWorld] = {}

    @property
    def spec(self) -> WorldSpec:
        """What is static about its worlds."""
        return site_spec(self.site)

    def reference(self, episodes: Episodes) -> Reference:
        """What the bounding rule makes jobs wait in these episodes, and how many jobs there are."""
        return self._reference(episodes.instances, self._rule_costs(episodes.instances))

    def teacher(self, name: str) -> SeenRule:
        """A dispatch rule that reads the observation."""
        return SeenRule(name)

    def judge(self, policy: Policy) -> Judgement:
        """The greedy policy against the rule with the least mean bounded slowdown on the validation windows.

        The score is the ratio of mean slowdowns, and a price for waits beyond the bound.
        """
        instances, totals = self.validation
        figures = evaluate(policy, self._world("validation", len(instances)), instances, instances)
        best = totals.bounded_slowdown[:, EASY_RULES.index(self.best_rule)]
        difference = (figures["bounded_slowdown"] - best) / best.mean()
        slowdown = float(1.0 + difference.mean())
        wait = float(figures["wait_s"].mean() / totals.wait_s[:, self._bounding_rule].mean().clamp(min=1e-9))
        return Judgement(
            score=self.score(slowdown, wait),
            noise=float(difference.std() / len(instances) ** 0.5),
            ratios={"slowdown": slowdown, "wait": wait},
            rule=self.best_rule,
        )

    def score(self, slowdown: float, wait: float) -> float:
        """Less is better: the slowdown ratio, and a price for each unit of the wait ratio beyond the bound."""
        return slowdown + WAIT_PRICE * max(0.0, wait - self._bound.at_most if self._bound is not None else 0.0)

    def trial(self, policy: Policy, candidates: FloatArray, generation: int) -> FloatArray:
        """Costs [P] of linear scores [P, n] on fresh training windows.

        The mean, over the share of windows where it is highest, of ln(jobs + weighted cost) relative to the bounding
        rule's; and a price for each unit of wait beyond what training aims at.
        """
        del policy  # scores run in the kernel, which knows the features
        search = self._scenario.agents.search
        assert search is not None
        count = len(candidates)
        instances = self.draw("train", search.windows, generation, 1).instances
        world = self._world("search", count * search.windows)
        each = instances.repeat(count)
        world.reset(each, each)
        lines = torch.from_numpy(candidates).float().reshape(count, 2, -1)
        world.run_linear(lines.repeat_interleave(search.windows, 0).to(world.device))
        totals = -world.arrays.state["total"].mean(1).view(count, search.windows, -1)
        weights = self._scenario.sites[self.name].weights.model_dump()
        mix = totals.new_tensor([weights[part] for part in REWARD_PARTS])
        costs = self._rule_costs(instances)
        reference = self._reference(instances, costs)
        mine, rule = ((reference.offset + parts @ mix).clamp(min=1e-9).log() for parts in (totals, costs))
        worst = math.ceil(search.worst * search.windows)
        cost = (mine - rule).topk(worst, dim=1).values.mean(1)
        if self._bound is not None:
            ratio = totals[:, :, REWARD_PARTS.index("wait")].sum(1) / reference.limit.sum()
            cost += WAIT_PRICE * (ratio - self._bound.aim).clamp(min=0.0)
        return np.asarray(cost.cpu().numpy())

    def operate(
        self, split: Split, rows: int, actor: str, policy: Policy | None, simulator: Simulator
    ) -> DatacenterOperation:
        """Starts the first `rows` periods of a split; there is no other simulator than ours."""
        del simulator  # the only one is ours: `fedsched.sim.evaluate` refuses others
        return DatacenterOperation(self, self._market, split, rows, actor, policy, self._scenario.evaluation.period)

    def _rule_costs(self, instances: torch.Tensor) -> torch.Tensor:
        """Reward parts of the bounding rule on these instances, as costs, [n, parts]."""
        return self.rules(instances, (EASY_RULES[self._bounding_rule],)).costs[:, 0]

    def _reference(self, instances: torch.Tensor, costs: torch.Tensor) -> Reference:
        jobs = [len(self.training.window(int(instance)).jobs) for instance in instances]
        limit = costs[:, REWARD_PARTS.index("wait")].clamp(min=1e-3)
        return Reference(limit, torch.tensor(jobs, dtype=torch.float64, device=self.device))

    @property
    def _bounding_rule(self) -> int:
        if self._bound is None or self._bound.of == "best-rule":
            return EASY_RULES.index(self.best_rule)
        return EASY_RULES.index(f"{self._bound.of.removesuffix('-easy')}-easy")

    def _world(self, purpose: str, batch: int) -> DatacenterWorld:
        if purpose not in self._kept:
            self._kept[purpose] = self.world(batch)
        return self._kept[purpose]
