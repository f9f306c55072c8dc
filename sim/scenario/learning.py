"""How agents learn: their network, their messages, PPO, and federated rounds."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from fedsched.sim.scenario.base import Part, Place
from fedsched.sim.scenario.units import Seconds


class Encoder(Part):
    """The network that reads a site's tokens; its parameters fit sites of any size."""

    kind: Literal["pointwise", "attention"] = Field(
        default="pointwise",
        description="pointwise: each job by itself with global features; attention: jobs see each other",
    )
    width: int = Field(default=32, ge=4, description="Width of the hidden layers")
    heads: int = Field(default=4, ge=1, description="Attention heads, over jobs and over messages")

    def problems(self) -> Iterable[tuple[Place, str]]:
        """Heads share the width equally."""
        if self.kind == "attention" and self.width // 2 % self.heads:
            yield ("heads",), f"half the width, {self.width // 2}, is not a multiple of {self.heads} heads"
        elif self.width % self.heads:
            yield ("heads",), f"the width {self.width} is not a multiple of {self.heads} heads"


class Messages(Part):
    """What the agents of a site tell each other inside a decision."""

    rounds: Literal[0, 1] = Field(default=1, description="Rounds of messages before each decision")
    latent: int = Field(default=16, ge=1, description="Numbers in a message")
    trigger: Literal["none", "always"] = Field(default="always", description="When an agent sends")


class Ppo(Part):
    """Proximal policy optimisation."""

    epochs: int = Field(default=3, ge=1, description="Passes over the rollouts of an update")
    minibatch: int = Field(default=4096, ge=1, description="Decisions in a minibatch")
    learning_rate: float = Field(default=5.0e-3, gt=0, description="Step size of Adam")
    clip: float = Field(default=0.2, gt=0, lt=1, description="Bound on the change of a probability ratio")
    entropy: float = Field(default=3.0e-3, ge=0, description="Weight of the entropy bonus")
    advantage: Literal["gae", "group"] = Field(
        default="group", description="gae: against a critic; group: against other rollouts of the same instance"
    )
    rollouts: int = Field(default=8, ge=1, description="Copies that play the same instance, for 'advantage: group'")
    discount: float = Field(default=1.0, gt=0, le=1, description="Discount per decision")
    tau: Seconds | None = Field(
        default=None, gt=0, description="Time constant of a discount by elapsed time; null: none"
    )
    gae_lambda: float = Field(default=0.95, ge=0, le=1, description="Lambda of 'advantage: gae'")

    def problems(self) -> Iterable[tuple[Place, str]]:
        """A group has others in it, and there is one discount."""
        if self.advantage == "group" and self.rollouts < 2:
            yield ("rollouts",), "a group needs at least 2 rollouts of an instance"
        if self.tau is not None and self.discount < 1:
            yield ("tau",), "discount by decision ('discount') or by elapsed time ('tau'), not both"


class WaitBound(Part):
    """A bound on the mean wait of the greedy policy."""

    at_most: float = Field(gt=0, description="Multiple of the rule's mean wait that a chosen policy keeps to")
    aim: float = Field(default=1.0, gt=0, description="Multiple that training aims at, lower to leave a margin")
    of: str = Field(default="best-rule", description="The rule: best-rule, or one by name")


class Constraints(Part):
    """What a policy must keep to whatever the reward says; a multiplier for each is learned."""

    wait: WaitBound | None = Field(default=None, description="Bound on the mean wait; null: none")


class Exploration(Part):
    """Noise on the parameters while episodes are collected, correlated in time."""

    target: float = Field(default=0.01, gt=0, description="KL divergence that the noise makes, nats per decision")
    correlation: float = Field(
        default=0.98, ge=0, le=1, description="Of the noise from one decision of the world to the next; 1: per episode"
    )


class Imitation(Part):
    """Imitation of a rule (DAgger) before PPO; the rule sees what the policy sees."""

    teacher: str = Field(
        description="Rule to imitate: fcfs, sjf, saf, wfp3, unicep in data centres, each also with -easy; greedy, "
        "max-pressure in cities"
    )
    updates: int = Field(default=3, ge=1, description="Local updates that imitate, before those of PPO")
    decay: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="The teacher drives this share of the steps, to the power of the update's number; 1: all of them",
    )
    epochs: int = Field(default=4, ge=1, description="Passes over all that the teacher has said so far")
    learning_rate: float = Field(default=5.0e-3, gt=0, description="Step size of Adam")


class Search(Part):
    """A search over linear scores (CMA-ES) before PPO: it finds where to start."""

    generations: int = Field(default=60, ge=1, description="Generations")
    attempts: int = Field(default=1, ge=1, description="Searches; the best on the validation windows is used")
    population: int = Field(default=16, ge=4, description="Candidates in a generation")
    windows: int = Field(default=16, ge=1, description="Training windows that each candidate plays at a site")
    worst: float = Field(default=1.0, gt=0, le=1, description="Share of the windows, the worst, that a cost counts")
    sigma: float = Field(default=4.0, gt=0, description="Spread of the first generation, in units of score")


class Agents(Part):
    """The policy, the same for all agents of a kind."""

    def problems(self) -> Iterable[tuple[Place, str]]:
        """Messages are read by the encoder's heads."""
        if self.messages.rounds and self.messages.trigger == "always" and self.messages.latent % self.encoder.heads:
            yield ("messages", "latent"), f"is not a multiple of {self.encoder.heads}, the heads of the encoder"

    encoder: Encoder = Field(default=Encoder(), description="The network")
    messages: Messages = Field(default=Messages(), description="Messages between the agents of a site")
    ppo: Ppo = Field(default=Ppo(), description="The learner")
    start: str | None = Field(
        default=None,
        description="Rule that the untrained policy follows softly: saf, wfp3, fcfs, f2 in data centres, greedy, "
        "max-pressure in cities; none: none; null: the first of these",
    )
    search: Search | None = Field(default=None, description="Search for a better start before PPO; null: none")
    exploration: Exploration | None = Field(
        default=None, description="Noise on the parameters in training; null: actions alone are drawn"
    )
    imitation: Imitation | None = Field(default=None, description="Imitation of a rule before PPO; null: none")
    constraints: Constraints = Field(default=Constraints(), description="Bounds that hold beside the reward")


class FedAvg(Part):
    """Average of the sites' updates; every site counts the same."""

    kind: Literal["fedavg"] = Field(default="fedavg", description="How updates become one")


class SecureAggregation(Part):
    """Only the sum of the updates can be read; whoever adds them up cannot see any one of them."""

    threshold: float = Field(default=0.6, gt=0.5, le=1, description="Share of the sites that must stay until the sum")


class Federation(Part):
    """Rounds of learning; with 'learning: local' or 'central' a round is a pause in which nothing is exchanged."""

    rounds: int = Field(default=20, ge=0, description="Rounds")
    local_updates: int = Field(default=4, ge=1, description="PPO updates of a site in a round")
    strategy: FedAvg = Field(default=FedAvg(), description="How updates become one")
    secure_aggregation: SecureAggregation | None = Field(
        default=None, description="Masking of the updates, for three sites and more; null: updates are sent openly"
    )
