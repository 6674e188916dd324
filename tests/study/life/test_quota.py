from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seekr_tune.analysis.ledger import read_trials, write_ledger
from seekr_tune.checkpoint.directories import newest_intact
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import with_values
from seekr_tune.records import Role, TrialRecord, read_record, score_cells, write_record
from seekr_tune.study.directory.layout import result_path, trial_path
from seekr_tune.study.directory.log import logged_in, read_log
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.life.quota import Entry, disk_usage, enforce_quota, removal_plan
from seekr_tune.study.runs.outcome import new_record
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.single import run_experiment
from seekr_tune.study.runs.trial import run_trial
from seekr_tune.study.search.progress import finalist_ranks

KILO = 1000


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tmp_path / "study"


def write_run(study: Path, experiment: Config, key: str, op: float = 50.0, **record: Any) -> TrialRecord:
    """A run's record, and two checkpoints between tasks and one inside, of 10 kB each."""
    configuration, _, replicate = key.partition("-r")
    role: Role = "bound" if key.startswith("bound") else "trial"
    request = TrialRequest(key, role, {}, configuration=configuration, replicate=int(replicate or 0))
    tasks = experiment.stream.tasks
    scores = np.full((len(tasks), len(tasks)), np.nan)
    learned = record.get("tasks_done", len(tasks))  # no score of a task that a pruned run did not come to
    scores[:learned, :learned] = op
    update = {"status": "finished", "tasks_done": len(tasks), "scores": score_cells(tasks, {"eval": scores}, {})}
    written = new_record(experiment, request).model_copy(update={**update, **record})
    for name in ("task-0001", "task-0002", "task-0001-step-000003"):
        folder = trial_path(study, key) / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(bytes(10 * KILO))
    write_record(result_path(study, key), written)
    return written


def checkpoints(study: Path, key: str) -> set[str]:
    return {path.name for path in (trial_path(study, key) / "checkpoints").iterdir()}


def left_with(study: Path, config: Config, checkpoints: int) -> list[str]:
    """Keys and names of what is removed when there is room for so many checkpoints."""
    rest = disk_usage(study).rest
    quota = (rest + checkpoints * 10 * KILO + 5 * KILO) / 1e9  # what it writes down takes some room, too
    removed = enforce_quota(study, with_values(config, {"study.disk_gigabytes": quota}))
    return [f"{path.parent.parent.name}/{path.name}" for path in removed]


def test_no_more_goes_than_must(tmp_path: Path) -> None:
    entries = [Entry(tmp_path / str(n), 10, stage=n) for n in (3, 1, 2)] + [Entry(tmp_path / "kept", 100)]
    assert removal_plan(entries, 130) == []
    assert [entry.stage for entry in removal_plan(entries, 129)] == [1]
    assert [entry.stage for entry in removal_plan(entries, 115)] == [1, 2]
    assert [entry.stage for entry in removal_plan(entries, 0)] == [1, 2, 3]


def test_within_a_step_of_the_rule_the_worst_goes_first(tmp_path: Path) -> None:
    entries = [Entry(tmp_path / str(worth), 10, stage=1, order=(worth,)) for worth in (2.0, 3.0, 1.0)]
    assert [entry.order for entry in removal_plan(entries, 10)] == [(1.0,), (2.0,)]


def test_checkpoints_go_in_the_order_of_the_rule(config: Config, study: Path) -> None:
    write_run(study, config, "trial-0000", op=90.0)
    write_run(study, config, "trial-0001", op=60.0)
    write_run(study, config, "trial-0002", op=70.0)
    write_run(study, config, "trial-0003", status="failed", error="of its own")
    write_run(study, config, "trial-0004", op=20.0, status="pruned", tasks_done=2)
    write_run(study, config, "trial-0005", op=80.0, status="pruned", tasks_done=2)
    write_run(study, config, "trial-0006", op=95.0, status="pruned", tasks_done=1)
    write_run(study, config, "trial-0007", status="running")
    write_run(study, config, "bound-seqft", op=10.0)
    superseded = left_with(study, config, 8 + 3)
    ended = [f"trial-000{number}" for number in range(7)] + ["bound-seqft"]
    assert sorted(superseded) == sorted(
        f"{key}/{name}" for key in ended for name in ("task-0001", "task-0001-step-000003")
    )
    order = ["trial-0003", "bound-seqft", "trial-0001", "trial-0002", "trial-0006", "trial-0004", "trial-0005"]
    for number, key in enumerate(order):
        assert left_with(study, config, 7 - number + 3) == [f"{key}/task-0002"]
    assert checkpoints(study, "trial-0000") == {"task-0002"}  # may be chosen at the end
    assert len(checkpoints(study, "trial-0007")) == 3  # still at work


def test_without_a_quota_nothing_is_looked_at(config: Config, study: Path) -> None:
    write_run(study, config, "trial-0000")
    assert enforce_quota(study, config) == []
    assert len(checkpoints(study, "trial-0000")) == 3


def test_a_quota_that_cannot_be_met_stops_the_study(config: Config, study: Path) -> None:
    write_run(study, config, "trial-0000")
    write_run(study, config, "trial-0001", status="running")
    with pytest.raises(StudyError, match="must stay, more than study.disk_gigabytes .*raise it"):
        left_with(study, config, 3)
    assert checkpoints(study, "trial-0000") == {"task-0002"}
    assert left_with(study, config, 4) == []


def test_what_was_removed_is_written_down(config: Config, study: Path) -> None:
    write_run(study, config, "trial-0000")
    with logged_in(study):
        left_with(study, config, 1)
    (entry,) = read_log(study)
    assert "removed 20 kB of checkpoints: trials/trial-0000/checkpoints/task-0001" in entry.message


def test_what_a_killed_removal_left_is_swept(config: Config, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(study, config, "trial-0000")

    def killed(path: Path, ignore_errors: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("seekr_tune.study.life.quota.shutil.rmtree", killed)
        left_with(study, config, 1)
    left = checkpoints(study, "trial-0000")
    assert any(name.startswith(".removed-") for name in left)
    left_with(study, config, 10)
    assert checkpoints(study, "trial-0000") < left  # nothing hidden is there any more
    assert not any(name.startswith(".") for name in checkpoints(study, "trial-0000"))


def test_a_run_without_checkpoints_stays_what_it_is(config: Config, study: Path) -> None:
    request = TrialRequest("trial-0001", "trial", {}, number=1)
    directory = trial_path(study, "trial-0001")
    record = run_trial(config, directory, request)
    write_run(study, config, "trial-0000", op=101.0)
    curves = sorted((directory / "events").iterdir())
    left_with(study, config, 1)
    assert newest_intact(directory / "checkpoints") == (None, None)
    assert run_trial(config, directory, request) == record == read_record(directory / "result.json")
    write_ledger(study, read_records(study), {})
    assert read_trials(study)["trial"].to_pylist() == ["trial-0000", "trial-0001"]
    assert sorted((directory / "events").iterdir()) == curves and (directory / "steps.jsonl").stat().st_size > 0


def test_final_runs_keep_their_newest_checkpoint(config: Config, study: Path) -> None:
    write_run(study / "final", config, "trial-0000")
    write_run(study, config, "trial-0000", op=10.0)
    write_run(study, config, "trial-0001")
    assert len(left_with(study, config, 2)) == 5 + 2
    assert checkpoints(study / "final", "trial-0000") == {"task-0002"}


Run = tuple[str, float, dict[str, Any]]
"""Key, score, and what else stands in the record."""


def ranks_of(config: Config, runs: Sequence[Run], study: Path) -> dict[str, int | None]:
    return finalist_ranks([write_run(study, config, key, op, **record) for key, op, record in runs], config)


def test_the_best_few_may_be_chosen(config: Config, study: Path) -> None:
    config = with_values(config, {"study.final.count": 2})
    runs: list[Run] = [
        ("trial-0000", 10.0, {}),
        ("trial-0001", 30.0, {}),
        ("trial-0002", 20.0, {}),
        ("trial-0003", 5.0, {}),
    ]
    found = ranks_of(config, runs, study)
    assert found == {"trial-0000": 2, "trial-0001": None, "trial-0002": None, "trial-0003": 3}


def test_what_is_minimised_is_better_when_lower(config: Config, study: Path) -> None:
    config = with_values(config, {"study.objectives": {"wall_seconds": "minimize"}})
    runs: list[Run] = [("trial-0000", 1.0, {"wall_seconds": 9.0}), ("trial-0001", 1.0, {"wall_seconds": 3.0})]
    assert ranks_of(config, runs, study) == {"trial-0000": 1, "trial-0001": None}


def test_the_whole_front_may_be_chosen(config: Config, study: Path) -> None:
    objectives = {"op": "maximize", "wall_seconds": "minimize"}
    config = with_values(config, {"study.objectives": objectives, "study.final.select": "pareto"})
    runs: list[Run] = [
        ("trial-0000", 90.0, {"wall_seconds": 9.0}),
        ("trial-0001", 50.0, {"wall_seconds": 3.0}),
        ("trial-0002", 50.0, {"wall_seconds": 9.0}),
    ]
    assert ranks_of(config, runs, study) == {"trial-0000": None, "trial-0001": None, "trial-0002": 2}


def test_groups_are_chosen_from_apart(config: Config, study: Path) -> None:
    config = with_values(config, {"study.final.for_each": ["method.name"]})
    other = with_values(config, {"method.name": "derpp"}).model_dump(mode="json")
    runs: list[Run] = [("trial-0000", 90.0, {}), ("trial-0001", 50.0, {"config": other}), ("trial-0002", 40.0, {})]
    assert ranks_of(config, runs, study) == {"trial-0000": None, "trial-0001": None, "trial-0002": 1}


def test_only_configurations_with_all_replicates_beat_others(config: Config, study: Path) -> None:
    config = with_values(config, {"study.replicates.seeds": [0, 1]})
    runs: list[Run] = [
        ("trial-0000", 90.0, {}),
        ("trial-0001", 60.0, {}),
        ("trial-0001-r1", 70.0, {}),
        ("trial-0002", 50.0, {}),
        ("trial-0003", 64.0, {}),
        ("trial-0003-r1", 64.0, {}),
    ]
    found = ranks_of(config, runs, study)
    assert found == {"trial-0000": None, "trial-0001": None, "trial-0002": 2, "trial-0003": 1}


def test_the_models_of_a_real_run_are_counted(config: Config, study: Path) -> None:
    run_experiment(config, trial_path(study, "trial-0000"))
    usage = disk_usage(study)
    files = [path for path in study.rglob("*") if path.is_file()]
    assert usage.total == sum(path.stat().st_size for path in files)
    assert usage.checkpoints == sum(path.stat().st_size for path in files if "checkpoints" in path.parts)
