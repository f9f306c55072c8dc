"""The arrays behind a batch of sites: allocated once as torch tensors, seen by the kernels without a copy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsched.envs.datacenter.kernels.observe import View
from fedsched.envs.datacenter.kernels.state import Jobs, Model, State, bind
from fedsched.envs.datacenter.model import VISIBLE_JOBS, FloatArray, SiteModel, Window

PARTS = 6
LONGEST_DEFERRAL_S = 30 * 86400.0
"""Where agents may hold jobs back, an episode is cut off this long after its last submission."""
OWN_JOB = -1
"""Home of a job that was submitted here; others hold the index of a peer."""

_JOB_COLUMNS = ("submit", "run", "estimate", "first_submit", "processors", "id", "home")
_PER_JOB = (*_JOB_COLUMNS, "queue", "start", "rank", "cluster")
_F64, _I32, _I64 = torch.float64, torch.int32, torch.int64


def _prefix(series: FloatArray, device: str) -> torch.Tensor:
    """Integral of an hourly series up to every full hour, [H + 1]."""
    return torch.tensor(np.concatenate(([0.0], np.cumsum(series))), dtype=_F64, device=device)


class Arrays:
    """Jobs, state and view of B worlds.

    Attributes:
        jobs: Columns of the jobs, [B, J]; `count`, `start_hour`, `origin` [B].
        state: What the kernels change; see `kernels.state.State`.
        view: What the agents see; see `kernels.observe.View`.
        peers: Names behind the column `home`.
    """

    def __init__(self, site: SiteModel, batch: int, own: int, entity: int, device: str) -> None:
        self.site, self.batch, self.device = site, batch, device
        self.capacity = 0
        self.peers: list[str] = []
        clusters = len(site.clusters)
        self.model = self._static()
        self.jobs = {
            "count": self._new(_I32), "start_hour": self._new(_I32), "origin": self._new(_F64),
            **{name: self._new(_I64 if name in ("id", "home") else _F64, 0) for name in _JOB_COLUMNS},
            "processors": self._new(_I32, 0),
        }  # fmt: skip
        one, pair, slots = (), (clusters,), (clusters, site.widest)
        self.state = {
            "now": self._new(_F64, *one), "arrived": self._new(_I32), "queued": self._new(_I32),
            "queue": self._new(_I32, 0), "start": self._new(_F64, 0), "cluster": self._new(_I32, 0),
            "rank": self._new(_I32, 0), "starts": self._new(_I32),
            "running": self._new(_I32, *slots), "running_until": self._new(_F64, *slots),
            "running_end": self._new(_F64, *slots), "running_count": self._new(_I32, *pair),
            "free": self._new(_I32, *pair), "stage": self._new(_I32, *pair), "head": self._new(_I32, *pair),
            "shadow": self._new(_F64, *pair), "extra": self._new(_I32, *pair), "undecided": self._new(_I32, *pair),
            "pick": self._new(_I32, *pair), "deferred": self._new(_I32), "terminated": self._new(_I32),
            "truncated": self._new(_I32), "limit": self._new(_F64), "flag": self._new(_I32),
            "decisions": self._new(_I32), "total": self._new(_F64, clusters, PARTS),
        }  # fmt: skip
        self.view = {
            "own": self._new(torch.float32, clusters, own),
            "entities": self._new(torch.float32, clusters, VISIBLE_JOBS, entity),
            "entity_mask": self._new(torch.bool, clusters, VISIBLE_JOBS),
            "action_mask": self._new(torch.bool, clusters, VISIBLE_JOBS + 1),
            "active": self._new(torch.bool, clusters), "alive": self._new(torch.bool, clusters),
            "shown": self._new(_I32, clusters),
        }  # fmt: skip
        self._bound: tuple[object, object, object, object] | None = None

    def grow(self, jobs: int) -> None:
        """Makes room for that many job rows in every world, keeping what is there."""
        if jobs <= self.capacity:
            return
        self.capacity = jobs
        for table in (self.jobs, self.state):
            for name in table.keys() & set(_PER_JOB):
                old = table[name]
                table[name] = self._new(old.dtype, jobs)
                table[name][:, : old.shape[1]] = old
        self._bound = None

    def load(self, row: int, window: Window, limit_s: float) -> None:
        """Puts a window's jobs into a row and everything else of the row back to the start."""
        jobs, state, n = self.jobs, self.state, len(window.jobs)
        columns = {
            "submit": window.jobs.submit_s, "run": window.jobs.run_s, "estimate": window.jobs.estimate_s,
            "first_submit": window.jobs.submit_s, "processors": window.jobs.processors, "id": window.jobs.id,
        }  # fmt: skip
        for name, values in columns.items():
            jobs[name][row, :n] = torch.as_tensor(values).to(jobs[name])
        jobs["home"][row] = OWN_JOB
        jobs["count"][row], jobs["start_hour"][row], jobs["origin"][row] = n, window.start_hour, window.origin_s
        for name, tensor in state.items():
            if name != "free":
                tensor[row] = 0
        state["free"][row] = self.model["processors"]
        state["start"][row] = float("nan")
        state["cluster"][row] = -1
        state["head"][row] = -1
        last_s = float(window.jobs.submit_s[-1]) if n else 0.0
        state["limit"][row] = min(limit_s, last_s + LONGEST_DEFERRAL_S) if self.site.deferral else limit_s

    def structs(self) -> tuple[object, object, object]:
        """The kernels' structs over these arrays."""
        model, jobs, state, _view = self._bind()
        return model, jobs, state

    def view_struct(self) -> object:
        """The kernels' struct over the view."""
        return self._bind()[3]

    def copy(self) -> dict[str, npt.NDArray[Any]]:
        """Host copies of jobs and state, by `table.name`."""
        tables = {"jobs": self.jobs, "state": self.state}
        return {
            f"{t}.{name}": tensor.cpu().numpy().copy() for t, table in tables.items() for name, tensor in table.items()
        }

    def paste(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Puts host copies back."""
        self.grow(arrays["jobs.submit"].shape[1])
        for t, table in (("jobs", self.jobs), ("state", self.state)):
            for name, tensor in table.items():
                saved = torch.as_tensor(arrays[f"{t}.{name}"])
                if name in _PER_JOB:
                    tensor[:, : saved.shape[1]] = saved.to(tensor)
                else:
                    tensor.copy_(saved)

    def _new(self, dtype: torch.dtype, *shape: int) -> torch.Tensor:
        return torch.zeros((self.batch, *shape), dtype=dtype, device=self.device)

    def _static(self) -> dict[str, torch.Tensor]:
        clusters = self.site.clusters
        columns = {name: [getattr(k, name) for k in clusters] for name in ("speed", "idle_w", "busy_w", "pue")}
        model = {name: torch.tensor(values, dtype=_F64, device=self.device) for name, values in columns.items()}
        model["processors"] = torch.tensor([k.processors for k in clusters], dtype=_I32, device=self.device)
        model["carbon"] = _prefix(self.site.carbon_g_per_kwh, self.device)
        model["price"] = _prefix(self.site.price_per_kwh, self.device)
        return model

    def _bind(self) -> tuple[object, object, object, object]:
        if self._bound is None:
            scalars = {
                "carbon_hours": len(self.site.carbon_g_per_kwh), "price_hours": len(self.site.price_per_kwh),
                "all_processors": sum(cluster.processors for cluster in self.site.clusters),
                "deferral": int(self.site.deferral),
            }  # fmt: skip
            self._bound = (
                bind(Model, {**self.model, **scalars}), bind(Jobs, self.jobs),
                bind(State, self.state), bind(View, self.view),
            )  # fmt: skip
        return self._bound
