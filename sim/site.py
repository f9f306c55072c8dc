"""One organisation: its worlds, its policy and learner, and what it says to the others.

A site lives in a worker. It is a participant of the federation (`train`, `evaluate`), and it operates its periods step
by step (`open`, `advance`, `lots`, `give`, `take`, `outcome`); nothing else of it is seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsched.agents.collect import idle_actions
from fedsched.agents.parameters import parameters_from_numpy
from fedsched.agents.policy import Policy
from fedsched.envs.core import Delivery, Lot
from fedsched.envs.datacenter.exchange import Cargo, DatacenterExchange, Market, Records, records
from fedsched.envs.datacenter.splits import Split
from fedsched.envs.datacenter.world import KIND, REWARD_PARTS, DatacenterWorld
from fedsched.federation import Update
from fedsched.sim.scenario import Scenario
from fedsched.sim.training import FloatArray, Parameters, Trainer, make_policy
from fedsched.sim.worlds import SiteWorlds

POLICY = "policy"
"""Name of the actor that is not a rule."""


@dataclass(frozen=True)
class Outcome:
    """What became of the operated rows of a site.

    Attributes:
        records: The jobs each row answers for.
        energy_kwh: Facility energy until now, [rows].
        carbon_kg: Of that energy, [rows].
        cost: Of that energy, [rows].
        utilization: Busy share of the processors over the period in which jobs arrive, [rows].
        decisions: Taken by the agents, [rows].
        message_bytes: Sent between the agents, over all rows.
    """

    records: list[Records]
    energy_kwh: npt.NDArray[np.float64]
    carbon_kg: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]
    utilization: npt.NDArray[np.float64]
    decisions: npt.NDArray[np.float64]
    message_bytes: int


class Site:
    """One organisation of a scenario.

    Args:
        scenario: The whole scenario.
        name: Which site.
        device: Where its worlds and its policy live.
    """

    def __init__(self, scenario: Scenario, name: str, device: str = "cpu") -> None:
        self._scenario, self.name = scenario, name
        self.worlds = SiteWorlds(scenario, name, device)
        self.trainer = Trainer(scenario, [self.worlds])
        market = scenario.plan.market if scenario.plan else None
        self._exchange = DatacenterExchange(
            Market(market.wait_value, market.carbon_price) if market is not None else Market()
        )
        self._operated: Operation | None = None

    def train(self, parameters: Parameters, config: Mapping[str, bool | int | float | str | bytes]) -> Update:
        """Learns locally from `parameters` on; `config["updates"]` says how often."""
        self.trainer.load_parameters(parameters)
        metrics = self.learn(int(config["updates"]))
        learned = self.trainer.parameters
        delta = {name: learned[name] - parameters[name] for name in parameters}
        return Update(delta, 1.0, metrics)

    def evaluate(
        self, parameters: Parameters, config: Mapping[str, bool | int | float | str | bytes]
    ) -> dict[str, float]:
        """Judges parameters on validation windows; or, with a `generation`, the linear candidates of a search."""
        if "generation" in config:
            costs = self.trial(parameters["candidates"].astype(np.float64), int(config["generation"]))
            return {f"cost_{k:06d}": float(cost) for k, cost in enumerate(costs)}
        judgement = self.trainer.judge(self.worlds, parameters)
        wait = self._scenario.agents.constraints.wait
        score = judgement.score(None if wait is None else wait.at_most)
        return {
            "slowdown_ratio": judgement.slowdown,
            "wait_ratio": judgement.wait,
            "score": score,
            "noise": judgement.noise,
        }

    def trial(self, candidates: FloatArray, generation: int) -> FloatArray:
        """Costs [P] of linear scores [P, n] on this site's training windows."""
        return self.trainer.trial(self.worlds, candidates, generation)

    def linear(self) -> FloatArray:
        """The linear scores [n] that the policy starts from."""
        return self.trainer.linear()

    def start_from(self, weights: FloatArray) -> Parameters:
        """Gives this site's policy other linear scores [n] to start from; returns its parameters."""
        return self.trainer.start_from(weights)

    def learn(self, updates: int) -> dict[str, float]:
        """Learns from its own parameters on; returns the decisions learned from and diagnostics of the last update."""
        losses = [self.trainer.update() for _ in range(updates)]
        last = {name: float(getattr(losses[-1], name)) for name in REPORTED_LOSSES}
        return {"decisions": float(sum(loss.decisions for loss in losses)), **last}

    def initial(self) -> Parameters:
        """The parameters that every site starts from."""
        return self.trainer.parameters

    def averaged(self) -> Parameters:
        """The running average over this site's own updates."""
        return self.trainer.averaged

    def best_rule(self) -> str:
        """The classical rule that does best on this site's validation windows."""
        return self.worlds.best_rule

    def open(self, actor: str, split: Split, rows: int, parameters: Parameters | None) -> None:
        """Starts the first `rows` periods of a split; the actor is a rule's name or `policy`."""
        policy = None
        if actor == POLICY:
            policy = make_policy(self._scenario, self.worlds)
            parameters_from_numpy(policy, parameters or {})
        self._operated = Operation(self.worlds, split, rows, actor, policy, self._scenario.evaluation.period)

    def advance(self, until_s: float) -> None:
        """Runs all operated rows to a moment of the common clock."""
        self._now().advance(until_s)

    def lots(self, window: tuple[int, int]) -> list[list[Lot]]:
        """What each row offers and asks for in the coming epoch."""
        operated = self._now()
        return [self._exchange.lots(operated.world, row, window) for row in range(operated.world.batch)]

    def give(self, deliveries: Mapping[int, list[Delivery]]) -> dict[int, dict[str, Cargo]]:
        """Hands over the work that the deliveries of each row cover, by row and peer."""
        world = self._now().world
        return {row: self._exchange.give(world, row, wanted) for row, wanted in deliveries.items()}

    def take(self, cargos: Mapping[int, Mapping[str, Cargo]]) -> None:
        """Accepts the work that peers handed over, by row and peer."""
        world = self._now().world
        for row, by_home in cargos.items():
            for home, cargo in sorted(by_home.items()):
                self._exchange.take(world, row, home, cargo)

    def outcome(self) -> Outcome:
        """What became of the operated rows."""
        return self._now().outcome()

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to go on exactly."""
        return self.trainer.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state."""
        self.trainer.load(state)

    def _now(self) -> "Operation":
        if self._operated is None:
            raise RuntimeError(f"site {self.name} operates nothing yet: call open first")
        return self._operated


REPORTED_LOSSES = (
    "policy", "value", "entropy", "approx_kl", "clip_fraction", "explained_variance", "gradient_norm", "multiplier",
    "greedy_ratio",
)  # fmt: skip
"""Diagnostics of the last local update that a site reports."""


class Operation:
    """The operated batch of a site: row b is the b-th period, driven by a rule or by a policy."""

    def __init__(
        self, worlds: SiteWorlds, split: Split, rows: int, actor: str, policy: Policy | None, period_s: float
    ) -> None:
        self.world: DatacenterWorld = worlds.world(rows, worlds.periods)
        self._actor, self._policy, self._period = actor, policy, period_s
        self._windows = worlds.plays_windows
        instances = torch.tensor([worlds.period(split, k) for k in range(rows)], device=worlds.device)
        self.world.reset(instances, instances, until_s=torch.zeros(rows, dtype=torch.float64, device=worlds.device))
        self._mailbox = policy.mailbox(self.world.spec, rows, self.world.device) if policy else None
        self._busy = torch.zeros(rows, dtype=torch.float64)
        self._message_bytes = 0

    def advance(self, until_s: float) -> None:
        """Runs all rows to a moment, noting the utilisation when the period of arrivals ends."""
        if self._windows:
            self._drive(until_s)
            self._busy = self.world.metrics()["utilization"]
            return
        if float(self.world.arrays.state["now"].min()) < self._period <= until_s:
            self._drive(self._period)
            totals = self.world.arrays.state["total"][:, :, REWARD_PARTS.index("utilization")]
            self._busy = totals.sum(1).clone() * 3600.0 / self._period
        self._drive(until_s)

    def outcome(self) -> Outcome:
        """The jobs and the energy of every row."""
        figures = {name: values.cpu().numpy() for name, values in self.world.metrics().items()}
        return Outcome(
            records=[records(self.world, row) for row in range(self.world.batch)],
            energy_kwh=figures["energy_kwh"],
            carbon_kg=figures["carbon_kg"],
            cost=figures["cost"],
            utilization=self._busy.cpu().numpy(),
            decisions=figures["decisions"],
            message_bytes=self._message_bytes,
        )

    def _drive(self, until_s: float) -> None:
        until = torch.full((self.world.batch,), until_s, dtype=torch.float64, device=self.world.device)
        if self._policy is None:
            self.world.run_rules([self._actor] * self.world.batch, until)
            return
        self._act(self._policy, until)

    @torch.no_grad()
    def _act(self, policy: Policy, until: torch.Tensor) -> None:
        spec = self.world.spec
        idle = idle_actions(spec, self.world.batch, self.world.device)
        observation = self.world.observe()
        mailbox = self._mailbox
        assert mailbox is not None
        while bool(((observation.time_s < until) & observation.kinds[KIND].alive.any(1)).any()):
            step = policy(spec, observation, None, mailbox)
            mailbox = step.mailbox
            self._message_bytes += step.traffic.payload_bytes
            actions = step.actions({name: d.mode() for name, d in step.distribution.items()}, idle)
            observation = self.world.step(actions, until).observation
        self._mailbox = mailbox
