"""Which parameters are kept."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fedsched.sim.scenario import Scenario
from fedsched.sim.selection import Selection


def judged(score: float, noise: float = 0.0) -> dict[str, float]:
    return {"score": score, "noise": noise, "wait_ratio": 2 * score}


def offer(selection: Selection, number: int, **scores: tuple[float, float]) -> bool:
    parameters: Any = {site: {"w": np.full(1, number)} for site in ("north", "east", "south")}
    return selection.offer(number, parameters, {site: judged(*score) for site, score in scores.items()})


def test_the_best_is_kept_and_a_tie_goes_to_more_training(tiny: Callable[..., Scenario]) -> None:
    selection = Selection(tiny("north", "east", "south"))
    assert offer(selection, 0, north=(1.0, 0.3), east=(1.0, 0.0), south=(1.0, 0.0))
    # the standard error of the mean over three sites is 0.1
    assert offer(selection, 1, north=(1.2, 0.0), east=(1.0, 0.0), south=(1.0, 0.0))
    assert not offer(selection, 2, north=(1.4, 0.0), east=(1.0, 0.0), south=(1.0, 0.0))
    assert selection.round == {"north": 1, "east": 1, "south": 1}
    assert offer(selection, 3, north=(0.5, 0.0), east=(1.0, 0.0), south=(1.0, 0.0))
    assert not offer(selection, 4, north=(0.6, 9.0), east=(1.0, 0.0), south=(1.0, 0.0))
    again = Selection(tiny("north", "east", "south"))
    again.load(selection.state())
    assert again.round == {"north": 3, "east": 3, "south": 3}
    assert again.waits == {"north": 1.0, "east": 2.0, "south": 2.0}
    assert again.parameters["east"]["w"].tolist() == [3]
    assert not offer(again, 5, north=(0.6, 0.0), east=(1.0, 0.0), south=(1.0, 0.0))


def test_sites_that_learn_alone_are_judged_alone(tiny: Callable[..., Scenario]) -> None:
    selection = Selection(tiny("north", "east", learning="local"))
    assert offer(selection, 0, north=(1.0, 0.0), east=(1.0, 0.0))
    assert offer(selection, 1, north=(0.9, 0.0), east=(1.1, 0.0))
    assert selection.round == {"north": 1, "east": 0}


def test_a_site_that_was_not_judged_is_left_out_of_the_comparison(tiny: Callable[..., Scenario]) -> None:
    selection = Selection(tiny("north", "east", "south"))
    assert offer(selection, 0, north=(1.0, 0.0), east=(1.0, 0.0), south=(4.0, 0.0))
    # without south the mean is lower, but the others got worse
    assert not offer(selection, 1, north=(1.1, 0.0), east=(1.0, 0.0))
    assert offer(selection, 2, north=(0.9, 0.0), east=(1.0, 0.0))
    assert not offer(selection, 3, south=(0.1, 0.0))
    assert not offer(selection, 4)
    assert offer(selection, 5, north=(0.8, 0.0), south=(9.0, 0.0))
    assert selection.round["south"] == 5
