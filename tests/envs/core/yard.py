"""A small PettingZoo environment with all that a foreign one may do, and the same with one fault at a time.

Two diggers choose among three actions, of which the one with the number of the step (mod 3) is illegal; a scout counts
in a Discrete observation and chooses two parts at once; a pump takes a vector; a helper comes at step 2. Digger 1
terminates at step 3, the scout is cut off at step 5, the rest at step 8. Rewards are what was chosen.
"""

import os
from typing import Any

import numpy as np
import pettingzoo
from gymnasium import spaces

FAULTS = (
    "nan observation", "nan reward", "no legal action", "wrong shape", "raises", "stranger", "returns", "leaves",
    "no agents at reset", "no observation", "no reward", "dies", "wrong mask", "nan mask",
)  # fmt: skip
AT = 4
"""The step in which a fault shows."""
DIGGERS = ("digger_0", "digger_1")


class Yard(pettingzoo.ParallelEnv):
    """See the module; `fault` is one of FAULTS or empty; masks can stand in infos."""

    def __init__(self, fault: str = "", masks_in_infos: bool = False, length: int = 8) -> None:
        assert fault in ("", *FAULTS)
        self.metadata = {"name": "yard"}
        self.fault, self.masks_in_infos, self.length = fault, masks_in_infos, length
        self.possible_agents = [*DIGGERS, "scout", "pump_0", "helper"]
        ground = spaces.Box(-np.inf, np.inf, (2, 2), np.float64)
        masked = spaces.Dict({"observation": ground, "action_mask": spaces.MultiBinary(3)})
        digs = ground if masks_in_infos else masked
        box = spaces.Box(-1.0, 2.0, (2,), np.float64)
        self.seen = dict.fromkeys(DIGGERS, digs) | {
            "scout": spaces.Discrete(10), "pump_0": spaces.Box(0, 255, (1,), np.uint8), "helper": ground,
        }  # fmt: skip
        self.acts = dict.fromkeys(DIGGERS, spaces.Discrete(3, start=5)) | {
            "scout": spaces.MultiDiscrete([2, 3]), "pump_0": box, "helper": spaces.Discrete(2),
        }  # fmt: skip
        self.agents: list[str] = []
        self.told: list[dict[str, Any]] = []

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.seen[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.acts[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        del options
        self.rng, self.step_number = np.random.default_rng(seed), 0
        self.agents = [] if self.fault == "no agents at reset" else [*DIGGERS, "scout", "pump_0"]
        return {agent: self.look(agent) for agent in self.agents}, {agent: self.info(agent) for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert set(actions) == set(self.agents)
        self.told.append(actions)
        self.step_number += 1
        now, acting = self.step_number, list(self.agents)
        ended = {agent: agent == "digger_1" and now == 3 for agent in acting}
        cut = {agent: now == self.length or (agent == "scout" and now == 5) for agent in acting}
        rewards = {agent: float(np.sum(actions[agent])) for agent in acting}
        self.agents = [agent for agent in acting if not ended[agent] and not cut[agent]]
        if now == 2:
            self.agents.append("helper")
            rewards["helper"], ended["helper"], cut["helper"] = 0.0, False, False
        self.spoil(rewards, now)
        seen = {agent: self.look(agent) for agent in dict.fromkeys([*acting, *self.agents])}
        if self.fault == "no observation" and now == AT:
            del seen["pump_0"]
        return seen, rewards, ended, cut, {agent: self.info(agent) for agent in seen}

    def spoil(self, rewards: dict[str, float], now: int) -> None:
        if now != AT:
            return
        match self.fault:
            case "raises":
                raise RuntimeError("the ground gave way")
            case "dies":
                os._exit(3)
            case "nan reward":
                rewards["digger_0"] = float("nan")
            case "no reward":
                del rewards["digger_0"]
            case "stranger":
                self.agents.append("stranger")
            case "returns":
                self.agents.append("digger_1")
            case "leaves":
                self.agents.remove("digger_0")

    def look(self, agent: str) -> Any:
        bad = self.fault if self.step_number == AT and agent == "digger_0" else ""
        if agent == "scout":
            return self.step_number
        if agent == "pump_0":
            return np.array([200 + self.step_number], np.uint8)
        ground = self.rng.random((2, 2))
        if bad == "nan observation":
            ground[1, 0] = np.nan
        if bad == "wrong shape":
            ground = ground[:1]
        if agent == "helper" or self.masks_in_infos:
            return ground
        mask = self.mask()
        if bad == "nan mask":
            return {"observation": ground, "action_mask": np.where(mask, np.nan, 0.0)}
        return {"observation": ground, "action_mask": mask * 0 if bad == "no legal action" else mask}

    def mask(self) -> np.ndarray:
        wide = 4 if self.fault == "wrong mask" and self.step_number == AT else 3
        return np.array([n != self.step_number % 3 for n in range(wide)], np.int8)

    def info(self, agent: str) -> dict[str, Any]:
        return {"action_mask": self.mask()} if self.masks_in_infos and agent in DIGGERS else {}


def parallel_env(**arguments: Any) -> Yard:
    """The entry point of the tests."""
    return Yard(**arguments)


class Turns(pettingzoo.AECEnv):
    """Agents take turns."""


def aec_env() -> Turns:
    """Not a parallel environment."""
    return Turns()
