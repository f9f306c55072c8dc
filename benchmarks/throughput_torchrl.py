"""The other side of `benchmarks.throughput`: TorchRL learns on a PettingZoo environment, and says how fast.

    PYTHONPATH=. OMP_NUM_THREADS=1 PYTHON_WITH_TORCHRL -m benchmarks.throughput_torchrl --world spread

Written after the library's own tutorial on multi-agent PPO: PettingZooWrapper, MultiAgentMLP, collector, GAE, replay
buffer without replacement, ClipPPOLoss. Prints one line of JSON. It imports nothing that needs more than TorchRL, but
for the world of ours.
"""

import argparse
import importlib
import json
import time
import warnings
from typing import Any

import torch
from pettingzoo.utils import BaseParallelWrapper
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer, SamplerWithoutReplacement
from torchrl.envs import PettingZooWrapper, SerialEnv
from torchrl.modules import MaskedCategorical, MultiAgentMLP, ProbabilisticActor
from torchrl.objectives import ClipPPOLoss, ValueEstimators

GROUP = "agents"
CLUSTERS, JOBS = (256, 128, 128), 128
"""The site of the world of ours: machines by their processors, and jobs of an episode."""
MINIBATCHES, EPOCHS, GAMMA, LAMBDA = 4, 5, 0.9, 0.95


class MasksAlone(BaseParallelWrapper):
    """Infos hold the action mask alone: TorchRL makes tensors of all that they hold, and knows no nested ones."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """As the environment does, with less in its infos."""
        seen, infos = self.env.reset(seed, options)
        return seen, _masks(infos)

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """As the environment does, with less in its infos."""
        seen, rewards, terminated, truncated, infos = self.env.step(actions)
        return seen, rewards, terminated, truncated, _masks(infos)


def _masks(infos: dict[str, Any]) -> dict[str, Any]:
    return {agent: {"action_mask": info["action_mask"]} for agent, info in infos.items()}


def make_env(world: str) -> PettingZooWrapper:
    """A copy of the environment, all agents in one group."""
    if world == "spread":
        module = importlib.import_module("mpe2.simple_spread_v3")
        env = module.parallel_env(N=3, max_cycles=25, continuous_actions=False)
    else:
        module = importlib.import_module("fedsched.envs.datacenter")
        env = MasksAlone(module.parallel_env(clusters=list(CLUSTERS), jobs=JOBS, flatten=True))
    return PettingZooWrapper(env, group_map={GROUP: list(env.possible_agents)}, categorical_actions=True)


def networks(env: PettingZooWrapper, width: int) -> tuple[ProbabilisticActor, TensorDictModule]:
    """Policy and central critic, both with two layers of `width` units and tanh, shared by the agents."""
    count, spec = len(env.group_map[GROUP]), env.full_action_spec_unbatched[GROUP, "action"]
    features = env.observation_spec[GROUP, "observation"].shape[-1]

    def mlp(outputs: int, central: bool) -> MultiAgentMLP:
        return MultiAgentMLP(
            features, outputs, count, centralized=central, share_params=True, depth=2, num_cells=width,
            activation_class=nn.Tanh,
        )  # fmt: skip

    masked = (GROUP, "action_mask") in env.observation_spec.keys(True, True)
    scores = TensorDictModule(mlp(spec.space.n, False), [(GROUP, "observation")], [(GROUP, "logits")])
    policy = ProbabilisticActor(
        scores,
        spec=spec,
        in_keys={"logits": (GROUP, "logits"), **({"mask": (GROUP, "action_mask")} if masked else {})},
        out_keys=[(GROUP, "action")],
        distribution_class=MaskedCategorical if masked else torch.distributions.Categorical,
        return_log_prob=True,
        log_prob_key=(GROUP, "sample_log_prob"),
    )
    critic = TensorDictModule(mlp(1, True), [(GROUP, "observation")], [(GROUP, "state_value")])
    return policy, critic


def make_loss(policy: ProbabilisticActor, critic: TensorDictModule) -> ClipPPOLoss:
    """The clipped losses of both, with the keys of the group."""
    loss = ClipPPOLoss(policy, critic, clip_epsilon=0.2, entropy_coeff=0.003, critic_coeff=0.5, clip_value=0.2)
    keys = {"reward": "reward", "action": "action", "sample_log_prob": "sample_log_prob", "value": "state_value"}
    keys |= {"done": "done", "terminated": "terminated", "advantage": "advantage", "value_target": "value_target"}
    loss.set_keys(**{name: (GROUP, key) for name, key in keys.items()})
    loss.make_value_estimator(ValueEstimators.GAE, gamma=GAMMA, lmbda=LAMBDA)
    return loss


class Learner:
    """One update after the other on what the collector brings."""

    def __init__(self, policy: ProbabilisticActor, critic: TensorDictModule, frames: int) -> None:
        self.loss, self.frames = make_loss(policy, critic), frames
        self.adam = torch.optim.Adam(self.loss.parameters(), lr=1e-3, eps=1e-5)
        self.buffer = ReplayBuffer(
            storage=LazyTensorStorage(frames), sampler=SamplerWithoutReplacement(), batch_size=frames // MINIBATCHES,
            collate_fn=lambda lines: lines,
        )  # fmt: skip

    def update(self, batch: TensorDictBase) -> None:
        """Advantages, then epochs of minibatches."""
        with torch.no_grad():
            self.loss.value_estimator(
                batch,
                params=self.loss.critic_network_params,
                target_params=self.loss.target_critic_network_params,
            )
        key = (GROUP, "advantage")
        advantage = batch.get(key)
        batch.set(key, (advantage - advantage.mean()) / (advantage.std() + 1e-8))
        self.buffer.extend(batch.reshape(-1))
        for _ in range(EPOCHS):
            for _ in range(MINIBATCHES):
                found = self.loss(self.buffer.sample())
                total = found["loss_objective"] + found["loss_critic"] + found["loss_entropy"]
                total.backward()
                nn.utils.clip_grad_norm_(self.loss.parameters(), 10.0)
                self.adam.step()
                self.adam.zero_grad()


def measure(world: str, copies: int, frames: int, updates: int, width: int) -> dict[str, Any]:
    """CPU seconds of collecting and learning from `updates` batches of `frames` steps, after one to warm up."""
    env = make_env(world)
    policy, critic = networks(env, width)
    if copies > 1:
        env = SerialEnv(copies, lambda: make_env(world))
    collector = Collector(env, policy, frames_per_batch=frames, total_frames=frames * (updates + 1))
    learner = Learner(policy, critic, frames)
    collecting = learning = 0.0
    start = time.process_time()
    for number, batch in enumerate(collector):
        middle = time.process_time()
        learner.update(batch)
        end = time.process_time()
        if number:
            collecting += middle - start
            learning += end - middle
        start = time.process_time()
    collector.shutdown()
    total = collecting + learning
    rates = {"copies": copies, "frames": frames * updates, "steps_per_cpu_s": frames * updates / total}
    return {**rates, "collecting_share": collecting / total}


def main() -> None:
    """Measures one world with one number of copies; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=("spread", "datacenter"), default="spread")
    parser.add_argument("--copies", type=int, default=1, help="environments in a SerialEnv; 1: no SerialEnv")
    parser.add_argument("--frames", type=int, default=1600, help="steps of a batch")
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = measure(options.world, options.copies, options.frames, options.updates, options.width)
    versions = {name: importlib.import_module(name).__version__ for name in ("torchrl", "tensordict", "torch")}
    print(json.dumps({**found, "versions": versions}))


if __name__ == "__main__":
    main()
