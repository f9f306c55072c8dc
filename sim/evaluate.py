"""Evaluation: rules, the learned policy, and both with the settled plan, on the same operated periods."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedsched.agents.decisions import AgentError
from fedsched.agents.sharing import require_same_agents
from fedsched.sim.domains import domain_of, figures_of
from fedsched.sim.domains.base import POLICY, Simulator, Split, device_of
from fedsched.sim.domains.figures import Figures
from fedsched.sim.errors import UserError
from fedsched.sim.files import write_json
from fedsched.sim.folder import new_id, read_run
from fedsched.sim.operate import Operated, Operator
from fedsched.sim.progress import Progress
from fedsched.sim.record import Metric, Recorder
from fedsched.sim.scenario import Plan, Scenario
from fedsched.sim.site import Site
from fedsched.sim.stage import stage_of
from fedsched.sim.table import Row, with_totals
from fedsched.sim.trained import fitted, trained_parameters
from fedsched.sim.training import Parameters
from fedsched.sim.workers import Workers, start

BEST_RULE = "best-rule"
"""Each site under the rule that does best on its own validation windows."""
WITH_PLAN = "+plan"


def compare_actors(
    scenario: Scenario,
    workers: Workers[Site],
    parameters: Mapping[str, Parameters],
    split: Split,
    recorder: Recorder | None,
    progress: Progress,
    run: str,
    simulator: Simulator = "own",
) -> dict[str, Operated]:
    """Operates the scenario's periods under every actor, without and with the plan.

    Args:
        scenario: The whole scenario.
        workers: Where the sites live.
        parameters: The policy of each site.
        split: Which periods.
        recorder: Takes figures, plans and settlements; None: nothing is written.
        progress: Where to report.
        run: Id of the run.
        simulator: What runs the periods.

    Returns:
        What each actor achieved; names ending in `+plan` traded.
    """
    stage = stage_of(workers, scenario)
    runs = _runs(scenario, stage.best_rules())
    progress.begin("evaluation", len(runs))
    results = {}
    for name, actors, plan in runs:
        # the plans of the policy are the ones a run folder shows
        writer = recorder if name.startswith(POLICY) else None
        operator = Operator(stage, scenario, writer, run)
        results[name] = operator.operate(actors, parameters, split, plan, f"{split}/{name}", simulator)
        if recorder is not None:
            _record(name, results[name], split, recorder)
        progress.step("evaluation", name)
    stage.close()
    return results


def _runs(scenario: Scenario, best: Mapping[str, str]) -> list[tuple[str, Mapping[str, str], Plan | None]]:
    """The actors by name, who drives each site then, and their plan."""
    arms: dict[str, Mapping[str, str]] = {rule: dict.fromkeys(scenario.sites, rule) for rule in scenario.against}
    arms |= {BEST_RULE: best, POLICY: dict.fromkeys(scenario.sites, POLICY)}
    runs: list[tuple[str, Mapping[str, str], Plan | None]] = [(name, actors, None) for name, actors in arms.items()]
    if scenario.plan is not None:
        runs += [(f"{name}{WITH_PLAN}", arms[name], scenario.plan) for name in (BEST_RULE, POLICY)]
    return runs


def _record(name: str, operated: Operated, split: Split, recorder: Recorder) -> None:
    sites = {site: {"actor": operated.actors.get(site, ""), **operated.at(site)} for site in operated.figures}
    recorder.event("operated", split=split, actor=name, sites=sites, traffic=vars(operated.traffic))
    recorder.metrics(
        [
            Metric(float(row), site, name, f"operate/{figure}", float(value))
            for site, by_name in operated.figures.items()
            for figure, values in by_name.items()
            for row, value in enumerate(values)
        ]
    )


@dataclass(frozen=True)
class Evaluated:
    """The figures of an evaluation.

    Attributes:
        rows: One per site and actor, and one per actor about all sites (`table.Row`).
        described: What the figures are.
    """

    rows: list[dict[str, Any]]
    described: Figures


def evaluate_run(
    folder: Path, scenario: Scenario | None, progress: Progress, simulator: Simulator = "own"
) -> Evaluated:
    """The trained policy of a run and the rules on test periods.

    Args:
        folder: A run folder with a checkpoint.
        scenario: Evaluate in this scenario instead of the run's own; sites take the policy of the run's site of the
            same name, or of its first one.
        progress: Where to report.
        simulator: What runs the periods.

    Raises:
        UserError: The run has no checkpoint yet, its policy is of another domain or does not fit a site, or there is no
            such simulator there.
    """
    run = read_run(folder)
    trained = trained_parameters(run)
    # the policy's sizes are those it was trained with
    chosen = scenario.model_copy(update={"agents": run.scenario.agents}) if scenario else run.scenario
    if chosen.domain != run.scenario.domain:
        raise UserError(f"{folder}: holds a policy for {run.scenario.domain}, the scenario has {chosen.domain}")
    domain = domain_of(chosen)
    domain.check(chosen)
    if simulator != "own":
        domain.check_simulator(chosen, simulator)
    origin = {name: name if name in trained else next(iter(trained)) for name in chosen.sites}
    if scenario and chosen.agents.sharing == "agent":
        _require_same_agents(run.scenario, chosen, origin)
    parameters = {name: trained[source] for name, source in origin.items()}
    for name, found in parameters.items():
        fitted(chosen, name, found, run.folder)
    factories = {name: partial(Site, chosen, name, device_of(chosen)) for name in chosen.sites}
    with start(factories, chosen.workers) as workers:
        results = compare_actors(chosen, workers, parameters, "test", None, progress, new_id(), simulator)
    described = figures_of(chosen)
    if simulator != "own":
        described = replace(
            described, note=f"Run by {simulator.upper()}, not by fedsched's own world.\n{described.note}"
        )
    rows = [row for name, operated in results.items() for row in _rows(name, operated)]
    return Evaluated(with_totals(rows, described), described)


def _require_same_agents(trained: Scenario, chosen: Scenario, origin: Mapping[str, str]) -> None:
    """Raises UserError where a site has other agents than the one that its policy comes from, by `origin`."""
    domain = domain_of(chosen)
    for name, source in origin.items():
        known = {kind.name: kind.agents for kind in domain.site(trained, source).spec.kinds}
        try:
            require_same_agents(domain.site(chosen, name).spec, known)
        except AgentError as error:
            raise UserError(f"site {name}, with the policy of {source}: {error}") from error


def _rows(name: str, operated: Operated) -> list[dict[str, Any]]:
    return [
        {"site": site, "actor": name, "rule": operated.actors.get(site, ""), **operated.at(site)}
        for site in operated.figures
    ]


def save(rows: Sequence[Row], json_file: Path | None, csv_file: Path | None) -> None:
    """Writes all figures, as JSON and as a table with commas; `site` is empty in rows about all sites.

    Raises:
        UserError: A file cannot be written.
    """
    try:
        if json_file is not None:
            write_json(json_file, list(rows))
        if csv_file is not None:
            with csv_file.open("w", newline="", encoding="utf-8") as stream:
                lines = csv.DictWriter(stream, list(rows[0]))
                lines.writeheader()
                lines.writerows(rows)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written: {error.strerror}") from error
