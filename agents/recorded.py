"""Decisions as a policy takes them in a world, padded, with what it made of them: what an export is compared on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from fedsched.agents.collect import Ended, idle_actions, quieten
from fedsched.agents.decisions import AgentError, Decisions, Speech, concatenate_heard
from fedsched.agents.distribution import Distribution, RaggedCategorical
from fedsched.agents.gaussian import Bounds, within
from fedsched.agents.inputs import check_step
from fedsched.agents.messages import fresh_speakers
from fedsched.agents.policy import Policy
from fedsched.agents.segments import segment_of
from fedsched.agents.step import PolicyStep
from fedsched.envs.core import KindSpec, World

Named = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Block:
    """Decisions of one kind at one instant, and what the policy made of them.

    Attributes:
        given: Inputs by name, see `padded.PaddedPolicy`.
        found: Outputs by name.
    """

    given: Named
    found: Named

    def __len__(self) -> int:
        """The number of decisions."""
        return len(self.given["own"])


class Recording:
    """Blocks of decisions of one kind, spread evenly over all that were taken."""

    def __init__(self, most: int) -> None:
        """Keeps at least so many decisions if there are, and at most about twice as many."""
        self._most, self._every, self._seen = most, 1, 0
        self.blocks: list[Block] = []

    def __len__(self) -> int:
        """The number of decisions kept."""
        return sum(map(len, self.blocks))

    def add(self, block: Block) -> None:
        """Takes note of what was decided at the next instant."""
        if self._seen % self._every == 0:
            self.blocks.append(block)
        self._seen += 1
        if len(self.blocks) > 1 and len(self) > 2 * self._most + len(block):
            self.blocks, self._every = self.blocks[::2], 2 * self._every


@torch.no_grad()
def record(
    policy: Policy, world: World, instances: torch.Tensor, seeds: torch.Tensor, most: int
) -> dict[str, Recording]:
    """Plays greedy episodes to their end, as in use, and keeps some of the decisions.

    Args:
        policy: Decides.
        world: Reset here.
        instances: int64 [B].
        seeds: int64 [B].
        most: Decisions to keep of each kind, at least, if it has so many.

    Raises:
        AgentError: An observation that is not finite, or an agent that must decide and may do nothing.
    """
    spec = world.spec
    mailbox, memory = (make(spec, world.batch, world.device) for make in (policy.mailbox, policy.memory))
    idle = idle_actions(spec, world.batch, world.device)
    found = {kind.name: Recording(most) for kind in spec.kinds}
    observation, ended = world.reset(instances, seeds), Ended(spec, world.batch, world.device)
    steps = 0
    while not bool(ended.over.all()):
        step: PolicyStep = policy(spec, quieten(observation, ended.over), memory, mailbox)
        check_step(spec, policy, step, steps)
        for kind in spec.kinds:
            if len(step.decisions[kind.name]):
                found[kind.name].add(block_of(policy, step, kind))
        mailbox, memory, steps = step.mailbox, step.memory, steps + 1
        transition = world.step(step.actions({n: part.mode() for n, part in step.distribution.items()}, idle))
        ended.observe(transition)
        observation = transition.observation
    return found


def block_of(policy: Policy, step: PolicyStep, kind: KindSpec) -> Block:
    """The decisions of one kind in a step as in use, of which there is at least one."""
    judged = policy.judge(dict(step.decisions))
    decisions = step.decisions[kind.name]
    given = pad(_of_kind(policy, decisions, kind), kind)
    given["agent"] = decisions.agent - policy.network(kind.name).first
    found = _answers(judged.distribution[kind.name], decisions, kind.bounds)
    if decisions.memory is not None and judged.memory is not None:
        given["memory"], found["remembered"] = decisions.memory, judged.memory[kind.name]
    if judged.message is not None:
        given |= _heard(step, kind.name)
        found["said"] = _part(judged.message, step.decisions, kind.name)
    return Block(_here(given), _here(found))


def _answers(distribution: Distribution, decisions: Decisions, bounds: Bounds | None) -> dict[str, torch.Tensor]:
    if not isinstance(distribution, RaggedCategorical):
        assert bounds is not None
        return {"action": within(distribution.mode(), bounds)}
    dense, _ = _dense(distribution.log_probs.exp()[:, None], decisions.pointers)
    return {"probabilities": dense.squeeze(2)}


def _of_kind(policy: Policy, decisions: Decisions, kind: KindSpec) -> Decisions:
    """Decisions in the features of their kind, where the policy has united those of all."""
    if policy.union is None:
        return decisions
    return policy.union.narrow(decisions, kind)


def pad(decisions: Decisions, kind: KindSpec) -> dict[str, torch.Tensor]:
    """Decisions as padded tensors by name, see `padded.PaddedPolicy`; without memory and what was heard."""
    rows, mask = _dense(decisions.rows, decisions.pointers)
    given = {"own": decisions.own, "rows": rows, "row_mask": mask}
    entities = decisions.entities
    if entities is None:
        return given
    tokens, live = _dense(entities.tokens, entities.pointers)
    lines, slots = live.shape
    concerns = torch.zeros(lines, mask.shape[1], slots, dtype=torch.bool, device=mask.device)
    pairs = entities.concerns
    concerns[segment_of(pairs.pointers), pairs.first, pairs.second] = True
    given |= {"entities": tokens, "entity_mask": live, "concerns": concerns}
    if entities.source is not None and entities.target is not None:
        ways, _ = _dense(torch.stack([entities.source, entities.target], 1) + 1, entities.pointers)
        given |= {"source": ways[:, :, 0] - 1, "target": ways[:, :, 1] - 1}
    if kind.links is not None:
        links = torch.eye(slots, dtype=torch.bool, device=mask.device).repeat(lines, 1, 1)
        if entities.links is not None:
            links[segment_of(entities.links.pointers), entities.links.first, entities.links.second] = True
        given["links"] = links
    return given


def _heard(step: PolicyStep, kind: str) -> dict[str, torch.Tensor]:
    """What was heard, fresh messages among it, which the mailbox after the step holds."""
    everyone = list(step.decisions.values())
    heard = concatenate_heard([part.heard for part in everyone if part.heard is not None])
    moment = torch.cat([part.moment for part in everyone])
    speech = Speech.concatenate([part.speech for part in everyone if part.speech is not None])
    speakers = fresh_speakers(moment, torch.cat([part.agent for part in everyone]), heard.neighbours)
    fresh = speakers >= 0
    if speech is not None:
        fresh = fresh & speech.sent[speakers.clamp(min=0), heard.address]
    rows = moment[:, None].expand_as(heard.neighbours)
    now = step.mailbox.message[rows, heard.neighbours.clamp(min=0), heard.address]
    spare = int(heard.neighbours.shape[1] == 0)  # a slot for nobody: files want at least one
    given = {
        "message": F.pad(torch.where(fresh[:, :, None], now, heard.message), (0, 0, 0, spare)),
        "age": F.pad(heard.age.masked_fill(fresh, 0.0), (0, spare)),
        "known": F.pad(fresh | heard.known, (0, spare)),
    }
    return {name: _part(values, step.decisions, kind) for name, values in given.items()}


def _part(values: torch.Tensor, decisions: Mapping[str, Decisions], kind: str) -> torch.Tensor:
    """The lines of one kind among those of all kinds in order."""
    names = list(decisions)
    return torch.split(values, [len(part) for part in decisions.values()])[names.index(kind)]


def _dense(values: torch.Tensor, pointers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ragged lines [R, F] as [D, n, F] with at least one slot, and which slots are live, bool [D, n]."""
    counts = pointers.diff()
    longest = max(1, int(counts.max()))
    segment = segment_of(pointers)
    inside = torch.arange(segment.shape[0], device=segment.device) - pointers.index_select(0, segment)
    dense = values.new_zeros(len(counts) * longest, values.shape[1]).index_copy(0, segment * longest + inside, values)
    live = torch.arange(longest, device=counts.device) < counts[:, None]
    return dense.reshape(len(counts), longest, values.shape[1]), live


def _here(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: values.detach().cpu() for name, values in tensors.items()}


def blocks_of(recording: Recording, kind: str) -> Sequence[Block]:
    """The blocks; raises AgentError where there are none to compare."""
    if not recording.blocks:
        raise AgentError(f"no agent of kind {kind!r} had a decision in the recorded episodes: nothing can be compared")
    return recording.blocks
