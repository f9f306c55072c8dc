"""Exported policies in use: numpy and ONNX Runtime, no torch and nothing else of fedsched.

One file holds one kind of agent: `ExportedPolicy("signal.onnx").decide(own, entities, actions)`. What the numbers mean,
and in which order, is in its `features`. Sizes: E entities, N actions, K neighbours; F features of each.
"""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Named = dict[str, npt.NDArray[Any]]

METADATA = "fedsched"
"""Key of the description inside a file."""
VERSION = 1

_SPARE = ((0, 1), (0, 0))
"""An empty slot behind the others: ONNX Runtime cannot compute with no slot at all."""


class ExportError(ValueError):
    """A file that is no exported policy, or inputs that do not fit it."""


@dataclass(frozen=True)
class Decision:
    """What an agent should do.

    Attributes:
        action: The likeliest action, a number; or, of a kind with vector actions, float32 [D].
        probabilities: float32 [N], zero for illegal actions; empty for vector actions.
        said: float32 [M], what it would tell its neighbours; None without messages.
        memory: float32 [H], to be given with its next decision; None without memory.
        uncertainty: In [0, 1], by the measure of the policy's trigger, entropy over its maximum without one; 1 for
            vector actions.
    """

    action: int | FloatArray
    probabilities: FloatArray
    said: FloatArray | None
    memory: FloatArray | None
    uncertainty: float


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

    def run(self, given: Named) -> Named:
        """Answers to B decisions at once, by name: those in `outputs`.

        Args:
            given: Those in `inputs`, padded: agent int64 [B]; own [B, F]; rows [B, N, F], for each action the features
                of the entity concerned (summed, if several; zero for none), then of the action, and row_mask [B, N], or
                the entities of a kind with vector actions; entities [B, E, F], entity_mask [B, E], concerns [B, N, E],
                links [B, E, E]; memory [B, H]; message [B, K, M], age [B, K] as ln(1 + seconds) / 16, known [B, K].

        Returns:
            probabilities [B, N] or action [B, D]; said [B, M]; remembered [B, H].
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
        heard: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
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
            concerns: bool [N, E], which entities an action concerns; by default action n concerns entity n.
            links: bool [E, E], which entity looks at which; all at all by default.
            heard: Messages [K, M] of neighbours and their ages [K] in seconds; none by default.
            memory: [H], from the agent's last decision in this episode; None for the first.
            agent: Its name, where every agent has parameters of its own.

        Raises:
            ExportError: Inputs of another shape, not finite or missing, or no legal action.
        """
        seen = _Seen.of(own, entities, actions, action_mask, entity_mask, self._sizes)
        given, legal = self._rows(seen, concerns, links) if self._chooses else (self._entities(seen, links), seen.live)
        if self.agents is not None:
            given["agent"] = np.array([self._number(agent)])
        if "memory" in self.inputs:
            given["memory"] = _line("memory", memory, int(self.about["memory"]))
        if self.messages is not None:
            given |= _heard(heard, int(self.messages["size"]))
        answer = self.run({name: given[name] for name in self.inputs})
        return self._decision({name: values[0] for name, values in answer.items()}, legal)

    def sends(self, said: FloatArray, last: FloatArray | None, silent: int, listener_uncertainty: float = 1.0) -> bool:
        """Whether an agent should send what it would say.

        Args:
            said: [M].
            last: [M], what it last sent; None if nothing in this episode.
            silent: Decisions since.
            listener_uncertainty: Of the listener that is most uncertain, by what it had heard before.
        """
        if self.trigger is None or last is None:
            return True
        uncertain_from, far_from = self.trigger["threshold"]
        needed = far_from * (1.0 if listener_uncertainty >= uncertain_from else self.trigger["patience"])
        return bool(np.linalg.norm(said - last) >= needed) or silent >= self.trigger["timeout"]

    def _rows(
        self, seen: "_Seen", concerns: npt.ArrayLike | None, links: npt.ArrayLike | None
    ) -> tuple[Named, BoolArray]:
        """Legal actions alone, and which they are."""
        if not seen.legal.any():
            raise ExportError("no action is legal")
        which = np.flatnonzero(seen.legal)
        if concerns is None:
            relation = which[:, None] == np.arange(len(seen.live))
        else:
            relation = _shaped("concerns", concerns, (len(seen.legal), len(seen.live)), np.bool_)[which]
        relation = relation & seen.live
        rows = np.concatenate([relation.astype(np.float32) @ seen.entities, seen.actions[which]], 1)
        given = {"own": seen.own[None], "rows": rows[None], "row_mask": np.ones((1, len(which)), np.bool_)}
        if "entities" in self.inputs:
            given["entities"] = np.pad(seen.entities, _SPARE)[None]
            given["entity_mask"] = np.pad(seen.live, _SPARE[0])[None]
            given["concerns"] = np.pad(relation, _SPARE[::-1])[None]
        return given | self._links(links, len(seen.live)), seen.legal

    def _entities(self, seen: "_Seen", links: npt.ArrayLike | None) -> Named:
        given = {
            "own": seen.own[None],
            "rows": np.pad(seen.entities, _SPARE)[None],
            "row_mask": np.pad(seen.live, _SPARE[0])[None],
        }
        return given | self._links(links, len(seen.live))

    def _links(self, links: npt.ArrayLike | None, slots: int) -> Named:
        if "links" not in self.inputs:
            return {}
        look = np.ones((slots, slots), np.bool_) if links is None else _shaped("links", links, (slots, slots), np.bool_)
        return {"links": np.pad(look | np.eye(slots, dtype=np.bool_), (_SPARE[0], _SPARE[0]))[None]}

    def _number(self, agent: str | None) -> int:
        assert self.agents is not None
        if agent not in self.agents:
            raise ExportError(f"each agent has parameters of its own: say which of {', '.join(self.agents)}")
        return self.agents.index(agent)

    def _decision(self, answer: Named, legal: BoolArray) -> Decision:
        said, memory = answer.get("said"), answer.get("remembered")
        if not self._chooses:
            return Decision(answer["action"], np.zeros(0, np.float32), said, memory, 1.0)
        probabilities = np.zeros(len(legal), np.float32)
        probabilities[legal] = answer["probabilities"]
        measure = self.trigger["measure"] if self.trigger else "entropy"
        unsure = float(uncertainty(answer["probabilities"], legal[legal], measure))
        return Decision(int(probabilities.argmax()), probabilities, said, memory, unsure)


@dataclass(frozen=True)
class _Seen:
    """What an agent sees, checked; entities are zero where none is."""

    own: FloatArray
    entities: FloatArray
    live: BoolArray
    actions: FloatArray
    legal: BoolArray

    @classmethod
    def of(
        cls,
        own: npt.ArrayLike,
        entities: npt.ArrayLike | None,
        actions: npt.ArrayLike | None,
        action_mask: npt.ArrayLike | None,
        entity_mask: npt.ArrayLike | None,
        sizes: dict[str, int],
    ) -> "_Seen":
        """Raises ExportError for what does not fit or is not finite."""
        seen, live = _masked("entities", entities, entity_mask, sizes["entities"])
        acts, legal = _masked("actions", actions, action_mask, sizes["actions"])
        return cls(_line("own", own, sizes["own"])[0], seen, live, acts, legal)


def _masked(
    name: str, values: npt.ArrayLike | None, mask: npt.ArrayLike | None, size: int
) -> tuple[FloatArray, BoolArray]:
    """Features [n, size] and which of them count, [n]; zero where they do not."""
    if values is None:
        values = np.zeros((0 if mask is None else len(np.asarray(mask)), size), np.float32)
    table = _shaped(name, values, (None, size))
    live = np.ones(len(table), np.bool_)
    if mask is not None:
        live = _shaped(f"mask of {name}", mask, (len(table),), np.bool_)
        table = np.where(live[:, None], table, np.float32(0))
    return _finite(name, table), live


def _line(name: str, values: npt.ArrayLike | None, size: int) -> FloatArray:
    """One line [1, size]; zeros for None."""
    line = np.zeros(size, np.float32) if values is None else _shaped(name, values, (size,))
    return _finite(name, line)[None]


def _finite(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not np.isfinite(values).all():
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


def uncertainty(probabilities: FloatArray, legal: BoolArray, measure: str) -> npt.NDArray[np.float64]:
    """How unsure decisions are, [...] in [0, 1], of probabilities and legal actions [..., N].

    Entropy over its maximum ln n, n actions being legal; or one minus the gap between the two likeliest (`gap`). A
    decision with one action is sure.
    """
    p = probabilities.astype(np.float64)
    if measure == "gap":
        top = np.sort(np.concatenate([p, np.zeros((*p.shape[:-1], 1))], -1), -1)
        return np.asarray(1.0 - (top[..., -1] - top[..., -2]))
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(-1)
    return np.asarray(np.clip(entropy / np.log(np.maximum(legal.sum(-1), 2)), 0.0, 1.0))


def _heard(heard: tuple[npt.ArrayLike, npt.ArrayLike] | None, size: int) -> Named:
    messages, ages = heard if heard is not None else (np.zeros((0, size)), np.zeros(0))
    said = _shaped("messages", messages, (None, size))
    age = np.log1p(np.maximum(_shaped("ages", ages, (len(said),)), 0.0)) / np.float32(16)
    # a slot for nobody, so that there is one
    return {
        "message": np.pad(_finite("messages", said), _SPARE)[None],
        "age": np.pad(_finite("ages", age), _SPARE[0])[None],
        "known": np.arange(len(said) + 1)[None] < len(said),
    }
