"""Whole runs: what the folder holds, resuming, equal seeds."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsched.consensus import load_record
from fedsched.envs.datacenter.trace import load
from fedsched.sim.errors import UserError
from fedsched.sim.folder import read_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.run import run
from fedsched.sim.scenario import Scenario
from fedsched.sim.site import Site


class Interrupting(PlainProgress):
    """Ctrl-C after some steps of a task."""

    def __init__(self, task: str, after: int) -> None:
        super().__init__(io.StringIO())
        self._task, self._left = task, after

    def step(self, task: str, note: str = "") -> None:
        super().step(task, note)
        self._left -= task == self._task
        if self._left == 0:
            raise KeyboardInterrupt


def quiet() -> PlainProgress:
    return PlainProgress(io.StringIO())


def figures(folder: Path) -> dict[str, Any]:
    """What was achieved, by actor; without certificates, which are of one run alone."""
    events = [event for event in read_run(folder).events if event["kind"] == "operated"]
    return {
        event["actor"]: (event["sites"], {k: v for k, v in event["traffic"].items() if k != "certificate"})
        for event in events
    }


def final_state(folder: Path) -> dict[str, Any]:
    checkpoint = read_run(folder).checkpoint()
    assert checkpoint is not None
    return {"shared": checkpoint.shared(), "sites": checkpoint.site_states()}


def assert_same(a: object, b: object, where: str = "state") -> None:
    """Nested plain data with arrays, bit by bit."""
    if isinstance(a, dict):
        assert isinstance(b, dict)
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key}]")
    elif isinstance(a, list | tuple):
        assert isinstance(b, list | tuple)
        assert len(a) == len(b), where
        for k, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{where}[{k}]")
    else:
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), where)


def assert_same_run(a: Path, b: Path) -> None:
    assert_same(final_state(a), final_state(b))
    assert figures(a) == figures(b)


# The folder


def test_the_folder_tells_the_run(finished: Path) -> None:
    told = read_run(finished)
    assert (told.status, told.reason) == ("done", "")
    kinds = [event["kind"] for event in told.events]
    assert [kind for kind in kinds if kind in ("validation", "round")] == [
        "validation", "round", "validation", "round", "validation",
    ]  # fmt: skip
    assert kinds.count("operated") == 5
    assert set(figures(finished)) == {"fcfs-easy", "best-rule", "policy", "best-rule+plan", "policy+plan"}
    rounds = [event for event in told.events if event["kind"] == "round"]
    for event in rounds:
        assert event["took_part"] == sorted(told.scenario.sites)
        assert event["left_out"] == {}
        assert all(size > 0 for size in (*event["bytes_up"].values(), *event["bytes_down"].values()))
    for event in (event for event in told.events if event["kind"] == "validation"):
        assert set(event["sites"]) == set(event["bytes_down"]) == set(told.scenario.sites)
        assert event["left_out"] == {}
    checkpoint = told.checkpoint()
    assert checkpoint is not None
    assert checkpoint.round == 2


def test_metrics_are_the_figures_of_the_events(finished: Path) -> None:
    rows = read_run(finished).metrics().to_pylist()

    def of(site: str, actor: str, name: str) -> list[float]:
        key = (site, actor, f"operate/{name}")
        return [row["value"] for row in rows if (row["site"], row["agent"], row["name"]) == key]

    for actor, (sites, _) in figures(finished).items():
        for site, by_name in sites.items():
            for name in ("wait_s", "energy_kwh", "bounded_slowdown"):
                values = of(site, actor, name)
                assert len(values) == 2
                weights = None if name == "energy_kwh" else of(site, actor, "jobs")
                assert np.average(values, weights=weights) == pytest.approx(by_name[name], rel=1e-12)


def test_every_plan_of_the_policy_is_there_and_its_certificate_holds(finished: Path) -> None:
    plans = read_run(finished).plans()
    # epochs of 3 h in a period of 12 h and as much drain, but no plan at the end
    assert set(plans) == {(row, epoch) for row in range(2) for epoch in range(7)}
    traffic = figures(finished)["policy+plan"][1]
    assert traffic["settlements"] == len(plans)
    moved = 0
    for plan in plans.values():
        assert plan.pop("occasion") == "test/policy+plan"
        record = load_record(plan)
        moved += sum(transfer.quantity for transfer in record.plan.transfers)
    assert moved == traffic["quantity"] > 0
    settled = [event for event in read_run(finished).events if event["kind"] == "settlement"]
    assert all(event["agreed"] and event["signatures"] >= 3 for event in settled)


def test_plans_move_work_but_neither_lose_nor_add_jobs(finished: Path) -> None:
    table = figures(finished)
    for sites, _ in table.values():
        assert {site: by_name["jobs"] for site, by_name in sites.items()} == {
            site: by_name["jobs"] for site, by_name in table["fcfs-easy"][0].items()
        }
    assert table["best-rule+plan"][1]["moved"] > 0
    assert table["best-rule"][1]["moved"] == 0


# Again, and on


def test_equal_seeds_give_equal_runs_and_others_do_not(
    finished: Path, tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    again = run(tiny(), tmp_path / "again", None, quiet())
    assert_same_run(finished, again)
    plans, twins = read_run(finished).plans(), read_run(again).plans()
    assert list(plans) == list(twins)
    for plan in (*plans.values(), *twins.values()):
        plan.pop("occasion")
    for one, other in ((load_record(plans[key]), load_record(twins[key])) for key in plans):
        assert one.plan.transfers == other.plan.transfers
        assert (one.plan.objective, one.plan.row, one.plan.epoch) == (
            other.plan.objective, other.plan.row, other.plan.epoch,
        )  # fmt: skip
        # but neither can pass for the other
        assert one.membership.federation != other.membership.federation
        assert not {key for _, key in one.membership.sites} & {key for _, key in other.membership.sites}
    other = run(tiny(seed=1, federation={"rounds": 1}, plan=None), tmp_path / "other", None, quiet())
    assert figures(other)["fcfs-easy"] != figures(finished)["fcfs-easy"]


@pytest.mark.parametrize(
    ("task", "after", "learning"),
    [
        ("rounds", 1, "federated"),
        ("evaluation", 1, "federated"),
        ("search", 1, "federated"),
        ("rounds", 1, "local"),
        ("rounds", 1, "central"),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_end(
    task: str, after: int, learning: str, finished: Path, tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    changes = {} if learning == "federated" else {"learning": learning, "plan": None}
    if task == "search":
        changes = {"agents": {"search": {"generations": 3, "population": 4, "windows": 2}}, "plan": None}
    scenario = tiny(**changes)
    whole = finished if not changes else run(scenario, tmp_path / "whole", None, quiet())
    folder = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        run(scenario, folder, None, Interrupting(task, after))
    assert read_run(folder).status == "interrupted"
    name = read_run(folder).record["id"]
    assert run(scenario, None, folder, quiet()) == folder
    assert read_run(folder).record["id"] == name != read_run(whole).record["id"]
    assert read_run(folder).status == "done"
    assert_same_run(whole, folder)
    assert [e["kind"] for e in read_run(folder).events] == [e["kind"] for e in read_run(whole).events]
    assert read_run(folder).metrics().num_rows == read_run(whole).metrics().num_rows


@pytest.mark.parametrize("rule", ["drop", "narrow"])
def test_jobs_that_are_too_wide_are_told_once_a_site(rule: str, tiny: Callable[..., Scenario], tmp_path: Path) -> None:
    world = {"trace": "hpc2n", "generator": None, "jobs": [1000, 5000], "too_wide": rule, "load": None}
    scenario = tiny(
        "north", "south", learning="local", sites={"north": {"world": world}}, evaluation={"windows": 1},
        federation={"rounds": 2},
    )  # fmt: skip
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(scenario, folder, None, Interrupting("rounds", 1))
    told = read_run(run(scenario, None, folder, quiet()))
    [event] = [event for event in told.events if event["kind"] == "too_wide"]
    jobs = load("hpc2n").jobs.take(slice(1000, 5000))
    wide = int((jobs.processors > 24).sum())
    assert wide > 0
    # the only test window is the first of the last 15 %
    test = int((jobs.processors[3400:3460] > 24).sum()) if rule == "drop" else 0
    known = {"site": "north", "trace": "hpc2n", "rule": rule, "jobs": wide, "of": 4000, "test": test}
    assert {name: event[name] for name in known} == known
    lines = (folder / "log.txt").read_text().splitlines()
    assert [f"north: {wide} of 4000 jobs of hpc2n are wider than every cluster" in line for line in lines] == [True]


def test_a_run_goes_on_without_the_judgement_of_a_site_that_fails(
    tiny: Callable[..., Scenario], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Site.evaluate

    def failing(site: Site, parameters: Any, config: Any) -> dict[str, float]:
        if site.name == "west":
            raise OSError("west is down")
        return evaluate(site, parameters, config)

    monkeypatch.setattr(Site, "evaluate", failing)
    search = {"generations": 2, "population": 4, "windows": 1}
    scenario = tiny(agents={"search": search}, federation={"rounds": 1}, plan=None)
    screen = io.StringIO()
    told = read_run(run(scenario, tmp_path / "run", None, PlainProgress(screen)))
    assert told.status == "done"
    for kind, count in (("search", 2), ("validation", 2)):
        events = [event for event in told.events if event["kind"] == kind]
        assert len(events) == count
        assert all("west is down" in event["left_out"]["west"] for event in events)
        assert all(event["bytes_down"]["west"] > event["bytes_up"]["west"] == 0 for event in events)
        assert all(event["bytes_up"]["north"] > 0 for event in events)
    assert "not judged: west" in screen.getvalue()


@pytest.mark.parametrize(("wait", "bound", "told"), [(1.06, None, True), (1.04, None, False), (1.06, 1.05, False)])
def test_a_policy_that_makes_jobs_wait_without_a_bound_is_told(
    wait: float, bound: float | None, told: bool, tiny: Callable[..., Scenario], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    figures = {"slowdown_ratio": 0.7, "wait_ratio": wait, "score": 0.7, "noise": 0.0}
    monkeypatch.setattr(Site, "evaluate", lambda *_: figures)
    constraints = {"wait": None if bound is None else {"at_most": bound}}
    scenario = tiny("north", "west", agents={"constraints": constraints}, federation={"rounds": 0})
    screen = io.StringIO()
    folder = run(scenario, tmp_path / "run", None, PlainProgress(screen))
    events = [event["sites"] for event in read_run(folder).events if event["kind"] == "long_waits"]
    assert events == ([{"north": wait, "west": wait}] if told else [])
    line = f"jobs wait longer than under the best rules (north x{wait}, west x{wait}); agents: {{constraints: {{wait:"
    assert (line in screen.getvalue()) is (line in (folder / "log.txt").read_text()) is told


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_on_ray_equals_the_one_in_this_process(
    finished: Path, tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    remote = run(tiny(workers={"backend": "ray", "cpus_per_site": 0.5}), tmp_path / "ray", None, quiet())
    assert_same_run(finished, remote)


# What cannot run


def test_a_folder_that_exists_is_left_alone(tiny: Callable[..., Scenario], tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(UserError, match="exists already; choose another --out"):
        run(tiny(), tmp_path, None, quiet())
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_finished_run_is_not_continued(finished: Path, tiny: Callable[..., Scenario]) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with pytest.raises(UserError, match="is done, there is nothing to continue"):
        run(tiny(), None, finished, quiet())
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
