"""One replica of one settlement: signed three-phase PBFT as a pure state machine, `step(event) -> effects`.

There is no clock, socket, disk, thread or randomness in here: time is counted in ticks, messages arrive verified by the
gate, and whatever should happen outside is returned as effects. Bids are ordered first, in batches; then the plan. One
step is open at a time, because a plan is judged against everything ordered before it; the whole log of a settlement is
at most n batches and one plan. The settled plan's certificate plays the part of PBFT's stable checkpoint: the next
settlement starts a new replica from its digest.

The state changes are in this file; the rule of the view change is in `viewchange`, the votes of the open step are in
`slot`, and all signing is in `safety`.
"""

from fedsched.consensus.certificate import Certificate
from fedsched.consensus.events import Accuse, Effect, Entered, Event, Received, Send, Settled, Submit, Tick, Timing
from fedsched.consensus.evidence import equivocation, invalid_proposal
from fedsched.consensus.keys import SiteKey
from fedsched.consensus.messages import (
    Commit,
    Decided,
    Message,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Proposal,
    Request,
    Status,
    ViewChange,
)
from fedsched.consensus.plan import Log, Operation, Plan, Rules, operation_digest
from fedsched.consensus.pool import Pool
from fedsched.consensus.safety import Pledges
from fedsched.consensus.slot import Early, Slot, Vote, place_of
from fedsched.consensus.viewchange import Changes, follows, select

# A vote further ahead than this is not kept; decisions from peers heal what it would have helped with.
AHEAD = 2


class Replica:
    """A replica that settles one plan.

    Args:
        index: Its index in the membership.
        key: Its secret key.
        log: Scope, parent and links, with no bids ordered yet.
        rules: What may be ordered, and what to propose.
        timing: Patience, in ticks.

    Attributes:
        view: The view it works in, or heads for while `changing`.
        changing: Whether it waits for a new leader.
        log: What it has executed.
        decisions: One proof per executed step, in order.
        settled: Whether the plan is decided.
    """

    def __init__(self, index: int, key: SiteKey, log: Log, rules: Rules, timing: Timing) -> None:
        self.index = index
        self.log = log
        self.view = 0
        self.changing = False
        self.settled = False
        self.decisions: list[Decided] = []
        self._scope = log.scope
        self._n = log.scope.membership.n
        self._quorum = log.scope.membership.quorum
        self._rules = rules
        self._timing = timing
        self._pledges = Pledges(index, key, log.scope)
        self._pool = Pool()
        self._slot = Slot()
        self._prepared: Prepared | None = None
        self._early = Early(log.scope)
        self._changes = Changes(self._n)
        self._own_change: ViewChange | None = None
        self._new_view: NewView | None = None
        self._base = 0
        self._age = 0
        self._waited = 0
        self._failed = 0
        self._effects: list[Effect] = []

    @property
    def executed(self) -> int:
        """How many steps are decided and carried out."""
        return len(self.decisions)

    @property
    def leads(self) -> bool:
        """Whether this replica is the leader at work in its view."""
        return not self.changing and self._scope.leader(self.view) == self.index

    def step(self, event: Event) -> list[Effect]:
        """Takes one event and returns what should happen outside, in order."""
        self._effects = []
        match event:
            case Tick():
                self._tick()
            case Submit():
                self._pool.hold(event.signed)
                self._send(Request(event.signed))
            case Received():
                self._receive(event.message)
        while self._replay() or self._propose():
            pass
        return self._effects

    def _send(self, message: Message, target: int | None = None) -> None:
        self._effects.append(Send(message, target))

    def _receive(self, message: Message) -> None:
        match message:
            case Request():
                proof = self._pool.hold(message.signed)
                if proof is not None:
                    self._effects.append(Accuse(proof))
            case PrePrepare() | Prepare() | Commit():
                self._route(message)
            case Decided():
                self._learn(message)
            case ViewChange():
                self._note_change(message)
            case NewView():
                self._enter_by(message)
            case Status():
                self._answer(message)

    # The normal case --------------------------------------------------------------------------------------------------

    def _next_operation(self) -> Operation | None:
        """What a leader proposes now: the bids that wait, and once there are none, the plan.

        Waiting for a site that stays silent ends after `Timing.bids` ticks; waiting for n - f bids never ends.
        """
        waiting = self._pool.waiting(self.log)
        known = len(self.log.bids) + len(waiting)
        patient = known < self._n and self._age < self._timing.bids
        if patient or known < self._scope.membership.required_bids:
            return None
        return waiting or self._rules.propose(self.log)

    def _propose(self) -> bool:
        """Opens the next step if this replica leads and has something to order."""
        if not self.leads or not self._is_open(self.view, self.executed + 1) or self._slot.proposal is not None:
            return False
        operation = self._next_operation()
        if operation is None:
            return False
        proposal = self._pledges.propose(self.view, self.executed + 1, operation_digest(operation))
        message = PrePrepare(proposal, operation)
        self._send(message)
        self._accept(message)
        return True

    def _is_open(self, view: int, seq: int) -> bool:
        """Whether votes for this place count now.

        Below the view's base everything is decided already: a replica that lags must learn it, not vote on it again.
        """
        current = view == self.view and seq == self.executed + 1
        return current and self.executed >= self._base and not self.changing and not self.settled

    def _route(self, message: Vote) -> None:
        """Handles a vote on the open step, keeps one that is early, forgets one that is late."""
        place = place_of(message, self._scope)
        if self.settled or place.view < self.view or not self.executed < place.seq <= self.executed + AHEAD:
            return
        if self._is_open(place.view, place.seq):
            self._accept(message)
        else:
            self._early.keep(message)

    def _replay(self) -> bool:
        """Handles one early vote whose step is open now; drops those that are late. False when none is left."""
        message = self._early.take(self.view, self.executed, self._is_open)
        if message is None:
            return False
        self._accept(message)
        return True

    def _accept(self, message: Vote) -> None:
        """Takes a vote on the open step of the current view."""
        slot = self._slot
        if isinstance(message, Commit):
            slot.commits.setdefault(message.replica, message)
        else:
            if self._contradicts(message.proposal):
                return
            if isinstance(message, Prepare):
                slot.prepares.setdefault(message.replica, message)
            elif slot.pre_prepare is None and not self._judge(message):
                return
        self._count()

    def _contradicts(self, proposal: Proposal) -> bool:
        """Whether the leader proposed something else before; if so, that is proof enough to replace it."""
        pair = self._slot.contradiction(proposal)
        if pair is None:
            return False
        self._effects.append(Accuse(equivocation(self._scope, *pair)))
        self._change_to(self.view + 1)
        return True

    def _judge(self, message: PrePrepare) -> bool:
        """Accepts and prepares a valid proposal; replaces the leader for an invalid one."""
        reason = self._rules.violation(message.operation, self.log)
        if reason is not None:
            self._effects.append(Accuse(invalid_proposal(self._scope, message, reason)))
            self._change_to(self.view + 1)
            return False
        self._slot.pre_prepare = message
        if not self.leads:
            prepare = self._pledges.prepare(message.proposal)
            self._slot.prepares[self.index] = prepare
            self._send(prepare)
        return True

    def _count(self) -> None:
        """Commits once prepared, executes once committed."""
        slot = self._slot
        prepared = None if slot.committed else slot.prepared(self._quorum)
        if prepared is not None:
            self._prepared = prepared
            slot.committed = True
            commit = self._pledges.commit(prepared.pre_prepare.proposal)
            slot.commits[self.index] = commit
            self._send(commit)
        decided = slot.decided(self._quorum)
        if decided is not None:
            self._execute(decided)

    def _execute(self, decided: Decided) -> None:
        assert not self.settled, "a settlement ends with its plan"
        assert decided.seq == self.executed + 1, "steps are executed in order, each once"
        self.decisions.append(decided)
        self._slot = Slot()
        self._prepared = None
        self._waited = self._failed = 0
        operation = decided.pre_prepare.operation
        if isinstance(operation, Plan):
            self.settled = True
            self._effects.append(Settled(operation, Certificate.of(decided, self._scope.membership)))
        else:
            self.log = self.log.extended(operation)

    # Time and catching up ---------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.settled:
            return
        self._age += 1
        if self._age % self._timing.status == 0:
            bids = self._pool.known(self.log)
            self._send(self._pledges.status(self.view, self.changing, self.executed, bids))
        if self.changing and self._own_change is not None:
            self._send(self._own_change)
        if not self.changing or self._changes.reached(self.view) >= self._quorum:
            self._waited += 1
        if self._waited >= self._timing.timeout << min(self._failed, self._timing.doublings):
            self._failed += 1
            self._change_to(self.view + 1)

    def _learn(self, decided: Decided) -> None:
        """Executes a decision that peers reached without this replica."""
        if not self.settled and decided.seq == self.executed + 1:
            self._execute(decided)

    def _answer(self, status: Status) -> None:
        """Sends a peer what it lacks: decisions, the new view, own votes on the open step, bids."""
        peer = status.replica
        for decided in self.decisions[status.executed :]:
            self._send(decided, peer)
        if self.settled or status.executed > self.executed:
            return
        for signed in self._pool.beyond(frozenset(status.bids)):
            self._send(Request(signed), peer)
        if self.changing or status.view > self.view:
            return
        behind = status.view < self.view or status.changing
        if behind and self._new_view is not None:
            self._send(self._new_view, peer)
        slot = self._slot
        for vote in (slot.pre_prepare, slot.prepares.get(self.index), slot.commits.get(self.index)):
            if vote is not None:
                self._send(vote, peer)

    # The view change --------------------------------------------------------------------------------------------------

    def _change_to(self, view: int) -> None:
        """Stops working in the current view and asks for the leader of `view`."""
        assert view > self.view, "views never fall"
        self.view = view
        self.changing = True
        self._waited = 0
        self._slot = Slot()
        decided = self.decisions[-1] if self.decisions else None
        self._own_change = self._pledges.view_change(view, decided, self._prepared)
        self._changes.add(self._own_change)
        self._send(self._own_change)
        self._open_view()

    def _note_change(self, change: ViewChange) -> None:
        if change.decided is not None:
            self._learn(change.decided)
        if self.settled:
            return
        self._changes.add(change)
        overtaken = self._changes.overtaken(self.view)
        if overtaken is not None:
            self._change_to(overtaken)
        self._open_view()

    def _open_view(self) -> None:
        """Builds NEW-VIEW if this replica is the next leader and a quorum asked for it."""
        changes = self._changes.of(self.view)
        if not self.changing or self._scope.leader(self.view) != self.index or len(changes) < self._quorum:
            return
        base, carried = select(changes)
        pre_prepare = None
        if carried is not None:
            proposal = self._pledges.propose(self.view, base + 1, carried.proposal.digest)
            pre_prepare = PrePrepare(proposal, carried.operation)
        message = self._pledges.new_view(self.view, changes, pre_prepare)
        self._send(message)
        self._enter(message)

    def _enter_by(self, message: NewView) -> None:
        """Checks a new leader's NEW-VIEW against `select`; one that breaks the rule costs the leader its view."""
        if self.settled or message.view < self.view or (message.view == self.view and not self.changing):
            return
        if follows(message):
            self._enter(message)
        else:
            self._change_to(message.view + 1)

    def _enter(self, message: NewView) -> None:
        self.view = message.view
        self.changing = False
        self._waited = 0
        self._slot = Slot()
        self._new_view = message
        self._base = select(message.changes).base
        self._effects.append(Entered(message.view))
        for change in message.changes:
            if change.decided is not None:
                self._learn(change.decided)
        if message.pre_prepare is not None and not self.settled:
            self._early.bind(message.pre_prepare)
