"""Dispatch rules: names, numbers and priorities. The job with the smallest priority goes first.

The kernels switch on the numbers and state the same formulas; `priority` is what they are tested against.
"""

import difflib
import math
from enum import IntEnum

from fedsched.envs.datacenter.model import DatacenterError

EASY = "-easy"
"""Ending of the names of rules with EASY backfilling, such as `saf-easy`."""

_TINY = 1e-15
_LOG2_OF_ONE = math.log2(1.0 + _TINY)


class Rule(IntEnum):
    """A dispatch rule and its number in the kernels.

    Sources: WFP3 and UNICEP: Tang et al. (2009, 2010) as stated by Carastan-Santos and de Camargo, whose SC'17 paper
    is the source of F1 to F4. The two `*_PUBLISHED` rules are WFP3 and UNICEP with the defect of the code behind the
    RLScheduler tables (SC'20): it takes -1 - submit for the waiting time. They exist to reproduce these tables.
    """

    FCFS = 0
    SJF = 1
    SAF = 2
    WFP3 = 3
    UNICEP = 4
    F1 = 5
    F2 = 6
    F3 = 7
    F4 = 8
    WFP3_PUBLISHED = 9
    UNICEP_PUBLISHED = 10

    @property
    def label(self) -> str:
        """The public name, such as `wfp3-published`."""
        return self.name.lower().replace("_", "-")


_BY_LABEL = {rule.label: rule for rule in Rule}


def parse_rule(name: str) -> tuple[Rule, bool]:
    """The rule of a public name and whether it backfills: `saf-easy` is `(Rule.SAF, True)`.

    Raises:
        DatacenterError: An unknown name; the message suggests the nearest one.
    """
    label = name.removesuffix(EASY)
    if label in _BY_LABEL:
        return _BY_LABEL[label], name.endswith(EASY)
    near = difflib.get_close_matches(label, _BY_LABEL, n=1)
    hint = f"; did you mean {near[0]}{EASY if name.endswith(EASY) else ''}?" if near else ""
    raise DatacenterError(f"unknown rule {name!r}: use one of {', '.join(_BY_LABEL)}, each also with {EASY}{hint}")


def priority(
    rule: Rule, submit_s: float, estimate_s: float, processors: int, now_s: float, origin_s: float = 0.0
) -> float:
    """Priority of a waiting job; the smallest goes first, ties go by order of arrival.

    Args:
        rule: The rule.
        submit_s: Submission, seconds since the start of the episode.
        estimate_s: Requested time at speed 1, seconds. WFP3 and UNICEP take at least 1; where a log has -1
            (unknown), the others read it as the published code does.
        processors: Processors needed.
        now_s: Present time, seconds since the start of the episode.
        origin_s: The episode's time 0 in the log: F1 to F4 and the published defects read absolute times.
    """
    absolute_s = origin_s + submit_s
    match rule:
        case Rule.FCFS:
            return absolute_s
        case Rule.SJF:
            return estimate_s
        case Rule.SAF:
            return estimate_s * processors
        case Rule.F1:
            return _log10(estimate_s) * processors + 870.0 * _log10(absolute_s)
        case Rule.F2:
            return math.sqrt(max(estimate_s, 0.0)) * processors + 25600.0 * _log10(absolute_s)
        case Rule.F3:
            return estimate_s * processors + 6860000.0 * _log10(absolute_s)
        case Rule.F4:
            return estimate_s * math.sqrt(processors) + 530000.0 * _log10(absolute_s)
        case Rule.WFP3:
            return _wfp3(now_s - submit_s, max(estimate_s, 1.0), processors)
        case Rule.UNICEP:
            return _unicep(now_s - submit_s, max(estimate_s, 1.0), processors)
        case Rule.WFP3_PUBLISHED:
            return _wfp3(-1.0 - absolute_s, estimate_s, processors)
        case Rule.UNICEP_PUBLISHED:
            return _unicep(-1.0 - absolute_s, estimate_s, processors)


def _wfp3(wait_s: float, estimate_s: float, processors: int) -> float:
    ratio = wait_s / estimate_s
    return -ratio * ratio * ratio * processors


def _unicep(wait_s: float, estimate_s: float, processors: int) -> float:
    log2 = math.log2(processors) if processors > 1 else _LOG2_OF_ONE
    return -(wait_s + _TINY) / (log2 * estimate_s)  # _TINY ranks jobs of one processor before they have waited


def _log10(x: float) -> float:
    return math.log10(x) if x > 0 else -1.0
