"""What agents last said, and what saying it cost."""

from dataclasses import dataclass, fields, replace

import torch

from fedsched.agents.decisions import Heard
from fedsched.agents.tables import table
from fedsched.envs.core import Addresses


@dataclass(frozen=True)
class Mailbox:
    """The last message of every agent of every world to each of its L addresses, see `envs.core.Addresses`.

    Attributes:
        message: float32 [B, A, L, M], A over all agents of all kinds.
        sent_s: float64 [B, A, L], when it was sent.
        known: bool [B, A, L], whether there was one in this episode.
        silent: int64 [B, A, L], decisions taken since without sending.
        unsure: float32 [B, A], how uncertain each was when it last decided, by what it had heard before; 1 before that.
    """

    message: torch.Tensor
    sent_s: torch.Tensor
    known: torch.Tensor
    silent: torch.Tensor
    unsure: torch.Tensor

    @classmethod
    def empty(
        cls, batch: int, agents: int, size: int, addresses: int = 1, device: torch.device | str = "cpu"
    ) -> "Mailbox":
        """A mailbox in which nobody has said anything; `size` is the message's M."""
        lines = batch, agents, addresses
        return cls(
            message=torch.zeros(*lines, size, device=device),
            sent_s=torch.zeros(lines, dtype=torch.float64, device=device),
            known=torch.zeros(lines, dtype=torch.bool, device=device),
            silent=torch.zeros(lines, dtype=torch.int64, device=device),
            unsure=torch.ones(batch, agents, device=device),
        )

    def post(
        self,
        rows: torch.Tensor,
        agents: torch.Tensor,
        message: torch.Tensor,
        time_s: torch.Tensor,
        sent: torch.Tensor | None = None,
    ) -> "Mailbox":
        """A mailbox with new messages [D, L, M] of `agents` [D] of the worlds `rows` [D] as of `time_s` [D].

        Only what was `sent`, bool [D, L], gets in (None: everything); otherwise there was silent once more.
        """
        sent = torch.ones_like(message[..., 0], dtype=torch.bool) if sent is None else sent
        silent = self.silent.index_put((rows, agents), self.silent[rows, agents] + 1)
        said, address = sent.nonzero(as_tuple=True)
        place = (rows.index_select(0, said), agents.index_select(0, said), address)
        return Mailbox(
            message=self.message.index_put(place, message.detach()[said, address]),
            sent_s=self.sent_s.index_put(place, time_s.index_select(0, said)),
            known=self.known.index_put(place, torch.ones_like(said, dtype=torch.bool)),
            silent=silent.index_put(place, torch.zeros_like(said)),
            unsure=self.unsure,
        )

    def rows(self, chosen: torch.Tensor) -> "Mailbox":
        """The mailboxes of some worlds, `chosen` int64 [C], in any order and also several times."""
        return Mailbox(*(getattr(self, part.name).index_select(0, chosen) for part in fields(self)))

    def with_unsure(self, rows: torch.Tensor, agents: torch.Tensor, unsure: torch.Tensor) -> "Mailbox":
        """The same with what deciding agents told of their uncertainty, [D]."""
        return replace(self, unsure=self.unsure.index_put((rows, agents), unsure))

    def heard(self, rows: torch.Tensor, neighbours: torch.Tensor, address: torch.Tensor, time_s: torch.Tensor) -> Heard:
        """What the `neighbours` [D, K] of agents of the worlds `rows` [D] last said to `address` [D, K].

        `time_s` [D] is the clock now.
        """
        place = (rows[:, None].expand_as(neighbours), neighbours.clamp(min=0), address)
        known = self.known[place] & (neighbours >= 0)
        age = torch.log1p((time_s[:, None] - self.sent_s[place]).clamp(min=0)) / 16
        return Heard(
            neighbours=neighbours,
            message=self.message[place] * known[:, :, None],
            age=(age * known).to(torch.float32),
            known=known,
            address=address,
        )


@dataclass(frozen=True)
class Traffic:
    """What the agents sent.

    Attributes:
        messages: One for every neighbour that a deciding agent speaks to, per round.
        possible: What this would have been if every decision had sent.
        payload_bits: Of the messages; where agents may keep silent, one for each possible message (sent or not); where
            they are asked, one from each deciding agent to each that it hears (uncertain or not).
    """

    messages: int = 0
    possible: int = 0
    payload_bits: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        """The sum of both."""
        return Traffic(
            self.messages + other.messages, self.possible + other.possible, self.payload_bits + other.payload_bits
        )

    @property
    def payload_bytes(self) -> int:
        """Whole bytes that hold the bits."""
        return -(-self.payload_bits // 8)

    @property
    def share(self) -> float:
        """Share of the possible messages that were sent; zero where none was possible."""
        return self.messages / max(1, self.possible)


def most_among_listeners(values: torch.Tensor, addresses: Addresses) -> torch.Tensor:
    """The greatest of `values` float32 [..., A] (at least 0) among those who hear each address, [..., A, L]; else 0."""
    agents, width = addresses.neighbours.shape
    device = values.device
    neighbours = table(addresses.neighbours, device).reshape(-1)
    spoken_to = neighbours * addresses.count + table(addresses.address, device).reshape(-1)
    there = neighbours >= 0
    heard = torch.arange(agents, device=device).repeat_interleave(width)[there]
    most = values.new_zeros(*values.shape[:-1], agents * addresses.count)
    index = spoken_to[there].expand(*values.shape[:-1], -1)
    most = most.scatter_reduce(-1, index, values[..., heard], "amax")
    return most.reshape(*values.shape, addresses.count)


def count_traffic(possible: torch.Tensor, sent: torch.Tensor | None, message_bits: int, told: int) -> Traffic:
    """What some decisions sent.

    Args:
        possible: int64 [D, L], messages to each address if it is sent to: one per listener and round.
        sent: bool [D, L], whether it is; None: all are.
        message_bits: Of one message.
        told: Further bits.
    """
    every = int(possible.sum())
    messages = every if sent is None else int((possible * sent).sum())
    return Traffic(messages, every, messages * message_bits + told)
