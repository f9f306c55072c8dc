"""Two levels: planners choose splits and green waves every few minutes, signals decide beside the plan."""

from collections.abc import Mapping
from typing import Self

import torch

from fedsched.envs.core import IllegalActionError, Observation, Snapshot, Tokens, Transition, World, WorldError
from fedsched.envs.intersections.chains import find_chains
from fedsched.envs.intersections.planned_view import PLANNER, PlannerView, planned_spec, with_plan
from fedsched.envs.intersections.plans import PLANS, Planner, window_overlap
from fedsched.envs.intersections.world import KIND, MOVEMENT_FEATURES, IntersectionsWorld

Columns = dict[str, torch.Tensor]


class PlannedWorld:
    """B copies of one city in which a slower level plans; the streets and what signals may do stay as they are.

    A planner stands for a chain of signals along a road (`chains`). It decides at second 0 and every `period_s` after,
    from flows and queues since its last decision, and chooses one of `PLANS`, made for that moment (`plans`). Signals
    see of each phase whether the plan shows it now and what it still owes; they are free to do otherwise. What
    planners decide, signals see at their next decision.

    Args:
        world: The streets; driven through this wrapper alone.
        period_s: Seconds from plan to plan.
        through: What is stepped instead of `world`: a view of it, such as a `RecordedWorld`.

    Attributes:
        chains: One for each planner.
        state: What changes beside the streets, by name; `shown`, `cycle` and `offset` are of the plan that runs.

    Raises:
        WorldError: A period under a second, or signals that run their programs.
    """

    def __init__(self, world: IntersectionsWorld, period_s: int = 300, through: World | None = None) -> None:
        if period_s < 1:
            raise WorldError(f"plans every {period_s} s; write 1 s or more")
        if not world.timing.period_s:
            raise WorldError(
                f"plans need signals that decide; the timing {world.timing.name!r} leaves them to programs"
            )
        self.world, self.period_s, self._driven = world, period_s, world if through is None else through
        self.batch, self.device = world.batch, world.device
        site = None if world.spec.site is None else world.spec.site.tolist()
        self.chains = find_chains(world.problem, site)
        self.spec = planned_spec(world.spec, self.chains)
        self._planner = Planner(world.problem, self.chains, world.timing, self.device)
        self._view = PlannerView(self._planner, self.chains, self.device)
        self._place = _places(world, self.device)
        self.state = self._empty()

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        """Starts episodes without a plan; planners decide at second 0, whenever rows would have to stop."""
        del until_s
        go = torch.ones(self.batch, dtype=torch.bool) if where is None else where
        start = torch.zeros(self.batch, dtype=torch.float64, device=self.device)
        observation = self._driven.reset(instances, seeds, where, start)
        for column in self.state.values():
            column[go.to(self.device)] = 0
        self._measure(observation)
        return self._observe(observation)

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        """Takes new plans where planners decide; runs to the next decision of a signal or planner, or to `until_s`."""
        self._adopt(actions)
        until = self.state["next_s"].clone()
        if until_s is not None:
            until = torch.minimum(until, until_s.to(self.device))
        moved = self._driven.step({name: chosen for name, chosen in actions.items() if name != PLANNER}, until)
        self._account(moved)
        self._measure(moved.observation)
        reward = moved.reward[KIND]
        earned = torch.zeros((self.batch, len(self.chains), reward.shape[2]), device=self.device)
        never = torch.zeros((self.batch, len(self.chains)), dtype=torch.bool, device=self.device)
        return Transition(
            observation=self._observe(moved.observation),
            reward={KIND: reward, PLANNER: earned.index_add_(1, self._planner.chain, reward)},
            elapsed_s=moved.elapsed_s,
            terminated={**moved.terminated, PLANNER: never},
            truncated=moved.truncated,
        )

    def metrics(self) -> dict[str, torch.Tensor]:
        """Those of the streets."""
        return self._driven.metrics()

    def lost(self) -> torch.Tensor:
        """What the episodes so far have cost, as `IntersectionsWorld.lost` says."""
        return self.world.lost()

    def snapshot(self) -> Snapshot:
        """The exact state of all rows, streets and plans."""
        inner = self._driven.snapshot()
        own = {f"planned.{name}": column.cpu().numpy().copy() for name, column in self.state.items()}
        return Snapshot({**inner.arrays, **own}, {**inner.extra, "period_s": self.period_s})

    def restore(self, snapshot: Snapshot) -> Observation:
        """Continues from a snapshot of a planned world with the same streets and period.

        Raises:
            WorldError: A snapshot of another problem or period.
        """
        if snapshot.extra.get("period_s") != self.period_s:
            raise WorldError(f"the snapshot is not of a world with plans every {self.period_s} s")
        observation = self._driven.restore(snapshot)
        exact = self.spec.exact
        for name, column in self.state.items():
            column.copy_(torch.as_tensor(snapshot.arrays[f"planned.{name}"])) if exact else column.zero_()
        if not exact:  # SUMO has started its episodes anew
            self._measure(observation)
        return self._observe(observation)

    def branch(self, source: Self, rows: torch.Tensor) -> Observation:
        """Makes row b an exact copy of `source`'s row `rows[b]`, int64 [B].

        Raises:
            WorldError: `source` has other streets or another period.
        """
        if source.period_s != self.period_s:
            raise WorldError(f"a branch continues a world with plans every {self.period_s} s")
        observation = self.world.branch(source.world, rows)
        for name, column in self.state.items():
            column.copy_(source.state[name].index_select(0, rows))
        return self._observe(observation)

    def _empty(self) -> Columns:
        """Everything that changes; seconds are whole."""
        agents, planners, phases = len(self.world.problem.signals), len(self.chains), self.world.problem.phases
        movements = self.world.problem.movements
        most, kinds = max(len(way.signals) for way in self.chains), self.spec.kind(PLANNER)
        whole = {
            "chosen": (planners,), "shown": (agents, phases), "cycle": (agents,), "offset": (agents,),
            "got": (agents, phases), "since": (agents,), "passed": (agents, movements),
            "halted": (agents, movements), "samples": (agents,),
            "shown_by": (agents, len(PLANS), phases), "cycle_by": (agents, len(PLANS)),
            "offset_by": (agents, len(PLANS)),
        }  # fmt: skip
        seen = {
            "own": (planners, len(kinds.own)), "entities": (planners, most, len(kinds.entity)),
            "actions": (planners, kinds.actions, len(kinds.action)),
        }  # fmt: skip
        timed: dict[str, tuple[int, ...]] = {"next_s": ()}
        shapes = ((torch.int64, whole), (torch.float32, seen), (torch.float64, timed))
        return {
            name: torch.zeros((self.batch, *shape), dtype=dtype, device=self.device)
            for dtype, shaped in shapes
            for name, shape in shaped.items()
        }

    def _due(self) -> torch.Tensor:
        """Rows in which planners must decide now, bool [B]."""
        now, ended = self.world.control["time_s"], self.world.control["ended"]
        return (now >= self.state["next_s"]) & ~ended

    def _adopt(self, actions: Mapping[str, torch.Tensor]) -> None:
        """Lets the planners' choices run from now on."""
        if PLANNER not in actions:
            raise IllegalActionError(f"planners act, too: give actions of {PLANNER!r}, `keep` where they are inactive")
        self._check(actions[PLANNER])
        rows = self._due().nonzero().flatten()
        if not len(rows):
            return
        s, chosen = self.state, actions[PLANNER][rows]
        s["chosen"][rows] = chosen
        of = chosen[:, self._planner.chain][..., None]
        cycle, offset = (s[f"{name}_by"][rows].gather(2, of)[..., 0] for name in ("cycle", "offset"))
        s["shown"][rows] = s["shown_by"][rows].gather(2, of[..., None].expand(-1, -1, -1, s["shown"].shape[2]))[:, :, 0]
        s["cycle"][rows], s["offset"][rows], s["got"][rows] = cycle, offset, 0
        now = self.world.control["time_s"][rows].long()
        s["since"][rows] = _position(now, offset, cycle)
        s["passed"][rows], s["halted"][rows], s["samples"][rows] = self._passed()[rows], 0, 0
        s["next_s"][rows] += self.period_s

    def _check(self, chosen: torch.Tensor) -> None:
        mask = self._mask()
        if chosen.shape != mask.shape[:2] or chosen.dtype != torch.int64:
            told = f"{chosen.dtype} {list(chosen.shape)}"
            raise IllegalActionError(f"actions of planners are int64 {list(mask.shape[:2])}, got {told}")
        inside = chosen.clamp(0, mask.shape[2] - 1)
        legal = mask.gather(2, inside[:, :, None])[:, :, 0] & (inside == chosen)
        if not bool(legal.all()):
            b, p = (~legal).nonzero()[0].tolist()
            name, allowed = self.spec.kind(PLANNER).agents[p], mask[b, p].nonzero().flatten().tolist()
            raise IllegalActionError(f"world {b}, {name}: plan {int(chosen[b, p])} is illegal; legal: {allowed}")

    def _account(self, moved: Transition) -> None:
        """Adds what signals have shown since the last stop, and who halts where they decide."""
        s, elapsed = self.state, moved.elapsed_s.long()[:, None]
        now, target = moved.observation.time_s.long(), self.world.control["target"].long()
        at = _position(now, s["offset"], s["cycle"])
        begun = (at < elapsed) & (s["cycle"] > 0)  # a cycle began on the way
        s["got"].masked_fill_(begun[..., None], 0)
        s["since"].masked_fill_(begun, 0)
        shown = torch.where(s["cycle"] > 0, torch.minimum(at, elapsed.expand_as(at)), 0)
        s["got"].scatter_add_(2, target[..., None], shown[..., None])
        signals = moved.observation.kinds[KIND]  # where they decide alone: other stops must change nothing
        s["halted"] += _halting(signals) * signals.active[..., None]
        s["samples"] += signals.active

    def _measure(self, observation: Observation) -> None:
        """Makes the plans to choose from, where planners must decide."""
        rows = self._due().nonzero().flatten()
        if not len(rows):
            return
        s, now = self.state, observation.time_s[rows]
        past = torch.where(now > 0, float(self.period_s), 1.0)[:, None, None]
        flow = (self._passed() - s["passed"] + _halting(observation.kinds[KIND]))[rows] / past
        queue = s["halted"][rows].double() / s["samples"][rows].clamp(min=1)[..., None]
        plans, load = self._planner.plans(flow, queue)
        s["shown_by"][rows], s["cycle_by"][rows], s["offset_by"][rows] = plans.shown, plans.cycle, plans.offset
        own, s["entities"][rows] = self._view.own_and_signals(flow, queue, load)
        hour = observation.kinds[KIND].own[rows][:, :1, 5:7].expand(-1, own.shape[1], -1)
        s["own"][rows] = torch.cat([own, hour], -1)
        s["actions"][rows] = self._view.choices(plans, flow, s["chosen"][rows])

    def _passed(self) -> torch.Tensor:
        """Vehicles that have passed the stop line on each movement since the episode began, int64 [B, A, E]."""
        counts = self.world.counts["passed"].long()
        agents, movements = self.state["passed"].shape[1:]
        found = torch.zeros((self.batch, agents * movements + 1), dtype=torch.int64, device=self.device)
        return found.index_add_(1, self._place, counts)[:, :-1].reshape(self.batch, agents, movements)

    def _mask(self) -> torch.Tensor:
        """Legal plans where planners must decide, else `keep`, bool [B, P, K + 1]."""
        due = self._due()[:, None, None]
        legal = torch.nn.functional.pad(self._view.legal, (0, 1))
        idle = torch.zeros_like(legal)
        idle[:, -1] = True
        return torch.where(due, legal, idle)

    def _observe(self, observation: Observation) -> Observation:
        s, signals = self.state, observation.kinds[KIND]
        at = _position(observation.time_s.long(), s["offset"], s["cycle"])
        planned = window_overlap(s["shown"], at, at + 1).float()
        owed = (window_overlap(s["shown"], s["since"], at) - s["got"]) / s["cycle"].clamp(min=1)[..., None]
        alive = signals.alive[:, :1].expand(-1, len(self.chains))
        there = self._view.there.expand(self.batch, -1, -1)
        due = self._due()[:, None].expand_as(alive)
        tokens = Tokens(s["own"], s["entities"], there, s["actions"], self._mask(), due, alive)
        return Observation(observation.time_s, {KIND: with_plan(signals, planned, owed.float()), PLANNER: tokens})


def _position(now: torch.Tensor, offset: torch.Tensor, cycle: torch.Tensor) -> torch.Tensor:
    """The second of the cycle, [B, A], at `now` [B]; 0 without a plan."""
    return torch.where(cycle > 0, (now[:, None] - offset) % cycle.clamp(min=1), 0)


def _halting(signals: Tokens) -> torch.Tensor:
    """Vehicles that halt before each movement now, int64 [B, A, E], from what the signals see of them."""
    return (4.0 * signals.entities[..., MOVEMENT_FEATURES.index("log_queue")].double()).expm1().round().long()


def _places(world: IntersectionsWorld, device: str) -> torch.Tensor:
    """The movement of each signal link among [A * E], one more for links that nobody controls."""
    problem = world.problem
    number = {int(link): q for q, link in enumerate(problem.signal_links)}
    found = [len(problem.signals) * problem.movements] * len(number)
    for a, signal in enumerate(problem.signals):
        for e, links in enumerate(signal.links):
            for link in links:
                found[number[link]] = a * problem.movements + e
    return torch.tensor(found, device=device)
