"""The arrows of docs/architecture.md: which room may import what, and the lazy start of the command line."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agents", "federation", "envs", "consensus", "sim")
HEAVY = frozenset({"torch", "flwr", "ray", "warp", "pettingzoo", "gymnasium"})
# room -> (rooms it may import, heavy or outside packages it may import)
ARROWS = {
    "envs": (frozenset({"envs"}), frozenset({"torch", "warp", "pettingzoo", "gymnasium"})),
    "agents": (frozenset({"agents", "envs"}), frozenset({"torch", "torch_geometric"})),
    "federation": (frozenset({"federation"}), frozenset({"flwr"})),
    "consensus": (frozenset({"consensus"}), frozenset()),
    "sim": (frozenset(ROOMS), HEAVY),
}


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything a file imports; relative imports are resolved against its place."""
    package = ["fedsched", *path.relative_to(ROOT).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names.add(stem)
            names.update(f"{stem}.{alias.name}" for alias in node.names)
    return names


def is_domain(parts: list[str]) -> bool:
    """Whether a dotted name lies in one domain of `envs` (agents know `envs.core` only)."""
    return (
        parts[:2] == ["fedsched", "envs"]
        and len(parts) > 2
        and (ROOT / "envs" / parts[2]).is_dir()
        and parts[2] != "core"
    )


def forbidden(room: str, path: Path) -> list[str]:
    """The imports of one file that its room may not have."""
    rooms, packages = ARROWS[room]
    wrong = []
    for name in imported_modules(path):
        parts = name.split(".")
        if (
            (parts[0] == "fedsched" and len(parts) > 1 and parts[1] in ROOMS and parts[1] not in rooms)
            or parts[0] in HEAVY - packages
            or (room == "agents" and is_domain(parts))
        ):
            wrong.append(name)
    if room == "sim":
        own = path.relative_to(ROOT / "sim").parts[:2]
        wrong += [n for n in imported_modules(path) if is_domain(n.split(".")) and own != ("domains", n.split(".")[2])]
    if room == "envs" and path.relative_to(ROOT / "envs").parts[0] == "core":
        domains = {p.name for p in (ROOT / "envs").iterdir() if p.is_dir()} - {"core", "__pycache__"}
        wrong += [n for n in imported_modules(path) if n.startswith("fedsched.envs.") and n.split(".")[2] in domains]
    return wrong


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_along_the_arrows(room: str) -> None:
    wrong = {str(p.relative_to(ROOT)): bad for p in (ROOT / room).rglob("*.py") if (bad := forbidden(room, p))}
    assert not wrong


def test_arrows_catch_a_wrong_import() -> None:
    probe = ROOT / "agents" / "probe.py"
    names = {"torch": False, "flwr": True, "fedsched.envs.core.world": False, "fedsched.envs.datacenter.world": True}
    for name, wrong in names.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[__name__], "imported_modules", lambda _path, name=name: {name})
            assert bool(forbidden("agents", probe)) is wrong, name


def test_only_the_part_of_sim_for_a_domain_knows_it() -> None:
    domain = "fedsched.envs.datacenter.world"
    for place, wrong in (("run.py", True), ("domains/intersections/site.py", True), ("domains/datacenter/x.py", False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[__name__], "imported_modules", lambda _path: {domain})
            assert bool(forbidden("sim", ROOT / "sim" / place)) is wrong, place


def test_no_room_is_imported_under_its_bare_name() -> None:
    code = (
        "import sys, pkgutil, importlib, fedsched\n"
        "import fedsched.agents, fedsched.federation, fedsched.envs, fedsched.consensus, fedsched.sim\n"
        f"print([n for n in {ROOMS!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def test_exported_policies_are_used_without_any_room() -> None:
    names = {name.split(".")[0] for name in imported_modules(ROOT / "fedsched" / "exported.py")}
    assert names == {"collections", "dataclasses", "importlib", "json", "math", "numpy", "pathlib", "typing"}
