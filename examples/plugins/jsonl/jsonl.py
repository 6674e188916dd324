"""A tracker that appends a line of JSON for each step and each task to `curves.jsonl`, for any dashboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seekr_tune.analysis.measures import measure
from seekr_tune.records import StepRow, TrialRecord


class JsonLines:
    """Follows one run; a line is an object with `step` or `tasks_done`."""

    def __init__(self, record: TrialRecord, directory: Path, steps_done: int) -> None:
        self._path, self._step = directory / "curves.jsonl", steps_done
        # A killed launch may have logged steps and a task that will be done again, and half a line.
        known = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        whole = [json.loads(line) for line in known if line.endswith("\n")]
        most = {"step": steps_done, "tasks_done": record.tasks_done}
        kept = [one for one in whole if all(one.get(name, 0) <= count for name, count in most.items())]
        self._path.write_text("".join(json.dumps(one) + "\n" for one in kept))
        self._tasks = {one["tasks_done"] for one in kept if "tasks_done" in one}

    def log_step(self, row: StepRow) -> None:
        self._step += 1
        self._append({"step": self._step, "task": row.task_index, "kind": row.kind, "loss": row.loss})

    def log_task(self, record: TrialRecord) -> None:
        if record.tasks_done not in self._tasks:
            self._append({"tasks_done": record.tasks_done, "op": measure(record).op, "seconds": record.wall_seconds})

    def close(self, record: TrialRecord | None = None) -> None:
        if record is not None:
            self._append({"trial": record.trial, "status": record.status})

    def _append(self, values: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(values) + "\n")
