"""Learning with memory: pieces of episodes are judged step after step, and memories recomputed with gradients.

A chunk is so many consecutive steps of one world row. Its agents start it with the memories that they had when they
acted; inside, every decision hands the next one of the same agent what it remembers (truncated backpropagation through
time). All chunks of a minibatch are judged together, step by step; messages are exchanged inside each moment as always.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from fedsched.agents.decisions import Decisions
from fedsched.agents.experience import Experience
from fedsched.agents.minibatches import Chunks
from fedsched.agents.policy import Policy
from fedsched.agents.speech import Judged


@dataclass(frozen=True)
class _Line:
    """Decisions of one kind in the order in which they are judged.

    Attributes:
        order: int64 [D], decisions sorted by their step inside the chunk.
        sizes: How many there are at each step.
        holder: int64 [D], which memory each decision reads and writes.
        memory: float32 [H'], those at the beginning, [holders, H].
    """

    order: torch.Tensor
    sizes: list[int]
    holder: torch.Tensor
    memory: torch.Tensor


def judge_chunks(
    policy: Policy, decisions: Mapping[str, Decisions], chunks: Chunks
) -> Iterator[tuple[Judged, dict[str, torch.Tensor]]]:
    """Judges whole chunks step by step.

    Args:
        policy: With memory.
        decisions: By kind, all those of their chunks, in order of time; with the memories that there were in acting.
        chunks: Of their moments.

    Yields:
        For every step, what the policy thinks of its decisions, and which these are, int64 [D'] by kind.
    """
    lines = {name: _line(part, chunks) for name, part in decisions.items() if len(part)}
    memories = {name: line.memory for name, line in lines.items()}
    steps = max((len(line.sizes) for line in lines.values()), default=0)
    split = {name: torch.split_with_sizes(line.order, line.sizes) for name, line in lines.items()}
    for step in range(steps):
        chosen = {n: parts[step] for n, parts in split.items() if step < len(parts) and len(parts[step])}
        if not chosen:
            continue
        holders = {name: lines[name].holder.index_select(0, index) for name, index in chosen.items()}
        now = {
            name: decisions[name].select(index).with_memory(memories[name].index_select(0, holders[name]))
            for name, index in chosen.items()
        }
        judged = policy.judge(now)
        assert judged.memory is not None, "chunks are for policies with memory"
        for name, after in judged.memory.items():
            memories[name] = memories[name].index_copy(0, holders[name], after)
        yield judged, chosen


def _line(decisions: Decisions, chunks: Chunks) -> _Line:
    assert decisions.memory is not None, "chunks are for decisions with memory"
    offset = chunks.offset.index_select(0, decisions.moment)
    chunk = chunks.chunk.index_select(0, decisions.moment)
    agents = int(decisions.agent.max()) + 1
    held, holder = torch.unique(chunk * agents + decisions.agent, return_inverse=True)
    order = torch.argsort(offset, stable=True)
    # the first decision of an agent in a chunk brings the memory it had then
    place = torch.arange(len(decisions), device=offset.device)
    first = place.new_full((held.shape[0],), len(decisions)).scatter_reduce(
        0, holder.index_select(0, order), place, "amin"
    )
    memory = decisions.memory.index_select(0, order.index_select(0, first))
    return _Line(order, torch.bincount(offset).tolist(), holder, memory)


@dataclass(frozen=True)
class Choices:
    """What a policy thinks of what was chosen, over all kinds in the order of a batch.

    Attributes:
        log_prob: float32 [D], of the choices.
        entropy: float32 [D].
        message_kl: float32 [D] in some order, nats of the messages; None where they are not Gaussian.
    """

    log_prob: torch.Tensor
    entropy: torch.Tensor
    message_kl: torch.Tensor | None


def judge_choices(policy: Policy, batch: Mapping[str, Experience], chunks: Chunks | None) -> Choices:
    """Judges a batch of decisions.

    Args:
        policy: Judges; with memory it needs chunks.
        batch: Decisions by kind.
        chunks: Of their moments; None for a policy without memory.
    """
    everything = {name: part.decisions for name, part in batch.items()}
    if chunks is None:
        judged = policy.judge(everything)
        log_prob = [judged.distribution[name].log_prob(part.choice) for name, part in batch.items()]
        entropy = [judged.distribution[name].entropy() for name in batch]
        return Choices(torch.cat(log_prob), torch.cat(entropy), judged.message_kl)
    sizes = [len(part) for part in everything.values()]
    first = dict(zip(batch, [sum(sizes[:i]) for i in range(len(sizes))], strict=True))
    log_probs, entropies, places, nats = [], [], [], []
    for judged, chosen in judge_chunks(policy, everything, chunks):
        nats += [] if judged.message_kl is None else [judged.message_kl]
        for name, index in chosen.items():
            log_probs.append(judged.distribution[name].log_prob(batch[name].choice.index_select(0, index)))
            entropies.append(judged.distribution[name].entropy())
            places.append(first[name] + index)
    back = torch.argsort(torch.cat(places))
    kl = torch.cat(nats) if nats else None
    return Choices(torch.cat(log_probs).index_select(0, back), torch.cat(entropies).index_select(0, back), kl)
