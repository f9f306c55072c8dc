"""The server notices answers that would spoil the sum instead of adding them up."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message

from fedsched.federation import FederationError, LocalGrid, SecureAggregation, client_app
from fedsched.federation.messages import Exchange, pack_arrays
from fedsched.federation.participant import Parameters
from fedsched.federation.secure_server import SecureRound

Spoil = Callable[[Message], None]


def run(sites: dict, parameters: Parameters, spoiled: int, kind: str, spoil: Spoil) -> tuple[tuple[str, ...], dict]:
    """A secure round of honest apps, with the replies of one node to one kind of message spoiled on the way."""
    members = list(sites.values())
    honest = client_app(members.__getitem__, SecureAggregation())

    def app(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        if context.node_config["partition-id"] == spoiled and message.metadata.message_type == f"train.{kind}":
            spoil(reply)
        return reply

    grid = LocalGrid(app, list(sites))
    exchange = Exchange(grid, list(sites), grid.nodes, "round 1")
    result = SecureRound(exchange, 1, 3).run(parameters, {})
    return result.took_part, exchange.failures


def replace_shares(reply: Message) -> None:
    record = reply.content.config_records["secure"]
    record["shares"] = [bytes([share[0]]) + bytes(32) for share in record["shares"]]


def replace_vector(reply: Message) -> None:
    reply.content["masked"] = pack_arrays({"vector": np.zeros(3, np.uint64)})


def replace_field(name: str, value: object) -> Spoil:
    def spoil(reply: Message) -> None:
        reply.content["secure"] = ConfigRecord({**reply.content.config_records["secure"], name: value})

    return spoil


def test_altered_shares_raise_instead_of_giving_a_wrong_mean(make_sites: Callable, parameters: Parameters) -> None:
    with pytest.raises(FederationError, match="shares of b0, b1, b2 do not rebuild the secret of b0") as info:
        run(make_sites(5), parameters, 1, "secure_unmask", replace_shares)
    assert info.value.stage == "unmasking"


@pytest.mark.parametrize(
    ("kind", "spoil", "reason"),
    [
        ("secure_vector", replace_vector, r"masked vector is uint64[3]"),
        ("secure_keys", replace_field("box", 7), "box is int, not bytes"),
        ("secure_shares", replace_field("sealed", [b"x"]), "1 boxes for 4 members"),
        ("secure_shares", replace_field("sealed", [1, 2, 3, 4]), "other things than bytes"),
    ],
)
def test_unreadable_answers_leave_their_site_out(
    kind: str, spoil: Spoil, reason: str, make_sites: Callable, parameters: Parameters
) -> None:
    took_part, failures = run(make_sites(4), parameters, 2, kind, spoil)
    assert took_part == ("b0", "b1", "b3")
    assert list(failures) == ["b2"]
    assert reason in failures["b2"]
