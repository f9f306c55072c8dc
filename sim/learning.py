"""How sites learn: federated, each alone, or one learner for all. The run loop sees only rounds."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from fedsched.agents.evolution import Cma
from fedsched.envs.core import stream
from fedsched.federation import Federation, SecureAggregation, make_strategy
from fedsched.sim.domains import domain_of
from fedsched.sim.domains.base import FloatArray
from fedsched.sim.scenario import Scenario
from fedsched.sim.scenario.learning import Search
from fedsched.sim.selection import groups
from fedsched.sim.site import Site, diagnostics
from fedsched.sim.training import Parameters, Trainer
from fedsched.sim.workers import Workers

T = TypeVar("T")

AVERAGE = 0.1
"""Weight of a generation's centre in the running average that a search ends with."""


@dataclass(frozen=True)
class Report:
    """What a round of learning brought.

    Attributes:
        metrics: By site; empty where secure aggregation keeps them at home.
        took_part: Sites whose update counts.
        left_out: Why others' did not.
        late: Why sites failed after their update was in the sum.
        bytes_up: From each site.
        bytes_down: To each site.
    """

    metrics: Mapping[str, Mapping[str, float]]
    took_part: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    late: Mapping[str, str] = field(default_factory=dict)
    bytes_up: Mapping[str, int] = field(default_factory=dict)
    bytes_down: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers(Generic[T]):
    """What sites said when they were asked something outside a round.

    Attributes:
        by_site: Answers of those who gave one.
        left_out: Why others did not.
        bytes_up: From each site.
        bytes_down: To each site.
    """

    by_site: Mapping[str, T]
    left_out: Mapping[str, str] = field(default_factory=dict)
    bytes_up: Mapping[str, int] = field(default_factory=dict)
    bytes_down: Mapping[str, int] = field(default_factory=dict)


class Learning(ABC):
    """Rounds of learning over the sites of a run."""

    def __init__(self, scenario: Scenario, workers: Workers[Site]) -> None:
        self._workers, self._sites = workers, tuple(scenario.sites)
        self._updates = scenario.federation.local_updates

    @abstractmethod
    def round(self, number: int) -> Report:
        """One round; raises FederationError if too few sites took part."""

    @abstractmethod
    def start_from(self, weights: Mapping[str, FloatArray]) -> None:
        """Starts from linear scores [n] by site; sites of one group have the same."""

    @abstractmethod
    def trials(self, candidates: Mapping[str, FloatArray], generation: int) -> Answers[FloatArray]:
        """Costs [P] by site of linear candidates [P, n] by site."""

    def linear(self) -> FloatArray:
        """The linear scores [n] that all sites start from."""
        return np.asarray(self._workers.call(self._sites[0], "linear"))

    @abstractmethod
    def parameters(self) -> dict[str, Parameters]:
        """What each site would act with now."""

    def judge(self, number: int) -> Answers[Mapping[str, float]]:
        """What those parameters are worth on validation windows, by site, after round `number` (`Judgement.report`)."""
        del number
        current = self.parameters()
        return Answers(self._workers.map("evaluate", {site: (current[site], {}) for site in self._sites}))

    def shared_state(self) -> dict[str, Any]:
        """What all sites share of what `load` needs to go on exactly."""
        return {}

    def site_states(self) -> dict[str, Any]:
        """Each site's own part of it."""
        return self._workers.map("state", dict.fromkeys(self._sites, ()))

    def load(self, shared: Mapping[str, Any], sites: Mapping[str, Any]) -> None:
        """Continues from the two parts of a state of the same scenario."""
        del shared
        self._workers.map("load", {site: (sites[site],) for site in self._sites})


class FederatedLearning(Learning):
    """Sites train from common parameters; only a (masked) average of their updates is seen."""

    def __init__(self, scenario: Scenario, workers: Workers[Site]) -> None:
        super().__init__(scenario, workers)
        secure = scenario.federation.secure_aggregation
        self._federation = Federation(
            {site: workers.proxy(site) for site in self._sites},
            make_strategy(scenario.federation.strategy.kind),
            None if secure is None else SecureAggregation(secure.threshold),
            parallel=len(self._sites) if scenario.workers.chosen == "ray" else 1,
        )
        self._parameters: Parameters = workers.call(self._sites[0], "initial")

    def round(self, number: int) -> Report:
        """Broadcast, local training, (secure) average."""
        result = self._federation.round(number, self._parameters, {"updates": self._updates})
        self._parameters = result.parameters
        return Report(
            result.metrics, result.took_part, result.left_out, result.late, result.bytes_up, result.bytes_down
        )

    def start_from(self, weights: Mapping[str, FloatArray]) -> None:
        """The common parameters take the common scores."""
        first = self._sites[0]
        self._parameters = self._workers.call(first, "start_from", weights[first])

    def trials(self, candidates: Mapping[str, FloatArray], generation: int) -> Answers[FloatArray]:
        """Candidates go out as parameters do; what comes back is one cost each."""
        common = {"candidates": candidates[self._sites[0]].astype(np.float32)}
        heard = self._federation.evaluate(generation, common, {"generation": generation})
        costs = {site: np.array([by_name[n] for n in sorted(by_name)]) for site, by_name in heard.metrics.items()}
        return Answers(costs, heard.left_out, heard.bytes_up, heard.bytes_down)

    def judge(self, number: int) -> Answers[Mapping[str, float]]:
        """The common parameters go out; what comes back are the figures. A site that fails is left out."""
        heard = self._federation.evaluate(number, self._parameters, {})
        return Answers(heard.metrics, heard.left_out, heard.bytes_up, heard.bytes_down)

    def parameters(self) -> dict[str, Parameters]:
        """The common parameters."""
        return dict.fromkeys(self._sites, self._parameters)

    def shared_state(self) -> dict[str, Any]:
        """The common parameters."""
        return {"parameters": self._parameters}

    def load(self, shared: Mapping[str, Any], sites: Mapping[str, Any]) -> None:
        """Continues with these common parameters and the sites' own learners."""
        super().load(shared, sites)
        self._parameters = shared["parameters"]


class LocalLearning(Learning):
    """Every site learns for itself."""

    def round(self, number: int) -> Report:
        """Local training everywhere; nothing is exchanged."""
        del number
        return Report(self._workers.map("learn", dict.fromkeys(self._sites, (self._updates,))), self._sites)

    def start_from(self, weights: Mapping[str, FloatArray]) -> None:
        """Each site takes its own scores."""
        self._workers.map("start_from", {site: (weights[site],) for site in self._sites})

    def trials(self, candidates: Mapping[str, FloatArray], generation: int) -> Answers[FloatArray]:
        """Each site tries its own candidates."""
        return Answers(self._workers.map("trial", {site: (candidates[site], generation) for site in self._sites}))

    def parameters(self) -> dict[str, Parameters]:
        """The running average of each site's own updates."""
        return self._workers.map("averaged", dict.fromkeys(self._sites, ()))


class CentralLearning(Learning):
    """One learner sees all sites' worlds: what could be reached if data were pooled. It lives in this process."""

    def __init__(self, scenario: Scenario, workers: Workers[Site]) -> None:
        super().__init__(scenario, workers)
        self._worlds = {name: domain_of(scenario).site(scenario, name) for name in self._sites}
        self._trainer = Trainer(scenario, list(self._worlds.values()))

    def round(self, number: int) -> Report:
        """Joint training."""
        del number
        return Report({"": diagnostics([self._trainer.update() for _ in range(self._updates)])}, self._sites)

    def start_from(self, weights: Mapping[str, FloatArray]) -> None:
        """The one learner takes the common scores."""
        self._trainer.start_from(weights[self._sites[0]])

    def trials(self, candidates: Mapping[str, FloatArray], generation: int) -> Answers[FloatArray]:
        """The one learner tries them at every site."""
        return Answers({n: self._trainer.trial(w, candidates[n], generation) for n, w in self._worlds.items()})

    def parameters(self) -> dict[str, Parameters]:
        """The common parameters."""
        return dict.fromkeys(self._sites, self._trainer.averaged)

    def shared_state(self) -> dict[str, Any]:
        """The one learner."""
        return {"trainer": self._trainer.state()}

    def site_states(self) -> dict[str, Any]:
        """Nothing is learned at the sites."""
        return {}

    def load(self, shared: Mapping[str, Any], sites: Mapping[str, Any]) -> None:
        """Continues with the one learner."""
        del sites
        self._trainer.load(shared["trainer"])


_KINDS: dict[str, type[Learning]] = {
    "federated": FederatedLearning,
    "local": LocalLearning,
    "central": CentralLearning,
}


def make_learning(scenario: Scenario, workers: Workers[Site]) -> Learning:
    """The learning that the scenario asks for."""
    return _KINDS[scenario.learning](scenario, workers)


def search(
    scenario: Scenario, learning: Learning, after_generation: Callable[[int, Answers[FloatArray]], None]
) -> None:
    """Searches for linear scores to start from, one search for each group of sites that share parameters.

    The answer is the running average of the search's centres, since single generations are noisy; of several attempts
    the one with the best score on the validation windows, since searches end in unlike places. Number and trials of
    each generation are handed to `after_generation`.
    """
    settings = scenario.agents.search
    if settings is None:
        return
    start, shared = learning.linear(), groups(scenario)
    best: dict[str, FloatArray] = {}
    least = dict.fromkeys(scenario.sites, np.inf)
    for attempt in range(settings.attempts):
        found = _attempt(scenario, settings, learning, start, attempt, after_generation)
        if settings.attempts == 1:
            best = found
            break
        learning.start_from(found)
        judged = learning.judge(0).by_site
        for group in shared:
            score = float(np.mean([judged[site]["score"] for site in group if site in judged] or [np.inf]))
            if not best.keys() >= set(group) or score < least[group[0]]:
                least[group[0]] = score
                best |= {site: found[site] for site in group}
    learning.start_from(best)


def _attempt(
    scenario: Scenario,
    settings: Search,
    learning: Learning,
    start: FloatArray,
    attempt: int,
    after_generation: Callable[[int, Answers[FloatArray]], None],
) -> dict[str, FloatArray]:
    """One search for each group, on windows of its own; the averaged centres by site."""
    shared, before = groups(scenario), attempt * settings.generations
    places = [attempt * len(shared) + k for k in range(len(shared))]
    seeds = [int(stream(scenario.seed, "sim/search", place).integers(1 << 31)) for place in places]
    searches = [Cma(start, settings.sigma, settings.population, seed) for seed in seeds]
    centres = [start.copy() for _ in shared]
    for generation in range(before, before + settings.generations):
        asked = [one.ask() for one in searches]
        candidates = {site: asked[k] for k, group in enumerate(shared) for site in group}
        tried = learning.trials(candidates, generation)
        for k, group in enumerate(shared):
            heard = [tried.by_site[site] for site in group if site in tried.by_site]
            searches[k].tell(asked[k], np.mean(heard, axis=0))
            centres[k] += AVERAGE * (searches[k].mean - centres[k])
        after_generation(generation + 1, tried)
    return {site: centres[k] / settings.softness for k, group in enumerate(shared) for site in group}
