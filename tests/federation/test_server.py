"""The server app on a grid gives what `Federation` gives, and copes with sites that never come."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from fedsched.federation import (
    Federation,
    FederationError,
    LocalGrid,
    RoundResult,
    SecureAggregation,
    SettingError,
    client_app,
    server_app,
)
from fedsched.federation.participant import Parameters

MODES = pytest.mark.parametrize("secure", [None, SecureAggregation()], ids=["plain", "secure"])
SERVER = Context(1, 1, {}, RecordDict(), {})


class PartialGrid(LocalGrid):
    """Some nodes never connect, and those that did are listed in another order."""

    absent: tuple[int, ...] = ()

    def get_node_ids(self) -> list[int]:
        return [node for node in reversed(super().get_node_ids()) if node not in self.absent]


@MODES
def test_server_app_and_federation_give_the_same_bits(
    secure: SecureAggregation | None, make_sites: Callable, parameters: Parameters
) -> None:
    sites = make_sites(4)
    fed, current = Federation(sites, secure=secure), parameters
    for number in (1, 2, 3):
        current = fed.round(number, current, {"updates": 2}).parameters
    results: list[tuple[int, RoundResult]] = []
    members = list(sites.values())
    app = server_app(
        list(sites), parameters, 3, lambda *pair: results.append(pair), config={"updates": 2}, secure=secure
    )
    app(PartialGrid(client_app(members.__getitem__, secure), list(sites)), SERVER)
    assert [number for number, _ in results] == [1, 2, 3]
    last = results[-1][1].parameters
    assert all(np.array_equal(last[name], value) for name, value in current.items())


@MODES
def test_sites_that_do_not_connect_are_left_out_by_name(
    secure: SecureAggregation | None, make_sites: Callable, weighted_mean: Callable, parameters: Parameters
) -> None:
    sites = make_sites(4)
    results: list[RoundResult] = []
    members = list(sites.values())
    grid = PartialGrid(client_app(members.__getitem__, secure), list(sites))
    grid.absent = (grid.nodes["b1"],)
    app = server_app(list(sites), parameters, 1, lambda _, r: results.append(r), secure=secure, join_s=0.0)
    app(grid, SERVER)
    assert results[0].left_out == {"b1": "not connected"}
    mean = weighted_mean(sites, "b0", "b2", "b3")
    for name, value in results[0].parameters.items():
        np.testing.assert_allclose(value, parameters[name] + mean[name], rtol=1e-7, atol=1e-9)
    grid.absent = tuple(grid.nodes[site] for site in ("b0", "b1", "b2"))
    with pytest.raises(FederationError, match=r"1 of 4 sites are left.*b0: not connected"):
        app(grid, SERVER)


def test_a_secure_client_has_no_action_that_sends_in_the_clear(make_sites: Callable, parameters: Parameters) -> None:
    sites = make_sites(3)
    members = list(sites.values())
    grid = LocalGrid(client_app(members.__getitem__, SecureAggregation()), list(sites))
    with pytest.raises(FederationError, match=r"0 of 3 sites are left.*No train function registered"):
        server_app(list(sites), parameters, 1, lambda *_: None)(grid, SERVER)
    assert not any(site.seen for site in members)


def test_silent_sites_time_out_by_name(make_sites: Callable, parameters: Parameters) -> None:
    class Slow(LocalGrid):
        def send_and_receive(self, messages: object, *, timeout: float | None = None) -> list:
            replies = super().send_and_receive(messages, timeout=timeout)
            return [
                r for r in replies if r.metadata.src_node_id != self.nodes["b2"] or "query" in r.metadata.message_type
            ]

    sites, results = make_sites(3), []
    members = list(sites.values())
    app = server_app(list(sites), parameters, 1, lambda _, r: results.append(r), reply_s=12.5)
    app(Slow(client_app(members.__getitem__), list(sites)), SERVER)
    assert results[0].left_out == {"b2": "training: no reply within 12.5 s"}


def test_site_lists_that_partitions_cannot_follow_are_refused(parameters: Parameters) -> None:
    for sites in ([], ["b", "a"], ["a", "a"]):
        with pytest.raises(SettingError, match="sorted and different"):
            server_app(sites, parameters, 1, lambda *_: None)
    with pytest.raises(SettingError, match="at least 3 sites"):
        server_app(["a", "b"], parameters, 1, lambda *_: None, secure=SecureAggregation())
