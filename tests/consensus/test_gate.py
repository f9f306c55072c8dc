"""The edge: forged, foreign, mutated and nonsensical input is dropped there, and nothing ever raises in the core."""

from typing import Any

import msgspec
import pytest

from fedsched.consensus import PeerError
from fedsched.consensus.draws import Draws
from fedsched.consensus.events import Received, Tick
from fedsched.consensus.gate import Gate
from fedsched.consensus.messages import (
    MAX_FRAME_BYTES,
    Commit,
    Decided,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Proposal,
    Request,
    Status,
    ViewChange,
    encode,
    view_change_statement,
)
from fedsched.consensus.plan import operation_digest, propose
from fedsched.consensus.safety import Pledges

ALL = (0, 1, 2, 3)


@pytest.fixture
def traffic(bench: Any) -> Any:
    """One verified message of every kind, by type, from a settlement that lost its first leader."""
    bench.submit(*ALL)
    bench.run(lambda _s, _t, message: not (isinstance(message, Commit) and message.view == 0))
    bench.tick(30, (1, 2, 3), lambda s, t, m: 0 not in (s, t) and not (isinstance(m, Commit) and m.view == 0))
    bench.tick(3, (0,))
    found = {}
    for frame in bench.frames:
        found[type(bench.gate.open(frame))] = bench.gate.open(frame)
    return found


def change(record: Any, **fields: dict[str, Any]) -> Any:
    return msgspec.structs.replace(record, **fields)


def refused(bench: Any, message: Any) -> None:
    with pytest.raises(PeerError):
        bench.gate.open(encode(message))


def test_the_traffic_holds_every_kind_of_message(traffic: Any) -> None:
    assert set(traffic) == {Request, PrePrepare, Prepare, Commit, Decided, ViewChange, NewView, Status}


def test_every_message_of_another_signer_or_scope_is_refused(bench: Any, traffic: Any) -> None:
    other_epoch = Gate(bench.federation.scope(epoch=1))
    other_row = Gate(bench.federation.scope(row=1))
    for message in traffic.values():
        for gate in (other_epoch, other_row):
            with pytest.raises(PeerError):
                gate.open(encode(message))
        if "replica" in message.__struct_fields__:
            for replica in (message.replica + 1, 4, -1, 2**40):
                refused(bench, change(message, replica=replica))


def test_every_signed_field_is_covered(bench: Any, traffic: Any) -> None:
    for kind, fields in [
        (Commit, {"view": 7}),
        (Commit, {"seq": 1}),
        (Commit, {"digest": bytes(32)}),
        (Status, {"view": 7}),
        (Status, {"changing": True}),
        (Status, {"executed": 9}),
        (Status, {"bids": ()}),
        (ViewChange, {"view": 7}),
        (ViewChange, {"prepared": None}),
        (NewView, {"pre_prepare": None}),
    ]:
        assert change(traffic[kind], **fields) != traffic[kind]
        refused(bench, change(traffic[kind], **fields))


def test_a_prepare_does_not_pass_as_a_commit(bench: Any, traffic: Any) -> None:
    prepare = traffic[Prepare]
    refused(bench, Commit(*prepare.proposal.place, prepare.replica, prepare.signature))


def test_an_operation_that_is_not_the_proposed_one_is_refused(bench: Any, traffic: Any) -> None:
    refused(bench, change(traffic[PrePrepare], operation=bench.federation.signed()[:1]))


def test_certificates_need_a_quorum_of_distinct_signers_of_one_thing(bench: Any, traffic: Any) -> None:
    decided = traffic[Decided]
    first, second, third = decided.commits
    for commits in [(), (first, second), (first, second, second), (first, second, change(third, view=9))]:
        refused(bench, Decided(decided.pre_prepare, commits))
    new_view = traffic[NewView]
    pledges = Pledges(new_view.replica, bench.federation.keys["north"], bench.federation.scope())
    short = pledges.new_view(new_view.view, new_view.changes[:2], new_view.pre_prepare)
    twice = pledges.new_view(new_view.view, (*new_view.changes[:2], new_view.changes[0]), new_view.pre_prepare)
    refused(bench, short)
    refused(bench, twice)


def test_a_view_change_with_a_bad_certificate_is_refused_whole(bench: Any, traffic: Any) -> None:
    shown = next(one for one in traffic[NewView].changes if one.prepared is not None)
    name = bench.federation.names[shown.replica]
    scope, key = bench.federation.scope(), bench.federation.keys[name]
    weak = Prepared(shown.prepared.pre_prepare, shown.prepared.prepares[:1])
    statement = view_change_statement(shown.view, shown.decided, weak)
    signature = key.sign(scope.payload(statement.kind, *statement.fields))
    refused(bench, ViewChange(shown.view, shown.decided, weak, shown.replica, signature))


def test_frames_are_bounded(bench: Any) -> None:
    with pytest.raises(PeerError, match="at most"):
        bench.gate.open(bytes(MAX_FRAME_BYTES + 1))


def mutated(frames: Any, draws: Any) -> Any:
    """A frame with bytes changed, cut, inserted or taken from another frame."""
    frame = bytearray(frames[draws.below(len(frames))])
    place = draws.below(len(frame))
    match draws.below(5):
        case 0:
            frame[place] ^= 1 << draws.below(8)
        case 1:
            del frame[place:]
        case 2:
            frame[place:place] = bytes(draws.below(256) for _ in range(1 + draws.below(4)))
        case 3:
            other = frames[draws.below(len(frames))]
            frame[place:] = other[draws.below(len(other)) :]
        case _:
            for _ in range(8):
                frame[draws.below(len(frame))] = draws.below(256)
    return bytes(frame)


def test_mutated_frames_never_raise_in_the_core_and_never_stop_it(bench: Any, traffic: Any, bench_of: Any) -> None:
    draws = Draws((7,), "mutations")
    fresh = bench_of(bench.federation)
    frames = list(dict.fromkeys(bench.frames))
    passed = 0
    for i in range(4000):
        try:
            message = fresh.gate.open(mutated(frames, draws))
        except PeerError:
            continue
        passed += 1
        fresh.step(i % 4, Received(message))
    assert traffic
    assert passed < 200
    fresh.queue.clear()
    fresh.submit(*ALL)
    fresh.tick(60, ALL)
    assert len({one.plan.digest for one in fresh.settled.values()}) == 1
    assert set(fresh.settled) == set(ALL)


def nonsense(culprit: Any, draws: Any, scope: Any, key: Any, heard: Any, operations: Any) -> Any:
    """A message that a faulty replica signs correctly, of arbitrary content and out of any order."""
    view, seq = draws.below(4), 1 + draws.below(4)
    operation = operations[draws.below(len(operations))]
    pledges = Pledges(culprit, key, scope)
    proposal = pledges.propose(view, seq, operation_digest(operation))
    changes = [one for one in heard if isinstance(one, ViewChange) and one.view == view]
    return [
        PrePrepare(proposal, operation),
        pledges.prepare(proposal),
        pledges.commit(proposal),
        pledges.status(view, bool(draws.below(2)), draws.below(6), ("east", "nobody")[: draws.below(3)]),
        pledges.view_change(view, None, None),
        pledges.new_view(view, tuple(changes), None),
        heard[draws.below(len(heard))] if heard else proposal,
    ][draws.below(7)]


@pytest.mark.parametrize("seed", range(8))
def test_correctly_signed_nonsense_never_raises_and_never_breaks_agreement(bench: Any, seed: int) -> None:
    federation, draws = bench.federation, Draws((seed,), "nonsense")
    scope, signed = federation.scope(), federation.signed()
    operations = [signed, signed[:3], signed[1:], (), propose(federation.log()), propose(federation.log(full=False))]
    culprit = draws.below(4)
    honest = tuple(index for index in ALL if index != culprit)
    bench.submit(*honest)
    heard = []

    def overhear(_source: Any, target: Any, message: Any) -> Any:
        heard.append(message)
        return target != culprit

    for _ in range(400):
        message = nonsense(culprit, draws, scope, federation.keys[federation.names[culprit]], heard, operations)
        if not isinstance(message, Proposal):
            try:
                opened = bench.gate.open(encode(message))
            except PeerError:
                continue
            bench.step(honest[draws.below(3)], Received(opened))
        if draws.below(10) == 0:
            bench.step(honest[draws.below(3)], Tick())
        while bench.queue and draws.below(3):
            source, target, frame = bench.queue.pop(draws.below(len(bench.queue)))
            if overhear(source, target, bench.gate.open(frame)):
                bench.step(target, Received(bench.gate.open(frame)))
    bench.tick(400, honest, overhear)
    assert set(bench.settled) >= set(honest)
    assert len({one.plan.digest for one in bench.settled.values()}) == 1
    assert {accuse.evidence.site for accuse in bench.evidence} <= {federation.names[culprit]}
