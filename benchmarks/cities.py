"""Cities that learn: each alone, together by federated averaging, or as one learner; with messages and without.

    OMP_NUM_THREADS=1 python -m benchmarks.cities modes four        # four generated cities
    OMP_NUM_THREADS=1 python -m benchmarks.cities modes pair        # cologne3 and ingolstadt7 of RESCO
    OMP_NUM_THREADS=1 python -m benchmarks.cities messages pair     # signals that talk against silent ones

The scenarios are benchmarks/cities_four.yaml and cities_pair.yaml; every arm has as many local updates, on as many
episodes of each city; for messages each city learns alone. Delay is RESCO's, in our world, the mean over eight test
episodes under the policy that the run ends with. A difference is relative to the arm it is compared with, paired by
seed, with the 95 % interval (Student's t). Runs that the JSON holds are not made again.
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from benchmarks import report
from fedsched.sim.folder import read_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.provenance import silence
from fedsched.sim.run import run
from fedsched.sim.scenario import load_scenario

HERE = Path(__file__).parent
ARMS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "modes": {
        "local": ("learning=local",),
        "federated": ("learning=federated",),
        "central": ("learning=central",),
    },
    "messages": {
        "silent": ("learning=local",),
        "talking": ("learning=local", "agents.messages={rounds: 1}"),
    },
}
"""Changes of the scenario by question and arm; the first arm is what the others are compared with."""


def outcome(question: str, place: str, arm: str, seed: int) -> dict[str, Any]:
    """One run: delay of each city under policy and rules, and what it took."""
    changes = [f"seed={seed}", *ARMS[question][arm]]
    scenario = load_scenario(str(HERE / f"cities_{place}.yaml"), changes)
    begin, wall = time.process_time(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        made = read_run(run(scenario, Path(folder) / "run", None, PlainProgress(sys.stdout)))
        lines = [json.loads(line) for line in (made.folder / "events.jsonl").read_text().splitlines()]
    operated = {line["actor"]: line["sites"] for line in lines if line["kind"] == "operated"}
    delay = {actor: {site: told["resco_delay_s"] for site, told in sites.items()} for actor, sites in operated.items()}
    jams = {site: told["gridlock"] for site, told in operated["policy"].items()}
    spent = {"cpu_s": time.process_time() - begin, "wall_s": time.perf_counter() - wall}
    return {"question": question, "scenario": place, "arm": arm, "seed": seed, "delay_s": delay, "jams": jams, **spent}


def difference(mine: Sequence[float], other: Sequence[float]) -> tuple[float, float | None]:
    """By how many per cent the first are above the others, paired, and half the width of its 95 % interval."""
    gained = 100.0 * (np.array(mine) / np.array(other) - 1.0)
    if len(gained) < 2:
        return float(gained.mean()), None
    return float(gained.mean()), float(student.ppf(0.975, len(gained) - 1) * gained.std(ddof=1) / len(gained) ** 0.5)


def rows(found: Sequence[Mapping[str, Any]], question: str) -> list[tuple[object, ...]]:
    """The table: a row for each city and arm, and one for each arm about the mean over cities, relative to greedy."""
    arms = list(ARMS[question])
    by_arm = {arm: sorted((r for r in found if r["arm"] == arm), key=lambda r: r["seed"]) for arm in arms}
    cities, made = list(found[0]["delay_s"]["policy"]), []
    for city in (*cities, "all, to greedy"):
        values = {arm: {r["seed"]: _value(r, city) for r in runs} for arm, runs in by_arm.items() if runs}
        for arm, own in values.items():
            base = {} if arm == arms[0] else values.get(arms[0], {})
            both = [seed for seed in own if seed in base]
            pairs = [own[seed] for seed in both], [base[seed] for seed in both]
            percent, half = difference(*pairs) if both else (None, None)
            jams = sum(r["jams"][city] for r in by_arm[arm]) / len(own) if city in cities else None
            greedy = found[0]["delay_s"]["greedy"][city] if city in cities else None
            made.append((city, arm, len(own), float(np.mean(list(own.values()))), percent, half, greedy, jams))
    return made


def _value(one: Mapping[str, Any], city: str) -> float:
    delay = one["delay_s"]
    if city in delay["policy"]:
        return float(delay["policy"][city])
    return float(np.mean([delay["policy"][place] / delay["greedy"][place] for place in delay["policy"]]))


def main() -> None:
    """Runs what is missing and prints."""
    options = report.parser(__doc__, "cities")
    options.add_argument("question", choices=ARMS)
    options.add_argument("scenario", choices=("four", "pair"))
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    chosen = options.parse_args()
    torch.set_num_threads(1)
    silence()
    kept: list[dict[str, Any]] = json.loads(chosen.out.read_bytes())["runs"] if chosen.out.exists() else []
    for seed in chosen.seeds:
        for arm in ARMS[chosen.question]:
            key = (chosen.question, chosen.scenario, arm, seed)
            if key not in [(r["question"], r["scenario"], r["arm"], r["seed"]) for r in kept]:
                kept.append(outcome(*key))
                report.write(chosen.out, {"runs": kept})
    found = [r for r in kept if (r["question"], r["scenario"]) == (chosen.question, chosen.scenario)]
    head = ("city", "arm", "seeds", "delay", "difference %", "95 % +-", "greedy", "jams")
    report.table(head, rows(found, chosen.question))


if __name__ == "__main__":
    main()
