"""What a domain measures, and how tables add it up and show it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One number that is known of each site and period.

    Attributes:
        name: Its name in records and files.
        title: Head of its column; empty: no table shows it.
        digits: After the point.
        factor: From the unit of the record to that of the table.
        over: How sites and periods make one number: means weighted by the figure `by`, plain means, sums; or `none`,
            where that of all sites does not follow from those of each.
        by: What weighs the mean: of how many jobs or trips it is one; empty: of the domain's `unit`.
        short: Whether the short table has it.
        more: Whether more is better; such a figure may have either sign.
        warning: What a value above `usual` means; such values are listed below the table.
        usual: Share of the domain's `unit` figure up to which a value is no matter.
    """

    name: str
    title: str = ""
    digits: int = 2
    factor: float = 1.0
    over: Literal["unit", "mean", "sum", "none"] = "unit"
    by: str = ""
    short: bool = False
    more: bool = False
    warning: str = ""
    usual: float = 0.0

    def relative(self, value: float, best: float) -> float:
        """A value relative to that of the best rules: less is better, 1 is as good.

        Their ratio; of a figure of which more is better, 1 less what was gained in units of the rules' size, which is
        the ratio again where both are negative.
        """
        if self.more:
            return 1.0 - (value - best) / max(abs(best), 1e-9)
        return value / max(best, 1e-9)


@dataclass(frozen=True)
class Figures:
    """All figures of a domain.

    Attributes:
        all: In the order of records.
        unit: The figure that weighs means: how many jobs or trips there were.
        unit_title: Its name for people.
        note: What the table says first.
        headline: The two figures that stand for a run in one line: what is learned, and what it must not cost.
        plain: The simple rule that the short table shows beside the best one, and what it is called there.
        traded: Unit of what a plan moves between sites.
    """

    all: tuple[Figure, ...]
    unit: str
    unit_title: str
    note: str
    headline: tuple[str, str]
    plain: tuple[str, str]
    traded: str = ""

    def __iter__(self) -> Iterator[Figure]:
        """All of them."""
        return iter(self.all)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(figure.name for figure in self.all)

    def __getitem__(self, name: str) -> Figure:
        """The figure of that name."""
        return next(figure for figure in self.all if figure.name == name)

    def columns(self, short: bool) -> Iterable[Figure]:
        """Those that a table shows."""
        return (figure for figure in self.all if figure.title and (figure.short or not short))


def weighted_mean(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    """The mean of those that are known and weigh something, such as trips that took some time; None without any."""
    known = [
        (value, weight)
        for value, weight in zip(values, weights, strict=True)
        if value is not None and not math.isnan(value) and weight > 0
    ]
    if not known:
        return None
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known)
