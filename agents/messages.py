"""Messages between the agents of a world: encode, send, receive, `rounds` times inside one decision.

An agent says the same to everybody, or, where entities flow from agent to agent, something else to each neighbour: it
then has an address for each (`envs.core.Addresses`), and the neighbour's decisions hear it twice, once as part of what
the neighbour knows as a whole and once beside the very entities that come from here.

An agent that decides at the same instant and sends is heard with its fresh message, and gradients flow back into it;
one that does not is heard through the mailbox, with what it last said and how long ago.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from fedsched.agents.config import MessageConfig
from fedsched.agents.decisions import AgentError, Heard, Speech
from fedsched.agents.layers import Dense, Owners, own_of

# bounds of ln sigma^2: the lower one keeps sigma above the error of rounding to int8
LOG_VARIANCE = (-8.0, 2.0)
# where it starts, sigma 0.14: messages must be audible before they can be worth their nats
START_LOG_VARIANCE = -4.0
# numbers lie in (-1, 1), Gaussian means in four prior deviations
LIMIT, GAUSSIAN_LIMIT = 1.0, 4.0


@dataclass(frozen=True)
class Understood:
    """What D agents of one kind heard, see `Exchange`.

    Attributes:
        context: float32 [D, M].
        words: float32 [D, K, M + 2].
    """

    context: torch.Tensor
    words: torch.Tensor

    def of(self, decision: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """The words of some neighbours of some decisions, both int64 [T], float32 [T, M + 2]; zero for column -1."""
        table = torch.cat([self.words.flatten(0, 1), self.words.new_zeros(1, self.words.shape[2])])
        line = decision * self.words.shape[1] + column
        return table.index_select(0, torch.where(column >= 0, line, table.shape[0] - 1))


@dataclass(frozen=True)
class Exchange:
    """What came of an exchange of messages.

    Attributes:
        context: float32 [D, M], what each agent has understood on the whole.
        words: float32 [D, K, M + 2], of each neighbour its message, its age and one; zero where there is none.
        message: float32 [D, L, M], what each said last to each address, or would have said.
        kl: float32 [S], nats from the prior, mean over rounds, of the S messages that were heard at once; None where
            messages are not Gaussian. Of those heard later no gradient tells what they were worth: to charge for them
            would empty them.
    """

    context: torch.Tensor
    words: torch.Tensor
    message: torch.Tensor
    kl: torch.Tensor | None

    def shared_out(self, counts: Mapping[str, int]) -> dict[str, Understood]:
        """What each kind understood, which took so many of the decisions."""
        sizes = list(counts.values())
        parts = zip(torch.split(self.context, sizes), torch.split(self.words, sizes), strict=True)
        return {name: Understood(*part) for name, part in zip(counts, parts, strict=True)}


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


def _fresh(
    moment: torch.Tensor, agent: torch.Tensor, heard: Heard, speech: Speech | None, addresses: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where in the flattened [D, L] each neighbour speaks to each agent, and whether it does so now, both [D, K]."""
    speakers = fresh_speakers(moment, agent, heard.neighbours)
    place, fresh = speakers.clamp(min=0) * addresses + heard.address, speakers >= 0
    if speech is not None and fresh.numel():
        fresh = fresh & speech.sent.reshape(-1)[place]
    return place, fresh


def gaussian_kl(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats, [...], of [..., M], summed over the numbers of a message."""
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(-1)


def quantise(message: torch.Tensor, step: float) -> torch.Tensor:
    """What arrives of a message sent as int8: integers in [-127, 127] times `step`, a constant that is never sent."""
    return (message / step).round().clamp(-127, 127) * step


class Messenger(nn.Module):
    """Rounds of multi-head attention over what the neighbours say.

    mean_i = c tanh(Ws [summary_i, context_i] / c), c = 1, or 4 for Gaussian messages, for each address;
    message_i = mean_i + sigma_i * noise_i in training (variational), rounded mean_i in use;
    context_i = Wc attention(query(summary_i), {null} + {(message_j to i, age_j)}).
    The learned null token makes an agent without neighbours, or with silent ones, well defined.

    Int8 is trained for by noise, uniform in one step, as rounding errs (Balle et al. 2017); a Gaussian message needs no
    more than its own, which is at least twice the error. Unlike a straight-through estimator noise is continuous: a
    second pass over stored decisions gives the very same messages, and the gradient is the true one.

    Attributes:
        size: Numbers in a message.
        bits: Of a message in use.
        gaussian: Whether messages are drawn around a mean in training.
    """

    def __init__(self, config: MessageConfig, copies: int = 0) -> None:
        """Builds the parts; an agent's summary has as many features as a message.

        Args:
            config: Sizes.
            copies: The number of agents where each owns its part, as in `Dense`; agent i owns copy i.

        Raises:
            AgentError: No round, or heads that do not share a message equally.
        """
        super().__init__()
        if config.rounds < 1 or config.heads < 1 or config.latent % config.heads:
            told = f"{config.latent} numbers in {config.rounds} rounds for {config.heads} heads"
            raise AgentError(f"messages of {told}: at least one round and heads that share the numbers equally")
        self.heads, self.rounds, self.copies = config.heads, config.rounds, copies
        self.gaussian, self.quantised = config.kl is not None, config.quantised
        self.limit = GAUSSIAN_LIMIT if self.gaussian else LIMIT
        size = self.size = config.latent
        self.speak = Dense(2 * size, size, copies)
        self.query = Dense(size, size, copies)
        self.listen = Dense(size + 1, 2 * size, copies)
        self.null = nn.Parameter(torch.zeros(*((copies,) if copies else ()), 2, size))
        self.merge = Dense(size, size, copies)
        self.spread = Dense(2 * size, size, copies) if self.gaussian else None
        if self.spread is not None and self.spread.bias is not None:
            nn.init.constant_(self.spread.bias, START_LOG_VARIANCE)

    @property
    def bits(self) -> int:
        """Bits of a message in use: int8 or float32 numbers."""
        return self.size * (8 if self.quantised else 32)

    @property
    def noisy(self) -> bool:
        """Whether training adds noise to messages."""
        return self.gaussian or self.quantised

    def noise(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Noise of `count` agents in training, float32 [count, rounds, M]: normal, or uniform in [-1/2, 1/2)."""
        shape, device = (count, self.rounds, self.size), generator.device
        if self.gaussian:
            return torch.randn(shape, generator=generator, device=device)
        return torch.rand(shape, generator=generator, device=device) - 0.5

    def forward(
        self,
        summary: torch.Tensor,
        moment: torch.Tensor,
        agent: torch.Tensor,
        heard: Heard,
        speech: Speech | None = None,
    ) -> Exchange:
        """Sends and receives.

        Args:
            summary: float32 [D, L, M], what each deciding agent knows and could tell each address.
            moment: int64 [D].
            agent: int64 [D].
            heard: The mailbox's view of the neighbours of each.
            speech: Who sends to whom, and the noise of training; None: everybody to all, as in use.
        """
        place, fresh = _fresh(moment, agent, heard, speech, summary.shape[1])
        noise = None if speech is None else speech.noise
        audible = fresh | heard.known
        age = heard.age.masked_fill(fresh, 0.0)[:, :, None]
        owners = Owners.of(agent, self.copies) if self.copies else None
        query = self.query(summary[:, 0], owners)
        context, said, message = torch.zeros_like(summary[:, 0]), heard.message, summary
        nats: list[torch.Tensor] = []
        for number in range(self.rounds):
            known = torch.cat([summary, context[:, None].expand_as(summary)], 2)
            mean = self.limit * torch.tanh(self.speak(known, owners) / self.limit)
            log_variance = None if self.spread is None else self.spread(known, owners).clamp(*LOG_VARIANCE)
            if log_variance is not None:
                nats.append(gaussian_kl(mean, log_variance))
            message = self.utter(mean, log_variance, None if noise is None else noise[:, number, None])
            said = torch.where(fresh[:, :, None], message.flatten(0, 1)[place], heard.message)
            context = self.receive(query, torch.cat([said, age], 2), audible, owners)
        useful = torch.unique(place[fresh])
        kl = torch.stack(nats).mean(0).reshape(-1).index_select(0, useful) if nats else None
        words = torch.cat([said, age, torch.ones_like(age)], 2) * audible[:, :, None]
        return Exchange(context, words, message, kl)

    def utter(self, mean: torch.Tensor, log_variance: torch.Tensor | None, noise: torch.Tensor | None) -> torch.Tensor:
        """What arrives of means [..., M]: with the noise of training, or as in use, rounded where messages are int8."""
        step = self.limit / 127
        if noise is None:
            return quantise(mean, step) if self.quantised else mean
        return mean + noise * (step if log_variance is None else (0.5 * log_variance).exp())

    def receive(
        self, query: torch.Tensor, said: torch.Tensor, audible: torch.Tensor, owners: Owners | None = None
    ) -> torch.Tensor:
        """What D agents understand, [D, M], by `query` [D, M], of `said` [D, K, M + 1] where `audible` [D, K]."""
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


def concatenate_summaries(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Summaries [D, L, M] of several kinds, one after another, with as many addresses as the widest; zero pads."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, width - part.shape[1])) for part in parts])
