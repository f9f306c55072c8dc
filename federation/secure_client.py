"""A site's half of a secure round: four actions, with the round's secrets in the node's context until the last.

Stages: fresh keys; shares of the node's secrets, sealed for each peer; the masked vector; shares for unmasking. Nodes
are known to each other by partition-id; the share number of a node is its partition-id + 1.
"""

import os
from collections.abc import Callable, Mapping
from typing import cast

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedsched.federation import secure, shamir
from fedsched.federation.messages import pack_arrays, pack_metrics
from fedsched.federation.participant import Update

STATE = "secure"
KEYS, SHARES, VECTOR, UNMASK = "secure_keys", "secure_shares", "secure_vector", "secure_unmask"

Train = Callable[[Message, Context], Update]


class ProtocolError(ValueError):
    """A request that an honest server does not make; the node answers it with an Error and nothing else."""


def register_secure(app: ClientApp, train: Train, settings: secure.SecureAggregation) -> None:
    """Add the four stages to a client app; `train` makes the checked update of the node in question."""

    @app.train(KEYS)
    def keys(message: Message, context: Context) -> Message:
        return _reply(message, make_keys(_request(message), context))

    @app.train(SHARES)
    def shares(message: Message, context: Context) -> Message:
        return _reply(message, share_secrets(_request(message), context, settings))

    @app.train(VECTOR)
    def vector(message: Message, context: Context) -> Message:
        _enter(context, _request(message), after=SHARES)
        update = train(message, context)
        content = RecordDict({"masked": pack_arrays({"vector": mask_update(_request(message), context, update)})})
        if settings.metrics:
            content["metrics"] = pack_metrics(update.metrics)
        return Message(content, reply_to=message)

    @app.train(UNMASK)
    def unmask(message: Message, context: Context) -> Message:
        return _reply(message, open_shares(_request(message), context))


def make_keys(request: ConfigRecord, context: Context) -> ConfigRecord:
    """Stage 1: a fresh key pair for sealing and one for masks; an unfinished earlier round is forgotten."""
    box_secret, box_public = secure.key_pair()
    mask_secret, mask_public = secure.key_pair()
    context.state[STATE] = ConfigRecord(
        {"stage": KEYS, "round": request["round"], "box_secret": box_secret, "mask_secret": mask_secret}
    )
    return ConfigRecord({"box": box_public, "mask": mask_public})


def share_secrets(request: ConfigRecord, context: Context, settings: secure.SecureAggregation) -> ConfigRecord:
    """Stage 2: a seed for the node's own mask, and shares of it and of the mask key, sealed for each member."""
    state = _enter(context, request, after=KEYS)
    me, needed = _me(context), settings.needed(int(context.node_config["num-partitions"]))
    members = cast("list[int]", request["members"])
    boxes, masks = cast("list[bytes]", request["boxes"]), cast("list[bytes]", request["masks"])
    if request["threshold"] != needed:
        raise ProtocolError(
            f"the server's threshold is {request['threshold']!r}, this site's settings ask for {needed}"
        )
    if me not in members or len(set(members)) < max(needed, len(members)):
        raise ProtocolError(f"the member list {members} lacks this node ({me}), repeats one or is below {needed}")
    own_seed, box_secret = os.urandom(secure.KEY_BYTES), cast("bytes", state["box_secret"])
    points = [member + 1 for member in members]
    seeds = shamir.split(own_seed, points, needed)
    secrets = shamir.split(cast("bytes", state["mask_secret"]), points, needed)
    sealed = [
        secure.seal(box_secret, public, me, member, seeds[member + 1] + secrets[member + 1])
        for member, public in zip(members, boxes, strict=True)
    ]
    state.update({"stage": SHARES, "own_seed": own_seed, "threshold": needed})
    state.update({"members": members, "boxes": boxes, "masks": masks})
    return ConfigRecord({"sealed": sealed, "commitment": secure.commitment(own_seed)})


def mask_update(request: ConfigRecord, context: Context, update: Update) -> secure.Vector:
    """Stage 3: the update behind the node's own mask and those it shares with every holder of its shares."""
    state, me = _enter(context, request, after=SHARES), _me(context)
    holders = cast("list[int]", request["holders"])
    publics = _by_member(state, "masks")
    if me not in holders or not set(holders) <= publics.keys() or len(set(holders)) < len(holders):
        raise ProtocolError(f"the holders {holders} are not among the members that were given keys, or lack {me}")
    peers = {holder: publics[holder] for holder in holders if holder != me}
    vector = secure.quantise(secure.flatten(update.delta), update.weight, len(holders))
    masked = secure.mask(vector, cast("bytes", state["own_seed"]), cast("bytes", state["mask_secret"]), me, peers)
    state.update({"stage": VECTOR, "holders": holders, "sealed": request["sealed"]})
    return masked


def open_shares(request: ConfigRecord, context: Context) -> ConfigRecord:
    """Stage 4: for a live node the share of its own mask, for a dead one that of its mask key, never both."""
    state, me = _enter(context, request, after=VECTOR), _me(context)
    live, dead = cast("list[int]", request["live"]), cast("list[int]", request["dead"])
    holders, boxes = cast("list[int]", state["holders"]), _by_member(state, "boxes")
    needed = cast("int", state["threshold"])
    if sorted([*live, *dead]) != sorted(holders) or me not in live or len(live) < needed:
        raise ProtocolError(
            f"live {live} and dead {dead} are not two parts of {holders} with {needed} live ones and {me}"
        )
    del context.state[STATE]
    shares = []
    for sender, box in zip(holders, cast("list[bytes]", state["sealed"]), strict=True):
        opened = secure.unseal(cast("bytes", state["box_secret"]), boxes[sender], sender, me, box)
        seed, secret = opened[: shamir.SHARE_BYTES], opened[shamir.SHARE_BYTES :]
        shares.append(seed if sender in live else secret)
    return ConfigRecord({"shares": shares})


def _request(message: Message) -> ConfigRecord:
    return message.content.config_records["secure"]


def _reply(message: Message, record: ConfigRecord) -> Message:
    return Message(RecordDict({"secure": record}), reply_to=message)


def _me(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _enter(context: Context, request: ConfigRecord, after: str) -> ConfigRecord:
    """The round's secrets, if this request is the one that follows stage `after` of this very round."""
    state = context.state.config_records.get(STATE)
    if state is None or (state["stage"], state["round"]) != (after, request["round"]):
        here = (
            "no round is open"
            if state is None
            else f"this node is after {state['stage']!r} of round {state['round']!r}"
        )
        raise ProtocolError(f"a request of round {request['round']!r} must follow {after}; {here}")
    return state


def _by_member(state: ConfigRecord, name: str) -> Mapping[int, bytes]:
    return dict(zip(cast("list[int]", state["members"]), cast("list[bytes]", state[name]), strict=True))
