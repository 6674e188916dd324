"""The command that puts studies beside each other: `compare`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from seekr_tune.cli.app import app
from seekr_tune.cli.output import say, show, show_table
from seekr_tune.errors import StudyError


class ComparisonFormat(StrEnum):
    """Output of a comparison."""

    table = "table"
    json = "json"
    markdown = "markdown"


@app.command()
def compare(
    directories: Annotated[list[Path], typer.Argument(help="Directories of studies or runs.", show_default=False)],
    by: Annotated[str, typer.Option(help="Column that chooses the best ones, and is compared.")] = "op",
    between: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Of one study: the best for each value of a setting."),
    ] = None,
    format: Annotated[ComparisonFormat, typer.Option(help="Output.")] = ComparisonFormat.table,
) -> None:
    """Put studies beside each other, the first one against the others.

    Settings that differ, the best configurations, and differences of scores where orders, seeds and memory draws agree.
    With --between (method.name), of one study: the best configurations for each value of a setting, each with each, on
    `test` where that was opened.
    """
    if between is None and len(directories) < 2:
        raise StudyError("compare needs two directories or more; `seekr-tune ls` lists those at hand")
    if between is not None and len(directories) > 1:
        raise StudyError("--between compares configurations of one study; give one directory")
    from seekr_tune.analysis.comparison import compare as compared
    from seekr_tune.analysis.comparison import compare_values, read_side
    from seekr_tune.analysis.comparison_tables import comparison_tables, comparison_values
    from seekr_tune.analysis.table import as_markdown, json_text
    from seekr_tune.study.directory.layout import experiment_path, is_study, space_path
    from seekr_tune.study.directory.same_inputs import change_lines
    from seekr_tune.study.final.reported import finished_opening
    from seekr_tune.study.life.tensorboard_server import named, tensorboard_command

    studies = named(directories)
    opened = finished_opening(directories[0]) if between is not None else None
    sides = [
        read_side(
            name,
            path / opened.folder if opened else path,
            experiment_path(path),
            space_path(path),
            by,
            change_lines(path),
        )
        if is_study(path)
        else read_side(name, path, path / "config.yaml", None, by, change_lines(path))
        for name, path in studies.items()
    ]
    found = compared(sides) if between is None else compare_values(sides[0], between)
    if format is ComparisonFormat.json:
        show(json_text(comparison_values(found)))
    elif format is ComparisonFormat.markdown:
        show(as_markdown(comparison_tables(found)))
    else:
        for table in comparison_tables(found):
            show_table(table)
    for note in found.notes:
        say(f"note: {note}")
    say(f"curves: {tensorboard_command(studies)}")
