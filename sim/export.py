"""A run's policy as files that answer without torch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from fedsched.agents.decisions import AgentError
from fedsched.agents.export import Checked, export_kind
from fedsched.agents.parameters import parameters_from_numpy
from fedsched.agents.recorded import record
from fedsched.sim.domains import domain_of
from fedsched.sim.errors import UserError
from fedsched.sim.files import replace_file
from fedsched.sim.folder import Run, read_run
from fedsched.sim.progress import Progress
from fedsched.sim.trained import trained_parameters
from fedsched.sim.training import Parameters, make_policy

NEEDED = ("onnx", "onnxruntime")
FOLDER = "export"
EPISODES = 8
"""Validation episodes that are played to compare."""
DECISIONS = 2000
"""Of each kind that are compared, at least, if there are so many."""


@dataclass(frozen=True)
class Written:
    """An exported file.

    Attributes:
        path: Where it is.
        size: In bytes.
        checked: How it compares with the policy.
    """

    path: Path
    size: int
    checked: Checked

    def line(self) -> str:
        """For people."""
        apart = ", ".join(f"{name} {far:.1e}" for name, far in self.checked.apart.items())
        rounded = f", {self.checked.rounded} numbers rounded otherwise" if self.checked.rounded else ""
        return (
            f"{self.path}: {self.size / 1024:.0f} KiB; {self.checked.decisions:,} decisions compared, "
            f"apart by at most: {apart}; {self.checked.ties} ties{rounded}"
        )


def export_run(folder: Path, site: str | None, out: Path | None, progress: Progress) -> list[Written]:
    """Writes a file for each kind of agent, and for each site where they have learned alone.

    Every file is compared with the policy on decisions in validation episodes; none is written unless all agree.

    Args:
        folder: A run folder.
        site: Whose policy, and where it is compared; by default the first site's or, where sites differ, every one's.
        out: Where the files go; by default `export` in the run folder.
        progress: Where to report.

    Raises:
        UserError: No policy yet, no such site, a policy that cannot be exported or would answer otherwise, packages
            that are missing, or files that cannot be written.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f'{", ".join(missing)}: not installed; pip install "fedsched[export]"')
    run = read_run(folder)
    parameters = trained_parameters(run)
    if site is not None and site not in parameters:
        raise UserError(f"{folder}: has no site {site!r}; its sites are {', '.join(parameters)}")
    alone = run.scenario.learning == "local"
    sites = [site] if site is not None else list(parameters)[: None if alone else 1]
    progress.begin("export", len(sites))
    models: dict[str, tuple[bytes, Checked]] = {}
    for name in sites:
        with _one_thread():
            found = _export_site(run, name, parameters[name])
        models |= {f"{name}-{kind}" if alone else kind: made for kind, made in found.items()}
        progress.step("export", name)
    return _write(out or folder / FOLDER, models)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small tensors take longer on many threads, and much longer where others want them too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _export_site(run: Run, site: str, parameters: Parameters) -> dict[str, tuple[bytes, Checked]]:
    """Models and how they compare, by kind."""
    worlds = domain_of(run.scenario).site(run.scenario, site)
    policy = make_policy(run.scenario, worlds.spec)
    episodes = worlds.draw("validation", EPISODES)
    made = {}
    try:
        parameters_from_numpy(policy, parameters)
        found = record(policy, worlds.world(len(episodes)), episodes.instances, episodes.seeds, DECISIONS)
        for kind in worlds.spec.kinds:
            exported = export_kind(policy, kind, found[kind.name], _facts(run, site))
            made[kind.name] = exported.model, exported.checked
    except AgentError as error:
        raise UserError(f"{run.folder}, site {site}: {error}") from error
    return made


def _facts(run: Run, site: str) -> Mapping[str, Any]:
    """What a file tells of where it comes from."""
    wrote = run.record.get("versions", {}).get("fedsched")
    return {
        "run": run.record.get("id"),
        "scenario": run.scenario.name,
        "domain": run.scenario.domain,
        "seed": run.scenario.seed,
        "site": site,
        "fedsched": wrote,
    }


def _write(folder: Path, models: Mapping[str, tuple[bytes, Checked]]) -> list[Written]:
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (model, checked) in models.items():
            path = folder / f"{name}.onnx"
            with replace_file(path) as temporary:
                temporary.write_bytes(model)
            written.append(Written(path, len(model), checked))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written: {error.strerror}") from error
    return written
