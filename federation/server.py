"""The Flower server app: finds the sites, runs the rounds, hands over the results; on any grid, also in `flwr run`."""

import time
from collections.abc import Callable, Mapping, Sequence

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedsched.federation.client import read_partition
from fedsched.federation.messages import Exchange
from fedsched.federation.participant import Parameters, Scalar, SettingError
from fedsched.federation.rounds import RoundResult, check_parameters, run_round
from fedsched.federation.secure import SecureAggregation
from fedsched.federation.strategy import FedAvg, Strategy

POLL_S = 1.0


def server_app(
    sites: Sequence[str],
    parameters: Parameters,
    rounds: int,
    on_round: Callable[[int, RoundResult], None],
    config: Mapping[str, Scalar] | None = None,
    strategy: Strategy | None = None,
    secure: SecureAggregation | None = None,
    join_s: float = 60.0,
    reply_s: float = 3600.0,
) -> ServerApp:
    """The server app of a federation.

    Args:
        sites: all sites, sorted; the node with partition-id k is site k.
        parameters: where the first round starts.
        rounds: number of rounds, numbered from 1.
        on_round: gets number and result of each round as soon as it is done; the place to keep parameters, since Flower
            does not resume a server app.
        config: handed to the participants every round.
        strategy: what the server does with the mean; FedAvg if not given.
        secure: must agree with that of the client apps.
        join_s: how long to wait for all sites to connect; those that did not are left out, by name.
        reply_s: how long to wait for replies; sites that are slower are left out of the round, by name.

    Raises:
        SettingError: sites are not sorted and different, or fewer than three with secure aggregation.
    """
    if not sites or list(sites) != sorted(set(sites)):
        raise SettingError(
            f"sites must be sorted and different, since partition-id k means site k; found {list(sites)}"
        )
    if secure is not None:
        secure.needed(len(sites))
    check_parameters(parameters)
    app = ServerApp()

    @app.main()
    def main(grid: Grid, _: Context) -> None:
        nodes = find_sites(grid, sites, join_s)
        current = parameters
        for number in range(1, rounds + 1):
            exchange = Exchange(grid, sites, nodes, f"round {number}", reply_s)
            result = run_round(exchange, number, current, config or {}, strategy or FedAvg(), secure)
            on_round(number, result)
            current = result.parameters

    return app


def find_sites(grid: Grid, sites: Sequence[str], join_s: float) -> dict[str, int]:
    """Ask connected nodes which site they are, until all are there or `join_s` seconds are over.

    Returns:
        site -> Flower node id, for the sites that answered; a node with an unknown partition-id is not asked again.
    """
    deadline = time.monotonic() + join_s
    asked: set[int] = set()
    nodes: dict[str, int] = {}
    while True:
        new = [node for node in grid.get_node_ids() if node not in asked]
        asked.update(new)
        messages = [Message(RecordDict(), node, "query.site") for node in new]
        wait_s = max(POLL_S, deadline - time.monotonic())
        for reply in grid.send_and_receive(messages, timeout=wait_s) if messages else ():
            if reply.has_content() and 0 <= (place := read_partition(reply.content)) < len(sites):
                nodes[sites[place]] = reply.metadata.src_node_id
        if len(nodes) == len(sites) or time.monotonic() >= deadline:
            return nodes
        time.sleep(POLL_S)
