"""The command line. Whatever is slow to import is imported by the command that needs it."""

import json
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import click
import typer
from typer.core import TyperCommand, TyperGroup

import fedsched
from fedsched.sim.errors import UserError, WorldSetupError
from fedsched.sim.provenance import silence

WRONG_INPUT, FAILED, INTERRUPTED = 2, 3, 130
"""Exit codes beside 0; the folder of a failed or interrupted run says more, an interrupted one can be resumed."""


class Commands(TyperGroup):
    """Turns what a command raises into one message and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            _report(error, str(error), debug=bool(ctx.params.get("debug")))
            ctx.exit(WRONG_INPUT)
        except KeyboardInterrupt as error:
            _report(error, "interrupted", debug=False)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            _report(error, f"failed: {type(error).__name__}: {error}", debug=bool(ctx.params.get("debug")))
            ctx.exit(FAILED)


class Command(TyperCommand):
    """A command whose help lists its options; what its arguments are stands in the text above them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options."""
        options = (parameter for parameter in self.get_params(ctx) if parameter.param_type_name == "option")
        records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(records)


def _report(error: BaseException, message: str, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    typer.echo("\n".join([message, *getattr(error, "__notes__", [])]), err=True)


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
scenarios_app = typer.Typer(help="Shipped scenarios: list them, or show one.")
app.add_typer(scenarios_app, name="scenarios")

SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Another value for a key.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedsched {fedsched.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Federated multi-agent scheduling: simulate, learn and decide together without pooling data."""


@app.command(cls=Command)
def demo(
    out: Annotated[Path | None, typer.Option(help="The run folder to make; by default one below runs/.")] = None,
) -> None:
    """The main job in minutes, with what is shipped.

    Four data centres learn together and settle a plan.
    """
    from fedsched.sim.play import play
    from fedsched.sim.scenario import Point, load_scenario

    play([Point(load_scenario("demo"))], out, "demo")


@app.command(cls=Command)
def run(
    scenario: Annotated[str | None, typer.Argument()] = None,
    overrides: SetOption = None,
    seeds: Annotated[str | None, typer.Option(metavar="0-4", help="Seeds, one run each.")] = None,
    grid: Annotated[list[str] | None, typer.Option(metavar="A.B=X,Y", help="Values of a key, one run each.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="A run folder to continue.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="A new folder for the run, or for all runs.")] = None,
    workers: Annotated[Literal["auto", "local", "ray"] | None, typer.Option(help="Where sites live.")] = None,
) -> None:
    """Train, federate, settle, evaluate: a run folder each.

    SCENARIO is a file, or the name of a shipped one (`fedsched scenarios`).
    """
    if resume is not None:
        if scenario or overrides or seeds or grid or out or workers:
            raise UserError("--resume continues a run as it was started; leave the scenario and the other options out")
        from fedsched.sim.play import go_on

        go_on(resume)
        return
    if scenario is None:
        raise UserError(
            "a scenario is needed: a file, or one of those that `fedsched scenarios` lists; or --resume RUN"
        )
    from fedsched.sim.play import play
    from fedsched.sim.scenario import expand, load_scenario

    changes = [*(overrides or []), *([f"workers.backend={workers}"] if workers else [])]
    play(expand(load_scenario(scenario, changes), grid or [], seeds), out, scenario, changes)


@app.command(cls=Command)
def evaluate(
    run: Path,
    scenario: Annotated[
        str | None,
        typer.Option(metavar="SCENARIO", help="Evaluate in another one than the run's own; its `agents` are not read."),
    ] = None,
    simulator: Annotated[
        Literal["own", "sumo"],
        typer.Option(show_default=False, help="What runs the periods: fedsched itself (own), or for cities SUMO."),
    ] = "own",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Every figure, as JSON.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Every figure, as a .csv.")] = None,
) -> None:
    """The trained policy of a run and the rules on test periods.

    RUN is a run folder.
    """
    from fedsched.sim.folder import read_run
    from fedsched.sim.scenario import load_scenario, locate

    read_run(run)  # so that a mistyped folder is refused before anything slow is imported
    other = None if scenario is None else load_scenario(scenario)
    from fedsched.sim.evaluate import evaluate_run, save
    from fedsched.sim.progress import open_progress
    from fedsched.sim.table import ALL_SITES, table, told

    with open_progress() as progress:
        try:
            found = evaluate_run(run, other, progress, simulator)
        except WorldSetupError as error:
            raise (locate(scenario, [], error.found) if scenario else error) from error
    learned = next(row for row in found.rows if row["actor"] == "policy" and row["site"] == ALL_SITES)
    typer.echo("\n".join([*table(found.rows, found.described), "", *told(learned)]).rstrip())
    save(found.rows, json_file, csv_file)


@app.command(cls=Command)
def replay(
    run: Path,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="Whose period; by default the first site's.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The page; by default in the run folder.")] = None,
) -> None:
    """A page that plays a recorded period of a city in any browser.

    RUN is the folder of a run whose scenario has `evaluation: {replay: 2 s}`.
    """
    from fedsched.sim.folder import read_run

    read_run(run)  # so that a mistyped folder is refused before anything slow is imported
    from fedsched.sim.replay import write_replay

    typer.echo(f"Open it in a browser: {write_replay(run, site, out)}")


@app.command(cls=Command)
def export(
    run: Path,
    policy: Annotated[bool, typer.Option("--policy", help="The policy, as ONNX files that need no torch.")] = False,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="Whose policy, where sites differ.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="By default export/ in the run folder.")] = None,
) -> None:
    """What a run has learned, for use elsewhere.

    RUN is a run folder. Each file is compared with the policy before it is written.
    """
    from fedsched.sim.folder import read_run

    read_run(run)  # so that a mistyped folder is refused before anything slow is imported
    if not policy:
        raise UserError("say what to export: --policy")
    from fedsched.sim.export import export_run
    from fedsched.sim.progress import open_progress

    with open_progress() as progress:
        written = export_run(run, site, out, progress)
    typer.echo("\n".join(file.line() for file in written))


@scenarios_app.callback(invoke_without_command=True)
def list_scenarios(ctx: typer.Context) -> None:
    """Lists the shipped scenarios."""
    if ctx.invoked_subcommand is not None:
        return
    from fedsched.sim.scenario import shipped

    for name, text in shipped().items():
        typer.echo(f"{name:<24}{text.splitlines()[0].removeprefix('# ')}")


@scenarios_app.command(cls=Command)
def show(
    name: str,
    all_keys: Annotated[bool, typer.Option("--all", help="Every key with its default and what it is.")] = False,
    overrides: SetOption = None,
) -> None:
    """Shows a scenario as it is written, or every key of it.

    NAME is a shipped scenario, or the path of a file.
    """
    from fedsched.sim.scenario import commented, load_scenario, scenario_text

    if all_keys:
        typer.echo(commented(load_scenario(name, overrides or [])), nl=False)
    elif overrides:
        raise UserError("--set goes with --all: a file is shown as it is written")
    else:
        typer.echo(scenario_text(name)[0], nl=False)


@app.command(cls=Command)
def schema() -> None:
    """The JSON Schema of scenario files, for editors."""
    from fedsched.sim.scenario import schema as make_schema

    typer.echo(json.dumps(make_schema(), indent=1))


@app.command(cls=Command)
def doctor() -> None:
    """What is installed and found here.

    The exit code is 1 if something is amiss.
    """
    from fedsched.sim.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(f"{'!' if finding.remedy else ' '} {finding.subject:<28}{finding.state}")
        if finding.remedy:
            typer.echo(f"  {'':<28}-> {finding.remedy}")
    if any(finding.remedy for finding in findings):
        raise typer.Exit(1)


def _stop(signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"stopped by {signal.Signals(signum).name}")


def main() -> None:
    """Entry point of the console script."""
    silence()
    signal.signal(signal.SIGTERM, _stop)  # a run notes it, as it does Ctrl-C
    sys.exit(app())
