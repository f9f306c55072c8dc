"""Proximal policy optimisation (Schulman et al. 2017) on ragged decisions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F

from fedsched.agents.decisions import AgentError
from fedsched.agents.experience import Experience
from fedsched.agents.gradient import cut_gradient
from fedsched.agents.minibatches import Chunks, minibatches
from fedsched.agents.policy import Policy, critic_input
from fedsched.agents.recall import judge_choices

# advantages are cut at this many deviations: one rollout that went wrong must not rule a step
ADVANTAGE_LIMIT = 5.0


@dataclass(frozen=True)
class PpoConfig:
    """How a policy is improved.

    Attributes:
        lr: Adam's step size at the beginning; it falls linearly over `iterations`.
        lr_end: Its share that is left at the end; 1 keeps it.
        critic_lr: The critics' own step size; None: the same.
        iterations: Number of updates planned.
        epochs: Passes over the decisions of an update.
        minibatch: Decisions per gradient step, roughly: decisions of one moment stay together.
        minibatches: Gradient steps per pass, whatever the number of decisions; None: as `minibatch` says.
        chunk: Steps of an episode through which gradients reach what a policy with memory remembers.
        clip: Bound on the probability ratio, and on the move of a normalised value.
        value_clip: Whether values are bounded so.
        huber: Error, in normalised units, from which on the value loss grows linearly; None: squared everywhere.
        grad_norm: Bound on the norm of the gradient.
        entropy: Weight of the entropy at the beginning; it falls linearly over `iterations`.
        entropy_end: Its share that is left at the end; 1 keeps it.
        value: Weight of the value loss.
        kl_stop: An update ends after the epoch in which the approximate KL divergence passes this.
        average: Weight of the newest parameters in the running average that is evaluated.
    """

    lr: float = 5e-3
    lr_end: float = 0.1
    critic_lr: float | None = None
    iterations: int = 100
    epochs: int = 3
    minibatch: int = 4096
    minibatches: int | None = None
    chunk: int = 10
    clip: float = 0.2
    value_clip: bool = True
    huber: float | None = None
    grad_norm: float = 1.0
    entropy: float = 0.003
    entropy_end: float = 0.0
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
        message_kl: Nats of a message that is heard at once; zero where messages are not Gaussian.
        sent_share: Of the possible messages, by the calibrated trigger on the decisions learned from; 1 without one.
        value_mean: Of the critics' normaliser, in units of the returns, weighted by decisions; zero without a critic.
        value_deviation: Of the same.
        noise: Deviation of the noise on the parameters in the next rollouts; zero without.
        noise_kl: Divergence between acting with that noise and without, in the rollouts learned from.
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
    noise: float = 0.0
    noise_kl: float = 0.0
    message_kl: float = 0.0
    sent_share: float = 1.0
    value_mean: float = 0.0
    value_deviation: float = 0.0


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


def value_loss(
    value: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: float | None, huber: float | None = None
) -> torch.Tensor:
    """mean(max(h(v - R), h(old + clip(v - old, -c, c) - R))), all [D] in normalised units.

    h(e) = e^2 / 2, or with `huber` d: d (|e| - d / 2) where |e| > d. Without `clip` c: mean(h(v - R)).
    """
    loss = _half_square(value - returns, huber)
    if clip is not None:
        near = old + (value - old).clamp(-clip, clip)
        loss = torch.maximum(loss, _half_square(near - returns, huber))
    return loss.mean()


def _half_square(error: torch.Tensor, huber: float | None) -> torch.Tensor:
    if huber is None:
        return error.square() / 2
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=huber)


def loss_terms(
    policy: Policy, batch: Mapping[str, Experience], config: PpoConfig, chunks: Chunks | None = None
) -> Terms:
    """Everything an update needs to know about a minibatch of decisions of all kinds; `chunks` with memory."""
    judged = judge_choices(policy, batch, chunks)
    surrogate, approx_kl, clip_fraction = policy_terms(
        judged.log_prob,
        torch.cat([part.log_prob for part in batch.values()]),
        torch.cat([part.advantage for part in batch.values()]),
        config.clip,
    )
    value = surrogate.new_zeros(())
    bound = config.clip if config.value_clip else None
    for name, part in batch.items():
        if part.value is not None and part.returns is not None and len(part.decisions):
            critic = policy.critic(name)
            old, returns = critic.normalise(part.value), critic.normalise(part.returns)
            fresh = critic(critic_input(part.decisions), policy.network(name).owners(part.decisions))
            share = len(part.decisions) / judged.log_prob.shape[0]
            value = value + share * value_loss(fresh, old, returns, bound, config.huber)
    nats = surrogate.new_zeros(())
    if judged.message_kl is not None and judged.message_kl.numel():
        nats = judged.message_kl.mean()
    return Terms(surrogate, value, judged.entropy.mean(), approx_kl, clip_fraction, nats)


class Optimiser:
    """Adam on a policy, with step size and entropy weight that fall over the planned updates."""

    def __init__(self, policy: Policy, config: PpoConfig, generator: torch.Generator) -> None:
        """Starts before the first update; `generator` splits minibatches."""
        self._policy, self._config, self._generator = policy, config, generator
        self.adam = torch.optim.Adam(_groups(policy, config), eps=1e-5)
        self._rates = [float(group["lr"]) for group in self.adam.param_groups]
        self.updates = 0

    def update(
        self, experience: Mapping[str, Experience], moments: int, chunks: Chunks | None = None, away: float = 0.0
    ) -> Losses:
        """Improves the policy on decisions whose moments lie below `moments`; without any it stays as it is.

        Args:
            experience: By kind.
            moments: A bound on those of the decisions.
            chunks: Of the moments, for a policy with memory.
            away: The KL divergence between the policy that acted and this one, which does not count as a move.

        Raises:
            AgentError: A gradient that is not finite; the parameters are those before the step in question.
        """
        config, decisions = self._config, sum(len(part.decisions) for part in experience.values())
        if not decisions:
            self.updates += 1
            return NOTHING_LEARNED
        done = min(1.0, self.updates / max(1, config.iterations))
        for group, rate in zip(self.adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * (1 - (1 - config.lr_end) * done)
        entropy = config.entropy * (1 - (1 - config.entropy_end) * done)
        pieces = config.minibatches or max(1, round(decisions / config.minibatch))
        experience = normalise_advantages(experience)
        lines: list[torch.Tensor] = []
        epochs, last = 0, torch.zeros(7)
        for _ in range(config.epochs):
            start = len(lines)
            split = minibatches(experience, moments, pieces, self._generator, chunks)
            lines.extend(self._step(piece, entropy, chunks) for piece in split)
            epochs += 1
            last = torch.stack(lines[start:]).mean(0)
            if float(last[3]) > config.kl_stop + away:
                break
        self.updates += 1
        return self._losses(experience, torch.stack(lines).mean(0), last, epochs)

    def _losses(
        self, experience: Mapping[str, Experience], mean: torch.Tensor, last: torch.Tensor, epochs: int
    ) -> Losses:
        sizes = {name: len(part.decisions) for name, part in experience.items()}
        center, deviation = value_scale(self._policy, sizes)
        return Losses(
            policy=float(mean[0]),
            value=float(mean[1]),
            entropy=float(mean[2]),
            approx_kl=float(last[3]),
            clip_fraction=float(last[4]),
            explained_variance=explained_variance(experience),
            gradient_norm=float(mean[5]),
            epochs=epochs,
            decisions=sum(sizes.values()),
            value_mean=center,
            value_deviation=deviation,
            message_kl=float(mean[6]),
        )

    def _message_weight(self) -> float:
        """Of the nats of a message; it grows over the first half of the updates, as they must be worth some first."""
        messages = self._policy.config.messages
        if messages is None or messages.kl is None:
            return 0.0
        return messages.kl * min(1.0, 2 * self.updates / max(1, self._config.iterations))

    def _step(self, piece: Mapping[str, Experience], entropy: float, chunks: Chunks | None) -> torch.Tensor:
        terms = loss_terms(self._policy, piece, self._config, chunks)
        loss = terms.policy + self._config.value * terms.value - entropy * terms.entropy
        loss = loss + self._message_weight() * terms.message_kl
        norm = cut_gradient(self._policy, self.adam, loss, self._config.grad_norm)
        if not bool(norm.isfinite()):
            self.adam.zero_grad()
            culprit = culprit_of(self._policy, loss_terms(self._policy, piece, self._config, chunks))
            raise AgentError(f"update {self.updates + 1}: {culprit}; the parameters were left as they were before")
        self.adam.step()
        parts = terms.policy, terms.value, terms.entropy, terms.approx_kl, terms.clip_fraction, norm, terms.message_kl
        return torch.stack([part.detach() for part in parts])


def _groups(policy: Policy, config: PpoConfig) -> list[dict[str, Any]]:
    """The parameters with their step sizes; critics apart where theirs is another."""
    if config.critic_lr is None:
        return [{"params": list(policy.parameters()), "lr": config.lr}]
    critics = [p for name, p in policy.named_parameters() if "critic" in name.split(".")]
    others = [p for name, p in policy.named_parameters() if "critic" not in name.split(".")]
    return [{"params": others, "lr": config.lr}, {"params": critics, "lr": config.critic_lr}]


def culprit_of(policy: Policy, terms: Terms) -> str:
    """Which loss, or whose gradient, is not finite, in words."""
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    for name in ("policy", "value", "entropy", "message_kl"):
        term = getattr(terms, name)
        if not bool(term.isfinite()):
            return f"the {name} loss is {float(term.detach())}"
        if term.requires_grad:
            found = torch.autograd.grad(term, parameters, retain_graph=True, materialize_grads=True)
            if not all(bool(gradient.isfinite().all()) for gradient in found):
                return f"the gradient of the {name} loss is not finite"
    return "the gradient of the sum of the losses overflows"


def value_scale(policy: Policy, decisions: Mapping[str, int]) -> tuple[float, float]:
    """Mean and deviation of the critics' normalisers, weighted by `decisions` of each kind; zeros without a critic."""
    total = sum(decisions.values())
    if policy.config.critic == "none" or not total:
        return 0.0, 0.0
    parts = [(policy.critic(name), count / total) for name, count in decisions.items()]
    center = sum(float(critic.mean) * share for critic, share in parts)
    return center, sum(float(critic.deviation) * share for critic, share in parts)


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
