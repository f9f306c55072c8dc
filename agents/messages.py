"""Messages between the agents of a world: encode, send, receive, `rounds` times inside one decision.

An agent that decides at the same instant is heard with its fresh message, and gradients flow back into it; one that
does not is heard through the mailbox, with what it last said and how long ago.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fedsched.agents.config import MessageConfig
from fedsched.agents.decisions import Heard
from fedsched.agents.layers import Dense, Owners, own_of


@dataclass(frozen=True)
class Mailbox:
    """The last message of every agent of every world.

    Attributes:
        message: float32 [B, A, M], A over all agents of all kinds.
        sent_s: float64 [B, A], when it was sent.
        known: bool [B, A], whether there was one in this episode.
    """

    message: torch.Tensor
    sent_s: torch.Tensor
    known: torch.Tensor

    @classmethod
    def empty(cls, batch: int, agents: int, size: int, device: torch.device | str = "cpu") -> "Mailbox":
        """A mailbox in which nobody has said anything; `size` is the message's M."""
        return cls(
            message=torch.zeros(batch, agents, size, device=device),
            sent_s=torch.zeros(batch, agents, dtype=torch.float64, device=device),
            known=torch.zeros(batch, agents, dtype=torch.bool, device=device),
        )

    def post(self, rows: torch.Tensor, agents: torch.Tensor, message: torch.Tensor, time_s: torch.Tensor) -> "Mailbox":
        """A mailbox with new messages [D, M] of `agents` [D] of the worlds `rows` [D], sent at `time_s` [D]."""
        place = (rows, agents)
        return Mailbox(
            message=self.message.index_put(place, message.detach()),
            sent_s=self.sent_s.index_put(place, time_s),
            known=self.known.index_put(place, torch.ones_like(rows, dtype=torch.bool)),
        )

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
        payload_bytes: Their payload in float32.
    """

    messages: int = 0
    payload_bytes: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        """The sum of both."""
        return Traffic(self.messages + other.messages, self.payload_bytes + other.payload_bytes)


def listeners(neighbours: torch.Tensor) -> torch.Tensor:
    """How many agents hear each agent, int64 [A], from `neighbours` [A, K] with -1 as padding."""
    heard = neighbours[neighbours >= 0]
    return torch.zeros(neighbours.shape[0], dtype=torch.int64).index_add(0, heard, torch.ones_like(heard))


def fresh_speakers(moment: torch.Tensor, agent: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
    """Which decisions of a batch were taken by whose neighbours at the same instant.

    Args:
        moment: int64 [D]; decisions of one world at one instant share it.
        agent: int64 [D].
        neighbours: int64 [D, K]; -1 pads.

    Returns:
        int64 [D, K], an index into the batch, or -1.
    """
    if moment.numel() == 0:
        return neighbours
    moments, line = torch.unique(moment, return_inverse=True)
    agents = int(torch.maximum(agent.max(), neighbours.max() if neighbours.numel() else agent.max())) + 1
    table = torch.full((moments.shape[0], agents), -1, dtype=torch.int64, device=moment.device)
    table[line, agent] = torch.arange(moment.shape[0], device=moment.device)
    return torch.where(neighbours >= 0, table[line[:, None], neighbours.clamp(min=0)], -1)


class Messenger(nn.Module):
    """Rounds of multi-head attention over what the neighbours say.

    message_i = tanh(Ws [summary_i, context_i]);
    context_i = Wc attention(query(summary_i), {null} + {(message_j, age_j)}).
    The learned null token makes an agent without neighbours, or with silent ones, well defined.
    """

    def __init__(self, config: MessageConfig, copies: int = 0) -> None:
        """Builds the parts; an agent's summary has as many features as a message.

        Args:
            config: Sizes.
            copies: The number of agents where each owns its part, as in `Dense`; agent i owns copy i.
        """
        super().__init__()
        self.heads, self.rounds, self.copies = config.heads, config.rounds, copies
        size = self.size = config.latent
        self.speak = Dense(2 * size, size, copies)
        self.query = Dense(size, size, copies)
        self.listen = Dense(size + 1, 2 * size, copies)
        self.null = nn.Parameter(torch.zeros(*((copies,) if copies else ()), 2, size))
        self.merge = Dense(size, size, copies)

    def forward(
        self, summary: torch.Tensor, moment: torch.Tensor, agent: torch.Tensor, heard: Heard
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sends and receives.

        Args:
            summary: float32 [D, M], what each deciding agent knows.
            moment: int64 [D].
            agent: int64 [D].
            heard: The mailbox's view of the neighbours of each.

        Returns:
            What each agent has understood, float32 [D, M], and what it last said, [D, M].
        """
        speakers = fresh_speakers(moment, agent, heard.neighbours)
        fresh = speakers >= 0
        place = speakers.clamp(min=0)
        audible = fresh | heard.known
        age = heard.age.masked_fill(fresh, 0.0)[:, :, None]
        owners = Owners.of(agent, self.copies) if self.copies else None
        query = self.query(summary, owners)
        context = summary.new_zeros(summary.shape[0], self.size)
        message = context
        for _ in range(self.rounds):
            message = torch.tanh(self.speak(torch.cat([summary, context], 1), owners))
            said = torch.where(fresh[:, :, None], message[place], heard.message)
            context = self._receive(query, torch.cat([said, age], 2), audible, owners)
        return context, message

    def _receive(
        self, query: torch.Tensor, said: torch.Tensor, audible: torch.Tensor, owners: Owners | None
    ) -> torch.Tensor:
        count, neighbours = audible.shape
        null = own_of(self.null, owners, count).reshape(count, 1, 2 * self.size)
        both = torch.cat([null, self.listen(said, owners)], 1).reshape(
            count, neighbours + 1, 2, self.heads, self.size // self.heads
        )
        keys, values = both[:, :, 0], both[:, :, 1]
        scores = torch.einsum("dhm,dkhm->dhk", query.reshape(count, self.heads, self.size // self.heads), keys)
        mask = torch.cat([audible.new_ones(count, 1), audible], 1)[:, None]
        scores = scores * (self.size // self.heads) ** -0.5
        weights = scores.masked_fill(~mask, -torch.inf).softmax(2)
        mixed = torch.einsum("dhk,dkhm->dhm", weights, values).reshape(count, self.size)
        context: torch.Tensor = self.merge(mixed, owners)
        return context


def concatenate_heard(parts: Sequence[Heard]) -> Heard:
    """What was heard by agents of several kinds of one world, in order."""
    return Heard(
        neighbours=torch.cat([p.neighbours for p in parts]),
        message=torch.cat([p.message for p in parts]),
        age=torch.cat([p.age for p in parts]),
        known=torch.cat([p.known for p in parts]),
    )
