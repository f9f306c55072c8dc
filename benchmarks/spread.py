"""Three agents learn to cover three landmarks in `mpe2` simple_spread_v3, an environment that nobody here wrote.

    OMP_NUM_THREADS=1 python -m benchmarks.spread                 # IPPO and MAPPO, three seeds, 300,000 steps each

64 copies play whole episodes of 25 steps; 5 passes of 4 minibatches. Return is the sum of rewards over an episode,
averaged over the agents (`local_ratio` 0.5), of greedy actions on 2,000 episodes that nothing was learned from; -19.5
is the gate of the slow tests.
"""

import itertools
import time
from typing import Any, Literal

import numpy as np
import torch

from benchmarks import report
from fedsched.agents.collect import evaluate
from fedsched.agents.config import EncoderConfig, PolicyConfig
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import Losses, PpoConfig
from fedsched.envs.core.foreign import ForeignWorld, foreign_world

ENTRY, ARGUMENTS = "mpe2.simple_spread_v3:parallel_env", {"N": 3, "max_cycles": 25, "continuous_actions": False}
COPIES, LENGTH, STEPS, EPISODES, GATE = 64, 25, 300_000, 2_000, -19.5

PPO = PpoConfig(
    lr=1e-3, lr_end=1.0, epochs=5, minibatches=4, huber=10.0, grad_norm=10.0, entropy=0.003, entropy_end=1.0
)  # fmt: skip

CriticKind = Literal["independent", "central"]


def spread(batch: int) -> ForeignWorld:
    """Copies of the environment."""
    return foreign_world(ENTRY, ARGUMENTS, batch)


def make_learner(world: ForeignWorld, critic: CriticKind, seed: int, ppo: PpoConfig = PPO) -> Learner:
    """A plain network of two layers of 64 with tanh for all agents, and one like it for their values."""
    encoder = EncoderConfig(width=64, hidden=64, layers=2, scoring="dot")
    config = PolicyConfig(encoder=encoder, messages=None, critic=critic, critic_width=64, critic_start="orthogonal")
    learning = LearnerConfig({"reward": 1.0}, "gae", rollouts=1, gamma=0.9, ppo=ppo)
    return Learner(Policy(world.spec, config, seed=seed), learning, seed)


def learn(learner: Learner, world: ForeignWorld, updates: int) -> list[Losses]:
    """So many updates, each on fresh episodes of all copies."""
    found = []
    for update in range(updates):
        seeds = torch.arange(world.batch) + update * world.batch
        found.append(learner.update([learner.collect(world, torch.zeros_like(seeds), seeds)]))
    return found


def greedy_returns(policy: Policy, episodes: int = EPISODES) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Returns, float64 [n], of greedy actions on episodes that were not learned from."""
    seeds = torch.arange(episodes) + (1 << 40)
    with spread(min(COPIES * 4, episodes)) as world:
        parts = [_returns(policy, world, seeds[i : i + world.batch]) for i in range(0, episodes, world.batch)]
    return np.concatenate(parts)


def _returns(policy: Policy, world: ForeignWorld, seeds: torch.Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    filled = torch.nn.functional.pad(seeds, (0, world.batch - len(seeds)))
    return np.asarray(evaluate(policy, world, torch.zeros_like(filled), filled)["return"][: len(seeds)].numpy())


def run(critic: CriticKind, seed: int, steps: int) -> dict[str, Any]:
    """Learns from `steps` steps of the environment and plays greedily, with the last parameters and their average."""
    updates, begin = round(steps / (COPIES * LENGTH)), time.process_time()
    with spread(COPIES) as world:
        learner = make_learner(world, critic, seed)
        losses = learn(learner, world, updates)
    spent = time.process_time() - begin
    final, averaged = greedy_returns(learner.policy), greedy_returns(learner.averaged)
    last = losses[-1]
    return {
        "critic": critic,
        "seed": seed,
        "steps": updates * COPIES * LENGTH,
        "cpu_s": spent,
        "return": float(final.mean()),
        "standard_error": float(final.std(ddof=1) / len(final) ** 0.5),
        "averaged_return": float(averaged.mean()),
        "approx_kl": last.approx_kl,
        "clip_fraction": last.clip_fraction,
        "entropy": last.entropy,
        "explained_variance": last.explained_variance,
        "gradient_norm": last.gradient_norm,
    }


def main() -> None:
    """Trains with both critics and all seeds, prints the table and writes JSON."""
    parser = report.parser(__doc__, "spread")
    parser.add_argument("--critics", nargs="+", choices=("independent", "central"), default=["independent", "central"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS, help="of the environment, all copies together")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    runs = []
    for critic, seed in itertools.product(chosen.critics, chosen.seeds):
        runs.append(run(critic, seed, chosen.steps))
        print(f"{critic}, seed {seed}: {runs[-1]['return']:.2f}", flush=True)
    report.table(list(runs[0]), [list(line.values()) for line in runs])
    report.write(chosen.out, {"gate": GATE, "episodes": EPISODES, "runs": runs})


if __name__ == "__main__":
    main()
