"""Who sends a message and who keeps silent: in training by chance, in use by a trigger."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from fedsched.agents.decisions import AgentError, Decisions, Speech
from fedsched.agents.distribution import Distribution
from fedsched.agents.mailbox import Mailbox, most_among_listeners
from fedsched.agents.messages import Messenger
from fedsched.agents.trigger import Trigger, uncertainties
from fedsched.envs.core import Addresses

SendingKind = Literal["always", "uncertain", "random"]


@dataclass(frozen=True)
class Judged:
    """What a policy thinks of a batch of decisions.

    Attributes:
        distribution: By kind.
        message: float32 [D, L, M] over all kinds in order, the last one to each address; None without messages.
        message_kl: float32 [S], nats of each message that was heard at once; None where messages are not Gaussian.
        memory: float32 [D, H] by kind, what the agents remember from now on; None without memory.
    """

    distribution: Mapping[str, Distribution]
    message: torch.Tensor | None
    message_kl: torch.Tensor | None = None
    memory: Mapping[str, torch.Tensor] | None = None


@dataclass(frozen=True)
class Instant:
    """What is known when agents decide whether to send.

    Attributes:
        decisions: To be taken now, by kind, one moment per world row.
        mailbox: What was sent before.
        quiet: What the policy thinks if nobody sends now; asked only by who needs it.
        addresses: Who speaks to whom.
    """

    decisions: Mapping[str, Decisions]
    mailbox: Mailbox
    quiet: Callable[[], Judged]
    addresses: Addresses

    @property
    def place(self) -> tuple[torch.Tensor, torch.Tensor]:
        """World row and agent of every decision, all kinds in order, int64 [D] each."""
        rows = torch.cat([part.moment for part in self.decisions.values()])
        return rows, torch.cat([part.agent for part in self.decisions.values()])

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """Uniform numbers in [0, 1), one per decision and address, float32 [D, L]."""
        shape = sum(map(len, self.decisions.values())), self.addresses.count
        return torch.rand(shape, generator=generator, device=generator.device)


class Sending(Protocol):
    """Decides who sends.

    Attributes:
        masked: Whether agents may keep silent: a bit for each possible message then says whether it was sent.
        asks: Whether agents that decide tell those whom they hear, with a bit each, whether they are uncertain.
    """

    masked: bool
    asks: bool

    def __call__(self, instant: Instant) -> tuple[Speech | None, Mailbox]:
        """What the agents do with their messages, all kinds in order, and the mailbox with what else they told.

        No speech: everybody sends, without noise.
        """


class Always:
    """Everybody sends."""

    masked = asks = False

    def __call__(self, instant: Instant) -> tuple[None, Mailbox]:
        """Nothing to decide."""
        return None, instant.mailbox


class AtRandom:
    """Each message is sent with the same probability, for comparison: a trigger that is no better is of no use."""

    masked, asks = True, False

    def __init__(self, share: float, generator: torch.Generator) -> None:
        """The probability, and where chance comes from."""
        self._share, self._generator = share, generator

    def __call__(self, instant: Instant) -> tuple[Speech, Mailbox]:
        """Draws who sends."""
        return Speech(instant.draw(self._generator) < self._share), instant.mailbox


class WhenUncertain:
    """Those send for whom the trigger fires."""

    masked = asks = True

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger

    def __call__(self, instant: Instant) -> tuple[Speech, Mailbox]:
        """Asks the trigger."""
        judged = instant.quiet()
        assert judged.message is not None
        place, mailbox = instant.place, instant.mailbox
        distance = (judged.message - mailbox.message[place]).norm(dim=2)
        mailbox = mailbox.with_unsure(*place, uncertainties(judged.distribution, self._trigger.config.measure))
        unsure = most_among_listeners(mailbox.unsure, instant.addresses)[place]
        return Speech(self._trigger(unsure, distance, mailbox.silent[place], mailbox.known[place])), mailbox


class InTraining:
    """Everybody tries to send, with noise; some messages are not sent, so that agents learn to live with old ones."""

    asks = False

    def __init__(
        self, messenger: Messenger, dropout: float, generator: torch.Generator, greedy: torch.Tensor | None
    ) -> None:
        """Binds to a world's rows.

        Args:
            messenger: Whose messages.
            dropout: Share of the messages that are not sent.
            generator: Of chance and noise.
            greedy: bool [B], rows in which everybody sends without noise; None: no such row.
        """
        self._messenger, self._dropout, self._generator, self._greedy = messenger, dropout, generator, greedy
        self.masked = dropout > 0

    def __call__(self, instant: Instant) -> tuple[Speech | None, Mailbox]:
        """Draws who sends, and the noise."""
        if not self.masked and not self._messenger.noisy:
            return None, instant.mailbox
        rows, _ = instant.place
        if self.masked:
            sent = instant.draw(self._generator) >= self._dropout
        else:
            sent = rows.new_ones((rows.shape[0], instant.addresses.count), dtype=torch.bool)
        noise = self._messenger.noise(rows.shape[0], self._generator) if self._messenger.noisy else None
        if self._greedy is not None:
            still = self._greedy.index_select(0, rows)
            sent = sent | still[:, None]
            noise = None if noise is None else noise * ~still[:, None, None]
        return Speech(sent, noise), instant.mailbox


def in_use(
    trigger: Trigger | None, how: SendingKind | None, share: float | None, generator: torch.Generator
) -> Sending:
    """Who sends in use; see `Policy.use`."""
    how = how or ("uncertain" if trigger is not None else "always")
    if how == "always":
        return Always()
    if how == "random":
        if share is None or not 0 <= share <= 1:
            raise AgentError(f"messages at random need the share that is sent, from 0 to 1, got {share}")
        return AtRandom(share, generator)
    if trigger is None:
        raise AgentError("this policy has no trigger: set messages.trigger in its configuration, or send always")
    return WhenUncertain(trigger)
