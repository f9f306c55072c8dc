"""What a decision costs: the policy in torch, and the file that `fedsched export` makes of it, one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.exported                   # a data centre and a city, two encoders

Decisions are those of the policies of datacenters.yaml and cities.yaml, untrained, after 30 steps. `torch` computes the
ragged decisions that were gathered, `run` the padded ones through ONNX Runtime; `decide` takes one agent's features as
a world shows them, checks them, and answers. Microseconds of CPU time per decision, the median of five repetitions.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import report
from fedsched.agents.collect import GreedyActor
from fedsched.agents.export import export_kind
from fedsched.agents.policy import Policy
from fedsched.agents.recorded import Block, Recording, block_of
from fedsched.agents.step import PolicyStep
from fedsched.envs.core import KindSpec, Tokens, World
from fedsched.exported import ExportedPolicy
from fedsched.sim.domains import domain_of
from fedsched.sim.scenario import load_scenario
from fedsched.sim.training import make_policy

WORLDS = {"datacenter": ("datacenters", "north"), "city": ("cities", "grid")}
ENCODERS = ("pointwise", "hierarchical")
BATCH, STEPS, REPEATS, SECONDS = 1024, 30, 5, 0.4


@dataclass(frozen=True)
class Moment:
    """What many agents have to decide at one moment, in all forms that it is given in."""

    policy: Policy
    step: PolicyStep
    tokens: Tokens
    block: Block
    file: ExportedPolicy
    kind: KindSpec


def moment(place: str, encoder: str, folder: Path) -> Moment:
    """Plays some steps of so many worlds that `BATCH` agents decide in the last one; exports the policy."""
    name, site = WORLDS[place]
    scenario = load_scenario(name, ["learning=local", f"agents.encoder.kind={encoder}"])
    worlds = domain_of(scenario).site(scenario, site)
    policy, world = make_policy(scenario, worlds.spec), worlds.world(BATCH)
    episodes, kind = worlds.draw("validation", BATCH), worlds.spec.kinds[0]
    tokens, step = _play(policy, world, kind, episodes.instances, episodes.seeds)
    block, recorded = block_of(policy, step, kind), Recording(BATCH)
    recorded.add(block)
    path = folder / f"{place}-{encoder}.onnx"
    path.write_bytes(export_kind(policy, kind, recorded, {}).model)
    return Moment(policy, step, tokens, block, ExportedPolicy(path), kind)


@torch.no_grad()
def _play(
    policy: Policy, world: World, kind: KindSpec, instances: torch.Tensor, seeds: torch.Tensor
) -> tuple[Tokens, PolicyStep]:
    actor, observation = GreedyActor(policy, world.spec, world.batch), world.reset(instances, seeds)
    for _ in range(STEPS):
        observation = world.step(actor(observation)).observation
    step: PolicyStep = policy(world.spec, observation, None, actor.mailbox)
    return observation.kinds[kind.name], step


def cost_us(work: Callable[[], int]) -> float:
    """CPU microseconds per decision of `work`, which returns how many it took; the median of some repetitions."""
    work()
    found = []
    for _ in range(REPEATS):
        begin, count = time.process_time(), 0
        while (spent := time.process_time() - begin) < SECONDS:
            count += work()
        found.append(1e6 * spent / count)
    return statistics.median(found)


def in_turn(one: Callable[[int], object], lines: Iterator[int]) -> int:
    """Takes the next decision."""
    one(next(lines))
    return 1


def forever(count: int) -> Iterator[int]:
    """0 to count - 1, again and again."""
    while True:
        yield from range(count)


def measure(place: str, encoder: str, folder: Path) -> dict[str, Any]:
    """All paths of one world and encoder."""
    made = moment(place, encoder, folder)
    [kind] = made.step.decisions
    decisions = made.step.decisions[kind].select(torch.arange(BATCH))
    given = {name: made.block.given[name][:BATCH].numpy() for name in made.file.inputs}
    single = [decisions.select(torch.tensor([k])) for k in range(256)]
    lines = [{name: values[k : k + 1] for name, values in given.items()} for k in range(256)]
    seen = _seen(made)[:256]
    with torch.no_grad():
        figures = {
            "torch, 1": cost_us(partial(in_turn, lambda k: made.policy.judge({kind: single[k]}), forever(256))),
            "decide, 1": cost_us(partial(in_turn, lambda k: made.file.decide(*seen[k][0], **seen[k][1]), forever(256))),
            "run, 1": cost_us(partial(in_turn, lambda k: made.file.run(lines[k]), forever(256))),
            "torch, 1024": cost_us(lambda: len(made.policy.judge({kind: decisions}).distribution) * BATCH),
            "run, 1024": cost_us(lambda: len(made.file.run(given)["probabilities"])),
        }
    rows = float(given["row_mask"].sum(1).mean())
    return {"world": place, "encoder": encoder, "legal_actions": rows, "padded_to": given["rows"].shape[1], **figures}


def _seen(made: Moment) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What single agents see, as numpy arrays, and what their world tells of it."""
    tokens = made.tokens
    parts = (tokens.own, tokens.entities, tokens.actions, tokens.action_mask, tokens.entity_mask)
    where = tokens.active.nonzero()
    tables = {"concerns": made.kind.relation, "links": made.kind.links}
    told = {name: table for name, table in tables.items() if isinstance(table, np.ndarray)}
    return [
        (tuple(part[b, a].clone().numpy() for part in parts), {name: table[a] for name, table in told.items()})
        for b, a in where.tolist()
    ]


def main() -> None:
    """Measures every world with every encoder, prints the table and writes JSON."""
    parser = report.parser(__doc__, "exported")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(place, encoder, Path(folder)) for place in WORLDS for encoder in ENCODERS]
    columns = list(found[0])
    report.table(columns, [[line[name] for name in columns] for line in found])
    report.write(chosen.out, {"batch": BATCH, "microseconds": found})


if __name__ == "__main__":
    main()
