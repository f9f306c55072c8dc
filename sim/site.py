"""One organisation: its worlds, its policy and learner, and what it says to the others.

A site lives in a worker. It is a participant of the federation (`train`, `evaluate`), and it operates its periods step
by step (`open`, `advance`, `lots`, `give`, `take`, `outcome`, `close`), or acts for its agents in a world that it
shares (`join`, `act`, `sent`, `close`); nothing else of it is seen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fedsched.agents.collect import GreedyActor
from fedsched.agents.imitation import Lesson
from fedsched.agents.mailbox import Traffic
from fedsched.agents.parameters import parameters_from_numpy
from fedsched.agents.ppo import Losses
from fedsched.agents.vine import VineLosses
from fedsched.envs.core import Delivery, Lot, Observation, on_device
from fedsched.federation import Update
from fedsched.sim.domains import domain_of
from fedsched.sim.domains.base import (
    POLICY,
    FloatArray,
    Operation,
    Outcome,
    Replaying,
    Scene,
    Simulator,
    Split,
    Trading,
)
from fedsched.sim.domains.sharing import Joining
from fedsched.sim.scenario import Scenario
from fedsched.sim.training import Parameters, Trainer, make_policy


class Site:
    """One organisation of a scenario.

    Args:
        scenario: The whole scenario.
        name: Which site.
        device: Where its worlds and its policy live.
    """

    def __init__(self, scenario: Scenario, name: str, device: str = "cpu") -> None:
        self._scenario, self.name = scenario, name
        self.worlds = domain_of(scenario).site(scenario, name, device)
        self.trainer = Trainer(scenario, [self.worlds])
        self._operated: Operation | None = None
        self._joined: GreedyActor | None = None

    def train(self, parameters: Parameters, config: Mapping[str, bool | int | float | str | bytes]) -> Update:
        """Learns locally from `parameters` on; `config["updates"]` says how often."""
        self.trainer.load_parameters(parameters)
        metrics = self.learn(int(config["updates"]))
        learned = self.trainer.parameters
        delta = {name: learned[name] - parameters[name] for name in parameters}
        return Update(delta, 1.0, metrics)

    def evaluate(
        self, parameters: Parameters, config: Mapping[str, bool | int | float | str | bytes]
    ) -> dict[str, float]:
        """Judges parameters on validation windows; or, with a `generation`, the linear candidates of a search."""
        if "generation" in config:
            costs = self.trial(parameters["candidates"].astype(np.float64), int(config["generation"]))
            return {f"cost_{k:06d}": float(cost) for k, cost in enumerate(costs)}
        return self.trainer.judge(self.worlds, parameters).report()

    def trial(self, candidates: FloatArray, generation: int) -> FloatArray:
        """Costs [P] of linear scores [P, n] on this site's training windows."""
        return self.trainer.trial(self.worlds, candidates, generation)

    def linear(self) -> FloatArray:
        """The linear scores [n] that the policy starts from."""
        return self.trainer.linear()

    def start_from(self, weights: FloatArray) -> Parameters:
        """Gives this site's policy other linear scores [n] to start from; returns its parameters."""
        return self.trainer.start_from(weights)

    def learn(self, updates: int) -> dict[str, float]:
        """Learns from its own parameters on; returns the decisions learned from and diagnostics of the last update."""
        losses = [self.trainer.update() for _ in range(updates)]
        return {"decisions": float(sum(loss.decisions for loss in losses)), **diagnostics(losses)}

    def initial(self) -> Parameters:
        """The parameters that every site starts from."""
        return self.trainer.parameters

    def averaged(self) -> Parameters:
        """The running average over this site's own updates."""
        return self.trainer.averaged

    def best_rule(self) -> str:
        """The classical rule that does best on this site's validation windows."""
        return self.worlds.best_rule

    def open(
        self, actor: str, split: Split, rows: int, parameters: Parameters | None, simulator: Simulator = "own"
    ) -> None:
        """Starts the first `rows` periods of a split; the actor is a rule's name or `policy`."""
        policy = None
        if actor == POLICY:
            policy = make_policy(self._scenario, self.worlds.spec, self.worlds.device)
            parameters_from_numpy(policy, parameters or {})
        self.close()
        self._operated = self.worlds.operate(split, rows, actor, policy, simulator)

    def advance(self, until_s: float) -> None:
        """Runs all operated rows to a moment of the common clock."""
        self._now().advance(until_s)

    def lots(self, window: tuple[int, int]) -> list[list[Lot]]:
        """What each row offers and asks for in the coming epoch."""
        return self._trading().lots(window)

    def give(self, deliveries: Mapping[int, list[Delivery]]) -> dict[int, dict[str, Any]]:
        """Hands over the work that the deliveries of each row cover, by row and peer."""
        return self._trading().give(deliveries)

    def take(self, cargos: Mapping[int, Mapping[str, Any]]) -> None:
        """Accepts the work that peers handed over, by row and peer."""
        self._trading().take(cargos)

    def outcome(self) -> Outcome:
        """What became of the operated rows, as the domain tells it."""
        return self._now().outcome()

    def join(self, rows: int, parameters: Parameters) -> None:
        """Gets ready to act for its own agents in so many rows of a shared world; they have heard no message yet."""
        assert isinstance(self.worlds, Joining), "the scenario has been checked to share no others"
        spec, device = self.worlds.shared_spec, self.worlds.device
        policy = make_policy(self._scenario, spec, device)
        parameters_from_numpy(policy, parameters)
        self._joined = GreedyActor(policy, spec, rows, device)

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """What its agents do in the shared world, from what they see there."""
        return self._at_work()(on_device(observation, self.worlds.device))

    def sent(self) -> Traffic:
        """What its agents have sent to one another since `join`."""
        return self._at_work().traffic

    def close(self) -> None:
        """Ends what is operated, with all that it started outside this process."""
        if self._operated is not None:
            self._operated.close()
        self._operated = self._joined = None

    def replay(self, split: Split, parameters: Parameters, every_s: int) -> list[Scene]:
        """The first period of a split under the policy, a frame every so many seconds."""
        policy = make_policy(self._scenario, self.worlds.spec, self.worlds.device)
        parameters_from_numpy(policy, parameters)
        assert isinstance(self.worlds, Replaying), "the scenario has been checked to ask no others"
        return self.worlds.replay(split, policy, every_s)

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to go on exactly."""
        return self.trainer.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state."""
        self.trainer.load(state)

    def _at_work(self) -> GreedyActor:
        if self._joined is None:
            raise RuntimeError(f"site {self.name} acts in no shared world yet: call join first")
        return self._joined

    def _trading(self) -> Trading:
        operated = self._now()
        assert isinstance(operated, Trading), "the scenario has been checked to have no plan for others"
        return operated

    def _now(self) -> Operation:
        if self._operated is None:
            raise RuntimeError(f"site {self.name} operates nothing yet: call open first")
        return self._operated


REPORTED_LOSSES = (
    "policy", "value", "entropy", "approx_kl", "clip_fraction", "explained_variance", "gradient_norm", "multiplier",
    "greedy_ratio", "value_mean", "value_deviation", "epochs", "noise", "noise_kl", "message_kl", "sent_share",
)  # fmt: skip
"""Diagnostics of the last local update that a site reports."""
REPORTED_LESSON = ("cross_entropy", "agreement", "taught")
"""Diagnostics of the last imitation update that a site reports, where a round had one."""
REPORTED_VINE = ("cost", "deviation", "entropy")
"""Diagnostics of the last update from branches that a site reports, where a round had one."""
_REPORTED = {Losses: REPORTED_LOSSES, Lesson: REPORTED_LESSON, VineLosses: REPORTED_VINE}


def diagnostics(losses: Sequence[Losses | Lesson | VineLosses]) -> dict[str, float]:
    """What is reported of the updates of a round: of the last one of each kind."""
    found: dict[str, float] = {}
    for one in losses:
        found |= {name: float(getattr(one, name)) for name in _REPORTED[type(one)]}
    return found
