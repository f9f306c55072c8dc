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
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer, SamplerWithoutReplacement
from torchrl.envs import PettingZooWrapper, SerialEnv
from torchrl.modules import MaskedCategorical, MultiAgentMLP, ProbabilisticActor
from torchrl.objectives import ClipPPOLoss, ValueEstimators

from benchmarks.throughput_worlds import (
    CLIP,
    ENTROPY,
    EPOCHS,
    FRAMES,
    GAMMA,
    GRADIENT_NORM,
    LAMBDA,
    LEARNING_RATE,
    MAKE,
    MINIBATCHES,
    VALUE,
    WIDTH,
    Clock,
)

GROUP = "agents"


def make_env(world: str, clock: Clock) -> PettingZooWrapper:
    """A copy of the environment, all agents in one group; the time inside is added to `clock`."""
    env = MAKE[world](clock)
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
    loss = ClipPPOLoss(policy, critic, clip_epsilon=CLIP, entropy_coeff=ENTROPY, critic_coeff=VALUE, clip_value=CLIP)
    keys = {"reward": "reward", "action": "action", "sample_log_prob": "sample_log_prob", "value": "state_value"}
    keys |= {"done": "done", "terminated": "terminated", "advantage": "advantage", "value_target": "value_target"}
    loss.set_keys(**{name: (GROUP, key) for name, key in keys.items()})
    loss.make_value_estimator(ValueEstimators.GAE, gamma=GAMMA, lmbda=LAMBDA)
    return loss


class Learner:
    """One update after the other on what the collector brings."""

    def __init__(self, policy: ProbabilisticActor, critic: TensorDictModule, frames: int) -> None:
        self.loss, self.frames = make_loss(policy, critic), frames
        self.adam = torch.optim.Adam(self.loss.parameters(), lr=LEARNING_RATE, eps=1e-5)
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
                nn.utils.clip_grad_norm_(self.loss.parameters(), GRADIENT_NORM)
                self.adam.step()
                self.adam.zero_grad()


def measure(world: str, copies: int, frames: int, updates: int, width: int) -> dict[str, Any]:
    """CPU seconds of collecting and learning from `updates` batches of `frames` steps, after one to warm up."""
    clock = Clock()
    env = make_env(world, clock)
    policy, critic = networks(env, width)
    if copies > 1:
        env = SerialEnv(copies, lambda: make_env(world, clock))
    collector = Collector(env, policy, frames_per_batch=frames, total_frames=frames * (updates + 1))
    learner = Learner(policy, critic, frames)
    collecting = learning = 0.0
    start, before = time.process_time(), 0.0
    for number, batch in enumerate(collector):
        middle = time.process_time()
        learner.update(batch)
        end = time.process_time()
        if number:
            collecting += middle - start
            learning += end - middle
        else:
            before = clock.seconds
        start = time.process_time()
    collector.shutdown()
    inside, steps = clock.seconds - before, frames * updates
    parts = {"environment": inside, "acting": collecting - inside, "learning": learning}
    us = {name: seconds / steps * 1e6 for name, seconds in parts.items()}
    return {"copies": copies, "steps": steps, "steps_per_s": steps / (collecting + learning), "us_per_step": us}


def main() -> None:
    """Measures one world with one number of copies; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=tuple(MAKE), default="spread")
    parser.add_argument("--copies", type=int, default=1, help="environments in a SerialEnv; 1: no SerialEnv")
    parser.add_argument("--frames", type=int, default=FRAMES, help="steps of a batch")
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--width", type=int, default=WIDTH)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = measure(options.world, options.copies, options.frames, options.updates, options.width)
    versions = {name: importlib.import_module(name).__version__ for name in ("torchrl", "tensordict", "torch")}
    print(json.dumps({**found, "versions": versions}))


if __name__ == "__main__":
    main()
