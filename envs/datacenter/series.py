"""Hourly series of one year: carbon intensity from shipped files, a generated tariff, and the user's own files."""

import csv
import functools
import gzip
import io
import zlib
from pathlib import Path

import numpy as np

from fedsched.envs.core import stream
from fedsched.envs.datacenter.model import DatacenterError, FloatArray
from fedsched.envs.datacenter.trace import DATA

HOURS = 8760
"""Hours of a common year, the length of every series here."""

CARBON = {"ciso-2022": "carbon_CISO_2022.csv.gz", "nyis-2022": "carbon_NYIS_2022.csv.gz"}

_MEAN_PRICE = 0.12
_PEAK_HOURS = (17, 21)
_OFF_PEAK_HOURS = (23, 7)


@functools.cache
def _carbon(name: str) -> FloatArray:
    with gzip.open(DATA / CARBON[name], "rt", encoding="utf-8", newline="") as file:
        fields = [row["avg_CI"] for row in csv.DictReader(file)]
    known = np.array([bool(field) for field in fields])
    hours = np.arange(len(fields))
    values = np.interp(hours, hours[known], np.array([float(field) for field in fields if field]))
    return np.asarray(values, dtype=np.float64)


def carbon(name: str) -> FloatArray:
    """Carbon intensity of one grid, gCO2/kWh, [8760], hour 0 = 1 January 2022 00:00 UTC.

    Hours that the source leaves empty (three of ciso-2022) are interpolated.

    Args:
        name: `ciso-2022` (California) or `nyis-2022` (New York).

    Raises:
        DatacenterError: The name is unknown.

    Source: US EIA hourly generation by HewlettPackard/dc-rl; see data/SOURCE.md.
    """
    if name not in CARBON:
        raise DatacenterError(f"unknown carbon series {name!r}: use one of {', '.join(CARBON)}, or a file of your own")
    return _carbon(name).copy()


def tariff(seed: int = 0, utc_offset_h: int = 0) -> FloatArray:
    """A generated time-of-use price per kWh, [8760], mean exactly 0.12, always above 0.

    The product of three factors: time of use by local hour (1.6 from 17 to 21, 0.7 from 23 to 7, else 1); season,
    1 + 0.15 cos(2 pi (day - peak)/365) with a peak day drawn from the year; and day by day exp(x) with an
    autoregressive x (0.8 from one day to the next, stationary deviation 0.08).

    Args:
        seed: Of the peak day and the daily factor.
        utc_offset_h: Local hour minus hour of the series.
    """
    rng = stream(seed, "datacenter/tariff")
    hour = np.arange(HOURS)
    local = (hour + utc_offset_h) % 24
    use = np.where((local >= _PEAK_HOURS[0]) & (local < _PEAK_HOURS[1]), 1.6, 1.0)
    use = np.where((local >= _OFF_PEAK_HOURS[0]) | (local < _OFF_PEAK_HOURS[1]), 0.7, use)
    season = 1 + 0.15 * np.cos(2 * np.pi * (hour / 24 - rng.uniform(0, 365)) / 365)
    price = use * season * np.exp(_autoregressive(rng, HOURS // 24)[hour // 24])
    return np.asarray(price * (_MEAN_PRICE / price.mean()), dtype=np.float64)


def _autoregressive(rng: np.random.Generator, days: int, keep: float = 0.8, deviation: float = 0.08) -> FloatArray:
    noise = rng.normal(0.0, deviation, days)
    x = np.empty(days)
    x[0] = noise[0]
    for day in range(1, days):
        x[day] = keep * x[day - 1] + np.sqrt(1 - keep**2) * noise[day]
    return x


def read_hourly(path: str | Path) -> FloatArray:
    """The user's own series, [H] with H >= 24.

    One number per line and hour, in a .csv or .csv.gz; the first line may be a title. Prices may be
    negative. A series shorter than a year is repeated by the site.

    Raises:
        DatacenterError: With file, line, what is wrong and what to do.
    """
    path = Path(path)
    values: list[float] = []
    for number, row in enumerate(csv.reader(io.StringIO(_text(path))), 1):
        if len(row) != 1 or not row[0].strip():
            raise DatacenterError(
                f"{path}:{number}: one number per line is needed, this line has {len(row)} columns or is empty; "
                "keep one column and fill the gaps"
            )
        try:
            value = float(row[0])
        except ValueError:
            if number == 1:
                continue
            raise DatacenterError(f"{path}:{number}: {row[0]!r} is not a number; correct or interpolate it") from None
        if not np.isfinite(value):
            raise DatacenterError(f"{path}:{number}: {row[0]!r} is not finite; correct or interpolate it")
        values.append(value)
    if len(values) < 24:
        raise DatacenterError(
            f"{path}: only {len(values)} hours; give at least one day (24 lines), better a year ({HOURS})"
        )
    return np.array(values, dtype=np.float64)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except FileNotFoundError:
        raise DatacenterError(f"{path}: no such series; check the path") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DatacenterError(f"{path}: cannot be read ({error}); give a text file with one number per line") from error
