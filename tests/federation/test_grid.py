"""The in-process grid keeps Flower's contract: copies, Error replies, order, contexts per node."""

import threading
from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedsched.federation import LocalGrid, SettingError, flwr_internals

SITES = ("east", "north", "west")


def requests(grid: LocalGrid, kind: str = "query") -> list[Message]:
    shared = RecordDict({"in": ConfigRecord({"value": 1})})
    return [Message(shared, node, kind, group_id="g") for node in grid.get_node_ids()]


def app(handle: Callable[[Message, Context], Message]) -> ClientApp:
    made = ClientApp()
    made.query()(handle)
    return made


def echo(message: Message, context: Context) -> Message:
    place = context.node_config["partition-id"]
    return Message(RecordDict({"out": ConfigRecord({"place": place})}), reply_to=message)


@pytest.mark.parametrize("parallel", [1, 3])
def test_replies_come_in_the_order_of_the_requests(parallel: int) -> None:
    started: list[threading.Event] = [threading.Event() for _ in SITES]

    def slow_first(message: Message, context: Context) -> Message:
        place = int(context.node_config["partition-id"])
        started[place].set()
        if parallel == 3:
            assert all(event.wait(10) for event in started), "requests are not handled at the same time"
        return echo(message, context)

    grid = LocalGrid(app(slow_first), SITES, parallel)
    replies = grid.send_and_receive(requests(grid))
    assert [r.content.config_records["out"]["place"] for r in replies] == [0, 1, 2]
    assert [r.metadata.src_node_id for r in replies] == list(grid.nodes.values())


def test_replies_belong_to_their_requests() -> None:
    seen: list[tuple[Message, Message]] = []
    grid = LocalGrid(app(echo), SITES, tap=lambda *pair: seen.append(pair))
    sent = requests(grid)
    grid.send_and_receive(sent)
    assert [request for request, _ in seen] == sent
    for request, reply in seen:
        assert request.metadata.message_id
        assert reply.metadata.reply_to_message_id == request.metadata.message_id
        assert (reply.metadata.message_type, reply.metadata.group_id) == ("query", "g")


def test_an_exception_becomes_an_error_reply_and_the_others_are_served() -> None:
    def fails(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 1:
            raise LookupError("no participant")
        return echo(message, context)

    grid = LocalGrid(app(fails), SITES)
    replies = grid.send_and_receive(requests(grid))
    assert [r.has_error() for r in replies] == [False, True, False]
    assert replies[1].error.reason == "LookupError: no participant"


def test_an_unknown_action_is_an_error_reply() -> None:
    grid = LocalGrid(app(echo), SITES)
    assert "No train function" in str(grid.send_and_receive(requests(grid, "train"))[0].error.reason)


def test_an_interrupt_is_not_swallowed() -> None:
    def interrupted(_message: Message, _context: Context) -> Message:
        raise KeyboardInterrupt

    grid = LocalGrid(app(interrupted), SITES)
    with pytest.raises(KeyboardInterrupt):
        grid.send_and_receive(requests(grid))


def test_the_app_cannot_edit_the_servers_records() -> None:
    def edits(message: Message, context: Context) -> Message:
        message.content.config_records["in"]["value"] = 99
        return echo(message, context)

    grid = LocalGrid(app(edits), SITES)
    sent = requests(grid)
    grid.send_and_receive(sent)
    assert all(r.content.config_records["in"]["value"] == 1 for r in sent)


def test_contexts_are_kept_between_messages_and_apart_between_nodes() -> None:
    def counts(message: Message, context: Context) -> Message:
        record = context.state.config_records.setdefault("n", ConfigRecord({"n": 0}))
        record["n"] += 1 + int(context.node_config["partition-id"])
        return Message(RecordDict({"out": record}), reply_to=message)

    grid = LocalGrid(app(counts), SITES)
    for _ in range(2):
        replies = grid.send_and_receive(requests(grid))
    assert [r.content.config_records["out"]["n"] for r in replies] == [2, 4, 6]


def test_lost_replies_are_lost_after_the_work_was_done() -> None:
    worked: list[int] = []

    def works(message: Message, context: Context) -> Message:
        worked.append(context.node_id)
        return echo(message, context)

    grid = LocalGrid(app(works), SITES, drop=lambda kind, site: (kind, site) == ("query", "north"))
    replies = grid.send_and_receive(requests(grid))
    assert [r.has_error() for r in replies] == [False, True, False]
    assert len(worked) == 3


def test_an_unknown_flower_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flwr_internals, "version", lambda _: "1.50.3")
    flwr_internals.check_version.cache_clear()
    with pytest.raises(SettingError, match=r"flwr 1\.50\.3 is installed.*install 'flwr>=1\.41,<1\.43'"):
        LocalGrid(app(echo), SITES)
    flwr_internals.check_version.cache_clear()
