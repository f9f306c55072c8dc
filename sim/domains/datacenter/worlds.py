"""From a scenario to a data centre's worlds: what it trains on, is validated on and operates."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from fedsched.agents.network import SoftRule
from fedsched.envs.core import WorldError, stream
from fedsched.envs.datacenter.generate import GeneratedPeriods, GeneratedWindows, LublinFeitelson
from fedsched.envs.datacenter.model import Cluster, FloatArray, SiteModel
from fedsched.envs.datacenter.series import carbon, read_hourly, tariff
from fedsched.envs.datacenter.splits import PER_SPLIT, Split, Splits, chronological, fit
from fedsched.envs.datacenter.trace import Trace, load
from fedsched.envs.datacenter.workload import LogPeriods, LogWindows, Workload
from fedsched.envs.datacenter.world import KIND, REWARD_PARTS, DatacenterWorld
from fedsched.sim.domains.base import Episodes
from fedsched.sim.errors import WorldSetupError
from fedsched.sim.scenario import DatacenterWorld as WorldSettings
from fedsched.sim.scenario import Scenario, as_kind
from fedsched.sim.scenario.marks import Finding

EASY_RULES = tuple(f"{rule}-easy" for rule in ("fcfs", "sjf", "saf", "wfp3", "unicep", "f1", "f2", "f3", "f4"))
"""The classical rules that `best-rule` is chosen from."""

_SOFT_RULES = {
    "saf": {"log_area": -40.0, "hold": -30.0},
    "wfp3": {"log_slowdown": 120.0, "log_width": 40.0, "hold": -30.0},
    "fcfs": {"log_wait": 40.0, "hold": -30.0},
    "f2": {"log_estimate": -20.0, "log_width": -40.0, "hold": -30.0},
}
"""Linear scores that rank jobs as the rules do: logarithms of their products, on the scale of the features."""


def plays_windows(scenario: Scenario) -> bool:
    """Whether operated rows are the test windows of a published protocol, run until their jobs have ended.

    So it is where windows are counted in jobs and nobody trades; else rows are periods of equal duration on one clock.
    """
    return scenario.plan is None and all(
        as_kind(site.world, WorldSettings).window.jobs for site in scenario.sites.values()
    )


def soft_rule(start: str) -> dict[str, SoftRule]:
    """The soft rule a policy starts from, by kind; `none` scores all jobs the same."""
    return {KIND: SoftRule(_SOFT_RULES.get(start, {}), gates=("stage",))}


@dataclass(frozen=True)
class RuleTotals:
    """What rules do on instances.

    Attributes:
        bounded_slowdown: float64 [n, rules], means over jobs.
        wait_s: float64 [n, rules], means over jobs.
        costs: float64 [n, rules, parts], the reward parts summed over the episode, as costs.
    """

    bounded_slowdown: torch.Tensor
    wait_s: torch.Tensor
    costs: torch.Tensor


class DatacenterWorlds:
    """The worlds of one data centre, and what the classical rules do on them.

    Args:
        scenario: The whole scenario.
        name: The site.
        device: Where its worlds live.

    Raises:
        WorldSetupError: A log or a site that cannot be used.
    """

    def __init__(self, scenario: Scenario, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device
        self.settings = as_kind(scenario.sites[name].world, WorldSettings)
        self._order = list(scenario.sites).index(name)
        self._seed = scenario.seed
        self._evaluation = scenario.evaluation
        self.plays_windows = plays_windows(scenario)
        data = scenario.plan.data if scenario.plan else None
        with self._blame("carbon"):
            carbon_g_per_kwh = _carbon(self.settings.carbon)
        with self._blame("tariff"):
            price_per_kwh = _price(self.settings)
        self.site = SiteModel(
            _clusters(self.settings),
            carbon_g_per_kwh,
            price_per_kwh,
            self.settings.deferral,
            data.median / 1e6 if data else 0.0,
            data.sigma if data else 0.0,
        )
        with self.blame_log():
            self._trace = None if self.settings.generator else self._load()
            self.training = self._training_workload()
            self.training.check("train")
            self.periods = self._period_workload()

    def blame_log(self) -> AbstractContextManager[None]:
        """Says of an error of the domain that it comes from this site's log or generator."""
        return self._blame("generator" if self.settings.generator else "trace")

    @contextmanager
    def _blame(self, key: str) -> Iterator[None]:
        """Says of an error of the domain which key of the world it comes from."""
        try:
            yield
        except WorldError as error:
            raise WorldSetupError([Finding(("sites", self.name, "world", key), str(error))]) from error

    def world(self, batch: int, workload: Workload | None = None) -> DatacenterWorld:
        """A batch of this site on training windows, or on another workload of its own."""
        return DatacenterWorld(
            self.site, workload or self.training, batch, self.settings.engine, self.settings.backfill, self.device
        )

    def draw(self, split: Split, count: int, *keys: int) -> Episodes:
        """Training or validation windows drawn by seed; of the test split the first ones."""
        if split == "test":
            numbers = [self.training.instance("test", k) for k in range(count)]
        else:
            picked = stream(self._seed, f"sim/{split}", self._order, *keys).integers(PER_SPLIT, size=count)
            numbers = [self.training.instance(split, int(k)) for k in picked]
        instances = torch.tensor(numbers, device=self.device)
        return Episodes(instances, instances)

    def rules(self, instances: torch.Tensor, names: tuple[str, ...] = EASY_RULES) -> RuleTotals:
        """Runs rules on instances [n], each from an empty site to the last job."""
        count = len(names)
        world = self.world(len(instances) * count)
        each = instances.repeat_interleave(count)
        world.reset(each, each)
        committing = self.settings.engine == "committing"
        world.run_rules([n.removesuffix("-easy") if committing else n for n in names] * len(instances))
        figures = world.metrics()
        costs = -world.arrays.state["total"][:, 0]
        shape = (len(instances), count)
        return RuleTotals(
            figures["bounded_slowdown"].view(shape),
            figures["wait_s"].view(shape),
            costs.view(*shape, len(REWARD_PARTS)),
        )

    @cached_property
    def validation(self) -> tuple[torch.Tensor, RuleTotals]:
        """Validation instances [n] and what the rules do on them."""
        instances = self.draw("validation", self._evaluation.validation).instances
        return instances, self.rules(instances)

    @cached_property
    def best_rule(self) -> str:
        """The rule with the least mean bounded slowdown on the validation windows."""
        _, totals = self.validation
        return EASY_RULES[int(totals.bounded_slowdown.mean(0).argmin())]

    def period(self, split: Split, k: int) -> int:
        """The number of the k-th operated period."""
        return self.periods.instance(split, k)

    @property
    def too_wide(self) -> tuple[int, int]:
        """How many jobs of its log no cluster holds, and how many there are; a generated one has none."""
        if self._trace is None:
            return 0, 0
        return int((self._trace.jobs.processors > self.site.widest).sum()), len(self._trace.jobs)

    @property
    def _power(self) -> int:
        """Processors of speed 1 that do as much as the site's, to which its load refers."""
        return round(sum(cluster.processors * cluster.speed for cluster in self.site.clusters))

    def _load(self) -> Trace:
        """The site's part of its log; a job that could never run is found here, not in the window that draws it."""
        trace = load(self.settings.trace)
        if self.settings.jobs is not None:
            first, last = self.settings.jobs
            if last > len(trace.jobs):
                raise WorldError(f"the log {trace.name} ends at job {len(trace.jobs)}, 'jobs' asks for {last}")
            trace = replace(trace, jobs=trace.jobs.take(slice(first, last)))
        fit(trace.jobs, self.site.widest, self.settings.too_wide, trace.name)
        return trace

    def _splits(self, trace: Trace) -> Splits | None:
        """The published splits of a whole log, chronological ones of a part."""
        return None if self.settings.jobs is None else chronological(len(trace.jobs), self.settings.window.jobs or 1)

    def _training_workload(self) -> Workload:
        window = self.settings.window
        if window.duration is not None:
            return self._periods(window.duration)
        jobs = window.jobs or 0
        if self._trace is None:
            return GeneratedWindows(
                self._model(), jobs, processors=self._power, load=self.settings.load, seed=self._stretch_seed()
            )
        return LogWindows(
            self._trace,
            jobs,
            splits=self._splits(self._trace),
            widest=self.site.widest,
            too_wide=self.settings.too_wide,
            stretch=window.stretch,
            load=self.settings.load,
            processors=self._power,
            seed=self._stretch_seed(),
        )

    def _period_workload(self) -> Workload:
        return self.training if self.plays_windows else self._periods(self._evaluation.period)

    def _periods(self, duration_s: float) -> Workload:
        load_wanted, seed = self.settings.load, self._stretch_seed()
        if self._trace is None:
            return GeneratedPeriods(
                self._model(), duration_s, processors=self._power, load=load_wanted, seed=seed, clock=self._seed
            )
        return LogPeriods(
            self._trace,
            duration_s,
            processors=self._power,
            load=load_wanted,
            splits=self._splits(self._trace),
            widest=self.site.widest,
            too_wide=self.settings.too_wide,
            seed=seed,
            clock=self._seed,
        )

    def _model(self) -> LublinFeitelson:
        generator = self.settings.generator
        if generator is None:
            raise WorldError("trace: generated needs 'generator'")
        if generator.processors > self.site.widest:
            raise WorldError(
                f"generator.processors: {generator.processors} make jobs that no cluster holds, the widest has "
                f"{self.site.widest}; use at most that"
            )
        return LublinFeitelson(generator.processors)

    def _stretch_seed(self) -> int:
        """Sites draw different stretches; a generated site's own seed says which log it has."""
        own = self.settings.generator.seed if self.settings.generator else self._order
        return int(stream(self._seed, "sim/stretch", own).integers(1 << 31))


def _clusters(world: WorldSettings) -> tuple[Cluster, ...]:
    return tuple(Cluster(c.processors, c.speed, c.idle_w, c.busy_w, c.pue) for c in world.clusters)


def _carbon(name: str) -> FloatArray:
    if name == "none":
        return np.zeros(1)
    return read_hourly(name) if name.endswith((".csv", ".csv.gz")) else carbon(name)


def _price(world: WorldSettings) -> FloatArray:
    settings = world.tariff
    if settings.kind == "none":
        return np.zeros(1)
    if settings.kind == "file" and settings.path is not None:
        return read_hourly(settings.path)
    return tariff(settings.seed, settings.utc_offset_h)
