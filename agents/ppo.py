"""Proximal policy optimisation (Schulman et al. 2017) on ragged decisions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from fedsched.agents.experience import Experience
from fedsched.agents.policy import Policy, critic_input

# advantages are cut at this many deviations: one rollout that went wrong must not rule a step
ADVANTAGE_LIMIT = 5.0


@dataclass(frozen=True)
class PpoConfig:
    """How a policy is improved.

    Attributes:
        lr: Adam's step size at the beginning; it falls linearly over `iterations`.
        lr_end: Its share that is left at the end.
        iterations: Number of updates planned.
        epochs: Passes over the decisions of an update.
        minibatch: Decisions per gradient step, roughly: decisions of one moment stay together.
        clip: Bound on the probability ratio, and on the move of a normalised value.
        grad_norm: Bound on the norm of the gradient.
        entropy: Weight of the entropy at the beginning; it falls linearly to zero.
        value: Weight of the value loss.
        kl_stop: An update ends after the epoch in which the approximate KL divergence passes this.
        average: Weight of the newest parameters in the running average that is evaluated.
    """

    lr: float = 5e-3
    lr_end: float = 0.1
    iterations: int = 100
    epochs: int = 3
    minibatch: int = 4096
    clip: float = 0.2
    grad_norm: float = 1.0
    entropy: float = 0.003
    value: float = 0.5
    kl_stop: float = 0.03
    average: float = 0.1


@dataclass(frozen=True)
class Losses:
    """Diagnostics of an update, means over its gradient steps.

    Attributes:
        policy: Clipped surrogate loss.
        value: Clipped value loss in normalised units; zero without a critic.
        entropy: Nats per decision.
        approx_kl: E[r - 1 - ln r] of the probability ratio r, in the last epoch.
        clip_fraction: Share of decisions whose ratio left the bounds, in the last epoch.
        explained_variance: 1 - Var(returns - values) / Var(returns) before the update; zero without a critic.
        gradient_norm: Before clipping.
        epochs: Passes made before the KL stop.
        decisions: Learned from.
        multiplier: Of the constraint; zero without one.
        greedy_ratio: Constrained total of the greedy rows relative to the reference's; zero without a constraint.
        message_kl: Nats of a message; zero where messages are not Gaussian.
        sent_share: Of the possible messages, by the calibrated trigger on the decisions learned from; 1 without one.
    """

    policy: float
    value: float
    entropy: float
    approx_kl: float
    clip_fraction: float
    explained_variance: float
    gradient_norm: float
    epochs: int
    decisions: int
    multiplier: float = 0.0
    greedy_ratio: float = 0.0
    message_kl: float = 0.0
    sent_share: float = 1.0


NOTHING_LEARNED = Losses(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, epochs=0, decisions=0)
"""An update on worlds that left nobody a choice, as in a period of little load."""


@dataclass(frozen=True)
class Terms:
    """The parts of the loss of a minibatch, each a scalar tensor; see `Losses`."""

    policy: torch.Tensor
    value: torch.Tensor
    entropy: torch.Tensor
    approx_kl: torch.Tensor
    clip_fraction: torch.Tensor
    message_kl: torch.Tensor


def policy_terms(
    log_prob: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clipped surrogate loss, approximate KL divergence and clip fraction over decisions, all [D] in, scalars out.

    loss = -mean(min(r A, clip(r, 1 - c, 1 + c) A)) with r = exp(log_prob - old).
    """
    difference = log_prob - old
    ratio = difference.exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    with torch.no_grad():
        approx_kl = (ratio - 1 - difference).mean()
        clip_fraction = ((ratio - 1).abs() > clip).to(ratio.dtype).mean()
    return -surrogate.mean(), approx_kl, clip_fraction


def value_loss(value: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: float) -> torch.Tensor:
    """mean(max((v - R)^2, (old + clip(v - old, -c, c) - R)^2)) / 2, all [D] in normalised units."""
    near = old + (value - old).clamp(-clip, clip)
    return torch.maximum((value - returns).square(), (near - returns).square()).mean() / 2


def loss_terms(policy: Policy, batch: Mapping[str, Experience], clip: float) -> Terms:
    """Everything an update needs to know about a minibatch of decisions of all kinds."""
    judged = policy.judge({name: part.decisions for name, part in batch.items()})
    log_prob = torch.cat([judged.distribution[name].log_prob(part.choice) for name, part in batch.items()])
    surrogate, approx_kl, clip_fraction = policy_terms(
        log_prob,
        torch.cat([part.log_prob for part in batch.values()]),
        torch.cat([part.advantage for part in batch.values()]),
        clip,
    )
    value = surrogate.new_zeros(())
    for name, part in batch.items():
        if part.value is not None and part.returns is not None:
            critic = policy.critic(name)
            old, returns = critic.normalise(part.value), critic.normalise(part.returns)
            share = len(part.decisions) / log_prob.shape[0]
            value = value + share * value_loss(critic(critic_input(part.decisions)), old, returns, clip)
    entropy = torch.cat([judged.distribution[name].entropy() for name in batch]).mean()
    nats = surrogate.new_zeros(()) if judged.message_kl is None else judged.message_kl.mean()
    return Terms(surrogate, value, entropy, approx_kl, clip_fraction, nats)


def minibatches(
    experience: Mapping[str, Experience], moments: int, size: int, generator: torch.Generator
) -> Iterator[dict[str, Experience]]:
    """Splits experience at random into minibatches of about `size` decisions, moments kept whole.

    Args:
        experience: By kind, with moments below `moments`.
        moments: A bound on them.
        size: Decisions per minibatch.
        generator: Of the split.
    """
    total = sum(len(part.decisions) for part in experience.values())
    pieces = max(1, round(total / size))
    device = next(iter(experience.values())).choice.device
    piece = torch.randint(pieces, (moments,), generator=generator, device=device)
    assigned = {name: piece.index_select(0, part.decisions.moment) for name, part in experience.items()}
    for number in range(pieces):
        chosen = {name: (line == number).nonzero().squeeze(1) for name, line in assigned.items()}
        if any(index.numel() for index in chosen.values()):
            yield {name: experience[name].select(index) for name, index in chosen.items()}


class Optimiser:
    """Adam on a policy, with step size and entropy weight that fall over the planned updates."""

    def __init__(self, policy: Policy, config: PpoConfig, generator: torch.Generator) -> None:
        """Starts before the first update; `generator` splits minibatches."""
        self._policy, self._config, self._generator = policy, config, generator
        self.adam = torch.optim.Adam(policy.parameters(), lr=config.lr, eps=1e-5)
        self.updates = 0
        messages = policy.config.messages
        self._message_kl = messages.kl or 0.0 if messages else 0.0

    def update(self, experience: Mapping[str, Experience], moments: int) -> Losses:
        """Improves the policy on decisions whose moments lie below `moments`; without any it stays as it is."""
        config = self._config
        if not any(len(part.decisions) for part in experience.values()):
            self.updates += 1
            return NOTHING_LEARNED
        done = min(1.0, self.updates / max(1, config.iterations))
        for group in self.adam.param_groups:
            group["lr"] = config.lr * (1 - (1 - config.lr_end) * done)
        entropy = config.entropy * (1 - done)
        experience = normalise_advantages(experience)
        lines: list[torch.Tensor] = []
        epochs, last = 0, torch.zeros(7)
        for _ in range(config.epochs):
            start = len(lines)
            pieces = minibatches(experience, moments, config.minibatch, self._generator)
            lines.extend(self._step(loss_terms(self._policy, piece, config.clip), entropy) for piece in pieces)
            epochs += 1
            last = torch.stack(lines[start:]).mean(0)
            if float(last[3]) > config.kl_stop:
                break
        self.updates += 1
        mean = torch.stack(lines).mean(0)
        return Losses(
            policy=float(mean[0]),
            value=float(mean[1]),
            entropy=float(mean[2]),
            approx_kl=float(last[3]),
            clip_fraction=float(last[4]),
            explained_variance=explained_variance(experience),
            gradient_norm=float(mean[6]),
            message_kl=float(mean[5]),
            epochs=epochs,
            decisions=sum(len(part.decisions) for part in experience.values()),
        )

    def _step(self, terms: Terms, entropy: float) -> torch.Tensor:
        loss = terms.policy + self._config.value * terms.value - entropy * terms.entropy
        loss = loss + self._message_kl * terms.message_kl
        self.adam.zero_grad()
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self._policy.parameters(), self._config.grad_norm)
        self.adam.step()
        parts = terms.policy, terms.value, terms.entropy, terms.approx_kl, terms.clip_fraction
        return torch.stack([part.detach() for part in (*parts, terms.message_kl, norm)])


def normalise_advantages(experience: Mapping[str, Experience]) -> dict[str, Experience]:
    """Experience with advantages of mean 0 and deviation 1 over all kinds together, cut at `ADVANTAGE_LIMIT`."""
    everything = torch.cat([part.advantage for part in experience.values()])
    mean, deviation = everything.mean(), everything.std(correction=0)
    scaled = {name: (part.advantage - mean) / (deviation + 1e-8) for name, part in experience.items()}
    return {
        name: replace(part, advantage=scaled[name].clamp(-ADVANTAGE_LIMIT, ADVANTAGE_LIMIT))
        for name, part in experience.items()
    }


def explained_variance(experience: Mapping[str, Experience]) -> float:
    """1 - Var(returns - values) / Var(returns) over all kinds; zero without a critic."""
    pairs = [(p.returns, p.value) for p in experience.values() if p.returns is not None and p.value is not None]
    if not pairs:
        return 0.0
    returns = torch.cat([r for r, _ in pairs])
    left = returns - torch.cat([v for _, v in pairs])
    return float(1 - left.var(correction=0) / returns.var(correction=0).clamp(min=1e-12))
