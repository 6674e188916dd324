"""The command line: parse, call, print. What a command does is in the modules that it calls.

Exit codes: 0 done; 2 the user can mend it (one line on stderr that says how); 3 the gate of `extend` refused an update;
1 a fault of ours (a traceback).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seekr_tune.errors import ConfigError, StudyError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from seekr_tune.config import Config

USER_ERROR = 2
REFUSED_BY_GATE = 3
_PLAIN_WIDTH = 120  # columns where the output is not a terminal

app = typer.Typer(
    name="seekr-tune",
    help="Hyperparameter studies of SEEKR continual learning.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Format(StrEnum):
    """Output of `rank`."""

    table = "table"
    json = "json"
    csv = "csv"


Experiment = Annotated[Path, typer.Argument(help="Experiment file (YAML).", show_default=False)]
Directory = Annotated[Path, typer.Argument(help="Directory of a study.", show_default=False)]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=c ...", help="Set fields of the experiment; values are YAML."),
]
Trials = Annotated[int | None, typer.Option(min=1, help="Trials in total, instead of study.trials.")]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT|auto", help="Ray cluster to use, by its head. [default: this machine only]"),
]


@app.command()
def run(
    experiment: Experiment,
    assignments: Assignments = None,
    out: Annotated[Path | None, typer.Option(help="Output directory. [default: runs/<name>-<fingerprint>]")] = None,
    address: Address = None,
) -> None:
    """Learn one stream with the settings in its file.

    Run again in the same directory, it goes on behind the last finished task.
    """
    config = _ready(experiment, assignments, search=False)
    from seekr_tune.study.trial import run_experiment

    directory = _writable(out or default_run_directory(config))
    run_experiment(config, directory, address=address, console=_console(stderr=True))
    _print_ranking(directory, by=None)
    _say(f"results: {directory}")


@app.command()
def sweep(
    experiment: Experiment,
    assignments: Assignments = None,
    trials: Trials = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the study. [default: runs/<name>]")] = None,
    address: Address = None,
) -> None:
    """Run a study and rank its trials.

    The first trial has the published settings, the others are proposed by the sampler.
    """
    config = _ready(experiment, _with_trials(assignments, trials), search=True)
    from seekr_tune.study.study import start_study

    directory = _writable(out or default_study_directory(config))
    start_study(config, experiment, directory, address=address, console=_console(stderr=True))
    _finish_study(directory)


@app.command()
def resume(
    directory: Directory,
    trials: Annotated[int | None, typer.Option(min=1, help="New total of trials.")] = None,
    address: Address = None,
) -> None:
    """Go on with a study.

    Unfinished trials continue from their checkpoints, then new ones start up to the total.
    """
    from seekr_tune.study.study import resume_study

    resume_study(directory, trials=trials, address=address, console=_console(stderr=True))
    _finish_study(directory)


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
) -> None:
    """Learn one more task at the end of a finished run.

    The run keeps its old model until the update is complete, and for good if the gate refuses it (exit code 3).
    """
    from seekr_tune.study.extend import extend_run

    update = extend_run(
        directory,
        task,
        max_forgetting=max_forgetting,
        epochs=epochs,
        metric=metric,
        address=address,
        console=_console(stderr=True),
    )
    _print_ranking(directory, by=None)
    for name, points in update.forgetting.items():
        _say(f"{name}: {0.0 - points:+.1f} points")
    if not update.accepted:
        _say(f"refused: an earlier task lost more than {max_forgetting:g} points; {directory} is as it was")
        raise typer.Exit(REFUSED_BY_GATE)
    _say(f"results: {directory}")


@app.command()
def status(directory: Directory) -> None:
    """How far a study is."""
    from seekr_tune.study.study import study_status

    typer.echo(study_status(directory).summary())


@app.command()
def validate(
    experiment: Annotated[Path | None, typer.Argument(help="Experiment file (YAML).", show_default=False)] = None,
    assignments: Assignments = None,
    fields: Annotated[bool, typer.Option("--fields", help="List every field instead, as Markdown.")] = False,
) -> None:
    """Check an experiment without training.

    Looks at its fields, its search space, its data and its model, as far as they are at hand.
    """
    if fields:
        from seekr_tune.catalogue import fields_as_markdown

        typer.echo(fields_as_markdown())
        return
    if experiment is None:
        raise ConfigError("validate needs an experiment file; `seekr-tune ls` lists the ones at hand")
    from seekr_tune.experiment import load_experiment
    from seekr_tune.validation import validate as check

    findings = check(load_experiment(experiment, assignments or ()), experiment)
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.checked else 'note'}  {finding.subject:<7} {finding.text}")


@app.command()
def ls() -> None:
    """List what is in this folder.

    Experiments, search spaces, and the results under runs/.
    """
    from seekr_tune.catalogue import catalogue

    found = catalogue()
    for entry in found.experiments:
        typer.echo(f"experiment  {entry.path}  {entry.summary}")
    for path in found.spaces:
        typer.echo(f"space       {path}")
    for kind, path in found.results:
        typer.echo(f"{kind:<10}  {path}")
    if not (found.experiments or found.spaces or found.results):
        typer.echo("nothing here: no experiments/*.yaml, search_spaces/*.yaml or runs/*")


@app.command()
def rank(
    directory: Annotated[Path, typer.Argument(help="Directory of a study or of a run.", show_default=False)],
    by: Annotated[str | None, typer.Option(help="Column that orders. [default: op_per_replayed_sample]")] = None,
    format: Annotated[Format, typer.Option(help="Output.")] = Format.table,
) -> None:
    """Rank the trials of a study, the best first."""
    _print_ranking(directory, by, format)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` by default); returns the exit code."""
    # Read when the libraries are imported: no progress bars (of transformers too), and an error is said once, by us.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")
    arguments = one_flag_per_assignment(sys.argv[1:] if argv is None else argv)
    try:
        code: Any = app(args=arguments or ["--help"], prog_name="seekr-tune", standalone_mode=False)
    except UserError as error:
        return _refuse(str(error))
    except typer.TyperException as error:
        return _refuse(_usage(error))
    return code if isinstance(code, int) else 0


def one_flag_per_assignment(arguments: Sequence[str]) -> list[str]:
    """Let one `--set` take several assignments: `--set a=1 b=2` becomes `--set a=1 --set b=2`."""
    expanded: list[str] = []
    after_set = False
    for argument in arguments:
        is_assignment = "=" in argument and not argument.startswith("-")
        if after_set and is_assignment and expanded[-1] != "--set":
            expanded.append("--set")
        after_set = argument == "--set" or (after_set and is_assignment)
        expanded.append(argument)
    return expanded


def default_study_directory(config: Config) -> Path:
    """One study an experiment; another one of the same name needs `--out`."""
    return Path("runs") / config.name


def default_run_directory(config: Config) -> Path:
    """The same settings find the same directory, and go on there; other settings find another one."""
    import hashlib
    import json

    from seekr_tune.experiment import flatten

    learned = {path: value for path, value in flatten(config).items() if not path.startswith(("study.", "training."))}
    fingerprint = hashlib.sha256(json.dumps(learned, sort_keys=True).encode()).hexdigest()[:8]
    return Path("runs") / f"{config.name}-{fingerprint}"


def _ready(experiment: Path, assignments: Sequence[str] | None, search: bool) -> Config:
    from seekr_tune.experiment import load_experiment
    from seekr_tune.validation import require_ready

    return require_ready(load_experiment(experiment, assignments or ()), experiment, search=search)


def _with_trials(assignments: Sequence[str] | None, trials: int | None) -> list[str]:
    return [*(assignments or ()), *([] if trials is None else [f"study.trials={trials}"])]


def _writable(directory: Path) -> Path:
    """The directory, once it could be made and a file be written in it; nothing is left of that."""
    import tempfile

    whole = directory.absolute()
    try:
        missing = [path for path in (whole, *whole.parents) if not path.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
        for path in missing:
            path.rmdir()
        return directory
    except OSError as error:
        raise StudyError(f"{directory}: cannot be written to ({error.strerror}); choose another --out") from None


def _finish_study(directory: Path) -> None:
    _print_ranking(directory, by=None)
    _say(f"more trials:  seekr-tune resume {directory} --trials N")
    _say(f"curves:       tensorboard --logdir {directory}")


def _print_ranking(directory: Path, by: str | None, format: Format = Format.table) -> None:
    from seekr_tune.analysis.ledger import read_trials
    from seekr_tune.analysis.ranking import DEFAULT_COLUMN
    from seekr_tune.analysis.ranking import rank as ranked
    from seekr_tune.analysis.tables import terminal_table, to_csv, to_json

    ranking = ranked(read_trials(directory), by or DEFAULT_COLUMN)
    if format is Format.json:
        typer.echo(to_json(ranking))
    elif format is Format.csv:
        typer.echo(to_csv(ranking), nl=False)
    else:
        _console().print(terminal_table(ranking))


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_PLAIN_WIDTH)


def _usage(error: typer.TyperException) -> str:
    """What was wrong with the command line, and where its options are listed."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "seekr-tune"
    message = getattr(error, "format_message", error.__str__)()
    return f"{message.rstrip('.')}; see `{command} --help`"


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _refuse(message: str) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
