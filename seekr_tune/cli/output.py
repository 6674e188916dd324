"""What commands say: results on stdout, everything else on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import typer

from seekr_tune.errors import StudyError
from seekr_tune.noise import OURS, is_heard, message_of, python_warnings_logged

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LONGEST_WARNING = 400
_PLAIN_WIDTH = 120  # columns where the output is not a terminal


class Format(StrEnum):
    """Output of tables."""

    table = "table"
    json = "json"
    csv = "csv"


class Evaluator(StrEnum):
    """How the importance of settings is measured; names as `hyperparameters.EvaluatorName`."""

    fanova = "fanova"
    mdi = "mdi"
    pedanova = "pedanova"


def say(text: str) -> None:
    """One line beside the results."""
    typer.echo(text, err=True)


class _Lines(logging.Handler):
    """A line on stderr for each warning, once; what is an event in a log only has lines of its own."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(is_heard)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        is_ours = record.name.startswith(OURS)
        who = getattr(record, "fields", {}).get("place", record.name)
        text = " ".join(f"{'' if is_ours else f'{who}: '}{message_of(record)}".split())
        if text not in self._said and not (is_ours and hasattr(record, "fields")):
            self._said.add(text)
            say(f"warning: {text}" if is_ours else f"warning: {shorten(text, _LONGEST_WARNING)}")


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Show warnings for the time of the block: ours, and what libraries say that `noise.NOISE` does not name."""
    root, lines = logging.getLogger(), _Lines()
    root.addHandler(lines)
    try:
        with python_warnings_logged():
            yield
    finally:
        root.removeHandler(lines)


def console(stderr: bool = False) -> Console:
    """A console that does not fold lines where nobody looks."""
    from rich.console import Console

    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=_PLAIN_WIDTH)


def print_table(table: Table) -> None:
    """A table, on a line for each row where nobody's terminal is too narrow for that."""
    from rich.measure import Measurement

    made = console()
    if not made.is_terminal:
        needed = Measurement.get(made, made.options.update(max_width=10 * _PLAIN_WIDTH), table).maximum
        made.width = max(_PLAIN_WIDTH, needed)
    made.print(table)


def print_ranking(
    directory: Path, by: str | None = None, format: Format = Format.table, where: Sequence[str] = ()
) -> None:
    """The trials of a study, or a single run; below the table, the numbers of the whole study."""
    from seekr_tune.analysis.ledger import read_trials
    from seekr_tune.analysis.ranking import DEFAULT_COLUMN, study_measures
    from seekr_tune.analysis.ranking import rank as ranked
    from seekr_tune.analysis.tables import study_lines, terminal_table, to_csv, to_json
    from seekr_tune.study.directory.openings import protocol_line
    from seekr_tune.study.directory.provenance import change_lines

    ranking = ranked(read_trials(directory), by or DEFAULT_COLUMN, where)
    if format is Format.json:
        typer.echo(to_json(ranking))
    elif format is Format.csv:
        typer.echo(to_csv(ranking), nl=False)
    else:
        print_table(terminal_table(ranking))
        declared = _sample_range(directory)
        for line in study_lines(study_measures(ranking, declared), declared is not None):
            typer.echo(line)
    protocol = protocol_line(directory)
    if protocol is not None:
        say(protocol)
    for line in change_lines(directory):
        say(line)


def print_tasks(directory: Path, by: str | None, format: Format, where: Sequence[str]) -> None:
    """The same configurations, with a column for each task."""
    from seekr_tune.analysis.ledger import read_table, read_trials
    from seekr_tune.analysis.ranking import DEFAULT_COLUMN
    from seekr_tune.analysis.ranking import rank as ranked
    from seekr_tune.analysis.task_tables import task_csv, task_json, terminal_task_table
    from seekr_tune.analysis.tasks import task_rows

    trials = read_trials(directory)
    ranking = ranked(trials, by or DEFAULT_COLUMN, where)
    rows = task_rows(ranking, trials, read_table(directory, "scores"))
    if format is Format.table:
        print_table(terminal_task_table(rows, ranking.by))
    else:
        typer.echo(task_json(rows) if format is Format.json else task_csv(rows).rstrip("\n"))


def _sample_range(directory: Path) -> tuple[float, float] | None:
    """What the experiment of a study declares; None where it does not, and for a single run."""
    from seekr_tune.experiment import load_experiment
    from seekr_tune.study.directory.layout import experiment_path

    path = experiment_path(directory)
    return load_experiment(path).study.sample_range if path.is_file() else None


def finish_study(directory: Path) -> None:
    """The ranking of a study that has come to its end, and what to do with it."""
    from seekr_tune.study.life.status import study_status

    print_ranking(directory)
    for line in study_status(directory).twin_lines():
        say(line)
    say(f"more trials:  seekr-tune resume {directory} --trials N")
    say(f"on test:      seekr-tune finalize {directory}")
    say(f"curves:       tensorboard --logdir {directory}")


def writable(directory: Path) -> Path:
    """The directory, once it could be made and a file be written in it; nothing is left of that."""
    import os
    import tempfile

    whole = directory.absolute()
    missing = [path for path in (whole, *whole.parents) if not os.path.exists(path)]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"\0" * 4096)  # a full disk still makes empty files
    except OSError as error:
        shown = str(directory) if len(str(directory)) <= 200 else f"{str(directory)[:200]}..."
        raise StudyError(f"{shown}: cannot be written to ({error.strerror}); choose another --out") from None
    finally:
        for path in missing:
            if os.path.isdir(path):
                path.rmdir()
    return directory
