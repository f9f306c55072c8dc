"""How agents learn: their network, their messages, PPO, and federated rounds."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from fedsched.sim.scenario.base import Part, Place
from fedsched.sim.scenario.units import Seconds


class Encoder(Part):
    """The network that reads a site's tokens; its parameters fit sites of any size."""

    kind: Literal["pointwise", "attention", "hierarchical", "gat", "graph"] = Field(
        default="pointwise",
        description="pointwise: each job by itself with global features; attention: jobs see each other; hierarchical: "
        "they pass a transformer, and their features are weighted; gat: graph attention along the links of a world; "
        "graph: the same by torch-geometric, for graphs of hundreds of entities with few links",
    )
    width: int = Field(default=32, ge=4, description="Width of the hidden layers")
    heads: int = Field(default=4, ge=1, description="Attention heads, over jobs and over messages")
    layers: int = Field(
        default=0, ge=0, description="Layers on an agent's own features and what it heard, before it looks at jobs"
    )
    blocks: int = Field(default=1, ge=1, description="Rounds of attention of hierarchical, gat and graph")
    scoring: Literal["additive", "dot"] = Field(
        default="additive",
        description="additive: a layer on what was made of job and state; dot: the product of the two, with one-hot "
        "actions the linear head of an MLP",
    )
    memory: int = Field(
        default=0, ge=0, description="Numbers that an agent remembers from one decision to the next; 0: none"
    )

    def problems(self) -> Iterable[tuple[Place, str]]:
        """Heads share the width equally, and only what is stacked has several blocks."""
        if self.blocks > 1 and self.kind in ("pointwise", "attention"):
            yield ("blocks",), f"{self.kind} has one round; take hierarchical or gat for {self.blocks}"
        if self.kind == "attention" and self.width // 2 % self.heads:
            yield ("heads",), f"half the width, {self.width // 2}, is not a multiple of {self.heads} heads"
        elif self.width % self.heads:
            yield ("heads",), f"the width {self.width} is not a multiple of {self.heads} heads"


class Messages(Part):
    """What the agents of a site tell each other inside a decision, in stages that can be switched off one by one."""

    rounds: int = Field(default=1, ge=0, le=4, description="Rounds of messages before each decision; 0: none")
    latent: int = Field(default=16, ge=1, description="Numbers in a message")
    kl: float | None = Field(
        default=None,
        gt=0,
        description="Weight of the information in a message (nats beyond the prior) in the loss, 1e-4 to 1e-2; "
        "null: messages are not variational",
    )
    quantised: bool = Field(default=False, description="Whether numbers are sent as int8 in use, not as float32")
    trigger: Literal["none", "always", "uncertain"] = Field(
        default="always",
        description="When an agent sends in use: never, always, or when it is uncertain and has something new to say",
    )
    share: float = Field(
        default=0.18, gt=0, le=1, description="Share of the messages that 'trigger: uncertain' shall send"
    )
    measure: Literal["entropy", "gap"] = Field(
        default="entropy", description="Uncertainty: entropy of the choice, or gap between the two likeliest actions"
    )
    timeout: int = Field(
        default=20, ge=1, description="Silent decisions after which 'trigger: uncertain' sends in any case"
    )
    dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of the messages that training does not send; null: 0.2 with 'trigger: uncertain', else 0",
    )

    @property
    def sent(self) -> bool:
        """Whether there are messages at all."""
        return self.rounds > 0 and self.trigger != "none"

    @property
    def dropped(self) -> float:
        """The share that training does not send."""
        if self.dropout is not None:
            return self.dropout
        return 0.2 if self.trigger == "uncertain" else 0.0


_GAE_ALONE = {
    "discount": "compares totals and discounts nothing",
    "tau": "compares totals and discounts nothing",
    "gae_lambda": "has no lambda",
    "critic": "has no critic",
    "value_loss": "has no critic",
}


class Ppo(Part):
    """Proximal policy optimisation."""

    epochs: int = Field(default=3, ge=1, description="Passes over the rollouts of an update")
    minibatch: int = Field(default=4096, ge=1, description="Decisions in a minibatch")
    minibatches: int | None = Field(
        default=None, ge=1, description="Minibatches of a pass, whatever the number of decisions; null: by 'minibatch'"
    )
    chunk: int = Field(
        default=10, ge=1, description="Steps through which gradients reach what agents remember, for 'encoder: memory'"
    )
    learning_rate: float = Field(default=5.0e-3, gt=0, description="Step size of Adam")
    anneal: bool = Field(
        default=True, description="Whether step size and entropy bonus fall, to a tenth and to zero, over the run"
    )
    gradient_norm: float = Field(default=1.0, gt=0, description="Bound on the norm of a gradient")
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
    critic: Literal["independent", "central"] = Field(
        default="central",
        description="Critic of 'advantage: gae'. independent: reads what the agent sees; central: the others as well",
    )
    value_loss: Literal["squared", "huber"] = Field(
        default="squared",
        description="Loss of the critic. huber: errors beyond 10 deviations count linearly, for 'gradient_norm: 10'",
    )

    def problems(self) -> Iterable[tuple[Place, str]]:
        """A group has others in it, and there is one discount."""
        if self.advantage == "group" and self.rollouts < 2:
            yield ("rollouts",), "a group needs at least 2 rollouts of an instance"
        if self.tau is not None and self.discount < 1:
            yield ("tau",), "discount by decision ('discount') or by elapsed time ('tau'), not both"
        if self.advantage == "group":
            yield from self._of_gae_alone()

    def _of_gae_alone(self) -> Iterable[tuple[Place, str]]:
        """Keys that would change nothing without a critic."""
        for name, reason in _GAE_ALONE.items():
            if getattr(self, name) != type(self).model_fields[name].default:
                yield (name,), f"'advantage: group' {reason}; set 'advantage: gae'"


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

    target: float = Field(default=0.05, gt=0, description="KL divergence that the noise makes, nats per decision")
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


class Vine(Part):
    """Learning from branches before PPO: actions are tried in copies of the world, all else alike."""

    updates: int = Field(default=20, ge=1, description="Local updates that learn so, before those of PPO")
    every: int = Field(default=4, ge=1, description="Steps of an episode from one moment of trying to the next")
    horizon: Seconds = Field(default=90.0, gt=0, description="How long what was tried is driven on")
    branches: int = Field(default=64, ge=2, description="Actions tried at once; at least a signal's phases")
    keep: int = Field(default=8, ge=1, description="Updates whose branches are learned from")
    epochs: int = Field(default=4, ge=1, description="Passes over all kept branches in an update")
    minibatch: int = Field(default=256, ge=1, description="Decisions in a minibatch")
    learning_rate: float = Field(default=2.0e-3, gt=0, description="Step size of Adam; it falls to a tenth")
    entropy: float = Field(default=0.01, ge=0, description="Weight of the entropy bonus")


class Search(Part):
    """A search over linear scores (CMA-ES) before PPO: it finds where to start."""

    generations: int = Field(default=60, ge=1, description="Generations")
    attempts: int = Field(default=1, ge=1, description="Searches; the best on the validation windows is used")
    population: int = Field(default=16, ge=4, description="Candidates in a generation")
    windows: int = Field(default=16, ge=1, description="Training windows that each candidate plays at a site")
    worst: float = Field(default=1.0, gt=0, le=1, description="Share of the windows, the worst, that a cost counts")
    sigma: float = Field(default=4.0, gt=0, description="Spread of the first generation, in units of score")
    softness: float = Field(
        default=1.0, gt=0, description="Divides the scores found: what is likeliest stays so, more is left to learn"
    )


class Agents(Part):
    """The policy of the agents and how it learns."""

    def problems(self) -> Iterable[tuple[Place, str]]:
        """Messages are read by the encoder's heads, and not every encoder can be owned by each agent or perturbed."""
        if self.messages.sent and self.messages.latent % self.encoder.heads:
            yield ("messages", "latent"), f"is not a multiple of {self.encoder.heads}, the heads of the encoder"
        if self.encoder.kind == "graph" and self.sharing == "agent":
            yield ("encoder", "kind"), "graph has no parameters of each agent's own; take gat, or 'sharing: kind'"
        if self.encoder.kind == "graph" and self.exploration is not None:
            yield ("encoder", "kind"), "graph has no copies that noise could perturb; take gat, or no 'exploration'"

    encoder: Encoder = Field(default=Encoder(), description="The network")
    messages: Messages = Field(default=Messages(), description="Messages between the agents of a site")
    sharing: Literal["agent", "kind", "all"] = Field(
        default="kind",
        description="Whose parameters an agent uses. agent: its own; kind: those of all of its kind; all: those of all",
    )
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
    vine: Vine | None = Field(
        default=None, description="Learning from branches before PPO, in cities; what counts is the delay; null: none"
    )
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
