"""A gradient step, as every learner here takes it: cut to a bound, and refused where it is not finite."""

import torch
from torch import nn

from fedsched.agents.decisions import AgentError
from fedsched.agents.policy import Policy
from fedsched.agents.speech import Judged


def cut_gradient(policy: Policy, adam: torch.optim.Optimizer, loss: torch.Tensor, bound: float) -> torch.Tensor:
    """Puts the gradient of a loss [] into the parameters, its norm cut to `bound`; returns the norm before, []."""
    adam.zero_grad()
    torch.autograd.backward(loss)
    return nn.utils.clip_grad_norm_(policy.parameters(), bound)


def descend(policy: Policy, adam: torch.optim.Optimizer, loss: torch.Tensor, bound: float, what: str) -> None:
    """One step down a loss [].

    Raises:
        AgentError: The gradient is not finite; the parameters are left alone. `what` names the update.
    """
    if not bool(cut_gradient(policy, adam, loss, bound).isfinite()):
        raise AgentError(f"{what}: a gradient is not finite; the parameters were left alone")
    adam.step()


def message_charge(policy: Policy, judged: Judged) -> torch.Tensor | float:
    """What messages add to a loss for what they tell: their weight times the mean nats; 0 where that costs nothing."""
    messages = policy.config.messages
    if judged.message_kl is None or messages is None or messages.kl is None:
        return 0.0
    return messages.kl * judged.message_kl.mean()
