"""The end of a study: `test` is opened once, noted before it is read, and scored for what the rule chose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from optuna.trial import create_trial

from seekr_tune.analysis.final import FinalRow, FinalTable
from seekr_tune.analysis.ledger import read_table, write_ledger
from seekr_tune.config import Config, Split, StreamConfig
from seekr_tune.data import sources
from seekr_tune.data.formats import Format, format_of
from seekr_tune.errors import ConfigError, DataError, StudyError
from seekr_tune.experiment import dump_config, with_values
from seekr_tune.records import TrialRecord, score_cells, write_record
from seekr_tune.study.directory.layout import (
    experiment_path,
    final_path,
    openings_path,
    result_path,
    run_key,
    space_path,
    trial_key,
    trial_path,
)
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.directory.test_split_log import openings, protocol_line, write_openings
from seekr_tune.study.final import finalize
from seekr_tune.study.final.finalize import finalize_study
from seekr_tune.study.runs.outcome import new_record, run_failed
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.trial import run_trial
from seekr_tune.study.search.journal import open_study
from seekr_tune.study.search.protocol import replicates, settings_of_bounds
from seekr_tune.study.search.space import Space

Run = Callable[[TrialRequest, Config, Path], TrialRecord]
OPS = {"bound-seqft": 40.0, "bound-joint": 80.0, "trial-0000": 60.0, "trial-0001": 70.0, "trial-0002": 50.0}
"""OP of each configuration in seed 0, when tuned and at the end; in seed 1 it is 10 higher."""


def pretended(request: TrialRequest, config: Config, directory: Path) -> TrialRecord:
    """What a finished run would have written."""
    tasks, (split,) = config.stream.tasks, config.evaluation.splits
    scores = np.full((len(tasks), len(tasks)), np.nan)
    scores[-1] = OPS[request.configuration or request.key] + 10 * config.seed
    scored = {"scores": score_cells(tasks, {split: scores}, {}), "tasks_done": len(tasks), "wall_seconds": 1.0}
    record = new_record(config, request).model_copy(update={"status": "finished", **scored})
    write_record(result_path(directory, request.key), record)
    return record


def trained(request: TrialRequest, config: Config, directory: Path) -> TrialRecord:
    return run_trial(config, trial_path(directory, request.key), request)


def tune(directory: Path, config: Config, space: Space, run: Run = pretended) -> Path:
    """A study that is finished: every trial and bound in all of its settings."""
    directory.mkdir()
    space_path(directory).write_text(space.dump())
    experiment_path(directory).write_text(dump_config(config))
    journal = open_study(directory, config, space)
    settings = replicates(config)
    for name in config.study.bounds:
        for number, setting in enumerate(settings_of_bounds(settings)):
            key = f"bound-{name}"
            request = TrialRequest(run_key(key, number), "bound", {"method.name": name}, None, key, number, setting)
            run(request, request.config(config), directory)
    for trial in range(config.study.trials):
        key = trial_key(trial)
        values = {"method.memory.percent": 5.0 + trial, "method.seekr.attention_weight": 10.0}
        for number, setting in enumerate(settings):
            request = TrialRequest(run_key(key, number), "trial", values, trial, key, number, setting)
            run(request, request.config(config), directory)
        distributions, attributes = space.distributions(), {"trial": key}
        told = create_trial(value=OPS[key], params=values, distributions=distributions, user_attrs=attributes)
        journal.add_trial(told)
    write_ledger(directory, read_records(directory), {})
    return directory


def edit(study: Path, config: Config, values: dict[str, Any]) -> None:
    experiment_path(study).write_text(dump_config(with_values(config, values)))


@pytest.fixture
def config(config: Config) -> Config:
    """Three trials and both bounds, in two seeds."""
    values = {"study.trials": 3, "study.bounds": ["seqft", "joint"], "study.replicates.seeds": [0, 1]}
    return with_values(config, {**values, "study.racing.rule": "none"})


@pytest.fixture
def study(tmp_path: Path, config: Config, space: Space) -> Path:
    return tune(tmp_path / "study", config, space)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], list[str]]:
    """Final runs one after the other in this process; `here(run)` says what a run is and collects the keys."""
    current: list[Run] = [pretended]
    keys: list[str] = []

    def drive(queue: finalize.FinalQueue, directory: Path, ledger_directory: Path, *args: Any, **options: Any) -> None:
        while (request := queue.next()) is not None:
            keys.append(request.key)
            current[0](request, request.config(queue.config), queue.directory)
            queue.finish(request)
        write_ledger(ledger_directory, read_records(queue.directory), {})

    @contextmanager
    def room(config: Config) -> Iterator[int]:
        yield 1

    monkeypatch.setattr(finalize, "drive", drive)
    monkeypatch.setattr(finalize, "room_in_ray", room)

    def be(run: Run) -> list[str]:
        current[0] = run
        return keys

    return be


def rows(table: FinalTable) -> dict[str, FinalRow]:
    return {row.configuration: row for row in table.rows}


def test_the_chosen_configuration_and_the_bounds_are_scored_on_test(study: Path) -> None:
    table = finalize_study(study)
    assert [row.configuration for row in table.rows] == ["bound-joint", "bound-seqft", "trial-0001"]
    row = rows(table)["trial-0001"]
    assert (row.n, row.tuned, row.estimates["op"].mean, row.estimates["op"].error) == (2, 75.0, 75.0, 5.0)
    assert row.estimates["normalised_gain"].mean == pytest.approx(0.75)
    assert rows(table)["bound-joint"].tuned == 85.0
    records = read_records(final_path(study))
    assert {cell.split for record in records for cell in record.scores} == {"test"}
    assert sorted(record.trial for record in records) == [
        "bound-joint",
        "bound-joint-r1",
        "bound-seqft",
        "bound-seqft-r1",
        "trial-0001",
        "trial-0001-r1",
    ]


def test_the_table_is_written_for_people_and_programs(study: Path) -> None:
    finalize_study(study)
    assert json.loads((final_path(study) / "table.json").read_text())["rows"][2]["configuration"] == "trial-0001"
    assert "trial-0001" in (final_path(study) / "table.csv").read_text()
    assert "test opened" in (final_path(study) / "table.md").read_text()
    assert read_table(final_path(study), "trials").num_rows == 6


def test_the_opening_is_noted_with_what_was_chosen_and_shown(study: Path) -> None:
    assert protocol_line(study) == "tuned on eval; test sealed"
    finalize_study(study)
    (opening,) = openings(study)
    assert (opening.rule, opening.seeds, opening.again, opening.finished) == ("best 1 by op", (0, 1), False, True)
    assert [(one.configuration, one.tuned) for one in opening.configurations] == [("trial-0001", {"op": 75.0})]
    assert protocol_line(study) == f"tuned on eval; test opened {opening.date} (1 time)"


def test_a_second_opening_is_refused_and_noted_if_it_is_meant(study: Path, here: Callable[[Run], list[str]]) -> None:
    finalize_study(study)
    (first,) = openings(study)
    with pytest.raises(StudyError, match=rf"test was opened on {first.date}.* --again opens it all the same"):
        finalize_study(study)
    assert openings(study) == (first,)
    before = (final_path(study) / "table.json").read_bytes()
    finalize_study(study, again=True)
    assert [(one.again, one.folder, one.finished) for one in openings(study)] == [
        (False, "final", True),
        (True, "final-2", True),
    ]
    assert len(read_records(study / "final-2")) == 6 and (final_path(study) / "table.json").read_bytes() == before
    assert str(protocol_line(study)).endswith("(2 times)")


def test_a_killed_call_goes_on_with_the_same_opening(study: Path, here: Callable[[Run], list[str]]) -> None:
    def killed(request: TrialRequest, config: Config, directory: Path) -> TrialRecord:
        if request.key == "trial-0001":
            raise KeyboardInterrupt
        return pretended(request, config, directory)

    keys = here(killed)
    with pytest.raises(KeyboardInterrupt):
        finalize_study(study)
    (begun,) = openings(study)
    assert not begun.finished and "1 time" in str(protocol_line(study))
    here(pretended)
    finalize_study(study)
    assert openings(study) == (begun.model_copy(update={"finished": True}),)
    assert keys[-3:] == ["trial-0001", "trial-0001", "trial-0001-r1"] and len(set(keys)) == 6


def test_a_call_that_was_killed_behind_the_last_run_only_writes_the_table(
    study: Path, here: Callable[[Run], list[str]]
) -> None:
    finalize_study(study)
    (opening,) = openings(study)
    openings_path(study).write_text(
        json.dumps([opening.model_copy(update={"finished": False}).model_dump(mode="json")])
    )
    (final_path(study) / "table.md").unlink()
    keys = here(pretended)
    keys.clear()
    finalize_study(study)
    assert keys == [] and openings(study) == (opening,) and (final_path(study) / "table.md").is_file()


def test_a_failed_run_is_said_and_tried_again_under_the_same_opening(
    study: Path, here: Callable[[Run], list[str]]
) -> None:
    def failing(request: TrialRequest, config: Config, directory: Path) -> TrialRecord:
        if request.key == "trial-0001-r1":
            return run_failed(trial_path(directory, request.key), config, request, "TrainingError: loss is nan")
        return pretended(request, config, directory)

    here(failing)
    with pytest.raises(StudyError, match=r"1 of 6 final runs failed \(trial-0001-r1: TrainingError: loss is nan\)"):
        finalize_study(study)
    assert "| 1 | 1 |" in (final_path(study) / "table.md").read_text()
    here(pretended)
    assert rows(finalize_study(study))["trial-0001"].n == 2
    assert [opening.finished for opening in openings(study)] == [True]


def test_a_study_that_is_not_finished_stays_sealed(study: Path, config: Config) -> None:
    request = TrialRequest("trial-0002-r1", "trial", {}, 2, "trial-0002", 1, replicates(config)[1])
    write_record(result_path(study, request.key), new_record(request.config(config), request))
    with pytest.raises(StudyError, match=r"1 run is not finished yet; go on with `seekr-tune resume"):
        finalize_study(study)
    assert not openings_path(study).exists() and not final_path(study).exists()


def test_what_was_tuned_cannot_be_edited_but_the_rule_can_until_test_is_opened(study: Path, config: Config) -> None:
    edit(study, config, {"recipe.learning_rate": 1.0})
    with pytest.raises(StudyError, match=r"recipe\.learning_rate changed since the study was started"):
        finalize_study(study)
    assert not openings_path(study).exists()
    edit(study, config, {"study.final.count": 2})
    assert [row.configuration for row in finalize_study(study).rows][2:] == ["trial-0001", "trial-0000"]


@pytest.mark.parametrize(("path", "value"), [("count", 2), ("seeds", [5])])
def test_the_rule_of_an_opening_that_was_killed_cannot_be_edited(
    study: Path, config: Config, here: Callable[[Run], list[str]], path: str, value: Any
) -> None:
    def killed(request: TrialRequest, config: Config, directory: Path) -> TrialRecord:
        raise KeyboardInterrupt

    here(killed)
    with pytest.raises(KeyboardInterrupt):
        finalize_study(study)
    edit(study, config, {f"study.final.{path}": value})
    with pytest.raises(StudyError, match=r"study\.final changed since test was opened on .* put it back"):
        finalize_study(study)


def test_an_order_that_was_tuned_on_cannot_be_slipped_in_later(tmp_path: Path, config: Config, space: Space) -> None:
    orders = {"study.protocol": "held_out_orders", "study.final.orders": [["paren", "last", "star"]]}
    config = with_values(config, orders)
    study = tune(tmp_path / "orders", config, space)
    edit(study, config, {"study.final.orders": [list(config.stream.tasks)]})
    with pytest.raises(ConfigError, match="the order of stream.tasks, which is tuned on"):
        finalize_study(study)
    assert not openings_path(study).exists()


def test_a_final_run_whose_record_is_damaged_is_done_again(study: Path, here: Callable[[Run], list[str]]) -> None:
    finalize_study(study)
    (opening,) = openings(study)
    write_openings(study, [opening.model_copy(update={"finished": False})])
    result_path(final_path(study), "trial-0001").write_text("{")
    keys = here(pretended)
    keys.clear()
    assert rows(finalize_study(study))["trial-0001"].n == 2 and keys == ["trial-0001"]


def test_a_machine_without_room_opens_nothing(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def no_room(config: Config) -> Iterator[int]:
        raise StudyError("a trial needs 1 x (CPU 99)")
        yield 0

    monkeypatch.setattr(finalize, "room_in_ray", no_room)
    with pytest.raises(StudyError, match="CPU 99"):
        finalize_study(study)
    assert protocol_line(study) == "tuned on eval; test sealed"


def test_one_call_at_a_time(study: Path) -> None:
    with FileLock(study / ".lock"), pytest.raises(StudyError, match="is being run by"):
        finalize_study(study)


def test_a_record_that_was_lost_is_no_sealed_study(study: Path) -> None:
    finalize_study(study)
    openings_path(study).unlink()
    for ask in (lambda: finalize_study(study), lambda: protocol_line(study)):
        with pytest.raises(StudyError, match=r"openings\.json: is missing, but .*final is there"):
            ask()
    openings_path(study).write_text("[{")
    with pytest.raises(StudyError, match="cannot be read, so nobody knows how often test was opened"):
        protocol_line(study)


def test_a_single_run_has_no_protocol(tmp_path: Path) -> None:
    assert protocol_line(tmp_path) is None
    with pytest.raises(StudyError, match="holds no study"):
        finalize_study(tmp_path)


def test_a_prefix_that_was_tuned_on_is_never_scored(tmp_path: Path, config: Config, space: Space) -> None:
    five = {"stream.tasks": ["star", "last", "paren", "second", "first"], "recipe.epochs": [1, 2, 3, 4, 5]}
    config = with_values(config, {**five, "study.protocol": "prefix", "study.prefix_tasks": 3})
    study = tune(tmp_path / "prefix", config, space)
    finalize_study(study)
    assert {record.tasks for record in read_records(study)} == {("star", "last", "paren")}
    final = read_records(final_path(study))
    assert {record.tasks for record in final} == {("second", "first")}
    assert {tuple(record.config["recipe"]["epochs"]) for record in final} == {(4, 5)}  # type: ignore[index, call-overload, arg-type]
    assert str(protocol_line(study)).startswith("tuned on eval of the first 3 tasks; test opened")


def test_held_out_orders_and_seeds_are_those_of_the_final_runs(tmp_path: Path, config: Config, space: Space) -> None:
    orders = [["paren", "last", "star"], ["last", "paren", "star"]]
    final = {"study.protocol": "held_out_orders", "study.final.orders": orders, "study.final.seeds": [1]}
    study = tune(tmp_path / "orders", with_values(config, final), space)
    finalize_study(study)
    (opening,) = openings(study)
    assert (opening.orders, opening.seeds) == (tuple(map(tuple, orders)), (1,))
    found = {(record.trial, record.tasks, record.config["seed"]) for record in read_records(final_path(study))}
    assert found >= {("trial-0001", ("paren", "last", "star"), 1), ("trial-0001-r1", ("last", "paren", "star"), 1)}
    assert len(found) == 6


@pytest.fixture
def on_disk(tmp_path: Path, config: Config) -> Config:
    """The tasks of the built-in stream as files."""
    for task in config.stream.tasks:
        (tmp_path / "data" / task).mkdir(parents=True)
        for split in ("train", "eval", "test"):
            examples = sources._read_split(config.stream, format_of(config), task, split)
            rows = [json.dumps({"prompt": one.prompt, "answer": one.answer}) for one in examples]
            (tmp_path / "data" / task / f"{split}.jsonl").write_text("\n".join(rows))
    one = {"study.trials": 1, "study.bounds": ["seqft"], "study.replicates.seeds": [0]}
    return with_values(config, {"stream.source": "jsonl", "stream.root": str(tmp_path / "data"), **one})


def test_test_is_read_only_after_its_opening_was_noted(
    tmp_path: Path,
    on_disk: Config,
    space: Space,
    here: Callable[[Run], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory, noted = tmp_path / "study", []
    read = sources._read_split

    def spy(stream: StreamConfig, found: Format, task: str, split: Split) -> Any:
        if split == "test":
            noted.append(openings_path(directory).is_file())
        return read(stream, found, task, split)

    monkeypatch.setattr(sources, "_read_split", spy)
    tune(directory, on_disk, space, trained)
    assert noted == []
    splits = read_table(directory, "scores").column("split").to_pylist()
    assert set(splits) == {"eval"} and read_table(directory, "trials").column("op").null_count == 0
    here(trained)
    table = finalize_study(directory)
    assert noted and all(noted)
    assert set(read_table(directory, "scores").column("split").to_pylist()) == {"eval"}
    assert set(read_table(final_path(directory), "scores").column("split").to_pylist()) == {"test"}
    assert all(row.estimates["op"].mean is not None for row in table.rows) and len(table.rows) == 2


def test_without_a_test_split_nothing_is_opened(tmp_path: Path, on_disk: Config, space: Space) -> None:
    (tmp_path / "data" / "last" / "test.jsonl").unlink()
    study = tune(tmp_path / "study", on_disk, space)
    with pytest.raises(DataError, match="no test split for last; add it under"):
        finalize_study(study)
    assert not openings_path(study).exists()


def test_a_test_split_that_leaks_is_refused_before_anything_is_scored(
    tmp_path: Path, on_disk: Config, space: Space
) -> None:
    study = tune(tmp_path / "study", on_disk, space)
    folder = tmp_path / "data" / "last"
    (folder / "test.jsonl").write_bytes((folder / "train.jsonl").read_bytes())
    with pytest.raises(DataError, match="prompts of split 'test' also occur in another split"):
        finalize_study(study)
    assert not final_path(study).exists() and not openings(study)[0].finished
