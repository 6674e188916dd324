"""What starting, resuming and looking at a study refuse and report; nothing here starts Ray."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from filelock import FileLock

from seekr_tune.analysis.ledger import read_trials
from seekr_tune.analysis.record import write_record
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import dump_config, load_experiment, with_values
from seekr_tune.study.layout import driver_path, experiment_path, result_path, space_path
from seekr_tune.study.outcome import new_record, run_failed
from seekr_tune.study.request import TrialRequest
from seekr_tune.study.search import TrialQueue, open_study
from seekr_tune.study.space import Space
from seekr_tune.study.study import resume_study, start_study, study_status
from tests.study.conftest import Finish


@pytest.fixture
def study(tmp_path: Path, config: Config, space: Space, finish: Finish) -> Path:
    """A study of two trials and a bound, all finished."""
    directory = tmp_path / "study"
    config = with_values(config, {"study.trials": 2, "study.bounds": ["seqft"]})
    queue = TrialQueue(open_study(directory, config, space), space, config, directory)
    for op in (30.0, 50.0, 60.0):
        request = queue.next()
        assert request is not None
        finish(request.config(config), request, op=op)
        queue.finish(request)
    space_path(directory).write_text(space.dump())
    experiment_path(directory).write_text(dump_config(config))
    return directory


def test_a_directory_that_holds_a_study_is_not_started_again(study: Path, config: Config, space: Space) -> None:
    with pytest.raises(StudyError, match=f"holds a study already; go on with `seekr-tune resume {study}`"):
        start_study(config, space, study)


def test_a_directory_that_holds_a_run_is_not_made_a_study(tmp_path: Path, config: Config, space: Space) -> None:
    (tmp_path / "config.yaml").write_text(dump_config(config))
    with pytest.raises(StudyError, match="holds a single run"):
        start_study(config, space, tmp_path)


def test_a_directory_without_a_study_cannot_be_resumed_or_looked_at(tmp_path: Path) -> None:
    for ask in (resume_study, study_status):
        with pytest.raises(StudyError, match="holds no study"):
            ask(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_second_driver_is_refused_by_the_name_of_the_first(study: Path) -> None:
    driver_path(study).write_text(json.dumps({"pid": 4321, "host": "node7"}))
    with FileLock(study / ".lock"), pytest.raises(StudyError, match="is being run by process 4321 on node7"):
        resume_study(study)


def test_resuming_a_finished_study_writes_its_ledger_and_starts_nothing(study: Path) -> None:
    status = resume_study(study)
    assert status.counts["finished"] == status.total == 3
    assert read_trials(study).column("trial").to_pylist() == ["bound-seqft", "trial-0000", "trial-0001"]
    assert not driver_path(study).exists()


def test_a_total_below_what_was_tried_is_refused_and_changes_nothing(study: Path) -> None:
    with pytest.raises(StudyError, match="has 2 trials already; give --trials 2 or more"):
        resume_study(study, trials=1)
    assert load_experiment(experiment_path(study)).study.trials == 2


def test_status_counts_runs_by_state_and_names_the_best(study: Path, config: Config) -> None:
    config = with_values(load_experiment(experiment_path(study)), {"study.trials": 6})
    experiment_path(study).write_text(dump_config(config))
    failed, begun = (TrialRequest(f"trial-{number:04d}", "trial", {}, number) for number in (2, 3))
    run_failed(study / "trials" / failed.key, config, failed, "RuntimeError: no")
    write_record(result_path(study, begun.key), new_record(config, begun))

    status = study_status(study)
    assert status.counts == {"finished": 3, "failed": 1, "running": 0, "interrupted": 1, "waiting": 2}
    assert (status.total, status.driver) == (7, None)
    assert (status.best, status.best_value) == ("trial-0001", 60.0)  # the bound is no candidate
    assert f"go on with `seekr-tune resume {study}`" in status.summary()
    assert "trial-0002  failed  RuntimeError: no" in status.summary()

    driver_path(study).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    status = study_status(study)
    assert status.counts["running"] == 1 and status.counts["interrupted"] == 0
    assert f"run by process {os.getpid()}" in status.summary()
