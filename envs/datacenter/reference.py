"""The slow, obvious twin of the kernels: both engines in plain Python.

`simulate_event` follows docs/datacenter.md rule by rule; `simulate_committing` is the published protocol.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fedsched.envs.datacenter.model import (
    VISIBLE_JOBS,
    Cluster,
    DatacenterError,
    Jobs,
    SiteModel,
    Window,
)
from fedsched.envs.datacenter.rules import parse_rule, priority
from fedsched.envs.datacenter.schedule import HOUR_S, Schedule

HOLD = -1
"""What a chooser returns instead of a job to hold."""


@dataclass(frozen=True)
class Decision:
    """What one cluster may do now.

    Attributes:
        now_s: Time since the start of the episode.
        cluster: Who decides.
        stage: 1 while it has a reserved head, else 0.
        queue: All waiting jobs in order of arrival.
        legal: The jobs that it may pick, in order of arrival; visible ones only, unless all are asked for.
        may_hold: Whether it may hold.
    """

    now_s: float
    cluster: int
    stage: int
    queue: tuple[int, ...]
    legal: tuple[int, ...]
    may_hold: bool


Choose = Callable[[Decision], int]
"""Returns a job of `Decision.legal`, or HOLD where that is allowed."""


def by_rule(jobs: Jobs, name: str, origin_s: float = 0.0) -> Choose:
    """The chooser of a dispatch rule such as `saf` or `saf-easy`; it never defers.

    Raises:
        DatacenterError: An unknown rule.
    """
    rule, easy = parse_rule(name)
    columns = jobs.submit_s.tolist(), jobs.estimate_s.tolist(), jobs.processors.tolist()

    def key(job: int, now_s: float) -> float:
        submit_s, estimate_s, processors = (column[job] for column in columns)
        return priority(rule, submit_s, estimate_s, processors, now_s, origin_s)

    def choose(decision: Decision) -> int:
        if decision.stage == 1 and not easy:
            return HOLD
        return min(decision.legal, key=lambda job: key(job, decision.now_s))

    return choose


@dataclass
class _Running:
    job: int
    processors: int
    until_s: float
    end_s: float


@dataclass
class _ClusterState:
    model: Cluster
    free: int
    running: list[_Running] = field(default_factory=list)
    undecided: bool = False
    head: int | None = None
    shadow_s: float = 0.0
    extra: int = 0

    def open(self) -> None:
        """Undecided, without reservation (rule 2)."""
        self.undecided, self.head = True, None

    def fit_time(self, need: int, now_s: float) -> float:
        """Earliest time by estimates at which `need` processors are free."""
        free = self.free
        if free >= need:
            return now_s
        for job in sorted(self.running, key=lambda job: job.until_s):
            free += job.processors
            if free >= need:
                return max(job.until_s, now_s)
        return math.inf

    def release(self, job: _Running) -> None:
        self.running.remove(job)
        self.free += job.processors


class _Site:
    """The state of one episode that both engines share."""

    def __init__(self, jobs: Jobs, clusters: tuple[Cluster, ...]) -> None:
        self.submit_s: list[float] = jobs.submit_s.tolist()
        self.run_s: list[float] = jobs.run_s.tolist()
        self.estimate_s: list[float] = jobs.estimate_s.tolist()
        self.need: list[int] = jobs.processors.tolist()
        self.jobs = jobs
        self.clusters = [_ClusterState(cluster, cluster.processors) for cluster in clusters]
        self.now_s = 0.0
        self.arrived = 0
        self.queue: list[int] = []
        self.decisions = 0
        self.start_s, self.end_s = np.full(len(jobs), np.nan), np.full(len(jobs), np.nan)
        self.placed = np.full(len(jobs), -1, dtype=np.int64)
        too_wide = np.flatnonzero(jobs.processors > max(cluster.processors for cluster in clusters))
        if len(too_wide):
            raise DatacenterError(f"job {too_wide[0]} is wider than every cluster: drop it or give a wider cluster")

    def next_arrival_s(self) -> float:
        return self.submit_s[self.arrived] if self.arrived < len(self.jobs) else math.inf

    def next_end_s(self) -> float:
        return min((job.end_s for cluster in self.clusters for job in cluster.running), default=math.inf)

    def admit(self) -> None:
        """The next arrival joins the end of the queue."""
        self.queue.append(self.arrived)
        self.arrived += 1

    def start(self, c: int, job: int) -> None:
        """Starts a job; another cluster that had reserved it is in stage 0 again (rule 4)."""
        cluster, speed = self.clusters[c], self.clusters[c].model.speed
        until_s = self.now_s + self.estimate_s[job] / speed
        if cluster.head is not None and until_s > cluster.shadow_s:
            cluster.extra -= self.need[job]
        self.queue.remove(job)
        cluster.free -= self.need[job]
        self.start_s[job], self.end_s[job] = self.now_s, self.now_s + self.run_s[job] / speed
        self.placed[job] = c
        cluster.running.append(_Running(job, self.need[job], until_s, float(self.end_s[job])))
        for other in self.clusters:
            if other is not cluster and other.head == job:
                other.open()

    def ask(self, choose: Choose, decision: Decision) -> int:
        """The only legal action (rule 7), or what the chooser says."""
        legal = (*decision.legal, HOLD) if decision.may_hold else decision.legal
        if len(legal) == 1:
            return legal[0]
        self.decisions += 1
        action = choose(decision)
        if action not in legal:
            raise DatacenterError(f"cluster {decision.cluster} cannot do {action} at {self.now_s} s; legal: {legal}")
        return action

    def schedule(self) -> Schedule:
        return Schedule(self.jobs, self.start_s, self.end_s, self.placed, self.decisions, self.now_s)


class _EventSite(_Site):
    """Rules 1 to 9 of docs/datacenter.md."""

    def __init__(self, jobs: Jobs, site: SiteModel, visible: int) -> None:
        super().__init__(jobs, site.clusters)
        self.deferral, self.visible = site.deferral, visible
        self.deferred = False

    def next_instant(self, until_s: float) -> bool:
        """Rules 1, 2, 6 and 9: handles all events of the next instant; False where the episode stops."""
        wake_s = (math.floor(self.now_s / HOUR_S) + 1) * HOUR_S if self.deferred else math.inf
        next_s = min(self.next_arrival_s(), self.next_end_s(), wake_s)
        if next_s >= until_s:
            self.now_s = until_s if until_s < math.inf else self.now_s
            return False
        self.now_s, self.deferred = next_s, False
        for cluster in self.clusters:
            for job in [job for job in cluster.running if job.end_s <= next_s]:
                cluster.release(job)
        while self.next_arrival_s() <= next_s:
            self.admit()
        for cluster in self.clusters:
            cluster.open()
        return True

    def decide(self, choose: Choose) -> bool:
        """One round of simultaneous decisions; False where no cluster is undecided."""
        picks: dict[int, int] = {}
        for c, cluster in enumerate(self.clusters):
            if cluster.undecided:
                action = self.pick(c, choose)
                if action == HOLD:
                    cluster.undecided = False
                else:
                    picks[c] = action
        for c, job in self.won(picks).items():
            act = self.start if self.need[job] <= self.clusters[c].free else self.reserve
            act(c, job)
        return bool(picks)

    def pick(self, c: int, choose: Choose) -> int:
        """A cluster on which nothing could start holds (rule 3); one that chooses to hold defers (rule 6)."""
        head, free = self.clusters[c].head, self.clusters[c].free
        legal = tuple(job for job in self.shown() if self.legal(c, job))
        if all(self.need[job] > free for job in legal):
            return HOLD
        stage, may_hold = int(head is not None), head is not None or self.deferral
        action = self.ask(choose, Decision(self.now_s, c, stage, tuple(self.queue), legal, may_hold))
        if action == HOLD and head is None:
            self.deferred = True
        return action

    def shown(self) -> list[int]:
        """Of a queue longer than the slots, the first and the last half."""
        if len(self.queue) <= self.visible:
            return self.queue
        half = self.visible // 2
        return self.queue[:half] + self.queue[-half:]

    def legal(self, c: int, job: int) -> bool:
        """Rules 3 and 4."""
        cluster, need = self.clusters[c], self.need[job]
        fits = need <= cluster.free
        if cluster.head is None:
            reserved = any(other.head == job for other in self.clusters)
            return need <= cluster.model.processors and (fits or not reserved)
        in_time = self.now_s + self.estimate_s[job] / cluster.model.speed <= cluster.shadow_s
        return fits and (in_time or need <= cluster.extra)

    def won(self, picks: dict[int, int]) -> dict[int, int]:
        """Rule 5: of the clusters that picked the same job only the best one keeps it."""

        def rank(c: int) -> tuple[float, float, int]:
            job, cluster = picks[c], self.clusters[c]
            start_s = cluster.fit_time(self.need[job], self.now_s)
            return start_s, start_s + self.estimate_s[job] / cluster.model.speed, c

        return {c: job for c, job in picks.items() if c == min((k for k in picks if picks[k] == job), key=rank)}

    def reserve(self, c: int, job: int) -> None:
        """Rule 4: the head, its shadow time and the extra processors."""
        cluster, need = self.clusters[c], self.need[job]
        cluster.head = job
        cluster.shadow_s = cluster.fit_time(need, self.now_s)
        ending = (r.processors for r in cluster.running if max(r.until_s, self.now_s) <= cluster.shadow_s)
        cluster.extra = cluster.free + sum(ending) - need


class _CommittingSite(_Site):
    """The published engine: a picked job blocks until it fits, and time moves one event at a time."""

    def move(self) -> None:
        """The next arrival, or the next completion if that is strictly earlier."""
        end_s = self.next_end_s()
        if self.arrived < len(self.jobs) and self.next_arrival_s() <= end_s:
            self.now_s = max(self.now_s, self.next_arrival_s())
            self.admit()
            return
        cluster = self.clusters[0]
        self.now_s = end_s
        cluster.release(next(job for job in cluster.running if job.end_s == end_s))  # in order of starts

    def commit(self, job: int, backfill: bool) -> None:
        """Waits until the job fits, letting others by if `backfill`, and starts it."""
        shadow_s = self.shadow_s(job)
        while self.need[job] > self.clusters[0].free:
            if backfill:
                self.backfill(job, shadow_s)
            self.move()
        self.start(0, job)

    def shadow_s(self, job: int) -> float:
        """First estimated end by which enough is free; it may lie in the past."""
        free = self.clusters[0].free
        for running in sorted(self.clusters[0].running, key=lambda job: job.until_s):
            free += running.processors
            if free >= self.need[job]:
                return running.until_s
        return math.inf

    def backfill(self, head: int, shadow_s: float) -> None:
        """First come, first served among the jobs that fit now and end before the shadow time by their estimates."""
        for job in list(self.queue):
            fits = self.need[job] <= self.clusters[0].free
            if job != head and fits and self.now_s + self.estimate_s[job] < shadow_s:
                self.start(0, job)


def simulate_event(
    jobs: Jobs, site: SiteModel, choose: Choose, *, visible: int = VISIBLE_JOBS, until_s: float = math.inf
) -> Schedule:
    """Runs the `event` engine: rules 1 to 9 of docs/datacenter.md.

    Args:
        jobs: Submission counts from the start of the episode.
        site: The clusters; series play no part here (see `reward_parts`).
        choose: Asked for every cluster with more than one legal action; clusters of one round are asked on one state.
        visible: Slots of a decision; `len(jobs)` shows the whole queue, as the dispatch rules need it.
        until_s: The clock stops before the events of this instant.

    Raises:
        DatacenterError: A job wider than every cluster, or an illegal choice.
    """
    episode = _EventSite(jobs, site, visible)
    while episode.next_instant(until_s):
        while episode.decide(choose):
            pass
    return episode.schedule()


def simulate_rule(window: Window, site: SiteModel, name: str, *, until_s: float = math.inf) -> Schedule:
    """Runs the `event` engine by a dispatch rule, which looks at the whole queue.

    Raises:
        DatacenterError: An unknown rule or a job wider than every cluster.
    """
    choose = by_rule(window.jobs, name, window.origin_s)
    return simulate_event(window.jobs, site, choose, visible=len(window.jobs), until_s=until_s)


def simulate_committing(jobs: Jobs, processors: int, choose: Choose, backfill: bool) -> Schedule:
    """Runs the published protocol of RLScheduler (D. Zhang et al., SC'20) on one cluster.

    Arrivals join the queue one by one and only while time moves. Backfilling is not EASY: the shadow time is set once
    when the committed job begins to wait, a job must end strictly before it, and there are no extra processors.

    Raises:
        DatacenterError: A job wider than the machine, or an illegal choice.
    """
    episode = _CommittingSite(jobs, (Cluster(processors),))
    while episode.queue or episode.next_arrival_s() < math.inf or episode.clusters[0].running:
        if not episode.queue:
            episode.move()
            continue
        queue = tuple(episode.queue)
        episode.commit(episode.ask(choose, Decision(episode.now_s, 0, 0, queue, queue, may_hold=False)), backfill)
    return episode.schedule()
