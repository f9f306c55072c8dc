"""The world of a data centre: which jobs arrive, on what machine, and what power costs there."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from fedsched.sim.scenario.base import Part, Place
from fedsched.sim.scenario.places import name_or_file
from fedsched.sim.scenario.units import Seconds, Watts

TRACES = ("hpc2n", "lublin-1", "lublin-2", "sdsc-sp2", "generated")
CARBON = ("ciso-2022", "nyis-2022", "none")

Rule = Literal[
    "fcfs", "sjf", "saf", "wfp3", "unicep", "f1", "f2", "f3", "f4",
    "fcfs-easy", "sjf-easy", "saf-easy", "wfp3-easy", "unicep-easy", "f1-easy", "f2-easy", "f3-easy", "f4-easy",
]  # fmt: skip
"""The classical rules by name, each alone and with EASY backfilling."""


def _trace(value: str, info: ValidationInfo) -> str:
    return name_or_file(value, info, TRACES, (".swf", ".swf.gz"))


def _carbon(value: str, info: ValidationInfo) -> str:
    return name_or_file(value, info, CARBON, (".csv", ".csv.gz"))


def _prices(value: str, info: ValidationInfo) -> str:
    return name_or_file(value, info, (), (".csv", ".csv.gz"))


class Cluster(Part):
    """Equal processors that share one power feed: one agent."""

    processors: int = Field(ge=1, description="Number of processors")
    speed: float = Field(default=1.0, gt=0, description="Work per second relative to the machine of the log")
    idle_w: Watts = Field(default=20.0, ge=0, description="Power of an idle processor")
    busy_w: Watts = Field(default=170.0, gt=0, description="Power of a busy processor")
    pue: float = Field(default=1.3, ge=1, description="Power usage effectiveness: facility power over IT power")

    def problems(self) -> Iterable[tuple[Place, str]]:
        """A busy processor draws at least what an idle one does."""
        if self.busy_w < self.idle_w:
            yield ("busy_w",), f"a busy processor ({self.busy_w:g} W) draws less than an idle one ({self.idle_w:g} W)"


class Window(Part):
    """How long a training episode is."""

    jobs: int | None = Field(default=None, ge=1, description="Number of consecutive jobs; runs until all have ended")
    duration: Seconds | None = Field(default=None, gt=0, description="Period of the log in which the jobs arrive")
    stretch: tuple[float, float] = Field(
        default=(1.0, 1.0),
        strict=False,
        description="Bounds of a factor on the times between arrivals, drawn for each training and validation window "
        "of 'jobs', so that agents meet other loads than the log's",
    )

    def problems(self) -> Iterable[tuple[Place, str]]:
        """A window is given in jobs or in time."""
        if (self.jobs is None) == (self.duration is None):
            yield (), "a window has either 'jobs' or 'duration'; set the other one to null"
        if not 0.0 < self.stretch[0] <= self.stretch[1]:
            yield ("stretch",), f"ascending factors above 0 are needed, such as [0.7, 1.1], got {list(self.stretch)}"
        if self.duration is not None and self.stretch != (1.0, 1.0):
            yield ("stretch",), "goes with windows of 'jobs'; with 'duration' set 'load' instead"


class Generator(Part):
    """The machine of a log drawn from the model of Lublin and Feitelson (2003)."""

    processors: int = Field(ge=12, description="Processors of the modelled machine")
    seed: int = Field(default=0, ge=0, description="Which log; with the seed of the run")


class Tariff(Part):
    """What a kilowatt-hour costs by hour of the year."""

    kind: Literal["none", "time-of-use", "file"] = Field(
        default="none", description="none: nothing; time-of-use: generated, dear in the evening; file: the user's own"
    )
    seed: int = Field(default=0, ge=0, description="Which generated tariff; independent of the seed of the run")
    utc_offset_h: int = Field(default=0, ge=-12, le=14, description="Local hour minus UTC, for the generated tariff")
    path: Annotated[str, AfterValidator(_prices)] | None = Field(
        default=None, description="For 'kind: file': a .csv file with one price per line and hour"
    )

    def problems(self) -> Iterable[tuple[Place, str]]:
        """A file is named where one is read, and only there."""
        if (self.kind == "file") != (self.path is not None):
            yield ("path",), "'kind: file' and 'path' go together; give both or neither"


class DatacenterWorld(Part):
    """One queue before one or more clusters."""

    domain: Literal["datacenter"] = Field(description="Kind of site")
    trace: Annotated[str, AfterValidator(_trace)] = Field(
        description=f"Job log: {', '.join(TRACES)}, or a path to a .swf or .swf.gz file"
    )
    clusters: tuple[Cluster, ...] = Field(strict=False, description="The machines; each is an agent")
    generator: Generator | None = Field(default=None, description="What 'trace: generated' draws")
    jobs: tuple[int, int] | None = Field(
        default=None,
        strict=False,
        description="The part of the log that this site lives on: first job, one past the last; "
        "70 % of it train, 15 % validate, 15 % test; null: all of it, with the log's published split if there is one",
    )
    load: float | None = Field(
        default=None,
        gt=0,
        le=2,
        description="Mean load to reach by stretching the times between arrivals, in training and evaluation; "
        "null: as logged",
    )
    window: Window = Field(default=Window(jobs=1024), description="Length of a training episode")
    engine: Literal["event", "committing"] = Field(
        default="event",
        description="event: decide anew at every event, EASY's promise kept; committing: published protocol",
    )
    backfill: bool = Field(default=False, description="Backfilling of the committing engine")
    deferral: bool = Field(default=False, description="Whether an agent may hold jobs back for price or carbon")
    too_wide: Literal["error", "drop", "narrow"] = Field(
        default="error", description="Jobs wider than every cluster: refuse the log, leave them out, or narrow them"
    )
    carbon: Annotated[str, AfterValidator(_carbon)] = Field(
        default="none", description="Hourly carbon intensity: ciso-2022, nyis-2022, none, or a path to a .csv file"
    )
    tariff: Tariff = Field(default=Tariff(), description="Hourly price of energy")

    def problems(self) -> Iterable[tuple[Place, str]]:
        """What the engine, the log and its parts need of each other."""
        if not self.clusters:
            yield ("clusters",), "a site needs at least one cluster, such as [{processors: 256}]"
        if self.engine == "committing" and len(self.clusters) > 1:
            yield ("clusters",), f"the committing engine has one cluster, got {len(self.clusters)}; use engine: event"
        if self.engine == "committing" and self.deferral:
            yield ("deferral",), "the committing engine cannot defer; use engine: event"
        if self.engine == "event" and self.backfill:
            yield ("backfill",), "belongs to engine: committing; the event engine always backfills by EASY's rule"
        yield from self._log_problems()

    def _log_problems(self) -> Iterable[tuple[Place, str]]:
        if self.trace == "generated" and self.generator is None:
            yield ("trace",), "a generated log needs 'generator', such as generator: {processors: 256}"
        if self.trace == "generated" and self.window.stretch != (1.0, 1.0):
            yield ("window", "stretch"), "belongs to a log; a generated one is given its 'load'"
        if self.trace == "generated" and self.too_wide != "error":
            yield ("too_wide",), "belongs to a log; a generated one has no job wider than generator.processors"
        if self.trace != "generated" and self.generator is not None:
            yield ("generator",), f"belongs to 'trace: generated', but the trace is {self.trace!r}"
        if self.jobs is not None:
            first, end = self.jobs
            if not 0 <= first < end:
                yield ("jobs",), f"an ascending range such as [12000, 30000] is needed, got [{first}, {end}]"
            elif self.generator is not None:
                yield ("jobs",), "a generated log has no end to cut; leave 'jobs' out"
