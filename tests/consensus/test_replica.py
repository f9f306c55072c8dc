"""Rules of the replica, one directed scenario each, on a bench that delivers messages by hand."""

from typing import Any

import msgspec
import pytest

from fedsched.consensus import Bid, SignedBid, proves
from fedsched.consensus.events import Received, Tick
from fedsched.consensus.messages import Commit, Decided, Prepare, PrePrepare, Proposal, Request, ViewChange
from fedsched.consensus.plan import operation_digest, propose
from fedsched.consensus.safety import Pledges
from fedsched.consensus.viewchange import Selection

ALL = (0, 1, 2, 3)


def lost(*kinds: Any) -> Any:
    return lambda _source, _target, message: not isinstance(message, kinds)


def cut(*isolated: Any) -> Any:
    return lambda source, target, _message: source not in isolated and target not in isolated


def test_all_bids_then_the_plan_in_two_steps_without_a_tick(bench: Any, federation: Any) -> None:
    delivered = []
    bench.submit(*ALL)
    bench.run(lambda _source, _target, message: delivered.append(message) is None)
    assert len(delivered) == 4 * 3 + 2 * 24, "requests to all, then PBFT's 24 messages for each of two steps"
    assert set(bench.settled) == set(ALL)
    assert {one.plan.digest for one in bench.settled.values()} == {propose(federation.log()).digest}
    assert [replica.executed for replica in bench.replicas] == [2] * 4


def test_the_leader_waits_for_a_silent_site_only_so_long_and_for_a_quorum_of_bids_always(bench: Any) -> None:
    bench.submit(0, 1)
    bench.tick(12, (0,))
    assert bench.replicas[0].executed == 0
    bench.submit(2)
    bench.run()
    assert {len(one.plan.inputs) for one in bench.settled.values()} == {3}


def test_prepared_needs_a_quorum_and_so_does_a_decision(bench: Any) -> None:
    bench.submit(*ALL)
    bench.run(lost(Prepare))
    assert not any(isinstance(bench.gate.open(frame), Commit) for frame in bench.frames)
    assert not bench.settled


def test_a_replica_that_missed_everything_catches_up_by_decisions(bench: Any) -> None:
    bench.submit(*ALL)
    bench.run(lambda _source, target, message: target != 3 or isinstance(message, Request))
    assert 3 not in bench.settled
    bench.tick(3, (3,), lost(PrePrepare, Prepare, Commit))
    assert bench.settled[3].plan == bench.settled[0].plan


def test_a_silent_leader_is_replaced_after_the_time_out_and_not_before(bench: Any) -> None:
    bench.submit(*ALL)
    bench.queue = [entry for entry in bench.queue if entry[0] != 0]
    bench.run(cut(0))
    bench.tick(19, (1, 2, 3), cut(0))
    assert not bench.settled
    bench.tick(1, (1, 2, 3), cut(0))
    assert {1, 2, 3} <= set(bench.settled)
    assert {one.certificate.view for one in bench.settled.values()} == {1}


def test_view_changes_are_sent_again_until_the_new_view_and_time_outs_double(bench: Any) -> None:
    """Nobody hears anybody: no quorum gives up, so nobody runs away to higher views."""
    bench.tick(200, ALL, lambda _s, _t, _m: False)
    assert {replica.view for replica in bench.replicas} == {1}
    bench.submit(*ALL)
    bench.tick(4, ALL)
    assert set(bench.settled) == set(ALL)


def test_f_plus_one_view_changes_carry_the_others_along(bench: Any) -> None:
    for index in (2, 3):
        for _ in range(20):
            bench.step(index, Tick())
    bench.run(lambda _source, _target, message: isinstance(message, ViewChange))
    assert [replica.view for replica in bench.replicas] == [1, 1, 1, 1]


def test_one_replica_alone_cannot_start_a_view_change(bench: Any) -> None:
    for _ in range(20):
        bench.step(3, Tick())
    bench.run(lambda _source, _target, message: isinstance(message, ViewChange))
    assert [replica.view for replica in bench.replicas] == [0, 0, 0, 1]


def no_commits_of_view_0(source: Any, target: Any, message: Any) -> Any:
    """Replica 3 is cut off, and what view 0 still has to say comes too late."""
    return 3 not in (source, target) and not (isinstance(message, Commit) and message.view == 0)


def decided_at_one_replica_only(bench: Any) -> Any:
    """Step 1 of view 0 holds three bids and is decided at replica 3 alone; then replica 3 is cut off.

    The fourth bid reaches the others later, so a leader who forgets step 1 proposes something else for it.
    """
    bench.submit(0, 1, 3)
    bench.run(cut(2))
    for _ in range(8):
        bench.step(0, Tick())
    bench.run(lambda _source, target, message: not isinstance(message, Commit) or target == 3)
    assert [replica.executed for replica in bench.replicas] == [0, 0, 0, 1]
    bench.submit(2)
    bench.tick(60, (0, 1, 2), no_commits_of_view_0)
    assert all(replica.view >= 1 for replica in bench.replicas[:3])
    return [bench.digests(index)[:1] for index in ALL]


def test_what_one_replica_decided_survives_the_view_change(bench: Any) -> None:
    first = decided_at_one_replica_only(bench)
    assert first == [first[3]] * 4
    bench.tick(4, ALL)
    assert set(bench.settled) == set(ALL)
    assert len({one.plan.digest for one in bench.settled.values()}) == 1


@pytest.mark.parametrize("mutant", ["no prepared certificate", "leader ignores it, backups trust NEW-VIEW"])
def test_mutant_view_change_without_prepared_certificates_forks(
    bench: Any, monkeypatch: pytest.MonkeyPatch, mutant: Any
) -> None:
    """Tests the tester: with the fault planted, the scenario above decides two values for step 1."""
    if mutant == "no prepared certificate":
        shipped = Pledges.view_change
        monkeypatch.setattr(Pledges, "view_change", lambda self, view, decided, _: shipped(self, view, decided, None))
    else:
        monkeypatch.setattr("fedsched.consensus.replica.select", lambda _changes: Selection(0, None))
        monkeypatch.setattr("fedsched.consensus.replica.follows", lambda _message: True)
    first = decided_at_one_replica_only(bench)
    assert first[0] == first[1] == first[2] != first[3]


def test_backups_refuse_a_new_view_that_drops_the_carried_step(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the leader of view 1 lies; the honest backups go on to view 2 and keep step 1."""
    shipped = bench.replicas[1]._open_view

    def forgetful() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("fedsched.consensus.replica.select", lambda _changes: Selection(0, None))
            shipped()

    monkeypatch.setattr(bench.replicas[1], "_open_view", forgetful)
    bench.submit(0, 1, 3)
    bench.run(cut(2))
    for _ in range(8):
        bench.step(0, Tick())
    bench.run(lambda _source, target, message: not isinstance(message, Commit) or target == 3)
    bench.tick(60, (0, 1, 2), no_commits_of_view_0)
    bench.tick(10, ALL)
    assert {bench.digests(index)[0] for index in (0, 2, 3)} == {bench.digests(3)[0]}
    assert {0, 2, 3} <= set(bench.settled)
    assert bench.replicas[0].view >= 2


def signed_proposal(bench: Any, operation: Any, view: int = 0, seq: int = 1) -> Any:
    pledges = Pledges(view % 4, bench.federation.keys[bench.federation.names[view % 4]], bench.federation.scope())
    return PrePrepare(pledges.propose(view, seq, operation_digest(operation)), operation)


def test_two_proposals_for_one_step_are_proof_and_end_the_view_at_once(bench: Any, federation: Any) -> None:
    bids = federation.signed()
    first, second = signed_proposal(bench, bids), signed_proposal(bench, bids[:3])
    bench.step(1, Received(first))
    bench.step(2, Received(second))
    bench.run(cut(0))
    assert {accuse.evidence.site for accuse in bench.evidence} == {"east"}
    assert {accuse.evidence.kind for accuse in bench.evidence} == {"equivocation"}
    assert all(proves(accuse.evidence, federation.log(full=False)) for accuse in bench.evidence)
    assert bench.replicas[1].view == bench.replicas[2].view == 1


def decisions_of_two_sides(bench: Any) -> Any:
    """What two halves of the backups decide when a leader tells each half another batch and the halves are cut."""
    federation, bids = bench.federation, bench.federation.signed()
    halves = [set(range(1, federation.n // 2 + 1)), set(range(federation.n // 2 + 1, federation.n))]
    for half, batch in zip(halves, (bids, bids[1:]), strict=True):
        pledges = Pledges(0, federation.keys["east"], federation.scope())
        message = PrePrepare(pledges.propose(0, 1, operation_digest(batch)), batch)
        for index in half:
            bench.step(index, Received(message))
            bench.step(index, Received(pledges.commit(message.proposal)))
    bench.run(lambda source, target, _message: any({source, target} <= half for half in halves))
    return {bench.digests(index)[0] for half in halves for index in half if bench.digests(index)}


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_a_leader_that_splits_the_backups_gets_at_most_one_decision(bench_of: Any, federation_of: Any, n: int) -> None:
    assert len(decisions_of_two_sides(bench_of(federation_of(n)))) <= 1


@pytest.mark.parametrize("n", [5, 6])
def test_mutant_quorum_2f_plus_1_forks_where_n_is_not_3f_plus_1(
    bench_of: Any, federation_of: Any, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """Tests the tester: the scenario above with the textbook number, which only fits n = 3f + 1."""
    monkeypatch.setattr("fedsched.consensus.quorum.quorum", lambda n: 2 * ((n - 1) // 3) + 1)
    assert len(decisions_of_two_sides(bench_of(federation_of(n)))) == 2


def test_the_same_proposal_signed_twice_is_no_equivocation(bench: Any, federation: Any) -> None:
    message = signed_proposal(bench, federation.signed())
    again = Proposal(*message.proposal.place, bytes(64))
    bench.step(1, Received(message))
    bench.step(1, Received(PrePrepare(again, message.operation)))
    assert not bench.evidence
    assert bench.replicas[1].view == 0


def test_an_invalid_proposal_is_proof_and_is_not_prepared(bench: Any, federation: Any) -> None:
    bids = federation.signed()
    bench.step(1, Received(signed_proposal(bench, (bids[1], bids[0]))))
    assert [accuse.evidence.kind for accuse in bench.evidence] == ["invalid-proposal"]
    assert proves(bench.evidence[0].evidence, federation.log(full=False))
    assert not any(isinstance(bench.gate.open(frame), Prepare) for frame in bench.frames)
    assert bench.replicas[1].view == 1


def test_a_second_bid_of_a_site_is_proof_and_the_first_one_counts(bench: Any, federation: Any) -> None:
    bench.submit(0, 1, 2)
    other = SignedBid.by(federation.keys["south"], Bid("south", 0), federation.scope())
    bench.step(2, Received(bench.gate.open(bench.frames[2])))
    bench.run()
    bench.step(1, Received(Request(other)))
    assert [accuse.evidence.site for accuse in bench.evidence] == ["south"]
    assert proves(bench.evidence[0].evidence, federation.log(full=False))
    bench.submit(3)
    bench.run()
    assert {one.plan.inputs[2].bid for one in bench.settled.values()} == {federation.bids()["south"].digest}


def test_votes_that_come_before_their_proposal_count(bench: Any) -> None:
    bench.submit(*ALL)
    held = []

    def late(_source: Any, target: Any, message: Any) -> Any:
        if isinstance(message, PrePrepare) and target == 3:
            held.append(message)
            return False
        return True

    bench.run(late)
    assert bench.replicas[3].executed == 0
    bench.step(3, Received(held[0]))
    assert bench.replicas[3].executed == 1


def test_an_honest_replica_never_signs_two_digests_at_one_place(federation: Any) -> None:
    pledges = Pledges(0, federation.keys["east"], federation.scope())
    pledges.propose(0, 1, b"a" * 32)
    pledges.propose(0, 1, b"a" * 32)
    pledges.propose(1, 1, b"b" * 32)
    with pytest.raises(AssertionError, match="two proposals"):
        pledges.propose(0, 1, b"b" * 32)


def test_after_a_lagging_leader_takes_over_it_learns_before_it_proposes(bench: Any) -> None:
    """Replica 1 missed step 1 and leads view 1; it must not propose step 1 again."""
    bench.submit(0, 2, 3)
    bench.run(cut(1))
    for _ in range(8):
        bench.step(0, Tick())
    bench.run(lambda _s, target, message: target != 1 and not (isinstance(message, Decided)))
    assert bench.replicas[1].executed == 0
    bench.submit(1)
    bench.tick(60, (1, 2, 3), cut(0))
    assert {1, 2, 3} <= set(bench.settled)
    assert len({tuple(bench.digests(index)) for index in (1, 2, 3)}) == 1


def test_the_log_of_a_settlement_is_bounded(bench: Any) -> None:
    bench.submit(*ALL)
    bench.run()
    for replica in bench.replicas:
        assert replica.executed <= replica.log.scope.membership.n + 1
        assert all(not replica.step(Tick()) for _ in range(10))


def test_commits_of_two_views_are_not_added_up(bench: Any, federation: Any) -> None:
    """Two commits of view 0 and one of view 1 for the same digest decide nothing."""
    bench.submit(*ALL)
    bench.run(lost(Commit))
    digest = operation_digest(federation.signed())
    keys = [federation.keys[name] for name in federation.names]
    pledge = [Pledges(i, key, federation.scope()) for i, key in enumerate(keys)]
    bench.step(3, Received(pledge[0].commit(Proposal(0, 1, digest, b""))))
    bench.step(3, Received(pledge[1].commit(Proposal(1, 1, digest, b""))))
    assert bench.replicas[3].executed == 0
    bench.step(3, Received(pledge[2].commit(Proposal(0, 1, digest, b""))))
    assert bench.replicas[3].executed == 1


def test_step_is_a_function_of_its_events(bench_of: Any, federation: Any) -> None:
    runs = []
    for _ in range(2):
        bench = bench_of(federation)
        bench.submit(*ALL)
        bench.run()
        runs.append(bench.frames)
    assert runs[0] == runs[1]
    assert msgspec.msgpack.decode(runs[0][0])
