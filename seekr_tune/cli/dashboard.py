"""Commands that open a study in a browser: `dashboard` (Optuna's), `tensorboard`."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from seekr_tune.cli.app import Directory, app
from seekr_tune.cli.output import say

Host = Annotated[str, typer.Option(help="Address to listen on; others than this one let other machines look.")]


@app.command()
def dashboard(
    directory: Directory,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    host: Host = "127.0.0.1",
) -> None:
    """Show a study in optuna-dashboard; also while it runs.

    It only shows: the study cannot be changed there. What is of continual learning is in the report.
    """
    from seekr_tune.study.life.dashboard import dashboard_server

    with dashboard_server(directory.absolute(), host, port) as server:
        _end_by_signals()
        say(f"http://{host}:{server.server_port}/dashboard/studies/0 (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended")


@app.command()
def tensorboard(
    directories: Annotated[list[Path], typer.Argument(help="Directories of studies or runs.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 6006,
    host: Host = "127.0.0.1",
) -> None:
    """Show one or several studies in TensorBoard, each run as STUDY/TRIAL; also while they run."""
    from seekr_tune.study.life.tensorboard_server import named, open_board

    with open_board(named(directories), host, port) as address:
        _end_by_signals()
        say(f"{address} (Ctrl-C ends it)")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("ended")


def _end_by_signals() -> None:
    """SIGTERM ends a server as Ctrl-C does: what it has made is tidied away."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
