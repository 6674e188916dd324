"""Commands for a study, from its plan to its end."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from seekr_tune.cli.app import (
    AcceptChange,
    Address,
    Assignments,
    Directory,
    Enqueue,
    Experiment,
    Trial,
    Trials,
    app,
)
from seekr_tune.cli.experiments import default_study_directory, ready, with_trials
from seekr_tune.cli.output import Format, console, finish_study, say, show, show_table, writable
from seekr_tune.foreign_text import ours


@app.command()
def plan(experiment: Experiment, assignments: Assignments = None, trials: Trials = None) -> None:
    """What a study would cost.

    Takes a few steps of the model on this machine; trains and writes nothing.
    """
    config, notes = ready(experiment, with_trials(assignments, trials), search=True)
    from seekr_tune.study.plan.plan import plan_study
    from seekr_tune.study.search.space import space_of

    show(plan_study(config, space_of(config, experiment), console(stderr=True)).summary())
    for note in notes:
        say(f"warning: {note}")


@app.command()
def sweep(
    experiment: Experiment,
    assignments: Assignments = None,
    trials: Trials = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the study. [default: runs/<name>]")] = None,
    address: Address = None,
    enqueue: Enqueue = None,
    warm_start: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Study whose results the sampler learns from; may be given several times."),
    ] = None,
) -> None:
    """Run a study and rank its trials.

    The first trial has the published settings, the others are proposed by the sampler. Ctrl-C saves the steps that are
    running; `resume` goes on.
    """
    config, notes = ready(experiment, with_trials(assignments, trials), search=True)
    from seekr_tune.study.life.study import start_study

    directory = writable(out or default_study_directory(config))
    start_study(
        config,
        experiment,
        directory,
        address=address,
        console=console(stderr=True),
        enqueue=enqueue,
        warm_start=warm_start or (),
        notes=notes,
    )
    finish_study(directory)


@app.command()
def resume(
    directory: Directory,
    trials: Annotated[int | None, typer.Option(min=1, help="New total of trials.")] = None,
    address: Address = None,
    enqueue: Enqueue = None,
    accept_change: AcceptChange = False,
) -> None:
    """Go on with a study.

    Unfinished trials continue from their checkpoints, then new ones start up to the total.
    """
    from seekr_tune.study.life.study import resume_study

    resume_study(
        directory,
        trials=trials,
        address=address,
        console=console(stderr=True),
        enqueue=enqueue,
        accept_change=accept_change,
    )
    finish_study(directory)


@app.command()
def stop(
    directory: Directory,
    timeout: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for the running steps.")] = 600.0,
) -> None:
    """End a running study, wherever it was started.

    Steps that are running are finished and saved; `resume` goes on (`finalize`, where its runs were stopped).
    """
    from seekr_tune.study.directory.test_split_log import openings
    from seekr_tune.study.life.stopping import stop_study

    if stop_study(directory, timeout, say):
        verb = "resume" if all(opening.finished for opening in openings(directory)) else "finalize"
        say(f"stopped; go on with `{ours(verb, directory)}`")
    else:
        say(f"nobody runs {directory}: nothing to stop")


@app.command()
def status(
    directory: Directory,
    watch: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.1, help="Show it again and again, until nobody runs it.")
    ] = None,
) -> None:
    """How far a study is, what is best so far, and how long it will take."""
    from seekr_tune.study.life.status import study_status, watch_study

    if watch is None:
        show(study_status(directory).summary())
        return
    screen = console()
    if not screen.is_terminal:
        watch_study(directory, watch, show)
        return
    from rich.live import Live
    from rich.text import Text

    with Live(console=screen, auto_refresh=False) as live:
        watch_study(directory, watch, lambda text: live.update(Text(text), refresh=True))


@app.command("show")
def show_command(directory: Directory, trial: Trial) -> None:
    """All that belongs to one trial: its runs, files, curves, and its numbers in Optuna and Ray."""
    from seekr_tune.study.life.show import show_trial

    show(show_trial(directory, trial).summary())


@app.command()
def revive(directory: Directory, trial: Trial) -> None:
    """Take up a trial that was pruned.

    The next `resume` goes on with it from its checkpoint, and does not prune it again.
    """
    from seekr_tune.study.life.study import revive_trial

    revive_trial(directory, trial)
    say(f"{trial} will go on with `{ours('resume', directory)}`")


@app.command()
def finalize(
    directory: Directory,
    again: Annotated[bool, typer.Option("--again", help="Open the test split once more, which is noted.")] = False,
    format: Annotated[Format, typer.Option(help="Output.")] = Format.table,
    address: Address = None,
    accept_change: AcceptChange = False,
) -> None:
    """Score the chosen configurations of a finished study on the test split.

    It may be done once: looking again and again makes a result too good.
    """
    from seekr_tune.analysis.final import final_table
    from seekr_tune.study.final.finalize import finalize_study

    table = finalize_study(
        directory, again=again, accept_change=accept_change, address=address, console=console(stderr=True)
    )
    show_table(final_table(asdict(table)), format, asdict(table))
