"""Our plots in the journal of a search: there once, replaced when they change, never in the way."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import optuna
import plotly.graph_objects as go
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seekr_tune.errors import StudyError
from seekr_tune.records import write_record
from seekr_tune.study.directory.layout import journal_path, result_path
from seekr_tune.study.directory.lock import StudyLock
from seekr_tune.study.life import dashboard
from seekr_tune.study.life.dashboard import dashboard_server, push_plots, push_study_plots, refresh, study_figures
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


def opened(directory: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=storage(directory))


def shown(directory: Path) -> dict[str, str]:
    """The plots as the dashboard's own application hands them to the browser, by name."""
    with serving(directory) as url:
        detail = json.load(urllib.request.urlopen(f"{url}/api/studies/0", timeout=PATIENCE))
    return {plot["id"]: plot["graph_object"] for plot in detail["plotly_graph_objects"]}


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


def test_the_dashboard_has_the_front_the_matrix_and_the_heads_of_the_best_one(study: Path) -> None:
    assert refresh(study) is None
    plots = shown(study)
    assert plots.keys() == {"pareto", "score-matrix", "heads-importance", "heads-selected"}
    assert json.loads(plots["score-matrix"])["layout"]["title"]["text"] == "Scores of trial-0002 on eval, in percent"
    drawn = study_figures(study)
    assert all(plots[name] == figure.to_json() for name, figure in drawn.items())
    assert [trial.value for trial in opened(study).trials] == [60.0, 75.0]


def test_pushing_again_writes_nothing_and_what_changed_replaces_the_old_one(study: Path) -> None:
    first = {"a": go.Figure(go.Scatter(y=list(range(2000)))), "b": go.Figure(go.Scatter(y=[1]))}
    search = opened(study)
    assert push_plots(search, first) == ["a", "b"]
    size = journal_path(study).stat().st_size
    for _ in range(3):
        assert push_plots(opened(study), first) == []
    assert journal_path(study).stat().st_size == size
    smaller = {**first, "a": go.Figure(go.Scatter(y=[3]))}  # in fewer pieces than the old one
    assert push_plots(opened(study), smaller) == ["a"]
    assert shown(study) == {name: figure.to_json() for name, figure in smaller.items()}


def test_the_plots_of_a_study_are_small_beside_its_journal(study: Path) -> None:
    before = journal_path(study).stat().st_size
    refresh(study)
    assert journal_path(study).stat().st_size - before < 40_000


def test_a_large_plot_is_left_out_and_that_is_said(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    large = go.Figure(go.Scatter(text=["x" * 100] * 3000))
    assert push_plots(opened(study), {"large": large, "small": go.Figure()}) == ["small"]
    assert "the plot 'large' has" in caplog.text


def test_a_failure_to_draw_costs_the_study_nothing_and_is_said(
    study: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(directory: Path) -> dict[str, go.Figure]:
        raise ZeroDivisionError("no ink")

    monkeypatch.setattr(dashboard, "study_figures", broken)
    before = journal_path(study).read_bytes()
    push_study_plots(opened(study), study)
    assert "no plots for optuna-dashboard (ZeroDivisionError: no ink)" in caplog.text
    assert journal_path(study).read_bytes() == before


def test_while_somebody_runs_the_study_nothing_is_written(study: Path) -> None:
    before = journal_path(study).read_bytes()
    with StudyLock(study):
        assert "is being run by process" in str(refresh(study))
    assert journal_path(study).read_bytes() == before


def test_a_study_without_a_finished_configuration_has_no_plots(tmp_path: Path) -> None:
    write_study(tmp_path, [record for record in study_records() if record.status == "failed"])
    assert study_figures(tmp_path) == {}


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
        refresh(tmp_path)
    with dashboard_server(study, "127.0.0.1", 0) as server:
        with pytest.raises(StudyError, match=r"cannot be listened on .*give another --port"):
            with dashboard_server(study, "127.0.0.1", server.server_port):
                pass
    journal_path(study).write_bytes(b"{no journal}\n{}\n")
    with pytest.raises(StudyError, match="`seekr-tune resume .*` builds it anew"):
        refresh(study)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(level)
