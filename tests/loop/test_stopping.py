"""A run that is asked to stop: nothing that was done is lost, and it ends as if nobody had asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seekr_tune.checkpoint.directories import newest_intact
from seekr_tune.checkpoint.state import StepRecord, TaskOutcome
from seekr_tune.loop.loop import StreamRun
from seekr_tune.loop.stopping import StopPoll
from seekr_tune.methods.workers import SingleProcess

from .tiny import Run, run, same_weights, tiny_config, tiny_loaded, tiny_stream


def stopped_run(directory: Path, stop_asked: Callable[[], bool] | None = None) -> tuple[StreamRun, Run]:
    config, loaded = tiny_config(), tiny_loaded()
    streamed = StreamRun(config, tiny_stream(), loaded, directory=directory, stop_asked=stop_asked)
    return streamed, Run(tuple(streamed.outcomes()), loaded)


def after(questions: int) -> Callable[[], bool]:
    """Somebody asks after so many questions."""
    asked: list[None] = []

    def stop_asked() -> bool:
        asked.append(None)
        return len(asked) > questions

    return stop_asked


def test_the_step_is_finished_and_saved_when_the_loop_ends(tmp_path: Path) -> None:
    streamed, _ = stopped_run(tmp_path, after(3))  # one before the stage, two after steps
    assert streamed.stopped
    stage, steps = newest_intact(tmp_path / "checkpoints")
    assert stage is not None and stage.name == "task-0000"
    assert steps is not None and steps.name == "task-0000-step-000003"
    assert not list((tmp_path / "checkpoints").glob(".writing-*"))


@pytest.mark.parametrize("questions", [0, 1, 5, 6, 7, 12, 20])
def test_a_stopped_run_ends_like_an_undisturbed_one(questions: int, tmp_path: Path) -> None:
    streamed, begun = stopped_run(tmp_path, after(questions))
    assert streamed.stopped and len(begun.outcomes) < 3
    again, rest = stopped_run(tmp_path)
    assert not again.stopped
    whole = run(tiny_config())
    assert same_weights(rest, whole)
    outcomes: list[TaskOutcome] = [*begun.outcomes, *rest.outcomes]
    assert [o.index for o in outcomes] == [0, 1, 2]
    assert [s.loss for o in outcomes for s in o.steps] == [step.loss for step in whole.steps]


def test_nobody_is_asked_after_the_last_task(tmp_path: Path) -> None:
    questions: list[None] = []

    def never() -> bool:
        questions.append(None)
        return False

    streamed, whole = stopped_run(tmp_path, never)
    assert not streamed.stopped
    assert len(questions) == 3 + len(whole.steps)  # before each task, and after each step


def test_several_ranks_ask_about_once_a_second_of_steps() -> None:
    poll = StopPoll(lambda: True, SingleProcess(world_size=2))
    step = run(tiny_config()).steps[0]
    quick = StepRecord(**{name: getattr(step, name) for name in StepRecord.__slots__} | {"seconds": 0.3})
    assert [poll.is_asked_after(quick) for _ in range(8)] == [False, False, False, True, False, False, False, True]
