"""What a schedule is worth: the field's usual figures from start times, and the integrals the kernels kept."""

import torch

from fedsched.envs.datacenter.arrays import OWN_JOB, Arrays
from fedsched.envs.datacenter.kernels.state import GIVEN
from fedsched.envs.datacenter.model import SiteModel

NAMES = (
    "bounded_slowdown", "wait_s", "max_wait_s", "p99_wait_s", "utilization", "utilization_published", "energy_kwh",
    "carbon_kg", "cost", "jobs", "started", "decisions", "makespan_s",
)  # fmt: skip

SHORTEST_RUN_S = 10.0
"""Bound of the bounded slowdown (Feitelson and Rudolph, 1998)."""


def bounded_slowdown(wait_s: torch.Tensor, run_s: torch.Tensor) -> torch.Tensor:
    """max(1, (wait + run) / max(run, 10 s)), elementwise."""
    return ((wait_s + run_s) / run_s.clamp(min=SHORTEST_RUN_S)).clamp(min=1.0)


def of_arrays(arrays: Arrays, site: SiteModel) -> dict[str, torch.Tensor]:
    """The figures of `NAMES` for every row, float64 [B].

    Jobs submitted here that have arrived and run here count; one that still waits counts with its wait so far. Jobs of
    peers and jobs given away are settled between sites. Utilisation is taken from the first submission to the last
    end; the published one to the last start (docs/datacenter.md).
    """
    jobs, state = arrays.jobs, arrays.state
    speed = arrays.model["speed"]
    place = torch.arange(arrays.capacity, device=arrays.device)
    here = (place < state["arrived"][:, None]) & (state["cluster"] != GIVEN)
    started = here & ~state["start"].isnan()
    begin = torch.where(started, state["start"], state["now"][:, None])
    run = jobs["run"] / speed[state["cluster"].clamp(min=0).long()]
    counted = here & (jobs["home"] == OWN_JOB)
    wait = torch.where(counted, begin - jobs["first_submit"], torch.nan)
    slowdown = torch.where(counted, bounded_slowdown(wait, run), torch.nan)
    work = torch.where(started, run * jobs["processors"], 0.0).sum(1)
    last_start = torch.where(started, begin, 0.0).amax(1)
    last_end = torch.where(started, begin + run, 0.0).amax(1)
    first = torch.where(here, jobs["submit"], torch.inf).amin(1)
    whole = float(sum(cluster.processors for cluster in site.clusters))
    totals = state["total"].sum(1)
    return {
        "bounded_slowdown": slowdown.nanmean(1),
        "wait_s": wait.nanmean(1),
        "max_wait_s": wait.nan_to_num(0.0).amax(1),
        "p99_wait_s": wait.nanquantile(0.99, dim=1),
        "utilization": work / ((last_end - first) * whole),
        "utilization_published": work / ((last_start - first) * whole),
        "energy_kwh": -totals[:, 3],
        "carbon_kg": -totals[:, 4],
        "cost": -totals[:, 5],
        "jobs": counted.sum(1).double(),
        "started": (started & counted).sum(1).double(),
        "decisions": state["decisions"].double(),
        "makespan_s": last_end - first,
    }
