"""The data-centre world: B sites of one model, advanced by Warp kernels (docs/datacenter.md states the rules)."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
import torch
import warp as wp

from fedsched.envs.core import (
    IllegalActionError,
    KindSpec,
    Observation,
    Snapshot,
    Tokens,
    Transition,
    WorldSpec,
)
from fedsched.envs.datacenter import metrics
from fedsched.envs.datacenter.arrays import Arrays
from fedsched.envs.datacenter.kernels import committing, controller, event, linear, observe
from fedsched.envs.datacenter.kernels.state import FLAG_ILLEGAL
from fedsched.envs.datacenter.model import VISIBLE_JOBS, DatacenterError, SiteModel, Window
from fedsched.envs.datacenter.rules import Rule, parse_rule

KIND = "cluster"
KEPT_WINDOWS = 256
"""Instances that a world keeps in memory; rollouts of a group share theirs."""

HOLD_ACTION = VISIBLE_JOBS
OWN_FEATURES = (
    "free_share", "log_queue", "log_queued_work", "stage", "head_share", "log_shadow", "extra_share", "fit_share",
    "mean_log_estimate", "log_running_work", "speed", "site_busy_share", "carbon_now", "carbon_6h", "price_now",
    "price_6h",
)  # fmt: skip
JOB_FEATURES = (
    "log_wait", "log_estimate", "width_share", "log_width", "log_area", "log_slowdown", "fits", "width_of_free",
    "log_until_fit", "ends_before_shadow", "log_estimate_excess", "reserved_elsewhere",
)  # fmt: skip
REWARD_PARTS = ("utilization", "qos", "wait", "energy_efficiency", "carbon", "cost")


class Workload(Protocol):
    """What turns an instance number into the jobs of an episode."""

    def window(self, instance: int) -> Window:
        """The jobs of that instance; raises DatacenterError for an unknown one."""
        ...


def site_spec(site: SiteModel) -> WorldSpec:
    """The static description of a site's world; every cluster may message every other."""
    count = len(site.clusters)
    kind = KindSpec(
        name=KIND,
        agents=tuple(f"cluster_{k}" for k in range(count)),
        own=OWN_FEATURES,
        entity=JOB_FEATURES,
        entities=VISIBLE_JOBS,
        action=("hold",),
        actions=VISIBLE_JOBS + 1,
        idle=HOLD_ACTION,
    )
    others = np.array([[k for k in range(count) if k != c] for c in range(count)], dtype=np.int64)
    return WorldSpec("datacenter", (kind,), others.reshape(count, count - 1), REWARD_PARTS, metrics.NAMES)


class DatacenterWorld:
    """B copies of one site.

    Args:
        site: Clusters, series and switches.
        workload: Source of instances.
        batch: Number of copies B.
        engine: `event`, or `committing` for the published protocol (one cluster, no deferral).
        backfill: The published protocol's own backfilling (`committing` only).
        device: `cpu` or a CUDA device.
        limit_s: Episodes longer than this are truncated.

    Raises:
        DatacenterError: A job that no cluster can hold, or an engine that cannot run this site.
    """

    def __init__(
        self,
        site: SiteModel,
        workload: Workload,
        batch: int,
        engine: Literal["event", "committing"] = "event",
        backfill: bool = False,
        device: str = "cpu",
        limit_s: float = float("inf"),
    ) -> None:
        if engine == "committing" and (len(site.clusters) > 1 or site.deferral):
            raise DatacenterError("the committing engine knows one cluster and no deferral: use engine: event")
        if batch < 1:
            raise DatacenterError(f"a world needs at least one copy, got batch={batch}")
        self.site = site
        self.workload = workload
        self.spec = site_spec(site)
        self.batch = batch
        self.engine = engine
        self.backfill = backfill
        self.device = device
        self.limit_s = limit_s
        self.arrays = Arrays(site, batch, len(OWN_FEATURES), len(JOB_FEATURES), device)
        self._windows: OrderedDict[int, Window] = OrderedDict()
        self._logs = [""] * batch
        self._forever = torch.full((batch,), float("inf"), dtype=torch.float64, device=device)
        self._chosen = torch.zeros((batch, len(site.clusters)), dtype=torch.int64, device=device)
        self._until = self._forever.clone()
        self._graph: tuple[int, wp.Graph] | None = None
        self._paid = torch.zeros_like(self.arrays.state["total"])
        self._actions = torch.zeros((batch, len(site.clusters), VISIBLE_JOBS + 1, 1), device=device)
        self._actions[:, :, HOLD_ACTION] = 1.0

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        """Starts the episodes of these instances; `seeds` draw nothing here (a log is what it is).

        The committing engine has no clock between decisions: it stops at an `until_s` of 0 only, before anything
        happens.
        """
        rows = range(self.batch) if where is None else where.nonzero().flatten().tolist()
        del seeds
        windows = {row: self._window(int(instances[row])) for row in rows}
        self.arrays.grow(max((len(window.jobs) for window in windows.values()), default=0))
        for row, window in windows.items():
            self.arrays.load(row, window, self.limit_s)
            self._logs[row] = window.log
        opened = torch.zeros(self.batch, dtype=torch.int32, device=self.device)
        opened[list(rows)] = 1
        self._until.copy_(self._forever if until_s is None else until_s)
        self._launch_open(opened)
        self._paid[list(rows)] = 0.0
        return self.observe()

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        """Applies the clusters' picks (slot 0 to 127, or 128 to hold) and runs to the next decision or `until_s`."""
        state = self.arrays.state
        before = state["now"].clone()
        chosen = actions[KIND]
        self._chosen.copy_(chosen)
        self._until.copy_(self._forever if until_s is None else until_s)
        wp.capture_launch(self._step_graph())
        self._raise_flags(chosen)
        reward = (state["total"] - self._paid).float()
        self._paid.copy_(state["total"])
        ended = state["terminated"].bool()
        return Transition(
            observation=self._observation(),
            reward={KIND: reward},
            elapsed_s=state["now"] - before,
            terminated={KIND: ended[:, None].expand(-1, len(self.site.clusters))},
            truncated=state["truncated"].bool(),
        )

    def run_rules(self, rules: list[str], until_s: torch.Tensor | None = None) -> None:
        """Runs row b by the rule `rules[b]` (such as `saf-easy`) to its end or to `until_s`, inside the kernel.

        An empty name leaves that row alone. The rules look at the whole queue, not only at the visible slots. In the
        committing engine backfilling is the world's own switch and the names carry no `-easy`. What accrues here is in
        no step's reward.
        """
        parsed = [parse_rule(name) if name else None for name in rules]
        rule = torch.tensor([-1 if p is None else int(p[0]) for p in parsed], dtype=torch.int32, device=self.device)
        easy = torch.tensor([p is not None and p[1] for p in parsed], device=self.device).int()
        model, jobs, live = self.arrays.structs()
        if self.engine == "event":
            until = self._forever if until_s is None else until_s
            inputs = [model, jobs, live, wp.from_torch(rule), wp.from_torch(easy), wp.from_torch(until)]
            wp.launch(event.run_event_rule, self.batch, inputs=inputs, device=self.device)
        else:
            inputs = [model, jobs, live, wp.from_torch(rule), int(self.backfill)]
            wp.launch(committing.run_committing_rule, self.batch, inputs=inputs, device=self.device)
        self._raise_flags(None)
        ran = rule >= 0
        self._paid[ran] = self.arrays.state["total"][ran]

    def rule_actions(self, rule: Rule, easy: bool) -> torch.Tensor:
        """What a rule would pick now among the visible jobs, int64 [B, C]; hold where a cluster need not decide."""
        actions = torch.empty((self.batch, len(self.site.clusters)), dtype=torch.int64, device=self.device)
        model, jobs, live = self.arrays.structs()
        committing_engine = int(self.engine == "committing")
        inputs = [model, jobs, live, int(rule), int(easy), committing_engine, wp.from_torch(actions)]
        wp.launch(controller.pick_by_rule, tuple(actions.shape), inputs=inputs, device=self.device)
        return actions

    def run_linear(self, weights: torch.Tensor, until_s: torch.Tensor | None = None) -> None:
        """Runs every row by a linear score of the visible jobs to its end or to `until_s`, inside the kernel.

        What accrues here is in no step's reward.

        Args:
            weights: float32 [B, 2, Fe + 1], of the features of a job and of holding; the second line is added while a
                head is reserved (`stage`). The legal action with the highest score is taken.
            until_s: float64 [B].

        Raises:
            DatacenterError: The committing engine, or weights of another shape.
        """
        shape = (self.batch, 2, len(JOB_FEATURES) + 1)
        if self.engine != "event" or tuple(weights.shape) != shape:
            raise DatacenterError(f"linear scores run in the event engine with weights {shape}, got {weights.shape}")
        until = self._forever if until_s is None else until_s
        model, jobs, live = self.arrays.structs()
        scores = wp.from_torch(weights.contiguous())
        inputs = [model, jobs, live, self.arrays.view_struct(), scores, wp.from_torch(until)]
        wp.launch(linear.run_event_linear, self.batch, inputs=inputs, device=self.device)
        self._raise_flags(None)
        self._paid.copy_(self.arrays.state["total"])

    def metrics(self) -> dict[str, torch.Tensor]:
        """Schedules so far, each float64 [B]; see `fedsched.envs.datacenter.metrics`."""
        return metrics.of_arrays(self.arrays, self.site)

    def snapshot(self) -> Snapshot:
        """The exact state of all rows."""
        arrays = self.arrays.copy() | {"paid": self._paid.cpu().numpy().copy()}
        return Snapshot(arrays, {"peers": tuple(self.arrays.peers), "logs": tuple(self._logs)})

    def restore(self, snapshot: Snapshot) -> Observation:
        """Continues from a snapshot of a world of the same site, batch and workload."""
        self.arrays.paste(snapshot.arrays)
        self.arrays.peers = list(snapshot.extra["peers"])
        self._logs = list(snapshot.extra["logs"])
        self._paid.copy_(torch.as_tensor(snapshot.arrays["paid"]))
        return self.observe()

    def observe(self) -> Observation:
        """What the agents see now; needed after `run_rules` or a delivery changed the rows."""
        self._launch_observe()
        return self._observation()

    def log(self, row: int) -> str:
        """Short name of the log that row `row` was loaded from."""
        return self._logs[row]

    def _window(self, instance: int) -> Window:
        if instance not in self._windows:
            if len(self._windows) >= KEPT_WINDOWS:
                self._windows.popitem(last=False)
            window = self.workload.window(instance)
            widest = int(window.jobs.processors.max(initial=0))
            if widest > self.site.widest:
                raise DatacenterError(
                    f"instance {instance}: a job needs {widest} processors, the widest cluster has {self.site.widest}; "
                    "give the site a wider cluster or set too_wide: drop"
                )
            self._windows[instance] = window
        return self._windows[instance]

    def _launch_open(self, where: torch.Tensor) -> None:
        model, jobs, live = self.arrays.structs()
        if self.engine == "event":
            inputs = [model, jobs, live, wp.from_torch(where), wp.from_torch(self._until)]
            wp.launch(event.open_event, self.batch, inputs=inputs, device=self.device)
        else:
            inputs = [model, jobs, live, wp.from_torch(where), int(self.backfill), wp.from_torch(self._until)]
            wp.launch(committing.open_committing, self.batch, inputs=inputs, device=self.device)
        self._raise_flags(None)

    def _step_graph(self) -> wp.Graph:
        """The kernels of a step, captured once for the arrays as they are (they move when they grow)."""
        if self._graph is None or self._graph[0] != self.arrays.capacity:
            # loaded before the capture, since a capture compiles nothing
            for module in (event, committing, observe):
                wp.load_module(module, device=self.device)
            model, jobs, live = self.arrays.structs()
            shared = [model, jobs, live, wp.from_torch(self._chosen)]
            with wp.ScopedCapture(device=self.device) as capture:
                if self.engine == "event":
                    inputs = [*shared, wp.from_torch(self._until)]
                    wp.launch(event.step_event, self.batch, inputs=inputs, device=self.device)
                else:
                    inputs = [*shared, int(self.backfill)]
                    wp.launch(committing.step_committing, self.batch, inputs=inputs, device=self.device)
                self._launch_observe()
            self._graph = (self.arrays.capacity, capture.graph)
        return self._graph[1]

    def _launch_observe(self) -> None:
        model, jobs, live = self.arrays.structs()
        inputs = [model, jobs, live, self.arrays.view_struct(), int(self.engine == "committing")]
        wp.launch(observe.observe, (self.batch, len(self.site.clusters)), inputs=inputs, device=self.device)

    def _observation(self) -> Observation:
        view = self.arrays.view
        tokens = Tokens(
            view["own"], view["entities"], view["entity_mask"], self._actions,
            view["action_mask"], view["active"], view["alive"],
        )  # fmt: skip
        return Observation(self.arrays.state["now"], {KIND: tokens})

    def _raise_flags(self, chosen: torch.Tensor | None) -> None:
        flags = self.arrays.state["flag"]
        if not bool(flags.any()):
            return
        row = int(flags.nonzero()[0])
        code = int(flags[row])
        flags.zero_()
        if code == FLAG_ILLEGAL and chosen is not None:
            raise IllegalActionError(f"world {row}: actions {chosen[row].tolist()} of its clusters are not all legal")
        raise DatacenterError(f"world {row}: jobs wait, but nothing can ever start them")
