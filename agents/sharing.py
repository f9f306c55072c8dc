"""Whose parameters an agent uses: its kind's, its own, or one network's for all kinds."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import nn

from fedsched.agents.config import PolicyConfig
from fedsched.agents.critic import critic_width
from fedsched.agents.decisions import AgentError, Decisions
from fedsched.agents.network import ChoiceNetwork, KindNetwork, SoftRule
from fedsched.agents.vector import VectorNetwork
from fedsched.envs.core import KindSpec, Observation, Tokens, WorldSpec

ALL = "all"
"""Name of the part that all kinds share."""


class Union:
    """The features of several kinds as those of one: united by name, and which kind it is, one-hot, at the end of own.

    A feature that a kind lacks is zero there. Kinds, agents, entities and actions stay as they are.
    """

    def __init__(self, spec: WorldSpec) -> None:
        """Unites the kinds of a world; raises AgentError if they cannot act through one head."""
        _one_head(spec)
        self._own = _united(kind.own for kind in spec.kinds)
        self._entity = _united(kind.entity for kind in spec.kinds)
        self._action = _united(kind.action for kind in spec.kinds)
        self._names = [kind.name for kind in spec.kinds]
        self._places = {kind.name: self._place(kind) for kind in spec.kinds}
        self._last: tuple[WorldSpec, WorldSpec] | None = None

    def spec(self, spec: WorldSpec) -> WorldSpec:
        """A world's spec with the united features; the last one is kept, since it is asked for at every step."""
        if self._last is None or self._last[0] is not spec:
            self._last = spec, self._unite(spec)
        return self._last[1]

    def _unite(self, spec: WorldSpec) -> WorldSpec:
        own = (*self._own, *(f"is {name}" for name in self._names))
        kinds = tuple(replace(k, own=own, entity=self._entity, action=self._action) for k in spec.kinds)
        return replace(spec, kinds=kinds)

    def observe(self, observation: Observation) -> Observation:
        """The same observation in the united features, in new memory where they differ."""
        kinds = {name: self._widen(name, tokens) for name, tokens in observation.kinds.items()}
        return replace(observation, kinds=kinds)

    def narrow(self, decisions: Decisions, kind: KindSpec) -> Decisions:
        """Decisions of a kind in its own features again."""
        own, entity, action = (part.to(decisions.own.device) for part in self._places[kind.name])
        row = entity if kind.bounds is not None else torch.cat([entity, action + len(self._entity)])
        seen = decisions.entities
        return replace(
            decisions,
            own=decisions.own.index_select(1, own),
            rows=decisions.rows.index_select(1, row),
            entities=None if seen is None else replace(seen, tokens=seen.tokens.index_select(1, entity)),
        )

    def sources(self, kind: str) -> tuple[torch.Tensor, ...]:
        """Where united features come from, of own, entities and actions; for `in_union`."""
        own, entity, action = self._places[kind]
        which = torch.tensor([len(own) + int(name == kind) for name in self._names], dtype=torch.int64)
        wide = _sources(own, len(self._own)), _sources(entity, len(self._entity)), _sources(action, len(self._action))
        return (torch.cat([wide[0], which]), *wide[1:])

    def _place(self, kind: KindSpec) -> tuple[torch.Tensor, ...]:
        pairs = ((kind.own, self._own), (kind.entity, self._entity), (kind.action, self._action))
        return tuple(torch.tensor([names.index(n) for n in few], dtype=torch.int64) for few, names in pairs)

    def _widen(self, name: str, tokens: Tokens) -> Tokens:
        own, entity, action = (part.to(tokens.own.device) for part in self.sources(name))
        return replace(
            tokens,
            own=in_union(tokens.own, own),
            entities=in_union(tokens.entities, entity),
            actions=in_union(tokens.actions, action),
        )


def build_networks(
    spec: WorldSpec, config: PolicyConfig, rules: Mapping[str, SoftRule]
) -> tuple[nn.ModuleDict, dict[str, str]]:
    """The networks of a policy and the name of each kind's.

    Args:
        spec: With united features where all kinds share a network.
        config: Sizes and sharing.
        rules: To start from, by kind.

    Raises:
        AgentError: A rule that cannot be had, or unlike rules for kinds that share a network.
    """
    if config.sharing == "all" and len(spec.kinds) > 1:
        alike = [rules.get(kind.name, SoftRule()) for kind in spec.kinds]
        if any(rule != alike[0] for rule in alike):
            raise AgentError(
                f"{spec.name}: with sharing all every kind starts from the same soft rule, or all from none"
            )
        return nn.ModuleDict({ALL: _network(spec, config, alike[0], 0, 0)}), {k.name: ALL for k in spec.kinds}
    networks, first = {}, 0
    for place, kind in enumerate(spec.kinds):
        networks[kind.name] = _network(spec, config, rules.get(kind.name, SoftRule()), place, first)
        first += len(kind.agents)
    return nn.ModuleDict(networks), {name: name for name in networks}


def require_same_agents(spec: WorldSpec, known: Mapping[str, tuple[str, ...]]) -> None:
    """Raises AgentError where a world's agents are not those, `known` by kind, who own a policy's parameters."""
    agents = {kind.name: kind.agents for kind in spec.kinds}
    if agents == known:
        return
    strange = sorted({a for names in agents.values() for a in names} ^ {a for names in known.values() for a in names})
    raise AgentError(
        f"{spec.name}: with sharing agent a policy belongs to the agents it was built for; "
        f"{', '.join(strange) or 'their order'} differ: build one for this world, or share by kind"
    )


def sizes_of(spec: WorldSpec) -> dict[str, tuple[int, int, int, int]]:
    """Numbers of features of own, entities and actions, and of numbers in a vector (0: a choice), by kind."""
    return {
        kind.name: (
            len(kind.own),
            len(kind.entity),
            len(kind.action),
            0 if kind.bounds is None else int(kind.bounds[0].shape[0]),
        )
        for kind in spec.kinds
    }


def require_same_features(spec: WorldSpec, known: Mapping[str, tuple[int, int, int, int]], central: bool) -> None:
    """Raises AgentError where a world's kinds are not those, `known` by `sizes_of`, that a policy was built for.

    A world may lack kinds, but for a `central` critic, which reads all.
    """
    found = sizes_of(spec)
    for name, sizes in found.items():
        if known.get(name) != sizes:
            there = f"has {known[name]}" if name in known else f"knows {', '.join(known)}"
            raise AgentError(
                f"{spec.name}: kind {name!r} has {sizes} features of own, entity and action and numbers in a vector, "
                f"the policy {there}: it is of another world, build one for this"
            )
    if central and found.keys() != known.keys():
        raise AgentError(
            f"{spec.name}: has no {', '.join(sorted(known.keys() - found.keys()))}, but the policy's central critic "
            "reads all kinds: build one for this world, or use critic independent"
        )


def _network(spec: WorldSpec, config: PolicyConfig, rule: SoftRule, place: int, first: int) -> KindNetwork:
    kind = spec.kinds[place]
    build = ChoiceNetwork if kind.bounds is None else VectorNetwork
    critic_inputs = critic_width(spec, kind, config.critic) + config.memory
    return build(kind, config, rule, critic_inputs, first, bool(spec.addresses.ways))


def _one_head(spec: WorldSpec) -> None:
    sizes = {kind.name: 0 if kind.bounds is None else kind.bounds[0].shape[0] for kind in spec.kinds}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {f'a vector of {size}' if size else 'a choice'}" for name, size in sizes.items())
        raise AgentError(f"{spec.name}: kinds with unlike actions cannot share a head ({told}): share by kind or agent")


def _united(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in part))


def _sources(place: torch.Tensor, width: int) -> torch.Tensor:
    """The column [width] that each united feature comes from, of features at `place` [F]; F stands for zero."""
    source = torch.full((width,), len(place), dtype=torch.int64)
    return source.index_copy_(0, place, torch.arange(len(place)))


def in_union(values: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Columns `source` [width] of values [..., F], with a column F of zeros and one F + 1 of ones behind them."""
    fixed = values.new_tensor([0.0, 1.0]).expand(*values.shape[:-1], 2)
    return torch.cat([values, fixed], -1).index_select(values.dim() - 1, source)
