"""A world as a PettingZoo `ParallelEnv`: a thin view of a batch of one."""

from collections.abc import Mapping
from typing import Any

import gymnasium.spaces as spaces
import numpy as np
import numpy.typing as npt
import pettingzoo
import torch

from fedsched.envs.core.world import IllegalActionError, KindSpec, Observation, World, WorldError

Array = npt.NDArray[Any]

_FIELDS = ("own", "entities", "entity_mask", "actions", "action_mask", "active", "alive")


def register(domain: str, entry_point: str) -> str:
    """Registers `fedsched/<domain>-v0` with PettingZoo; returns the id. Doing so again changes nothing.

    Args:
        domain: Name of the domain, such as `datacenter`.
        entry_point: `module:function` of its `parallel_env`.
    """
    name = f"fedsched/{domain}-v0"
    if name not in pettingzoo.parallel_registry:
        pettingzoo.register("parallel", name, entry_point)
    return name


class WorldParallelEnv(pettingzoo.ParallelEnv):
    """One copy of a world, agent by agent.

    Observations are dicts of `own` [Fo], `entities` [E, Fe], `entity_mask` [E], `actions` [N, Fa] and `action_mask`
    [N]; those of size zero are left out. All live agents act at every step; the mask of an agent that has nothing to
    decide allows only its idle action. `infos` hold `action_mask`, `active`, `illegal_action`, `reward_parts`,
    `time_s` and `elapsed_s`.

    Args:
        world: A batch of one.
        weights: Weight of every named reward part that counts; the reward is their weighted sum.
        flatten: One Box instead of the dict, in the order of its sorted keys.
        strict: Raises for an illegal action; else it becomes the idle one (or the first legal one; a vector is clipped)
            and the agent's next `info["illegal_action"]` is True.
        instance: Problem of an episode unless `reset(options={"instance": k})` names another.
        render_mode: What `render` returns, one of `RENDER_MODES`; None: nothing.

    Raises:
        WorldError: A larger batch, or weights of parts that the world does not have.
    """

    RENDER_MODES: tuple[str, ...] = ()
    """Those that the domain draws."""

    def __init__(
        self,
        world: World,
        weights: Mapping[str, float],
        *,
        flatten: bool = False,
        strict: bool = False,
        instance: int = 0,
        render_mode: str | None = None,
    ) -> None:
        parts = world.spec.reward_parts
        if world.batch != 1:
            raise WorldError(f"a ParallelEnv is a batch of one, this world has {world.batch} rows")
        if unknown := set(weights) - set(parts):
            raise WorldError(f"no reward part {', '.join(sorted(unknown))}; {world.spec.name} has {', '.join(parts)}")
        self.world, self.flatten, self.strict, self.instance = world, flatten, strict, instance
        self.metadata = {"name": f"fedsched/{world.spec.name}-v0", "render_modes": list(self.RENDER_MODES)}
        self.render_mode = render_mode
        self.weights = np.array([weights.get(part, 0.0) for part in parts])
        self._place = {name: (kind, a) for kind in world.spec.kinds for a, name in enumerate(kind.agents)}
        self.possible_agents = list(self._place)
        self.agents: list[str] = []
        self._plain = {name: _observation_space(kind) for name, (kind, _) in self._place.items()}
        self.observation_spaces = {
            name: spaces.flatten_space(space) if flatten else space for name, space in self._plain.items()
        }
        self.action_spaces = {name: _action_space(kind) for name, (kind, _) in self._place.items()}
        self._seed = -1
        self._time_s = 0.0
        self._seen: dict[str, dict[str, Array]] = {}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The space of an agent's observations, the same object every time."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The space of an agent's actions, the same object every time."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Starts an episode; without a seed, that of the last one plus one. Options other than `instance` are ignored.

        Raises:
            WorldError: An unknown instance.
        """
        self._seed = self._seed + 1 if seed is None else seed
        instance = int((options or {}).get("instance", self.instance))
        rows = torch.tensor([[instance], [self._seed]], dtype=torch.int64, device=self.world.device)
        self._look(self.world.reset(rows[0], rows[1]))
        self.agents = [name for name in self.possible_agents if self._row(name, "alive")]
        return self._observe(self.agents), self._infos(self.agents, frozenset(), None, 0.0)

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[
        dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
    ]:  # fmt: skip
        """Acts for every live agent and runs to the next decision of any of them.

        Raises:
            WorldError: No live agent, an agent that is not live, or no action for one that must decide.
            IllegalActionError: If `strict`, an action outside the mask or the space.
        """
        acting = list(self.agents)
        if not acting:
            raise WorldError("no agent is live: call reset first")
        if strangers := set(actions) - set(acting):
            raise WorldError(f"actions for {', '.join(sorted(strangers))}, but live are {', '.join(acting)}")
        table = self._idle_actions()
        illegal = frozenset(name for name in acting if self._enter(table, name, actions))
        rows = {kind: torch.as_tensor(values, device=self.world.device)[None] for kind, values in table.items()}
        moved = self.world.step(rows)
        self._look(moved.observation)
        reward = {kind: values[0].double().cpu().numpy() for kind, values in moved.reward.items()}
        parts = {name: reward[self._place[name][0].name][self._place[name][1]] for name in acting}
        ended = {name: bool(moved.terminated[self._place[name][0].name][0, self._place[name][1]]) for name in acting}
        cut = bool(moved.truncated[0])
        self.agents = [name for name in acting if not ended[name] and not cut]
        return (
            self._observe(acting),
            {name: float(self.weights @ parts[name]) for name in acting},
            ended,
            {name: cut and not ended[name] for name in acting},
            self._infos(acting, illegal, parts, float(moved.elapsed_s[0])),
        )

    def render(self) -> Array | str | None:
        """The present moment as a domain draws it; here nothing.

        Raises:
            WorldError: A mode that the domain does not draw.
        """
        if self.render_mode not in (None, *self.RENDER_MODES):
            known = ", ".join(self.RENDER_MODES) or "none"
            raise WorldError(f"{self.world.spec.name} has no render mode {self.render_mode!r}; there are: {known}")
        return None

    def _look(self, observation: Observation) -> None:
        """One copy of everything to the host, of which agents get their rows."""
        self._time_s = float(observation.time_s[0])
        self._seen = {
            kind: {field: _copy(getattr(tokens, field)[0]) for field in _FIELDS}
            for kind, tokens in observation.kinds.items()
        }

    def _row(self, name: str, field: str) -> Array:
        if not self._seen:
            raise WorldError("nothing to see yet: call reset first")
        kind, a = self._place[name]
        row: Array = self._seen[kind.name][field][a]
        return row

    def _observe(self, names: list[str]) -> dict[str, Any]:
        seen = {name: self._see(name) for name in names}
        if not self.flatten:
            return seen
        return {name: spaces.flatten(self._plain[name], value) for name, value in seen.items()}

    def _see(self, name: str) -> dict[str, Array]:
        return {key: self._row(name, key).astype(space.dtype, copy=False) for key, space in self._plain[name].items()}

    def _infos(
        self, names: list[str], illegal: frozenset[str], parts: Mapping[str, Array] | None, elapsed_s: float
    ) -> dict[str, dict[str, Any]]:
        infos: dict[str, dict[str, Any]] = {}
        for name in names:
            values = np.zeros(len(self.weights)) if parts is None else parts[name]
            infos[name] = {
                "active": bool(self._row(name, "active")),
                "illegal_action": name in illegal,
                "reward_parts": dict(zip(self.world.spec.reward_parts, values.tolist(), strict=True)),
                "time_s": self._time_s,
                "elapsed_s": elapsed_s,
            }
            if self._place[name][0].actions:
                infos[name]["action_mask"] = self._row(name, "action_mask").astype(np.int8)
        return infos

    def _idle_actions(self) -> dict[str, Array]:
        return {
            kind.name: np.full(len(kind.agents), kind.idle)
            if kind.bounds is None
            else np.tile(np.clip(0.0, *kind.bounds), (len(kind.agents), 1)).astype(np.float32)
            for kind in self.world.spec.kinds
        }

    def _enter(self, table: dict[str, Array], name: str, actions: Mapping[str, Any]) -> bool:
        """Puts an agent's action into the table; True if it was illegal and another one was taken."""
        kind, a = self._place[name]
        if name not in actions:
            if self._row(name, "active"):
                raise WorldError(f"{name} must decide: give it an action")
            return False
        action = actions[name]
        if kind.bounds is not None:
            return self._enter_vector(table[kind.name], name, kind.bounds, np.asarray(action, dtype=np.float32))
        mask = self._row(name, "action_mask")
        inside = self.action_spaces[name].contains(action)
        if inside and mask[int(action)]:
            table[kind.name][a] = int(action)
            return False
        if self.strict:
            raise IllegalActionError(f"{name}: action {action} is illegal; legal: {np.flatnonzero(mask).tolist()}")
        table[kind.name][a] = kind.idle if mask[kind.idle] else int(np.argmax(mask))
        return True

    def _enter_vector(self, rows: Array, name: str, bounds: tuple[Array, Array], action: Array) -> bool:
        """Only the vector of an agent that must decide is used."""
        if not self._row(name, "active"):
            return False
        a = self._place[name][1]
        space = self.action_spaces[name]
        if space.contains(action):
            rows[a] = action
            return False
        if self.strict or action.shape != space.shape:
            raise IllegalActionError(f"{name}: {action.tolist()} lies outside {space}")
        rows[a] = np.clip(np.nan_to_num(action), *bounds)
        return True


def _copy(tensor: torch.Tensor) -> Array:
    """Worlds reuse their arrays, so an observation must own its numbers."""
    return np.array(tensor.cpu().numpy())


def _observation_space(kind: KindSpec) -> spaces.Dict:
    def real(*shape: int) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, shape, np.float32)

    parts: dict[str, spaces.Space[Any]] = {
        "own": real(len(kind.own)),
        "entities": real(kind.entities, len(kind.entity)),
        "actions": real(kind.actions, len(kind.action)),
    }
    if kind.entities:
        parts["entity_mask"] = spaces.MultiBinary(kind.entities)
    if kind.actions:
        parts["action_mask"] = spaces.MultiBinary(kind.actions)
    return spaces.Dict({name: space for name, space in parts.items() if np.prod(space.shape or (0,))})


def _action_space(kind: KindSpec) -> spaces.Space[Any]:
    if kind.bounds is None:
        return spaces.Discrete(kind.actions)
    return spaces.Box(*kind.bounds, dtype=np.float32)
