"""A deterministic network in one thread: replicas, a heap of what is under way, and simulated milliseconds.

Everything random is drawn from streams that the caller seeds, and the heap breaks ties by a counter, so a run is a
function of its inputs down to the last byte. `trace` is a digest over everything that was sent.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from fedsched.consensus.behaviours import BEHAVIOURS, Culprit, Parcel
from fedsched.consensus.bids import SignedBid
from fedsched.consensus.draws import Draws
from fedsched.consensus.errors import ConsensusError, PeerError
from fedsched.consensus.events import Accuse, Effect, Entered, Event, Received, Send, Settled, Submit, Tick
from fedsched.consensus.evidence import Evidence
from fedsched.consensus.gate import Gate
from fedsched.consensus.messages import Message, encode
from fedsched.consensus.replica import Replica

LOSS_STEPS = 1_000_000


@dataclass(frozen=True)
class NetworkConfig:
    """What the simulated network does to frames.

    Attributes:
        delay_ms: Mean one-way delay in milliseconds; each frame draws between half of it and one and a half of it.
        loss: Share of frames that never arrive, 0 <= loss < 1.

    Raises:
        ConsensusError: A value out of range.
    """

    delay_ms: int = 50
    loss: float = 0.0

    def __post_init__(self) -> None:
        if self.delay_ms < 1 or not 0 <= self.loss < 1:
            raise ConsensusError(f"network needs delay_ms >= 1 and 0 <= loss < 1, got {self.delay_ms} and {self.loss}")

    @property
    def tick_ms(self) -> int:
        """Length of a replica's tick in milliseconds: one mean delay."""
        return self.delay_ms


@dataclass
class Outcome:
    """What the network saw of one replica.

    Attributes:
        settled: Its plan and certificate, once it has them.
        at_ms: When it settled, simulated milliseconds.
        views: Views that it entered after the first.
    """

    settled: Settled | None = None
    at_ms: int = 0
    views: int = 0


class Network:
    """Runs the replicas of one settlement.

    Args:
        replicas: By index.
        gate: Opens frames; shared, since all replicas check the same signatures.
        culprits: Faulty replicas: behaviour by name, and what it needs.
        config: Delay and loss.
        draws: The stream of delays and losses.

    Attributes:
        now_ms: Simulated time.
        messages: Frames sent, lost ones included.
        bytes: Their size.
        outcomes: By replica.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        gate: Gate,
        culprits: Mapping[int, tuple[str, Culprit]],
        config: NetworkConfig,
        draws: Draws,
    ) -> None:
        self.now_ms = 0
        self.messages = 0
        self.bytes = 0
        self.outcomes = [Outcome() for _ in replicas]
        self._evidence: list[Evidence] = []
        self._replicas = replicas
        self._gate = gate
        self._culprits = culprits
        self._config = config
        self._draws = draws
        self._loss = round(config.loss * LOSS_STEPS)
        self._heap: list[tuple[int, int, int, bytes | None]] = []
        self._count = 0
        self._opened: dict[bytes, Message | None] = {}
        self._trace = blake2b(digest_size=16)

    @property
    def honest(self) -> list[int]:
        """Replicas that follow the protocol."""
        return [replica for replica in range(len(self._replicas)) if replica not in self._culprits]

    @property
    def agreed(self) -> bool:
        """Whether all honest replicas decided the same at every step, the plan included."""
        histories = {tuple(one.pre_prepare.proposal.digest for one in self._replicas[i].decisions) for i in self.honest}
        return len(histories) == 1

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What honest replicas can prove, in order of discovery, each once."""
        return tuple(self._evidence)

    @property
    def trace(self) -> str:
        """Digest of every frame sent: when, from whom, to whom, what."""
        return self._trace.hexdigest()

    def run(self, bids: Mapping[int, SignedBid], limit_ms: int) -> bool:
        """Starts every replica with its site's bid and runs until all honest ones settled.

        Returns:
            Whether they did so within `limit_ms` simulated milliseconds.
        """
        for index, signed in sorted(bids.items()):
            self._step(index, Submit(signed))
        for index in range(len(self._replicas)):
            self._schedule(self._config.tick_ms, index, None)
        open_replicas = set(self.honest)
        while open_replicas and self._heap[0][0] <= limit_ms:
            self.now_ms, _, index, frame = heapq.heappop(self._heap)
            if frame is None:
                self._schedule(self._config.tick_ms, index, None)
                self._step(index, Tick())
            elif (message := self._open(frame)) is not None:
                self._step(index, Received(message))
            if self.outcomes[index].settled is not None:
                open_replicas.discard(index)
        return not open_replicas

    def _schedule(self, after_ms: int, index: int, frame: bytes | None) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now_ms + after_ms, self._count, index, frame))

    def _open(self, frame: bytes) -> Message | None:
        """What the gate makes of a frame; the same for every receiver, so it is done once."""
        if frame not in self._opened:
            try:
                self._opened[frame] = self._gate.open(frame)
            except PeerError:
                self._opened[frame] = None
        return self._opened[frame]

    def _step(self, index: int, event: Event) -> None:
        effects = self._replicas[index].step(event)
        sends = [effect for effect in effects if isinstance(effect, Send)]
        if index in self._culprits:
            name, culprit = self._culprits[index]
            parcels = BEHAVIOURS[name](culprit, sends)
        else:
            parcels = [Parcel(send) for send in sends]
            for effect in effects:
                self._note(index, effect)
        for parcel in parcels:
            self._post(index, parcel)

    def _note(self, index: int, effect: Effect) -> None:
        outcome = self.outcomes[index]
        match effect:
            case Settled():
                outcome.settled, outcome.at_ms = effect, self.now_ms
            case Entered():
                outcome.views += 1
            case Accuse() if effect.evidence not in self._evidence:
                self._evidence.append(effect.evidence)

    def _post(self, source: int, parcel: Parcel) -> None:
        frame = encode(parcel.send.message)
        target = parcel.send.target
        for peer in range(len(self._replicas)) if target is None else (target,):
            if peer == source:
                continue
            self.messages += 1
            self.bytes += len(frame)
            self._trace.update(b"%d %d %d " % (self.now_ms, source, peer))
            self._trace.update(frame)
            delay_ms = self._config.delay_ms // 2 + self._draws.below(self._config.delay_ms + 1)
            if self._draws.below(LOSS_STEPS) >= self._loss:
                self._schedule(delay_ms + parcel.delay_ms, peer, frame)
