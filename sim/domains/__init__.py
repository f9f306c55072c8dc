"""What each kind of site brings to a run: its worlds, its rules, how it is judged, and its figures.

`sim` outside this folder knows no domain: it asks `domain_of(scenario)`, or `figures_of(scenario)` where a table is all
that is wanted, which imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsched.sim.domains.base import Domain
    from fedsched.sim.domains.figures import Figures
    from fedsched.sim.scenario import Scenario

DOMAINS = ("datacenter", "intersections", "pettingzoo")
"""The kinds of site."""


def domain_of(scenario: "Scenario") -> "Domain":
    """The domain of a scenario's sites."""
    found: Domain = import_module(f"fedsched.sim.domains.{scenario.domain}.domain").DOMAIN
    return found


def figures_of(scenario: "Scenario") -> "Figures":
    """What is known of each site of a scenario after a period, and how a table shows it."""
    found: Figures = import_module(f"fedsched.sim.domains.{scenario.domain}.figures").FIGURES
    return found
