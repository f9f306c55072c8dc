"""Names, numbers and formulas of the dispatch rules."""

import pytest

from fedsched.envs.datacenter.kernels import rules as kernel_rules
from fedsched.envs.datacenter.model import DatacenterError
from fedsched.envs.datacenter.rules import Rule, parse_rule, priority


@pytest.mark.parametrize("rule", Rule)
def test_names_are_read_back_and_numbers_are_those_of_the_kernels(rule: Rule) -> None:
    assert parse_rule(rule.label) == (rule, False)
    assert parse_rule(f"{rule.label}-easy") == (rule, True)
    assert int(getattr(kernel_rules, rule.name)) == rule


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(DatacenterError, match=r"unknown rule 'wpf3-easy'.*did you mean wfp3-easy"):
        parse_rule("wpf3-easy")
    with pytest.raises(DatacenterError, match="use one of fcfs, sjf"):
        parse_rule("backfill")


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (Rule.FCFS, 1000),
        (Rule.SJF, 100),
        (Rule.SAF, 1600),
        (Rule.WFP3, -(0.5**3) * 16),
        (Rule.UNICEP, -50 / (4 * 100)),
        (Rule.F1, 2 * 16 + 870 * 3),
        (Rule.F2, 10 * 16 + 25600 * 3),
        (Rule.F3, 1600 + 6.86e6 * 3),
        (Rule.F4, 100 * 4 + 530000 * 3),
        (Rule.WFP3_PUBLISHED, (1001 / 100) ** 3 * 16),
        (Rule.UNICEP_PUBLISHED, 1001 / (4 * 100)),
    ],
)
def test_priorities_of_a_job_of_16_processors_and_100_seconds(rule: Rule, value: float) -> None:
    assert priority(rule, 400.0, 100.0, 16, 450.0, origin_s=600.0) == pytest.approx(value)


def test_what_logs_may_leave_open() -> None:
    assert priority(Rule.F1, 0.0, 1.0, 1, 0.0) == pytest.approx(-870)
    assert priority(Rule.F2, 1.0, -1.0, 3, 5.0) == 0
    assert priority(Rule.WFP3, 0.0, -1.0, 2, 3.0) == -54
    assert priority(Rule.WFP3_PUBLISHED, 1.0, -1.0, 2, 3.0) == -16
    assert priority(Rule.UNICEP, 7.0, 10.0, 1, 7.0) < priority(Rule.UNICEP, 7.0, 20.0, 1, 7.0) < -1e-3
