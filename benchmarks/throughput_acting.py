"""What acting costs per agent, and how learning speeds up with the number of copies, on any device.

Part of `benchmarks.throughput`. Acting is that of use: greedy, messages counted and remembered, inputs checked.
"""

from typing import Any

import torch

from benchmarks.spread import ENTRY
from benchmarks.throughput_ours import datacenter_side, measure, seconds
from fedsched.agents.collect import GreedyActor
from fedsched.agents.config import EncoderConfig, MessageConfig, PolicyConfig, TriggerConfig
from fedsched.agents.policy import Policy
from fedsched.envs.core import Observation
from fedsched.envs.core.foreign import ForeignWorld, foreign_world

WORLDS, AGENTS = 64, 16
CALLS = 20
ENCODERS = {
    "two layers of 64, dot": EncoderConfig(width=64, hidden=64, layers=2, scoring="dot"),
    "rows, 32 and 16": EncoderConfig(),
}
MESSAGES = {
    "none": None,
    "float32": MessageConfig(),
    "int8, trigger": MessageConfig(quantised=True, trigger=TriggerConfig()),
}
HEARD = (4, AGENTS - 1)
"""Neighbours that an agent hears."""


def crowd(heard: int) -> ForeignWorld:
    """64 copies of simple_spread with 16 agents, each of which hears the next ones in a ring."""
    names = [f"agent_{number}" for number in range(AGENTS)]
    ring = {name: [names[(a + d) % AGENTS] for d in range(1, heard + 1)] for a, name in enumerate(names)}
    return foreign_world(ENTRY, {"N": AGENTS}, WORLDS, neighbours=ring)


def moved(observation: Observation, device: str) -> Observation:
    """The same observation on another device."""
    kinds = {
        name: type(tokens)(**{field: value.to(device) for field, value in vars(tokens).items()})
        for name, tokens in observation.kinds.items()
    }
    return Observation(observation.time_s.to(device), kinds)


def acting(device: str, repeats: int) -> list[dict[str, Any]]:
    """Microseconds per agent of every policy, the least mean of some calls in `repeats` turns."""
    cases = []
    for heard in HEARD:
        with crowd(heard) as world:
            rows = torch.arange(WORLDS)
            seen = moved(world.reset(rows, rows), device)
            for encoder, config in ENCODERS.items():
                for messages, stage in MESSAGES.items():
                    policy = Policy(world.spec, PolicyConfig(config, stage)).to(device)
                    actor = GreedyActor(policy, world.spec, WORLDS, device)
                    if stage is not None or heard == HEARD[0]:
                        cases.append(({"policy": encoder, "messages": messages, "heard": heard}, actor, seen))
    least = [float("inf")] * len(cases)
    for _ in range(repeats):
        for number, (_, actor, shown) in enumerate(cases):
            least[number] = min(least[number], _call(actor, shown, device))
    return [
        {**case, "us_per_agent": spent / WORLDS / AGENTS * 1e6}
        for (case, _, _), spent in zip(cases, least, strict=True)
    ]


def _call(actor: GreedyActor, seen: Observation, device: str) -> float:
    begin = seconds(device)
    for _ in range(CALLS):
        actor(seen)
    return (seconds(device) - begin) / CALLS


def batches(device: str, copies: list[int], updates: int) -> list[dict[str, Any]]:
    """Learning on the data centre with so many copies, minibatches a quarter of an update."""
    return [measure(datacenter_side(count, device), updates) for count in copies]
