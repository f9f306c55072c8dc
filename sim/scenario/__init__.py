"""Scenarios: what a user writes, checked, and every default of it.

`load_scenario` reads a file or a shipped scenario, `expand` makes several runs of it, `resolved` writes all of it down.
"""

from fedsched.sim.scenario.agreement import Consensus, Data, Link, Market, Network, Plan
from fedsched.sim.scenario.datacenter import Cluster, DatacenterWorld, Generator, Rule, Tariff, Window
from fedsched.sim.scenario.grid import Point, expand
from fedsched.sim.scenario.intersections import (
    CityGenerator,
    CityTraffic,
    DemandVariation,
    IntersectionsWorld,
    SignalRule,
)
from fedsched.sim.scenario.learning import (
    Agents,
    Constraints,
    Encoder,
    FedAvg,
    Federation,
    Messages,
    Ppo,
    Search,
    SecureAggregation,
    WaitBound,
)
from fedsched.sim.scenario.load import load_scenario, locate, scenario_text, shipped
from fedsched.sim.scenario.model import Evaluation, Scenario, Workers
from fedsched.sim.scenario.pettingzoo import ForeignRule, PettingZooWorld
from fedsched.sim.scenario.problems import Problem, ScenarioError
from fedsched.sim.scenario.show import commented, resolved, schema
from fedsched.sim.scenario.sites import (
    DatacenterSite,
    ForeignWeights,
    IntersectionsSite,
    PettingZooSite,
    SignalWeights,
    Site,
    Weights,
    as_kind,
)

__all__ = [
    "Scenario",
    "Site",
    "as_kind",
    "DatacenterSite",
    "DatacenterWorld",
    "CityGenerator",
    "CityTraffic",
    "DemandVariation",
    "IntersectionsSite",
    "IntersectionsWorld",
    "SignalRule",
    "SignalWeights",
    "PettingZooSite",
    "PettingZooWorld",
    "ForeignRule",
    "ForeignWeights",
    "Cluster",
    "Generator",
    "Tariff",
    "Window",
    "Weights",
    "Agents",
    "Encoder",
    "Messages",
    "Ppo",
    "Search",
    "Constraints",
    "WaitBound",
    "Federation",
    "FedAvg",
    "SecureAggregation",
    "Plan",
    "Market",
    "Data",
    "Link",
    "Consensus",
    "Network",
    "Workers",
    "Evaluation",
    "Rule",
    "load_scenario",
    "scenario_text",
    "shipped",
    "locate",
    "expand",
    "Point",
    "resolved",
    "commented",
    "schema",
    "Problem",
    "ScenarioError",
]
