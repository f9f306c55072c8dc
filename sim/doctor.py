"""What is installed on this machine, what is found, and what is missing."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from fedsched.sim.domains import DOMAINS
from fedsched.sim.provenance import SILENCE, git_state, versions


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What it is.
        state: What was found.
        remedy: What to do about it; empty where all is well.
    """

    subject: str
    state: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Looks at everything; a finding with a remedy is a problem."""
    findings = [*_packages()]
    if not any(finding.remedy for finding in findings):
        findings += [*_devices(), _own_rooms(), *_data()]
    return [*findings, _memory(), *_telemetry()]


def _packages() -> Iterator[Finding]:
    state = git_state()
    commit = f", commit {str(state['commit'])[:12]}" + (", changed" if state["changed"] else "") if state else ""
    for package, version in versions().items():
        if version is None:
            yield Finding(package, "missing", "run `make setup`, or install fedsched anew")
        else:
            yield Finding(package, version + (commit if package == "fedsched" else ""))


def _devices() -> Iterator[Finding]:
    import torch
    import warp as wp

    from fedsched.envs.core.device import start_warp

    yield Finding("CPU", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads for torch")
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    yield Finding("GPUs seen by torch", ", ".join(gpus) or "none")
    start_warp()
    yield Finding("devices seen by warp", ", ".join(str(device) for device in wp.get_devices()))


def _own_rooms() -> Finding:
    import fedsched.agents

    found, root = Path(str(fedsched.agents.__file__)).resolve(), Path(fedsched.__file__).resolve().parent
    ours = root in found.parents or root.parent in found.parents
    remedy = "" if ours else "another package of that name comes first; use an environment of its own for fedsched"
    return Finding("fedsched.agents", str(found.parent), remedy)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding("memory", f"{total / 2**30:.1f} GiB")


def _data() -> Iterator[Finding]:
    """What each domain can use beyond what is shipped."""
    for domain in DOMAINS:
        for subject, state, remedy in import_module(f"fedsched.sim.domains.{domain}.outside").examine():
            yield Finding(subject, state, remedy)


def _telemetry() -> Iterator[Finding]:
    for variable, wanted in SILENCE.items():
        value = os.environ.get(variable)
        yield Finding(variable, f"{value}", "" if value == wanted else f"set {variable}={wanted}")
