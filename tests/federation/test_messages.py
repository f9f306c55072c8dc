"""Records keep names, order, types and values; replies that make no sense fail their site, not the round."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedsched.federation import FedAvg, LocalGrid, RoundResult, Update
from fedsched.federation.messages import (
    Exchange,
    pack_arrays,
    pack_request,
    pack_update,
    unpack_arrays,
    unpack_request,
    unpack_update,
)
from fedsched.federation.participant import Parameters
from fedsched.federation.rounds import run_round

SITES = ("a", "b", "c")


def test_arrays_come_back_as_they_were_and_writable(parameters: Parameters) -> None:
    turned = {**parameters, "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    back = unpack_arrays(pack_arrays(turned))
    assert list(back) == list(turned)
    for name, value in turned.items():
        assert (back[name].dtype, back[name].shape) == (np.float32, value.shape)
        assert back[name].tobytes() == value.tobytes()
        back[name][...] = 5
    assert not (parameters["actor.bias"] == 5).any()


def test_requests_and_updates_come_back(parameters: Parameters) -> None:
    config = {"rounds": 3, "rate": 0.5, "name": "x", "raw": b"\xff", "flag": False}
    assert unpack_request(pack_request(parameters, config))[1] == config
    update = unpack_update(pack_update(Update(parameters, 12.5, {"loss": 1.0, "worst": float("-inf")})))
    assert (update.weight, update.metrics) == (12.5, {"loss": 1.0, "worst": float("-inf")})


def round_with(replies: dict[int, RecordDict], parameters: Parameters) -> RoundResult:
    """A plain round with sites that answer what they are told to, checked by nobody before it is sent."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(replies[int(context.node_config["partition-id"])], reply_to=message)

    grid = LocalGrid(app, SITES)
    return run_round(Exchange(grid, SITES, grid.nodes, "round 1"), 1, parameters, {}, FedAvg(), None)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: pack_update(Update({n: v * np.nan for n, v in p.items()}, 1.0)), "not finite"),
        (lambda p: pack_update(Update({n: v.astype(float) for n, v in p.items()}, 1.0)), "is float64"),
        (lambda p: pack_update(Update(p, float("nan"))), "the weight is nan"),
        (lambda p: pack_update(Update(p, -3.0)), "the weight is -3.0"),
        (lambda _: pack_update(Update({}, 1.0)), "missing"),
        (lambda _: RecordDict({"delta": ConfigRecord()}), "KeyError"),
    ],
)
def test_the_server_refuses_what_a_site_should_not_have_sent(
    spoil: Callable[[Parameters], RecordDict], reason: str, parameters: Parameters
) -> None:
    good = pack_update(Update(parameters, 2.0))
    result = round_with({0: good, 1: spoil(parameters), 2: good}, parameters)
    assert result.took_part == ("a", "c")
    assert result.left_out["b"].startswith("training: reply refused")
    assert reason in result.left_out["b"]
    for name, value in parameters.items():
        np.testing.assert_allclose(result.parameters[name], 2 * value, rtol=1e-7)
