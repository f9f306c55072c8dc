"""Logs of parallel machines in the Standard Workload Format (SWF), read and checked."""

import functools
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedsched.envs.datacenter.model import DatacenterError, FloatArray, IntArray, Jobs

DATA = Path(__file__).parent / "data"
"""The folder of the logs and series that are shipped."""

FOLDER_VARIABLE = "FEDSCHED_DATA"
"""Environment variable that names the folder of logs which may not be shipped."""

SHIPPED = {"hpc2n": "hpc2n_first60000.swf.gz", "lublin-1": "lublin_256.swf.gz"}
OUTSIDE = {"sdsc-sp2": "SDSC-SP2-1998-4.2-cln.swf.gz", "lublin-2": "lublin_256_new2.swf.gz"}
_ARCHIVE = "https://www.cs.huji.ac.il/labs/parallel/workload/"

_FIELDS = 18
_UNKNOWN_RUN_S = 10.0
_COLUMNS = (0, 1, 3, 4, 7, 8, 11)
_NAMES = (
    "job number",
    "submit time",
    "run time",
    "allocated processors",
    "requested processors",
    "requested time",
    "user",
)


@dataclass(frozen=True)
class Trace:
    """One log, ready to cut windows from.

    Attributes:
        name: Short name; part of the key of a job's data volume.
        jobs: All jobs in order of their numbers; the arrays are read-only. Submission counts from the log's start.
        processors: Processors of the log's machine.
        header: The `; Key: value` lines.
        digest: SHA-256 of the uncompressed file.
    """

    name: str
    jobs: Jobs
    processors: int
    header: dict[str, str]
    digest: str


def load(log: str | Path, folder: str | Path | None = None) -> Trace:
    """A log by its name or path.

    Args:
        log: `hpc2n`, `lublin-1` (shipped), `sdsc-sp2`, `lublin-2` (outside), or a path that ends in .swf or .swf.gz.
        folder: Where outside logs lie; else the environment variable FEDSCHED_DATA.

    Raises:
        DatacenterError: The log is unknown, missing or malformed.
    """
    name = str(log)
    if name in SHIPPED:
        return _shipped(name)
    if name in OUTSIDE:
        return read_swf(_outside(name, folder), name)
    if name.endswith((".swf", ".swf.gz")):
        return read_swf(log)
    known = ", ".join((*SHIPPED, *OUTSIDE))
    raise DatacenterError(f"unknown log {name!r}: use one of {known}, or a path that ends in .swf or .swf.gz")


@functools.cache
def _shipped(name: str) -> Trace:
    return read_swf(DATA / SHIPPED[name], name)


def _outside(name: str, folder: str | Path | None) -> Path:
    place = folder or os.environ.get(FOLDER_VARIABLE)
    remedy = f"get {OUTSIDE[name]} (see {_ARCHIVE}) and name its folder in {FOLDER_VARIABLE}"
    if not place:
        raise DatacenterError(f"log {name!r} is not shipped: {remedy}")
    path = Path(place) / OUTSIDE[name]
    if not path.is_file():
        raise DatacenterError(f"log {name!r}: {path} does not exist: {remedy}")
    return path


def read_swf(path: str | Path, name: str | None = None) -> Trace:
    """Reads one .swf or .swf.gz file by the rules of RLScheduler's loader, on which the published figures rest.

    Processors are the larger of allocated and requested ones. A requested time of -1 becomes the run time as recorded.
    Then a run time below 0 (unknown) becomes 10 s; where both are unknown, the estimate *stays* -1. Jobs with run
    time 0 are left out. Jobs are ordered by number. The machine has `MaxProcs` processors, or `MaxNodes` without it.

    Args:
        path: The file.
        name: Short name of the log; by default the file's name without its ending.

    Raises:
        DatacenterError: With file, line, what is wrong and what to do.

    Source: D. Zhang et al., RLScheduler (SC'20), job.py of DIR-LAB/deep-batch-scheduler.
    """
    path = Path(path)
    data = _bytes(path)
    header, numbers, rows = _split(path, data.decode("utf-8", errors="replace").splitlines())
    table = _table(path, numbers, rows)
    lines = np.array(numbers, dtype=np.int64)
    order = np.argsort(table[:, 0], kind="stable")
    table, lines = table[order], lines[order]
    processors = _machine(path, header)
    jobs, lines = _jobs(path, table, lines)
    _check(path, jobs, lines, processors)
    for column in vars(jobs).values():
        column.flags.writeable = False
    short = name or path.name.removesuffix(".gz").removesuffix(".swf")
    return Trace(short, jobs, processors, header, hashlib.sha256(data).hexdigest())


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError:
        raise DatacenterError(f"{path}: no such log; check the path") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DatacenterError(f"{path}: cannot be read ({error}); fetch the file again") from error


def _split(path: Path, text: Iterable[str]) -> tuple[dict[str, str], list[int], list[list[str]]]:
    """Header, line numbers of the records and their fields of interest."""
    header: dict[str, str] = {}
    numbers: list[int] = []
    rows: list[list[str]] = []
    for number, line in enumerate(text, 1):
        fields = line.split()
        if not fields:
            continue
        if fields[0].startswith(";"):
            key, colon, value = line.lstrip("; \t").partition(":")
            if colon:
                header.setdefault(key.strip(), value.strip())
            continue
        if len(fields) != _FIELDS:
            raise DatacenterError(
                f"{path}:{number}: a job needs {_FIELDS} fields, this line has {len(fields)}; "
                "write -1 for what is unknown, and start comments with ';'"
            )
        numbers.append(number)
        rows.append([fields[column] for column in _COLUMNS])
    if not rows:
        raise DatacenterError(f"{path}: the log holds no job; give a file in the Standard Workload Format")
    return header, numbers, rows


def _table(path: Path, numbers: list[int], rows: list[list[str]]) -> FloatArray:
    try:
        table = np.array(rows, dtype=np.float64)
    except ValueError:
        table = np.array([[_number(field) for field in row] for row in rows])
    bad = ~np.isfinite(table)
    if bad.any():
        row, column = (int(place) for place in np.argwhere(bad)[0])
        raise DatacenterError(
            f"{path}:{numbers[row]}: {_NAMES[column]} (field {_COLUMNS[column] + 1}) is {rows[row][column]!r}, "
            "not a number; write -1 where it is unknown"
        )
    return table


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return float("nan")


def _machine(path: Path, header: dict[str, str]) -> int:
    for key in ("MaxProcs", "MaxNodes"):
        if key in header:
            if header[key].isdigit() and int(header[key]) > 0:
                return int(header[key])
            raise DatacenterError(f"{path}: header line '; {key}:' says {header[key]!r}; write a whole number above 0")
    raise DatacenterError(f"{path}: the header does not say how large the machine is; add a line '; MaxProcs: 128'")


def _jobs(path: Path, table: FloatArray, lines: IntArray) -> tuple[Jobs, IntArray]:
    """The loader rule; also the line of each job that is kept."""
    number, submit, recorded, allocated, requested, limit, user = table.T
    for name, times in (("run time", recorded), ("requested time", limit)):
        wrong = np.nonzero((times < 0) & (times != -1))[0]
        if len(wrong):
            raise DatacenterError(
                f"{path}:{lines[wrong[0]]}: {name} {times[wrong[0]]:g} is negative; write seconds, or -1 for unknown"
            )
    estimate = np.where(limit == -1, recorded, limit)
    run = np.where(recorded < 0, _UNKNOWN_RUN_S, recorded)
    kept = run != 0
    processors = np.maximum(allocated, requested)
    columns = (submit, run, estimate, *(c.astype(np.int64) for c in (processors, number, user)))
    return Jobs(*(column[kept] for column in columns)), lines[kept]


def _check(path: Path, jobs: Jobs, lines: IntArray, machine: int) -> None:
    if not len(jobs):
        raise DatacenterError(f"{path}: every job has run time 0, so none is left; give a log with run times")
    again = np.diff(jobs.id, prepend=jobs.id[0] - 1) == 0
    checks = (
        (jobs.submit_s < 0, "is submitted at a negative time", "count seconds from the log's start"),
        (again, "has the number of another job", "number the jobs 1, 2, 3, ..."),
        (jobs.processors < 1, "has no number of processors", "fill field 5 or 8, or remove the job"),
        (
            jobs.processors > machine,
            f"is wider than the machine of {machine} processors",
            "correct MaxProcs in the header or remove the job",
        ),
    )
    for wrong, what, remedy in checks:
        if wrong.any():
            place = int(np.argmax(wrong))
            raise DatacenterError(f"{path}:{lines[place]}: job {jobs.id[place]} {what}; {remedy}")
    _check_order(path, jobs, lines)


def _check_order(path: Path, jobs: Jobs, lines: IntArray) -> None:
    """Refuses times that run backwards, and blames the job whose time no neighbour shares."""
    submit = jobs.submit_s
    falls = np.flatnonzero(np.diff(submit) < 0)
    if not len(falls):
        return
    early = int(falls[0])
    late = early + 1
    follows = early == 0 or submit[late] >= submit[early - 1]
    goes_on = late + 1 == len(jobs) or submit[late + 1] >= submit[early]
    blamed, other = (early, late) if follows and not goes_on else (late, early)
    word = "before" if blamed == late else "after"
    raise DatacenterError(
        f"{path}:{lines[blamed]}: job {jobs.id[blamed]} is submitted at {submit[blamed]:.0f} s, {word} job "
        f"{jobs.id[other]} of line {lines[other]} ({submit[other]:.0f} s); mend the time, or sort the jobs by it and "
        "number them anew"
    )
