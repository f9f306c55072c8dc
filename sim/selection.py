"""Which parameters a run ends with, judged on validation windows."""

from collections.abc import Iterable, Mapping
from typing import Any

from fedsched.sim.scenario import Scenario
from fedsched.sim.training import Parameters


def groups(scenario: Scenario) -> list[tuple[str, ...]]:
    """Sites that share parameters."""
    sites = tuple(scenario.sites)
    return [(site,) for site in sites] if scenario.learning == "local" else [sites]


class Selection:
    """Keeps the parameters to use in the end, judged on validation windows; sites that share parameters go together.

    Later parameters replace those kept unless their score is worse than the best by more than its standard error: what
    the windows cannot tell apart is decided for more training (the one-standard-error rule of Breiman et al. 1984).
    A site that was not judged is left out of the comparison, on both sides of it.

    Attributes:
        parameters: Those kept, by site.
        round: After which round they were judged, by site.
        waits: Mean wait under them relative to the bounding rule's, by site; of sites that were judged by waits.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._groups = groups(scenario)
        self._best: dict[str, dict[str, tuple[float, float]]] = {}
        self.parameters: dict[str, Parameters] = {}
        self.round = dict.fromkeys(scenario.sites, 0)
        self.waits: dict[str, float] = {}

    def offer(
        self, number: int, parameters: Mapping[str, Parameters], judged: Mapping[str, Mapping[str, float]]
    ) -> bool:
        """Takes parameters that are good enough; returns whether any were."""
        taken = False
        for group in self._groups:
            now = {site: (judged[site]["score"], judged[site]["noise"]) for site in group if site in judged}
            best = self._best.get(group[0], {})
            both = now.keys() & best.keys()
            if not now or (best and not both):
                continue
            score, (least, margin) = _mean(now, both)[0], _mean(best, both)
            if not best or score < least:
                self._best[group[0]] = now
            if not best or score <= least + margin:
                taken = True
                for site in group:
                    self.round[site], self.parameters[site] = number, parameters[site]
                self.waits |= {site: judged[site]["wait_ratio"] for site in now if "wait_ratio" in judged[site]}
        return taken

    def state(self) -> dict[str, Any]:
        """What `load` needs."""
        kept = {"parameters": dict(self.parameters), "round": dict(self.round), "waits": dict(self.waits)}
        return {"best": dict(self._best), **kept}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state."""
        self._best, self.parameters = dict(state["best"]), dict(state["parameters"])
        self.round, self.waits = dict(state["round"]), dict(state["waits"])


def _mean(scores: Mapping[str, tuple[float, float]], sites: Iterable[str]) -> tuple[float, float]:
    """Mean score of some sites and its standard error; zeros of none."""
    chosen = [scores[site] for site in sorted(sites)]
    count = max(1, len(chosen))
    return sum(score for score, _ in chosen) / count, sum(noise**2 for _, noise in chosen) ** 0.5 / count
