"""Where operated periods run: every site in a world of its own, or all sites in one shared world."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fedsched.agents.mailbox import Traffic
from fedsched.consensus import Settlement
from fedsched.envs.core import Delivery, Lot, Observation
from fedsched.sim.domains import domain_of
from fedsched.sim.domains.base import (
    POLICY,
    Cargo,
    Outcome,
    Simulator,
    Split,
    device_of,
)
from fedsched.sim.domains.sharing import Actions, SharedOperation, SharedWorlds, Sharing
from fedsched.sim.market import deliveries_of
from fedsched.sim.scenario import Plan, Scenario
from fedsched.sim.site import Site
from fedsched.sim.training import Parameters
from fedsched.sim.workers import Workers

Window = tuple[int, int]
"""Begin and end of an epoch, whole seconds on the common clock."""


@dataclass
class Moved:
    """What changed its place when a plan was carried out.

    Attributes:
        pieces: Of work, such as jobs.
        megabytes: That moved with them.
    """

    pieces: int = 0
    megabytes: float = 0.0


class Stage(Protocol):
    """All sites of a scenario while they operate one set of periods."""

    def open(
        self, actors: Mapping[str, str], parameters: Mapping[str, Parameters], split: Split, simulator: Simulator
    ) -> None:
        """Starts the periods; who drives each site: a rule's name or `policy`."""
        ...

    @property
    def horizon_s(self) -> float:
        """Until when they run; infinite: until they have ended."""
        ...

    def best_rules(self) -> dict[str, str]:
        """The classical rule that does best on the validation windows, by site."""
        ...

    def advance(self, until_s: float) -> None:
        """Runs all rows to a moment of the common clock."""
        ...

    def lots(self, window: Window) -> dict[str, list[list[Lot]]]:
        """What each row of each site offers and asks for in the coming epoch."""
        ...

    def carry_out(self, settled: Mapping[int, Settlement], plan: Plan, window: Window) -> Moved:
        """Does what was settled for each row."""
        ...

    def outcomes(self) -> tuple[dict[str, Outcome], dict[str, Traffic]]:
        """What became of the rows, and what the agents of each site sent."""
        ...

    def close(self) -> None:
        """Ends the periods, with all that they started outside the workers' processes."""
        ...


def stage_of(workers: Workers[Site], scenario: Scenario) -> Stage:
    """Where a scenario's sites operate: apart, or in the shared world of their domain."""
    domain = domain_of(scenario)
    if isinstance(domain, Sharing) and domain.shares(scenario):
        return Shared(workers, scenario, domain.shared(scenario, device_of(scenario)))
    return Apart(workers, scenario)


class Apart:
    """Every site operates a world of its own, where it lives."""

    def __init__(self, workers: Workers[Site], scenario: Scenario) -> None:
        self._workers, self._scenario = workers, scenario
        self._sites = tuple(scenario.sites)

    @property
    def horizon_s(self) -> float:
        """As the domain says."""
        return domain_of(self._scenario).horizon_s(self._scenario)

    def open(
        self, actors: Mapping[str, str], parameters: Mapping[str, Parameters], split: Split, simulator: Simulator
    ) -> None:
        """Starts the periods at every site."""
        rows = self._scenario.evaluation.windows
        wanted = {site: (actors[site], split, rows, parameters.get(site), simulator) for site in self._sites}
        self._workers.map("open", wanted)

    def advance(self, until_s: float) -> None:
        """Runs all sites, in parallel where they can."""
        self._workers.map("advance", dict.fromkeys(self._sites, (until_s,)))

    def lots(self, window: Window) -> dict[str, list[list[Lot]]]:
        """As each site states them."""
        return self._workers.map("lots", dict.fromkeys(self._sites, (window,)))

    def carry_out(self, settled: Mapping[int, Settlement], plan: Plan, window: Window) -> Moved:
        """Givers hand over, then takers accept."""
        del window
        gives: dict[str, dict[int, list[Delivery]]] = {}
        for row, settlement in settled.items():
            for site, deliveries in deliveries_of(settlement, plan).items():
                gives.setdefault(site, {})[row] = deliveries
        handed = self._workers.map("give", {site: (wanted,) for site, wanted in gives.items()})
        takes: dict[str, dict[int, dict[str, Cargo]]] = {}
        moved = Moved()
        for giver, by_row in handed.items():
            for row, by_peer in by_row.items():
                for taker, cargo in by_peer.items():
                    takes.setdefault(taker, {}).setdefault(row, {})[giver] = cargo
                    moved.pieces += len(cargo)
                    moved.megabytes += cargo.megabytes
        self._workers.map("take", {site: (cargos,) for site, cargos in takes.items()})
        return moved

    def outcomes(self) -> tuple[dict[str, Outcome], dict[str, Traffic]]:
        """As each site tells them."""
        found: dict[str, Outcome] = self._workers.map("outcome", dict.fromkeys(self._sites, ()))
        return found, {site: outcome.sent for site, outcome in found.items()}

    def close(self) -> None:
        """Every site ends its own."""
        self._workers.map("close", dict.fromkeys(self._sites, ()))

    def best_rules(self) -> dict[str, str]:
        """Each site's own."""
        return self._workers.map("best_rule", dict.fromkeys(self._sites, ()))


class Shared:
    """All sites act in one world, which is here; a site's policy stays where the site lives and is asked for actions.

    Args:
        workers: Where the sites live.
        scenario: The whole scenario.
        worlds: The shared ones.
    """

    def __init__(self, workers: Workers[Site], scenario: Scenario, worlds: SharedWorlds) -> None:
        self._workers, self._scenario, self._worlds = workers, scenario, worlds
        self._sites = tuple(scenario.sites)
        self._operated: SharedOperation | None = None
        self._asking = False

    @property
    def horizon_s(self) -> float:
        """The length of the shared world's periods."""
        return self._worlds.horizon_s

    def open(
        self, actors: Mapping[str, str], parameters: Mapping[str, Parameters], split: Split, simulator: Simulator
    ) -> None:
        """Starts the shared periods; one rule drives all sites, or each its own policy."""
        [actor] = set(actors.values())
        self.close()
        rows, self._asking = self._scenario.evaluation.windows, actor == POLICY
        if self._asking:
            self._workers.map("join", {site: (rows, parameters[site]) for site in self._sites})
        decide = self._decide if self._asking else None
        self._operated = self._worlds.operate(split, rows, actor, decide, simulator)

    def best_rules(self) -> dict[str, str]:
        """The one that does best in the shared world: it drives all sites."""
        return dict.fromkeys(self._sites, self._worlds.best_rule)

    def _decide(self, seen: Mapping[str, Observation]) -> dict[str, Actions]:
        return self._workers.map("act", {site: (observation,) for site, observation in seen.items()})

    def advance(self, until_s: float) -> None:
        """Runs the shared world."""
        self._now().advance(until_s)

    def lots(self, window: Window) -> dict[str, list[list[Lot]]]:
        """As they follow from each site's part of the world."""
        return self._now().lots(window)

    def carry_out(self, settled: Mapping[int, Settlement], plan: Plan, window: Window) -> Moved:
        """Every site keeps what it gave and took; those whose bids were not ordered are bound to nothing."""
        for row, settlement in settled.items():
            parties = frozenset(signed.bid.site for signed in settlement.bids)
            self._now().keep(row, window, deliveries_of(settlement, plan, both=True), parties)
        return Moved()

    def outcomes(self) -> tuple[dict[str, Outcome], dict[str, Traffic]]:
        """Of each site's part, and of the whole."""
        sent: dict[str, Traffic] = {}
        if self._asking:
            sent = self._workers.map("sent", dict.fromkeys(self._sites, ()))
        return self._now().outcomes(), sent

    def close(self) -> None:
        """Ends the periods, with all that they started outside this process."""
        if self._operated is not None:
            self._operated.close()
        self._operated = None

    def _now(self) -> SharedOperation:
        assert self._operated is not None, "call open first"
        return self._operated
