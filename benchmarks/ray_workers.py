"""Ray workers against sites in this process: the same final parameters, and the ratio of wall times.

    python -m benchmarks.ray_workers               # the demo's four centres, two rounds, about two minutes

The scenario is `demo` without plan and evaluation of rules; only the backend differs. Wall time is that of the rounds
alone: starting Ray and making sites is listed by itself. On a shared machine read the load that the JSON notes.
"""

import time
from functools import partial
from typing import Any

import numpy as np

from benchmarks.report import parser, table, write
from fedsched.sim.scenario import Scenario, load_scenario
from fedsched.sim.site import Site
from fedsched.sim.training import Parameters
from fedsched.sim.workers import Workers, start

BACKENDS = ("local", "ray")


def scenario_for(backend: str) -> Scenario:
    """Four centres that learn, on one of the backends."""
    return load_scenario("demo", [f"workers.backend={backend}"])


def learn(workers: Workers[Site], scenario: Scenario, rounds: int, updates: int) -> dict[str, Parameters]:
    """Rounds of local learning from the mean of all sites' parameters; returns what each site ends with."""
    sites = tuple(scenario.sites)
    parameters: Parameters = workers.call(sites[0], "initial")
    learned: dict[str, Parameters] = {}
    for _ in range(rounds):
        found = workers.map("train", dict.fromkeys(sites, (parameters, {"updates": updates})))
        learned = {site: {name: parameters[name] + found[site].delta[name] for name in parameters} for site in sites}
        parameters = {
            name: np.mean([learned[site][name] for site in sites], axis=0, dtype=np.float32) for name in parameters
        }
    return {**learned, "mean": parameters}


def timed(backend: str, rounds: int, updates: int) -> dict[str, Any]:
    """Start and learning on one backend."""
    scenario = scenario_for(backend)
    begin = time.perf_counter()
    with start({name: partial(Site, scenario, name) for name in scenario.sites}, scenario.workers) as workers:
        ready = time.perf_counter()
        parameters = learn(workers, scenario, rounds, updates)
        done = time.perf_counter()
    return {"start_s": ready - begin, "learn_s": done - ready, "parameters": parameters}


def equal(first: dict[str, Parameters], second: dict[str, Parameters]) -> bool:
    """Whether all parameters are the same to the bit."""
    return all(np.array_equal(first[site][name], second[site][name]) for site in first for name in first[site])


def main() -> int:
    """Prints and writes times and the ratio; 1 if the parameters differ."""
    arguments = parser(__doc__, "ray_workers")
    arguments.add_argument("--rounds", type=int, default=2, help="rounds of learning")
    arguments.add_argument("--updates", type=int, default=4, help="updates of each site in a round")
    options = arguments.parse_args()
    found = {backend: timed(backend, options.rounds, options.updates) for backend in BACKENDS}
    same = equal(found["local"]["parameters"], found["ray"]["parameters"])
    ratio = found["local"]["learn_s"] / found["ray"]["learn_s"]
    table(["workers", "start s", "learning s"], [[b, f["start_s"], f["learn_s"]] for b, f in found.items()])
    print(f"Ray is {ratio:.2f} times as fast; final parameters are {'the same' if same else 'DIFFERENT'}")
    times = {backend: {key: f[key] for key in ("start_s", "learn_s")} for backend, f in found.items()}
    write(options.out, {"times": times, "speed_up": ratio, "same_parameters": same, "sites": 4})
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
