"""Worlds in which messages are measured: a corridor of signals with platoons, and a site of unlike clusters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch

from fedsched.agents import EncoderConfig, LearnerConfig, PolicyConfig, PpoConfig, SoftRule
from fedsched.envs.core import Observation, Snapshot, Transition, World, stream
from fedsched.envs.datacenter import draw_instances, make_world
from fedsched.envs.datacenter.model import Cluster
from fedsched.envs.datacenter.world import DatacenterWorld
from fedsched.envs.intersections.demand import Demand, Trip
from fedsched.envs.intersections.generate import Arterial
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.problem import Problem, make_problem
from fedsched.envs.intersections.routing import Router
from fedsched.envs.intersections.timing import Timing
from fedsched.envs.intersections.vehicletypes import default_type
from fedsched.envs.intersections.world import IntersectionsWorld

TRAINED = 200
"""Demands of the corridor that are trained on; the later ones are for tests."""
TRIED = 200
"""The next ones, on which settings were tried out."""
TESTS = 200
"""Test instances."""


class Changed:
    """A world seen or rewarded in another way; changes nothing by itself."""

    def __init__(self, world: World) -> None:
        """Wraps a world."""
        self._world = world
        self.spec, self.batch, self.device = world.spec, world.batch, world.device

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        """As the world does."""
        return self._seen(self._world.reset(instances, seeds, where, until_s))

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        """As the world does, with other rewards."""
        transition = self._world.step(actions, until_s)
        rewards = {name: self._rewarded(part) for name, part in transition.reward.items()}
        return replace(transition, observation=self._seen(transition.observation), reward=rewards)

    def metrics(self) -> dict[str, torch.Tensor]:
        """Those of the world."""
        return self._world.metrics()

    def snapshot(self) -> Snapshot:
        """That of the world."""
        return self._world.snapshot()

    def restore(self, snapshot: Snapshot) -> Observation:
        """As the world does."""
        return self._seen(self._world.restore(snapshot))

    def _seen(self, observation: Observation) -> Observation:
        return observation

    def _rewarded(self, reward: torch.Tensor) -> torch.Tensor:
        return reward


class Team(Changed):
    """Agents share their rewards: each gets its own less `share`, and that part of everybody's mean."""

    def __init__(self, world: World, share: float) -> None:
        """Wraps a world."""
        super().__init__(world)
        self._share = share

    def _rewarded(self, reward: torch.Tensor) -> torch.Tensor:
        return reward.lerp(reward.mean(1, keepdim=True), self._share)


class Told(Changed):
    """Everybody sees what everybody else sees of itself, at once and for nothing: what messages could tell at best."""

    def __init__(self, world: World) -> None:
        """Wraps a world of one kind of agents."""
        super().__init__(world)
        kind = world.spec.kinds[0]
        others = [f"{name} of {n}" for n in range(1, len(kind.agents)) for name in kind.own]
        self.spec = replace(world.spec, kinds=(replace(kind, own=(*kind.own, *others)),))

    def _seen(self, observation: Observation) -> Observation:
        (name, tokens), agents = next(iter(observation.kinds.items())), len(self.spec.kinds[0].agents)
        own = torch.cat([tokens.own.roll(-n, 1) for n in range(agents)], 2)
        return replace(observation, kinds={name: replace(tokens, own=own)})


@dataclass(frozen=True)
class Setting:
    """A world and how agents learn there.

    Attributes:
        world: Makes so many copies of it.
        draw: Training instances, int64 [count], by seed, update and count.
        tests: Test instances, int64 [TESTS].
        cost: What is compared, [B] of the metrics of B episodes; lower is better.
        unit: Of the cost.
        policy: Without messages.
        learner: Of a run.
        copies: World rows in training.
        shares: Of the possible messages that the trigger is to send, by variant.
        rules: To start from.
        told: The same worlds in which everybody knows of everybody; None: not measured.
    """

    world: Callable[[int], World]
    draw: Callable[[int, int, int], torch.Tensor]
    tests: torch.Tensor
    cost: Callable[[Mapping[str, torch.Tensor]], torch.Tensor]
    unit: str
    policy: PolicyConfig
    learner: LearnerConfig
    copies: int
    shares: Mapping[str, float]
    rules: Mapping[str, SoftRule] = field(default_factory=dict)
    told: Callable[[int], World] | None = None


@dataclass(frozen=True)
class Corridor:
    """A main road of short blocks, crossed by side streets; platoons drive along it from west to east.

    Attributes:
        crossings: Signals.
        spacing_m: Length of a block; a signal sees no further than the one before it.
        lanes: Of the main road, each way; side streets have two.
        seconds: Of an episode.
        platoon: Fewest and most vehicles of a platoon, `headway_s` apart.
        headway_s: Time between two of its vehicles.
        gap_s: Mean time between two platoons, exponential.
        side_per_h: Vehicles from either end of every side street, Poisson.
        back_per_h: Vehicles from east to west, Poisson.
    """

    crossings: int = 4
    spacing_m: float = 80.0
    lanes: int = 2
    seconds: int = 900
    platoon: tuple[int, int] = (12, 24)
    headway_s: float = 1.0
    gap_s: float = 120.0
    side_per_h: float = 250.0
    back_per_h: float = 100.0

    def problem(self, instances: int) -> Problem:
        """Its streets with so many draws of traffic."""
        city = Arterial(self.crossings, self.lanes, 2, self.spacing_m, unevenness=0.0, pocket_m=0.0, speed=13.89)
        network = city.network()
        routes = self._routes(network)
        demands = [self._demand(routes, k) for k in range(instances)]
        return make_problem(network, demands, 0.0, float(self.seconds), None, "corridor")

    def _routes(self, network: Network) -> tuple[tuple[int, ...], ...]:
        """Along the main road and back, then both ways along every side street."""
        edges = [edge for edge in network.edges if not edge.internal]
        names = [junction.id for junction in network.junctions]
        entry = {names[edge.origin]: n for n, edge in enumerate(edges)}
        leave = {names[edge.target]: n for n, edge in enumerate(edges)}
        sides = [(f"north{k}", f"south{k}") for k in range(self.crossings)]
        ends = [("west", "east"), ("east", "west"), *sides, *((b, a) for a, b in sides)]
        router = Router(network)
        ways = [router.way(entry[a], leave[b], "passenger") for a, b in ends]
        return tuple(way for way in ways if way is not None)

    def _demand(self, routes: tuple[tuple[int, ...], ...], instance: int) -> Demand:
        rng = stream(0, "benchmarks/corridor", instance)
        rows: list[tuple[float, int]] = []
        at = float(rng.exponential(self.gap_s))
        while at < self.seconds:
            count = int(rng.integers(self.platoon[0], self.platoon[1] + 1))
            rows += [(at + self.headway_s * n, 0) for n in range(count)]
            at += self.headway_s * count + float(rng.exponential(self.gap_s))
        for route in range(1, len(routes)):
            rate = self.back_per_h if route == 1 else self.side_per_h
            count = int(rng.poisson(rate * self.seconds / 3600))
            rows += [(float(s), route) for s in rng.uniform(0, self.seconds, count)]
        rows = sorted((round(s, 2), route) for s, route in rows if s < self.seconds)
        trips = tuple(Trip(f"v{n}", 0, route, s) for n, (s, route) in enumerate(rows))
        return Demand((default_type("car"),), routes, trips, f"corridor {instance}")


def corridor() -> Setting:
    """Four signals, each blind beyond the one before it, and a platoon now and then."""
    problem = Corridor().problem(TRAINED + TRIED + TESTS)
    timing = Timing("corridor", 15, 3)

    def draw(seed: int, update: int, count: int) -> torch.Tensor:
        return torch.from_numpy(stream(seed, "benchmarks/messages", update).integers(TRAINED, size=count))

    def cost(metrics: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return metrics["resco_delay_s"]

    return Setting(
        world=lambda copies: Team(IntersectionsWorld(problem, copies, timing), 0.5),
        draw=draw,
        tests=TRAINED + TRIED + torch.arange(TESTS),
        cost=cost,
        unit="s of delay",
        policy=PolicyConfig(EncoderConfig(width=32, hidden=16), None, "agent", "central"),
        learner=LearnerConfig(
            {"delay": 1.0}, "gae", 1, tau_s=40.0, ppo=PpoConfig(iterations=90, epochs=4, minibatch=2048)
        ),
        copies=24,
        shares={"always": 0.175, "dropped": 0.175, "vae": 0.16},
    )


ENERGY = 0.3
"""What a kilowatt hour weighs, over the number of clusters, against an hour of waiting of one job."""


def clusters() -> Setting:
    """A fast frugal cluster and two slow ones that burn much: to leave a job to the fast one may pay."""
    machines = [Cluster(128, 1.0, 0.0, 100.0, 1.0), *2 * [Cluster(128, 0.5, 0.0, 300.0, 1.0)]]

    def site(copies: int) -> DatacenterWorld:
        return make_world("lublin-1", machines, batch=copies, jobs=64, load=0.6, deferral=True, too_wide="narrow")

    def draw(seed: int, update: int, count: int) -> torch.Tensor:
        return draw_instances(site(1), "train", 1000 * seed + update, count)

    def cost(metrics: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return metrics["wait_s"] * metrics["jobs"] / 3600 + ENERGY * metrics["energy_kwh"] / len(machines)

    return Setting(
        world=lambda copies: Team(site(copies), 1.0),
        draw=draw,
        tests=draw_instances(site(1), "validation", 2, TESTS),
        cost=cost,
        unit="job hours of waiting and energy",
        policy=PolicyConfig(EncoderConfig(width=32, hidden=16), None),
        learner=LearnerConfig(
            {"wait": 1.0, "energy_efficiency": ENERGY},
            "group",
            8,
            ppo=PpoConfig(iterations=120, epochs=4),
        ),
        copies=64,
        shares={"always": 0.14, "dropped": 0.14, "vae": 0.14},
        rules={"cluster": SoftRule({"log_area": -20.0, "hold": -14.0}, gates=("stage",))},
        told=lambda copies: Told(Team(site(copies), 1.0)),
    )
