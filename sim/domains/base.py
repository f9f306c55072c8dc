"""The contract between `sim` and a domain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from fedsched.agents.mailbox import Traffic
from fedsched.agents.network import SoftRule
from fedsched.agents.policy import Policy
from fedsched.agents.rollout import Reference
from fedsched.envs.core import Controller, Delivery, Lot, World, WorldSpec
from fedsched.sim.errors import WorldSetupError
from fedsched.sim.scenario import Scenario

if TYPE_CHECKING:
    from fedsched.sim.scenario.marks import Finding

FloatArray = npt.NDArray[np.float64]
Split = Literal["train", "validation", "test"]
Simulator = Literal["own", "sumo"]
"""What operates the periods: fedsched's worlds, or the field's own simulator where the domain has one."""

POLICY = "policy"
"""Name of the actor that is not a rule."""


@dataclass(frozen=True)
class Episodes:
    """What rows of a world play.

    Attributes:
        instances: int64 [n], which problem.
        seeds: int64 [n], the randomness inside it.
    """

    instances: torch.Tensor
    seeds: torch.Tensor

    def __len__(self) -> int:
        """How many there are."""
        return len(self.instances)


@dataclass(frozen=True)
class Judgement:
    """A policy on the validation windows, against the rule that does best there.

    Attributes:
        score: Less is better, of either sign; 1 is as good as that rule.
        noise: Standard error of the score over the windows, paired with the rule.
        ratios: Figures relative to that rule's, by name; the first is what the score is made of.
        rule: That rule.
    """

    score: float
    noise: float
    ratios: Mapping[str, float]
    rule: str

    def report(self) -> dict[str, float]:
        """The numbers as a site reports them."""
        ratios = {f"{name}_ratio": value for name, value in self.ratios.items()}
        return {**ratios, "score": self.score, "noise": self.noise}


@dataclass(frozen=True)
class Notice:
    """Something about a site's data that the run folder keeps and the user is told.

    Attributes:
        kind: Of the event.
        line: For people.
        facts: For the event.
    """

    kind: str
    line: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Scene:
    """A moment of a replay, in the form of its domain.

    Attributes:
        time_s: Of the period.
        kind: `picture` for what stays, `frame` for what moves.
        data: What is drawn.
    """

    time_s: float
    kind: Literal["picture", "frame"]
    data: bytes


class Outcome(Protocol):
    """What became of the operated rows of a site; each domain has its own."""

    @property
    def sent(self) -> Traffic:
        """Messages between the agents, over all rows."""
        ...


class Cargo(Protocol):
    """What moves when a plan is carried out."""

    def __len__(self) -> int:
        """Pieces, such as jobs."""
        ...

    @property
    def megabytes(self) -> float:
        """Data that moves with them."""
        ...


class Operation(Protocol):
    """The operated batch of a site: row b is the b-th period, driven by a rule or by a policy."""

    def advance(self, until_s: float) -> None:
        """Runs all rows to a moment of the common clock."""
        ...

    def outcome(self) -> Outcome:
        """What became of the rows."""
        ...

    def close(self) -> None:
        """Ends what the operation started outside this process, if anything."""
        ...


@runtime_checkable
class Trading(Operation, Protocol):
    """An operation of a domain whose sites can trade."""

    def lots(self, window: tuple[int, int]) -> list[list[Lot]]:
        """What each row offers and asks for in the coming epoch."""
        ...

    def give(self, deliveries: Mapping[int, list[Delivery]]) -> dict[int, dict[str, Any]]:
        """Hands over the `Cargo` that the deliveries of each row cover, by row and peer."""
        ...

    def take(self, cargos: Mapping[int, Mapping[str, Any]]) -> None:
        """Accepts the `Cargo` that peers handed over, by row and peer."""
        ...


class SiteWorlds(Protocol):
    """The worlds of one site: what it trains on, is judged on and operates."""

    name: str
    device: str

    @property
    def spec(self) -> WorldSpec:
        """What is static about them."""
        ...

    @property
    def best_rule(self) -> str:
        """The classical rule that does best on the validation windows."""
        ...

    def world(self, batch: int) -> World:
        """A batch of training worlds."""
        ...

    def draw(self, split: Split, count: int, *keys: int) -> Episodes:
        """Episodes drawn by seed; of the test split the first ones."""
        ...

    def reference(self, episodes: Episodes) -> Reference | None:
        """What the learner measures costs and bounds by; None: nothing."""
        ...

    def judge(self, policy: Policy) -> Judgement:
        """The greedy policy on the validation windows."""
        ...

    def trial(self, policy: Policy, candidates: FloatArray, generation: int) -> FloatArray:
        """Costs [P] of linear scores [P, n] of that policy on fresh training windows."""
        ...

    def operate(self, split: Split, rows: int, actor: str, policy: Policy | None, simulator: Simulator) -> Operation:
        """Starts the first `rows` periods of a split; the actor is a rule's name or `policy`."""
        ...


@runtime_checkable
class Teaching(Protocol):
    """Worlds of a domain that has rules for a policy to imitate."""

    def teacher(self, name: str) -> Controller:
        """A rule that decides from what the policy sees; by a name that the scenario allows."""
        ...


@runtime_checkable
class Replaying(Protocol):
    """Worlds of a domain whose periods can be drawn."""

    def replay(self, split: Split, policy: Policy, every_s: int) -> list[Scene]:
        """The first period of a split under a policy: what stays, then a frame every so many seconds."""
        ...


class Domain(Protocol):
    """A kind of site."""

    name: str

    def site(self, scenario: Scenario, name: str, device: str = "cpu") -> SiteWorlds:
        """The worlds of a site; raises WorldSetupError for data that cannot be used."""
        ...

    def check(self, scenario: Scenario) -> list[Notice]:
        """Tries what a run will need before anything is written; raises WorldSetupError with all that is wrong."""
        ...

    def check_simulator(self, scenario: Scenario, simulator: Simulator) -> None:
        """Raises UserError where the sites cannot be operated by that simulator."""
        ...

    def policy_spec(self, scenario: Scenario) -> WorldSpec:
        """A spec with the features of every site's, to build policies without a world."""
        ...

    def soft_rules(self, start: str) -> dict[str, SoftRule]:
        """The soft rule a policy starts from, by kind."""
        ...

    def horizon_s(self, scenario: Scenario) -> float:
        """Until when operated rows run on the common clock; infinite: until they have ended."""
        ...

    def figures(self, outcomes: Mapping[str, Any]) -> dict[str, dict[str, FloatArray]]:
        """The domain's figures [rows] by site and name, from every site's outcome."""
        ...


@runtime_checkable
class Drawing(Protocol):
    """A domain whose replays can be looked at."""

    def page(self, scenes: Sequence[Scene]) -> str:
        """A replay as a page that any browser plays."""
        ...


def check_sites(scenario: Scenario, check: Callable[[str], list[Notice]]) -> list[Notice]:
    """The notices of all sites, each checked by name; all that is wrong is told at once.

    Raises:
        WorldSetupError: What is wrong with any of them.
    """
    notices: list[Notice] = []
    wrong: list[Finding] = []
    for name in scenario.sites:
        try:
            notices += check(name)
        except WorldSetupError as error:
            wrong += error.found
    if wrong:
        raise WorldSetupError(wrong)
    return notices


def device_of(scenario: Scenario) -> str:
    """Where sites compute: on a GPU if they have a share of one."""
    return "cuda:0" if scenario.workers.gpus_per_site else "cpu"
