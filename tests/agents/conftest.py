"""Toy worlds with known optima."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.envs.core import KindSpec, Observation, Snapshot, Tokens, Transition, WorldSpec

torch.set_num_threads(1)


class QueueWorld:
    """Every agent serves its own queue, one job at a time; the sum of waiting times is least in order of size.

    The clock runs by the mean size of the jobs that the agents picked. `limit` cuts episodes off after so many steps.
    """

    def __init__(self, batch: int, jobs: int = 5, agents: int = 1, slots: int | None = None, limit: int = 0) -> None:
        self.batch, self.device, self.jobs, self.limit = batch, "cpu", jobs, limit
        self.slots = slots or jobs
        neighbours = [[j for j in range(agents) if j != i] for i in range(agents)]
        kind = KindSpec(
            name="server",
            agents=tuple(f"server{i}" for i in range(agents)),
            own=("left", "clock"),
            entity=("size", "noise"),
            entities=self.slots,
            action=("hold",),
            actions=self.slots + 1,
            idle=self.slots,
        )
        table = np.array(neighbours, dtype=np.int64).reshape(agents, agents - 1)
        self.spec = WorldSpec("queue", (kind,), table, ("wait", "busy"), ("wait",))
        shape = (batch, agents, self.slots)
        self.size, self.noise = torch.zeros(shape), torch.zeros(shape)
        self.waiting = torch.zeros(shape, dtype=torch.bool)
        self.time, self.wait = torch.zeros(batch, dtype=torch.float64), torch.zeros(batch, dtype=torch.float64)
        self.steps = 0

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        assert where is None
        assert until_s is None or not bool(until_s.any())
        agents = self.size.shape[1]
        self.size.zero_()
        self.waiting.zero_()
        for row in range(self.batch):
            generator = torch.Generator().manual_seed(int(instances[row]) * 1000 + int(seeds[row]))
            self.size[row, :, : self.jobs] = torch.rand(agents, self.jobs, generator=generator) + 0.1
            self.noise[row, :, : self.jobs] = torch.rand(agents, self.jobs, generator=generator)
        self.waiting[:, :, : self.jobs] = True
        self.time.zero_()
        self.wait.zero_()
        self.steps = 0
        return self.observe()

    def observe(self) -> Observation:
        live = self.waiting.to(torch.float32)
        active = self.waiting.any(2)
        actions = torch.zeros(*self.size.shape[:2], self.slots + 1, 1)
        actions[:, :, -1] = 1.0
        clock = self.time.to(torch.float32)[:, None].expand(-1, self.size.shape[1])
        tokens = Tokens(
            own=torch.stack([live.sum(2) / 10, clock / 10], 2),
            entities=torch.stack([self.size, self.noise], 3) * live[..., None],
            entity_mask=self.waiting.clone(),
            actions=actions,
            action_mask=torch.cat([self.waiting, ~active[..., None]], 2),
            active=active,
            alive=active,
        )
        return Observation(self.time.clone(), {"server": tokens})

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        assert until_s is None or float(until_s.min()) > 1e6, "only a far horizon is kept"
        chosen = actions["server"]
        mask = self.observe().kinds["server"].action_mask
        assert bool(mask.gather(2, chosen[..., None]).all()), "illegal action"
        active = chosen < self.slots
        index = chosen.clamp(max=self.slots - 1)[..., None]
        picked = self.size.gather(2, index).squeeze(2) * active
        self.waiting &= ~(torch.zeros_like(self.waiting).scatter(2, index, active[..., None]))
        waited = picked * self.waiting.sum(2)
        elapsed = picked.mean(1).to(torch.float64)
        self.time += elapsed
        self.wait += waited.sum(1)
        self.steps += 1
        over = self.waiting.any(2).logical_not()
        cut = torch.full((self.batch,), self.steps == self.limit) & ~over.all(1)
        reward = torch.stack([-waited, picked], 2)
        return Transition(self.observe(), {"server": reward}, elapsed, {"server": over}, cut)

    def branch(self, source: "QueueWorld", rows: torch.Tensor) -> Observation:
        for name in ("size", "noise", "waiting", "time", "wait"):
            getattr(self, name).copy_(getattr(source, name)[rows])
        self.steps = source.steps
        return self.observe()

    def lost(self) -> torch.Tensor:
        return self.wait.clone()

    def optimum(self) -> torch.Tensor:
        """The least sum of waiting times over all agents, [B], of the problem last reset."""
        ordered = self.size[:, :, : self.jobs].sort(2).values
        left = torch.arange(self.jobs - 1, -1, -1)
        return (ordered * left).sum((1, 2)).to(torch.float64)

    def metrics(self) -> dict[str, torch.Tensor]:
        return {"wait": self.wait.clone()}

    def snapshot(self) -> Snapshot:
        raise NotImplementedError

    def restore(self, snapshot: Snapshot) -> Observation:
        raise NotImplementedError


class RelayWorld:
    """The teller sees a side, the doer is paid for naming it and sees nothing: a message is necessary.

    With `alternate` the teller decides one second before the doer, so that it is heard through the mailbox alone.
    """

    def __init__(self, batch: int, rounds: int = 6, alternate: bool = False) -> None:
        self.batch, self.device, self.rounds, self.alternate = batch, "cpu", rounds, alternate
        kinds = tuple(
            KindSpec(name, (name,), own=("side",), entity=("side",), entities=2, actions=2, idle=0)
            for name in ("teller", "doer")
        )
        self.spec = WorldSpec("relay", kinds, np.array([[-1], [0]], dtype=np.int64), ("right",), ("right",))
        self.side = torch.zeros(batch, rounds)
        self.time, self.right = torch.zeros(batch, dtype=torch.float64), torch.zeros(batch, dtype=torch.float64)
        self.steps = 0

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        assert where is None
        assert until_s is None or not bool(until_s.any())
        for row in range(self.batch):
            generator = torch.Generator().manual_seed(int(instances[row]) * 1000 + int(seeds[row]))
            self.side[row] = torch.randint(2, (self.rounds,), generator=generator) * 2.0 - 1.0
        self.time.zero_()
        self.right.zero_()
        self.steps = 0
        return self.observe()

    def _round(self) -> int:
        return min(self.rounds - 1, self.steps // 2 if self.alternate else self.steps)

    def observe(self) -> Observation:
        over = self.steps == self.rounds * (2 if self.alternate else 1)
        speaks = not over and not (self.alternate and self.steps % 2)
        acts = not over and (not self.alternate or self.steps % 2 == 1)
        entities = torch.tensor([[-1.0], [1.0]]).expand(self.batch, 1, 2, 1).clone()

        def tokens(own: torch.Tensor, active: bool) -> Tokens:
            mask = torch.ones(self.batch, 1, 2, dtype=torch.bool)
            legal = mask.clone()
            legal[:, :, 1] = active
            return Tokens(
                own=own.reshape(self.batch, 1, 1).clone(),
                entities=entities,
                entity_mask=mask,
                actions=torch.zeros(self.batch, 1, 2, 0),
                action_mask=legal,
                active=torch.full((self.batch, 1), active),
                alive=torch.full((self.batch, 1), not over),
            )

        side = self.side[:, self._round()]
        kinds = {"teller": tokens(side, speaks), "doer": tokens(torch.zeros(self.batch), acts)}
        return Observation(self.time.clone(), kinds)

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        assert until_s is None or float(until_s.min()) > 1e6, "only a far horizon is kept"
        acts = not self.alternate or self.steps % 2 == 1
        right = (actions["doer"][:, 0] * 2.0 - 1.0 == self.side[:, self._round()]).to(torch.float32) * acts
        self.right += right
        self.time += 1
        self.steps += 1
        over = torch.full((self.batch, 1), self.steps == self.rounds * (2 if self.alternate else 1))
        reward = {"teller": torch.zeros(self.batch, 1, 1), "doer": right.reshape(self.batch, 1, 1)}
        terminated = {"teller": over, "doer": over}
        cut = torch.zeros(self.batch, dtype=torch.bool)
        return Transition(self.observe(), reward, torch.ones(self.batch, dtype=torch.float64), terminated, cut)

    def branch(self, source: "RelayWorld", rows: torch.Tensor) -> Observation:
        for name in ("side", "time", "right"):
            getattr(self, name).copy_(getattr(source, name)[rows])
        self.steps = source.steps
        return self.observe()

    def lost(self) -> torch.Tensor:
        return -self.right

    def metrics(self) -> dict[str, torch.Tensor]:
        return {"right": self.right / self.rounds}

    def snapshot(self) -> Snapshot:
        raise NotImplementedError

    def restore(self, snapshot: Snapshot) -> Observation:
        raise NotImplementedError


def shuffled(observation: Observation, order: torch.Tensor) -> Observation:
    """The same queue observation with its slots in another order; `hold` stays last."""
    tokens = observation.kinds["server"]
    actions = torch.cat([order, torch.tensor([order.shape[0]])])
    changed = replace(
        tokens,
        entities=tokens.entities[:, :, order],
        entity_mask=tokens.entity_mask[:, :, order],
        actions=tokens.actions[:, :, actions],
        action_mask=tokens.action_mask[:, :, actions],
    )
    return replace(observation, kinds={"server": changed})


@pytest.fixture
def queue() -> Callable[..., QueueWorld]:
    """Builds queue worlds."""
    return QueueWorld


@pytest.fixture
def relay() -> Callable[..., RelayWorld]:
    """Builds relay worlds."""
    return RelayWorld


@pytest.fixture
def shuffle() -> Callable[[Observation, torch.Tensor], Observation]:
    """Reorders the slots of a queue observation."""
    return shuffled


def beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"{name}_toy", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def crossing() -> ModuleType:
    """The module `crossing.py`."""
    return beside("crossing")


@pytest.fixture(scope="session")
def handover() -> Callable[..., Any]:
    """Makes a world in which agents hand lots on."""
    made: Callable[..., Any] = beside("handover").HandoverWorld
    return made


@pytest.fixture(scope="session")
def clerk() -> Callable[..., Any]:
    """Makes such a world with a clerk, who sees no entities."""
    made: Callable[..., Any] = beside("handover").ClerkWorld
    return made
