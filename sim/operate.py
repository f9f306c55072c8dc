"""Operating: all sites run the same periods on one clock and settle a plan at every epoch boundary."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from fedsched.agents.mailbox import Traffic as AgentTraffic
from fedsched.consensus import Council, Settlement
from fedsched.sim.domains import domain_of, figures_of
from fedsched.sim.domains.base import FloatArray, Simulator, Split
from fedsched.sim.domains.figures import Figures, weighted_mean
from fedsched.sim.market import bid_of, make_council, settlement_event
from fedsched.sim.record import Recorder
from fedsched.sim.scenario import Plan, Scenario
from fedsched.sim.stage import Moved, Stage
from fedsched.sim.table import ALL_SITES, SENT
from fedsched.sim.training import Parameters


@dataclass
class Traffic:
    """What settling and delivering sent over the network.

    Attributes:
        settlements: Plans settled.
        transfers: Commitments in them.
        quantity: Units of the resource committed.
        moved: Pieces of work that moved, such as jobs.
        data_mb: Data that moved with them, megabytes.
        consensus_bytes: Sent between replicas.
        messages: Sent between agents, one per listener and round.
        possible_messages: What this would have been if every decision had sent.
        message_bytes: Of them, and of the bits that say which were not sent.
        views: Settlements that needed a new view.
        certificate: Digest of the last settled plan, and how many sites signed it.
    """

    settlements: int = 0
    transfers: int = 0
    quantity: int = 0
    moved: int = 0
    data_mb: float = 0.0
    consensus_bytes: int = 0
    messages: int = 0
    possible_messages: int = 0
    message_bytes: int = 0
    views: int = 0
    certificate: str = ""

    def note(self, settlement: Settlement) -> None:
        """Adds a settlement."""
        plan = settlement.plan
        self.settlements += 1
        self.transfers += len(plan.transfers)
        self.quantity += sum(transfer.quantity for transfer in plan.transfers)
        self.consensus_bytes += settlement.bytes
        self.views += settlement.view_changes > 0
        signatures, sites = len(settlement.certificate.signatures), len(settlement.membership.names)
        self.certificate = f"{plan.digest.hex()[:16]} signed by {signatures} of {sites} sites"

    def move(self, moved: Moved) -> None:
        """Adds what was carried out."""
        self.moved += moved.pieces
        self.data_mb += moved.megabytes

    def hear(self, sent: Iterable[AgentTraffic]) -> None:
        """Takes down what the agents of all sites sent."""
        all_sent = sum(sent, AgentTraffic())
        self.messages, self.possible_messages = all_sent.messages, all_sent.possible
        self.message_bytes = all_sent.payload_bytes


@dataclass(frozen=True)
class Operated:
    """What an actor achieved.

    Attributes:
        actors: Who drove each site: a rule's name or `policy`.
        figures: float64 [rows] by site and figure.
        described: What the figures are.
        traffic: Over the network.
        sent: By the agents of each site, to one another.
    """

    actors: Mapping[str, str]
    figures: Mapping[str, Mapping[str, FloatArray]]
    described: Figures
    traffic: Traffic = field(default_factory=Traffic)
    sent: Mapping[str, AgentTraffic] = field(default_factory=dict)

    def mean(self, site: str, figure: str) -> float | None:
        """A figure of a site over all rows: weighted by its jobs or trips where it is a mean over these.

        None where no row has one: where no trip came to its end, say.
        """
        values = self.figures[site][figure].tolist()
        known = self.described[figure]
        if known.over == "unit":
            return weighted_mean(values, self.figures[site][known.by or self.described.unit].tolist())
        return weighted_mean(values, [1.0] * len(values))

    def at(self, site: str) -> dict[str, float | None]:
        """All that is known of a site: its figures, and what its agents sent (`table.SENT`)."""
        shared = sum(self.sent.values(), AgentTraffic()) if site == ALL_SITES else AgentTraffic()
        sent = self.sent.get(site, shared)
        known = {name: self.mean(site, name) for name in self.described.names}
        return known | dict(zip(SENT, (sent.messages, sent.possible, sent.payload_bytes), strict=True))

    def total(self, figure: str) -> FloatArray:
        """Sum of a figure over sites, [rows]; that of the whole where they share a world."""
        if ALL_SITES in self.figures:
            return np.asarray(self.figures[ALL_SITES][figure])
        return np.asarray(np.sum([by_name[figure] for by_name in self.figures.values()], axis=0))


class Operator:
    """Runs the scenario's evaluation periods at all sites.

    Args:
        stage: Where they run.
        scenario: The whole scenario.
        recorder: Takes plans and settlements; None: nothing is written.
        run: Id of the run, which its keys and certificates are of.
    """

    def __init__(self, stage: Stage, scenario: Scenario, recorder: Recorder | None = None, run: str = "") -> None:
        self._stage, self._scenario, self._recorder, self._run = stage, scenario, recorder, run
        self._domain = domain_of(scenario)

    def operate(
        self,
        actors: Mapping[str, str],
        parameters: Mapping[str, Parameters],
        split: Split,
        plan: Plan | None = None,
        occasion: str = "",
        simulator: Simulator = "own",
    ) -> Operated:
        """Runs all periods once, from empty sites to their end.

        Args:
            actors: Who drives each site: a rule's name or `policy`.
            parameters: Of the policies, by site; rules need none.
            split: Which periods.
            plan: Settled and carried out at every epoch boundary; None: sites do not trade.
            occasion: Short name for records and certificates.
            simulator: What runs them.
        """
        self._stage.open(actors, parameters, split, simulator)
        horizon = self._stage.horizon_s
        traffic = Traffic()
        if plan is not None:
            council = make_council(self._scenario, plan, occasion, self._run)
            for epoch in range(math.ceil(horizon / plan.epoch) - 1):
                end = (epoch + 1) * plan.epoch
                self._stage.advance(end)
                window = (math.ceil(end), math.ceil(min(horizon, end + plan.epoch)))
                settled = self._settle(council, epoch, window, traffic, occasion)
                traffic.move(self._stage.carry_out(settled, plan, window))
        self._stage.advance(horizon)
        outcomes, sent = self._stage.outcomes()
        traffic.hear(sent.values())
        return Operated(actors, self._domain.figures(outcomes), figures_of(self._scenario), traffic, sent)

    def _settle(
        self, council: Council, epoch: int, window: tuple[int, int], traffic: Traffic, occasion: str
    ) -> dict[int, Settlement]:
        """Bids, and one settlement per row."""
        lots = self._stage.lots(window)
        found = {}
        for row in range(self._scenario.evaluation.windows):
            bids = {site: bid_of(site, epoch, lots[site][row]) for site in self._scenario.sites}
            found[row] = settlement = council.settle(epoch, bids, row)
            traffic.note(settlement)
            if self._recorder is not None:
                self._recorder.plan(row, epoch, {"occasion": occasion, **settlement.record().to_builtins()})
                notes = settlement_event(settlement)
                self._recorder.event("settlement", occasion=occasion, row=row, epoch=epoch, **notes)
        return found
