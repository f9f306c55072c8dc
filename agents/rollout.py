"""Rollouts: what happened while a policy acted, in flat preallocated columns.

Decisions are ragged: only the rows that the network saw are stored. Rewards are stored as they accrue, step by step,
and summed from one decision of an agent to its next afterwards, by differences of their running sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from fedsched.agents.bootstrap import LastValues
from fedsched.agents.decisions import AgentError, Decisions, Heard, Speech
from fedsched.agents.entities import Entities, Pairs
from fedsched.agents.mailbox import Traffic
from fedsched.agents.segments import pointers_of
from fedsched.agents.step import PolicyStep
from fedsched.envs.core import Transition, WorldSpec


class Column:
    """A tensor that grows along its first axis, in memory that doubles when it is full."""

    def __init__(self, like: torch.Tensor, capacity: int = 1024) -> None:
        """Space for `capacity` lines of the type and inner shape of `like` [n, ...]."""
        self._data = like.new_empty((max(capacity, like.shape[0]), *like.shape[1:]))
        self._length = 0

    def append(self, lines: torch.Tensor) -> None:
        """Copies `lines` [n, ...] to the end."""
        end = self._length + lines.shape[0]
        if end > self._data.shape[0]:
            grown = self._data.new_empty((max(end, 2 * self._data.shape[0]), *self._data.shape[1:]))
            grown[: self._length] = self._data[: self._length]
            self._data = grown
        self._data[self._length : end] = lines
        self._length = end

    def view(self) -> torch.Tensor:
        """Everything appended so far, without a copy."""
        return self._data[: self._length]


class Table:
    """Columns by name; the first line appended fixes their types."""

    def __init__(self) -> None:
        self._columns: dict[str, Column] = {}

    def append(self, lines: Mapping[str, torch.Tensor]) -> None:
        """Copies lines to the end of each column."""
        for name, values in lines.items():
            if name not in self._columns:
                self._columns[name] = Column(values)
            self._columns[name].append(values)

    def view(self, name: str) -> torch.Tensor | None:
        """A column without a copy; None if it does not exist."""
        column = self._columns.get(name)
        return None if column is None else column.view()

    def need(self, name: str) -> torch.Tensor:
        """A column without a copy; raises AgentError if nothing was recorded."""
        view = self.view(name)
        if view is None:
            raise AgentError("nothing was recorded: no agent had a decision")
        return view


@dataclass(frozen=True)
class Taken:
    """The decisions of one kind and what was chosen.

    Attributes:
        decisions: With moment = step * B + world row.
        choice: int64 [D], rows counted inside the decision, or float32 [D, K], vectors as drawn.
        log_prob: float32 [D], under the policy that chose.
        value: float32 [D]; None without a critic.
    """

    decisions: Decisions
    choice: torch.Tensor
    log_prob: torch.Tensor
    value: torch.Tensor | None


@dataclass(frozen=True)
class Reference:
    """What a reference rule does on the instances of a rollout.

    Attributes:
        limit: float64 [n], its total of the constrained cost over the episode (positive), per instance.
        offset: float64 [n], added to a group's mean cost before dividing by it: with the number of jobs, costs that are
            growths of bounded slowdown are divided by the mean bounded slowdown itself and never by nearly zero.
    """

    limit: torch.Tensor
    offset: torch.Tensor

    def repeat(self, rows: int) -> "Reference":
        """The same for `rows` neighbouring world rows per instance."""
        return Reference(self.limit.repeat_interleave(rows), self.offset.repeat_interleave(rows))


@dataclass(frozen=True)
class Rollouts:
    """Episodes of one world.

    Attributes:
        spec: Of the world.
        taken: By kind.
        times: float64 [T + 1, B], the clock before each step and at the end.
        rewards: float32 [T, B, A, R] by kind, accrued in each step.
        terminated: bool [B, A] by kind; an agent that did not terminate was cut off and is bootstrapped.
        truncated: bool [B].
        last: The critic's values of the agents that were cut off; None without a critic.
        group: int64 [B], rows with the same instance and seed.
        greedy: bool [B], rows that took the likeliest action; nothing is learned from them.
        reference: Per row; None without one.
        metrics: The world's, each [B].
        traffic: What was sent.
    """

    spec: WorldSpec
    taken: Mapping[str, Taken]
    times: torch.Tensor
    rewards: Mapping[str, torch.Tensor]
    terminated: Mapping[str, torch.Tensor]
    truncated: torch.Tensor
    last: LastValues | None
    group: torch.Tensor
    greedy: torch.Tensor
    reference: Reference | None
    metrics: Mapping[str, torch.Tensor]
    traffic: Traffic

    @property
    def batch(self) -> int:
        """The number of world rows B."""
        return self.times.shape[1]

    @property
    def moments(self) -> int:
        """A bound on the moments of all decisions: T * B."""
        return (self.times.shape[0] - 1) * self.batch

    @property
    def decisions(self) -> int:
        """The number of decisions of all kinds, greedy rows included."""
        return sum(len(taken.decisions) for taken in self.taken.values())

    def row(self, kind: str) -> torch.Tensor:
        """The world row of every decision of a kind, int64 [D]."""
        return self.taken[kind].decisions.moment % self.batch

    def step(self, kind: str) -> torch.Tensor:
        """The step before which every decision was taken, int64 [D]."""
        return torch.div(self.taken[kind].decisions.moment, self.batch, rounding_mode="floor")

    def agent(self, kind: str) -> torch.Tensor:
        """The agent of every decision, counted inside its kind, int64 [D]."""
        names = [k.name for k in self.spec.kinds]
        first = sum(len(k.agents) for k in self.spec.kinds[: names.index(kind)])
        return self.taken[kind].decisions.agent - first


class Recorder:
    """Writes rollouts while a world runs.

    Attributes:
        steps: Of the world until now.
        traffic: What was sent until now.
    """

    def __init__(self, spec: WorldSpec, start_s: torch.Tensor) -> None:
        """Starts at `start_s` [B], the clock of the first observation."""
        self._spec = spec
        self._steps = Table()
        self._tables = {kind.name: Table() for kind in spec.kinds}
        self._steps.append({"time": start_s[None]})
        self.steps = 0
        self._batch = start_s.shape[0]
        self.traffic = Traffic()

    def decide(
        self, step: PolicyStep, choice: Mapping[str, torch.Tensor], log_prob: Mapping[str, torch.Tensor]
    ) -> None:
        """Stores what was decided at the current step, by kind."""
        self.traffic = self.traffic + step.traffic
        for name, part in step.decisions.items():
            lines = _columns(part, self.steps * self._batch)
            lines |= {"choice": choice[name], "log_prob": log_prob[name]}
            if step.value is not None:
                lines["value"] = step.value[name]
            self._tables[name].append(lines)

    def advance(self, transition: Transition, running: torch.Tensor) -> None:
        """Stores what the step brought to the worlds that were `running` [B] before it."""
        lines = {"time": transition.observation.time_s[None]}
        for name, reward in transition.reward.items():
            lines[f"reward.{name}"] = (reward * running[:, None, None])[None]
        self._steps.append(lines)
        self.steps += 1

    def taken(self) -> dict[str, Taken]:
        """All decisions so far, without a copy; kinds that had none are left out."""
        tables = {name: table for name, table in self._tables.items() if table.view("own") is not None}
        return {
            name: Taken(_decisions(table), table.need("choice"), table.need("log_prob"), table.view("value"))
            for name, table in tables.items()
        }

    def times(self) -> torch.Tensor:
        """The clock before each step and now, float64 [T + 1, B]."""
        return self._steps.need("time")

    def rewards(self) -> dict[str, torch.Tensor]:
        """Accrued rewards [T, B, A, R] by kind."""
        return {kind.name: self._steps.need(f"reward.{kind.name}") for kind in self._spec.kinds}


def _columns(decisions: Decisions, first_moment: int) -> dict[str, torch.Tensor]:
    lines = {
        "own": decisions.own,
        "rows": decisions.rows,
        "count": decisions.pointers.diff(),
        "moment": decisions.moment + first_moment,
        "agent": decisions.agent,
    }
    if decisions.critic is not None:
        lines["critic"] = decisions.critic
    if decisions.memory is not None:
        lines["memory"] = decisions.memory
    if decisions.heard is not None:
        lines |= {f"heard.{f.name}": getattr(decisions.heard, f.name) for f in fields(Heard)}
    if decisions.entities is not None:
        entities = decisions.entities
        lines |= {"entities": entities.tokens, "entities.count": entities.pointers.diff()}
        lines |= _pair_columns("concerns", entities.concerns)
        lines |= {} if entities.links is None else _pair_columns("links", entities.links)
        if entities.source is not None and entities.target is not None:
            lines |= {"entities.source": entities.source, "entities.target": entities.target}
    if decisions.speech is not None:
        lines["speech.sent"] = decisions.speech.sent
        if decisions.speech.noise is not None:
            lines["speech.noise"] = decisions.speech.noise
    return lines


def _pair_columns(name: str, pairs: Pairs) -> dict[str, torch.Tensor]:
    return {f"{name}.first": pairs.first, f"{name}.second": pairs.second, f"{name}.count": pairs.pointers.diff()}


def _pairs(table: Table, name: str) -> Pairs:
    return Pairs(table.need(f"{name}.first"), table.need(f"{name}.second"), pointers_of(table.need(f"{name}.count")))


def _entities(table: Table) -> Entities | None:
    if table.view("entities") is None:
        return None
    links = None if table.view("links.first") is None else _pairs(table, "links")
    pointers = pointers_of(table.need("entities.count"))
    ways = table.view("entities.source"), table.view("entities.target")
    return Entities(table.need("entities"), pointers, _pairs(table, "concerns"), links, *ways)


def _decisions(table: Table) -> Decisions:
    heard = None
    if table.view("heard.known") is not None:
        heard = Heard(*(table.need(f"heard.{f.name}") for f in fields(Heard)))
    sent = table.view("speech.sent")
    return Decisions(
        own=table.need("own"),
        rows=table.need("rows"),
        pointers=pointers_of(table.need("count")),
        moment=table.need("moment"),
        agent=table.need("agent"),
        heard=heard,
        critic=table.view("critic"),
        memory=table.view("memory"),
        entities=_entities(table),
        speech=None if sent is None else Speech(sent, table.view("speech.noise")),
    )
