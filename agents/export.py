"""Policies as ONNX files that answer without torch, and the proof that they answer alike.

An exported policy was compared with the policy on recorded decisions of a world: all numbers to 1e-4, and every choice.
The networks are exported in the padded form of `padded`; `fedsched.exported` runs the files.
"""

import importlib
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsched.agents.decisions import AgentError
from fedsched.agents.messages import Messenger
from fedsched.agents.padded import HEARD, WAYS, PaddedPolicy
from fedsched.agents.policy import Policy
from fedsched.agents.recorded import Block, Recording, blocks_of
from fedsched.agents.trigger import PATIENCE
from fedsched.envs.core import KindSpec
from fedsched.exported import METADATA, VERSION

TOLERANCE = 1e-4
"""How far a probability, or another number, may be from the policy's."""
TIE = 1e-6
"""Actions whose probabilities differ by less are tied: either may be chosen."""
ROUNDED = 0.01
"""Share of the numbers sent as int8 that may be rounded to the next integer, where rounding errors decide."""
OPSET = 20


@dataclass(frozen=True)
class Checked:
    """How an exported policy compares with the policy.

    Attributes:
        decisions: Compared.
        apart: The greatest difference of a number, by output.
        ties: Choices that differ among actions that are tied.
        rounded: Numbers of messages that were rounded to the next int8.
    """

    decisions: int
    apart: Mapping[str, float]
    ties: int
    rounded: int


@dataclass(frozen=True)
class Exported:
    """One kind of agent, exported.

    Attributes:
        model: What belongs into its file.
        checked: How it compares with the policy.
    """

    model: bytes
    checked: Checked


def export_kind(policy: Policy, kind: KindSpec, recorded: Recording, facts: Mapping[str, Any]) -> Exported:
    """Exports the networks of one kind and compares them on recorded decisions.

    Args:
        policy: To export.
        kind: Features and their order.
        recorded: Decisions of this kind and what the policy made of them.
        facts: What else the file should tell of itself, plain data.

    Raises:
        AgentError: A policy that cannot be exported, or one whose file would answer otherwise.
        ImportError: onnx or onnxruntime is missing.
    """
    padded, blocks = PaddedPolicy(policy, kind).eval(), blocks_of(recorded, kind.name)
    model = _with_metadata(_onnx(padded, blocks[0]), {**facts, **describe(policy, kind, padded)})
    return Exported(model, compare(model, padded, blocks))


def describe(policy: Policy, kind: KindSpec, padded: PaddedPolicy) -> dict[str, Any]:
    """What a file tells of itself: features in order, bounds, memory, messages and when they are sent."""
    messenger, trigger = policy.messenger, policy.trigger
    return {
        "version": VERSION,
        "kind": kind.name,
        "agents": list(kind.agents) if policy.config.sharing == "agent" else None,
        "features": {"own": kind.own, "entities": kind.entity, "actions": kind.action},
        "given": [
            name for name, known in (("concerns", kind.relation_lists), ("links", kind.link_lists)) if known is not None
        ],
        "bounds": None if kind.bounds is None else [side.tolist() for side in kind.bounds],
        "inputs": padded.inputs,
        "outputs": padded.outputs,
        "memory": policy.config.memory,
        "messages": None
        if messenger is None
        else {
            "size": messenger.size,
            "addressed": policy.addressed,
            "bits": messenger.bits,
            "int8": messenger.quantised,
            "limit": messenger.limit,
        },
        "trigger": None
        if trigger is None
        else {
            "measure": trigger.config.measure,
            "timeout": trigger.config.timeout,
            "patience": PATIENCE,
            "threshold": trigger.threshold.detach().tolist(),
        },
    }


def compare(model: bytes, padded: PaddedPolicy, blocks: Sequence[Block]) -> Checked:
    """Runs a model on recorded decisions; raises AgentError where it answers otherwise."""
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    apart, ties, wrong, rounded, sent = dict.fromkeys(padded.outputs, 0.0), 0, 0, 0, 0
    for block in blocks:
        found = session.run(None, {name: block.given[name].numpy() for name in padded.inputs})
        for name, mine in zip(padded.outputs, found, strict=True):
            right = block.found[name].numpy()
            off = np.abs(mine[:, : right.shape[1]] - right)  # no agent has as few neighbours as a file must have slots
            if name == "said" and padded.messenger is not None:
                off, next_to = _forgive(off, padded.messenger)
                rounded, sent = rounded + next_to, sent + off.size
            apart[name] = max(apart[name], float(off.max(initial=0.0)))
        if "probabilities" in padded.outputs:
            tied, other = _ties(found[0], block.found["probabilities"].numpy())
            ties, wrong = ties + tied, wrong + other
    checked = Checked(sum(map(len, blocks)), apart, ties, rounded)
    _judge(checked, wrong, sent)
    return checked


def _judge(checked: Checked, wrong: int, sent: int) -> None:
    """Raises AgentError where a file must not be written, given the numbers of other choices and of numbers sent."""
    off = {name: far for name, far in checked.apart.items() if not far <= TOLERANCE}
    if off:
        told = ", ".join(f"{far:.2g} in {name}" for name, far in off.items())
        raise AgentError(
            f"the exported policy differs from the policy by {told}, more than {TOLERANCE:g}: it is of no use"
        )
    if wrong:
        raise AgentError(f"the exported policy chooses another action in {wrong} of {checked.decisions} decisions")
    if checked.rounded > ROUNDED * sent:
        raise AgentError(f"the exported policy rounds {checked.rounded} of {sent} numbers of messages otherwise")


def _forgive(off: npt.NDArray[Any], messenger: Messenger) -> tuple[npt.NDArray[Any], int]:
    """Differences without those of one int8 step, and how many these were."""
    if not messenger.quantised:
        return off, 0
    next_to = np.abs(off - messenger.limit / 127) < TOLERANCE
    return np.where(next_to, 0.0, off), int(next_to.sum())


def _ties(mine: npt.NDArray[Any], right: npt.NDArray[Any]) -> tuple[int, int]:
    """How many choices differ among actions that are tied, and among others."""
    lines = np.arange(len(mine))
    chosen, choice = mine.argmax(1), right.argmax(1)
    gap = right[lines, choice] - right[lines, chosen]
    wrong = int((gap > TIE).sum())
    return int((chosen != choice).sum()) - wrong, wrong


def _onnx(padded: PaddedPolicy, example: Block) -> bytes:
    names = (*padded.inputs, *padded.outputs)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # the exporter that replaces this one needs a further package, onnxscript, to write the same graph
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            padded,
            tuple(example.given[name] for name in padded.inputs),
            path,
            input_names=list(padded.inputs),
            output_names=list(padded.outputs),
            dynamic_axes={name: AXES.get(name, {0: "B"}) for name in names},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


AXES = {
    "rows": {0: "B", 1: "N"},
    "row_mask": {0: "B", 1: "N"},
    "entities": {0: "B", 1: "E"},
    "entity_mask": {0: "B", 1: "E"},
    "concerns": {0: "B", 1: "N", 2: "E"},
    "links": {0: "B", 1: "E", 2: "E"},
    **{name: {0: "B", 1: "E"} for name in WAYS},
    "said": {0: "B", 1: "L"},
    **{name: {0: "B", 1: "K"} for name in HEARD},
    "probabilities": {0: "B", 1: "N"},
}
"""Axes that may have any length: decisions, actions, entities, neighbours; of all others the first alone."""


def _with_metadata(model: bytes, facts: Mapping[str, Any]) -> bytes:
    onnx: Any = importlib.import_module("onnx")
    loaded = onnx.load_from_string(model)
    onnx.helper.set_model_props(loaded, {METADATA: json.dumps(facts)})
    onnx.checker.check_model(loaded)
    made: bytes = loaded.SerializeToString()
    return made
