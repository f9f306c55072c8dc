"""The whole scenario, and what its parts need of each other."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from fedsched.sim.scenario.agreement import Consensus, Plan
from fedsched.sim.scenario.base import Part, Place
from fedsched.sim.scenario.city import district_problems, plan_problems
from fedsched.sim.scenario.datacenter import DatacenterWorld
from fedsched.sim.scenario.learning import Agents, Federation
from fedsched.sim.scenario.pettingzoo import PettingZooWorld
from fedsched.sim.scenario.sites import AGAINST, RULES, STARTS, TEACHERS, Site
from fedsched.sim.scenario.units import Seconds

# Names of pairs ('north-east') are read at the hyphen, so names of sites have none
SiteName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
ScenarioName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


DAY_S = 24 * 3600.0

_WHO = {"datacenter": "data centres", "intersections": "cities", "pettingzoo": "foreign environments"}
"""Sites of each domain in messages."""
_INSTEAD = {
    "intersections": ("weigh the reward part 'waiting' instead", "a city's period is that of its demand"),
    "pettingzoo": ("foreign rewards have one part, so remove it", "an environment's period is its episode"),
}
"""What other domains have instead of a bound on waits, and of a period."""


class Workers(Part):
    """Where sites live."""

    backend: Literal["auto", "local", "ray"] = Field(
        default="auto",
        description="local: in this process; ray: an actor each; auto: ray if an address or a GPU share is given",
    )
    cpus_per_site: float = Field(
        default=1.0, gt=0, description="CPU share of a site, and the threads of its tensor library"
    )
    gpus_per_site: float = Field(default=0.0, ge=0, description="GPU share of a site")
    address: str | None = Field(
        default=None, description="A running Ray cluster, such as ray://host:10001; null: start one"
    )

    def problems(self) -> Iterable[tuple[Place, str]]:
        """A local run has neither a cluster nor GPU shares."""
        for key in ("address", "gpus_per_site"):
            if self.backend == "local" and getattr(self, key):
                yield (key,), "belongs to Ray; use 'backend: ray' or 'backend: auto'"

    @property
    def chosen(self) -> Literal["local", "ray"]:
        """The backend once `auto` is resolved."""
        if self.backend == "auto":
            return "ray" if self.address or self.gpus_per_site else "local"
        return self.backend


class Evaluation(Part):
    """Operated periods: the same rows for the policy and for the rules."""

    every: int = Field(
        default=5, ge=1, description="Rounds between two evaluations; the last round is always evaluated"
    )
    windows: int = Field(default=10, ge=1, description="Evaluation periods, one row of the operated batch each")
    validation: int = Field(
        default=24, ge=2, description="Validation windows that policies are chosen by and the best rule is found on"
    )
    period: Seconds = Field(
        default=DAY_S, gt=0, description="Length of an evaluation period; a city's is that of its demand"
    )
    replay: Seconds | None = Field(
        default=None,
        ge=1,
        description="Cities: time between frames of the first test period, for `fedsched replay`; null: none",
    )
    against: tuple[str, ...] | None = Field(
        default=None, strict=False, description="Rules to compare with; null: three usual ones of the domain"
    )

    def problems(self) -> Iterable[tuple[Place, str]]:
        """The table compares a policy with something."""
        if self.against is not None and not self.against:
            yield ("against",), "at least one rule is needed; null stands for three usual ones"


class Scenario(Part):
    """Everything that defines a run."""

    version: Literal[1] = Field(description="Version of this format")
    name: ScenarioName = Field(description="Short name, part of the name of the run folder")
    seed: int = Field(default=0, ge=0, description="Seed of all randomness")
    learning: Literal["federated", "local", "central"] = Field(
        default="federated",
        description="federated: updates are averaged; local: each site alone; central: one learner for all",
    )
    sites: dict[SiteName, Site] = Field(description="The organisations by name")
    agents: Agents = Field(default=Agents(), description="The policy and how it learns")
    federation: Federation = Field(default=Federation(), description="Rounds of learning")
    plan: Plan | None = Field(
        default=None, description="The shared plan, for four sites and more; null: sites do not trade"
    )
    consensus: Consensus = Field(default=Consensus(), description="Agreement on the plan")
    workers: Workers = Field(default=Workers(), description="Where sites live")
    evaluation: Evaluation = Field(default=Evaluation(), description="How policies are judged")

    @property
    def domain(self) -> str:
        """The kind of its sites."""
        return next(iter(self.sites.values())).world.domain

    @property
    def against(self) -> tuple[str, ...]:
        """The rules to compare with."""
        return AGAINST[self.domain] if self.evaluation.against is None else self.evaluation.against

    @property
    def start(self) -> str:
        """The rule that the untrained policy follows softly."""
        return STARTS[self.domain][0] if self.agents.start is None else self.agents.start

    def problems(self) -> Iterable[tuple[Place, str]]:
        """What the parts need of each other."""
        if not self.sites:
            yield ("sites",), "zero sites; a scenario needs at least one, such as north: {world: {...}}"
            return
        yield from self._group_problems()
        yield from self._domain_problems()
        yield from self._replay_problems()
        if self.learning == "central" and len({site.weights for site in self.sites.values()}) > 1:
            yield ("learning",), "one learner has one aim: give all sites the same weights, or learn federated or local"
        if self.plan is not None:
            yield from self._plan_problems(self.plan)
        yield from self._fault_problems()
        sites = len(self.sites)
        if self.agents.sharing == "agent" and self.learning != "local" and sites > 1:
            yield (
                ("agents", "sharing"),
                f"parameters of single agents fit no other site, so {sites} sites cannot learn them together: use "
                "'learning: local', or 'sharing: kind'",
            )
        if self.learning == "federated" and self.federation.secure_aggregation is not None and sites < 3:
            where = ("federation", "secure_aggregation")
            yield (
                where,
                f"needs at least 3 sites, got {sites}: of two, each could read the other; add sites or remove it",
            )

    def _group_problems(self) -> Iterable[tuple[Place, str]]:
        ppo = self.agents.ppo
        for name, site in self.sites.items():
            if ppo.advantage == "group" and site.copies % ppo.rollouts:
                message = f"a multiple of agents.ppo.rollouts ({ppo.rollouts}) is needed, got {site.copies}"
                yield ("sites", name, "copies"), message

    def _domain_problems(self) -> Iterable[tuple[Place, str]]:
        """One kind of site, and only rules that it knows."""
        for name, site in self.sites.items():
            if site.world.domain != self.domain:
                where = ("sites", name, "world", "domain")
                yield where, f"sites of a scenario share a policy, so all are of one kind: the first is {self.domain}"
                return
        bound = self.agents.constraints.wait
        named: list[tuple[Place, str]] = [
            (("evaluation", "against", k), rule) for k, rule in enumerate(self.evaluation.against or ())
        ]
        named += [(("agents", "constraints", "wait", "of"), bound.of)] if bound and bound.of != "best-rule" else []
        for place, rule in named:
            yield from _one_of(place, rule, RULES[self.domain], "rule")
        if self.agents.start is not None:
            yield from _one_of(("agents", "start"), self.agents.start, STARTS[self.domain], "start")
        yield from self._imitation_problems()
        yield from self._vine_problems()
        if self.domain == "datacenter":
            yield from self._engine_problems()
            if self.plan is not None and self.plan.market.resource != "processor-hours":
                yield ("plan", "market", "resource"), "data centres trade processor-hours; leave it out"
        else:
            yield from self._market_problems()
        if self.domain == "pettingzoo":
            yield from self._foreign_problems()
        if self.domain == "intersections":
            yield from district_problems(self.sites)

    def _imitation_problems(self) -> Iterable[tuple[Place, str]]:
        imitation, planned = self.agents.imitation, self.federation.rounds * self.federation.local_updates
        if imitation is None:
            return
        if not TEACHERS[self.domain]:
            yield ("agents", "imitation"), f"nothing to imitate: no rule is known for {self.domain} environments"
            return
        yield from _one_of(("agents", "imitation", "teacher"), imitation.teacher, TEACHERS[self.domain], "teacher")
        if self.agents.encoder.memory:
            yield ("agents", "encoder", "memory"), "policies with memory do not imitate; set 0, or remove 'imitation'"
        if imitation.updates > planned:
            message = f"federation plans {planned} local updates (rounds * local_updates), got {imitation.updates}"
            yield ("agents", "imitation", "updates"), message

    def _vine_problems(self) -> Iterable[tuple[Place, str]]:
        vine, planned = self.agents.vine, self.federation.rounds * self.federation.local_updates
        if vine is None:
            return
        if self.domain != "intersections":
            yield ("agents", "vine"), f"branches are tried in cities; {_WHO[self.domain]} have none yet"
        if self.agents.encoder.memory:
            yield ("agents", "encoder", "memory"), "policies with memory try no branches; set 0, or remove 'vine'"
        imitated = self.agents.imitation.updates if self.agents.imitation else 0
        if vine.updates + imitated > planned:
            message = f"federation plans {planned} local updates (rounds * local_updates), {imitated} of them imitate"
            yield ("agents", "vine", "updates"), f"{message}; got {vine.updates}"

    def _replay_problems(self) -> Iterable[tuple[Place, str]]:
        if self.evaluation.replay is not None and self.evaluation.replay % 1:
            yield ("evaluation", "replay"), f"whole seconds are needed, got {self.evaluation.replay:g} s"
        if self.evaluation.replay is not None and self.domain != "intersections":
            yield ("evaluation", "replay"), f"belongs to cities; {_WHO[self.domain]} have no replay yet"

    def _engine_problems(self) -> Iterable[tuple[Place, str]]:
        worlds = {n: site.world for n, site in self.sites.items() if isinstance(site.world, DatacenterWorld)}
        windows = self.plan is None and all(world.window.jobs for world in worlds.values())
        for name, world in worlds.items():
            if world.engine == "committing" and not windows:
                where = ("sites", name, "world", "engine")
                yield (
                    where,
                    "committing runs windows of jobs to their end: every site needs 'window: {jobs: ...}'",
                )
            if world.engine == "committing" and self.agents.search is not None:
                yield ("agents", "search"), f"tries scores in the event engine, {name} has the committing one"

    def _market_problems(self) -> Iterable[tuple[Place, str]]:
        """What only data centres have."""
        instead, period = _INSTEAD[self.domain]
        if self.plan is not None and self.domain == "intersections":
            yield from plan_problems(self.sites, self.plan)
        elif self.plan is not None:
            yield ("plan",), f"belongs to data centres; {_WHO[self.domain]} have nothing to trade, so remove it"
        if self.agents.constraints.wait is not None:
            yield ("agents", "constraints", "wait"), f"belongs to data centres; {instead}"
        if self.evaluation.period != DAY_S:
            yield ("evaluation", "period"), f"belongs to data centres; {period}"

    def _foreign_problems(self) -> Iterable[tuple[Place, str]]:
        """Environments compute in Python."""
        if self.workers.gpus_per_site:
            yield ("workers", "gpus_per_site"), "foreign environments live on the CPU, and so do their agents; use 0"
        for name, site in self.sites.items():
            if isinstance(site.world, PettingZooWorld) and site.world.workers > site.copies:
                where = ("sites", name, "world", "workers")
                yield (
                    where,
                    f"{site.world.workers} processes for {site.copies} copies; at most one each has something to do",
                )

    def _plan_problems(self, plan: Plan) -> Iterable[tuple[Place, str]]:
        if len(self.sites) > 64:
            yield (
                ("plan",),
                f"is settled among at most 64 sites, got {len(self.sites)}; remove 'plan'",
            )
        if len(self.sites) < 4:
            yield (
                ("plan",),
                f"needs at least 4 sites to bear one fault, got {len(self.sites)}; add sites or remove 'plan'",
            )
        for pair in set(plan.links) - {"default"}:
            names = pair.split("-")
            if len(set(names)) != 2 or len(names) != 2 or not set(names) <= set(self.sites):
                yield (
                    ("plan", "links", pair),
                    f"not a pair of sites such as 'north-east'; sites are {', '.join(self.sites)}",
                )
        if self.domain == "datacenter" and self.evaluation.period < plan.epoch:
            yield ("plan", "epoch"), "is longer than evaluation.period, so no plan would ever be settled"

    def _fault_problems(self) -> Iterable[tuple[Place, str]]:
        faults = self.consensus.faults
        if faults and self.plan is None:
            yield ("consensus", "faults"), "there is no agreement to disturb without 'plan'"
        for name in faults:
            if name not in self.sites:
                yield ("consensus", "faults", name), f"unknown site {name!r}; sites are {', '.join(self.sites)}"
        bearable = (len(self.sites) - 1) // 3
        if self.plan is not None and len(self.sites) >= 4 and len(faults) > bearable:
            yield (
                ("consensus", "faults"),
                f"{len(faults)} faulty replicas of {len(self.sites)}: at most {bearable} can be borne",
            )


def _one_of(place: Place, name: str, known: Sequence[str], what: str) -> Iterable[tuple[Place, str]]:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        yield place, f"no {what} {name!r}{hint}; there are {', '.join(known)}"
