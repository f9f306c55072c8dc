"""A small honest world with a choice kind and a vector kind, and the same world with one fault at a time.

Two movers collect three targets that come back at random; a valve follows a random level. Mover 1 leaves after six
steps, an episode has 9 + instance steps.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fedsched.envs.core import (
    IllegalActionError,
    KindSpec,
    Observation,
    Snapshot,
    Tokens,
    Transition,
    WorldError,
    WorldSpec,
    stream,
)

TARGETS, STAY = 3, 3
LEAVES_AT = 6
FAULTS = (
    "nan observation", "nan reward", "wrong dtype", "wrong shape", "random after step 3", "batch-dependent",
    "row-dependent", "forgets on snapshot", "remembers after reset", "no legal action", "accepts illegal", "hash",
    "resurrects", "unclean padding", "idle is not idle", "clock runs back", "reset touches others",
    "acts after the end", "goes on after the end",
)  # fmt: skip
ONE = np.ones(1, dtype=np.float32)
SPEC = WorldSpec(
    name="toy",
    kinds=(
        KindSpec("mover", ("mover_0", "mover_1"), ("step", "turn"), ("value",), TARGETS, ("stay",), TARGETS + 1, STAY),
        KindSpec("valve", ("valve",), ("level", "setting"), bounds=(-ONE, ONE)),
    ),
    neighbours=np.array([[1], [0], [-1]]),
    reward_parts=("value", "flow"),
    metrics=("steps", "value"),
)


class ToyWorld:
    """See the module; `fault` is one of FAULTS or empty."""

    def __init__(self, batch: int = 1, fault: str = "") -> None:
        assert fault in ("", *FAULTS)
        self.spec, self.batch, self.device, self.fault = SPEC, batch, "cpu", fault
        self.state: dict[str, Any] = {
            "instance": np.zeros(batch, np.int64), "seed": np.zeros(batch, np.int64), "step": np.zeros(batch, np.int64),
            "time": np.zeros(batch), "next": np.zeros(batch), "free": np.zeros((batch, TARGETS), bool),
            "level": np.zeros(batch, np.float32), "setting": np.zeros(batch, np.float32), "value": np.zeros(batch),
        }  # fmt: skip

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        del until_s  # the first decision falls on time 0
        rows = range(self.batch) if where is None else where.nonzero().flatten().tolist()
        s = self.state
        for b in rows:
            if not 0 <= int(instances[b]) < 5:
                raise WorldError(f"toy has instances 0 to 4, not {int(instances[b])}")
            for name, column in s.items():
                if not (name == "setting" and self.fault == "remembers after reset"):
                    column[b] = 0
            s["instance"][b], s["seed"][b], s["free"][b] = int(instances[b]), int(seeds[b]), True
            s["level"][b] = self.draw(b, "level").random()
        if self.fault == "reset touches others":
            s["level"] += np.float32(0.25)
        return self.observe()

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        now = self.observe()
        self.check(now, actions)
        s = self.state
        before = s["time"].copy()
        reward = {"mover": np.zeros((self.batch, 2, 2), np.float32), "valve": np.zeros((self.batch, 1, 2), np.float32)}
        for b in np.flatnonzero(~self.ended()):
            if self.deciding(b):
                self.decide(b, actions, reward)
            stop = s["next"][b] if until_s is None else min(s["next"][b], float(until_s[b]))
            s["time"][b] = stop
        if self.fault == "goes on after the end":
            s["time"][now.time_s.numpy() == s["time"]] += 1.0
        observation = self.observe()
        if self.fault == "nan reward":
            reward["mover"][:] = np.nan
        elapsed = before - s["time"] if self.fault == "clock runs back" else s["time"] - before
        ended = {k: ~t.alive for k, t in observation.kinds.items()}
        return Transition(
            observation, {k: torch.tensor(r) for k, r in reward.items()}, torch.tensor(elapsed), ended,
            torch.zeros(self.batch, dtype=torch.bool),
        )  # fmt: skip

    def metrics(self) -> dict[str, torch.Tensor]:
        return {"steps": torch.tensor(self.state["step"]).double(), "value": torch.tensor(self.state["value"])}

    def snapshot(self) -> Snapshot:
        return Snapshot({name: column.copy() for name, column in self.state.items()})

    def restore(self, snapshot: Snapshot) -> Observation:
        for name, column in snapshot.arrays.items():
            if not (name == "level" and self.fault == "forgets on snapshot"):
                self.state[name] = column.copy()
        return self.observe()

    def draw(self, b: int, purpose: str, *keys: int) -> np.random.Generator:
        s = self.state
        if self.fault == "random after step 3" and s["step"][b] > 3:
            return np.random.default_rng()
        extra = {"batch-dependent": self.batch, "row-dependent": b, "hash": hash(purpose) % 1000}.get(self.fault, 0)
        return stream(int(s["seed"][b]), f"toy/{purpose}", int(s["instance"][b]), int(s["step"][b]), extra, *keys)

    def decide(self, b: int, actions: Mapping[str, torch.Tensor], reward: dict[str, np.ndarray]) -> None:
        s = self.state
        for a in range(2):
            target = int(actions["mover"][b, a])
            if target != STAY and s["free"][b, target]:
                s["free"][b, target] = False
                reward["mover"][b, a, 0] = target + 1
                s["value"][b] += target + 1
        s["setting"][b] = float(actions["valve"][b, 0, 0])
        reward["valve"][b, 0, 1] = -abs(s["setting"][b] - s["level"][b])
        s["step"][b] += 1
        s["free"][b] |= self.draw(b, "return").random(TARGETS) < 0.5
        s["level"][b] = np.float32(self.draw(b, "level").random() + 0.1 * s["setting"][b])
        s["next"][b] = s["time"][b] + 1.0 + self.draw(b, "pause").random()

    def deciding(self, b: int) -> bool:
        return bool(self.state["time"][b] >= self.state["next"][b])

    def ended(self) -> np.ndarray:
        return np.asarray(self.state["step"] >= 9 + self.state["instance"])

    def check(self, now: Observation, actions: Mapping[str, torch.Tensor]) -> None:
        if self.fault == "accepts illegal" or (self.fault == "acts after the end" and self.ended().all()):
            return
        chosen = now.kinds["mover"].action_mask.gather(2, actions["mover"][:, :, None])[:, :, 0]
        if not bool(chosen.all()):
            raise IllegalActionError(f"mover: {actions['mover'].tolist()} are not all legal")
        if not bool((actions["valve"].abs() <= 1).all()):
            raise IllegalActionError(f"valve: {actions['valve'].tolist()} lie outside [-1, 1]")

    def observe(self) -> Observation:
        s, b = self.state, self.batch
        step = s["step"][:, None]
        deciding = (s["time"] >= s["next"]) & ~self.ended()
        alive = np.stack([~self.ended(), ~self.ended() & (s["step"] < LEAVES_AT)], 1)
        if self.fault == "resurrects":
            alive[:, 1] |= s["step"] == LEAVES_AT + 2
        turn = np.stack([np.ones((b, 1), bool), step % 2 == 0], 1)[:, :, 0]
        active = alive & turn & deciding[:, None]
        own = np.stack([np.repeat(step, 2, 1) / 10, turn], 2).astype(np.float32)
        shown = np.repeat(s["free"][:, None], 2, 1)
        values = np.where(shown, np.arange(1, TARGETS + 1), 9 if self.fault == "unclean padding" else 0)
        legal = np.concatenate([shown & active[:, :, None], np.ones((b, 2, 1), bool)], 2)
        if self.fault == "no legal action":
            legal[:, 0] &= s["step"][:, None] != 4
        if self.fault == "idle is not idle":
            legal[:, :, :TARGETS] = shown
        if self.fault == "nan observation":
            own[s["step"] == 2] = np.nan
        features = np.zeros((b, 2, TARGETS + 1, 1), np.float32)
        features[:, :, STAY] = 1
        mover = Tokens(
            torch.tensor(own.astype(np.float64) if self.fault == "wrong dtype" else own),
            torch.tensor(values[:, :, :, None].astype(np.float32)),
            torch.tensor(shown),
            torch.tensor(features[:, :, :2] if self.fault == "wrong shape" else features),
            torch.tensor(legal),
            torch.tensor(active),
            torch.tensor(alive),
        )
        gauge = torch.tensor(np.stack([s["level"], s["setting"]], 1)[:, None])
        empty = torch.zeros((b, 1, 0, 0)), torch.zeros((b, 1, 0), dtype=torch.bool)
        valve = Tokens(gauge, *empty, *empty, torch.tensor(deciding[:, None]), torch.tensor(~self.ended()[:, None]))
        return Observation(torch.tensor(s["time"]), {"mover": mover, "valve": valve})


def make_toy(batch: int) -> ToyWorld:
    """An honest toy."""
    return ToyWorld(batch)


def make_hashing(batch: int) -> ToyWorld:
    """A toy whose draws depend on the hash seed of the process."""
    return ToyWorld(batch, "hash")
