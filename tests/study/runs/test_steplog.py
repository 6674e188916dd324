"""`steps.jsonl` holds the steps of the finished tasks, wherever the process was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.records import StepRow, read_steps
from seekr_tune.study.runs.steplog import StepLog


def step(task: int, number: int) -> StepRow:
    return StepRow(
        task_index=task,
        step=number,
        kind="new",
        loss=1.0,
        terms={"cross_entropy": 1.0},
        learning_rate=0.1,
        samples=4,
        tokens=8,
        seconds=0.1,
    )


def places(directory: Path) -> list[tuple[int, int]]:
    return [(row.task_index, row.step) for row in read_steps(directory / "steps.jsonl")]


def test_steps_of_an_unfinished_task_are_dropped_when_it_starts_again(tmp_path: Path) -> None:
    log = StepLog(tmp_path, 0)
    log.append(step(0, 0))
    log.finish_task([step(0, 0)])
    log.append(step(1, 0))  # killed here, without close

    log = StepLog(tmp_path, 1)
    assert log.num_steps == 1 and places(tmp_path) == [(0, 0)]
    for number in range(2):
        log.append(step(1, number))
    log.finish_task([step(1, 0), step(1, 1)])
    log.close()
    assert places(tmp_path) == [(0, 0), (1, 0), (1, 1)]
    assert not (tmp_path / "steps.partial.jsonl").exists()


def test_a_kill_between_checkpoint_and_record_loses_no_step(tmp_path: Path) -> None:
    log = StepLog(tmp_path, 0)
    log.append(step(0, 0))
    log.append(step(0, 1))
    log.close()
    partial = tmp_path / "steps.partial.jsonl"
    partial.write_text(partial.read_text() + '{"task_index": 1, "st')  # cut in the middle of a line

    assert StepLog(tmp_path, 1).num_steps == 2  # the checkpoint of task 0 is there
    assert places(tmp_path) == [(0, 0), (0, 1)]


@pytest.mark.parametrize("garbage", [b"\x00\xffgarbage\n", b'{"task_index": 0}\n', b"\n"])
@pytest.mark.parametrize("name", ["steps.partial.jsonl", "steps.jsonl"])
def test_damaged_lines_cost_their_steps_only_and_are_told(
    tmp_path: Path, name: str, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    log = StepLog(tmp_path, 0)
    log.append(step(0, 0))
    log.append(step(0, 1))
    log.close()
    content = (tmp_path / "steps.partial.jsonl").read_bytes()
    first, second = content.splitlines(keepends=True)
    (tmp_path / "steps.partial.jsonl").unlink()
    (tmp_path / name).write_bytes(first + garbage + second + b'{"cut')
    assert StepLog(tmp_path, 1).num_steps == 2
    assert places(tmp_path) == [(0, 0), (0, 1)]
    assert f"{name}: 1 damaged lines" in caplog.text


def test_a_kill_between_steps_and_clearing_the_partial_file_repeats_no_step(tmp_path: Path) -> None:
    log = StepLog(tmp_path, 0)
    log.append(step(0, 0))
    log.close()
    partial = (tmp_path / "steps.partial.jsonl").read_bytes()
    log = StepLog(tmp_path, 1)
    log.close()
    (tmp_path / "steps.partial.jsonl").write_bytes(partial)
    assert StepLog(tmp_path, 1).num_steps == 1


def test_steps_behind_a_checkpoint_that_was_lost_are_dropped(tmp_path: Path) -> None:
    log = StepLog(tmp_path, 0)
    log.finish_task([step(0, 0)])
    log.finish_task([step(1, 0)])
    log.close()
    assert StepLog(tmp_path, 1).num_steps == 1
    assert places(tmp_path) == [(0, 0)]
