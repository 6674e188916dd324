"""What `show` tells of one trial."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import dump_config, with_values
from seekr_tune.records import write_record
from seekr_tune.study.directory.layout import experiment_path, journal_path, result_path, trial_path
from seekr_tune.study.life.show import show_trial
from seekr_tune.study.runs.outcome import new_record
from seekr_tune.study.runs.request import TrialRequest
from tests.study.conftest import Finish

PERCENT = "method.memory.percent"


@pytest.fixture
def study(tmp_path: Path, config: Config, finish: Finish) -> Path:
    """A trial of two finished replicates, and one that was pruned after its second task."""
    directory = tmp_path / "study"
    config = with_values(config, {"study.replicates.seeds": [3, 4], "study.pruning.rule": "median"})
    directory.mkdir()
    experiment_path(directory).write_text(dump_config(config))
    journal_path(directory).parent.mkdir()
    search = optuna.create_study(
        study_name="seekr-tune", storage=JournalStorage(JournalFileBackend(str(journal_path(directory))))
    )
    distribution = optuna.distributions.FloatDistribution(5, 20)
    for number, state in enumerate((optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)):
        trial = search.ask({PERCENT: distribution})
        trial.set_user_attr("trial", f"trial-{number:04d}")
        search.tell(trial, 1.0 if number == 0 else None, state=state)
    for replicate, op in enumerate((30.0, 50.0)):
        key = f"trial-0000-r{replicate}" if replicate else "trial-0000"
        setting = {"seed": 3 + replicate}
        request = TrialRequest(key, "trial", {PERCENT: 7.5}, 0, "trial-0000", replicate, setting)
        record = finish(request.config(config), request, op=op)
        write_record(result_path(directory, key), record.model_copy(update={"ray_trial_id": f"ray{replicate}"}))
    (trial_path(directory, "trial-0000") / "checkpoints" / "task-02").mkdir(parents=True)
    pruned = TrialRequest("trial-0001", "trial", {PERCENT: 9.0}, 1, "trial-0001")
    changes = {"status": "pruned", "tasks_done": 2}
    write_record(result_path(directory, "trial-0001"), new_record(config, pruned).model_copy(update=changes))
    return directory


def test_all_names_of_a_trial_are_linked(study: Path) -> None:
    shown = show_trial(study, "trial-0000").summary()
    assert "Optuna trial    0 (COMPLETE)" in shown and f"{PERCENT}=7.5" in shown
    assert "40 (mean of 2 replicates)" in shown
    for key, ray in (("trial-0000", "ray0"), ("trial-0000-r1", "ray1")):
        path = trial_path(study, key)
        for told in (f"{path}\n", f"{path / 'config.yaml'}", f"--logdir {path / 'events'}", f"Ray trial     {ray}"):
            assert told in shown
    assert "(task-02)" in shown and "(none kept)" in shown
    assert "star, last, paren; 4" in shown


def test_a_replicate_leads_to_its_trial(study: Path) -> None:
    assert show_trial(study, "trial-0000-r1").summary() == show_trial(study, "trial-0000").summary()


def test_a_pruned_trial_says_why_and_what_can_be_done(study: Path) -> None:
    shown = show_trial(study, "trial-0001").summary()
    assert "Optuna trial    1 (PRUNED)" in shown
    assert "pruned, 2 of 3 tasks" in shown and "'median' of study.pruning found it hopeless after last" in shown
    assert f"`seekr-tune revive {study} trial-0001`" in shown


def test_a_damaged_record_is_named_and_the_rest_is_shown(study: Path) -> None:
    result_path(study, "trial-0000-r1").write_bytes(b"{")
    shown = show_trial(study, "trial-0000").summary()
    assert "trial-0000-r1  damaged" in shown and "Ray trial     ray0" in shown
    assert "mean of" not in shown


def test_an_unknown_trial_is_refused_with_those_that_are_there(study: Path) -> None:
    with pytest.raises(StudyError, match="has no trial 'trial-0009'; it has trial-0000 to trial-0001"):
        show_trial(study, "trial-0009")
    with pytest.raises(StudyError, match="holds no study"):
        show_trial(study / "trials", "trial-0000")
