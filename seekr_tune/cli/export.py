"""Commands that hand something on: `export` (tables, a model)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seekr_tune.cli.app import app
from seekr_tune.cli.output import say, show
from seekr_tune.errors import StudyError

if TYPE_CHECKING:
    from seekr_tune.analysis.table import Table


class TableKind(StrEnum):
    """Tables that can be exported."""

    ranking = "ranking"
    matrix = "matrix"
    tasks = "tasks"


class TableFormat(StrEnum):
    """Forms of an exported table."""

    csv = "csv"
    json = "json"
    markdown = "markdown"
    latex = "latex"


class TableSplit(StrEnum):
    """Which scores: those of the search, or those of the final runs."""

    eval = "eval"
    test = "test"


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(help="Directory of a study or of a run.", show_default=False)],
    table: Annotated[
        TableKind | None,
        typer.Option(help="A table: of all configurations, of the matrix of one, of the tasks of the chosen ones."),
    ] = None,
    format: Annotated[TableFormat, typer.Option(help="Form of the table.")] = TableFormat.markdown,
    split: Annotated[
        TableSplit, typer.Option(help="Scores in the table: eval, or test, which `finalize` opened.")
    ] = TableSplit.eval,
    by: Annotated[str | None, typer.Option(help="Column that ranks. [default: op_per_replayed_sample]")] = None,
    best: Annotated[bool, typer.Option("--best", help="The model that is best in what the study optimises.")] = False,
    trial: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="The model of trial-0003, trial-0003-r1, final/trial-0003; the table of it."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where to: a new directory (model), a file (table).")
    ] = None,
) -> None:
    """Write a table for a paper, or a model that transformers and PEFT load.

    seekr-tune export DIR --table tasks --format latex --to tasks.tex

    seekr-tune export DIR --best --to models/best
    """
    if table is not None:
        if best:
            raise StudyError("--best exports a model and --table a table; give one of them")
        _export_tables(_tables(directory, table, split, by, trial or []), format, to)
    elif best or trial:
        if to is None:
            raise StudyError("a model needs a place: give a new directory with --to PATH")
        if best and trial or len(trial or []) > 1:
            raise StudyError("one model at a time: give --best, or --trial KEY once")
        _export_model(directory, trial[0] if trial else None, to)
    else:
        raise StudyError("say what: --table ranking|matrix|tasks, --best, or --trial KEY")


def _export_model(directory: Path, trial: str | None, to: Path) -> None:
    from seekr_tune.study.final.export import export_model

    made = export_model(directory, to, trial=trial)
    say(f"{made.run} ({made.why}), checkpoint {made.checkpoint}")
    show(made.target)


def _export_tables(tables: list[Table], format: TableFormat, to: Path | None) -> None:
    from seekr_tune.analysis.table import as_csv, as_json, as_latex, as_markdown
    from seekr_tune.atomic_files import write_atomically
    from seekr_tune.study.directory.placement import require_outside

    if to is not None:
        require_outside(to, "a table")
    render = {"csv": as_csv, "json": as_json, "markdown": as_markdown, "latex": as_latex}[format.value]
    text = render(tables)
    if to is None:
        show(text, nl=False)
        return
    try:
        write_atomically(to, text.encode())
    except OSError as error:
        raise StudyError(f"{to}: cannot be written to ({error.strerror}); give another --to") from None
    show(to)


def _tables(directory: Path, kind: TableKind, split: TableSplit, by: str | None, trials: list[str]) -> list[Table]:
    from seekr_tune.study.final.printed import printed_matrices, printed_ranking, printed_tasks

    if kind is TableKind.ranking:
        return [printed_ranking(directory, split.value, by)]
    if kind is TableKind.matrix:
        return printed_matrices(directory, split.value, trials)
    return [printed_tasks(directory, split.value, trials)]
