"""The wheel: every module and data file of the rooms under `fedsched`, and nothing else; requirements without hosts."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agents", "federation", "envs", "consensus", "sim")


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


def test_wheel_holds_exactly_the_tracked_files_of_the_rooms(tmp_path: Path, tracked: list[str]) -> None:
    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"fedsched/{name}" for name in tracked if name.split("/")[0] in ROOMS}
    expected |= {name for name in tracked if name.startswith("fedsched/")}
    assert inside == expected


def test_requirements_name_versions_and_no_hosts() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._\-\[\]]+==[A-Za-z0-9.]+( ;.*)?", line) for line in lines), lines
    assert "torch==2.13.0" in lines


def test_benchmarks_write_beside_the_tracked_results_unless_they_are_told() -> None:
    command = [sys.executable, "-m", "benchmarks.startup", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "runs/benchmarks/startup.json" in text
    assert "runs/" in (ROOT / ".gitignore").read_text().splitlines()
