"""`check_env` passes an honest environment and names each fault of a broken one; PettingZoo's own tests miss most."""

import contextlib
import io
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from fedsched.envs.core.check import CheckError, check_env, main
from fedsched.envs.core.entry_point import EntryPoint, load
from fedsched.envs.core.env_tour import fingerprint, replay, tour

ENTRY = f"{Path(__file__).with_name('probe.py')}:parallel_env"
LAW_OF = {
    "wrong dtype": "dtype",
    "out of range": "space",
    "wrong shape": "shape",
    "nan observation": "finite",
    "nan reward": "reward",
    "integer reward": "reward",
    "random after step 3": "determinism",
    "random info": "determinism",
    "all-zero mask": "legal action",
    "short mask": "shape",
    "wrong info mask": "legal action",
    "agent returns": "no return",
    "leaves unsaid": "agents",
    "no last observation": "last observation",
    "kept over reset": "reset",
    "hash": "processes",
    "state outside": "state",
    "shallow copy": "deepcopy",
    "forgets when pickled": "pickle",
    "cannot be pickled": "pickle",
    "extra reward": "parallel_api_test",
}
SEEN_UPSTREAM = {"short mask", "agent returns", "leaves unsaid", "no last observation", "extra reward"}
"""What PettingZoo's own two tests catch."""


def test_every_fault_of_the_probe_has_a_law(probe: ModuleType) -> None:
    assert set(LAW_OF) == set(probe.FAULTS)


def test_the_honest_probe_passes_all_laws(probe: ModuleType) -> None:
    found = check_env(load(ENTRY), entry_point=ENTRY, resumes=True, floor=1.0)
    assert found.passed == [
        "moments", "determinism", "reset", "state", "processes", "deepcopy", "pickle", "speed", "parallel_api_test",
        "parallel_seed_test",
    ]  # fmt: skip
    assert found.steps == probe.LENGTH
    assert not found.skipped


@pytest.mark.parametrize("fault", LAW_OF)
def test_a_fault_is_caught_and_named(fault: str) -> None:
    law = LAW_OF[fault]
    with pytest.raises(CheckError) as caught:
        check_env(
            EntryPoint(ENTRY, {"fault": fault}),
            entry_point=ENTRY if law in ("processes", "pickle") else None,
            arguments={"fault": fault},
            resumes=law in ("deepcopy", "pickle"),
        )
    assert caught.value.law == law


@pytest.mark.parametrize("fault", LAW_OF)
def test_which_faults_the_own_tests_of_pettingzoo_let_pass(probe: ModuleType, fault: str) -> None:
    def caught() -> bool:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("error", UserWarning)
            try:
                parallel_api_test(probe.Probe(fault), num_cycles=100)
                parallel_seed_test(lambda: probe.Probe(fault), num_cycles=100)
            except Exception:
                return True
        return False

    assert caught() == (fault in SEEN_UPSTREAM)


def test_a_floor_of_speed_is_looked_at_where_it_is_given(probe: ModuleType) -> None:
    with pytest.raises(CheckError, match=r"^speed: \d+ steps per CPU second, 1e\+12 are wanted"):
        check_env(probe.Probe, floor=1e12)


def test_fingerprints_tell_contents_apart_and_nothing_else() -> None:
    array = np.arange(3.0)
    same: Any = {"a": array, "b": [1, {2, 3}]}
    assert fingerprint(same) == fingerprint({"b": [1, {3, 2}], "a": array.copy()})
    assert fingerprint([array, array]) == fingerprint((array, array.copy()))
    for other in (array.astype(np.float32), array + 1e-12, array.reshape(3, 1), None, "a"):
        assert fingerprint(other) != fingerprint(array)
    assert fingerprint(1) != fingerprint(1.0) != fingerprint(True)
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])


def test_a_replay_names_the_step_that_differs(probe: ModuleType) -> None:
    known = tour(probe.Probe(), 100, 3)
    known.shown[5] = b""
    with pytest.raises(CheckError, match=r"^determinism: step 5 shows something else"):
        replay(probe.Probe(), known, "determinism")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["mpe2.simple_spread_v3:parallel_env"], 0, "passed: moments, determinism, reset, state, processes"),
        ([ENTRY, "--arguments", '{"fault": "out of range"}'], 1, "broken law: space: left: an observation"),
        (["nowhere:parallel_env"], 2, "there is no module 'nowhere'"),
    ],
)
def test_the_command_checks_any_environment(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, text: str
) -> None:
    assert main(arguments) == code
    assert text in "".join(capsys.readouterr())
