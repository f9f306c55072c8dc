"""One round of federated learning, and the federation of one process that a run loop calls.

`run_round` is the same function whether the grid is local or Flower's own.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict

from fedsched.federation.client import client_app
from fedsched.federation.grid import Drop, LocalGrid, Tap
from fedsched.federation.messages import Exchange, pack_request, unpack_metrics, unpack_update
from fedsched.federation.participant import Parameters, Participant, Scalar, SettingError, Update, check_update
from fedsched.federation.secure import SecureAggregation
from fedsched.federation.secure_server import SecureRound
from fedsched.federation.strategy import Aggregate, FedAvg, Strategy

PLAIN_THRESHOLD = 0.5
"""Share of the sites that must finish a round without secure aggregation: a mean of fewer would not be theirs."""


@dataclass(frozen=True)
class RoundResult:
    """What a round did.

    Attributes:
        parameters: the new parameters, float32, names and order of the old ones.
        took_part: sites whose updates are in the mean, sorted.
        left_out: site -> reason, for every site that is not.
        late: site -> reason, for sites in the mean that failed afterwards (at unmasking).
        metrics: site -> training metrics; empty with secure aggregation unless it asks for them.
        bytes_up: site -> bytes of content sent by it.
        bytes_down: site -> bytes of content sent to it.
        seconds: wall clock of the round.
    """

    parameters: Parameters
    took_part: tuple[str, ...]
    left_out: dict[str, str]
    late: dict[str, str]
    metrics: dict[str, dict[str, float]]
    bytes_up: dict[str, int]
    bytes_down: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """What sites measured.

    Attributes:
        metrics: site -> name -> value, for those that answered.
        left_out: site -> reason, for those that did not.
        bytes_up: site -> bytes of content sent by it.
        bytes_down: site -> bytes of content sent to it.
    """

    metrics: dict[str, dict[str, float]]
    left_out: dict[str, str]
    bytes_up: dict[str, int]
    bytes_down: dict[str, int]


def run_round(
    exchange: Exchange,
    number: int,
    parameters: Parameters,
    config: Mapping[str, Scalar],
    strategy: Strategy,
    secure: SecureAggregation | None,
) -> RoundResult:
    """Broadcast parameters, collect updates, take a step.

    Args:
        exchange: a fresh exchange with the sites.
        number: the round's number.
        parameters: what sites start from; not changed.
        config: handed to the participants as it is.
        strategy: makes new parameters of the mean.
        secure: how to sum without seeing; None sends updates in the clear.

    Raises:
        FederationError: too few sites finished; says which stage and why each one failed.
        SettingError: fewer than three sites with secure aggregation, or parameters that are not float32.
    """
    start = time.perf_counter()
    check_parameters(parameters)
    if secure is None:
        outcome = _plain_mean(exchange, parameters, config, strategy)
    else:
        needed = secure.needed(len(exchange.sites))
        outcome = SecureRound(exchange, number, needed).run(parameters, config)
    return RoundResult(
        parameters=strategy.step(parameters, outcome.mean),
        took_part=outcome.took_part,
        left_out=dict(sorted(exchange.failures.items())),
        late=outcome.late,
        metrics=outcome.metrics,
        bytes_up=exchange.bytes_up,
        bytes_down=exchange.bytes_down,
        seconds=time.perf_counter() - start,
    )


def check_parameters(parameters: Parameters) -> None:
    """Refuse parameters that are empty or not float32 (SettingError)."""
    wrong = {name: str(value.dtype) for name, value in parameters.items() if value.dtype != np.float32}
    if wrong or not parameters:
        raise SettingError(f"parameters must be float32 arrays by name, found {wrong or 'none'}: convert them first")


def _plain_mean(
    exchange: Exchange, parameters: Parameters, config: Mapping[str, Scalar], strategy: Strategy
) -> Aggregate:
    """Updates in the clear, checked here as the sites check them before they send."""

    def read(content: RecordDict) -> Update:
        update = unpack_update(content)
        check_update(update, parameters)
        return update

    needed = math.ceil(PLAIN_THRESHOLD * len(exchange.sites))
    contents = dict.fromkeys(exchange.connected, pack_request(parameters, config))
    updates = exchange.ask("training", "train", contents, read, needed)
    metrics = {site: update.metrics for site, update in updates.items()}
    return Aggregate(strategy.mean(updates), tuple(updates), metrics, late={})


class Federation:
    """Sites that learn together inside one process, or through proxies from it, over Flower messages.

    Args:
        participants: site -> participant; a proxy may stand for one elsewhere.
        strategy: what the server does with the mean.
        secure: how updates are summed unseen; None sends them in the clear.
        parallel: participants called at the same time, from threads; results do not depend on it.
        faults: loses replies on purpose, by message type and site.
        tap: is shown every message and its reply: what the server sees.

    Raises:
        SettingError: no sites, fewer than three with secure aggregation, or an unknown Flower version.
    """

    def __init__(
        self,
        participants: Mapping[str, Participant],
        strategy: Strategy | None = None,
        secure: SecureAggregation | None = None,
        parallel: int = 1,
        faults: Drop | None = None,
        tap: Tap | None = None,
    ) -> None:
        if not participants:
            raise SettingError("a federation needs at least one participant, none was given")
        self.sites = tuple(sorted(participants))
        if secure is not None:
            secure.needed(len(self.sites))
        self._strategy = strategy or FedAvg()
        self._secure = secure
        members = [participants[site] for site in self.sites]
        self._grid = LocalGrid(client_app(members.__getitem__, secure), self.sites, parallel, faults, tap)

    def round(self, number: int, parameters: Parameters, config: Mapping[str, Scalar]) -> RoundResult:
        """Let every site train once from `parameters` and return the new ones; the given ones are not changed.

        Raises:
            FederationError: too few sites finished.
        """
        exchange = Exchange(self._grid, self.sites, self._grid.nodes, f"round {number}")
        return run_round(exchange, number, parameters, config, self._strategy, self._secure)

    def evaluate(self, number: int, parameters: Parameters, config: Mapping[str, Scalar]) -> Evaluation:
        """Let every site measure `parameters`; the figures travel in the clear, also with secure aggregation.

        Raises:
            FederationError: no site finished.
        """
        check_parameters(parameters)
        exchange = Exchange(self._grid, self.sites, self._grid.nodes, f"evaluation after round {number}")
        contents = dict.fromkeys(self.sites, pack_request(parameters, config))
        metrics = exchange.ask("evaluating", "evaluate", contents, unpack_metrics, 1)
        return Evaluation(metrics, dict(sorted(exchange.failures.items())), exchange.bytes_up, exchange.bytes_down)
