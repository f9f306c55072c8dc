"""A round gives the weighted mean of exactly the sites that finished, and says who did not and why."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fedsched.federation import Federation, FederationError, RoundResult, SecureAggregation, SettingError, Update
from fedsched.federation.participant import Parameters

if TYPE_CHECKING:
    from flwr.app import Message

SECURE = SecureAggregation(threshold=0.6)
MODES = pytest.mark.parametrize("secure", [None, SECURE], ids=["plain", "secure"])
STAGES = ("secure_keys", "secure_shares", "secure_vector", "secure_unmask")


def expect_mean(result: RoundResult, start: Parameters, mean: dict[str, np.ndarray], tolerance: float) -> None:
    for name, value in result.parameters.items():
        np.testing.assert_allclose(value, start[name] + mean[name], rtol=1e-7, atol=tolerance)


def lose(stage: str, *sites: str) -> Callable[[str, str], bool]:
    return lambda kind, site: kind == f"train.{stage}" and site in sites


def test_plain_round_is_the_float64_weighted_mean(
    make_sites: Callable, weighted_mean: Callable, parameters: Parameters
) -> None:
    sites = make_sites(5)
    result = Federation(sites).round(1, parameters, {})
    expect_mean(result, parameters, weighted_mean(sites), 1e-12)
    assert result.took_part == tuple(sites)
    assert (result.left_out, result.late) == ({}, {})


@pytest.mark.parametrize("count", [3, 4, 8])
def test_secure_equals_plain(count: int, make_sites: Callable, weighted_mean: Callable, parameters: Parameters) -> None:
    sites = make_sites(count)
    plain = Federation(sites).round(1, parameters, {})
    secure = Federation(sites, secure=SECURE).round(1, parameters, {})
    assert secure.took_part == plain.took_part
    for name in parameters:
        np.testing.assert_allclose(secure.parameters[name], plain.parameters[name], rtol=1.2e-7, atol=1e-9)
    zeros = {name: np.zeros_like(value) for name, value in parameters.items()}
    expect_mean(Federation(sites, secure=SECURE).round(1, zeros, {}), zeros, weighted_mean(sites), 1e-9)


@pytest.mark.parametrize("stage", STAGES[:3])
@pytest.mark.parametrize("gone", ["b0", "b2", "b4"])
def test_site_lost_before_its_vector_is_not_in_the_mean(
    stage: str, gone: str, make_sites: Callable, weighted_mean: Callable, parameters: Parameters
) -> None:
    sites = make_sites(5)
    result = Federation(sites, secure=SECURE, faults=lose(stage, gone)).round(1, parameters, {})
    rest = [site for site in sites if site != gone]
    expect_mean(result, parameters, weighted_mean(sites, *rest), 1e-9)
    assert result.took_part == tuple(rest)
    assert list(result.left_out) == [gone]
    assert f"train.{stage} was lost" in result.left_out[gone]


def test_site_lost_at_unmasking_is_in_the_mean_and_named(
    make_sites: Callable, weighted_mean: Callable, parameters: Parameters
) -> None:
    sites = make_sites(5)
    result = Federation(sites, secure=SECURE, faults=lose("secure_unmask", "b1")).round(1, parameters, {})
    expect_mean(result, parameters, weighted_mean(sites), 1e-9)
    assert result.left_out == {}
    assert "unmasking" in result.late["b1"]


@pytest.mark.parametrize("order", [("b0", "b1"), ("b1", "b4"), ("b3", "b4")])
def test_two_of_five_lost_with_their_vectors(
    order: tuple[str, str], make_sites: Callable, weighted_mean: Callable, parameters: Parameters
) -> None:
    sites = make_sites(5)
    result = Federation(sites, secure=SECURE, faults=lose("secure_vector", *order)).round(1, parameters, {})
    rest = [site for site in sites if site not in order]
    expect_mean(result, parameters, weighted_mean(sites, *rest), 1e-9)
    assert (result.took_part, tuple(result.left_out)) == (tuple(rest), order)


def test_one_lost_at_each_stage_of_the_same_round(
    make_sites: Callable, weighted_mean: Callable, parameters: Parameters
) -> None:
    sites = make_sites(10)
    gone = dict(zip(STAGES, ("b3", "b0", "b9", "b5"), strict=True))
    fed = Federation(sites, secure=SECURE, faults=lambda kind, site: gone.get(kind.removeprefix("train.")) == site)
    result = fed.round(1, parameters, {})
    rest = [site for site in sites if site not in ("b3", "b0", "b9")]
    expect_mean(result, parameters, weighted_mean(sites, *rest), 1e-9)
    assert (sorted(result.left_out), list(result.late)) == (["b0", "b3", "b9"], ["b5"])


@pytest.mark.parametrize(
    ("stage", "label"), list(zip(STAGES, ("keys", "shares", "masked updates", "unmasking"), strict=True))
)
def test_three_of_five_lost_raises_with_stage_counts_and_reasons(
    stage: str, label: str, make_sites: Callable, parameters: Parameters
) -> None:
    before = {name: value.copy() for name, value in parameters.items()}
    fed = Federation(make_sites(5), secure=SECURE, faults=lose(stage, "b0", "b2", "b3"))
    with pytest.raises(
        FederationError, match=rf"round 6, stage '{label}': 2 of 5 sites are left, 3 are needed"
    ) as info:
        fed.round(6, parameters, {})
    error = info.value
    assert (error.stage, error.replied, error.needed, sorted(error.failures)) == (label, 2, 3, ["b0", "b2", "b3"])
    assert all(np.array_equal(parameters[name], before[name]) for name in before)


def test_a_round_after_a_broken_one_is_whole(
    make_sites: Callable, weighted_mean: Callable, parameters: Parameters
) -> None:
    sites, broken = make_sites(4), {"now": True}
    fed = Federation(
        sites, secure=SECURE, faults=lambda kind, site: broken["now"] and lose(STAGES[2], "b0", "b1")(kind, site)
    )
    with pytest.raises(FederationError):
        fed.round(1, parameters, {})
    broken["now"] = False
    expect_mean(fed.round(1, parameters, {}), parameters, weighted_mean(sites), 1e-9)


@MODES
def test_a_participant_that_raises_is_left_out_by_name(
    secure: SecureAggregation | None, make_sites: Callable, weighted_mean: Callable, parameters: Parameters
) -> None:
    sites = make_sites(4)
    sites["b1"].failure = RuntimeError("no disk")
    result = Federation(sites, secure=secure).round(1, parameters, {})
    expect_mean(result, parameters, weighted_mean(sites, "b0", "b2", "b3"), 1e-9)
    assert result.took_part == ("b0", "b2", "b3")
    assert result.left_out["b1"].endswith("RuntimeError: no disk")


@MODES
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("actor.bias", np.full(7, np.nan, np.float32), "'actor.bias' has 7 values that are not finite"),
        ("actor.bias", np.zeros(8, np.float32), r"float32[8], the parameter is float32[7]"),
        ("actor.bias", np.zeros(7), "float64[7]"),
        ("critic", np.zeros(1, np.float32), "unknown ['critic']"),
    ],
)
def test_a_wrong_update_is_refused_where_it_arises(
    secure: SecureAggregation | None,
    name: str,
    value: np.ndarray,
    reason: str,
    make_sites: Callable,
    weighted_mean: Callable,
    parameters: Parameters,
) -> None:
    sites = make_sites(4)
    sites["b2"].update.delta[name] = value
    result = Federation(sites, secure=secure).round(1, parameters, {})
    del sites["b2"]
    expect_mean(result, parameters, weighted_mean(sites), 1e-9)
    assert "UpdateRefusedError" in result.left_out["b2"]
    assert reason in result.left_out["b2"]


def test_an_update_that_could_overflow_is_refused(
    make_sites: Callable, weighted_mean: Callable, parameters: Parameters
) -> None:
    sites = make_sites(4)
    sites["b3"].update.delta["actor.bias"] = np.full(7, 3e9, np.float32)
    result = Federation(sites, secure=SECURE).round(1, parameters, {})
    expect_mean(result, parameters, weighted_mean(sites, "b0", "b1", "b2"), 1e-9)
    assert "without overflow" in result.left_out["b3"]


def test_plain_round_needs_half_of_the_sites(make_sites: Callable, parameters: Parameters) -> None:
    sites = make_sites(4)
    sites["b0"].failure = sites["b1"].failure = ValueError("broken")
    assert Federation(sites).round(1, parameters, {}).took_part == ("b2", "b3")
    sites["b2"].failure = KeyError("also")
    with pytest.raises(FederationError, match=r"1 of 4 sites are left, 2 are needed.*b0: training: ValueError: broken"):
        Federation(sites).round(1, parameters, {})


@MODES
def test_equal_rounds_are_equal_to_the_bit_whatever_masks_threads_and_order(
    secure: SecureAggregation | None, make_sites: Callable, parameters: Parameters
) -> None:
    sites = make_sites(6)
    runs = [
        Federation(dict(members), secure=secure, parallel=parallel).round(1, parameters, {}).parameters
        for parallel, members in ((1, sites.items()), (4, reversed(sites.items())), (1, sites.items()))
    ]
    for other in runs[1:]:
        assert all(other[name].tobytes() == value.tobytes() for name, value in runs[0].items())


@MODES
def test_names_order_shapes_and_float32_are_kept_over_rounds(
    secure: SecureAggregation | None, make_sites: Callable, parameters: Parameters
) -> None:
    fed, current = Federation(make_sites(3), secure=secure), parameters
    for number in (1, 2):
        current = fed.round(number, current, {}).parameters
    assert list(current) == list(parameters)
    assert {n: (v.shape, v.dtype) for n, v in current.items()} == {
        n: (v.shape, np.float32) for n, v in parameters.items()
    }


@MODES
def test_sites_get_the_parameters_and_the_config_as_they_are(
    secure: SecureAggregation | None, make_sites: Callable, parameters: Parameters
) -> None:
    sites = make_sites(3)
    config = {"updates": 4, "rate": 0.1, "kind": "ppo", "raw": b"\x00", "flag": True}
    Federation(sites, secure=secure).round(1, parameters, config)
    for site in sites.values():
        ((received, settings),) = site.seen
        assert dict(settings) == config
        assert list(received) == list(parameters)
        assert all(received[name].tobytes() == value.tobytes() for name, value in parameters.items())


def test_a_participant_may_change_what_it_received(make_sites: Callable, parameters: Parameters) -> None:
    class InPlace:
        def __init__(self, update: Update) -> None:
            self.update = update

        def train(self, received: Parameters, config: object) -> Update:
            for value in received.values():
                value += 1
            received["new"] = np.zeros(1, np.float32)
            del config
            return self.update

        evaluate = None

    before = {name: value.copy() for name, value in parameters.items()}
    sites = {site: InPlace(s.update) for site, s in make_sites(3).items()}
    assert Federation(sites).round(1, parameters, {}).left_out == {}
    assert all(np.array_equal(parameters[name], before[name]) for name in before)


def test_metrics_travel_in_plain_rounds_and_in_secure_ones_only_if_asked_for(
    make_sites: Callable, parameters: Parameters
) -> None:
    sites = make_sites(3)
    expected = {site: {"loss": float(k)} for k, site in enumerate(sites)}
    assert Federation(sites).round(1, parameters, {}).metrics == expected
    assert Federation(sites, secure=SECURE).round(1, parameters, {}).metrics == {}
    asked = Federation(sites, secure=SecureAggregation(metrics=True)).round(1, parameters, {})
    assert asked.metrics == expected


def test_the_server_sees_no_delta_no_weight_and_uniform_vectors(make_sites: Callable) -> None:
    big = {"w": np.zeros(20_000, np.float32)}
    draw = np.random.default_rng(3)
    sites = make_sites(4)
    for site in sites.values():
        site.update.delta.clear()
        site.update.delta["w"] = draw.normal(0, 0.05, 20_000).astype(np.float32)
    replies: list[Message] = []
    fed = Federation(sites, secure=SECURE, tap=lambda _, reply: replies.append(reply), faults=lose(STAGES[2], "b3"))
    fed.round(1, big, {})
    vectors = 0
    for reply in (r for r in replies if r.has_content()):
        assert not reply.content.metric_records
        numbers = [v for record in reply.content.config_records.values() for v in record.values()]
        assert all(isinstance(v, bytes) or (isinstance(v, list) and isinstance(v[0], bytes)) for v in numbers)
        for record in reply.content.array_records.values():
            vector, vectors = record["vector"].numpy(), vectors + 1
            counts = np.bincount((vector[:-1] >> np.uint64(60)).astype(int), minlength=16)
            assert abs(((counts - 1250) ** 2 / 1250).sum() - 15) < 8 * 5.5  # chi-squared, 15 degrees of freedom
            for site in sites.values():
                clear = site.update.delta["w"].astype(float)
                assert abs(np.corrcoef(vector[:-1].astype(float), clear)[0, 1]) < 0.04
                assert abs(int(vector[-1]) - site.update.weight * 2**32) > 2**40
    assert vectors == 3


@MODES
def test_bytes_are_those_of_the_messages(
    secure: SecureAggregation | None, make_sites: Callable, parameters: Parameters
) -> None:
    sent: list[tuple[Message, Message]] = []
    fed = Federation(make_sites(3), secure=secure, tap=lambda *pair: sent.append(pair))
    result = fed.round(1, parameters, {})
    floats = sum(value.size for value in parameters.values())
    arrays_up = sum(
        len(array.data)
        for _, reply in sent
        for record in reply.content.array_records.values()
        for array in record.values()
    )
    up = sum(result.bytes_up.values())
    assert set(result.bytes_up) == set(result.bytes_down) == {"b0", "b1", "b2"}
    assert len(set(result.bytes_up.values())) == 1
    assert arrays_up < up < arrays_up + 3 * 1500
    assert arrays_up > 3 * floats * (8 if secure else 4)
    assert min(result.bytes_down.values()) > 4 * floats


def test_evaluation_names_those_who_failed(make_sites: Callable, parameters: Parameters) -> None:
    sites = make_sites(3)
    sites["b0"].failure = OSError("no trace")
    evaluation = Federation(sites, secure=SECURE).evaluate(2, parameters, {"windows": 3})
    assert evaluation.left_out == {"b0": "evaluating: OSError: no trace"}
    total = float(sum(value.sum() for value in parameters.values()))
    assert evaluation.metrics == {site: {"return": total, "weight": sites[site].update.weight} for site in ("b1", "b2")}
    size = sum(value.nbytes for value in parameters.values())
    assert all(sent > size for sent in evaluation.bytes_down.values())
    assert evaluation.bytes_up["b0"] == 0 < evaluation.bytes_up["b1"] < size
    sites["b1"].failure = sites["b2"].failure = OSError("none either")
    with pytest.raises(FederationError, match=r"evaluation after round 2.*b2: evaluating: OSError: none either"):
        Federation(sites).evaluate(2, parameters, {})


def test_federations_that_cannot_work_are_refused(make_sites: Callable, parameters: Parameters) -> None:
    with pytest.raises(SettingError, match="at least one participant"):
        Federation({})
    with pytest.raises(SettingError, match="at least 3 sites, this federation has 2"):
        Federation(make_sites(2), secure=SECURE)
    with pytest.raises(SettingError, match=r"float32.*'log_std': 'float64'"):
        Federation(make_sites(2)).round(1, {**parameters, "log_std": np.zeros(())}, {})
    with pytest.raises(SettingError, match="found none"):
        Federation(make_sites(2)).round(1, {}, {})
