"""A toy world in which agents hand entities on: two senders, two receivers, everything decided at once."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from fedsched.envs.core import Flow, KindSpec, Observation, Tokens, Transition, WorldSpec


class HandoverWorld:
    """Either receiver takes one of two lots, one from each sender, and should take the one that its sender values more.

    What a lot is worth is seen by its sender alone, beside that of the lot for the other receiver. `flow` False hides
    where lots come from and go to.
    """

    def __init__(self, batch: int, rounds: int = 4, flow: bool = True) -> None:
        self.batch, self.device, self.rounds = batch, "cpu", rounds
        ways = Flow(np.array([[-1, -1], [-1, -1], [0, 1], [0, 1]]), np.array([[2, 3], [2, 3], [-1, -1], [-1, -1]]))
        kind = KindSpec(
            "post", ("s0", "s1", "r0", "r1"), own=("sends",), entity=("worth",), entities=2, actions=2, idle=0,
            flow=ways if flow else None,
        )  # fmt: skip
        neighbours = np.array([[2, 3], [3, 2], [1, 0], [0, 1]])
        self.spec = WorldSpec("handover", (kind,), neighbours, ("right",), ("right",))
        self.worth = torch.zeros(batch, 2, 2)
        self.right = torch.zeros(batch, dtype=torch.float64)
        self.steps = 0
        self._generators: list[torch.Generator] = []

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        assert where is None
        assert until_s is None or not bool(until_s.any())
        pairs = zip(instances.tolist(), seeds.tolist(), strict=True)
        self._generators = [torch.Generator().manual_seed(instance * 1000 + seed) for instance, seed in pairs]
        self.steps = 0
        self.right.zero_()
        return self._observe()

    def _observe(self) -> Observation:
        self.worth = torch.stack([torch.rand(2, 2, generator=g) for g in self._generators])
        shape = self.batch, 4, 2
        entities = torch.zeros(*shape, 1)
        entities[:, :2, :, 0] = self.worth
        there = torch.ones(shape, dtype=torch.bool)
        mask = there.clone()
        mask[:, :2, 1] = False
        everybody = torch.ones(self.batch, 4, dtype=torch.bool)
        own = torch.tensor([1.0, 1.0, 0.0, 0.0])[None, :, None].repeat(self.batch, 1, 1)
        tokens = Tokens(
            own=own, entities=entities, entity_mask=there, actions=torch.zeros(*shape, 0), action_mask=mask,
            active=everybody, alive=everybody,
        )  # fmt: skip
        return Observation(torch.full((self.batch,), float(self.steps), dtype=torch.float64), {"post": tokens})

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        assert until_s is None
        right = torch.zeros(self.batch, 4)
        # worth[b, s, r]: what sender s thinks of the lot for receiver r
        right[:, 2:] = (actions["post"][:, 2:] == self.worth.argmax(1)).float()
        self.right += right.sum(1) / (2 * self.rounds)
        self.steps += 1
        over = torch.full((self.batch, 4), self.steps == self.rounds)
        clock = torch.ones(self.batch, dtype=torch.float64)
        seen = self._observe()
        return Transition(seen, {"post": right[:, :, None]}, clock, {"post": over}, torch.zeros_like(over[:, 0]))

    def metrics(self) -> dict[str, torch.Tensor]:
        return {"right": self.right.clone()}


class ClerkWorld(HandoverWorld):
    """The same with a clerk, who sees no entities, hears the senders and one receiver, and is heard by that one."""

    def __init__(self, batch: int, rounds: int = 4) -> None:
        super().__init__(batch, rounds)
        clerk = KindSpec("clerk", ("c0",), own=("mood",), action=("second",), actions=2, idle=0)
        neighbours = np.array([[2, 3, -1], [3, 2, -1], [1, 0, 4], [0, 1, -1], [0, 1, 2]])
        self.spec = replace(self.spec, kinds=(*self.spec.kinds, clerk), neighbours=neighbours)

    def _observe(self) -> Observation:
        seen = super()._observe()
        here = torch.ones(self.batch, 1, dtype=torch.bool)
        clerk = Tokens(
            own=self.worth[:, :1, :1], entities=torch.zeros(self.batch, 1, 0, 0),
            entity_mask=here.new_zeros(self.batch, 1, 0),
            actions=torch.tensor([[0.0], [1.0]]).repeat(self.batch, 1, 1, 1),
            action_mask=here[:, :, None].repeat(1, 1, 2), active=here, alive=here,
        )  # fmt: skip
        return replace(seen, kinds={**seen.kinds, "clerk": clerk})

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        moved = super().step(actions, until_s)
        reward = {**moved.reward, "clerk": torch.zeros(self.batch, 1, 1)}
        return replace(moved, reward=reward, terminated={**moved.terminated, "clerk": moved.terminated["post"][:, :1]})
