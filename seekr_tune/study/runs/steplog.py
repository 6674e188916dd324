"""The steps of a run on disk: `steps.jsonl` holds those of finished tasks, `steps.partial.jsonl` those since."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from seekr_tune.atomic_files import open_to_append
from seekr_tune.documents import MAX_GROWN_BYTES, read_bytes
from seekr_tune.records import StepRow, step_line, step_of, write_steps

_logger = logging.getLogger(__name__)


class StepLog:
    """Keeps `steps.jsonl` equal to the finished tasks, wherever the process is killed.

    A task counts as finished when its checkpoint is written, a moment before `finish_task` can be called. The partial
    file covers that moment: its steps are taken over if the checkpoint is there, and dropped if it is not.

    Args:
        directory: the run's directory.
        tasks_done: tasks whose checkpoint is there.
        unfinished: steps of the next task, as its newest checkpoint holds them.
    """

    def __init__(self, directory: Path, tasks_done: int, unfinished: Sequence[StepRow] = ()) -> None:
        self._finished_path = directory / "steps.jsonl"
        self._partial_path = directory / "steps.partial.jsonl"
        rows = self._read(self._finished_path)
        self._finished = [row for row in rows if row.task_index < tasks_done]
        known = {row.task_index for row in self._finished}
        late = [row for row in self._read(self._partial_path) if row.task_index < tasks_done]
        self._finished += [row for row in late if row.task_index not in known]
        write_steps(self._finished_path, self._finished)
        self.num_steps = len(self._finished) + len(unfinished)
        """Steps that were logged before this launch and still hold."""
        write_steps(self._partial_path, unfinished)
        self._partial = open_to_append(self._partial_path)

    def append(self, row: StepRow) -> None:
        """Log a step of the task that is being learned."""
        self._partial.write(step_line(row))
        self._partial.flush()

    def finish_task(self, rows: list[StepRow]) -> None:
        """Move a task's steps to the finished ones."""
        self._finished += rows
        write_steps(self._finished_path, self._finished)
        self._partial.truncate(0)

    def close(self) -> None:
        """Close the partial file; one without steps is removed."""
        self._partial.close()
        with suppress(FileNotFoundError):  # the directory was moved, which what ends for it says
            if self._partial_path.stat().st_size == 0:
                self._partial_path.unlink()

    def _read(self, path: Path) -> list[StepRow]:
        """The steps of a file without its damaged lines; a run does not fail for want of a curve."""
        if not path.is_file():
            return []
        *whole, _ = read_bytes(path, MAX_GROWN_BYTES).split(b"\n")  # the last line may be cut
        steps: list[StepRow] = []
        for line in whole:
            with suppress(ValueError):
                steps.append(step_of(line))
        if len(steps) < len(whole):
            _logger.warning("%s: %d damaged lines; their steps are lost", path, len(whole) - len(steps))
        return steps
