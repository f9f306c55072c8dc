"""A run, from scenario to results. Read it top to bottom: this is what happens."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedsched.sim.domains import domain_of
from fedsched.sim.domains.base import FloatArray, Notice, device_of
from fedsched.sim.evaluate import compare_actors
from fedsched.sim.folder import make_folder, read_run
from fedsched.sim.learning import Answers, Learning, Report, make_learning, search
from fedsched.sim.progress import Progress
from fedsched.sim.record import Metric, Moment, Recorder, log
from fedsched.sim.scenario import Scenario
from fedsched.sim.selection import Selection
from fedsched.sim.site import Site
from fedsched.sim.workers import Workers, start

LONG_WAIT = 1.05
"""Mean wait relative to the best rule's above which a run without a bound warns."""
_BOUND = "agents: {constraints: {wait: {at_most: 1.05}}}"


def run(scenario: Scenario, folder: Path | None, resume: Path | None, progress: Progress) -> Path:
    """Trains, federates, settles, evaluates; everything that happens goes into the run folder.

    Args:
        scenario: What to run.
        folder: A new folder; None: one below `runs/`.
        resume: Continue this folder's run instead.
        progress: Where to report.

    Returns:
        The run folder.

    Raises:
        UserError: A scenario that cannot run, an existing folder; nothing is written then.
        FederationError: Too few sites took part in a round.
        UnsettledError: The replicas could not agree.
    """
    progress.say("reading the data")
    notices = domain_of(scenario).check(scenario)
    if resume is None and folder is not None and folder.exists():
        make_folder(scenario, folder)  # says that it exists
    checkpoint = read_run(resume).checkpoint() if resume is not None else None
    states = (checkpoint.shared(), checkpoint.site_states()) if checkpoint is not None else None
    device = device_of(scenario)
    factories = {name: partial(Site, scenario, name, device) for name in scenario.sites}
    progress.say(f"starting {len(factories)} sites, {scenario.workers.chosen} workers")
    with start(factories, scenario.workers) as workers:
        place = resume if resume is not None else make_folder(scenario, folder)
        with Recorder(place, scenario, resume=resume is not None) as recorder:
            if resume is None:
                _record_notices(notices, recorder)
            learning, selection = make_learning(scenario, workers), Selection(scenario)
            done = -1
            if checkpoint is not None and states is not None:
                done = checkpoint.round
                learning.load(states[0]["learning"], states[1])
                selection.load(states[0]["selection"])
            learn(scenario, learning, selection, recorder, progress, done)
            _warn_of_waits(scenario, selection, recorder, progress)
            compare_actors(scenario, workers, selection.parameters, "test", recorder, progress, recorder.id)
            _record_replays(scenario, workers, selection, recorder)
    return place


def learn(
    scenario: Scenario, learning: Learning, selection: Selection, recorder: Recorder, progress: Progress, done: int
) -> None:
    """The search for a start (unless `done` >= 0), then the rounds after the first `done`; each leaves a checkpoint."""
    if done < 0:
        _keep(-1, learning, selection, recorder)
        if scenario.agents.search is not None:
            progress.begin("search", scenario.agents.search.attempts * scenario.agents.search.generations)
            search(scenario, learning, partial(_after_generation, recorder, progress))
        progress.say("start judged: " + _judge(0, learning, selection, recorder))
        _keep(0, learning, selection, recorder)
    rounds = scenario.federation.rounds
    progress.begin("rounds", rounds, max(done, 0))
    for number in range(max(done, 0) + 1, rounds + 1):
        report = learning.round(number)
        _record_round(number, report, recorder)
        note = _absent("left out", report.left_out)
        if number % scenario.evaluation.every == 0 or number == rounds:
            note = f"{_judge(number, learning, selection, recorder)} {note}".rstrip()
        _keep(number, learning, selection, recorder)
        progress.step("rounds", note)


def _record_notices(found: list[Notice], recorder: Recorder) -> None:
    for notice in found:
        recorder.event(notice.kind, **notice.facts)
        log.warning("%s", notice.line)


def _judge(number: int, learning: Learning, selection: Selection, recorder: Recorder) -> str:
    """Judges the current parameters on validation windows and keeps the best; returns a note for people."""
    answers = learning.judge(number)
    judged = answers.by_site
    better = selection.offer(number, learning.parameters(), judged)
    rows = [
        Metric(number, site, "", f"validation/{name}", value)
        for site, figures in judged.items()
        for name, value in figures.items()
    ]
    recorder.metrics(rows)
    recorder.event("validation", round=number, sites=judged, selected=better, **_exchanged(answers))
    note = f"{_ratios(judged)} of the best rules" + (", best so far" if better else "")
    return f"{note} {_absent('not judged', answers.left_out)}".rstrip()


def _ratios(judged: Mapping[str, Mapping[str, float]]) -> str:
    """Means over sites of what a policy was judged by: `slowdown x0.950, wait x1.010`."""
    names = [name for name in next(iter(judged.values()), {}) if name.endswith("_ratio")]
    means = {name: sum(figures[name] for figures in judged.values()) / len(judged) for name in names}
    return ", ".join(f"{name.removesuffix('_ratio')} x{mean:.3f}" for name, mean in means.items())


def _warn_of_waits(scenario: Scenario, selection: Selection, recorder: Recorder, progress: Progress) -> None:
    """Says so where nothing bounds the wait and a chosen policy makes jobs wait long: so slowdown can be gamed."""
    long = {site: wait for site, wait in selection.waits.items() if wait > LONG_WAIT}
    if scenario.agents.constraints.wait is not None or not long:
        return
    recorder.event("long_waits", sites=long)
    sites = ", ".join(f"{site} x{wait:.2f}" for site, wait in long.items())
    line = f"jobs wait longer than under the best rules ({sites}); {_BOUND} bounds that"
    log.warning(line)
    progress.say(f"warning: {line}")


def _record_replays(scenario: Scenario, workers: Workers[Site], selection: Selection, recorder: Recorder) -> None:
    """The first test period of every site under its policy, if the scenario asks for it."""
    if scenario.evaluation.replay is None:
        return
    every_s = round(scenario.evaluation.replay)
    asked = {site: ("test", selection.parameters[site], every_s) for site in scenario.sites}
    for site, scenes in workers.map("replay", asked).items():
        recorder.frames([Moment(scene.time_s, site, 0, scene.kind, scene.data) for scene in scenes])


def _after_generation(recorder: Recorder, progress: Progress, number: int, tried: Answers[FloatArray]) -> None:
    recorder.event("search", generation=number, **_exchanged(tried))
    progress.step("search", _absent("left out", tried.left_out))


def _absent(what: str, sites: Mapping[str, str]) -> str:
    return f"{what}: {', '.join(sites)}" if sites else ""


def _record_round(number: int, report: Report, recorder: Recorder) -> None:
    recorder.metrics(
        [
            Metric(number, site, "", f"train/{name}", value)
            for site, figures in report.metrics.items()
            for name, value in figures.items()
        ]
    )
    recorder.event(
        "round",
        round=number,
        took_part=list(report.took_part),
        late=dict(report.late),
        **_exchanged(report),
    )


def _exchanged(traffic: Report | Answers[Any]) -> dict[str, dict[str, Any]]:
    """Who is missing and what crossed the network, for an event."""
    return {name: dict(getattr(traffic, name)) for name in ("left_out", "bytes_up", "bytes_down")}


def _keep(done: int, learning: Learning, selection: Selection, recorder: Recorder) -> None:
    """A checkpoint after `done` rounds; what belongs to one site alone is kept apart."""
    shared = {"learning": learning.shared_state(), "selection": selection.state()}
    recorder.checkpoint(done, shared, learning.site_states())
