"""Advantages: generalised advantage estimation with a critic, or a clock-aligned baseline over a group of rollouts."""

import torch

from fedsched.agents.decisions import AgentError

# points of the common clock of a group
CLOCK_POINTS = 1025


def positions(sequence: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The order of decisions inside their sequences.

    Args:
        sequence: int64 [D], which agent of which world; decisions of one sequence are in order of time.

    Returns:
        A permutation [D] that brings sequences together, and each decision's place in its own, int64 [D].
    """
    order = torch.argsort(sequence, stable=True)
    grouped = sequence.index_select(0, order)
    index = torch.arange(sequence.shape[0], device=sequence.device)
    first = torch.ones_like(grouped, dtype=torch.bool)
    first[1:] = grouped[1:] != grouped[:-1]
    place = torch.empty_like(index)
    place[order] = index - torch.cummax(torch.where(first, index, 0), 0).values
    return order, place


def between(accrued: torch.Tensor, step: torch.Tensor, column: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """What accrued from each decision to the same agent's next one, or to its end.

    Args:
        accrued: float64 [T + 1, S], running sums per sequence S, before each step and at the end.
        step: int64 [D], the step before which each decision was taken; ascending.
        column: int64 [D], the sequence of each.
        end: int64 [S] in 0..T, the number of steps after which each sequence ends.

    Returns:
        float64 [D].
    """
    order, _ = positions(column)
    grouped, steps = column.index_select(0, order), step.index_select(0, order)
    following = end.index_select(0, grouped)
    same = grouped[1:] == grouped[:-1]
    following[:-1] = torch.where(same, steps[1:], following[:-1])
    gained = accrued[following, grouped] - accrued[steps, grouped]
    return torch.empty_like(gained).index_copy(0, order, gained)


def gae(
    reward: torch.Tensor,
    value: torch.Tensor,
    discount: torch.Tensor,
    sequence: torch.Tensor,
    bootstrap: torch.Tensor,
    trace: float,
) -> torch.Tensor:
    """Generalised advantage estimation (Schulman et al. 2016) per sequence of decisions.

    A_d = delta_d + discount_d * trace * A_next;  delta_d = reward_d + discount_d * V_next - V_d, where the value after
    the last decision of a sequence is its bootstrap: zero after termination, the critic's after truncation.

    Args:
        reward: float32 [D], from a decision to the next of its sequence.
        value: float32 [D].
        discount: float32 [D], over the time to the next decision.
        sequence: int64 [D] in 0..S-1, in order of time inside each.
        bootstrap: float32 [S].
        trace: The decay lambda.

    Returns:
        float32 [D].
    """
    if reward.shape[0] == 0:
        return reward
    _, place = positions(sequence)
    sequences = bootstrap.shape[0]
    last = torch.bincount(sequence, minlength=sequences) - 1
    shape = (int(place.max()) + 1, sequences)
    table = reward.new_zeros(3, *shape)
    table[:, place, sequence] = torch.stack([reward, value, discount])
    return _backwards(table, last, bootstrap.to(reward.dtype), trace)[place, sequence]


def _backwards(table: torch.Tensor, last: torch.Tensor, following: torch.Tensor, trace: float) -> torch.Tensor:
    """Advantages [N, S] of rewards, values and discounts [3, N, S] of sequences whose `last` place is [S]."""
    advantage, carried = torch.zeros_like(table[0]), torch.zeros_like(following)
    for line in range(table.shape[1] - 1, -1, -1):
        rewards, values, discounts = table[:, line]
        inside = line <= last
        delta = rewards + discounts * following - values
        carried = torch.where(inside, delta + discounts * trace * carried, carried)
        following = torch.where(inside, values, following)
        advantage[line] = carried
    return advantage


def interpolate(times: torch.Tensor, curve: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Piecewise linear interpolation of many curves, constant outside, as `numpy.interp` does for one.

    Args:
        times: float64 [S, T], ascending in each line.
        curve: float64 [S, T].
        at: float64 [S, P].

    Returns:
        float64 [S, P].
    """
    right = torch.searchsorted(times, at, right=True).clamp(1, times.shape[1] - 1)
    x0, x1 = times.gather(1, right - 1), times.gather(1, right)
    y0, y1 = curve.gather(1, right - 1), curve.gather(1, right)
    share = torch.where(x1 > x0, (at - x0) / (x1 - x0).clamp(min=1e-300), (at >= x1).to(at.dtype))
    return torch.lerp(y0, y1, share.clamp(0, 1))


def group_advantage(
    times: torch.Tensor, accrued: torch.Tensor, group: torch.Tensor, column: torch.Tensor, time: torch.Tensor
) -> torch.Tensor:
    """How much less than the other rollouts of its group a rollout costs after each decision, by the clock.

    The accrued costs of all rollouts of a group are put on one clock grid; the advantage at time t is the mean cost of
    the others after t minus the own cost after t (leave-one-out), interpolated at the time of the decision.

    Args:
        times: float64 [T, S], the clock of each rollout, ascending.
        accrued: float64 [T, S], its cost so far.
        group: int64 [S]; every group has at least two rollouts.
        column: int64 [D], the rollout of each decision.
        time: float64 [D], when it was taken.

    Returns:
        float64 [D].

    Raises:
        AgentError: A group with a single rollout.
    """
    _, line = torch.unique(group, return_inverse=True)
    groups = int(line.max()) + 1
    members = torch.bincount(line, minlength=groups)
    if bool((members < 2).any()):
        raise AgentError("the group advantage compares rollouts of one instance: every group needs at least two")
    start = times.new_full((groups,), torch.inf).scatter_reduce(0, line, times[0], "amin")[line]
    end = times.new_full((groups,), -torch.inf).scatter_reduce(0, line, times[-1], "amax")[line]
    share = torch.linspace(0, 1, CLOCK_POINTS, dtype=times.dtype, device=times.device)
    clock = start[:, None] + (end - start)[:, None] * share
    curve = interpolate(times.T.contiguous(), accrued.T.contiguous(), clock)
    after = curve[:, -1:] - curve
    total = after.new_zeros(groups, CLOCK_POINTS).index_add(0, line, after)
    others = (total[line] - after) / (members[line] - 1)[:, None]
    length = (end - start).clamp(min=1e-9)
    place = ((time - start[column]) / length[column]).clamp(0, 1) * (CLOCK_POINTS - 1)
    low = place.floor().to(torch.int64).clamp(max=CLOCK_POINTS - 2)
    gain = others - after
    return torch.lerp(gain[column, low], gain[column, low + 1], place - low)
