"""What commands say: results on stdout, everything else on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from textwrap import shorten
from traceback import format_exception
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from seekr_tune.errors import StudyError
from seekr_tune.foreign_text import command, in_one_line, ours, printable
from seekr_tune.quiet_libraries import OURS, is_heard, message_of, python_warnings_logged

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    from seekr_tune.analysis.table import Table

_LONGEST_WARNING = 400
_PLAIN_WIDTH = 120  # columns where the output is not a terminal


class Format(StrEnum):
    """Output of tables."""

    table = "table"
    json = "json"
    csv = "csv"


class Evaluator(StrEnum):
    """How the importance of settings is measured; names as `hyperparameters.EvaluatorName`."""

    ranks = "ranks"
    fanova = "fanova"
    mdi = "mdi"
    pedanova = "pedanova"


def say(text: str) -> None:
    """One line beside the results."""
    typer.echo(in_one_line(text), err=True)


def show(result: object, nl: bool = True) -> None:
    """A result: lines of text, JSON, CSV."""
    typer.echo(printable(result), nl=nl)


def say_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A fault of ours, whose message may be anything at all; a `sys.excepthook`."""
    typer.echo(printable("".join(format_exception(kind, error, trace))), err=True, nl=False)


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

    class Guarded(Console):
        """Obeys styles of ours, and no control characters in what is shown."""

        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(printable(text), **how)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    made = Guarded(stderr=stderr)
    return made if made.is_terminal else Guarded(stderr=stderr, width=_PLAIN_WIDTH)


def show_table(table: Table, format: str = Format.table, values: object = None) -> None:
    """A table in the form that was asked for.

    Args:
        table: to be shown; on a line for each row where nobody's terminal is too narrow for that.
        format: one of `Format`.
        values: what JSON holds instead of the rows.
    """
    from rich.measure import Measurement

    from seekr_tune.analysis.table import as_csv, as_terminal, json_text, records

    if format == Format.json:
        show(json_text(records(table) if values is None else values))
    elif format == Format.csv:
        show(as_csv([table]), nl=False)
    else:
        made, shown = console(), as_terminal(table)
        if not made.is_terminal:
            needed = Measurement.get(made, made.options.update(max_width=10 * _PLAIN_WIDTH), shown).maximum
            made.width = max(_PLAIN_WIDTH, needed)
        made.print(shown)


def print_ranking(
    directory: Path, by: str | None = None, format: Format = Format.table, where: Sequence[str] = ()
) -> None:
    """The trials of a study, or a single run; below the table, the numbers of the whole study."""
    from seekr_tune.analysis.gradients import RUN_COLUMNS, dominated
    from seekr_tune.analysis.ledger import read_table, read_trials
    from seekr_tune.analysis.ranking import DEFAULT_COLUMN, study_measures
    from seekr_tune.analysis.ranking import rank as ranked
    from seekr_tune.analysis.ranking_tables import json_rows, study_lines, terminal_ranking, void_lines, whole_ranking
    from seekr_tune.study.directory.test_split_log import protocol_line

    trials = read_trials(directory)
    ranking = ranked(trials, by or DEFAULT_COLUMN, where)
    if format is Format.table:
        show_table(terminal_ranking(ranking))
        for line in void_lines(ranking):
            show(f"WARNING: {line}")
        declared = _sample_range(directory)
        for line in study_lines(study_measures(ranking, declared), declared is not None):
            show(line)
        for line in dominated(trials.select(RUN_COLUMNS).to_pylist(), read_table(directory, "replay")):
            show(line)
    else:
        show_table(whole_ranking(ranking), format, json_rows(ranking))
    print_worths(directory, format)
    protocol = protocol_line(directory)
    if protocol is not None:
        say(protocol)
    say_changes(directory)


def say_changes(directory: Path) -> None:
    """Which changes of data and model were accepted, beside the results that they touch."""
    from seekr_tune.study.directory.same_inputs import change_lines

    for line in change_lines(directory):
        say(f"WARNING: {line}")


def print_worths(directory: Path, format: Format) -> None:
    """What each task is worth; beside JSON and CSV, the warnings alone."""
    from seekr_tune.analysis.table import as_lines
    from seekr_tune.analysis.worth import study_worths
    from seekr_tune.analysis.worth_lines import warnings, worth_table

    if format is Format.table:
        worths = study_worths(directory)
        show("")
        for line in as_lines(worth_table(worths)):
            show(line)
        for line in warnings(worths):
            show(f"WARNING: {line}")
    else:
        say_warnings(directory)


def say_warnings(directory: Path) -> None:
    """What is wrong with the tasks of a study or of a run, beside its results."""
    from seekr_tune.analysis.worth_lines import study_warnings

    for line in study_warnings(directory):
        say(f"WARNING: {line}")


def print_tasks(directory: Path, by: str | None, format: Format, where: Sequence[str]) -> None:
    """The same configurations, with a column for each task."""
    from seekr_tune.analysis.ledger import read_table, read_trials
    from seekr_tune.analysis.ranking import DEFAULT_COLUMN
    from seekr_tune.analysis.ranking import rank as ranked
    from seekr_tune.analysis.ranking_tables import void_lines
    from seekr_tune.analysis.tasks import task_rows, task_table, task_values

    trials = read_trials(directory)
    ranking = ranked(trials, by or DEFAULT_COLUMN, where)
    rows = task_rows(ranking, trials, read_table(directory, "scores"))
    show_table(task_table(rows, ranking.by), format, task_values(rows))
    if format is Format.table:
        for line in void_lines(ranking):
            show(f"WARNING: {line}")
    print_worths(directory, format)
    say_changes(directory)


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
    status = study_status(directory)
    for line in status.twin_lines():
        say(line)
    _say_command("more trials:", f"{ours('resume', directory)} --trials N")
    if status.best is not None:
        _say_command("on test:", ours("finalize", directory))
    _say_command("curves:", command("tensorboard", "--logdir", directory))


def _say_command(what: str, text: str) -> None:
    say(f"{what:<13} {text}")


def writable(directory: Path) -> Path:
    """The directory, once it could be made and a file be written in it; nothing is left of that.

    Raises:
        StudyError: it cannot, or a link stands in it where something is written.
    """
    import os
    import tempfile

    from seekr_tune.study.directory.links import require_no_links

    if not str(directory).strip() or directory.absolute() == Path.cwd():
        raise StudyError("--out is empty, or the working directory itself; name a directory of its own")
    require_no_links(directory)

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
