from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from synthetic import FULL, TASKS, RecordFactory

from seekr_tune.errors import StudyError
from seekr_tune.records import (
    ScoreCell,
    StepRow,
    TrialRecord,
    initial_scores,
    read_record,
    read_steps,
    score_cells,
    score_matrix,
    step_line,
    step_of,
    tuning_split,
    write_record,
    write_steps,
)
from seekr_tune.records.heads import read_heads


def test_a_record_survives_json_unchanged(make_record: RecordFactory, tmp_path: Path) -> None:
    params = {"method.memory.percent": 0.1, "method.seekr.selection": "random", "method.seekr.query_budget": None}
    record = make_record(heads=make_record.heads(), params=params, error="one line", optuna_number=7)
    assert TrialRecord.from_json(record.to_json()) == record
    path = tmp_path / "trials" / "0000" / "result.json"
    written = write_record(path, record)
    assert read_record(path) == written == record.model_copy(update={"heads": (), "heads_sha256": written.heads_sha256})
    assert read_heads(path).to_pylist() == [row.model_dump() for row in record.heads]


def test_scores_keep_every_bit(make_record: RecordFactory) -> None:
    matrix = [[100.0 / 3, 0.1 + 0.2, math.pi], [1e-300, 70.0, 5e-324], [0.0, -0.0, 99.99999999999999]]
    read = TrialRecord.from_json(make_record(matrix=matrix).to_json())
    assert score_matrix(read, "eval").tobytes() == np.array(matrix).tobytes()


def test_a_diverged_run_is_still_valid_json(make_record: RecordFactory, tmp_path: Path) -> None:
    step = make_record.steps(0, 1)[0].model_copy(update={"loss": math.nan, "grad_norm": math.inf})
    write_steps(tmp_path / "steps.jsonl", [step])
    json.loads((tmp_path / "steps.jsonl").read_text(), parse_constant=pytest.fail)
    (read,) = read_steps(tmp_path / "steps.jsonl")
    assert math.isnan(read.loss) and read.grad_norm == math.inf and read.terms == step.terms


def test_a_record_is_the_same_with_and_without_its_checksum(make_record: RecordFactory, tmp_path: Path) -> None:
    """What has one is read without another look at each of its numbers."""
    record = write_record(
        tmp_path / "result.json", make_record(config=make_record.config(seed=7), wall_seconds=math.inf)
    )
    plain = TrialRecord.from_json(record.to_json())
    sealed = read_record(tmp_path / "result.json")
    assert sealed.to_json() == plain.to_json() == record.to_json()
    assert repr(sealed) == repr(plain), "counts stay counts, and tuples tuples"


def test_score_cells_and_score_matrix_are_inverses() -> None:
    matrix = np.array([[50.0, math.nan], [40.0, 60.0]])
    initial = np.array([math.nan, 5.0])
    cells = score_cells(("a", "b"), {"test": matrix}, {"test": initial})
    assert cells[0] == ScoreCell(
        trained="", evaluated="b", trained_index=-1, evaluated_index=1, split="test", score=5.0
    )
    assert len(cells) == 4
    record = RecordFactory()(tasks=("a", "b"), scores=cells, tasks_done=2)
    np.testing.assert_array_equal(score_matrix(record, "test"), matrix)
    np.testing.assert_array_equal(initial_scores(record, "test"), initial)
    assert np.isnan(score_matrix(record, "eval")).all()


def test_eval_is_preferred_to_test_and_test_to_nothing(make_record: RecordFactory) -> None:
    both = score_cells(TASKS, {"eval": np.array(FULL), "test": np.array(FULL)}, {})
    assert tuning_split(make_record(scores=both)) == "eval"
    assert tuning_split(make_record(split="test")) == "test"
    assert tuning_split(make_record(scores=())) is None


def test_another_schema_version_is_refused_by_name(make_record: RecordFactory) -> None:
    values = json.loads(make_record().to_json()) | {"schema_version": 99, "field_of_the_future": 1}
    with pytest.raises(StudyError, match="result.json: has schema version 99, but this package reads versions 2 and 3"):
        TrialRecord.from_json(json.dumps(values), "result.json")


@pytest.mark.parametrize(
    "content", [b"", b'{"schema_version": 3, "trial": "00', b"[]", b'{"schema_version": 3}', b"\xff"]
)
def test_a_damaged_record_is_named_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(StudyError) as caught:
        read_record(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_record_whose_cells_lie_outside_its_tasks_is_refused(make_record: RecordFactory) -> None:
    values = json.loads(make_record().to_json()) | {"tasks": ["flags", "rivers"], "tasks_done": 2}
    with pytest.raises(StudyError, match=r"score cell \(-1, 2\) is outside 2 tasks"):
        TrialRecord.from_json(json.dumps(values))
    with pytest.raises(StudyError, match="tasks_done is 3, but the stream has 2 tasks"):
        TrialRecord.from_json(json.dumps(values | {"tasks_done": 3}))


def test_missing_files_and_damaged_lines_are_named(make_record: RecordFactory, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such file"):
        read_record(tmp_path / "result.json")
    write_steps(tmp_path / "steps.jsonl", make_record.steps(0, 2))
    with (tmp_path / "steps.jsonl").open("a") as stream:
        stream.write('{"task_index": 0, "st')
    with pytest.raises(StudyError, match=r"steps.jsonl, line 3: .*; restore the file"):
        read_steps(tmp_path / "steps.jsonl")


def test_steps_survive_their_file(make_record: RecordFactory, tmp_path: Path) -> None:
    steps = make_record.steps(0, 3) + make_record.steps(1, 3, first=4)
    write_steps(tmp_path / "steps.jsonl", steps)
    assert read_steps(tmp_path / "steps.jsonl") == steps


def test_rows_are_frozen_and_refuse_unknown_fields(make_record: RecordFactory) -> None:
    with pytest.raises(ValidationError):
        make_record().status = "failed"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        StepRow.model_validate(make_record.steps(0, 1)[0].model_dump() | {"lr": 1.0})


def test_a_bit_that_flips_in_a_record_is_noticed_wherever_it_is(make_record: RecordFactory, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    record = make_record()
    write_record(path, record)
    assert read_record(path) == record and json.loads(path.read_bytes())["trial"] == record.trial
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(StudyError):
            read_record(path)


def test_a_record_without_a_checksum_is_read_as_earlier_versions_wrote_it(
    make_record: RecordFactory, tmp_path: Path
) -> None:
    path = tmp_path / "result.json"
    path.write_text(make_record().to_json())
    assert read_record(path) == make_record()


def test_a_bit_that_flips_in_a_step_is_noticed_wherever_it_is(make_record: RecordFactory) -> None:
    (step,) = make_record.steps(0, 1)
    line = step_line(step).removesuffix(b"\n")
    assert step_of(line) == step_of(step.model_dump_json().encode()) == step  # earlier versions wrote no checksum
    for place in range(len(line)):
        damaged = bytearray(line)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            step_of(bytes(damaged))


def test_a_run_belongs_to_its_configuration_or_to_itself(make_record: RecordFactory) -> None:
    assert make_record("trial-0001-r1", configuration="trial-0001").configuration_key == "trial-0001"
    assert make_record("alone").configuration_key == "alone"
