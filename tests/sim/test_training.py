"""How a policy learns on a site's worlds and how it is judged."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fedsched.agents.collect import evaluate
from fedsched.sim.domains.datacenter.site import WAIT_PRICE, DatacenterSite
from fedsched.sim.domains.datacenter.worlds import EASY_RULES
from fedsched.sim.errors import UserError
from fedsched.sim.evaluate import evaluate_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.run import run
from fedsched.sim.scenario import Scenario
from fedsched.sim.trained import load_policy
from fedsched.sim.training import Trainer, learner_config, make_policy

CROWDED = {"north": {"world": {"window": {"jobs": 150}}}}


def make(scenario: Scenario, *names: str) -> tuple[Trainer, list[DatacenterSite]]:
    worlds = [DatacenterSite(scenario, name) for name in names or ("north",)]
    return Trainer(scenario, worlds), worlds


def test_a_score_is_the_slowdown_and_a_price_for_waits_beyond_the_bound(tiny: Callable[..., Scenario]) -> None:
    def score(**bound: float) -> float:
        constraints = {"wait": {**bound}} if bound else {}
        return DatacenterSite(tiny(agents={"constraints": constraints}), "north").score(slowdown=0.9, wait=1.25)

    assert score() == score(at_most=1.25) == score(at_most=2.0) == 0.9
    assert score(at_most=1.05) == pytest.approx(0.9 + WAIT_PRICE * 0.2)


def test_every_site_starts_from_the_same_policy(tiny: Callable[..., Scenario]) -> None:
    scenario = tiny()
    first, second = (make(scenario, name)[0].parameters for name in ("north", "south"))
    assert list(first) == list(second)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    other = make(tiny(seed=1))[0].parameters
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_updates_follow_from_the_seed_and_move_the_policy(tiny: Callable[..., Scenario]) -> None:
    runs = []
    for _ in range(2):
        trainer, _ = make(tiny(sites=CROWDED))
        before = trainer.parameters
        losses = [trainer.update() for _ in range(2)]
        assert all(loss.decisions > 0 for loss in losses)
        runs.append(trainer.parameters)
        assert not all(np.array_equal(before[name], runs[-1][name]) for name in before)
    assert all(np.array_equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_a_judgement_compares_with_the_best_rule_on_the_same_windows(tiny: Callable[..., Scenario]) -> None:
    scenario = tiny(sites=CROWDED, evaluation={"validation": 5})
    trainer, [worlds] = make(scenario)
    judgement = trainer.judge(worlds, trainer.parameters)
    instances, totals = worlds.validation
    world = worlds.world(len(instances))
    figures = evaluate(make_policy(scenario, world.spec), world, instances, instances)
    best = totals.bounded_slowdown[:, EASY_RULES.index(worlds.best_rule)]
    assert judgement.rule == worlds.best_rule
    assert judgement.ratios["slowdown"] == pytest.approx(
        float(figures["bounded_slowdown"].mean() / best.mean()), rel=1e-9
    )
    assert judgement.noise == pytest.approx(
        float(torch.std(figures["bounded_slowdown"] - best) / best.mean() / 5**0.5), rel=1e-9
    )


def test_the_bound_on_the_wait_is_that_of_the_rule_it_names(tiny: Callable[..., Scenario]) -> None:
    def ratio(of: str) -> float:
        bound = {"wait": {"at_most": 1.1, "aim": 1.0, "of": of}}
        trainer, [worlds] = make(tiny(sites=CROWDED, agents={"constraints": bound}))
        return trainer.judge(worlds, trainer.parameters).ratios["wait"]

    worlds = DatacenterSite(tiny(sites=CROWDED), "north")
    waits = dict(zip(EASY_RULES, worlds.validation[1].wait_s.mean(0).tolist(), strict=True))
    assert waits["fcfs-easy"] != waits["sjf-easy"]
    assert ratio("fcfs") * waits["fcfs-easy"] == pytest.approx(ratio("sjf-easy") * waits["sjf-easy"], rel=1e-9)
    assert ratio("best-rule") == ratio(worlds.best_rule)


def test_a_constrained_learner_plays_a_greedy_row_in_every_group(tiny: Callable[..., Scenario]) -> None:
    bound = {"wait": {"at_most": 1.1, "aim": 1.0}}
    free, bounded = tiny(), tiny(agents={"constraints": bound})
    weights = {"qos": 1.0, "carbon": 0.0}
    assert learner_config(free, weights).rows_per_instance == 4
    assert learner_config(bounded, weights).rows_per_instance == 5
    assert learner_config(free, weights).weights == {"qos": 1.0}
    trainer, _ = make(tiny(sites=CROWDED, agents={"constraints": bound}))
    assert trainer.update().greedy_ratio > 0.0


def test_one_learner_learns_from_all_sites(tiny: Callable[..., Scenario]) -> None:
    pooled, _ = make(tiny(), "north", "east")
    alone, _ = make(tiny(), "north")
    assert pooled.update().decisions > alone.update().decisions


def test_a_search_can_count_the_worst_windows_alone(tiny: Callable[..., Scenario]) -> None:
    def cost(windows: int, worst: float) -> float:
        trainer, [worlds] = make(tiny(sites=CROWDED, agents={"search": {"windows": windows, "worst": worst}}))
        return float(trainer.trial(worlds, -trainer.linear()[None], 0)[0])

    sums = [0.0, *(cost(windows, 1.0) * windows for windows in range(1, 6))]
    each = sorted(np.diff(sums), reverse=True)
    assert cost(5, 0.5) == pytest.approx(sum(each[:3]) / 3, rel=1e-9)
    assert cost(5, 0.2) == pytest.approx(each[0], rel=1e-9)
    assert cost(5, 0.5) > cost(5, 1.0)


@pytest.mark.parametrize("kind", ["attention", "hierarchical", "gat", "graph"])
def test_every_encoder_learns_from_a_scenario(kind: str, tiny: Callable[..., Scenario]) -> None:
    encoder = {"kind": kind, "width": 8, "heads": 2, "layers": 1, "scoring": "dot"}
    encoder |= {} if kind == "attention" else {"blocks": 2}
    scenario = tiny("north", agents={"encoder": encoder})
    trainer, _ = make(scenario)
    config = trainer.learner.policy.config.encoder
    assert {name: getattr(config, name) for name in encoder} == encoder
    before = trainer.parameters
    assert trainer.update().decisions > 0
    after = trainer.parameters
    assert all(np.isfinite(values).all() for values in after.values())
    moved = {name for name, values in before.items() if not np.array_equal(values, after[name])}
    assert any(".encoder.body." in name for name in moved)


def test_encoders_that_cannot_be_are_refused(tiny: Callable[..., Scenario]) -> None:
    for encoder, message in (
        ({"kind": "attention", "width": 12, "heads": 4}, "half the width, 6, is not a multiple of 4 heads"),
        ({"kind": "gat", "width": 10, "heads": 4}, "the width 10 is not a multiple of 4 heads"),
        ({"kind": "pointwise", "blocks": 2}, "pointwise has one round; take hierarchical or gat for 2"),
    ):
        with pytest.raises(ValidationError, match=message):
            tiny(agents={"encoder": encoder})
    with pytest.raises(ValidationError, match="graph has no parameters of each agent's own"):
        tiny(agents={"encoder": {"kind": "graph"}, "sharing": "agent"})


def test_exploration_perturbs_parameters_as_the_scenario_says(tiny: Callable[..., Scenario]) -> None:
    assert learner_config(tiny(), {"qos": 1.0}).noise is None
    exploring = tiny(sites=CROWDED, agents={"exploration": {"target": 0.05, "correlation": 0.9}})
    noise = learner_config(exploring, {"qos": 1.0}).noise
    assert noise is not None
    assert (noise.target, noise.correlation) == (0.05, 0.9)
    trainer, _ = make(exploring)
    losses = trainer.update()
    assert losses.noise_kl > 0.0
    assert losses.noise > noise.sigma


def test_clusters_with_parameters_of_their_own_learn_and_are_read_back(
    tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    agents = {"sharing": "agent", "search": {"generations": 1, "windows": 1, "population": 4}}
    scenario = tiny("north", "south", learning="local", agents=agents, federation={"rounds": 1})
    folder = run(scenario, tmp_path / "run", None, PlainProgress(io.StringIO()))
    trained = load_policy(folder, "south")
    network = trained.policy.choosing("cluster")
    assert network.skip.shape[0] == 2
    [worlds] = make(scenario, "south")[1]
    world = worlds.world(2)
    trained.reset(world)
    rows = torch.arange(2)
    assert trained.act(world.reset(rows, rows))["cluster"].shape == (2, 2)
    three = {"south": {"world": {"clusters": [{"processors": 24}, {"processors": 8}, {"processors": 8}]}}}
    with pytest.raises(UserError, match=r"site south, with the policy of south: .* cluster_2 differ: build one"):
        evaluate_run(folder, tiny("south", sites=three), PlainProgress(io.StringIO()))


def test_the_scenario_chooses_critic_and_sharing(tiny: Callable[..., Scenario]) -> None:
    spec = DatacenterSite(tiny(), "north").spec
    for changes, expected in (
        ({}, ("kind", "none")),
        ({"sharing": "all", "ppo": {"advantage": "gae"}}, ("all", "central")),
        ({"ppo": {"advantage": "gae", "critic": "independent"}}, ("kind", "independent")),
    ):
        config = make_policy(tiny(agents=changes), spec).config
        assert (config.sharing, config.critic) == expected


def test_keys_of_ppo_reach_the_learner_and_the_defaults_are_the_published_ones(tiny: Callable[..., Scenario]) -> None:
    plain = learner_config(tiny(), {"qos": 1.0}).ppo
    assert (plain.lr_end, plain.entropy_end, plain.huber, plain.grad_norm) == (0.1, 0.0, None, 1.0)
    assert (plain.minibatches, plain.minibatch, plain.chunk) == (None, 4096, 10)
    keys = {"anneal": False, "gradient_norm": 10.0, "value_loss": "huber", "minibatches": 4, "chunk": 5}
    chosen = learner_config(tiny(agents={"ppo": {"advantage": "gae", **keys}}), {"qos": 1.0}).ppo
    assert (chosen.lr_end, chosen.entropy_end, chosen.huber, chosen.grad_norm) == (1.0, 1.0, 10.0, 10.0)
    assert (chosen.minibatches, chosen.chunk) == (4, 5)


def test_a_policy_with_memory_learns_and_resumes_to_the_same_numbers(tiny: Callable[..., Scenario]) -> None:
    agents = {"encoder": {"memory": 8}, "ppo": {"chunk": 4}}
    runs = []
    for halves in (1, 2):
        trainer, _ = make(tiny(sites=CROWDED, agents=agents))
        for half in range(halves):
            if half:
                state = trainer.state()
                trainer, _ = make(tiny(sites=CROWDED, agents=agents))
                trainer.load(state)
            for _ in range(2 // halves):
                trainer.update()
        runs.append(trainer.parameters)
    assert any(".memory." in name for name in runs[0])
    assert all(np.array_equal(runs[0][name], runs[1][name]) for name in runs[0])
