"""RESCO's maps: found in a folder or in the package sumo-rl, and never shipped."""

import gzip
import hashlib
import os
import sys
from pathlib import Path

import pytest

from fedsched.envs.intersections.env import parallel_env
from fedsched.envs.intersections.maps import CONTROLLED, NAMES, resco_maps, resco_problem
from fedsched.envs.intersections.network import IntersectionsError

SCENE = Path(__file__).parent / "scenes" / "spillback"


def lay_out(folder: Path, *names: str) -> Path:
    """Folders as RESCO has them, with the streets of a scene."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "a.net.xml.gz").write_bytes((SCENE / "net.xml.gz").read_bytes())
        (folder / name / "a.rou.xml").write_bytes((SCENE / "rou.xml").read_bytes())
        (folder / name / f"{name}.sumocfg").write_text(
            '<configuration><input><net-file value="a.net.xml.gz"/><route-files value="a.rou.xml"/></input>'
            '<time><begin value="0"/><end value="120"/></time></configuration>'
        )
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package sumo-rl with two maps that cannot be imported."""
    monkeypatch.delenv("FEDSCHED_MAPS", raising=False)
    info = tmp_path / "sumo_rl-1.4.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sumo-rl\nVersion: 1.4.5\n")
    lay_out(tmp_path / "sumo_rl" / "nets" / "RESCO", "grid4x4", "ingolstadt7")
    (tmp_path / "sumo_rl" / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("package")
def test_maps_of_the_package_are_read_without_importing_it() -> None:
    found = resco_maps()
    assert list(found) == ["grid4x4", "ingolstadt7"]
    assert found["grid4x4"].source == "sumo-rl 1.4.5"
    assert found["grid4x4"].note == ""
    assert "commented out" in found["ingolstadt7"].note
    problem = resco_problem("grid4x4")
    assert (problem.name, problem.begin_s, problem.end_s) == ("grid4x4", 0.0, 120.0)
    assert problem.network.digest == found["grid4x4"].digests["a.net.xml.gz"]
    assert parallel_env("grid4x4").possible_agents == [signal.id for signal in problem.signals]
    assert "sumo_rl" not in sys.modules
    there = r"^cologne1 is not among the maps of sumo-rl 1\.4\.5, which has grid4x4, ingolstadt7$"
    with pytest.raises(IntersectionsError, match=there):
        resco_problem("cologne1")


@pytest.mark.usefixtures("package")
def test_a_folder_goes_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path / "named", "cologne1", "ingolstadt7")
    lay_out(tmp_path / "given", "cologne3")
    monkeypatch.setenv("FEDSCHED_MAPS", str(tmp_path / "named"))
    named = resco_maps()
    assert list(named) == ["cologne1", "ingolstadt7"]
    assert named["ingolstadt7"].note == ""
    assert list(resco_maps(tmp_path / "given")) == ["cologne3"]
    unpacked = gzip.decompress((SCENE / "net.xml.gz").read_bytes())
    assert named["cologne1"].digests["a.net.xml.gz"] == hashlib.sha256(unpacked).hexdigest()


def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDSCHED_MAPS", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(IntersectionsError, match=r"pip install 'fedsched\[maps\]', or set FEDSCHED_MAPS") as caught:
        resco_maps()
    assert "\n" not in str(caught.value)
    with pytest.raises(IntersectionsError, match=r"no map 'paris'; there are arterial4x4, cologne1"):
        resco_problem("paris")
    with pytest.raises(IntersectionsError, match="no such folder"):
        resco_maps(tmp_path / "nothing")
    with pytest.raises(IntersectionsError, match=r"holds no map; expected cologne1/cologne1\.sumocfg"):
        resco_maps(tmp_path)
    twice = lay_out(tmp_path / "twice", "grid4x4")
    (twice / "grid4x4" / "other.sumocfg").write_text("<configuration/>")
    with pytest.raises(IntersectionsError, match="2 configurations; leave one"):
        resco_maps(twice)


@pytest.mark.skipif("FEDSCHED_MAPS" not in os.environ, reason="FEDSCHED_MAPS names no folder of maps")
def test_real_maps_have_the_hours_and_signals_of_resco() -> None:
    hours = {"cologne": (25200.0, 28800.0), "ingolstadt": (57600.0, 61200.0)}
    found = resco_maps()
    assert set(found) <= set(NAMES)
    for name in set(found) - {"ingolstadt21"}:
        problem = resco_problem(name)
        assert (problem.begin_s, problem.end_s) == hours.get(name.rstrip("0123456789"), (0.0, 3600.0))
    if "ingolstadt21" in found:
        assert tuple(s.id for s in resco_problem("ingolstadt21").signals) == CONTROLLED["ingolstadt21"]
