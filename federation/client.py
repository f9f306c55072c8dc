"""The Flower client app: answers the server's requests by asking the site's participant.

The app keeps nothing but the secrets of a running secure round, and those in the node's context: Flower may start it
anew for every message.
"""

from collections.abc import Callable
from typing import cast

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedsched.federation.messages import pack_metrics, pack_update, unpack_request
from fedsched.federation.participant import Participant, Update, check_update
from fedsched.federation.secure import SecureAggregation
from fedsched.federation.secure_client import register_secure

Lookup = Callable[[int], Participant]
"""Finds a site's participant by partition-id: an object, the proxy of a Ray actor, the client of a local service."""


def partition_of(context: Context) -> int:
    """A node's place among the sites, which Flower keeps under `partition-id`."""
    return int(context.node_config["partition-id"])


def client_app(lookup: Lookup, secure: SecureAggregation | None = None) -> ClientApp:
    """The client app of a federation.

    Args:
        lookup: finds the participant of the node that is asked.
        secure: with it, the app has no action that would send an update in the clear.

    Returns:
        An app with the actions `query.site`, `evaluate` and either `train` or the four stages of a secure round.
        Exceptions of a participant leave it; every Flower runner turns them into an Error reply.
    """
    app = ClientApp()

    def train(message: Message, context: Context) -> Update:
        parameters, config = unpack_request(message.content)
        update = lookup(partition_of(context)).train(parameters, config)
        # What came in may have been changed in place by the participant
        received, _ = unpack_request(message.content)
        check_update(update, received)
        return update

    @app.query("site")
    def site(message: Message, context: Context) -> Message:
        return Message(RecordDict({"site": ConfigRecord({"partition": partition_of(context)})}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        parameters, config = unpack_request(message.content)
        metrics = lookup(partition_of(context)).evaluate(parameters, config)
        return Message(RecordDict({"metrics": pack_metrics(metrics)}), reply_to=message)

    if secure is None:

        @app.train()
        def train_in_the_clear(message: Message, context: Context) -> Message:
            return Message(pack_update(train(message, context)), reply_to=message)

    else:
        register_secure(app, train, secure)
    return app


def read_partition(content: RecordDict) -> int:
    """The reply to `query.site`."""
    return cast("int", content.config_records["site"]["partition"])
