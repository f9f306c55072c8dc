"""A trained policy outside its run: something that acts on observations of any world of its domain."""

from pathlib import Path

import torch

from fedsched.agents.collect import GreedyActor
from fedsched.agents.decisions import AgentError
from fedsched.agents.mailbox import Traffic
from fedsched.agents.parameters import parameters_from_numpy
from fedsched.agents.policy import Policy
from fedsched.agents.speech import SendingKind
from fedsched.envs.core import Observation, Reads, World, WorldSpec
from fedsched.sim.domains import domain_of
from fedsched.sim.errors import UserError
from fedsched.sim.folder import Run, read_run
from fedsched.sim.scenario import Scenario
from fedsched.sim.training import Parameters, make_policy


class TrainedPolicy:
    """A trained policy as a controller (contract: `envs.core.Controller`): always the likeliest action.

    Args:
        name: For tables.
        policy: What decides; its parameters fit worlds of any size.

    Attributes:
        name: For tables.
        policy: The network itself.
        reads: What it decides from, so that it may teach.
    """

    reads: Reads = "observation"

    def __init__(self, name: str, policy: Policy) -> None:
        self.name, self.policy = name, policy
        self._actor: GreedyActor | None = None

    def reset(self, world: World, sends: SendingKind | None = None, share: float | None = None, seed: int = 0) -> None:
        """Binds the policy to a world before an episode of its batch; the agents have heard no message yet.

        Args:
            world: Where it will act.
            sends: Which messages: `always` all, those of the trigger (`uncertain`), or some at `random`; None: as the
                policy was trained to.
            share: That sends at random.
            seed: Of that chance.

        Raises:
            UserError: There is no trigger to ask, or no share for chance.
        """
        policy = self.policy.to(world.device)
        try:
            sending = policy.use(sends, share, seed)
        except AgentError as error:
            raise UserError(f"{self.name}: {error}") from error
        self._actor = GreedyActor(policy, world.spec, world.batch, world.device, sending)

    @property
    def traffic(self) -> Traffic:
        """What the agents have sent to one another since `reset`."""
        return Traffic() if self._actor is None else self._actor.traffic

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """Actions for every row, int64 [B, A] by kind; the idle action for agents that need not decide.

        Raises:
            UserError: It was not bound to a world.
        """
        if self._actor is None:
            raise UserError(f"{self.name}: call reset with a world first")
        return self._actor(observation)


def load_policy(run: str | Path, site: str | None = None) -> TrainedPolicy:
    """The policy that a run ended with, or has chosen so far.

    Args:
        run: A run folder.
        site: Whose; the first site's by default. With `learning: local` sites differ, else all have the same.

    Raises:
        UserError: No run folder, no policy in it yet, no such site, or parameters that do not fit the run's scenario.
    """
    told = read_run(Path(run))
    parameters = trained_parameters(told)
    name = site or next(iter(parameters))
    if name not in parameters:
        raise UserError(f"{run}: has no site {name!r}; its sites are {', '.join(parameters)}")
    return TrainedPolicy(f"policy of {name}", fitted(told.scenario, name, parameters[name], told.folder))


def fitted(scenario: Scenario, site: str, parameters: Parameters, run: Path) -> Policy:
    """A scenario's policy for a site with the parameters that a run has chosen.

    Raises:
        UserError: The parameters are of another policy; the message names the run, the site and what differs.
    """
    policy = make_policy(scenario, _spec(scenario, site))
    try:
        parameters_from_numpy(policy, parameters)
    except AgentError as error:
        raise UserError(f"{run}: its policy does not fit site {site}: {error}") from error
    return policy


def _spec(scenario: Scenario, site: str) -> WorldSpec:
    """What the policy of a site is built for; its worlds are only set up where parameters belong to its agents."""
    domain = domain_of(scenario)
    return domain.site(scenario, site).spec if scenario.agents.sharing == "agent" else domain.policy_spec(scenario)


def trained_parameters(run: Run) -> dict[str, Parameters]:
    """The parameters that a run has chosen, by site.

    Raises:
        UserError: It has no policy yet.
    """
    checkpoint = run.checkpoint()
    parameters: dict[str, Parameters] = checkpoint.shared()["selection"]["parameters"] if checkpoint else {}
    if not parameters:
        raise UserError(f"{run.folder}: has no policy yet; continue it with: fedsched run --resume {run.folder}")
    return parameters
