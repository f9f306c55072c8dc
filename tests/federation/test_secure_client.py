"""A node answers the four stages once, in order, of one round, and never gives both secrets of a peer."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, RecordDict

from fedsched.federation import SecureAggregation, Update, secure, shamir
from fedsched.federation.secure_client import STATE, ProtocolError, make_keys, mask_update, open_shares, share_secrets

SETTINGS = SecureAggregation()
UPDATE = Update({"w": np.ones(3, np.float32)}, 2.0)
Nodes = list[Context]


def node(partition: int, count: int) -> Context:
    return Context(1, 1000 + partition, {"partition-id": partition, "num-partitions": count}, RecordDict(), {})


def request(**fields: object) -> ConfigRecord:
    return ConfigRecord({"round": 5, **fields})


class Server:
    """Plays the honest server towards three nodes up to a given stage."""

    def __init__(self, count: int = 3) -> None:
        self.nodes = [node(k, count) for k in range(count)]
        self.members = list(range(count))

    def keys(self) -> "Server":
        replies = [make_keys(request(), n) for n in self.nodes]
        self.boxes, self.masks = [r["box"] for r in replies], [r["mask"] for r in replies]
        return self

    def share_request(self, **changes: object) -> ConfigRecord:
        honest = {"threshold": 2, "members": self.members, "boxes": self.boxes, "masks": self.masks}
        return request(**{**honest, **changes})

    def shares(self) -> "Server":
        self.keys()
        replies = [share_secrets(self.share_request(), n, SETTINGS) for n in self.nodes]
        self.sealed = [r["sealed"] for r in replies]
        self.commitments = [r["commitment"] for r in replies]
        return self

    def vector_request(self, receiver: int, holders: list[int] | None = None) -> ConfigRecord:
        holders = self.members if holders is None else holders
        sealed = [self.sealed[sender][receiver] for sender in holders]
        return request(holders=holders, sealed=sealed)

    def vectors(self) -> "Server":
        self.shares()
        self.masked = [mask_update(self.vector_request(k), n, UPDATE) for k, n in enumerate(self.nodes)]
        return self


def test_shares_rebuild_own_masks_of_the_live_and_mask_keys_of_the_dead() -> None:
    server = Server().vectors()
    answers = [open_shares(request(live=[0, 1], dead=[2]), server.nodes[k])["shares"] for k in (0, 1)]
    for place, sender in enumerate(server.members):
        rebuilt = shamir.combine({1: answers[0][place], 2: answers[1][place]})
        if sender == 2:
            assert secure.public_key(rebuilt) == server.masks[2]
        else:
            assert secure.commitment(rebuilt) == server.commitments[sender]


def test_the_masked_vector_is_not_the_quantised_one() -> None:
    server = Server().vectors()
    clear = secure.quantise(secure.flatten(UPDATE.delta), UPDATE.weight, 3)
    assert all((vector != clear).all() for vector in server.masked)


def test_secrets_are_gone_after_unmasking_and_a_second_request_is_refused() -> None:
    server = Server().vectors()
    open_shares(request(live=[0, 1, 2], dead=[]), server.nodes[0])
    assert STATE not in server.nodes[0].state
    with pytest.raises(ProtocolError, match="no round is open"):
        open_shares(request(live=[0, 1], dead=[2]), server.nodes[0])


@pytest.mark.parametrize(
    ("live", "dead"),
    [
        ([0, 1, 2], [2]),
        ([0, 1], [0, 2]),
        ([0], [1, 2]),
        ([1, 2], [0]),
        ([0, 1], []),
        ([0, 1, 2], [3]),
        ([0, 0, 1], [2]),
    ],
    ids=["both", "itself both", "too few live", "itself dead", "one missing", "a stranger", "one twice"],
)
def test_dishonest_unmasking_requests_are_refused(live: list[int], dead: list[int]) -> None:
    server = Server().vectors()
    with pytest.raises(ProtocolError, match="are not two parts of"):
        open_shares(request(live=live, dead=dead), server.nodes[0])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"threshold": 1}, "threshold is 1, this site's settings ask for 2"),
        ({"members": [1, 2, 3]}, r"lacks this node \(0\)"),
        ({"members": [0, 1, 1]}, "repeats one"),
        ({"members": [0]}, "below 2"),
    ],
)
def test_dishonest_member_lists_are_refused(changes: dict[str, object], problem: str) -> None:
    server = Server().keys()
    with pytest.raises(ProtocolError, match=problem):
        share_secrets(server.share_request(**changes), server.nodes[0], SETTINGS)


@pytest.mark.parametrize("holders", [[1, 2], [0, 1, 1], [0, 7]])
def test_dishonest_holder_lists_are_refused(holders: list[int]) -> None:
    server = Server().shares()
    with pytest.raises(ProtocolError, match="holders"):
        mask_update(request(holders=holders, sealed=[]), server.nodes[0], UPDATE)


def test_an_update_is_masked_once_a_round() -> None:
    server = Server().vectors()
    with pytest.raises(ProtocolError, match="after 'secure_vector' of round 5"):
        mask_update(server.vector_request(0), server.nodes[0], UPDATE)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: share_secrets(s.share_request(round=6), s.nodes[0], SETTINGS),
        lambda s: mask_update(request(holders=[0, 1, 2], sealed=[]), s.nodes[0], UPDATE),
        lambda s: open_shares(request(live=[0, 1, 2], dead=[]), s.nodes[0]),
    ],
    ids=["another round", "vector before shares", "unmasking before shares"],
)
def test_stages_out_of_order_are_refused(call: Callable[[Server], object]) -> None:
    with pytest.raises(ProtocolError, match="must follow"):
        call(Server().keys())


def test_a_new_round_forgets_the_unfinished_one() -> None:
    server = Server().vectors()
    old = bytes(server.nodes[0].state.config_records[STATE]["mask_secret"])
    server.vectors()
    assert server.nodes[0].state.config_records[STATE]["mask_secret"] != old
