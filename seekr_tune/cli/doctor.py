"""Command `doctor`: does everything work here, and what a bug report needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seekr_tune.cli.app import app
from seekr_tune.cli.output import say, show
from seekr_tune.errors import StudyError


@app.command()
def doctor(
    directory: Annotated[Path, typer.Argument(help="Where studies are to be written.")] = Path("."),
    quick: Annotated[bool, typer.Option("--quick", help="Start neither the model nor Ray.")] = False,
) -> None:
    """Look at the installation, GPUs, Ray and the disk; print what a bug report needs.

    Exit code 2 if something is in the way of a study.
    """
    from seekr_tune.doctor import examine

    if not directory.is_dir():
        raise StudyError(f"{directory}: no such directory; name the one that studies are to be written to")
    problems = 0
    for finding in examine(directory, quick=quick):
        show(finding)
        problems += finding.state == "problem"
    if problems:
        say(f"{problems} in the way of a study; mend what is called `problem`")
        raise typer.Exit(2)
    say("nothing is in the way of a study; put these lines into a bug report")
