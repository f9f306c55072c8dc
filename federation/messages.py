"""What crosses between server and sites: records in and out of Flower's messages, and one round's exchange of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedsched.federation.flwr_internals import wire_bytes
from fedsched.federation.participant import FederationError, Parameters, Scalar, Update

T = TypeVar("T")


def pack_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> ArrayRecord:
    """Named arrays as a Flower record; type and shape are kept."""
    return ArrayRecord(
        {name: Array(np.ascontiguousarray(value).reshape(value.shape)) for name, value in arrays.items()}
    )


def unpack_arrays(record: ArrayRecord) -> Parameters:
    """Named arrays out of a Flower record, writable copies of their own."""
    return {name: cast("NDArray[np.float32]", array.numpy()) for name, array in record.items()}


def pack_request(parameters: Parameters, config: Mapping[str, Scalar]) -> RecordDict:
    """What a site needs to train or to evaluate."""
    return RecordDict({"parameters": pack_arrays(parameters), "config": ConfigRecord(dict(config))})


def unpack_request(content: RecordDict) -> tuple[Parameters, dict[str, Scalar]]:
    """Parameters and configuration that the server sent."""
    config = cast("dict[str, Scalar]", dict(content.config_records["config"]))
    return unpack_arrays(content.array_records["parameters"]), config


def pack_metrics(metrics: Mapping[str, float]) -> MetricRecord:
    """A site's figures as a Flower record."""
    return MetricRecord({name: float(value) for name, value in metrics.items()})


def unpack_metrics(content: RecordDict) -> dict[str, float]:
    """A site's figures; empty where none were sent."""
    return {name: float(cast("float", value)) for name, value in content.metric_records.get("metrics", {}).items()}


def pack_update(update: Update) -> RecordDict:
    """An update in the clear."""
    return RecordDict(
        {
            "delta": pack_arrays(update.delta),
            "weight": MetricRecord({"weight": float(update.weight)}),
            "metrics": pack_metrics(update.metrics),
        }
    )


def unpack_update(content: RecordDict) -> Update:
    """An update that was sent in the clear."""
    weight = float(cast("float", content.metric_records["weight"]["weight"]))
    return Update(unpack_arrays(content.array_records["delta"]), weight, unpack_metrics(content))


def read_blob(content: RecordDict, name: str) -> bytes:
    """A byte string out of the protocol record of a secure round; raises TypeError if it is something else."""
    value = content.config_records["secure"][name]
    if not isinstance(value, bytes):
        raise TypeError(f"{name} is {type(value).__name__}, not bytes")
    return value


def read_blobs(content: RecordDict, name: str) -> list[bytes]:
    """A list of byte strings out of the protocol record of a secure round; raises TypeError if it is something else."""
    value = content.config_records["secure"][name]
    if not isinstance(value, list):
        raise TypeError(f"{name} is {type(value).__name__}, not a list")
    if not all(isinstance(item, bytes) for item in value):
        raise TypeError(f"{name} holds other things than bytes")
    return cast("list[bytes]", value)


class Exchange:
    """The traffic of one round: asks sites, keeps who failed and why, counts bytes.

    Args:
        grid: any Flower grid.
        sites: all sites of the federation, sorted; a site's place is its partition-id.
        nodes: site -> Flower node id, for the sites that are connected.
        title: what this traffic is for, such as "round 3", for error texts.
        timeout_s: longest wait for the replies to one request; None waits without end.

    Attributes:
        failures: site -> stage and reason.
        bytes_up: site -> bytes of content received from it.
        bytes_down: site -> bytes of content sent to it.
    """

    def __init__(
        self, grid: Grid, sites: Sequence[str], nodes: Mapping[str, int], title: str, timeout_s: float | None = None
    ) -> None:
        self._grid = grid
        self._nodes = nodes
        self._title = title
        self._timeout_s = timeout_s
        self.sites = tuple(sites)
        self.failures = {site: "not connected" for site in sites if site not in nodes}
        self.bytes_up = dict.fromkeys(sites, 0)
        self.bytes_down = dict.fromkeys(sites, 0)

    @property
    def connected(self) -> list[str]:
        """Sites that can be asked at all, in order."""
        return [site for site in self.sites if site in self._nodes]

    def ask(
        self,
        stage: str,
        message_type: str,
        contents: Mapping[str, RecordDict],
        read: Callable[[RecordDict], T],
        needed: int,
    ) -> dict[str, T]:
        """Send one message to each site of `contents` and read the replies.

        Args:
            stage: name for error texts.
            message_type: Flower's routing to an action of the client app.
            contents: site -> what to send.
            read: makes sense of a reply; a ValueError, KeyError or TypeError of it fails the site.
            needed: number of sites that must answer.

        Returns:
            site -> what was read, in the order of the sites; those that failed are in `failures`.

        Raises:
            FederationError: fewer than `needed` sites answered.
        """
        replies = self._send(message_type, contents)
        answers: dict[str, T] = {}
        for site in (s for s in self.sites if s in contents):
            reply = replies.get(site)
            if reply is None:
                self.failures[site] = f"{stage}: no reply within {self._timeout_s} s"
            elif reply.has_error():
                self.failures[site] = f"{stage}: {reply.error.reason}"
            else:
                self.bytes_up[site] += wire_bytes(reply.content)
                try:
                    answers[site] = read(reply.content)
                except (ValueError, KeyError, TypeError) as error:
                    self.failures[site] = f"{stage}: reply refused, {type(error).__name__}: {error}"
        if len(answers) < needed:
            left = f"{len(answers)} of {len(self.sites)} sites are left, {needed} are needed"
            raise FederationError(f"{self._title}, stage '{stage}': {left}", stage, len(answers), needed, self.failures)
        return answers

    def _send(self, message_type: str, contents: Mapping[str, RecordDict]) -> dict[str, Message]:
        """Replies by site; sites that did not answer in time are missing."""
        messages = []
        for site, content in contents.items():
            self.bytes_down[site] += wire_bytes(content)
            messages.append(Message(content, self._nodes[site], message_type, group_id=self._title))
        by_node = {node: site for site, node in self._nodes.items()}
        replies = self._grid.send_and_receive(messages, timeout=self._timeout_s)
        return {by_node[reply.metadata.src_node_id]: reply for reply in replies}
