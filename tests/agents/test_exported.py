"""Exported policies in use: agents that decide one by one act as the policy does, without torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from fedsched.agents.collect import GreedyActor, play
from fedsched.agents.config import EncoderConfig, MessageConfig, PolicyConfig, TriggerConfig
from fedsched.agents.export import export_kind
from fedsched.agents.policy import Policy
from fedsched.agents.recorded import record
from fedsched.agents.trigger import fires, uncertainties
from fedsched.envs.core import KindSpec, Observation, WorldSpec
from fedsched.exported import Decision, ExportedPolicy, ExportError, uncertainty


def make(spec: WorldSpec, seed: int = 3, **config: Any) -> Policy:
    policy = Policy(spec, PolicyConfig(**config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # away from the start, where much is zero
        for parameter in policy.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return policy


def export(policy: Policy, world: Any, path: Path) -> ExportedPolicy:
    rows = torch.arange(world.batch)
    kind = world.spec.kinds[0]
    made = export_kind(policy, kind, record(policy, world, rows, rows, 10**9)[kind.name], {})
    (path / "x.onnx").write_bytes(made.model)
    return ExportedPolicy(path / "x.onnx")


class OneByOne:
    """Agents of one kind, each of which asks the file for itself; they keep what they heard and remember."""

    def __init__(self, exported: ExportedPolicy, spec: WorldSpec) -> None:
        [self._kind], self._file, self._addresses = spec.kinds, exported, spec.addresses
        self._last: dict[tuple[int, int], tuple[Any, float]] = {}
        self._memory: dict[tuple[int, int], Any] = {}

    def __call__(self, observation: Observation) -> dict[str, torch.Tensor]:
        tokens = observation.kinds[self._kind.name]
        active = [(int(b), int(a)) for b, a in tokens.active.nonzero()]
        if self._file.messages:  # first all who decide now speak, then each is heard
            for b, a in active:
                self._last[b, a] = self._decide(observation, b, a).said, float(observation.time_s[b])
        actions = torch.full(tokens.active.shape, self._kind.idle)
        for b, a in active:
            made = self._decide(observation, b, a)
            self._memory[b, a], actions[b, a] = made.memory, int(made.action)
        return {self._kind.name: actions}

    def _decide(self, observation: Observation, b: int, a: int) -> Decision:
        tokens, now = observation.kinds[self._kind.name], float(observation.time_s[b])
        parts = (tokens.own, tokens.entities, tokens.actions, tokens.action_mask, tokens.entity_mask)
        ways = self._addresses.ways.get(self._kind.name)
        return self._file.decide(
            *(part[b, a].numpy() for part in parts),
            heard=[self._heard(b, a, k, now) for k in range(self._addresses.neighbours.shape[1])],
            ways=None if ways is None else (ways.source[a], ways.target[a]),
            memory=self._memory.get((b, a)),
            agent=self._kind.agents[a] if self._file.agents else None,
        )

    def _heard(self, b: int, a: int, k: int, now: float) -> tuple[Any, float] | None:
        said, sent = self._last.get((b, int(self._addresses.neighbours[a, k])), (None, 0.0))
        return None if said is None else (said[self._addresses.address[a, k]], now - sent)


@pytest.mark.parametrize(
    "config",
    [
        {"messages": None},
        {"messages": MessageConfig(), "encoder": EncoderConfig("attention")},
        {"messages": MessageConfig(), "memory": 4, "sharing": "agent"},
        {"messages": None, "memory": 4, "encoder": EncoderConfig("hierarchical", scoring="dot")},
    ],
    ids=["plain", "messages", "messages, memory, own", "memory"],
)
def test_agents_one_by_one_play_the_episodes_of_the_policy(
    config: dict[str, Any], queue: Callable[..., Any], tmp_path: Path
) -> None:
    world, rows = queue(3, jobs=6, agents=3, slots=8), torch.arange(3)
    policy = make(world.spec, **config)
    exported = export(policy, world, tmp_path)
    assert exported.features == {"own": ["left", "clock"], "entities": ["size", "noise"], "actions": ["hold"]}
    right = play(world, rows, rows + 7, GreedyActor(policy, world.spec, 3))
    alone = OneByOne(exported, world.spec)
    assert torch.equal(play(world, rows, rows + 7, alone)["wait"], right["wait"])
    assert not torch.equal(world.optimum(), right["wait"]), "a test with a policy that always does the same is none"


@pytest.mark.parametrize(
    "config",
    [{}, {"messages": MessageConfig(quantised=True), "encoder": EncoderConfig("attention"), "memory": 3}],
    ids=["pointwise", "attention, memory"],
)
def test_agents_one_by_one_tell_each_neighbour_of_what_they_hand_on(
    config: dict[str, Any], handover: Callable[..., Any], tmp_path: Path
) -> None:
    world, rows = handover(16), torch.arange(16)
    policy = make(world.spec, seed=6, **config)
    exported = export(policy, world, tmp_path)
    assert exported.messages is not None
    assert exported.messages["addressed"]
    right = play(world, rows, rows + 7, GreedyActor(policy, world.spec, 16))
    assert torch.equal(play(world, rows, rows + 7, OneByOne(exported, world.spec))["right"], right["right"])
    assert 0.1 < float(right["right"].mean()) < 0.9
    assert float(right["right"].std()) > 0.1


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("encoder", ["pointwise", "gat"])
def test_entities_are_related_to_actions_and_to_one_another_as_the_world_says(
    encoder: Any, vectors: bool, crossing: ModuleType, tmp_path: Path
) -> None:
    low, high = np.array([-1.0], np.float32), np.array([3.0], np.float32)
    kind = crossing.kind()
    if vectors:
        kind = KindSpec("arm", kind.agents, kind.own, kind.entity, kind.entities, links=kind.links, bounds=(low, high))
    spec = WorldSpec("probe", (kind,), np.full((3, 1), -1), ("part",), ())
    policy = make(spec, messages=None, encoder=EncoderConfig(encoder))
    tokens = crossing.tokens(kind if not vectors else crossing.kind())
    observation = Observation(torch.zeros(4, dtype=torch.float64), {kind.name: tokens})
    with torch.no_grad():
        step = policy(spec, observation, None, policy.mailbox(spec, 4))
    exported = export(policy, _Frozen(spec, observation), tmp_path)
    idle = torch.zeros(4, 3, 1) if vectors else torch.zeros(4, 3, dtype=torch.int64)
    right = step.actions({kind.name: step.distribution[kind.name].mode()}, {kind.name: idle})[kind.name]
    for b, a in tokens.active.nonzero():
        made = exported.decide(
            tokens.own[b, a],
            tokens.entities[b, a],
            None if vectors else tokens.actions[b, a],
            None if vectors else tokens.action_mask[b, a],
            tokens.entity_mask[b, a],
            concerns=None if vectors else kind.relation[a],
            links=kind.links[a],
        )
        np.testing.assert_allclose(made.action, right[b, a], atol=1e-5)
        assert made.memory is None
    assert not vectors or float(right.std()) > 0.1


class _Frozen:
    """A world that shows one observation and ends."""

    def __init__(self, spec: WorldSpec, observation: Observation) -> None:
        self.spec, self.batch, self.device, self._seen = spec, 4, "cpu", observation

    def reset(self, *_: Any) -> Observation:
        return self._seen

    def step(self, _: Any) -> Any:
        kind = self.spec.kinds[0]
        over = {kind.name: torch.ones(4, len(kind.agents), dtype=torch.bool)}
        return type("End", (), {"observation": self._seen, "terminated": over, "truncated": torch.ones(4) > 0})()


def test_what_only_the_world_can_tell_has_no_default(crossing: ModuleType, tmp_path: Path) -> None:
    kind = crossing.kind()
    spec = WorldSpec("probe", (kind,), np.full((3, 1), -1), ("part",), ())
    policy = make(spec, messages=None, encoder=EncoderConfig("gat"))
    tokens = crossing.tokens(kind)
    observation = Observation(torch.zeros(4, dtype=torch.float64), {kind.name: tokens})
    exported = export(policy, _Frozen(spec, observation), tmp_path)
    b, a = (tokens.active & tokens.entity_mask.any(-1)).nonzero()[0].tolist()
    parts = tuple(
        part[b, a].numpy()
        for part in (tokens.own, tokens.entities, tokens.actions, tokens.action_mask, tokens.entity_mask)
    )
    told = {"concerns": kind.relation[a], "links": kind.links[a]}
    assert exported.decide(*parts, **told).choices > 0
    for name in told:
        with pytest.raises(ExportError, match=rf"^{name}: needed by a {kind.name}; its world tells it"):
            exported.decide(*parts, **{**told, name: None})


def test_who_hears_what_is_meant_for_it_must_know_the_ways(handover: Callable[..., Any], tmp_path: Path) -> None:
    world = handover(4)
    exported = export(make(world.spec, messages=MessageConfig()), world, tmp_path)
    [kind] = world.spec.kinds
    seen = np.zeros(len(kind.own)), np.zeros((kind.entities, len(kind.entity)))
    given = {"actions": np.zeros((kind.actions, len(kind.action)))}
    if not isinstance(kind.relation, str):
        given["concerns"] = kind.relation[0]
    assert exported.decide(*seen, **given).said is not None, "who hears nobody needs none"
    with pytest.raises(ExportError, match=r"^ways: needed by a"):
        exported.decide(*seen, **given, heard=[None])


def test_an_agent_that_sees_nothing_decides(crossing: ModuleType, tmp_path: Path) -> None:
    kind = crossing.kind()
    spec = WorldSpec("probe", (kind,), np.full((3, 1), -1), ("part",), ())
    policy = make(spec, messages=MessageConfig(), encoder=EncoderConfig("attention"))
    observation = Observation(torch.zeros(4, dtype=torch.float64), {kind.name: crossing.tokens(kind)})
    exported = export(policy, _Frozen(spec, observation), tmp_path)
    made = exported.decide([0.1, 0.2], actions=[[0.0, 1.0], [1.0, 0.0]])
    masked = exported.decide([0.1, 0.2], np.ones((7, 3)), [[0.0, 1.0], [1.0, 0.0]], entity_mask=np.zeros(7, np.bool_))
    np.testing.assert_allclose(made.probabilities, masked.probabilities, atol=1e-6)
    np.testing.assert_allclose(made.probabilities.sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("measure", ["entropy", "gap"])
def test_uncertainty_and_trigger_are_those_of_the_policy(
    measure: Any, queue: Callable[..., Any], tmp_path: Path
) -> None:
    world = queue(4, jobs=5, agents=3)
    policy = make(world.spec, messages=MessageConfig(trigger=TriggerConfig(measure=measure, timeout=7)))
    assert policy.trigger is not None
    with torch.no_grad():
        policy.trigger.threshold.copy_(torch.tensor([0.6, 0.4]))
    exported, rows = export(policy, world, tmp_path), torch.arange(4)
    with torch.no_grad():
        step = policy(world.spec, world.reset(rows, rows), None, policy.mailbox(world.spec, 4))
        block = record(policy, world, rows, rows, 10**9)["server"].blocks[0]
    mine = uncertainty(block.found["probabilities"].numpy(), block.given["row_mask"].sum(1).numpy(), measure)
    np.testing.assert_allclose(mine, uncertainties(step.distribution, measure), atol=1e-5)
    generator = np.random.default_rng(0)
    for _ in range(200):
        said, last = generator.normal(size=(2, 16)).astype(np.float32) * 0.15
        silent, unsure = int(generator.integers(0, 9)), float(generator.random())
        expected = fires(
            policy.trigger.threshold.data,
            7,
            torch.tensor([unsure]),
            torch.tensor([float(np.linalg.norm(said - last))]),
            torch.tensor([silent]),
            torch.tensor([True]),
        )
        assert exported.sends(said, last, silent, unsure) == bool(expected)
    assert exported.sends(said, None, 0)


def test_misuse_is_named(queue: Callable[..., Any], tmp_path: Path) -> None:
    world = queue(3, jobs=4, agents=2)
    exported = export(make(world.spec, memory=4, sharing="agent"), world, tmp_path)
    own, entities, actions, mine = np.zeros(2), np.zeros((4, 2)), np.zeros((5, 1)), "server1"
    exported.decide(own, entities, actions, agent=mine)
    for message, given in {
        r"own: \[2\] is needed, got \[3\]": {"own": np.zeros(3)},
        r"entities: \[n, 2\] is needed, got \[4\]": {"entities": np.zeros(4)},
        r"mask of actions: \[5\] is needed, got \[4\]": {"action_mask": np.ones(4)},
        r"concerns: \[5, 4\] is needed": {"concerns": np.ones((4, 5))},
        r"memory: \[4\] is needed": {"memory": np.ones(3)},
        "no action is legal": {"action_mask": np.zeros(5)},
        "entities: a number is not finite": {"entities": entities * np.nan},
        r"a message: \[16\] is needed, got \[3\]": {"heard": [None, (np.zeros(3), 1.0)]},
        "each agent has parameters of its own: say which of server0, server1": {"agent": "server7"},
    }.items():
        with pytest.raises(ExportError, match=message):
            exported.decide(**{"own": own, "entities": entities, "actions": actions, "agent": mine, **given})
    with pytest.raises(ExportError, match="there is no such file"):
        ExportedPolicy(tmp_path / "no.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no")
    with pytest.raises(ExportError, match="not a policy that"):
        ExportedPolicy(tmp_path / "bad.onnx")


def test_a_file_of_another_version_is_refused(
    queue: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = queue(3, jobs=4, agents=2)
    monkeypatch.setattr("fedsched.agents.export.VERSION", 99)
    with pytest.raises(ExportError, match="version 99, this fedsched reads 1: export it again"):
        export(make(world.spec), world, tmp_path)


def test_an_exported_policy_needs_numpy_and_onnxruntime_alone(queue: Callable[..., Any], tmp_path: Path) -> None:
    world = queue(3, jobs=4, agents=2)
    export(make(world.spec), world, tmp_path)
    code = (
        "import sys, numpy as np\n"
        "from fedsched.exported import ExportedPolicy\n"
        f"policy = ExportedPolicy({str(tmp_path / 'x.onnx')!r})\n"
        "done = policy.decide(np.ones(2), np.ones((3, 2)), np.eye(4, 1))\n"
        "assert 0 <= done.action < 4\n"
        "print(sorted(set(sys.modules) & {'torch', 'warp', 'onnx', 'pettingzoo', 'pydantic', 'ray', 'flwr'}))\n"
        "print(sorted(name for name in sys.modules if name.startswith('fedsched')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split("\n")[:2] == ["[]", "['fedsched', 'fedsched.exported']"]
