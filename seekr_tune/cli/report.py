"""The command that makes a study into one page: `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seekr_tune.cli.app import Directory, app
from seekr_tune.cli.output import show
from seekr_tune.errors import StudyError


@app.command()
def report(
    directory: Directory,
    out: Annotated[Path | None, typer.Option(help="File to write. [default: DIRECTORY/report/index.html]")] = None,
    open: Annotated[bool, typer.Option("--open/--no-open", help="Show it in the browser.")] = False,
) -> None:
    """Write one HTML page that shows a study, at any time.

    It needs no network, so it can be sent and kept.
    """
    from seekr_tune.analysis.report.page import report_page
    from seekr_tune.atomic_files import write_atomically
    from seekr_tune.leftovers import remove_remains_of
    from seekr_tune.study.directory.links import require_no_links
    from seekr_tune.study.directory.report_source import report_source

    path = out or directory / "report" / "index.html"
    if path.absolute().is_relative_to(directory.absolute()):
        require_no_links(directory)
    page = report_page(report_source(directory)).encode()
    try:
        remove_remains_of(path)
        write_atomically(path, page)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise StudyError(f"{path}: cannot be written to ({error.strerror}); give another --out") from None
    show(path)
    if open:
        typer.launch(path.absolute().as_uri())
