"""Files of exported policies hold what the policies compute, for every kind of network."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from fedsched.agents import export as exporting
from fedsched.agents.config import EncoderConfig, MessageConfig, PolicyConfig, TriggerConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.export import Checked, export_kind
from fedsched.agents.network import SoftRule
from fedsched.agents.policy import Policy
from fedsched.agents.recorded import Block, Recording, record
from fedsched.envs.core import Flow, KindSpec, Observation, Snapshot, Tokens, Transition, WorldSpec
from fedsched.exported import ExportedPolicy

TRIGGERED = MessageConfig(kl=1e-3, quantised=True, trigger=TriggerConfig())


class Motley:
    """Random tokens for any kinds, whatever the agents do, for `steps` steps."""

    def __init__(self, kinds: tuple[KindSpec, ...], crossing: ModuleType, batch: int = 4, steps: int = 5) -> None:
        self.batch, self.device, self._made, self._steps = batch, "cpu", crossing.tokens, steps
        agents = sum(len(kind.agents) for kind in kinds)
        ring = np.array([[(a + 1) % agents, (a - 1) % agents if a % 2 else -1] for a in range(agents)])
        self.spec = WorldSpec("motley", kinds, ring, ("part",), ())
        self._now = 0

    def reset(self, instances: torch.Tensor, seeds: torch.Tensor, *_: Any) -> Observation:
        del instances, seeds
        self._now = 0
        return self._observe()

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        del actions, until_s
        self._now += 1
        over = self._now == self._steps
        nobody = {k.name: torch.zeros(self.batch, len(k.agents), dtype=torch.bool) for k in self.spec.kinds}
        reward = {name: torch.zeros(*part.shape, 1) for name, part in nobody.items()}
        one = torch.ones(self.batch, dtype=torch.float64)
        return Transition(self._observe(), reward, one, nobody, torch.full((self.batch,), over))

    def _observe(self) -> Observation:
        kinds = {k.name: self._tokens(k, number) for number, k in enumerate(self.spec.kinds)}
        return Observation(torch.full((self.batch,), 30.0 * self._now, dtype=torch.float64), kinds)

    def _tokens(self, kind: KindSpec, number: int) -> Tokens:
        # of a kind with vectors the mask of actions has one slot, which is legal
        chooses = replace(kind, actions=max(1, kind.actions))
        made: Tokens = self._made(chooses, self.batch, 100 * number + self._now)
        generator = torch.Generator().manual_seed(self._now)
        return replace(made, active=torch.rand(made.active.shape, generator=generator) < 0.7)

    def metrics(self) -> dict[str, torch.Tensor]:
        return {}

    def snapshot(self) -> Snapshot:
        raise NotImplementedError

    def restore(self, snapshot: Snapshot) -> Observation:
        raise NotImplementedError


def kinds_of(crossing: ModuleType, *names: str) -> tuple[KindSpec, ...]:
    """Signals, gates without entities, and arms with vector actions that see entities or not."""
    low, high = np.array([-2.0, 0.0], np.float32), np.array([np.inf, 0.5], np.float32)
    signal = crossing.kind()
    made = {
        "signal": replace(signal, name="signal"),
        "gate": KindSpec("gate", ("left", "right"), own=("load", "flow"), action=("hold", "open"), actions=3),
        "arm": replace(signal, name="arm", action=(), actions=0, relation="identity", bounds=(low, high)),
        "blind": KindSpec("blind", ("one", "two"), own=("x", "y", "z"), bounds=(low, high)),
    }
    rng = np.random.default_rng(1)
    for name in ("signal", "arm"):  # entities from and to any of the agents, or none of them
        ways = Flow(*(rng.integers(-1, 5, (3, crossing.SLOTS)) for _ in range(2)))
        made[f"{name} handed on"] = replace(made[name], flow=ways)
    return tuple(made[name] for name in names)


def make(world: Any, config: PolicyConfig, seed: int = 0) -> Policy:
    rules = {"signal": SoftRule({"queue": -3.0}, gates=("load",))} if config.sharing != "all" else {}
    rules = {name: rule for name, rule in rules.items() if name in {k.name for k in world.spec.kinds}}
    policy = Policy(world.spec, config, rules, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # away from the start, where much is zero
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return policy


def export(policy: Policy, kind: KindSpec, right: Recording, path: Path, facts: Mapping[str, Any]) -> Checked:
    exported = export_kind(policy, kind, right, facts)
    path.write_bytes(exported.model)
    return exported.checked


def recorded(policy: Policy, world: Any, most: int = 10**9) -> dict[str, Recording]:
    rows = torch.arange(world.batch)
    return record(policy, world, rows, rows, most)


def answers(exported: ExportedPolicy, block: Block) -> dict[str, Any]:
    return exported.run({name: block.given[name].numpy() for name in exported.inputs})


CONFIGS = {
    "pointwise": PolicyConfig(messages=None),
    "always": PolicyConfig(EncoderConfig("attention", scoring="dot"), MessageConfig()),
    "trigger, own": PolicyConfig(EncoderConfig("hierarchical", layers=1), TRIGGERED, sharing="agent"),
    "memory": PolicyConfig(EncoderConfig("gat", layers=1, scoring="dot"), MessageConfig(), memory=5),
    "memory, own": PolicyConfig(EncoderConfig("gat"), None, sharing="agent", memory=5),
    "dot, own": PolicyConfig(EncoderConfig("pointwise", scoring="dot"), MessageConfig(quantised=True), sharing="agent"),
    "all": PolicyConfig(EncoderConfig("attention", layers=1), MessageConfig(), sharing="all", memory=3),
}


WORLDS = {
    "choices": ("signal", "gate"),
    "vectors": ("arm", "blind"),
    "choices, handed on": ("gate", "signal handed on"),
    "vectors, handed on": ("arm handed on", "blind"),
}


TOGETHER = {
    "pointwise": ("choices", "vectors"),
    "always": ("choices", "choices, handed on"),
    "trigger, own": ("vectors", "choices, handed on"),
    "memory": ("choices", "vectors, handed on"),
    "memory, own": ("choices", "vectors"),
    "dot, own": ("choices, handed on",),
    "all": ("choices", "vectors", "choices, handed on", "vectors, handed on"),
}
"""Every network with some of the worlds; all of them would take minutes."""


@pytest.mark.parametrize(("name", "world"), [(name, world) for name in TOGETHER for world in TOGETHER[name]])
def test_a_file_answers_as_the_policy_in_batches_of_any_size(
    name: str, world: str, crossing: ModuleType, tmp_path: Path
) -> None:
    kinds = kinds_of(crossing, *WORLDS[world])
    policy = make(Motley(kinds, crossing), CONFIGS[name])
    few, many = recorded(policy, Motley(kinds, crossing)), recorded(policy, Motley(kinds, crossing, batch=9))
    for kind in kinds:
        checked = export(policy, kind, few[kind.name], tmp_path / f"{kind.name}.onnx", {"site": "probe"})
        assert checked.decisions == len(few[kind.name]) > 20
        assert max(checked.apart.values()) < 1e-5
        exported = ExportedPolicy(tmp_path / f"{kind.name}.onnx")
        assert exported.about["site"] == "probe"
        for block in many[kind.name].blocks:
            found = answers(exported, block)
            assert found.keys() == block.found.keys()
            for output, values in found.items():
                step = policy.messenger.limit / 127 if output == "said" and policy.messenger else 0.0
                np.testing.assert_allclose(values, block.found[output], atol=1e-5 + step)


def test_of_a_kind_with_several_copies_each_agent_has_its_own(crossing: ModuleType, tmp_path: Path) -> None:
    world = Motley(kinds_of(crossing, "gate", "signal"), crossing)
    policy = make(world, CONFIGS["trigger, own"])
    blocks = recorded(policy, world)["signal"]
    export(policy, world.spec.kind("signal"), blocks, tmp_path / "x.onnx", {})
    exported = ExportedPolicy(tmp_path / "x.onnx")
    assert exported.agents == ["crossing0", "crossing1", "crossing2"]
    block = blocks.blocks[0]
    mixed = replace(block, given={**block.given, "agent": (block.given["agent"] + 1) % 3})
    assert np.abs(answers(exported, mixed)["probabilities"] - block.found["probabilities"].numpy()).max() > 0.01


def test_a_file_that_would_answer_otherwise_is_refused(
    crossing: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Motley(kinds_of(crossing, "signal"), crossing)
    right = recorded(make(world, CONFIGS["always"]), world)["signal"]
    other = make(world, CONFIGS["always"], seed=1)
    with pytest.raises(AgentError, match=r"in probabilities, .* in said, more than 0\.0001: it is of no use"):
        export(other, world.spec.kinds[0], right, tmp_path / "x.onnx", {})
    monkeypatch.setattr(exporting, "TOLERANCE", 9.0)
    with pytest.raises(AgentError, match=r"chooses another action in \d+ of \d+ decisions"):
        export(other, world.spec.kinds[0], right, tmp_path / "x.onnx", {})


def test_ties_and_single_steps_of_rounding_are_counted_and_no_more_is_forgiven(
    crossing: ModuleType, tmp_path: Path
) -> None:
    world = Motley(kinds_of(crossing, "gate"), crossing, steps=40)
    policy = make(world, CONFIGS["dot, own"])
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "skip" in name or "key" in name:
                parameter.zero_()  # all actions are alike
    right = recorded(policy, world)["gate"]
    checked = _changed(policy, world, right, tmp_path, 0.0, 0.0)
    assert (checked.decisions, checked.ties, checked.rounded) == (len(right), 0, 0)
    limit = 1.0 / 127
    checked = _changed(policy, world, right, tmp_path, 3e-7, limit)
    assert checked.ties > 10
    assert checked.rounded == 1
    with pytest.raises(AgentError, match="in said"):
        _changed(policy, world, right, tmp_path, 0.0, 2 * limit)


def _changed(policy: Policy, world: Any, right: Recording, place: Path, last: float, number: float) -> Checked:
    """Exports against records whose last actions are likelier, and one number of whose messages is larger."""
    changed = Recording(10**9)
    for k, block in enumerate(right.blocks):
        found = {name: values.clone() for name, values in block.found.items()}
        found["probabilities"][:, -1] += last
        found["said"][0, 0, 0] += number * (k == 0)
        changed.add(replace(block, found=found))
    return export(policy, world.spec.kinds[0], changed, place / "x.onnx", {})


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (PolicyConfig(EncoderConfig("graph")), "the graph encoder is computed by torch-geometric"),
        (PolicyConfig(messages=MessageConfig(rounds=2)), "it sends more than one round of messages"),
    ],
)
def test_what_cannot_be_exported_is_said(
    config: PolicyConfig, reason: str, crossing: ModuleType, tmp_path: Path
) -> None:
    world = Motley(kinds_of(crossing, "signal"), crossing)
    right = recorded(make(world, CONFIGS["pointwise"]), world)["signal"]
    with pytest.raises(AgentError, match=f"kind 'signal' cannot be exported: {reason}"):
        export(make(world, config), world.spec.kinds[0], right, tmp_path / "x.onnx", {})


def test_decisions_are_kept_from_all_of_an_episode(queue: Callable[..., Any]) -> None:
    world = queue(2, jobs=60, agents=2)
    everything = recorded(make(world, CONFIGS["pointwise"]), world)["server"]
    assert len(everything) == 2 * 2 * 60
    some = recorded(make(world, CONFIGS["pointwise"]), world, 20)["server"]
    assert 20 <= len(some) <= 44
    left = [int(block.given["own"][0, 0] * 10 + 0.5) for block in some.blocks]
    assert left[0] == 60
    assert left[-1] <= 10
    assert set(np.diff(left)) == {left[1] - left[0]}


def test_without_decisions_nothing_can_be_compared(crossing: ModuleType, tmp_path: Path) -> None:
    world = Motley(kinds_of(crossing, "signal"), crossing)
    policy = make(world, CONFIGS["pointwise"])
    with pytest.raises(AgentError, match="no agent of kind 'signal' had a decision"):
        export(policy, world.spec.kinds[0], Recording(1), tmp_path / "x.onnx", {})
