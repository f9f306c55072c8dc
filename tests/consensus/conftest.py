"""Four to seven toy sites that trade processor-hours, and a bench on which single messages are delivered by hand."""

from collections.abc import Callable

import pytest

from fedsched.consensus import Bid, Link, Log, Lot, Membership, Replica, Scope, SignedBid, SiteKey
from fedsched.consensus.events import Accuse, Event, Received, Send, Settled, Submit, Tick, Timing
from fedsched.consensus.gate import Gate
from fedsched.consensus.messages import Message, encode
from fedsched.consensus.plan import GENESIS, Rules

NAMES = ("east", "north", "south", "west", "xanten", "york", "zurich")
Allow = Callable[[int, int, Message], bool]


class Federation:
    """Keys, links and bids of `n` sites; one asks, the next offers, and so on."""

    def __init__(self, n: int = 4) -> None:
        self.n = n
        self.names = NAMES[:n]
        self.keys = {name: SiteKey.from_seed(bytes([i + 1]) * 32) for i, name in enumerate(self.names)}
        self.membership = Membership.of("toy", self.keys)
        self.links = tuple(Link(a, b, 40_000, 80, 1) for a in self.names for b in self.names if a != b)

    def lot(self, quantity: int, value: int, width: int = 64) -> Lot:
        limits = (("data_mb_per_unit", 3), ("max_width", width))
        return Lot("processor-hours", quantity, value, (0, 21_600), limits)

    def bids(self, epoch: int = 0) -> dict[str, Bid]:
        made = {}
        for i, name in enumerate(self.names):
            lots = tuple(self.lot(1000 * (k + 1) + i, 300 + 100 * k + i, 2 ** (k + 3)) for k in range(3))
            asks = tuple(self.lot(1500 * (k + 1), 900 - 70 * k - i, 2 ** (k + 2)) for k in range(3))
            made[name] = Bid(name, epoch, lots, ()) if i % 2 else Bid(name, epoch, (), asks)
        return made

    def scope(self, epoch: int = 0, row: int = 0) -> Scope:
        return Scope(self.membership, row, epoch)

    def log(self, epoch: int = 0, *, full: bool = True) -> Log:
        empty = Log(self.scope(epoch), GENESIS, self.links)
        return empty.extended(self.signed(epoch)) if full else empty

    def signed(self, epoch: int = 0) -> tuple[SignedBid, ...]:
        bids = self.bids(epoch)
        return tuple(SignedBid.by(self.keys[name], bids[name], self.scope(epoch)) for name in self.names)


class Bench:
    """Replicas whose messages wait in a queue until `run` delivers or drops them, in order, through the real gate."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.gate = Gate(federation.scope())
        log = federation.log(full=False)
        self.replicas = [
            Replica(i, federation.keys[name], log, Rules(), Timing()) for i, name in enumerate(federation.names)
        ]
        self.queue: list[tuple[int, int, bytes]] = []
        self.frames: list[bytes] = []
        self.evidence: list[Accuse] = []
        self.settled: dict[int, Settled] = {}

    def step(self, index: int, event: Event) -> None:
        for effect in self.replicas[index].step(event):
            match effect:
                case Send():
                    self.send(index, effect.message, effect.target)
                case Accuse():
                    self.evidence.append(effect)
                case Settled():
                    self.settled[index] = effect

    def send(self, source: int, message: Message, target: int | None = None) -> None:
        frame = encode(message)
        self.frames.append(frame)
        for peer in range(self.federation.n) if target is None else (target,):
            if peer != source:
                self.queue.append((source, peer, frame))

    def submit(self, *indices: int) -> None:
        for index in indices:
            self.step(index, Submit(self.federation.signed()[index]))

    def run(self, allow: Allow = lambda _source, _target, _message: True) -> None:
        while self.queue:
            source, target, frame = self.queue.pop(0)
            message = self.gate.open(frame)
            if allow(source, target, message):
                self.step(target, Received(message))

    def tick(self, count: int, indices: tuple[int, ...], allow: Allow = lambda _s, _t, _m: True) -> None:
        for _ in range(count):
            for index in indices:
                self.step(index, Tick())
            self.run(allow)

    def digests(self, index: int) -> list[bytes]:
        """What a replica decided, step by step."""
        return [decided.pre_prepare.proposal.digest for decided in self.replicas[index].decisions]


@pytest.fixture
def federation() -> Federation:
    return Federation()


@pytest.fixture
def federation_of() -> type[Federation]:
    return Federation


@pytest.fixture
def bench(federation: Federation) -> Bench:
    return Bench(federation)


@pytest.fixture
def bench_of() -> type[Bench]:
    return Bench
