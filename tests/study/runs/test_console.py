"""What a run says of itself on the console."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from seekr_tune.experiment import parse_config
from seekr_tune.records import ReplayRow, TrialRecord, score_cells
from seekr_tune.study.runs.console import ProgressConsole, TaskProgress

TASKS = ("a", "b", "c")
NAN = float("nan")


def record(matrix: list[list[float]], done: int, **shares: float | None) -> TrialRecord:
    replay = ReplayRow(
        task=TASKS[done - 1],
        task_index=done - 1,
        stored_samples=1,
        presentations=4,
        replay_updates=2,
        tokens=9,
        bytes=9,
        **shares,
    )
    return TrialRecord(
        trial="trial-0000",
        role="trial",
        status="running",
        method="seekr",
        semantics="corrected",
        config=parse_config({"stream": {"tasks": list(TASKS)}}, "test").model_dump(mode="json"),
        tasks=TASKS,
        scores=score_cells(TASKS, {"eval": np.array(matrix)}, {}),
        replay=(replay,),
        tasks_done=done,
        wall_seconds=2.0,
        code_version="1",
    )


def printed(progress: TaskProgress) -> list[str]:
    out = io.StringIO()
    ProgressConsole(Console(file=out, width=300), total=1).task_finished(progress)
    return out.getvalue().splitlines()


DIAGONAL = [[70.0, NAN, NAN], [NAN, 83.2, NAN], [60.0, 80.0, 40.0]]
FULL = [[70.0, 1.0, 2.0], [60.0, 83.2, 3.0], [60.0, 80.0, 40.0]]
NOTHING = [[NAN] * 3] * 3


@pytest.mark.parametrize(
    ("matrix", "done", "said"),
    [
        (DIAGONAL, 1, "op 70.0 %"),  # one task is all tasks
        (DIAGONAL, 2, "own 83.2 %"),
        (DIAGONAL, 3, "op 60.0 %"),
        (FULL, 2, "op 71.6 %"),
        (NOTHING, 2, "op -"),
    ],
)
def test_a_line_says_what_is_known_of_the_scores(matrix: list[list[float]], done: int, said: str) -> None:
    (line,) = printed(TaskProgress.of(record(matrix, done)))
    assert line == f"trial-0000  task {done}/3 {TASKS[done - 1]}  {said}  2.0 s"


def test_a_term_with_nearly_all_of_the_gradient_is_a_warning() -> None:
    shares = {"cross_entropy": 0.001, "logit_distillation": 0.0, "attention_distillation": 0.999}
    _, line = printed(TaskProgress.of(record(FULL, 2, shares=shares)))
    assert line.startswith("trial-0000  warning: attention_distillation has 99.9 % of the replay gradient: ")
    assert "a larger weight of it changes nothing; lower it, or raise those of the other terms" in line
