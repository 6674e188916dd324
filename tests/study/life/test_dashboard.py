"""optuna-dashboard over a study: it shows, and changes nothing."""

from __future__ import annotations

import json
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seekr_tune.cli import main
from seekr_tune.errors import StudyError
from seekr_tune.records import write_record
from seekr_tune.study.directory.layout import journal_path, result_path
from seekr_tune.study.life.dashboard import dashboard_server
from tests.analysis.report.reported import study_records, write_study
from tests.waiting import PATIENCE


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Results made by hand, and a journal of two trials."""
    directory = tmp_path / "study"
    directory.mkdir()
    write_study(directory)
    for record in study_records():
        write_record(result_path(directory, record.trial), record)
    journal_path(directory).parent.mkdir()
    search = optuna.create_study(study_name="seekr-tune", storage=storage(directory), direction="maximize")
    for value in (60.0, 75.0):
        trial = search.ask({"method.memory.percent": optuna.distributions.FloatDistribution(1, 10)})
        search.tell(trial, value)
    return directory


def storage(directory: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(journal_path(directory))))


class serving:
    """The server of the command, in a thread."""

    def __init__(self, directory: Path) -> None:
        self._context = dashboard_server(directory, "127.0.0.1", 0)

    def __enter__(self) -> str:
        self._server = self._context.__enter__()
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._context.__exit__(None, None, None)


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT"])
def test_nothing_can_be_changed_from_the_browser(study: Path, method: str) -> None:
    before = journal_path(study).read_bytes()
    with serving(study) as url:
        request = urllib.request.Request(f"{url}/api/studies/0", method=method, data=b"{}")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=PATIENCE)
        assert refused.value.code == 405 and b"the study has one writer" in refused.value.read()
        assert json.load(urllib.request.urlopen(f"{url}/api/studies", timeout=PATIENCE))["study_summaries"]
    assert journal_path(study).read_bytes() == before


def test_what_cannot_be_shown_is_refused_in_one_line(study: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        with dashboard_server(tmp_path, "127.0.0.1", 0):
            pass
    with dashboard_server(study, "127.0.0.1", 0) as server:
        with pytest.raises(StudyError, match=r"cannot be listened on .*give another --port"):
            with dashboard_server(study, "127.0.0.1", server.server_port):
                pass
    journal_path(study).write_bytes(b"{no journal}\n{}\n")
    with pytest.raises(StudyError, match="`seekr-tune resume .*` builds it anew"):
        with dashboard_server(study, "127.0.0.1", 0):
            pass


@pytest.mark.parametrize("command", ["dashboard", "tensorboard"])
def test_the_commands_say_where_they_listen_until_they_are_ended(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    @contextmanager
    def board(*_: object) -> Iterator[str]:
        yield "http://127.0.0.1:6006/"

    monkeypatch.setattr("wsgiref.simple_server.WSGIServer.serve_forever", ended)
    monkeypatch.setattr("seekr_tune.study.life.tensorboard_server.open_board", board)
    monkeypatch.setattr(
        "seekr_tune.cli.dashboard.threading", SimpleNamespace(Event=lambda: SimpleNamespace(wait=ended))
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert main([command, str(study), "--port", "0"]) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("http://127.0.0.1:") and "Ctrl-C ends it" in first and last == "ended"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(level)
