from pathlib import Path

import numpy as np
import pytest

from fedsched.envs.datacenter.model import DatacenterError
from fedsched.envs.datacenter.series import HOURS, carbon, read_hourly, tariff


@pytest.mark.parametrize(("name", "first", "mean"), [("ciso-2022", 222.296, 256.160), ("nyis-2022", 251.751, 272.770)])
def test_carbon_is_a_year_of_hours(name: str, first: float, mean: float) -> None:
    series = carbon(name)
    assert series.shape == (HOURS,)
    assert series.dtype == np.float64
    assert series[0] == pytest.approx(first)
    assert series.mean() == pytest.approx(mean, abs=1e-3)


def test_empty_hours_are_interpolated() -> None:
    series = carbon("ciso-2022")
    hour = 4 * 24 + 10  # 5 January 10:00
    assert series[hour] == pytest.approx((series[hour - 1] + series[hour + 1]) / 2)
    assert np.isfinite(series).all()


def test_callers_cannot_spoil_each_other() -> None:
    carbon("ciso-2022")[:] = 0
    assert carbon("ciso-2022").min() > 0


def test_unknown_grid() -> None:
    with pytest.raises(DatacenterError, match="'mars': use one of ciso-2022, nyis-2022"):
        carbon("mars")


@pytest.mark.parametrize("seed", range(3))
def test_tariff_laws(seed: int) -> None:
    price = tariff(seed)
    assert price.shape == (HOURS,)
    assert price.mean() == pytest.approx(0.12)
    assert price.min() > 0
    day = price.reshape(365, 24)
    assert np.allclose(day[:, 18] / day[:, 12], 1.6, rtol=0.01)
    assert np.allclose(day[:, 3] / day[:, 12], 0.7, rtol=0.01)
    assert np.array_equal(price, tariff(seed))
    assert not np.array_equal(price, tariff(seed + 1))


def test_tariff_follows_local_time() -> None:
    ratio = tariff(0, utc_offset_h=-8) / tariff(0)
    assert ratio[18] < 0.8  # 10 o'clock there, peak here
    assert ratio[26] > 1.5  # 18 o'clock there, night here


def test_own_series(tmp_path: Path) -> None:
    path = tmp_path / "price.csv"
    path.write_text("price\n" + "0.1\n-0.2\n" * 12)
    assert read_hourly(path).tolist() == [0.1, -0.2] * 12


@pytest.mark.parametrize(
    ("text", "line", "what", "remedy"),
    [
        ("1\n2\nx\n", 3, "'x' is not a number", "correct or interpolate"),
        ("1\n2,3\n", 2, "this line has 2 columns", "keep one column"),
        ("1\n\n2\n", 2, "is empty", "fill the gaps"),
        ("1\ninf\n", 2, "'inf' is not finite", "correct or interpolate"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, line: int, what: str, remedy: str) -> None:
    path = tmp_path / "price.csv"
    path.write_text(text)
    with pytest.raises(DatacenterError) as caught:
        read_hourly(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert what in str(caught.value)
    assert remedy in str(caught.value)


def test_short_or_absent_series(tmp_path: Path) -> None:
    path = tmp_path / "price.csv"
    path.write_text("1\n2\n")
    with pytest.raises(DatacenterError, match="only 2 hours; give at least one day"):
        read_hourly(path)
    with pytest.raises(DatacenterError, match="no such series; check the path"):
        read_hourly(tmp_path / "absent.csv")
