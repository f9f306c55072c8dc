"""Our side of `benchmarks.throughput`: how fast this project learns, and where the time goes.

Both worlds are played by copies that decide together, whole episodes at a time. The world that nobody here wrote is
stepped in this process, without workers; the other is a data centre in its own batch.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from benchmarks import spread
from benchmarks.throughput_worlds import (
    CLIP,
    CLUSTERS,
    ENTROPY,
    EPOCHS,
    GAMMA,
    GRADIENT_NORM,
    JOBS,
    LAMBDA,
    LEARNING_RATE,
    MINIBATCHES,
    VALUE,
    WIDTH,
    Clock,
    make_spread,
)
from fedsched.agents.config import EncoderConfig, PolicyConfig
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import PpoConfig
from fedsched.agents.rollout import Rollouts
from fedsched.envs.core import Observation, Transition, World
from fedsched.envs.core.foreign import ForeignWorld
from fedsched.envs.datacenter import draw_instances, make_world

SCHEDULE = PpoConfig(
    lr=LEARNING_RATE, lr_end=1.0, epochs=EPOCHS, minibatches=MINIBATCHES, clip=CLIP, huber=10.0, entropy=ENTROPY,
    entropy_end=1.0, value=VALUE, grad_norm=GRADIENT_NORM, kl_stop=float("inf"),
)  # fmt: skip
"""All epochs of every update, as TorchRL makes them."""


def seconds(device: str) -> float:
    """CPU seconds of this process; of other devices the time on the wall when they have done all their work."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class TimedWorld:
    """A world that says how long its `reset` and `step` take.

    Attributes:
        clock: Seconds inside.
    """

    def __init__(self, world: World) -> None:
        """Wraps a world."""
        self._world, self.clock = world, Clock()
        self.spec, self.batch, self.device, self.metrics = world.spec, world.batch, world.device, world.metrics
        self.snapshot, self.restore = world.snapshot, world.restore

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        """As the world does."""
        begin = seconds(self.device)
        found = self._world.reset(instances, seeds, where, until_s)
        self.clock.seconds += seconds(self.device) - begin
        return found

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        """As the world does."""
        begin = seconds(self.device)
        found = self._world.step(actions, until_s)
        self.clock.seconds += seconds(self.device) - begin
        return found


@dataclass(frozen=True)
class Side:
    """What is measured.

    Attributes:
        world: Copies that decide together.
        clock: Seconds inside of their environment.
        learner: Of their agents.
        instances: Of an update, by its number, int64 [B].
    """

    world: World
    clock: Clock
    learner: Learner
    instances: Callable[[int], torch.Tensor]


def spread_side(copies: int) -> Side:
    """Copies of the environment, whose own time the clock counts, and MAPPO with two layers for policy and critic."""
    clock = Clock()
    world = ForeignWorld(lambda: make_spread(clock), copies)
    learner = spread.make_learner(world, "central", 0, SCHEDULE)
    return Side(world, clock, learner, lambda _number: torch.zeros(copies, dtype=torch.int64))


def datacenter_side(copies: int, device: str = "cpu", minibatches: int = MINIBATCHES) -> Side:
    """Copies of a site with three clusters in one batch, and the policy that scores every waiting job."""
    plain = make_world("lublin-1", list(CLUSTERS), batch=copies, jobs=JOBS, device=device)
    world = TimedWorld(plain)
    encoder = EncoderConfig(width=WIDTH, hidden=WIDTH)
    policy = Policy(world.spec, PolicyConfig(encoder, messages=None, critic="central", critic_width=WIDTH)).to(device)
    ppo = replace(SCHEDULE, minibatches=minibatches)
    learning = LearnerConfig({"qos": 1.0}, "gae", rollouts=1, gamma=GAMMA, trace=LAMBDA, ppo=ppo)
    instances = partial(draw_instances, plain, "train")
    return Side(world, world.clock, Learner(policy, learning, 0), instances)


def steps_of(rollouts: Rollouts) -> int:
    """Steps of all copies: instants at which somebody had to decide."""
    moments = torch.cat([taken.decisions.moment for taken in rollouts.taken.values()])
    return int(torch.unique(moments).numel())


def measure(side: Side, updates: int) -> dict[str, Any]:
    """Seconds of collecting and learning in so many updates on one episode of every copy, after one to warm up."""
    world, clock, learner = side.world, side.clock, side.learner
    collecting = learning = before = 0.0
    steps = decisions = 0
    for number in range(updates + 1):
        seeds = torch.arange(world.batch, device=world.device) + number * world.batch
        start = seconds(world.device)
        rollouts = learner.collect(world, side.instances(number), seeds)
        middle = seconds(world.device)
        losses = learner.update([rollouts])
        end = seconds(world.device)
        assert losses.epochs == learner.config.ppo.epochs, "an epoch was left out"
        if not number:
            before = clock.seconds
            continue
        collecting, learning = collecting + middle - start, learning + end - middle
        steps, decisions = steps + steps_of(rollouts), decisions + losses.decisions
    inside = clock.seconds - before
    parts = {"environment": inside, "acting": collecting - inside, "learning": learning}
    us = {name: spent / steps * 1e6 for name, spent in parts.items()}
    rate = steps / (collecting + learning)
    return {"copies": world.batch, "steps": steps, "steps_per_s": rate, "us_per_step": us, "decisions": decisions}
