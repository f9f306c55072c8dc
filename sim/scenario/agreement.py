"""The shared plan and how the sites agree on it."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from fedsched.sim.scenario.base import Part, Place
from fedsched.sim.scenario.units import BitsPerSecond, Bytes, Seconds

PRICES: dict[str, tuple[str, ...]] = {
    "processor-hours": ("wait_value", "carbon_price"),
    "inflow": ("delay_value", "pace", "fill", "least"),
}
"""What each resource's market knows of."""


class Market(Part):
    """What is traded, and what it is worth."""

    resource: Literal["processor-hours", "inflow"] = Field(
        default="processor-hours",
        description="Data centres trade processor-hours, districts of a city the inflow of vehicles",
    )
    wait_value: float = Field(default=10.0, ge=0, description="What an hour of a job's waiting is worth, in currency")
    carbon_price: float = Field(default=0.1, ge=0, description="What a kilogram of carbon dioxide costs, in currency")
    delay_value: float = Field(default=10.0, ge=0, description="What an hour of a vehicle's delay is worth, in money")
    pace: float = Field(
        default=0.15,
        gt=0,
        le=1,
        description="Share of the speed limits below which a district is too full, mean over its vehicles",
    )
    fill: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the vehicles that could stand on its lanes up to which it is never too full",
    )
    least: float = Field(
        default=0.03, ge=0, le=1, description="Share of what the lanes at its gates could carry that it takes anyway"
    )

    def problems(self) -> Iterable[tuple[Place, str]]:
        """Nothing is priced that is not traded."""
        for resource, keys in PRICES.items():
            for key in keys if resource != self.resource else ():
                if getattr(self, key) != type(self).model_fields[key].default:
                    yield (key,), f"belongs to 'resource: {resource}', but {self.resource} is traded"


class Data(Part):
    """How much data moves with a job: log-normal, keyed by log and job number."""

    median: Bytes = Field(default=20e9, ge=0, description="Median volume of a job")
    sigma: float = Field(default=1.0, ge=0, description="Standard deviation of the logarithm of the volume")


class Link(Part):
    """A connection between two sites, the same both ways."""

    bandwidth: BitsPerSecond = Field(default=1e9, gt=0, description="Bits per second")
    latency: Seconds = Field(default=0.08, ge=0, description="One-way latency")


class Plan(Part):
    """The shared plan: who takes whose work in the next epoch."""

    epoch: Seconds = Field(default=6 * 3600.0, ge=60, description="Time between two plans")
    market: Market = Field(default=Market(), description="What waiting and carbon are worth in trade")
    data: Data = Field(default=Data(), description="Data that moves with a job")
    links: dict[str, Link] = Field(
        default={"default": Link()},
        description="Connections: 'default', and pairs of sites such as 'north-east' that differ from it",
    )

    def problems(self) -> Iterable[tuple[Place, str]]:
        """Every pair of sites has one link."""
        if "default" not in self.links:
            yield ("links",), "'default' is missing: the link of every pair that is not listed"
        for pair in self.links:
            mirrored = "-".join(reversed(pair.split("-")))
            if mirrored != pair and mirrored in self.links and pair > mirrored:
                yield ("links", pair), f"is the same link as {mirrored!r}; keep one of the two"

    def link(self, a: str, b: str) -> Link:
        """The link between two sites."""
        return self.links.get(f"{a}-{b}") or self.links.get(f"{b}-{a}") or self.links["default"]


class Network(Part):
    """The simulated network that carries the messages of the agreement."""

    delay: Seconds = Field(default=0.05, ge=0.001, description="Mean one-way delay of a message")
    loss: float = Field(default=0.0, ge=0, lt=1, description="Share of the messages that are lost")


class Consensus(Part):
    """Byzantine agreement on the plan."""

    faults: dict[str, Literal["silent", "equivocating", "slow", "lying"]] = Field(
        default={}, description="Replicas that misbehave, by site: silent, equivocating, slow or lying"
    )
    network: Network = Field(default=Network(), description="The simulated network between the replicas")
