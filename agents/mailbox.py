"""What agents last said, and what saying it cost."""

from dataclasses import dataclass, replace

import torch

from fedsched.agents.decisions import Heard


@dataclass(frozen=True)
class Mailbox:
    """The last message of every agent of every world.

    Attributes:
        message: float32 [B, A, M], A over all agents of all kinds.
        sent_s: float64 [B, A], when it was sent.
        known: bool [B, A], whether there was one in this episode.
        silent: int64 [B, A], decisions taken since without sending.
        unsure: float32 [B, A], how uncertain each was when it last decided, by what it had heard before; 1 before that.
    """

    message: torch.Tensor
    sent_s: torch.Tensor
    known: torch.Tensor
    silent: torch.Tensor
    unsure: torch.Tensor

    @classmethod
    def empty(cls, batch: int, agents: int, size: int, device: torch.device | str = "cpu") -> "Mailbox":
        """A mailbox in which nobody has said anything; `size` is the message's M."""
        return cls(
            message=torch.zeros(batch, agents, size, device=device),
            sent_s=torch.zeros(batch, agents, dtype=torch.float64, device=device),
            known=torch.zeros(batch, agents, dtype=torch.bool, device=device),
            silent=torch.zeros(batch, agents, dtype=torch.int64, device=device),
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
        """A mailbox with new messages [D, M] of `agents` [D] of the worlds `rows` [D] as of `time_s` [D].

        Only what was `sent`, bool [D], gets in (None: everything); the others have been silent once more.
        """
        silent = self.silent
        if sent is not None:
            silent = silent.index_put((rows, agents), silent[rows, agents] + 1)
            said = sent.nonzero().squeeze(1)
            rows, agents, message, time_s = (part.index_select(0, said) for part in (rows, agents, message, time_s))
        place = (rows, agents)
        return Mailbox(
            message=self.message.index_put(place, message.detach()),
            sent_s=self.sent_s.index_put(place, time_s),
            known=self.known.index_put(place, torch.ones_like(rows, dtype=torch.bool)),
            silent=silent.index_put(place, torch.zeros_like(rows)),
            unsure=self.unsure,
        )

    def with_unsure(self, rows: torch.Tensor, agents: torch.Tensor, unsure: torch.Tensor) -> "Mailbox":
        """The same with what deciding agents told of their uncertainty, [D]."""
        return replace(self, unsure=self.unsure.index_put((rows, agents), unsure))

    def heard(self, rows: torch.Tensor, neighbours: torch.Tensor, time_s: torch.Tensor) -> Heard:
        """What the `neighbours` [D, K] of agents of the worlds `rows` [D] last said, as of `time_s` [D]."""
        place = (rows[:, None].expand_as(neighbours), neighbours.clamp(min=0))
        known = self.known[place] & (neighbours >= 0)
        age = torch.log1p((time_s[:, None] - self.sent_s[place]).clamp(min=0)) / 16
        return Heard(
            neighbours=neighbours,
            message=self.message[place] * known[:, :, None],
            age=(age * known).to(torch.float32),
            known=known,
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


def listeners(neighbours: torch.Tensor) -> torch.Tensor:
    """How many agents hear each agent, int64 [A], from `neighbours` [A, K] with -1 as padding."""
    heard = neighbours[neighbours >= 0]
    return heard.new_zeros(neighbours.shape[0]).index_add(0, heard, torch.ones_like(heard))


def most_among_listeners(values: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
    """The greatest of `values` float32 [..., A] (at least 0) among those who hear each agent; 0 where nobody does."""
    agents, width = neighbours.shape
    spoken_to = neighbours.reshape(-1)
    heard = torch.arange(agents, device=values.device).repeat_interleave(width)[spoken_to >= 0]
    index = spoken_to[spoken_to >= 0].expand(*values.shape[:-1], -1)
    return torch.zeros_like(values).scatter_reduce(-1, index, values[..., heard], "amax")


def count_traffic(possible: torch.Tensor, sent: torch.Tensor | None, message_bits: int, told: int) -> Traffic:
    """What some decisions sent.

    Args:
        possible: int64 [D], messages of each decision if it sends: one per listener and round.
        sent: bool [D], whether it does; None: all do.
        message_bits: Of one message.
        told: Further bits.
    """
    every = int(possible.sum())
    messages = every if sent is None else int((possible * sent).sum())
    return Traffic(messages, every, messages * message_bits + told)
