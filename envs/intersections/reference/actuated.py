"""Actuated programs: a green goes on while vehicles follow each other closely enough over its detectors.

A phase lasts `shortest` at least. Then, where it can be lengthened and has not reached `longest`, the least time since
a vehicle was at one of its detectors decides: below `max_gap` it goes on until that vehicle has had `detector_gap`, for
a whole second at least, and is considered again; else the next phase begins. Source: SUMO's
MSActuatedTrafficLightLogic and MSInductLoop, in our own words.
"""

import math
from collections.abc import Iterable

from fedsched.envs.intersections.actuation import Actuation
from fedsched.envs.intersections.reference.state import Street, Vehicle
from fedsched.envs.intersections.tables import Signals

ROUNDING = 5e-4
"""Times count in ms."""


class ActuatedSignals:
    """The actuated signals of one world.

    Attributes:
        detected: When a vehicle was last at each detector, s.
    """

    def __init__(self, actuation: Actuation, signals: Signals) -> None:
        """Args: what they are, all programs."""
        self._a, self._signals = actuation, signals
        self._first = [int(signals.phase_begin[n]) for n in actuation.signal]
        self._step = actuation.start.tolist()
        self._since = [0 for _ in self._first]
        self._due = [int(actuation.shortest[f + k]) for f, k in zip(self._first, self._step, strict=True)]
        self.detected = [-math.inf for _ in actuation.loop_at]

    def states(self, now: int) -> dict[int, str]:
        """What each shows in the second that begins, by its place in the network; to be asked once a second."""
        found = {}
        for u, signal in enumerate(self._a.signal.tolist()):
            if now >= self._due[u]:
                more = self._longer(u, now)
                if more == 0:
                    self._step[u] = (self._step[u] + 1) % int(self._signals.phase_begin[signal + 1] - self._first[u])
                    self._since[u] = now
                    more = int(self._a.shortest[self._first[u] + self._step[u]])
                self._due[u] = now + more
            links = int(self._signals.link_begin[signal + 1] - self._signals.link_begin[signal])
            state = self._signals.state[self._first[u] + self._step[u], :links]
            found[signal] = "".join(chr(code) for code in state)
        return found

    def _longer(self, u: int, now: int) -> int:
        """For how many seconds the phase goes on; 0 where it ends."""
        a, phase = self._a, self._first[u] + self._step[u]
        left = int(a.longest[phase]) - (now - self._since[u])
        if not a.extends[phase] or left <= 0:
            return 0
        loops = a.phase_loop[a.phase_loop_begin[phase] : a.phase_loop_begin[phase + 1]]
        gap = min((now - self.detected[loop] for loop in loops), default=math.inf)
        if gap >= a.max_gap[u]:
            return 0
        return min(left, max(1, math.ceil(float(a.detector_gap[u]) - gap - ROUNDING)))

    def watch(self, street: Street, vehicles: Iterable[Vehicle], now: int) -> None:
        """Notes who is at a detector, or has left it in this second; after all moves, before lane changes."""
        lanes = self._a.loop_lane.tolist()
        for vehicle in vehicles:
            front = vehicle.position
            for back, lane in enumerate((vehicle.lane, *vehicle.behind)):
                front += street.length[lane] if back else 0.0
                rear = front - street.size[vehicle.kind]
                before = rear - vehicle.speed
                for loop, at in enumerate(self._a.loop_at.tolist()):
                    if lanes[loop] == lane and before <= at <= front:
                        seen = now + (1.0 if rear <= at else (at - before) / vehicle.speed)
                        self.detected[loop] = max(self.detected[loop], seen)
                if before >= 0:
                    break
