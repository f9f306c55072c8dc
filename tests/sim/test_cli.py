"""The command line: what it prints, its exit codes, and that it starts without the heavy packages."""

import csv
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedsched.sim import cli, doctor, evaluate
from fedsched.sim.domains.datacenter.figures import FIGURES
from fedsched.sim.errors import UserError
from fedsched.sim.folder import make_folder, read_run
from fedsched.sim.progress import PlainProgress, Progress
from fedsched.sim.record import Recorder
from fedsched.sim.scenario import Scenario, load_scenario, shipped
from fedsched.sim.table import SENT, with_totals


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Scenario, Path | None, Path | None]]:
    """Stands in for the run loop: records what it is asked for; `plays` holds what a run does."""
    calls: list[tuple[Scenario, Path | None, Path | None]] = []

    def run(scenario: Scenario, folder: Path | None, resume: Path | None, progress: Progress) -> Path:
        calls.append((scenario, folder, resume))
        progress.begin("rounds", 1)
        place = resume or make_folder(scenario, folder)
        with Recorder(place, scenario, resume=resume is not None) as recorder:
            recorder.checkpoint(1, {}, {})
            if scenario.seed == 130:
                raise KeyboardInterrupt
            if scenario.seed == 15:
                os.kill(os.getpid(), signal.SIGTERM)
            if scenario.seed == 3:
                raise ZeroDivisionError("too small")
            if scenario.seed == 2:
                raise UserError("mend the log")
            for actor, wait_s in (("best-rule", 3600.0), ("policy", 1800.0 + 360.0 * scenario.seed)):
                figures = dict.fromkeys(FIGURES.names, 2.0) | {"wait_s": wait_s}
                recorder.event("operated", actor=actor, sites={"north": {"actor": "saf-easy", **figures}}, traffic={})
        progress.step("rounds", "all well")
        return place

    module = types.ModuleType("fedsched.sim.run")
    vars(module)["run"] = run
    monkeypatch.setitem(sys.modules, "fedsched.sim.run", module)
    return calls


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, fedsched.sim.cli as c\n"
        "sys.argv = ['fedsched', '--help']\n"
        "try: c.main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print([n for n in ('torch', 'ray', 'flwr', 'warp', 'pyarrow', 'pydantic', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Train, federate, settle, evaluate" in done.stdout
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize(
    "command", [(), ("demo",), ("run",), ("evaluate",), ("export",), ("scenarios",), ("scenarios", "show")]
)
def test_help_reads_well_in_80_columns(command: tuple[str, ...]) -> None:
    text = CliRunner().invoke(cli.app, [*command, "--help"], terminal_width=80).stdout
    assert "--help" in text
    assert "..." not in text.replace("[ARGS]...", "")
    assert "\\" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_mistake_in_a_scenario_imports_nothing_heavy_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "fedsched.sim.cli", "run", "demo", "--set", "seeed=1"]
    code = f"import sys; sys.argv = {command[4:]!r}; from fedsched.sim.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "pydantic" in imported
    assert not imported & {"torch", "ray", "flwr", "warp"}
    assert "unknown key 'seeed' (did you mean 'seed'?)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "nowhere.yaml"),
        ("run", "demo", "--set", "federation.rounds=-1"),
        ("run", "demo", "--grid", "learning=locl"),
        ("run", "demo", "--seeds", "x"),
        ("run", "--resume", "nowhere"),
        ("run", "demo", "--resume", "nowhere"),
        ("run", "demo", "--workers", "cloud"),
        ("evaluate", "nowhere"),
        ("export", "nowhere", "--policy"),
        ("scenarios", "show", "nowhere"),
        ("scenarios", "show", "demo", "--set", "seed=1"),
        ("nothing",),
    ],
)
def test_mistakes_end_with_2_and_one_message(arguments: tuple[str, ...], played: list[object], tmp_path: Path) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr
    assert not result.stdout
    assert not played
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback() -> None:
    result = call("--debug", "run", "nowhere.yaml")
    assert result.exit_code == 2
    # the traceback goes to the real standard error; the message is there too
    assert "no such file" in result.stderr


def test_a_run_gets_a_folder_and_prints_it(
    played: list[tuple[Scenario, Path | None, Path | None]], tmp_path: Path
) -> None:
    result = call("run", "demo", "--set", "federation.rounds=1", "--workers", "ray", "--out", "here/there")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "Run folder: here/there"
    assert result.stdout.count("Run folder") == 1
    assert "  learned        2.00    0.50" in result.stdout
    [(scenario, folder, resume)] = played
    assert (scenario.federation.rounds, scenario.workers.chosen) == (1, "ray")
    assert (folder, resume) == (Path("here/there"), None)
    assert read_run(tmp_path / "here/there").status == "done"
    again = call("run", "demo", "--out", "here/there")
    assert again.exit_code == 2
    assert "here/there: exists already" in again.stderr
    assert "--resume here/there" in again.stderr
    assert "--resume" not in call("run", "demo", "--out", "here").stderr
    Path("plain").write_text("mine")
    assert call("run", "demo", "--out", "plain").stderr == "plain: is a file; choose another --out\n"
    assert len(played) == 1


def test_every_seed_and_grid_point_gets_a_folder_of_its_own(
    played: list[tuple[Scenario, Path | None, Path | None]],
) -> None:
    result = call("run", "demo", "--seeds", "0-1", "--grid", "learning=federated,local", "--out", "all")
    assert result.exit_code == 0, result.output
    folders = [Path(line.rpartition("; ")[2]) for line in result.stdout.splitlines()[:4]]
    assert [(read_run(f).scenario.learning, read_run(f).scenario.seed) for f in folders] == [
        ("federated", 0),
        ("federated", 1),
        ("local", 0),
        ("local", 1),
    ]
    assert all(folder.parent == Path("all") for folder in folders)
    assert len(set(folders)) == 4 == len(played)
    assert ["-demo-learning-local-s1-" in folder.name for folder in folders] == [False, False, False, True]
    heads = [line for line in result.stderr.splitlines() if line.startswith("run ")]
    assert heads[3] == "run 4/4: learning=local, seed 1"
    table = [line.split() for line in result.stdout.splitlines()[-4:]]
    assert table[1] == ["learning=federated,", "seed", "1", "2.00", "0.60", "1.000", "0.600"]
    assert table[2] == ["learning=local,", "seed", "0", "2.00", "0.50", "1.000", "0.500"]


def test_without_out_runs_lie_in_runs(played: list[object]) -> None:
    folder = Path(call("run", "demo").stdout.rpartition("Run folder: ")[2].strip())
    assert folder.parent == Path("runs")
    assert "-demo-s0-" in folder.name
    assert len(played) == 1


@pytest.mark.parametrize(
    ("seed", "code", "status", "messages"),
    [
        (2, 2, "failed", ["mend the log"]),
        (3, 3, "failed", ["failed: ZeroDivisionError: too small", "out/log.txt says more", "--resume out"]),
        (130, 130, "interrupted", ["interrupted", "continue with: fedsched run --resume out"]),
    ],
)
def test_exit_codes_of_runs_that_do_not_end_well(
    seed: int, code: int, status: str, messages: list[str], played: list[object]
) -> None:
    result = call("run", "demo", "--seeds", str(seed), "--out", "out")
    assert result.exit_code == code
    assert ("log.txt" in result.stderr) is (seed == 3)
    assert all(message in result.stderr for message in messages), result.stderr
    assert "Traceback" not in result.stderr
    assert read_run(Path("out")).status == status
    assert len(played) == 1


def test_a_terminated_run_is_interrupted_too(played: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["fedsched", "run", "demo", "--seeds", "15", "--out", "out"])
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 130
    assert (read_run(Path("out")).status, read_run(Path("out")).reason) == ("interrupted", "stopped by SIGTERM")
    assert len(played) == 1


def test_resume_continues_the_scenario_of_the_folder(
    played: list[tuple[Scenario, Path | None, Path | None]],
) -> None:
    call("run", "demo", "--seeds", "130", "--out", "out")
    result = call("run", "--resume", "out")
    assert result.exit_code == 130
    assert played[1] == (load_scenario("demo", ["seed=130"]), None, Path("out"))


def test_evaluate_prints_a_table_and_writes_every_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[Path, Scenario | None, str]] = []

    def evaluate_run(
        folder: Path, scenario: Scenario | None, _progress: Progress, simulator: str
    ) -> evaluate.Evaluated:
        seen.append((folder, scenario, simulator))
        rows = [("north", 29.65812, 30.0), ("south", 3.0, 10.0)]
        known = dict.fromkeys(FIGURES.names, 1.0)
        found = [
            {"site": site, "actor": "policy", "rule": "policy", **known, "bounded_slowdown": value, "jobs": jobs}
            | dict(zip(SENT, (3, 40, 190_000), strict=True))
            for site, value, jobs in rows
        ]
        return evaluate.Evaluated(with_totals(found, FIGURES), FIGURES)

    monkeypatch.setattr(evaluate, "evaluate_run", evaluate_run)
    folder = make_folder(load_scenario("demo"), tmp_path / "run")
    with Recorder(folder, load_scenario("demo")):
        pass
    files = ("--json", "all.json", "--csv", "all.csv")
    result = call("evaluate", str(folder), "--scenario", "datacenter_protocol", *files)
    assert result.exit_code == 0, result.output
    assert seen == [(folder, load_scenario("datacenter_protocol"), "own")]
    assert "  learned     29.66" in result.stdout
    assert result.stdout.endswith("\n\nMessages of the policy's agents: 6 of 80 possible, 0.38 MB\n")
    rows = json.loads(Path("all.json").read_bytes())
    assert [row["site"] for row in rows] == ["north", "south", ""]
    assert rows[2]["bounded_slowdown"] == pytest.approx((29.65812 * 30 + 3 * 10) / 40)
    lines = list(csv.DictReader(Path("all.csv").read_text().splitlines()))
    assert [float(line["bounded_slowdown"]) for line in lines] == [row["bounded_slowdown"] for row in rows]
    assert call("evaluate", str(folder), "--csv", "no/where.csv").exit_code == 2


def test_the_demo_is_a_run_of_the_scenario_demo(played: list[tuple[Scenario, Path | None, Path | None]]) -> None:
    result = call("demo", "--out", "shown")
    assert result.stdout.splitlines()[-1] == "Run folder: shown"
    assert played == [(load_scenario("demo"), Path("shown"), None)]


def test_scenarios_are_listed_and_shown() -> None:
    listed = call("scenarios").stdout
    assert all(name in listed for name in shipped())
    assert call("scenarios", "show", "demo").stdout == shipped()["demo"]
    everything = call("scenarios", "show", "demo", "--all", "--set", "seed=9").stdout
    Path("all.yaml").write_text(everything)
    assert load_scenario("all.yaml") == load_scenario("demo", ["seed=9"])


def test_schema_is_json() -> None:
    assert json.loads(call("schema").stdout)["title"] == "Scenario"


def test_version() -> None:
    assert call("--version").stdout.startswith("fedsched ")


def test_doctor_finds_this_environment_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDSCHED_DATA", raising=False)
    cli.silence()
    result = call("doctor")
    assert result.exit_code == 0, result.stdout
    assert "devices seen by warp" in result.stdout
    assert "fedsched.agents" in result.stdout


def test_doctor_says_what_is_amiss_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cli.silence()
    monkeypatch.setenv("FEDSCHED_DATA", str(tmp_path))
    monkeypatch.setenv("FEDSCHED_MAPS", str(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    remedies = {finding.subject: finding.remedy for finding in doctor.examine() if finding.remedy}
    assert "SDSC-SP2-1998-4.2-cln.swf.gz" in remedies["FEDSCHED_DATA"]
    assert remedies["RESCO maps"] == "correct FEDSCHED_MAPS, or unset it"
    assert remedies["RAY_USAGE_STATS_ENABLED"] == "set RAY_USAGE_STATS_ENABLED=0"
    monkeypatch.setattr(doctor, "versions", lambda: {"torch": None})
    assert "make setup" in next(finding.remedy for finding in doctor.examine() if finding.subject == "torch")
    assert call("doctor").exit_code == 1


def test_plain_progress_writes_one_line_per_step(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        progress = PlainProgress(stream)
        progress.begin("rounds", 2)
        progress.step("rounds", "wait x0.98")
        progress.step("rounds")
        progress.say("done")
        stream.seek(0)
        lines = [line.partition("] ")[2] for line in stream.read().splitlines()]
    assert lines == ["rounds 0/2", "rounds 1/2 wait x0.98", "rounds 2/2", "done"]
