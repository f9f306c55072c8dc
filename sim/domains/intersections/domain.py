"""Cities as a domain (contract: `fedsched.sim.domains.base.Domain`)."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from fedsched.agents.network import SoftRule
from fedsched.envs.core import Flow, KindSpec, WorldSpec
from fedsched.envs.intersections import metrics
from fedsched.envs.intersections.replay_page import replay_html
from fedsched.envs.intersections.sumo.simulation import SumoError, load_libsumo
from fedsched.envs.intersections.viewer import Picture, decode_frame
from fedsched.envs.intersections.world import (
    KIND,
    MOVEMENT_FEATURES,
    OWN_FEATURES,
    PHASE_FEATURES,
    REWARD_PARTS,
)
from fedsched.sim.domains.base import FloatArray, Notice, Scene, Simulator, check_sites
from fedsched.sim.domains.intersections.operation import Outcome
from fedsched.sim.domains.intersections.shared import SharedCity
from fedsched.sim.domains.intersections.site import CitySite
from fedsched.sim.errors import UserError
from fedsched.sim.scenario import Scenario
from fedsched.sim.scenario.city import districts_of

_SOFT_RULES = {
    "greedy": {"log_near": 40.0, "current": 2.0},
    "max-pressure": {"log_queue": 40.0, "log_queue_behind": -40.0, "current": 2.0},
}
"""Linear scores that prefer the phases that the controllers would; they see sums over a phase's movements."""
_HARMLESS = {"location", "type", "roundabout"}
"""Elements of a network that change no driving; roundabouts show in the right of way."""


class IntersectionsDomain:
    """Cities with signals."""

    name = "intersections"

    def site(self, scenario: Scenario, name: str, device: str = "cpu") -> CitySite:
        """The worlds of a city."""
        return CitySite(scenario, name, device)

    def check(self, scenario: Scenario) -> list[Notice]:
        """Reads every city; what their files hold that is not modelled becomes a notice.

        Raises:
            WorldSetupError: All sites whose city cannot be used.
        """
        return check_sites(scenario, lambda name: _check_site(CitySite(scenario, name)))

    def check_simulator(self, scenario: Scenario, simulator: Simulator) -> None:
        """Raises UserError where SUMO is missing."""
        try:
            load_libsumo()
        except SumoError as error:
            raise UserError(f"--simulator {simulator}: {scenario.name} needs it, but {error}") from error

    def policy_spec(self, scenario: Scenario) -> WorldSpec:
        """Of a city with one signal: features are the same at all."""
        del scenario
        kind = KindSpec(
            name=KIND,
            agents=("signal",),
            own=OWN_FEATURES,
            entity=MOVEMENT_FEATURES,
            entities=1,
            action=PHASE_FEATURES,
            actions=2,
            idle=1,
            relation=np.array([[[True], [False]]]),
            flow=Flow(np.full((1, 1), -1), np.full((1, 1), -1)),
        )
        return WorldSpec("intersections", (kind,), np.full((1, 1), -1), REWARD_PARTS, metrics.NAMES)

    def soft_rules(self, start: str) -> dict[str, SoftRule]:
        """The soft rule that prefers the phases that `start` would."""
        return {KIND: SoftRule(_SOFT_RULES.get(start, {}))}

    def horizon_s(self, scenario: Scenario) -> float:
        """Episodes run to their end."""
        del scenario
        return math.inf

    def shares(self, scenario: Scenario) -> bool:
        """Whether the sites are districts of one city."""
        return bool(districts_of(scenario.sites))

    def shared(self, scenario: Scenario, device: str = "cpu") -> SharedCity:
        """The worlds of the whole city."""
        return SharedCity(scenario, device)

    def page(self, scenes: Sequence[Scene]) -> str:
        """The streets with a time slider."""
        [picture] = [msgspec.msgpack.decode(scene.data, type=Picture) for scene in scenes if scene.kind == "picture"]
        return replay_html(picture, [decode_frame(scene.data) for scene in scenes if scene.kind == "frame"])

    def figures(self, outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, FloatArray]]:
        """Each city's own."""
        return {site: dict(outcome.figures) for site, outcome in outcomes.items()}


def _check_site(site: CitySite) -> list[Notice]:
    with site.blame():
        site.world(1)
    return _read_over(site)


def _read_over(site: CitySite) -> list[Notice]:
    found = Counter(dict(site.problem.network.ignored))
    found.update(dict(site.problem.demands[0].ignored))
    kinds = {name: count for name, count in sorted(found.items()) if name not in _HARMLESS}
    if not kinds:
        return []
    line = f"{site.name}: read over, since not modelled: {', '.join(f'{name} ({n})' for name, n in kinds.items())}"
    return [Notice("read_over", line, {"site": site.name, "elements": kinds})]


DOMAIN = IntersectionsDomain()
