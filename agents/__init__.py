"""Policies and how they learn: token networks, messages, rollouts, PPO, evolution."""

from fedsched.agents.collect import GreedyActor, evaluate, play
from fedsched.agents.config import EncoderConfig, MessageConfig, PolicyConfig, TriggerConfig
from fedsched.agents.constraint import Constraint, Multiplier
from fedsched.agents.decisions import AgentError
from fedsched.agents.evolution import Cma
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.mailbox import Mailbox, Traffic
from fedsched.agents.network import SoftRule
from fedsched.agents.parameters import parameters_from_numpy, parameters_to_numpy
from fedsched.agents.policy import Policy, PolicyStep
from fedsched.agents.population import linear_weights, play_population, set_linear_weights
from fedsched.agents.ppo import Losses, PpoConfig
from fedsched.agents.rollout import Reference, Rollouts

__all__ = [
    "AgentError",
    "Cma",
    "Constraint",
    "EncoderConfig",
    "GreedyActor",
    "Learner",
    "LearnerConfig",
    "Losses",
    "Mailbox",
    "MessageConfig",
    "Multiplier",
    "Policy",
    "PolicyConfig",
    "PolicyStep",
    "PpoConfig",
    "Reference",
    "Rollouts",
    "SoftRule",
    "Traffic",
    "TriggerConfig",
    "evaluate",
    "linear_weights",
    "parameters_from_numpy",
    "parameters_to_numpy",
    "play",
    "play_population",
    "set_linear_weights",
]
