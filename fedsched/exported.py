"""Exported policies in use: numpy and ONNX Runtime, no torch and nothing else of fedsched.

One file holds one kind of agent: `ExportedPolicy("signal.onnx").decide(own, entities, actions)`. What the numbers mean,
and in which order, is in its `features`. Sizes: E entities, N actions, K neighbours; F features of each.
"""

import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Named = dict[str, npt.NDArray[Any]]
Heard = Sequence[tuple[npt.ArrayLike, float] | None]

METADATA = "fedsched"
"""Key of the description inside a file."""
VERSION = 1

_SPARE = 1
"""An empty slot behind the others: ONNX Runtime cannot compute with no slot at all."""


class ExportError(ValueError):
    """A file that is no exported policy, or inputs that do not fit it."""


@dataclass(frozen=True)
class Decision:
    """What an agent should do.

    Attributes:
        action: The likeliest action, a number; or, of a kind with vector actions, float32 [D].
        probabilities: float32 [N], zero for illegal actions; empty for vector actions.
        said: float32 [L, M], what it would tell others; where messages are `addressed` the first line is for those who
            are no neighbours of its own, the next ones for each neighbour, else there is one; None without messages.
        memory: float32 [H], to be given with its next decision; None without memory.
        choices: How many actions were legal; zero for vector actions.
    """

    action: int | FloatArray
    probabilities: FloatArray
    said: FloatArray | None
    memory: FloatArray | None
    choices: int


class ExportedPolicy:
    """A policy of one kind of agent, read from a file.

    Args:
        path: Of the `.onnx` file.
        threads: That ONNX Runtime may use for one call.

    Attributes:
        about: All that the file tells of itself.
        features: Names of the features: `own`, `entities`, `actions`.
        agents: Names of the agents, where each has parameters of its own; None: any agent of the kind.
        messages: Numbers in a message, and how they are sent; None without messages.
        trigger: When a message is sent; None: always.
        inputs: Names of what `run` reads.
        outputs: Names of what it returns.

    Raises:
        ExportError: No file, or one that `fedsched export` did not write.
        ImportError: ONNX Runtime is not installed: pip install onnxruntime.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        onnxruntime = importlib.import_module("onnxruntime")  # it has no types
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        if not Path(path).is_file():
            raise ExportError(f"{path}: there is no such file")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            told = self._session.get_modelmeta().custom_metadata_map[METADATA]
        except Exception as error:  # ONNX Runtime's own errors have no common class
            raise ExportError(f"{path}: not a policy that `fedsched export --policy` wrote: {error}") from error
        self.about: dict[str, Any] = json.loads(told)
        if self.about["version"] != VERSION:
            raise ExportError(
                f"{path}: version {self.about['version']}, this fedsched reads {VERSION}: export it again"
            )
        self.features: dict[str, list[str]] = self.about["features"]
        self.agents: list[str] | None = self.about["agents"]
        self.messages: dict[str, Any] | None = self.about["messages"]
        self.trigger: dict[str, Any] | None = self.about["trigger"]
        self.inputs: tuple[str, ...] = tuple(self.about["inputs"])
        self.outputs: tuple[str, ...] = tuple(self.about["outputs"])
        self._sizes = {part: len(names) for part, names in self.features.items()}
        self._chooses = self.about["bounds"] is None
        self._given: list[str] = self.about.get("given", [])  # what the world says of entities and no default can guess

    def run(self, given: Named) -> Named:
        """Answers to B decisions at once, by name: those in `outputs`.

        Args:
            given: Those in `inputs`, padded: agent int64 [B]; own [B, F]; rows [B, N, F], for each action the features
                of the entity concerned (summed, if several; zero for none), then of the action, and row_mask [B, N], or
                the entities of a kind with vector actions; entities [B, E, F], entity_mask [B, E], concerns [B, N, E],
                links [B, E, E]; memory [B, H]; message [B, K, M], age [B, K] as ln(1 + seconds) / 16, known [B, K];
                source and target int64 [B, E], columns of the neighbours, or -1.

        Returns:
            probabilities [B, N] or action [B, D]; said [B, L, M]; remembered [B, H].
        """
        return dict(zip(self.outputs, self._session.run(self.outputs, given), strict=True))

    def decide(
        self,
        own: npt.ArrayLike,
        entities: npt.ArrayLike | None = None,
        actions: npt.ArrayLike | None = None,
        action_mask: npt.ArrayLike | None = None,
        entity_mask: npt.ArrayLike | None = None,
        *,
        concerns: npt.ArrayLike | None = None,
        links: npt.ArrayLike | None = None,
        heard: Heard = (),
        ways: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        memory: npt.ArrayLike | None = None,
        agent: str | None = None,
    ) -> Decision:
        """One agent's decision.

        Args:
            own: [F], its own features.
            entities: [E, F] of what it sees; none by default.
            actions: [N, F] of its actions; not for vector actions.
            action_mask: bool [N], which are legal; all by default.
            entity_mask: bool [E], which slots hold an entity; all by default.
            concerns: bool [N, E], which entities an action concerns; by default action n concerns entity n, where
                that is so in the worlds of the policy.
            links: bool [E, E], which entity looks at which; all at all by default, where the worlds name no links.
            heard: Of each neighbour the last message [M] and how many seconds ago it was, or None; nobody by default.
            ways: int [E] each, which neighbour an entity comes from and goes to, or -1; where messages are `addressed`.
            memory: [H], from the agent's last decision in this episode; None for the first.
            agent: Its name, where every agent has parameters of its own.

        Raises:
            ExportError: Inputs of another shape, not finite or missing, or no legal action.
        """
        acts, legal = _table("actions", actions, action_mask, self._sizes["actions"])
        things, live = _table("entities", entities, entity_mask, self._sizes["entities"], _SPARE)
        seen = _Seen(_line("own", own, self._sizes["own"]), things, live, acts, legal)
        if live.any():
            self._require(concerns=concerns, links=links, ways=ways if heard else ())
        given = self._rows(seen, concerns) if self._chooses else _entities(seen)
        given |= {"links": _links(links, len(live))} if "links" in self.inputs else {}
        given |= self._heard(heard, ways, len(live)) | self._brought(memory, agent)
        return self._decision(self.run({name: given[name] for name in self.inputs}), legal, len(heard))

    def sends(self, said: FloatArray, last: FloatArray | None, silent: int, listener_uncertainty: float = 1.0) -> bool:
        """Whether an agent should send what it would say, to all or to one address.

        Args:
            said: [M], a line of `Decision.said`.
            last: [M], what it last sent there; None if nothing in this episode.
            silent: Decisions since.
            listener_uncertainty: Of the listener that is most uncertain, by what it had heard before.
        """
        if self.trigger is None or last is None:
            return True
        uncertain_from, far_from = self.trigger["threshold"]
        needed = far_from * (1.0 if listener_uncertainty >= uncertain_from else self.trigger["patience"])
        return bool(np.linalg.norm(said - last) >= needed) or silent >= self.trigger["timeout"]

    def uncertainty(self, made: Decision) -> float:
        """How unsure a decision is, in [0, 1], by the trigger's measure; without one by entropy."""
        measure = self.trigger["measure"] if self.trigger else "entropy"
        return float(uncertainty(made.probabilities, made.choices, measure)) if self._chooses else 1.0

    def _require(self, **known: object) -> None:
        """Raises ExportError where something is missing that a default would make wrong in silence."""
        asked = {"concerns": self._chooses, "links": "links" in self.inputs, "ways": "source" in self.inputs}
        for name, value in known.items():
            if value is None and asked[name] and (name in self._given or name == "ways"):
                raise ExportError(f"{name}: needed by a {self.about['kind']}; its world tells it, see docs/export.md")

    def _rows(self, seen: "_Seen", concerns: npt.ArrayLike | None) -> Named:
        """Legal actions alone."""
        which = np.flatnonzero(seen.legal)
        if not len(which):
            raise ExportError("no action is legal")
        slots, width = len(seen.live) - _SPARE, seen.entities.shape[1]
        rows = np.zeros((1, len(which), width + seen.actions.shape[1]), np.float32)
        rows[0, :, width:] = seen.actions[which]
        given: Named = {"own": seen.own, "rows": rows, "row_mask": np.ones((1, len(which)), np.bool_)}
        if concerns is None:
            with_entity = which[which < slots]
            rows[0, : len(with_entity), :width] = seen.entities[with_entity]
        else:
            table = _shaped("concerns", concerns, (len(seen.legal), slots), np.bool_)[which]
            rows[0, :, :width] = (table & seen.live[:slots]).astype(np.float32) @ seen.entities[:slots]
        if "entities" in self.inputs:
            relation = np.zeros((1, len(which), slots + _SPARE), np.bool_)
            relation[0, :, :slots] = which[:, None] == np.arange(slots) if concerns is None else table
            given |= {"entities": seen.entities[None], "entity_mask": seen.live[None], "concerns": relation}
        return given

    def _heard(self, heard: Heard, ways: tuple[npt.ArrayLike, npt.ArrayLike] | None, slots: int) -> Named:
        """What neighbours said, and which of the entities they hand on."""
        if self.messages is None:
            return {}
        said = _messages(heard, int(self.messages["size"]))
        return said | _ways(ways, slots) if "source" in self.inputs else said

    def _brought(self, memory: npt.ArrayLike | None, agent: str | None) -> Named:
        """Who an agent is, and what it remembers."""
        given: Named = {}
        if self.agents is not None:
            if agent not in self.agents:
                raise ExportError(f"each agent has parameters of its own: say which of {', '.join(self.agents)}")
            given["agent"] = np.array([self.agents.index(agent)])
        if "memory" in self.inputs:
            given["memory"] = _line("memory", memory, int(self.about["memory"]))
        return given

    def _decision(self, answer: Named, legal: BoolArray, neighbours: int) -> Decision:
        said, memory = answer.get("said"), answer.get("remembered")
        said, memory = None if said is None else said[0, : 1 + neighbours], None if memory is None else memory[0]
        if not self._chooses:
            return Decision(answer["action"][0], np.zeros(0, np.float32), said, memory, 0)
        probabilities, found = np.zeros(len(legal), np.float32), answer["probabilities"][0]
        probabilities[legal] = found
        return Decision(int(probabilities.argmax()), probabilities, said, memory, len(found))


@dataclass(frozen=True)
class _Seen:
    """What an agent sees, checked: own [1, F]; entities, zero where none is, with an empty slot behind them."""

    own: FloatArray
    entities: FloatArray
    live: BoolArray
    actions: FloatArray
    legal: BoolArray


def _entities(seen: _Seen) -> Named:
    """Entities as rows, for vector actions."""
    return {"own": seen.own, "rows": seen.entities[None], "row_mask": seen.live[None]}


def _links(links: npt.ArrayLike | None, slots: int) -> BoolArray:
    """Who looks at whom, [1, slots, slots]: each at itself."""
    look, count = np.eye(slots, dtype=np.bool_)[None], slots - _SPARE
    look[0, :count, :count] |= True if links is None else _shaped("links", links, (count, count), np.bool_)
    return look


def _ways(ways: tuple[npt.ArrayLike, npt.ArrayLike] | None, slots: int) -> Named:
    """Which neighbours entities come from and go to, [1, slots], -1 for none."""
    given = {name: np.full((1, slots), -1) for name in ("source", "target")}
    if ways is not None:
        for name, columns in zip(given, ways, strict=True):
            given[name][0, : slots - _SPARE] = _shaped(name, columns, (slots - _SPARE,), np.int64)
    return given


def _table(
    name: str, values: npt.ArrayLike | None, mask: npt.ArrayLike | None, size: int, spare: int = 0
) -> tuple[FloatArray, BoolArray]:
    """Features [n + spare, size] and which of them count, [n + spare]; zero where they do not.

    Raises:
        ExportError: What does not fit or is not finite.
    """
    if values is None:
        values = np.zeros((0 if mask is None else len(np.asarray(mask)), size), np.float32)
    given = _shaped(name, values, (None, size))
    table, live = np.zeros((len(given) + spare, size), np.float32), np.zeros(len(given) + spare, np.bool_)
    live[: len(given)] = True if mask is None else _shaped(f"mask of {name}", mask, (len(given),), np.bool_)
    np.copyto(table[: len(given)], given, where=live[: len(given), None])
    return _finite(name, table), live


def _line(name: str, values: npt.ArrayLike | None, size: int) -> FloatArray:
    """One line [1, size]; zeros for None."""
    return _finite(name, np.zeros(size, np.float32) if values is None else _shaped(name, values, (size,)))[None]


def _finite(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not math.isfinite(values.sum()):  # one number to look at, not all
        raise ExportError(f"{name}: a number is not finite")
    return values


def _shaped(
    name: str, values: npt.ArrayLike, shape: tuple[int | None, ...], dtype: type[Any] = np.float32
) -> npt.NDArray[Any]:
    """An array of that shape, None being any length; raises ExportError for another."""
    array = np.asarray(values, dtype)
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("n" if n is None else str(n) for n in shape)
        raise ExportError(f"{name}: [{wanted}] is needed, got {list(array.shape)}")
    return array


def uncertainty(probabilities: FloatArray, choices: npt.ArrayLike, measure: str) -> npt.NDArray[np.float64]:
    """How unsure decisions are, [...] in [0, 1], of probabilities [..., N] and how many actions were legal [...].

    Entropy over its maximum ln n, n actions being legal; or one minus the gap between the two likeliest (`gap`). A
    decision with one action is sure.
    """
    p = probabilities.astype(np.float64)
    if measure == "gap":
        top = np.sort(np.concatenate([p, np.zeros((*p.shape[:-1], 1))], -1), -1)
        return np.asarray(1.0 - (top[..., -1] - top[..., -2]))
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(-1)
    return np.asarray(np.clip(entropy / np.log(np.maximum(choices, 2)), 0.0, 1.0))


def _messages(heard: Heard, size: int) -> Named:
    message = np.zeros((1, len(heard) + _SPARE, size), np.float32)
    age, known = np.zeros(message.shape[:2], np.float32), np.zeros(message.shape[:2], np.bool_)
    for k, one in enumerate(heard):
        if one is not None:
            message[0, k] = _line("a message", one[0], size)
            age[0, k], known[0, k] = math.log1p(max(one[1], 0.0)) / 16, True
    return {"message": message, "age": age, "known": known}
