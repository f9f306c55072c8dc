"""Environments that nobody here wrote in a run: their episodes, rules and scores, and a run with its table."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from fedsched.agents.collect import evaluate
from fedsched.agents.decisions import AgentError
from fedsched.envs.core.episodes import play
from fedsched.sim.domains.figures import Figure
from fedsched.sim.domains.pettingzoo.domain import DOMAIN
from fedsched.sim.domains.pettingzoo.figures import FIGURES
from fedsched.sim.domains.pettingzoo.rules import RULES, controller
from fedsched.sim.domains.pettingzoo.site import ForeignSite
from fedsched.sim.errors import UserError, WorldSetupError
from fedsched.sim.evaluate import evaluate_run
from fedsched.sim.folder import read_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.run import run
from fedsched.sim.scenario import ForeignRule, Scenario, ScenarioError, load_scenario, resolved
from fedsched.sim.summary import summary
from fedsched.sim.trained import load_policy, trained_parameters
from fedsched.sim.training import make_policy

SPREAD = {"domain": "pettingzoo", "entry_point": "mpe2.simple_spread_v3:parallel_env"}
MINE = '''
import numpy as np
import pettingzoo
from gymnasium import spaces


class Pick(pettingzoo.ParallelEnv):
    """Two agents; the reward is the number that was picked, less 10."""

    metadata = {"name": "pick"}

    def __init__(self, numbers=3, length=4, broken_at=-1):
        self.possible_agents, self.agents = ["a_0", "a_1"], []
        self.seen, self.acts = spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(numbers)
        self.length, self.broken_at = length, broken_at

    def observation_space(self, agent):
        return self.seen

    def action_space(self, agent):
        return self.acts

    def reset(self, seed=None, options=None):
        self.now, self.agents = 0, list(self.possible_agents)
        return self.look(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.now += 1
        acting, over = self.agents, self.now == self.length
        if over:
            self.agents = []
        rewards = {agent: float(actions[agent]) - 10 for agent in acting}
        flags = dict.fromkeys(acting, False), dict.fromkeys(acting, over)
        return self.look(), rewards, *flags, {agent: {} for agent in acting}

    def look(self):
        value = np.nan if self.now == self.broken_at else self.now / 10
        return {agent: np.array([value], np.float32) for agent in self.possible_agents}


def parallel_env(**arguments):
    return Pick(**arguments)
'''


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """The entry point of an environment in a file of the user's."""
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path / 'mine.py'}:parallel_env"


def scenario(worlds: dict[str, Any], copies: int = 4, **changes: Any) -> Scenario:
    data: dict[str, Any] = {
        "version": 1,
        "name": "foreign",
        "learning": "local",
        "sites": {name: {"world": SPREAD | world, "copies": copies} for name, world in worlds.items()},
        "agents": {
            "encoder": {"width": 8},
            "messages": {"trigger": "none"},
            "ppo": {"advantage": "gae", "discount": 0.9, "epochs": 1, "learning_rate": 0.05},
        },
        "federation": {"rounds": 2, "local_updates": 1},
        "evaluation": {"windows": 2, "validation": 3, "every": 1},
    }
    return Scenario.model_validate(data | changes)


def run_it(told: Scenario, folder: Path) -> Path:
    return run(told, folder, None, PlainProgress(io.StringIO()))


def test_rules_and_figures_are_those_that_scenarios_know() -> None:
    assert tuple(RULES) == get_args(ForeignRule)
    assert FIGURES.names == ForeignSite(scenario({"a": {}}), "a").spec.metrics


def test_episodes_are_drawn_by_split_and_tests_do_not_depend_on_the_seed() -> None:
    sites = [ForeignSite(scenario({"a": {}}, seed=seed), "a") for seed in (0, 1)]
    tests = [site.draw("test", 4).seeds.tolist() for site in sites]
    assert tests[0] == tests[1]
    assert sites[0].draw("test", 2).seeds.tolist() == tests[0][:2]
    train = [site.draw("train", 4, 1).seeds.tolist() for site in sites]
    assert train[0] != train[1]
    assert train[0] != sites[0].draw("train", 4, 2).seeds.tolist()
    assert set(train[0]).isdisjoint(sites[0].draw("validation", 4).seeds.tolist())


def test_rules_take_legal_actions_of_both_forms(mine: str) -> None:
    for arguments, low, high in (({"numbers": 3}, 0, 2), ({}, 0.0, 1.0)):
        world = (
            {"entry_point": mine, "arguments": arguments} if arguments else {"arguments": {"continuous_actions": True}}
        )
        site = ForeignSite(scenario({"a": world}), "a")
        [kind] = site.spec.kinds
        for name in RULES:
            batch, rule = site.world(8), controller(name)
            rule.reset(batch)
            observation = batch.reset(*torch.zeros(2, 8, dtype=torch.int64))
            actions = rule.act(observation)[kind.name]
            assert (actions.dtype == torch.int64) == (kind.bounds is None)
            assert float(actions.min()) >= low
            assert float(actions.max()) <= high
            assert len(actions.unique()) == 1 if name == "first" else len(actions.unique()) > 2
            batch.step({kind.name: actions})


def test_the_best_rule_and_the_score_of_signed_returns(mine: str) -> None:
    site = ForeignSite(scenario({"a": {"entry_point": mine}}), "a")
    episodes, found = site.validation
    assert found["first"].tolist() == [-40.0] * 3
    assert -40.0 < float(found["random"].mean()) < -32.0
    assert site.best_rule == "random"
    policy = make_policy(scenario({"a": {"entry_point": mine}}), site.spec)
    judged = site.judge(policy)
    gained = judged.score * float(found["random"].mean())  # where returns are negative, the score is their ratio
    with site.world(3) as world:
        known = evaluate(policy, world, episodes.instances, episodes.seeds)["return"].mean()
    assert gained == pytest.approx(float(known))
    assert judged.ratios == {"cost": judged.score}


def test_figures_of_which_more_is_better_compare_by_what_is_gained() -> None:
    cost, gain = Figure("wait"), Figure("return", more=True)
    assert cost.relative(3.0, 2.0) == 1.5
    assert gain.relative(-18.0, -24.0) == pytest.approx(0.75)
    assert gain.relative(3.0, 2.0) == pytest.approx(0.5)
    assert gain.relative(1.0, 2.0) == pytest.approx(1.5)
    assert gain.relative(2.0, 2.0) == 1.0


class Interrupted(PlainProgress):
    """A user who stops the run after its second round."""

    def step(self, name: str, note: str = "") -> None:
        super().step(name, note)
        self.rounds = getattr(self, "rounds", 0) + (name == "rounds")
        if self.rounds == 2:
            raise KeyboardInterrupt


def test_a_run_learns_resumes_and_is_evaluated(mine: str, tmp_path: Path) -> None:
    told = scenario({"a": {"entry_point": mine}}, copies=16, federation={"rounds": 4, "local_updates": 4})
    folder = run_it(told, tmp_path / "run")
    assert "a: 4 steps a period, best rule random" in "\n".join(summary(read_run(folder)))
    rows = {row["actor"]: row["return"] for row in evaluate_run(folder, None, PlainProgress(io.StringIO())).rows}
    assert rows["policy"] == -32.0  # both agents pick the highest number every time
    assert rows["first"] == -40.0
    with pytest.raises(KeyboardInterrupt):
        run(told, tmp_path / "again", None, Interrupted(io.StringIO()))
    again = run(told, None, tmp_path / "again", PlainProgress(io.StringIO()))
    straight, resumed = (trained_parameters(read_run(place))["a"] for place in (folder, again))
    assert all(np.array_equal(array, resumed[name]) for name, array in straight.items())
    policy, world = load_policy(folder), ForeignSite(told, "a").world(2)
    policy.reset(world)
    chosen = policy.act(world.reset(*torch.zeros(2, 2, dtype=torch.int64)))
    assert chosen["a"].tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize(
    "world",
    [
        {"entry_point": "mpe2.simple_tag_v3:parallel_env"},
        {"arguments": {"continuous_actions": True, "max_cycles": 5}},
        {"limit": 3, "neighbours": {"agent_0": ["agent_1"], "agent_1": ["agent_0"]}, "numbered": False},
    ],
)
def test_unlike_agents_vectors_and_limits_run_end_to_end(world: dict[str, Any], tmp_path: Path) -> None:
    messages = {"messages": {"trigger": "always", "latent": 4}, "encoder": {"width": 8}, "ppo": {"advantage": "gae"}}
    folder = run_it(scenario({"a": world}, agents=messages, federation={"rounds": 1}), tmp_path / "run")
    operated = [event for event in read_run(folder).events if event["kind"] == "operated"]
    assert [event["actor"] for event in operated] == ["random", "first", "best-rule", "policy"]
    assert all(np.isfinite(event["sites"]["a"]["return"]) for event in operated)


def test_sites_that_look_alike_learn_together(tmp_path: Path) -> None:
    told = scenario(
        {"a": {}, "b": {}, "c": {}}, learning="federated", federation={"rounds": 1, "secure_aggregation": {}}
    )
    folder = run_it(told, tmp_path / "run")
    [event] = [event for event in read_run(folder).events if event["kind"] == "round"]
    assert event["took_part"] == ["a", "b", "c"]


def found_by(check: Callable[[], object]) -> dict[str, str]:
    with pytest.raises(WorldSetupError) as caught:
        check()
    return {".".join(map(str, one.place)): one.message for one in caught.value.found}


def test_what_cannot_be_used_is_told_with_its_place(mine: str) -> None:
    worlds = {
        "module": {"entry_point": "mpe3:parallel_env"},
        "function": {"entry_point": "mpe2.simple_spread_v3:env_parallel"},
        "turns": {"entry_point": "mpe2.simple_spread_v3:env"},
        "arguments": {"arguments": {"M": 2}},
        "neighbours": {"neighbours": {"agent_0": ["agent_7"]}},
        "early": {"entry_point": mine, "arguments": {"broken_at": 2}},
    }
    found = found_by(lambda: DOMAIN.check(scenario(worlds)))
    assert "there is no module 'mpe3'" in found["sites.module.world.entry_point"]
    assert "has no function 'env_parallel'" in found["sites.function.world.entry_point"]
    assert "agents take turns" in found["sites.turns.world.entry_point"]
    assert "raised TypeError" in found["sites.arguments.world.arguments"]
    assert "no agent 'agent_7'" in found["sites.neighbours.world.neighbours"]
    assert "agent a_0, step 2: an observation holds nan" in found["sites.early.world.entry_point"]


def test_sites_that_do_not_look_alike_are_told_before_the_run(mine: str) -> None:
    found = found_by(lambda: DOMAIN.check(scenario({"a": {}, "b": {"entry_point": mine}})))
    assert found == {
        "sites.b.world.entry_point": "sites share a policy, but this one has a (3 features, 3 actions), "
        "a has agent (21 features, 5 actions)"
    }


def test_nothing_is_searched_where_there_are_no_linear_scores() -> None:
    told = scenario({"a": {"arguments": {"continuous_actions": True}}}, agents={"search": {"generations": 1}}, copies=8)
    assert "tries linear scores" in found_by(lambda: DOMAIN.check(told))["agents.search"]
    with pytest.raises(UserError, match="simulate themselves"):
        DOMAIN.check_simulator(told, "sumo")


def test_a_search_tries_action_biases(mine: str) -> None:
    search = {"generations": 1, "windows": 2, "population": 4}
    told = scenario({"a": {"entry_point": mine}}, agents={"search": search, "encoder": {"width": 8}}, copies=8)
    site = ForeignSite(told, "a")
    bias = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert site.trial(make_policy(told, site.spec), bias, 0).tolist() == [32.0, 40.0]


def test_a_policy_of_another_shape_is_told_with_run_and_site(mine: str, tmp_path: Path) -> None:
    three, five = (scenario({"a": {"entry_point": mine, "arguments": {"numbers": n}}}) for n in (3, 5))
    folder = run_it(three, tmp_path / "run")
    with pytest.raises(UserError, match=r"run: its policy does not fit site a: .* shape \(8, 3\), the policy \(8, 5\)"):
        evaluate_run(folder, five, PlainProgress(io.StringIO()))
    policy, world = load_policy(folder), ForeignSite(five, "a").world(2)
    with pytest.raises(AgentError, match=r"pick: kind 'a' has \(3, 0, 5, 0\) .*, the policy has \(3, 0, 3, 0\)"):
        policy.reset(world)


def test_an_environment_that_breaks_later_names_world_agent_and_step(mine: str, tmp_path: Path) -> None:
    told = scenario({"a": {"entry_point": mine, "arguments": {"broken_at": 7, "length": 9}}})
    with pytest.raises(Exception, match="pick: world 0, agent a_0, step 7: an observation holds nan"):
        run_it(told, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("entry_point: mpe2.simple_spread_v3", "should be 'package.module:function' or 'file.py:function'"),
        ("entry_point: 'nowhere.py:parallel_env'", "there is no file 'nowhere.py'"),
        ("entry_points: x", "unknown key 'entry_points' (did you mean 'entry_point'?)"),
        ("workers: 5", "5 processes for 4 copies"),
        ("neighbours: [a]", "a mapping of keys to values is needed"),
    ],
)
def test_slips_in_a_file_are_told_with_their_line(tmp_path: Path, change: str, message: str) -> None:
    file = tmp_path / "foreign.yaml"
    world = ["domain: pettingzoo", "entry_point: 'mpe2.simple_spread_v3:parallel_env'"]
    world = [line for line in world if not line.startswith(f"{change.split(':')[0]}:")]
    lines = "".join(f"      {line}\n" for line in [*world, change])
    file.write_text(
        f"version: 1\nname: f\nlearning: local\nsites:\n  a:\n    world:\n{lines}    copies: 4\n"
        "agents: {ppo: {advantage: gae}}\n"
    )
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    assert message in str(caught.value)
    assert f"foreign.yaml:{6 + len(world) + 1}:" in str(caught.value)


@pytest.mark.usefixtures("mine")
def test_files_stand_beside_the_scenario_and_gpus_and_plans_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "foreign.yaml"
    file.write_text(
        "version: 1\nname: f\nlearning: local\nsites: {a: {copies: 8, world: {domain: pettingzoo, "
        "entry_point: 'mine.py:parallel_env', arguments: {numbers: 5}}}}\n"
    )
    told = load_scenario(file)
    assert ForeignSite(told, "a").spec.kinds[0].actions == 5
    assert Scenario.model_validate(resolved(told)) == told
    for key, value, message in (
        ("workers.gpus_per_site", "0.5", "live on the CPU"),
        ("evaluation.period", "2d", "an environment's period is its episode"),
        ("agents.constraints.wait", "{at_most: 1.1}", "foreign rewards have one part"),
        ("evaluation.replay", "1 s", "foreign environments have no replay yet"),
        ("agents.start", "saf", "no start 'saf'"),
        ("evaluation.against", "[fcfs]", "no rule 'fcfs'"),
    ):
        with pytest.raises(ScenarioError, match=message):
            load_scenario(file, [f"{key}={value}"])


def test_a_site_plays_the_same_in_its_own_process_and_in_workers() -> None:
    sites = [ForeignSite(scenario({"a": {"workers": workers}}), "a") for workers in (0, 2)]
    pairs = [(0, 3), (0, 4), (0, 5)]
    with sites[0].world(3) as here, sites[1].world(3) as there:
        for one, other in zip(play(here, pairs, 30), play(there, pairs, 30), strict=True):
            assert all(np.array_equal(one[-1][name], other[-1][name]) for name in one[-1])
