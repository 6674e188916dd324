"""What starting and resuming a study refuse and report; nothing here starts Ray for long."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from seekr_tune.analysis.ledger import read_trials
from seekr_tune.config import Config
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.experiment import dump_config, load_experiment, with_values
from seekr_tune.study.directory.layout import driver_path, experiment_path, space_path
from seekr_tune.study.life.ledger_writer import LedgerWriter
from seekr_tune.study.life.study import resume_study, revive_trial, start_study, study_status
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.queue import TrialQueue, open_study
from seekr_tune.study.search.space import Space, load_space
from tests.study.conftest import Finish


@pytest.fixture
def study(tmp_path: Path, config: Config, space: Space, finish: Finish) -> Path:
    """A study of two trials and a bound, all finished."""
    directory = tmp_path / "study"
    config = with_values(config, {"study.trials": 2, "study.bounds": ["seqft"], "study.space": "space.yaml"})
    queue = TrialQueue(open_study(directory, config, space), space, config, directory)
    for op in (30.0, 50.0, 60.0):
        request = queue.next()
        assert request is not None
        finish(request.config(config), request, op=op)
        queue.finish(request)
    space_path(directory).write_text(space.dump())
    experiment_path(directory).write_text(dump_config(config))
    return directory


def test_a_directory_that_holds_the_same_study_is_not_started_again(study: Path, space: Space) -> None:
    with pytest.raises(StudyError, match=f"holds a study already; go on with `seekr-tune resume {study}`"):
        start_study(load_experiment(experiment_path(study)), space, study)


def test_a_changed_experiment_is_refused_with_what_differs(study: Path, space: Space) -> None:
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file() and path.name != ".lock"}
    changed = with_values(load_experiment(experiment_path(study)), {"seed": 7, "recipe.learning_rate": 0.1})
    with pytest.raises(StudyError, match="recipe.learning_rate, seed differ from it; put that back") as refused:
        start_study(changed, space, study)
    assert f"`seekr-tune resume {study}`" in str(refused.value) and "another --out" in str(refused.value)
    assert before == {path: path.read_bytes() for path in study.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_changed_space_is_refused(study: Path, space: Space, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("method.memory.percent: {type: float, low: 5, high: 50, published: 10}\n")
    with pytest.raises(StudyError, match="the search space differs from it"):
        start_study(load_experiment(experiment_path(study)), load_space(tmp_path / "other.yaml"), study)


def test_a_directory_that_holds_a_run_is_not_made_a_study(tmp_path: Path, config: Config, space: Space) -> None:
    (tmp_path / "config.yaml").write_text(dump_config(config))
    with pytest.raises(StudyError, match="holds a single run"):
        start_study(config, space, tmp_path)


def test_a_directory_without_a_study_cannot_be_resumed_or_looked_at(tmp_path: Path) -> None:
    for ask in (resume_study, study_status, lambda directory: revive_trial(directory, "trial-0000")):
        with pytest.raises(StudyError, match="holds no study"):
            ask(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_second_driver_is_refused_by_the_name_of_the_first(study: Path) -> None:
    driver_path(study).write_text(json.dumps({"pid": 4321, "host": "node7", "since": "yesterday"}))
    with FileLock(study / ".lock"):
        for second in (lambda: resume_study(study), lambda: revive_trial(study, "trial-0000")):
            with pytest.raises(StudyError, match="is being run by process 4321 on node7 since yesterday"):
                second()


def test_resuming_a_finished_study_writes_its_ledger_and_starts_nothing(study: Path) -> None:
    status = resume_study(study)
    assert status.counts["finished"] == status.total == 3
    assert read_trials(study).column("trial").to_pylist() == ["bound-seqft", "trial-0000", "trial-0001"]
    assert not driver_path(study).exists()


@pytest.mark.parametrize("name", ["result.json", "steps.jsonl"])
def test_a_damaged_run_costs_its_own_rows_of_the_ledger_only(
    tmp_path: Path, config: Config, finish: Finish, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        finish(config, TrialRequest(f"trial-{number:04d}", "trial", {}, number))
    damaged = tmp_path / "study" / "trials" / "trial-0000" / name
    damaged.write_bytes(b"\x00\xff")
    ledger = LedgerWriter(tmp_path / "study", tmp_path / "study")
    ledger.write()
    ledger.write()
    known = read_trials(tmp_path / "study").column("trial").to_pylist()
    assert known == (["trial-0001"] if name == "result.json" else ["trial-0000", "trial-0001"])
    assert caplog.text.count(str(damaged)) == 1


def test_a_full_disk_ends_a_launch_in_one_line(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("seekr_tune.study.life.ledger_writer.write_ledger", full)
    with pytest.raises(StudyError, match=f"{study}: no space left on its disk; make room, then go on with"):
        resume_study(study)
    monkeypatch.undo()
    assert not driver_path(study).exists()
    assert resume_study(study).counts["finished"] == 3


def test_a_total_below_what_was_tried_is_refused_and_changes_nothing(study: Path) -> None:
    with pytest.raises(StudyError, match="has 2 trials already; give --trials 2 or more"):
        resume_study(study, trials=1)
    assert load_experiment(experiment_path(study)).study.trials == 2


def test_a_study_that_would_see_the_test_split_is_refused_before_anything_is_written(
    config: Config, space: Space, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="evaluation.splits lists test"):
        start_study(with_values(config, {"evaluation.splits": ("eval", "test")}), space, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_an_experiment_that_is_lost_beside_runs_is_named_and_no_new_start_advised(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study; start one with"):
        resume_study(tmp_path / "study")
    (tmp_path / "study" / "trials" / "trial-0000").mkdir(parents=True)
    with pytest.raises(StudyError, match=r"experiment\.yaml: is missing, but runs of a study are there; restore it"):
        resume_study(tmp_path / "study")
