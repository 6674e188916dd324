"""Studies of version 2 told the search of stored samples: on resume all of their trials are told of replayed ones."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import with_values
from seekr_tune.records import read_record
from seekr_tune.study.directory.layout import journal_path, result_path
from seekr_tune.study.search.space import Space
from tests.study.searching import drain, open_queue, trials_of

BOTH = {"study.objectives": {"op": "maximize", "distinct_replayed_samples": "minimize"}, "study.bounds": []}


def as_version_2(path: Path) -> None:
    """Write a record as that version did: rows of replay say how much was shown, and not what for the first time."""
    document = json.loads(read_record(path).to_json())
    for index, row in enumerate(document["replay"]):
        del row["first_presentations"]
        row["presentations"] = index * row["stored_samples"]
    path.write_text(json.dumps({**document, "schema_version": 2}))


def earlier_study(directory: Path, config: Config, space: Space) -> None:
    """Drained, and then made to look like one of version 2."""
    requests = drain(directory, config, space)
    for request in requests:
        as_version_2(result_path(directory, request.key))
    journal = journal_path(directory)
    lines = [line for line in journal.read_text().splitlines() if "schema_version" not in line]
    journal.write_text("".join(f"{line}\n" for line in lines))


def test_all_trials_are_told_again_from_their_records(
    config: Config, space: Space, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = with_values(config, BOTH)
    earlier_study(tmp_path, config, space)
    queue = open_queue(tmp_path, config, space)
    assert queue.is_done
    assert "counts stored samples as distinct_replayed_samples, as an earlier version did (kept as" in caplog.text
    trials = trials_of(tmp_path, config, space)
    tasks = len(config.stream.tasks)
    assert [trial.values[1] for trial in trials] == [4.0 * (tasks - 1)] * len(trials)
    caplog.clear()
    assert open_queue(tmp_path, config, space).is_done  # and that once:
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_other_objectives_are_left_alone(config: Config, space: Space, tmp_path: Path) -> None:
    config = with_values(config, {"study.bounds": []})
    earlier_study(tmp_path, config, space)
    before = [trial.values for trial in trials_of(tmp_path, config, space)]
    assert open_queue(tmp_path, config, space).is_done
    assert [trial.values for trial in trials_of(tmp_path, config, space)] == before
    assert not list(journal_path(tmp_path).parent.glob("journal.earlier-*"))


def test_what_cannot_be_counted_is_refused_in_one_line(config: Config, space: Space, tmp_path: Path) -> None:
    config = with_values(config, BOTH)
    earlier_study(tmp_path, config, space)
    path = result_path(tmp_path, "trial-0001")
    document = json.loads(path.read_text())
    document["replay"][-1]["presentations"] = 1
    path.write_text(json.dumps(document))
    with pytest.raises(StudyError, match=r"those that trial-0001 replayed cannot be counted any more") as refused:
        open_queue(tmp_path, config, space)
    assert "\n" not in str(refused.value)
