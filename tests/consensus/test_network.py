"""Agreement and liveness over many seeds, repeatability to the last byte, and a mutant that the search must catch."""

import os
import subprocess
import sys
from typing import Any

import pytest

from fedsched.consensus import ConsensusError, Council, NetworkConfig, UnsettledError, proves
from fedsched.consensus.draws import Draws
from fedsched.consensus.plan import log_of

FAULTS = ("silent", "equivocating", "slow", "lying")


def settle(federation: Any, seed: int, faults: Any, loss: float = 0.05, delay_ms: int = 50) -> Any:
    council = Council(
        "toy",
        federation.keys,
        links=federation.links,
        faults=faults,
        network=NetworkConfig(delay_ms, loss),
        seed=seed,
    )
    epoch = seed % federation.n
    return council.settle(epoch, federation.bids(epoch))


def drawn(federation: Any, seed: int) -> Any:
    """Up to f faults at sites and of kinds that the seed draws, and a loss."""
    draws = Draws((seed,), "plan of faults")
    f = (federation.n - 1) // 3
    faults = {federation.names[draws.below(federation.n)]: FAULTS[draws.below(4)] for _ in range(draws.below(f + 1))}
    return faults | ({} if faults else {federation.names[seed % federation.n]: FAULTS[seed % 4]}), draws.below(4) / 10


@pytest.mark.parametrize(("n", "seeds"), [(4, range(60)), (5, range(10)), (6, range(10)), (7, range(10))])
def test_honest_replicas_agree_on_a_valid_plan_under_loss_and_faults(federation_of: Any, n: int, seeds: range) -> None:
    federation = federation_of(n)
    view_changes = evidence = 0
    for seed in seeds:
        faults, loss = drawn(federation, seed)
        settlement = settle(federation, seed, faults, loss)
        assert settlement.agreed, f"seed {seed} forked under {faults}"
        settlement.record().verify(federation.membership)
        assert {proof.site for proof in settlement.evidence} <= set(faults)
        view_changes += settlement.view_changes
        evidence += len(settlement.evidence)
    assert view_changes > 0
    assert evidence > 0


def test_evidence_of_equivocation_holds_offline(federation: Any) -> None:
    settlement = settle(federation, 0, {"east": "equivocating"}, loss=0.0)
    log = log_of(federation.membership, settlement.plan, (), federation.links)
    proofs = [proof for proof in settlement.evidence if proof.kind == "equivocation"]
    assert proofs
    assert all(proof.site == "east" and proves(proof, log) for proof in proofs)


def failures(federation: Any, seeds: range, fault: str) -> Any:
    """Seeds in which the search notices something: a fork, an assertion, no end, or an error."""
    bad = 0
    for seed in seeds:
        epoch = seed % federation.n
        try:
            bad += not settle(federation, seed, {federation.names[epoch]: fault}).agreed
        except (UnsettledError, ConsensusError, AssertionError):
            bad += 1
    return bad


def test_mutant_quorum_2f_is_caught_within_a_few_seeds(federation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(federation, range(8), "equivocating") == 0
    monkeypatch.setattr("fedsched.consensus.quorum.quorum", lambda n: 2 * ((n - 1) // 3))
    assert failures(federation, range(8), "equivocating") > 0


def test_equal_inputs_give_equal_traces_and_another_seed_does_not(federation: Any) -> None:
    first, again, other = (settle(federation, seed, {"south": "slow"}) for seed in (4, 4, 8))
    assert first == again
    assert first.trace != other.trace


SCRIPT = """
from fedsched.consensus import Bid, Council, Link, Lot, NetworkConfig, SiteKey
names = ("d", "a", "c", "b")
keys = {name: SiteKey.from_seed(name.encode() * 32) for name in names}
links = tuple(Link(x, y, 90, 1) for x in names for y in names if x != y)
lot = lambda v: Lot("hours", 50, v, (0, 60), (("data_mb_per_unit", 2),))
bids = {n: Bid(n, 1, (lot(3),), ()) if n < "c" else Bid(n, 1, (), (lot(9),)) for n in set(names)}
for fault in ("silent", "equivocating", "slow", "lying"):
    council = Council("hash", keys, links=links, faults={"b": fault}, network=NetworkConfig(20, 0.1), seed=3)
    settlement = council.settle(1, bids)
    print(settlement.trace, settlement.plan.digest.hex(), settlement.latency_ms)
"""


def test_traces_do_not_depend_on_the_hash_seed() -> None:
    printed = set()
    for hash_seed in ("0", "1", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        printed.add(run.stdout)
    assert len(printed) == 1
    assert len(printed.pop().splitlines()) == 4


@pytest.mark.parametrize(("delay_ms", "loss"), [(0, 0.0), (50, 1.0), (50, -0.1)])
def test_impossible_networks_are_refused(delay_ms: int, loss: float) -> None:
    with pytest.raises(ConsensusError, match="network needs"):
        NetworkConfig(delay_ms, loss)


def test_draws_are_uniform_enough_and_independent_by_purpose() -> None:
    draws = Draws((1,), "a")
    counts = [0] * 10
    for _ in range(5000):
        counts[draws.below(10)] += 1
    assert all(400 < count < 600 for count in counts)
    assert [Draws((1,), "a").below(1000) for _ in range(3)] == [Draws((1,), "a").below(1000)] * 3
    assert Draws((1,), "a").below(2**32) != Draws((1,), "b").below(2**32)
