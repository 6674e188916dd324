"""optuna-dashboard over the journal of a study, which it may only read: a study has one writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from seekr_tune.errors import StudyError
from seekr_tune.foreign_text import ours
from seekr_tune.quiet_libraries import hear_libraries
from seekr_tune.study.directory.layout import journal_path
from seekr_tune.study.directory.lock import require_study

if TYPE_CHECKING:
    pass

Start = Callable[..., Any]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]


def journal_storage(directory: Path) -> BaseStorage:
    """The journal of a study for those who look.

    Raises:
        StudyError: it is missing or damaged.
    """
    path = journal_path(directory)
    hear_libraries()
    try:
        if not path.is_file():
            raise FileNotFoundError(path.name)
        storage = JournalStorage(JournalFileBackend(str(path)))
        storage.get_all_studies()
    except Exception as error:  # Optuna has no errors of its own for a journal that contradicts itself
        raise StudyError(
            f"{path}: cannot be read ({type(error).__name__}); `{ours('resume', directory)}` builds it anew"
        ) from None
    return storage


@contextmanager
def dashboard_server(directory: Path, host: str, port: int) -> Iterator[WSGIServer]:
    """A server of optuna-dashboard that is bound and not yet serving.

    It only shows: what would change the journal (deleting the study, notes) is refused, for a study has one writer.

    Args:
        directory: of the study.
        host: address to listen on.
        port: to listen on; 0 takes a free one, which is in `server_port`.

    Raises:
        StudyError: there is no study, its journal cannot be read, or the port is taken.
    """
    require_study(directory)
    from optuna_dashboard import wsgi

    app = read_only(wsgi(journal_storage(directory)))
    try:
        server = make_server(host, port, app, server_class=_ThreadingServer, handler_class=_SilentHandler)
    except OSError as error:
        raise StudyError(f"{host}:{port}: cannot be listened on ({error.strerror}); give another --port") from None
    with server:
        yield server


def read_only(app: App) -> App:
    """The same application, without what changes something."""

    def guarded(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, start)
        start("405 Method Not Allowed", [("Content-Type", "application/json"), ("Allow", "GET, HEAD")])
        return [b'{"reason": "this dashboard only shows; the study has one writer"}']

    return guarded


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    """A browser opens several connections at once."""

    daemon_threads = True


class _SilentHandler(WSGIRequestHandler):
    """Requests are nobody's news."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
