"""An honest little PettingZoo environment, and the same with one fault at a time: what `check_env` must tell apart.

Two agents walk on a line for 12 steps; the second terminates at step 6. The last cell of the line cannot be left to
the right, which the mask says.
"""

import copy
import random
from typing import Any

import numpy as np
import pettingzoo
from gymnasium import spaces

LENGTH, LEAVES = 12, 6
FAULTS = (
    "wrong dtype", "out of range", "wrong shape", "nan observation", "nan reward", "integer reward",
    "random after step 3", "random info", "all-zero mask", "short mask", "wrong info mask", "agent returns",
    "leaves unsaid", "no last observation", "kept over reset", "hash", "state outside", "shallow copy",
    "forgets when pickled", "cannot be pickled", "extra reward",
)  # fmt: skip


class Probe(pettingzoo.ParallelEnv):
    """See the module; `fault` is one of FAULTS or empty."""

    def __init__(self, fault: str = "") -> None:
        assert fault in ("", *FAULTS)
        self.metadata = {"name": "probe"}
        self.fault, self.possible_agents, self.agents = fault, ["left", "right"], []
        self.seen = spaces.Dict(
            {"observation": spaces.Box(-1, 1, (3,), np.float32), "action_mask": spaces.MultiBinary(3)}
        )
        self.acts = {agent: spaces.Discrete(3) for agent in self.possible_agents}
        self.state_space = spaces.Box(-1, 1, (2,), np.float32)
        self.drift = 0.0
        if fault == "cannot be pickled":
            self.handle = (number for number in range(3))

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        del agent
        return self.seen

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.acts[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        del options
        self.rng, self.now = np.random.default_rng(seed), 0
        self.agents = list(self.possible_agents)
        self.place = dict.fromkeys(self.possible_agents, 0.0)
        if self.fault != "kept over reset":
            self.drift = 0.0
        return {agent: self.look(agent) for agent in self.agents}, {agent: self.info() for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        self.now += 1
        acting = list(self.agents)
        for agent in acting:
            noise = self.rng.random() - 0.5
            if self.fault == "random after step 3" and self.now > 3:
                noise = random.random() - 0.5
            if self.fault == "hash":
                noise += hash(agent) % 7 / 70
            self.place[agent] = float(np.clip(self.place[agent] + 0.1 * (actions[agent] - 1) + 0.1 * noise, -0.9, 0.9))
        self.drift += 0.01
        ended = {agent: agent == "right" and self.now == LEAVES for agent in acting}
        cut = dict.fromkeys(acting, self.now == LENGTH)
        rewards: dict[str, Any] = {agent: self.place[agent] for agent in acting}
        self.agents = [agent for agent in acting if not ended[agent] and not cut[agent]]
        if self.fault == "agent returns" and self.now == 8:
            self.agents.append("right")
        if self.fault == "leaves unsaid" and self.now == 5:
            self.agents.remove("left")
        seen = {agent: self.look(agent) for agent in acting}
        infos = {agent: self.info() for agent in acting}
        self.spoil(seen, rewards)
        return seen, rewards, ended, cut, infos

    def spoil(self, seen: dict[str, Any], rewards: dict[str, Any]) -> None:
        left = seen.get("left", self.look("left"))
        match self.fault, self.now:
            case "wrong dtype", _:
                left["observation"] = left["observation"].astype(np.float64)
            case "out of range", 5:
                left["observation"][0] = 1.5
            case "wrong shape", 5:
                left["observation"] = left["observation"][:2]
            case "nan observation", 5:
                left["observation"][1] = np.nan
            case "nan reward", 5:
                rewards["left"] = float("nan")
            case "integer reward", 5:
                rewards["left"] = 1
            case "extra reward", 8:
                rewards["right"] = 0.0
            case "all-zero mask", 5:
                left["action_mask"][:] = 0
            case "short mask", 5:
                left["action_mask"] = left["action_mask"][:2]
            case "no last observation", 6:
                del seen["right"]

    def look(self, agent: str) -> dict[str, np.ndarray]:
        place = self.place[agent]
        return {
            "observation": np.array([place, self.drift, self.now / 100], np.float32),
            "action_mask": np.array([1, 1, self.now % 3 != 1], np.int8),
        }

    def info(self) -> dict[str, Any]:
        mask = np.array([1, 1, self.now % 3 != 1], np.int8)
        if self.fault == "wrong info mask" and self.now == 4:
            mask = np.ones(3, np.int8)
        noise = random.random() if self.fault == "random info" and self.now == 7 else 0.0
        return {"action_mask": mask, "noise": noise}

    def state(self) -> np.ndarray:
        wide = 2.0 if self.fault == "state outside" and self.now == 4 else 1.0
        return np.array([wide, self.now / 100], np.float32)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"now": 0} if self.fault == "forgets when pickled" else {})

    def __deepcopy__(self, memo: dict[int, Any]) -> "Probe":
        made = object.__new__(type(self))
        made.__dict__.update(
            {name: value if self.fault == "shallow copy" else copy.deepcopy(value, memo)
             for name, value in self.__dict__.items()}
        )  # fmt: skip
        return made


def parallel_env(fault: str = "") -> Probe:
    """The entry point of the tests."""
    return Probe(fault)
