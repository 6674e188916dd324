"""The application that the commands join, and what several of them take as arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="seekr-tune",
    help="Hyperparameter studies of SEEKR continual learning.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Experiment = Annotated[Path, typer.Argument(help="Experiment file (YAML).", show_default=False)]
Directory = Annotated[Path, typer.Argument(help="Directory of a study.", show_default=False)]
Trial = Annotated[str, typer.Argument(help="Key of a trial, such as trial-0007.", show_default=False)]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=c ...", help="Set fields of the experiment; values are YAML."),
]
Trials = Annotated[int | None, typer.Option(min=1, help="Trials in total, instead of study.trials.")]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT|auto", help="Ray cluster to use, by its head. [default: this machine only]"),
]
Enqueue = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Configurations to try first: a YAML list of mappings from path to value."),
]
AcceptChange = Annotated[
    bool,
    typer.Option("--accept-change", help="Go on although data or model changed since it was begun; that is noted."),
]
