"""Does noise on the parameters explore better than an entropy bonus? Neither, each, both, and noise without memory.

    OMP_NUM_THREADS=1 python -m benchmarks.exploration                # ten seeds of a corridor, three of a city

The corridor pays at its far end alone: an agent stands on one of 30 places, moves left or right, and has 45 moves. A
walk by chance arrives once in some hundred thousand episodes; a policy that leans to the right arrives often. What is
told is the share of greedy episodes that arrive after 30 updates of 64 episodes, and in which update the first sampled
one did. The city is the grid of cities.yaml without a soft rule, after 8 updates: mean delay relative to the best
classical controller's on validation episodes. Means over seeds, with each seed beside them, and by how much they are
larger than those of `neither`, paired by seed, with the 95 % interval.
"""

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks import report
from fedsched.agents import Learner, LearnerConfig, Policy, PolicyConfig, PpoConfig, evaluate
from fedsched.agents.noise import NoiseConfig
from fedsched.envs.core import KindSpec, Observation, Snapshot, Tokens, Transition, WorldSpec
from fedsched.sim.domains import domain_of
from fedsched.sim.domains.base import SiteWorlds
from fedsched.sim.scenario import load_scenario
from fedsched.sim.training import Trainer

WHITE = NoiseConfig(correlation=0.0)
ARMS: dict[str, tuple[float, NoiseConfig | None]] = {
    "neither": (0.0, None),
    "entropy": (0.003, None),
    "more entropy": (0.03, None),
    "noise": (0.0, NoiseConfig()),
    "both": (0.003, NoiseConfig()),
    "white noise": (0.0, WHITE),
}
"""Weight of the entropy, and the noise; white noise is drawn anew at every step."""
PLACES, MOVES = 30, 45
ROWS, UPDATES, CITY_UPDATES = 64, 30, 8


class Corridor:
    """B walkers on a line that pays at its end (contract: `envs.core.World`)."""

    def __init__(self, batch: int) -> None:
        kind = KindSpec("walker", ("walker",), own=("place", "left"), action=("right",), actions=2)
        self.spec = WorldSpec("corridor", (kind,), np.full((1, 1), -1), ("arrival",), ("arrived",))
        self.batch, self.device, self._moves = batch, "cpu", 0
        self._place = torch.zeros(batch)

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        """Everybody starts at the near end; nothing is drawn."""
        del instances, seeds, where, until_s
        self._place, self._moves = torch.zeros(self.batch), 0
        return self._observe()

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        """Moves by one; 0 is left, 1 is right. Who has arrived stays."""
        del until_s
        arrived = self._place >= PLACES - 1
        move = actions["walker"][:, 0].float() * 2.0 - 1.0
        self._place = torch.where(arrived, self._place, (self._place + move).clamp(0.0, PLACES - 1))
        self._moves += 1
        there = self._place >= PLACES - 1
        reward = (there & ~arrived).float()[:, None, None]
        cut = ~there & (self._moves == MOVES)
        return Transition(
            self._observe(),
            {"walker": reward},
            torch.ones(self.batch, dtype=torch.float64),
            {"walker": there[:, None]},
            cut,
        )

    def metrics(self) -> dict[str, torch.Tensor]:
        """Whether each has arrived."""
        return {"arrived": (self._place >= PLACES - 1).double()}

    def snapshot(self) -> Snapshot:
        """Where everybody is."""
        return Snapshot({"place": self._place.numpy().copy()}, {"moves": self._moves})

    def restore(self, snapshot: Snapshot) -> Observation:
        """Puts everybody there."""
        self._place, self._moves = torch.from_numpy(snapshot.arrays["place"].copy()), snapshot.extra["moves"]
        return self._observe()

    def _observe(self) -> Observation:
        alive = (self._place < PLACES - 1)[:, None]
        own = torch.stack([self._place / PLACES, torch.full_like(self._place, 1.0 - self._moves / MOVES)], 1)
        tokens = Tokens(
            own=own[:, None],
            entities=torch.zeros(self.batch, 1, 0, 0),
            entity_mask=torch.zeros(self.batch, 1, 0, dtype=torch.bool),
            actions=torch.tensor([[0.0], [1.0]]).expand(self.batch, 1, 2, 1).clone(),
            action_mask=torch.stack([torch.ones_like(alive), alive], 2),
            active=alive,
            alive=alive,
        )
        return Observation(torch.full((self.batch,), float(self._moves), dtype=torch.float64), {"walker": tokens})


def corridor(arm: str, seed: int) -> dict[str, Any]:
    """Learns in the corridor; the share that arrives, and when the first did."""
    entropy, noise = ARMS[arm]
    world = Corridor(ROWS)
    policy = Policy(world.spec, PolicyConfig(messages=None, critic="central"), seed=seed)
    config = LearnerConfig(
        {"arrival": 1.0},
        "gae",
        rollouts=1,
        gamma=0.99,
        noise=noise,
        ppo=PpoConfig(lr=3e-3, iterations=UPDATES, entropy=entropy),
    )
    learner, rows = Learner(policy, config, seed), torch.arange(ROWS)
    first, begin = None, time.process_time()
    for update in range(UPDATES):
        rollouts = learner.collect(world, rows, rows)
        if first is None and bool(rollouts.metrics["arrived"].any()):
            first = update + 1
        learner.update([rollouts])
    arrived = float(evaluate(learner.policy, world, rows, rows)["arrived"].mean())
    return {"figure": arrived, "first": first, "cpu_s": time.process_time() - begin}


@cache
def _grid(seed: int) -> SiteWorlds:
    """The city, whose classical controllers have been judged; the same for all arms."""
    scenario = load_scenario("cities", [f"seed={seed}", "learning=local", "evaluation.validation=8"])
    worlds = domain_of(scenario).site(scenario, "grid")
    _ = worlds.best_rule
    return worlds


def city(arm: str, seed: int) -> dict[str, Any]:
    """Learns in the city; its delay relative to the best controller's."""
    entropy, noise = ARMS[arm]
    changes = [
        f"seed={seed}",
        "learning=local",
        "agents.start=none",
        f"agents.ppo.entropy={entropy}",
        f"agents.exploration={'null' if noise is None else f'{{correlation: {noise.correlation}}}'}",
        f"federation={{rounds: {CITY_UPDATES}, local_updates: 1, secure_aggregation: null}}",
        "evaluation.validation=8",
    ]
    scenario = load_scenario("cities", changes)
    worlds = _grid(seed)
    trainer, begin = Trainer(scenario, [worlds]), time.process_time()
    for _ in range(CITY_UPDATES):
        trainer.update()
    spent = time.process_time() - begin
    return {"figure": trainer.judge(worlds, trainer.parameters).score, "first": None, "cpu_s": spent}


WORLDS = {"corridor": corridor, "city": city}
SEEDS = {"corridor": 10, "city": 3}


def main() -> None:
    """Runs every arm in every world with every seed, prints the table and writes JSON."""
    parser = report.parser(__doc__, "exploration")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--seeds", type=int, help="so many in every world; by default ten and three")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        {"world": place, "arm": arm, "seed": seed, **WORLDS[place](arm, seed)}
        for place in chosen.worlds
        for seed in range(chosen.seeds or SEEDS[place])
        for arm in ARMS
    ]
    rows: list[list[object]] = []
    for place in chosen.worlds:
        for arm in ARMS:
            mine, plain = (
                [line for line in lines if (line["world"], line["arm"]) == (place, a)] for a in (arm, "neither")
            )
            figures = [line["figure"] for line in mine]
            gained = "" if arm == "neither" else report.paired(figures, [line["figure"] for line in plain])
            seeds = ", ".join(f"{figure:.3g}" for figure in figures)
            firsts = ", ".join("-" if line["first"] is None else str(line["first"]) for line in mine)
            rows.append(
                [place, arm, float(np.mean(figures)), seeds, gained, firsts, float(np.mean([m["cpu_s"] for m in mine]))]
            )
    report.table(["world", "arm", "mean", "by seed", "beyond neither", "first arrival", "CPU s"], rows)
    report.write(chosen.out, {"runs": lines})


if __name__ == "__main__":
    main()
