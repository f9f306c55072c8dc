"""Logs and clusters that cannot run end before anything is written, told at their places in the scenario."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsched.sim import cli

HEADER = "; MaxProcs: 24\n"
JOB = "{n} {submit} 0 {run} {width} -1 -1 {width} {run} -1 1 1 1 1 1 -1 -1 -1\n"
ONE = """version: 1
name: one
sites:
  only:
    world: {domain: datacenter, trace: TRACE, clusters: [{processors: 24}], window: {jobs: 60}}
federation: {rounds: 1}
"""


def swf(*jobs: tuple[int, int, int]) -> str:
    lines = [JOB.format(n=k + 1, submit=s, run=r, width=w) for k, (s, r, w) in enumerate(jobs)]
    return HEADER + "".join(lines)


def check_refusal(message: str, folder: Path) -> None:
    before = sorted(path.name for path in folder.iterdir())
    result = CliRunner().invoke(cli.app, ["run", "one.yaml", "--out", "out"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr.replace("\n", " ")
    assert "one.yaml:5:40: sites.only.world.trace: " in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (swf((0, 5, 1)) + "2 5 0 3\n", "log.swf:3: a job needs 18 fields, this line has 4"),
        (swf((0, 5, 1), (-4, 5, 1)), "log.swf:3: job 2 is submitted at a negative time"),
        (swf((0, 5, 1), (9, 5, 48)), "log.swf:3: job 2 is wider than the machine of 24 processors"),
        (swf((10, 5, 1), (9, 5, 1)), "log.swf:3: job 2 is submitted at 9 s, before job 1 of line 2 (10 s)"),
        (swf((0, 0, 1)), "log.swf: every job has run time 0"),
        (HEADER, "log.swf: the log holds no job"),
        (swf(*[(k, 5, 1) for k in range(9)]), "no window of 60 jobs starts at job"),
    ],
)
def test_a_log_that_cannot_be_used_ends_with_2_and_leaves_nothing_behind(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.swf").write_text(text)
    (tmp_path / "one.yaml").write_text(ONE.replace("TRACE", "log.swf"))
    check_refusal(message, tmp_path)


def test_a_training_period_that_no_draw_meets_before_the_middle_of_the_run_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs come all day but at five; the first period that is drawn has some."""
    monkeypatch.chdir(tmp_path)
    hours = [hour for hour in range(24 * 60) if hour % 24 != 5]
    (tmp_path / "log.swf").write_text(swf(*[(3600 * hour + 60 * k, 5, 1) for hour in hours for k in range(3)]))
    text = ONE.replace("TRACE", "log.swf").replace("{jobs: 60}", "{duration: 1h}")
    (tmp_path / "one.yaml").write_text(text + "evaluation: {windows: 1, validation: 2, period: 6h}\n")
    check_refusal("log, train period at 5:00: empty window: the train split has", tmp_path)


def test_a_log_that_is_not_shipped_ends_with_2_and_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDSCHED_DATA", raising=False)
    (tmp_path / "one.yaml").write_text(ONE.replace("TRACE", "sdsc-sp2"))
    check_refusal("log 'sdsc-sp2' is not shipped: get SDSC-SP2-1998-4.2-cln.swf.gz", tmp_path)


def test_jobs_wider_than_every_cluster_end_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.yaml").write_text(ONE.replace("TRACE", "lublin-1"))
    check_refusal("jobs are wider than the widest cluster (24 processors)", tmp_path)


def test_all_logs_are_read_and_all_their_errors_told_at_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDSCHED_DATA", raising=False)
    (tmp_path / "log.swf").write_text(swf((0, 5, 1), (-4, 5, 1)))
    world = "domain: datacenter, clusters: [{processors: 24}], window: {jobs: 60}"
    (tmp_path / "two.yaml").write_text(
        f"version: 1\nname: two\nsites:\n  a: {{world: {{{world}, trace: log.swf}}}}\n"
        f"  b: {{world: {{{world}, trace: lublin-1, too_wide: drop}}}}\n"
        f"  c: {{world: {{{world}, trace: generated, generator: {{processors: 64}}}}}}\n"
    )
    result = CliRunner().invoke(cli.app, ["run", "two.yaml", "--grid", "learning=local", "--set", "seed=1"])
    assert result.exit_code == 2
    lines = [line.partition(": ") for line in result.stderr.splitlines() if ": sites." in line]
    column = len(f"  a: {{world: {{{world}, trace: ")
    assert [line[0] for line in lines] == [f"two.yaml:4:{column + 1}", f"two.yaml:6:{column + 23}"]
    assert "log.swf:3: job 2 is submitted at a negative time" in lines[0][2]
    assert "sites.c.world.generator: generator.processors: 64 make jobs" in lines[1][2]
    assert "2 problems in two.yaml" in result.stderr
    result = CliRunner().invoke(cli.app, ["run", "two.yaml", "--grid", "sites.b.world.trace=sdsc-sp2"])
    assert "--grid sites.b.world.trace=sdsc-sp2: sites.b.world.trace: log 'sdsc-sp2' is not" in result.stderr
