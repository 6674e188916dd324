"""TensorBoard over studies: short names of runs, `study/trial-0003`, whatever lies where.

TensorBoard calls a run as its directory, so it is shown a directory of links: one for each run's events. Runs that
begin later get theirs while it is open.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seekr_tune.errors import StudyError
from seekr_tune.foreign_text import command, ours
from seekr_tune.study.directory.layout import is_run, is_study, trials_path

_RELOAD_SECONDS = 5.0
_LAST_RELOAD_SECONDS = 5.0
"""For the one that is under way when the board ends; of a large study it takes longer, and must not hold Ctrl-C up."""

_SEPARATORS = ",:/"
"""What TensorBoard, or a path, would not take as part of a name."""


def named(directories: Sequence[Path]) -> dict[str, Path]:
    """Studies and single runs by a short name each: the directory's, numbered where several have the same.

    Raises:
        StudyError: a directory holds neither, or is named twice.
    """
    found: dict[str, Path] = {}
    for directory in directories:
        whole = directory.absolute()
        if not (is_study(whole) or is_run(whole)):
            raise StudyError(f"{directory}: holds no study and no run; name what `seekr-tune sweep` or `run` printed")
        if whole.resolve() in {path.resolve() for path in found.values()}:
            raise StudyError(f"{directory}: is named twice; give other directories")
        own = whole.name if whole.name != ".." else whole.resolve().name
        plain = own.translate(str.maketrans(_SEPARATORS, "_" * len(_SEPARATORS)))
        name, number = plain, 1
        while name in found:
            number += 1
            name = f"{plain}-{number}"
        found[name] = whole
    return found


def event_directories(studies: Mapping[str, Path]) -> dict[str, Path]:
    """By the name that TensorBoard shall show: the events of each run, final runs too, as far as there are any."""
    return {
        name: path for study, directory in studies.items() for name, path in _events(study, directory) if path.is_dir()
    }


def link(events: Mapping[str, Path], board: Path) -> None:
    """Let `board` hold a link to the events of each run; what is there stays."""
    for name, path in events.items():
        place = board / name
        if not place.is_symlink():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path, target_is_directory=True)


@contextmanager
def open_board(studies: Mapping[str, Path], host: str, port: int) -> Iterator[str]:
    """TensorBoard over studies, with the runs that begin meanwhile; its address.

    It serves in threads of this process, which end with the block.

    Args:
        studies: by name, as `named` gives them.
        host: address to listen on.
        port: to listen on; 0 takes a free one.

    Raises:
        StudyError: no run has begun yet, or the port is taken.
    """
    from tensorboard import program

    events = event_directories(studies)
    if not events:
        raise StudyError(f"{', '.join(map(str, studies.values()))}: no run has begun yet; try again in a while")
    with tempfile.TemporaryDirectory(prefix="seekr-tune-board-") as made:
        link(events, Path(made))
        try:
            server, loaded = _server(made, host, port)
        except program.TensorBoardServerException as error:
            raise StudyError(f"{host}:{port}: {error.msg.splitlines()[0]}; give another --port") from None

        def keep_up() -> None:
            loaded.start()
            while not ended.wait(_RELOAD_SECONDS):
                link(event_directories(studies), Path(made))
                loaded.start()

        ended = threading.Event()
        serving = threading.Thread(target=server.serve_forever, name="TensorBoard", daemon=True)
        loading = threading.Thread(target=keep_up, name="TensorBoard's files", daemon=True)
        serving.start()
        loading.start()
        try:
            yield str(server.get_url())
        finally:
            ended.set()
            server.shutdown()
            serving.join()
            server.server_close()
            loading.join(_LAST_RELOAD_SECONDS)


def _server(logdir: str, host: str, port: int) -> tuple[Any, Any]:
    """TensorBoard's server, bound and not yet serving, and what reads its files: once with every `start()`.

    `program.TensorBoard.launch` would begin both in threads that nothing ends.
    """
    from tensorboard import default, program
    from tensorboard.backend import application
    from tensorboard.backend.event_processing.data_ingester import LocalDataIngester

    board = program.TensorBoard(default.get_plugins())
    once = ("--reload_task", "blocking", "--reload_interval", "0")
    # The fast loader would be another process, which outlives a kill of this one.
    board.configure(argv=["", "--logdir", logdir, "--host", host, "--port", str(port), "--load_fast", "false", *once])
    loaded = LocalDataIngester(board.flags)
    found = loaded.data_provider, board.assets_zip_provider, loaded.deprecated_multiplexer
    app = application.TensorBoardWSGIApp(board.flags, board.plugin_loaders, *found)
    return program.WerkzeugServer(app, board.flags), loaded


def tensorboard_command(studies: Mapping[str, Path]) -> str:
    """A command that opens these studies in TensorBoard: its own, or ours where a path has a comma, which its lacks."""
    places = {name: trials_path(path) if is_study(path) else path / "events" for name, path in studies.items()}
    if any("," in str(path) for path in places.values()):
        return ours("tensorboard", *studies.values())
    spec = ",".join(f"{name}:{path}" for name, path in places.items())
    return command("tensorboard", "--logdir_spec", spec)


def _events(study: str, directory: Path) -> Iterator[tuple[str, Path]]:
    if not is_study(directory):
        yield study, directory / "events"
        return
    for run in sorted(trials_path(directory).glob("*")):
        yield f"{study}/{run.name}", run / "events"
    for folder in sorted(directory.glob("final*")):
        for run in sorted(trials_path(folder).glob("*")):
            yield f"{study}/{folder.name}/{run.name}", run / "events"
