"""Commands for one stream: `run`, `extend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seekr_tune.cli.app import AcceptChange, Address, Assignments, Experiment, app
from seekr_tune.cli.experiments import default_run_directory, ready
from seekr_tune.cli.output import console, print_ranking, say, writable
from seekr_tune.errors import Stopped

REFUSED_BY_GATE = 3


@app.command()
def run(
    experiment: Experiment,
    assignments: Assignments = None,
    out: Annotated[Path | None, typer.Option(help="Output directory. [default: runs/<name>-<fingerprint>]")] = None,
    address: Address = None,
    accept_change: AcceptChange = False,
) -> None:
    """Learn one stream with the settings in its file.

    Run again in the same directory, it goes on where it was: also after Ctrl-C, which saves the step that is running.
    """
    config, notes = ready(experiment, assignments, search=False)
    from seekr_tune.study.directory.placement import require_outside
    from seekr_tune.study.life.stopping import StopFile, stopped_by_signals
    from seekr_tune.study.runs.single import run_experiment

    directory = out or default_run_directory(config)
    require_outside(directory, "a run")
    writable(directory)
    stop = StopFile(directory.absolute() / ".stop")
    try:
        with stopped_by_signals(stop, say):
            record = run_experiment(
                config,
                directory,
                address=address,
                console=console(stderr=True),
                stop_asked=stop,
                accept_change=accept_change,
                notes=notes,
            )
    finally:
        stop.take_back()
    if record.status == "running":
        raise Stopped(f"{directory}: stopped; the same command goes on with it")
    print_ranking(directory)
    say(f"results: {directory}")


@app.command()
def extend(
    directory: Annotated[Path, typer.Argument(help="Directory of a finished run.", show_default=False)],
    task: Annotated[str, typer.Option(help="The new task, named as in stream.tasks.", show_default=False)],
    max_forgetting: Annotated[
        float | None, typer.Option(help="Gate: most points that the score of an earlier task may fall.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the new task.")] = None,
    metric: Annotated[str | None, typer.Option(help="Metric of the new task.")] = None,
    address: Address = None,
    accept_change: AcceptChange = False,
) -> None:
    """Learn one more task at the end of a finished run.

    The run keeps its old model until the update is complete, and for good if the gate refuses it (exit code 3).
    """
    from seekr_tune.study.runs.extend import extend_run

    update = extend_run(
        directory,
        task,
        max_forgetting=max_forgetting,
        epochs=epochs,
        metric=metric,
        address=address,
        console=console(stderr=True),
        accept_change=accept_change,
    )
    print_ranking(directory)
    for name, points in update.forgetting.items():
        say(f"{name}: {0.0 - points:+.1f} points")
    if not update.accepted:
        say(f"refused: an earlier task lost more than {max_forgetting:g} points; {directory} is as it was")
        raise typer.Exit(REFUSED_BY_GATE)
    say(f"results: {directory}")
