"""A Flower grid inside one process: calls the client app directly, without services, sockets or polling.

The same ServerApp and ClientApp run under `flwr run`; here a round without training takes milliseconds and is
reproducible: node ids are fixed, replies come in the order of the requests, and each node keeps its context between
messages.
"""

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedsched.federation.flwr_internals import RUN, act_as_server, stamp

FIRST_NODE = 1000

Drop = Callable[[str, str], bool]
"""Fault injection: (message type, site) -> whether the reply is lost. The site has done its work by then."""

Tap = Callable[[Message, Message], None]
"""Sees every request and its reply, as a server does that keeps all it gets."""

log = logging.getLogger(__name__)


class LocalGrid(Grid):
    """All nodes of a federation in this process.

    Args:
        app: the client app, called with the context of the node that a message is for.
        sites: names of the sites; node k is FIRST_NODE + k with partition-id k.
        parallel: number of messages handled at the same time; above 1 pays where participants wait for other processes.
        drop: loses replies on purpose.
        tap: is shown every request and reply, in order.
    """

    def __init__(
        self,
        app: ClientApp,
        sites: Sequence[str],
        parallel: int = 1,
        drop: Drop | None = None,
        tap: Tap | None = None,
    ) -> None:
        act_as_server()
        self._app = app
        self._parallel = parallel
        self._drop = drop
        self._tap = tap
        self._run = Run.create_empty(RUN)
        self.nodes = {site: FIRST_NODE + k for k, site in enumerate(sites)}
        self._sites = {node: site for site, node in self.nodes.items()}
        self._contexts = {
            node: Context(
                run_id=RUN,
                node_id=node,
                node_config={"partition-id": k, "num-partitions": len(sites)},
                state=RecordDict(),
                run_config={},
            )
            for k, node in enumerate(self.nodes.values())
        }

    def set_run(self, run: Run) -> None:
        """Take over the run that a ServerApp is started with."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def get_node_ids(self) -> list[int]:
        """Ids of all nodes, in the order of the sites."""
        return list(self._contexts)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message from the server, as the constructor of `Message` does."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Not offered: a call in process has no time between request and reply."""
        raise NotImplementedError("LocalGrid answers at once: use send_and_receive")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Not offered, like `push_messages`."""
        raise NotImplementedError("LocalGrid answers at once: use send_and_receive")

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Handle every message and return the replies in the order of the messages; waits as long as it takes."""
        del timeout  # a call in process cannot be given up half way
        requests = list(messages)
        if self._parallel > 1:
            with ThreadPoolExecutor(min(self._parallel, max(1, len(requests)))) as pool:
                replies = list(pool.map(self._deliver, requests))
        else:
            replies = [self._deliver(request) for request in requests]
        if self._tap is not None:
            for request, reply in zip(requests, replies, strict=True):
                self._tap(request, reply)
        return replies

    def _deliver(self, request: Message) -> Message:
        """One message to its node and back; an exception of the app becomes an Error reply, as in Flower's engines."""
        node, kind = request.metadata.dst_node_id, request.metadata.message_type
        site = self._sites[node]
        # The app gets a copy, so that it cannot edit the server's records
        arrived = Message(copy.deepcopy(request.content), node, kind, group_id=request.metadata.group_id)
        stamp(arrived, stamp(request))
        try:
            reply = self._app(arrived, self._contexts[node])
        except Exception as error:
            log.info("site %s failed in %s", site, kind, exc_info=True)
            reason = f"{type(error).__name__}: {error}"
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=arrived)
        if self._drop is not None and self._drop(kind, site):
            lost = f"the reply to {kind} was lost (injected fault)"
            reply = Message(Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, lost), reply_to=arrived)
        stamp(reply)
        return reply
