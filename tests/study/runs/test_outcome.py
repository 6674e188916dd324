from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from seekr_tune.checkpoint.state import StageTiming, StepRecord, StreamState, TaskHistory
from seekr_tune.experiment import parse_config
from seekr_tune.records import StepRow, read_record, write_record
from seekr_tune.study.runs.outcome import new_record, run_failed, step_rows, with_state
from seekr_tune.study.runs.request import TrialRequest

TIMING = StageTiming(
    new_seconds=4.0,
    replay_seconds=1.0,
    distillation_seconds=0.5,
    teacher_seconds=0.25,
    evaluation_seconds=2.0,
    checkpoint_seconds=0.125,
    tokens=100,
    peak_memory_bytes=4096,
    model_flops=1e9,
    flops_utilisation=None,
)
STEP = StepRecord(
    task_index=1,
    step=0,
    kind="replay",
    loss=1.5,
    terms={"cross_entropy": 1.0, "logit_distillation": 0.5, "attention_distillation": 0.25},
    grad_norm=None,
    learning_rate=0.1,
    samples=2,
    tokens=20,
    seconds=0.5,
    distillation_seconds=0.125,
    batch=(3, 1),
    flops=1e6,
    weights={"cross_entropy": 0.5, "logit_distillation": 0.5, "attention_distillation": 10.0},
    shares={"cross_entropy": 0.625, "logit_distillation": 0.25, "attention_distillation": 0.125},
)


def test_every_field_of_a_step_is_in_its_row() -> None:
    (row,) = step_rows([STEP])
    assert row == StepRow(**{name: getattr(STEP, name) for name in STEP.__slots__})
    assert row.batch == (3, 1) and row.distillation_seconds == 0.125


def test_the_record_says_where_the_time_of_each_finished_task_went() -> None:
    config = parse_config({"stream": {"tasks": ["a", "b"]}}, "test")
    history = TaskHistory("a", 0, None, 1, 10, 0, 0, 0, 8.0, TIMING, shares={"ewc": 1.0}, state_bytes=34)
    later = replace(history, task="b", index=1, timing=replace(TIMING, tokens=7, flops_utilisation=0.5))
    state = replace(StreamState.empty(2, 1, 1, ("eval",)), tasks_done=2, history=(history, later))
    record = with_state(new_record(config, TrialRequest("0000", "trial")), state, wall_seconds=9.0)
    assert [(row.task, row.task_index, row.tokens) for row in record.timing] == [("a", 0, 100), ("b", 1, 7)]
    first, second = record.timing
    assert vars(TIMING).items() <= first.model_dump().items() and second.flops_utilisation == 0.5
    assert first.tokens_per_second == 100 / 5.0
    assert [(row.bytes, row.state_bytes, row.shares) for row in record.replay] == [(10, 34, {"ewc": 1.0})] * 2


def test_what_fails_behind_a_result_does_not_take_it_away(tmp_path: Path) -> None:
    config = parse_config({"stream": {"tasks": ["a", "b"]}}, "test")
    request = TrialRequest("0000", "trial")
    for status in ("finished", "pruned"):
        record = new_record(config, request).model_copy(update={"status": status, "tasks_done": 1})
        write_record(tmp_path / "result.json", record)
        assert run_failed(tmp_path, config, request, OSError("cannot be closed")) == record
        assert read_record(tmp_path / "result.json") == record
    assert run_failed(tmp_path / "other", config, request, "it is lost").status == "failed"
