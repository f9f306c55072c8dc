"""Where a slower level of plans pays: signals alone against signals beside a plan, both searched alike.

    python -m benchmarks.hierarchy                       # a generated arterial near and over saturation, and a grid
    python -m benchmarks.hierarchy arterial4x4 --generations 0    # a map of RESCO's, without the search

Delay (RESCO's) on test demands that no search has seen. Rules are the classical ones. *fixed*: the scores that searches
start from, and the same plan in all periods and chains; *kept*: the same to the letter. *search*: linear scores by
CMA-ES on training demands, the same generations, population and episodes with and without the slower level; without it
the two features of the plan are missing, all else is alike. *oracle*: the signals as searched beside the plan (or as
they start), and in every period that plan for all chains which loses least until the next one, tried in copies of the
world. Differences are paired, with 95 % intervals over search seeds and over demands: the former say what another
search might find, the latter what these found on other days. A case that `--out` holds already is not measured again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import paired, parser, table, write
from fedsched.agents.collect import play
from fedsched.agents.config import PolicyConfig
from fedsched.agents.evolution import Cma, FloatArray
from fedsched.agents.network import SoftRule
from fedsched.agents.policy import Policy
from fedsched.agents.population import LinearPopulation, linear_weights, play_population
from fedsched.envs.core import Controller, Observation
from fedsched.envs.intersections.controllers import ProgramController, greedy, max_pressure
from fedsched.envs.intersections.generate import Arterial, Grid, Traffic, generated_problem
from fedsched.envs.intersections.maps import resco_problem
from fedsched.envs.intersections.planned import PlannedWorld
from fedsched.envs.intersections.planned_view import PLANNER
from fedsched.envs.intersections.plans import PLANS
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.programs import green_wave, webster
from fedsched.envs.intersections.variation import Variation, varied_problem
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

TEST, TRAIN, WINDOWS, POPULATION, SIGMA, PERIOD_S = 12, 24, 2, 12, 4.0, 180
AVERAGE = 0.1
"""Weight of a generation's centre in the running average that a search ends with."""
GREEDY = {"log_near": 40.0, "current": 2.0}
STARTS: Mapping[str, dict[str, SoftRule]] = {
    "signals": {KIND: SoftRule(GREEDY)},
    "plan": {KIND: SoftRule({**GREEDY, "owed": 20.0}), PLANNER: SoftRule({"queue": 4.0})},
}
GENERATED = {
    "arterial": (Arterial(crossings=4, lanes=2), 3600.0),
    "overload": (Arterial(crossings=4, lanes=2), 4800.0),
    "grid": (Grid(), 5500.0),
}
"""Shapes and vehicles/h of the generated cases."""
FIXED = ("none", "flow-apart", "flow-along", "queue-apart", "queue-along", "queue-against", "main-along")
KEPT = ("flow-apart", "flow-along", "queue-along")
Act = Callable[[Observation], Mapping[str, torch.Tensor]]


def problem_of(name: str) -> Problem:
    """The city of a case; its first `TEST` demands are for tests."""
    if name in GENERATED:
        city, vehicles_per_h = GENERATED[name]
        return generated_problem(city, Traffic(vehicles_per_h, seconds=900), 1, TEST + TRAIN)
    return varied_problem(resco_problem(name), Variation(), TEST + TRAIN)


def world_of(problem: Problem, arm: str, batch: int) -> IntersectionsWorld | PlannedWorld:
    """Copies without the slower level, or with it."""
    streets = IntersectionsWorld(problem, batch, "resco")
    return PlannedWorld(streets, PERIOD_S) if arm == "plan" else streets


def policy_of(world: IntersectionsWorld | PlannedWorld, arm: str) -> Policy:
    """What names features and holds the start of the search."""
    return Policy(world.spec, PolicyConfig(messages=None), STARTS[arm])


def delays(world: IntersectionsWorld | PlannedWorld, instances: torch.Tensor, act: Act) -> FloatArray:
    """RESCO's delay of each row, driver seeds are 0."""
    return np.asarray(play(world, instances, torch.zeros_like(instances), act)["resco_delay_s"].numpy())


def rules(problem: Problem, test: int) -> dict[str, FloatArray]:
    """What the classical controllers make of the test demands."""
    cases: dict[str, tuple[Problem, str, Controller]] = {
        "program": (problem, "program", ProgramController()),
        "webster": (webster(problem), "program", ProgramController()),
        "green-wave": (green_wave(problem), "program", ProgramController()),
        "greedy": (problem, "resco", greedy()),
        "max-pressure": (problem, "resco", max_pressure()),
    }
    found = {}
    for name, (own, timing, controller) in cases.items():
        world = IntersectionsWorld(own, test, timing)
        controller.reset(world)
        found[name] = delays(world, torch.arange(test), controller.act)
    return found


def with_plan(act: Act, plan: torch.Tensor) -> Act:
    """The same with a plan, int64 [B], in place of what planners choose; `none` where a chain cannot have it."""

    def acts(observation: Observation) -> Mapping[str, torch.Tensor]:
        planners = observation.kinds[PLANNER]
        wanted = plan[:, None].expand_as(planners.active)
        legal = planners.action_mask.gather(2, wanted[..., None])[..., 0]
        chosen = torch.where(legal, wanted, 0)
        return {**act(observation), PLANNER: torch.where(planners.active, chosen, len(PLANS))}

    return acts


def fixed(problem: Problem, test: int) -> dict[str, FloatArray]:
    """The start of the search beside one and the same plan; and signals that keep it to the letter."""
    found = _beside(problem, test, FIXED, {})
    kept = _beside(problem, test, KEPT, {"planned": 1000.0})
    return {f"fixed {name}": row for name, row in found.items()} | {f"kept {name}": row for name, row in kept.items()}


def _beside(problem: Problem, test: int, plans: Sequence[str], more: Mapping[str, float]) -> dict[str, FloatArray]:
    """The start of the search with more weights, beside each of these plans."""
    world = world_of(problem, "plan", test * len(plans))
    rule = SoftRule({**STARTS["plan"][KIND].weights, **more})
    policy = Policy(world.spec, PolicyConfig(messages=None), {KIND: rule})
    weights = linear_weights(policy, KIND, PLANNER)[None]
    plan = torch.tensor([PLANS.index(name) for name in plans]).repeat_interleave(test)
    act = with_plan(LinearPopulation(policy, world.spec, world.batch, weights, "cpu"), plan)
    found = delays(world, torch.arange(test).repeat(len(plans)), act)
    return dict(zip(plans, found.reshape(-1, test), strict=True))


def search(problem: Problem, arm: str, seed: int, generations: int) -> FloatArray:
    """Linear scores [n] found on training demands."""
    world = world_of(problem, arm, POPULATION * WINDOWS)
    policy = policy_of(world, arm)
    start = linear_weights(policy, *(kind.name for kind in world.spec.kinds))
    cma, centre = Cma(start, SIGMA, POPULATION, seed), start.copy()
    train = np.random.default_rng(seed).permutation(TRAIN) + TEST
    for generation in range(generations):
        candidates = cma.ask()
        instances = torch.as_tensor(np.take(train, np.arange(WINDOWS) + WINDOWS * generation, mode="wrap"))
        figures = play_population(policy, candidates, world, instances, torch.full_like(instances, 1 + generation))
        cma.tell(candidates, figures["resco_delay_s"].log().mean(1).numpy())
        centre += AVERAGE * (cma.mean - centre)
    return centre if generations >= 1.0 / AVERAGE else cma.mean


def judge(problem: Problem, arm: str, weights: FloatArray, test: int) -> FloatArray:
    """What searched scores make of the test demands."""
    world = world_of(problem, arm, test)
    act = LinearPopulation(policy_of(world, arm), world.spec, test, weights[None], "cpu")
    return delays(world, torch.arange(test), act)


def oracle(problem: Problem, weights: FloatArray | None, test: int) -> FloatArray:
    """The same with the plan of every period that loses least until the next one."""
    world, copies = (world_of(problem, "plan", test * rows) for rows in (1, len(PLANS)))
    assert isinstance(world, PlannedWorld)
    assert isinstance(copies, PlannedWorld)
    policy = policy_of(world, "plan")
    known = linear_weights(policy, KIND, PLANNER) if weights is None else weights
    near, far = (LinearPopulation(policy, world.spec, one.batch, known[None], "cpu") for one in (world, copies))
    observation = world.reset(torch.arange(test), torch.zeros(test, dtype=torch.int64))
    every = torch.arange(len(PLANS)).repeat(test)
    for begin in range(0, problem.seconds, PERIOD_S):
        there = copies.branch(world, torch.arange(test).repeat_interleave(len(PLANS)))
        run_until(copies, there, with_plan(far, every), begin + PERIOD_S)
        best = copies.lost().reshape(test, -1).argmin(1)
        observation = run_until(world, observation, with_plan(near, best), begin + PERIOD_S)
    return np.asarray(world.metrics()["resco_delay_s"].numpy())


def run_until(world: PlannedWorld, observation: Observation, act: Act, until_s: float) -> Observation:
    """Drives all rows to a moment, or to the end."""
    until = torch.full((world.batch,), float(min(until_s, world.world.problem.seconds)), dtype=torch.float64)
    while bool((observation.time_s < until).any()):
        observation = world.step(act(observation), until).observation
    return observation


def measure(problem: Problem, name: str, seeds: Sequence[int], generations: int, test: int) -> dict[str, FloatArray]:
    """Delays of a case: by demand, [T], and of what was searched by search seed and demand, [S, T]."""
    rows = {**rules(problem, test), **fixed(problem, test)}
    found: dict[str, list[FloatArray]] = {"search signals": [], "search plan": [], "oracle": []}
    for seed in seeds if generations else ():
        for arm in STARTS:
            weights = search(problem, arm, seed, generations)
            found[f"search {arm}"].append(judge(problem, arm, weights, test))
            print(f"{name}: seed {seed}: {arm} {found[f'search {arm}'][-1].mean():.2f} s", flush=True)
        found["oracle"].append(oracle(problem, weights, test))
    if not generations:
        rows["oracle over the start"] = oracle(problem, None, test)
    return rows | {row: np.stack(values) for row, values in found.items() if values}


def compared(name: str, delay_s: Mapping[str, FloatArray]) -> dict[str, dict[str, str]]:
    """Prints a case; differences over search seeds (means of demands) and over demands (means of search seeds)."""
    table(
        (f"{name}: delay s", "mean", "least", "most"), [(r, float(v.mean()), *_spread(v)) for r, v in delay_s.items()]
    )
    found = {}
    for one, other in (("search plan", "search signals"), ("oracle", "search plan")):
        if other in delay_s:
            by = [[delay_s[row].mean(axis).tolist() for row in (one, other)] for axis in (1, 0)]
            found[f"{one} - {other}"] = {"seeds": paired(*by[0]), "demands": paired(*by[1])}
    if found:
        rows = [(row, both["seeds"], both["demands"]) for row, both in found.items()]
        table(("difference, s", "over search seeds", "over demands"), rows)
    return found


def _known(path: Path, settings: Mapping[str, object]) -> dict[str, dict[str, FloatArray]]:
    """Delays that a JSON holds for the same settings, by the digest of the problem."""
    told = json.loads(path.read_text()) if path.exists() else {}
    if told.get("settings") != settings:
        return {}
    return {
        case["problem"]: {row: np.array(values) for row, values in case["delay_s"].items()}
        for case in told["cases"].values()
    }


def _spread(values: FloatArray) -> tuple[float, float]:
    """Least and greatest mean: of search seeds where there are some, else of demands."""
    means = values.mean(-1) if values.ndim > 1 else values
    return float(means.min()), float(means.max())


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables and writes JSON, anew after every case."""
    made = parser(__doc__, "hierarchy")
    made.add_argument("cases", nargs="*", default=list(GENERATED), help="%(default)s, or maps of RESCO's")
    made.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="of the searches")
    made.add_argument("--generations", type=int, default=10, help="%(default)s; 0: no search")
    made.add_argument("--test", type=int, default=TEST, help="test demands, %(default)s")
    options = made.parse_args(arguments)
    seeds, generations, test = options.seeds, options.generations, min(options.test, TEST)
    settings: dict[str, object] = {
        "generations": generations, "population": POPULATION, "windows": WINDOWS, "sigma": SIGMA, "seeds": seeds,
        "test": test, "period_s": PERIOD_S,
    }  # fmt: skip
    known, results = _known(options.out, settings), {}
    for name in options.cases:
        problem = problem_of(name)
        delay_s = known.get(problem.digest)
        if delay_s is None:
            delay_s = measure(problem, name, seeds, generations, test)
        differences = compared(name, delay_s)
        told = {row: values.tolist() for row, values in delay_s.items()}
        results[name] = {"problem": problem.digest, "delay_s": told, "differences": differences}
        write(options.out, {"settings": settings, "cases": results})


if __name__ == "__main__":
    main()
