"""Any order of stops, kills, damage and resumes ends like an undisturbed run; a memory that grows loses nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.loop.loop import StreamRun
from seekr_tune.methods.memory import ReplayMemory, ReplaySample
from tests.loop.tiny import Run, run, same_memory, same_weights, tiny_config, tiny_loaded, tiny_stream

CONFIG = tiny_config(
    **{"recipe.epochs": 1, "evaluation.splits": (), "training.checkpoint_steps": 2, "training.checkpoints_kept": 2}
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@cache
def undisturbed() -> Run:
    return run(CONFIG)


def after(questions: int) -> Callable[[], bool]:
    """Somebody asks for a stop after so many questions."""
    left = iter(range(questions))
    return lambda: next(left, None) is None


def dying(steps: int) -> Callable[[StepRecord], None]:
    """A run that is killed after so many steps."""
    left = iter(range(steps))

    def on_step(step: StepRecord) -> None:
        if next(left, None) is None:
            raise Killed

    return on_step


class Resumed(RuleBasedStateMachine):
    """One run in one directory, to which anything may happen between its launches."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(mkdtemp(prefix="badinput-resume-"))
        self.finished = False

    def launch(
        self, stop: Callable[[], bool] | None = None, on_step: Callable[[StepRecord], None] | None = None
    ) -> None:
        loaded = tiny_loaded()
        streamed = StreamRun(CONFIG, tiny_stream(), loaded, directory=self.directory, stop_asked=stop)
        outcomes = tuple(streamed.outcomes(on_step))
        self.finished = not streamed.stopped
        if self.finished:
            assert same_weights(Run(outcomes, loaded), undisturbed())
            state = outcomes[-1].state if outcomes else streamed.state
            assert state is not None and state.tasks_done == 3
            assert same_memory(state.memory, undisturbed().outcomes[-1].state.memory)

    @rule(questions=st.integers(0, 12))
    def is_stopped(self, questions: int) -> None:
        self.launch(stop=after(questions))

    @precondition(lambda self: not self.finished)
    @rule(steps=st.integers(0, 12))
    def is_killed(self, steps: int) -> None:
        try:
            self.launch(on_step=dying(steps))
        except Killed:
            self.finished = False

    @rule()
    def goes_to_its_end(self) -> None:
        self.launch()

    @rule(data=st.data(), how=st.sampled_from(["cut", "emptied", "overwritten", "removed"]))
    def a_file_is_damaged(self, data: st.DataObject, how: str) -> None:
        files = sorted(path for path in self.directory.rglob("task-*/*") if path.is_file())
        if not files:
            return
        path = data.draw(st.sampled_from(files))
        content = path.read_bytes()
        if how == "removed":
            path.unlink()
        else:
            path.write_bytes({"cut": content[:-1], "emptied": b"", "overwritten": b"\0" * len(content)}[how])
        self.finished = False

    @invariant()
    def nothing_is_half_written(self) -> None:
        stages = [path for path in self.directory.glob("checkpoints/task-????") if path.is_dir()]
        assert len(stages) <= CONFIG.training.checkpoints_kept + 1

    def teardown(self) -> None:
        self.launch()
        shutil.rmtree(self.directory)


class Memory(RuleBasedStateMachine):
    """A memory that grows task after task; an older one stays what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.expected = ReplayMemory(), []
        self.older: list[tuple[ReplayMemory, int]] = []

    @rule(lengths=st.lists(st.integers(2, 9), max_size=4))
    def learns_a_task(self, lengths: list[int]) -> None:
        task = len(self.older)
        samples = [ReplaySample(task, index, torch.arange(length), 1) for index, length in enumerate(lengths)]
        self.older.append((self.memory, len(self.memory)))
        self.memory = self.memory.add(samples)
        self.expected += [(task, index, length) for index, length in enumerate(lengths)]

    @invariant()
    def holds_every_sample_once_in_order(self) -> None:
        assert [(s.task, s.index, len(s.input_ids)) for s in self.memory] == self.expected
        assert [self.memory[i] for i in range(len(self.memory))] == list(self.memory)
        assert all(len(memory) == count for memory, count in self.older)


TestResumed = Resumed.TestCase
TestResumed.settings = settings(max_examples=6, stateful_step_count=5, deadline=None)
TestMemory = Memory.TestCase
TestMemory.settings = settings(max_examples=30, stateful_step_count=8, deadline=None)
