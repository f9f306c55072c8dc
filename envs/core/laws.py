"""What every observation and every transition of a world must satisfy."""

from collections.abc import Mapping

import torch

from fedsched.envs.core.broken import CheckError, require
from fedsched.envs.core.world import KindSpec, Observation, Tokens, Transition, WorldSpec

__all__ = ["CheckError", "check_observation", "check_transition", "require"]


def check_observation(spec: WorldSpec, batch: int, observation: Observation) -> None:
    """Shapes, dtypes, finite numbers, clean padding and masks; raises CheckError."""
    _tensor(observation.time_s, (batch,), torch.float64, "time_s")
    require(set(observation.kinds) == {kind.name for kind in spec.kinds}, "shape", "kinds are not those of the spec")
    for kind in spec.kinds:
        tokens = observation.kinds[kind.name]
        _check_tensors(kind, batch, tokens)
        _check_tables(kind)
        hidden = tokens.entities[~tokens.entity_mask]
        require(not bool(hidden.any()), "padding", f"{kind.name}: entities outside the mask are not zero")
        require(not bool((tokens.active & ~tokens.alive).any()), "active", f"{kind.name}: a dead agent must decide")
        if kind.actions:
            require(bool(tokens.action_mask.any(2).all()), "legal action", f"{kind.name}: a mask allows nothing")
            resting = tokens.action_mask[~tokens.active]
            only_idle = bool(resting[:, kind.idle].all()) and int(resting.sum()) == len(resting)
            require(only_idle, "idle", f"{kind.name}: an inactive agent's mask is not its idle action alone")


def _check_tensors(kind: KindSpec, batch: int, tokens: Tokens) -> None:
    agents, entities, actions = len(kind.agents), kind.entities, kind.actions
    shapes = {
        "own": (len(kind.own),), "entities": (entities, len(kind.entity)), "entity_mask": (entities,),
        "actions": (actions, len(kind.action)), "action_mask": (actions,), "active": (), "alive": (),
    }  # fmt: skip
    for field, shape in shapes.items():
        real = field in ("own", "entities", "actions")
        dtype = torch.float32 if real else torch.bool
        _tensor(getattr(tokens, field), (batch, agents, *shape), dtype, f"{kind.name}.{field}")


def _check_tables(kind: KindSpec) -> None:
    tables = {"relation": (kind.relation, kind.actions), "links": (kind.links, kind.entities)}
    for name, (table, lines) in tables.items():
        if table is not None and not isinstance(table, str):
            shape = (len(kind.agents), lines, kind.entities)
            good = table.dtype == bool and table.shape == shape
            require(good, "shape", f"{kind.name}.{name} is {table.dtype} {table.shape}, not bool {shape}")


def _tensor(value: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype, name: str) -> None:
    require(value.dtype == dtype, "dtype", f"{name} is {value.dtype}, not {dtype}")
    empty = value.numel() == 0 and 0 in shape
    require(tuple(value.shape) == shape or empty, "shape", f"{name} is {tuple(value.shape)}, not {shape}")
    require(bool(torch.isfinite(value).all()), "finite", f"{name} holds NaN or infinity")


def check_transition(
    spec: WorldSpec, batch: int, moved: Transition, before: torch.Tensor, alive: Mapping[str, torch.Tensor]
) -> None:
    """Rewards, ends and the clock, given time and living agents before the step; raises CheckError."""
    _tensor(moved.elapsed_s, (batch,), torch.float64, "elapsed_s")
    _tensor(moved.truncated, (batch,), torch.bool, "truncated")
    for kind in spec.kinds:
        agents = len(kind.agents)
        _tensor(moved.reward[kind.name], (batch, agents, len(spec.reward_parts)), torch.float32, f"{kind.name}.reward")
        _tensor(moved.terminated[kind.name], (batch, agents), torch.bool, f"{kind.name}.terminated")
        back = moved.observation.kinds[kind.name].alive & ~alive[kind.name]
        require(not bool(back.any()), "no return", f"{kind.name}: a dead agent is alive again")
    passed = moved.observation.time_s - before
    steady = bool((passed >= 0).all()) and torch.allclose(passed, moved.elapsed_s, rtol=1e-9, atol=1e-6)
    require(steady, "clock", f"the clock went {passed.tolist()} s, elapsed_s says {moved.elapsed_s.tolist()}")
