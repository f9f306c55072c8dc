"""How sites learn: federated, each alone, or one learner for all. The run loop sees only rounds."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedsched.federation import Federation, SecureAggregation, make_strategy
from fedsched.sim.scenario import Scenario
from fedsched.sim.site import REPORTED_LOSSES, Site
from fedsched.sim.training import Parameters, Trainer
from fedsched.sim.workers import Workers
from fedsched.sim.worlds import SiteWorlds


@dataclass(frozen=True)
class Report:
    """What a round of learning brought.

    Attributes:
        metrics: By site; empty where secure aggregation keeps them at home.
        took_part: Sites whose update counts.
        left_out: Why others' did not.
        bytes_up: From each site.
        bytes_down: To each site.
    """

    metrics: Mapping[str, Mapping[str, float]]
    took_part: tuple[str, ...]
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
    def parameters(self) -> dict[str, Parameters]:
        """What each site would act with now."""

    def judge(self) -> dict[str, dict[str, float]]:
        """Slowdown, wait and score of those parameters on every site's validation windows."""
        current = self.parameters()
        return self._workers.map("evaluate", {site: (current[site], {}) for site in self._sites})

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on exactly."""
        return {"sites": self._workers.map("state", dict.fromkeys(self._sites, ()))}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of the same scenario."""
        self._workers.map("load", {site: (state["sites"][site],) for site in self._sites})


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
        return Report(result.metrics, result.took_part, result.left_out, result.bytes_up, result.bytes_down)

    def parameters(self) -> dict[str, Parameters]:
        """The common parameters."""
        return dict.fromkeys(self._sites, self._parameters)

    def state(self) -> dict[str, Any]:
        """The common parameters and the sites' own learners."""
        return {"parameters": self._parameters, **super().state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state."""
        super().load(state)
        self._parameters = state["parameters"]


class LocalLearning(Learning):
    """Every site learns for itself."""

    def round(self, number: int) -> Report:
        """Local training everywhere; nothing is exchanged."""
        del number
        return Report(self._workers.map("learn", dict.fromkeys(self._sites, (self._updates,))), self._sites)

    def parameters(self) -> dict[str, Parameters]:
        """The running average of each site's own updates."""
        return self._workers.map("averaged", dict.fromkeys(self._sites, ()))


class CentralLearning(Learning):
    """One learner sees all sites' worlds: what could be reached if data were pooled. It lives in this process."""

    def __init__(self, scenario: Scenario, workers: Workers[Site]) -> None:
        super().__init__(scenario, workers)
        self._trainer = Trainer(scenario, [SiteWorlds(scenario, name) for name in self._sites])

    def round(self, number: int) -> Report:
        """Joint training."""
        del number
        losses = [self._trainer.update() for _ in range(self._updates)]
        metrics = {name: float(getattr(losses[-1], name)) for name in REPORTED_LOSSES}
        return Report({"": metrics}, self._sites)

    def parameters(self) -> dict[str, Parameters]:
        """The common parameters."""
        return dict.fromkeys(self._sites, self._trainer.averaged)

    def state(self) -> dict[str, Any]:
        """The one learner."""
        return {"trainer": self._trainer.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state."""
        self._trainer.load(state["trainer"])


_KINDS: dict[str, type[Learning]] = {
    "federated": FederatedLearning,
    "local": LocalLearning,
    "central": CentralLearning,
}


def make_learning(scenario: Scenario, workers: Workers[Site]) -> Learning:
    """The learning that the scenario asks for."""
    return _KINDS[scenario.learning](scenario, workers)


class Selection:
    """Keeps the parameters that were best on validation windows; sites that share parameters are judged together."""

    def __init__(self, scenario: Scenario) -> None:
        sites = tuple(scenario.sites)
        self._groups = [(site,) for site in sites] if scenario.learning == "local" else [sites]
        self._scores: dict[str, float] = {}
        self.parameters: dict[str, Parameters] = {}
        self.round = dict.fromkeys(sites, 0)

    def offer(
        self, number: int, parameters: Mapping[str, Parameters], judged: Mapping[str, Mapping[str, float]]
    ) -> bool:
        """Takes parameters with a better mean score than those kept; returns whether any were."""
        better = False
        for group in self._groups:
            score = sum(judged[site]["score"] for site in group) / len(group)
            if score < self._scores.get(group[0], float("inf")):
                better = True
                for site in group:
                    self._scores[site], self.round[site] = score, number
                    self.parameters[site] = parameters[site]
        return better

    def state(self) -> dict[str, Any]:
        """What `load` needs."""
        return {"scores": dict(self._scores), "parameters": dict(self.parameters), "round": dict(self.round)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state."""
        self._scores, self.parameters = dict(state["scores"]), dict(state["parameters"])
        self.round = dict(state["round"])
