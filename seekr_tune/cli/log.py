"""What happened: `log`."""

from __future__ import annotations

from enum import StrEnum
from logging import getLevelNamesMapping
from pathlib import Path
from typing import Annotated

import typer

from seekr_tune.cli.app import app
from seekr_tune.cli.output import show
from seekr_tune.foreign_text import in_one_line


class Level(StrEnum):
    """What is shown of a log, from this on."""

    info = "info"
    warning = "warning"
    error = "error"


@app.command()
def log(
    directory: Annotated[Path, typer.Argument(help="Directory of a study or of a run.", show_default=False)],
    trial: Annotated[str | None, typer.Argument(help="Key of a trial. [default: the study itself]")] = None,
    level: Annotated[Level, typer.Option(help="Leave out what is less.")] = Level.info,
) -> None:
    """What happened to a trial: attempts, tasks, checkpoints, warnings, failures; in UTC.

    Without TRIAL, of the launches of a study, or of a single run. The file is `log.jsonl`, one JSON object a line.
    """
    from seekr_tune.study.directory.log import read_log
    from seekr_tune.study.life.show import run_directory

    place = directory if trial is None else run_directory(directory, trial)
    for entry in sorted(read_log(place, getLevelNamesMapping()[level.upper()]), key=lambda entry: entry.time):
        show(in_one_line(entry))
