"""`select` over all that view changes can carry: the furthest decision is the base, the highest preparation wins."""

from itertools import permutations
from typing import Any

import msgspec
import pytest

from fedsched.consensus.messages import Decided, NewView, Prepared, PrePrepare, Proposal, ViewChange
from fedsched.consensus.viewchange import Changes, follows, select


def pre_prepare(view: int, seq: int, name: str) -> Any:
    return PrePrepare(Proposal(view, seq, name.encode().ljust(32), b""), ())


def change(replica: Any, view: int = 9, executed: Any = 0, prepared_in: Any = None, name: str = "x") -> Any:
    decided = Decided(pre_prepare(0, executed, f"decided-{executed}"), ()) if executed else None
    prepared = None if prepared_in is None else Prepared(pre_prepare(prepared_in, executed + 1, name), ())
    return ViewChange(view, decided, prepared, replica, b"")


def new_view(changes: Any, proposed: Any) -> Any:
    return NewView(9, tuple(changes), proposed, 1, b"")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_highest_view_wins_whatever_the_order(order: Any) -> None:
    changes = [change(0, prepared_in=2, name="old"), change(1, prepared_in=5, name="new"), change(2)]
    base, carried = select(changes[i] for i in order)
    assert base == 0
    assert carried == pre_prepare(5, 1, "new")


def test_nothing_prepared_leaves_the_leader_free() -> None:
    assert select([change(0), change(1), change(2)]) == (0, None)


def test_a_preparation_at_or_below_the_furthest_decision_is_over() -> None:
    assert select([change(0, prepared_in=5), change(1, executed=1), change(2)]) == (1, None)


def test_the_preparation_after_the_furthest_decision_is_carried() -> None:
    changes = [change(0, prepared_in=5, name="over"), change(1, executed=1, prepared_in=3, name="kept"), change(2)]
    assert select(changes) == (1, pre_prepare(3, 2, "kept"))


def test_a_new_view_follows_only_with_exactly_the_carried_step() -> None:
    carried = [change(0, prepared_in=2, name="kept"), change(1), change(2)]
    free = [change(0), change(1), change(2)]
    assert follows(new_view(carried, pre_prepare(9, 1, "kept")))
    assert follows(new_view(free, None))
    assert not follows(new_view(carried, None))
    assert not follows(new_view(carried, pre_prepare(9, 1, "other")))
    assert not follows(new_view(carried, pre_prepare(9, 2, "kept")))
    assert not follows(new_view(free, pre_prepare(9, 1, "kept")))


def test_changes_keep_one_vote_a_peer_and_count_who_left_a_view_behind() -> None:
    changes = Changes(4)
    for replica, view in [(0, 1), (0, 3), (0, 2), (1, 1)]:
        changes.add(change(replica, view=view))
    assert [one.replica for one in changes.of(1)] == [1]
    assert [one.view for one in changes.of(3)] == [3]
    assert changes.reached(1) == 2
    assert changes.reached(2) == 1
    assert changes.overtaken(0) == 1
    assert changes.overtaken(1) is None


def test_a_repeated_vote_does_not_count_twice() -> None:
    changes = Changes(4)
    for _ in range(5):
        changes.add(change(2, view=1))
    assert changes.reached(1) == 1
    assert changes.overtaken(0) is None
    assert msgspec.structs.astuple(changes.of(1)[0])[0] == 1
