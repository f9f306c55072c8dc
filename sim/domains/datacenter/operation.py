"""A data centre operated: periods on the common clock, jobs that move, and what became of them at home."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from fedsched.agents.collect import idle_actions
from fedsched.agents.mailbox import Traffic
from fedsched.agents.policy import Policy
from fedsched.envs.core import Delivery, Lot
from fedsched.envs.datacenter.exchange import Cargo, DatacenterExchange, Market, Records, records
from fedsched.envs.datacenter.metrics import SHORTEST_RUN_S
from fedsched.envs.datacenter.splits import Split
from fedsched.envs.datacenter.world import KIND, REWARD_PARTS, DatacenterWorld
from fedsched.sim.domains.base import FloatArray
from fedsched.sim.domains.datacenter.figures import FIGURES
from fedsched.sim.domains.datacenter.worlds import DatacenterWorlds


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
        sent: Messages between the agents, over all rows.
    """

    records: list[Records]
    energy_kwh: FloatArray
    carbon_kg: FloatArray
    cost: FloatArray
    utilization: FloatArray
    decisions: FloatArray
    sent: Traffic


class DatacenterOperation:
    """The operated batch of a site: row b is the b-th period, driven by a rule or by a policy."""

    def __init__(
        self,
        worlds: DatacenterWorlds,
        market: Market,
        split: Split,
        rows: int,
        actor: str,
        policy: Policy | None,
        period_s: float,
    ) -> None:
        self.world: DatacenterWorld = worlds.world(rows, worlds.periods)
        self._exchange = DatacenterExchange(market)
        self._actor, self._policy, self._period = actor, policy, period_s
        self._windows = worlds.plays_windows
        instances = torch.tensor([worlds.period(split, k) for k in range(rows)], device=worlds.device)
        self.world.reset(instances, instances, until_s=torch.zeros(rows, dtype=torch.float64, device=worlds.device))
        self._mailbox = policy.mailbox(self.world.spec, rows, self.world.device) if policy else None
        self._busy = torch.zeros(rows, dtype=torch.float64)
        self._sent = Traffic()

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

    def lots(self, window: tuple[int, int]) -> list[list[Lot]]:
        """What each row offers and asks for in the coming epoch."""
        return [self._exchange.lots(self.world, row, window) for row in range(self.world.batch)]

    def give(self, deliveries: Mapping[int, list[Delivery]]) -> dict[int, dict[str, Cargo]]:
        """Hands over the jobs that the deliveries of each row cover, by row and peer."""
        return {row: self._exchange.give(self.world, row, wanted) for row, wanted in deliveries.items()}

    def take(self, cargos: Mapping[int, Mapping[str, Cargo]]) -> None:
        """Accepts the jobs that peers handed over, by row and peer."""
        for row, by_home in cargos.items():
            for home, cargo in sorted(by_home.items()):
                self._exchange.take(self.world, row, home, cargo)

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
            sent=self._sent,
        )

    def close(self) -> None:
        """Nothing runs outside this process."""

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
            self._sent = self._sent + step.traffic
            actions = step.actions({name: d.mode() for name, d in step.distribution.items()}, idle)
            observation = self.world.step(actions, until).observation
        self._mailbox = mailbox


def figures_at_home(outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, FloatArray]]:
    """Figures by site, waits and slowdowns of handed-over jobs counted at their home site."""
    rows = len(next(iter(outcomes.values())).records)
    figures = {site: {name: np.full(rows, np.nan) for name in FIGURES.names} for site in outcomes}
    for site, outcome in outcomes.items():
        for name in ("energy_kwh", "carbon_kg", "cost", "utilization"):
            figures[site][name] = np.asarray(getattr(outcome, name), dtype=np.float64)
        for row in range(rows):
            for name, value in _job_figures(outcomes, site, row).items():
                figures[site][name][row] = value
    return figures


def _job_figures(outcomes: Mapping[str, Outcome], home: str, row: int) -> dict[str, float]:
    waits, slowdowns, unfinished = [], [], 0
    for site, outcome in outcomes.items():
        record = outcome.records[row]
        label = "" if site == home else home
        mine = np.array([name == label for name in record.home], dtype=bool)
        wait, run = record.wait_s[mine], record.run_s[mine]
        waits.append(wait)
        slowdowns.append(np.maximum(1.0, (wait + run) / np.maximum(run, SHORTEST_RUN_S)))
        unfinished += int((~record.started[mine]).sum())
    wait, slowdown = np.concatenate(waits), np.concatenate(slowdowns)
    return {
        "bounded_slowdown": float(slowdown.mean()),
        "wait_s": float(wait.mean()),
        "p99_wait_s": float(np.quantile(wait, 0.99)),
        "jobs": float(len(wait)),
        "unfinished": float(unfinished),
    }
