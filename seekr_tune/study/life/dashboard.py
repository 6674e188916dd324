"""Our plots in optuna-dashboard: the front, the score matrix and the heads of the best configuration.

They are kept in the journal of the search, which is read whole at every start and has one writer. So a plot has a fixed
name, is written again only when it has changed, and is left out when it is large; the caller holds the study.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from seekr_tune.analysis.ledger import read_table, read_trials
from seekr_tune.analysis.ranking import rank
from seekr_tune.errors import StudyError
from seekr_tune.experiment import load_experiment
from seekr_tune.foreign_text import ours
from seekr_tune.quiet_libraries import hear_libraries
from seekr_tune.records import tuning_split
from seekr_tune.study.directory.layout import experiment_path, journal_path
from seekr_tune.study.directory.links import require_no_links
from seekr_tune.study.directory.lock import StudyLock, require_study
from seekr_tune.study.runs.outcome import read_record_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PUSHED = "plots"
"""Attribute of the Optuna study: a digest of each plot that it holds."""

_MOST_BYTES = 200_000
"""A plot that is larger would slow down every start of the study; the report has it."""

_CARD_HEIGHT = 430  # pixels

_logger = logging.getLogger(__name__)

Start = Callable[..., Any]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]


def study_figures(directory: Path) -> dict[str, go.Figure]:
    """What is shown of a study, by a fixed name; empty before a configuration is finished.

    Args:
        directory: of the study; its ledger is read.

    Raises:
        StudyError: there is no ledger, or it is damaged.
    """
    from seekr_tune.analysis.head_maps import head_maps
    from seekr_tune.analysis.report.figures.heads import head_map_figure
    from seekr_tune.analysis.report.figures.matrices import matrix_figure
    from seekr_tune.analysis.report.figures.pareto import pareto_figure
    from seekr_tune.analysis.score_tables import scores_of

    objective = next(iter(load_experiment(experiment_path(directory)).study.objectives))
    ranking = rank(read_trials(directory), objective)
    best = next((row["trial"] for row in ranking.rows if row["rank"] == 1), None)
    if best is None:
        return {}
    found = {"pareto": _titled(pareto_figure(ranking), "Pareto front: OP over replayed samples")}
    record = read_record_of(directory, best)
    split = None if record is None else tuning_split(record)
    if record is not None and split is not None:
        scores = scores_of(record, split)
        matrix = matrix_figure(scores.scores, scores.order, scores.initial)
        found["score-matrix"] = _titled(matrix, f"Scores of {best} on {split}, in percent")
    heads = read_table(directory, "heads", [best])
    if heads.num_rows:
        maps = head_maps(heads, best)
        for name, values in (("importance", maps.importance), ("selected", maps.selected)):
            found[f"heads-{name}"] = _titled(head_map_figure(values, maps.tasks, name), f"Heads of {best}: {name}")
    return found


def push_plots(study: optuna.Study, figures: Mapping[str, go.Figure]) -> list[str]:
    """Put plots into an Optuna study; the names of those that were new or had changed."""
    from optuna_dashboard import save_plotly_graph_object

    digests = dict(study.user_attrs.get(_PUSHED, {}))
    pushed = []
    for name, figure in figures.items():
        text = figure.to_json()
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        if len(text) > _MOST_BYTES:
            _logger.warning(
                "the plot %r has %d bytes and is not put into the journal; it is in the report", name, len(text)
            )
        elif digests.get(name) != digest:
            save_plotly_graph_object(study, figure, graph_object_id=name)
            digests[name] = digest
            pushed.append(name)
    if pushed:
        study.set_user_attr(_PUSHED, digests)
    return pushed


def push_study_plots(study: optuna.Study, directory: Path) -> None:
    """The plots of a study whose runs have ended; what goes wrong is said, and costs the study nothing."""
    try:
        push_plots(study, study_figures(directory))
    except Exception as error:
        _logger.warning("%s: no plots for optuna-dashboard (%s: %s)", directory, type(error).__name__, error)


def refresh(directory: Path) -> str | None:
    """Bring the plots up to date, if nobody runs the study; else why they are as they were.

    Raises:
        StudyError: there is no study, its journal cannot be read, or a link stands where something is written.
    """
    require_study(directory)
    require_no_links(directory)
    storage = journal_storage(directory)
    try:
        with StudyLock(directory):
            study = optuna.load_study(study_name=None, storage=storage)
            push_plots(study, study_figures(directory))
    except StudyError as error:
        return str(error)
    return None


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
        StudyError: the journal cannot be read, or the port is taken.
    """
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


def _titled(figure: go.Figure, title: str) -> go.Figure:
    """With a title above, for the dashboard has none, and no higher than its cards."""
    height = min(figure.layout.height or _CARD_HEIGHT, _CARD_HEIGHT)
    figure.update_layout(title={"text": title, "y": 0.98, "yanchor": "top"}, margin_t=90, height=height)
    return figure
