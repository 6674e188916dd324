"""A study from its start to its final table, on real Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.analysis.ledger import read_table
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import with_values
from seekr_tune.study.directory.layout import final_path, trial_path
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.directory.test_split_log import openings
from seekr_tune.study.final.finalize import finalize_study
from seekr_tune.study.life.study import start_study
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.trial import run_trial
from seekr_tune.study.search.space import Space


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_tunes_on_some_orders_and_reports_others_on_test(tmp_path: Path, config: Config, space: Space) -> None:
    values = {
        "study.trials": 2,
        "study.bounds": ["seqft"],
        "study.protocol": "held_out_orders",
        "study.replicates.orders": [["star", "last", "paren"], ["last", "paren", "star"]],
        "study.final.orders": [["paren", "last", "star"]],
    }
    study = tmp_path / "study"
    start_study(with_values(config, values), space, study)
    tuned = read_table(study, "scores")
    assert set(tuned.column("split").to_pylist()) == {"eval"}

    table = finalize_study(study)
    assert [(row.role, row.n) for row in table.rows] == [("bound", 1), ("trial", 1)]
    assert read_table(study, "scores").equals(tuned)
    final = {record.trial: record for record in read_records(final_path(study))}
    assert {record.tasks for record in final.values()} == {("paren", "last", "star")}
    assert {cell.split for record in final.values() for cell in record.scores} == {"test"}
    assert [opening.finished for opening in openings(study)] == [True]
    with pytest.raises(StudyError, match="test was opened on"):
        finalize_study(study)

    (chosen,) = [record for record in final.values() if record.role == "trial"]
    own = TrialRequest("alone", "trial", chosen.params)
    settings = {"stream.tasks": ["paren", "last", "star"], "evaluation.splits": ["test"]}
    alone = run_trial(own.config(with_values(config, settings)), trial_path(tmp_path, "alone"), own)
    assert chosen.scores == alone.scores
