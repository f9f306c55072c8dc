"""What worlds say is checked before anything is done with it, or learned from it.

The checks sum numbers that the policy has computed anyhow; only where a sum is not finite is the culprit looked for.
"""

from collections.abc import Mapping, Sequence

import torch

from fedsched.agents.decisions import AgentError, Decisions
from fedsched.agents.policy import Policy
from fedsched.agents.step import PolicyStep
from fedsched.envs.core import KindSpec, Observation, WorldSpec


def check_step(spec: WorldSpec, policy: Policy, step: PolicyStep, steps: int) -> None:
    """Raises AgentError before an action is drawn from what is not finite, or where no action is legal.

    Args:
        spec: Of the world.
        policy: That made the step.
        step: What it made of an observation.
        steps: Of the world until now, for the message.
    """
    parts = [part.total() for part in step.distribution.values()]
    if step.value is not None:
        parts += [value.sum() for value in step.value.values()]
    choosing = [step.decisions[kind.name].pointers for kind in spec.kinds if kind.bounds is None]
    empty = any(bool((pointers[1:] == pointers[:-1]).any()) for pointers in choosing)
    if empty or not bool(torch.stack(parts).isfinite().all()):
        spec = policy.united(spec)
        for kind in spec.kinds:
            _explain(spec, kind, step.decisions[kind.name], steps)
        broken = [name for name, p in policy.named_parameters() if not bool(p.isfinite().all())]
        raise AgentError(
            f"{spec.name}, step {steps}: what the policy makes of finite observations is not finite; "
            f"its parameters that are not finite: {', '.join(broken) or 'none'}"
        )


def check_rewards(spec: WorldSpec, rewards: Mapping[str, torch.Tensor]) -> None:
    """Raises AgentError for rewards [T, B, A, R] by kind that are not finite; names the first."""
    for kind in spec.kinds:
        table = rewards[kind.name]
        if not bool(table.sum().isfinite()):
            step, row, agent, part = _first(~table.isfinite())
            what = f"reward part {spec.reward_parts[part]!r} is {float(table[step, row, agent, part])}"
            raise AgentError(f"{spec.name}, world {row}, agent {kind.agents[agent]!r}, step {step}: {what}")


def check_last(spec: WorldSpec, observation: Observation, values: Mapping[str, torch.Tensor], steps: int) -> None:
    """Raises AgentError for values [B, A] by kind, at an agent's last observation, that are not finite."""
    for kind in spec.kinds:
        if not bool(values[kind.name].sum().isfinite()):
            row, agent = _first(~values[kind.name].isfinite())
            _explain_last(spec, observation, row, steps)
            place = f"{spec.name}, world {row}, agent {kind.agents[agent]!r}, step {steps}"
            raise AgentError(f"{place}: its last observation is worth {float(values[kind.name][row, agent])}")


def _explain_last(spec: WorldSpec, observation: Observation, row: int, steps: int) -> None:
    """Raises AgentError that names what is not finite in the last observation of a world; a critic may read it all."""
    for kind in spec.kinds:
        tokens = observation.kinds[kind.name]
        tables = ("own", kind.own, tokens.own[row]), ("entity", kind.entity, tokens.entities[row])
        for what, features, table in tables:
            if not bool(table.isfinite().all()):
                agent, *_, column = place = _first(~table.isfinite())
                number = float(table[tuple(place)])
                begin = f"{spec.name}, world {row}, agent {kind.agents[agent]!r}, step {steps}"
                raise AgentError(f"{begin}: {what} feature {features[column]!r} of its last observation is {number}")


def _explain(spec: WorldSpec, kind: KindSpec, decisions: Decisions, steps: int) -> None:
    """Raises AgentError that names the first thing wrong with the decisions of a kind, if something is."""
    first = sum(len(k.agents) for k in spec.kinds[: spec.kinds.index(kind)])

    def place(line: int) -> str:
        agent = kind.agents[int(decisions.agent[line]) - first]
        return f"{spec.name}, world {int(decisions.moment[line])}, agent {agent!r}, step {steps}"

    idle = decisions.pointers.diff() == 0
    if kind.bounds is None and bool(idle.any()):
        raise AgentError(f"{place(_first(idle)[0])}: must decide, but its action mask allows nothing")
    tables = [
        ("own feature", kind.own, decisions.own, None),
        ("entity or action feature", (*kind.entity, *kind.action), decisions.rows, decisions.segment()),
    ]
    if decisions.entities is not None:
        tables.append(("entity feature", kind.entity, decisions.entities.tokens, decisions.entities.segment()))
    for what, features, table, segment in tables:
        if not bool(table.isfinite().all()):
            line, column = _first(~table.isfinite())
            number = float(table[line, column])
            line = line if segment is None else int(segment[line])
            raise AgentError(f"{place(line)}: {what} {features[column]!r} is {number}")
    if decisions.critic is not None and not bool(decisions.critic.isfinite().all()):
        line = _first(~decisions.critic.isfinite())[0]
        raise AgentError(f"{place(line)}: what the critic reads of it and of the other agents is not finite")


def _first(wrong: torch.Tensor) -> Sequence[int]:
    return [int(i) for i in wrong.nonzero()[0]]
