"""Synthetic trials: score matrices and costs made by hand, no model and no data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seekr_tune.experiment import parse_config
from seekr_tune.records import HeadRow, ReplayRow, StepRow, TimingRow, TrialRecord, score_cells

TERMS = ("cross_entropy", "logit_distillation", "attention_distillation")
TASKS = ("flags", "rivers", "birds")
NAN = float("nan")
FULL = [[90.0, 20.0, 10.0], [70.0, 80.0, 15.0], [60.0, 70.0, 95.0]]
"""Rows: after training; columns: evaluated. OP 75, BWT ((60-90)+(70-80))/2 = -20."""


class RecordFactory:
    """Builds records; every keyword of `TrialRecord` may be overridden."""

    def config(self, **sections: Any) -> dict[str, Any]:
        """A resolved experiment, nested, with the given sections overridden."""
        return parse_config({"stream": {"tasks": TASKS}, **sections}, "record").model_dump(mode="json")

    def matrix(self, op: float) -> list[list[float]]:
        """A score matrix whose last row has mean `op`."""
        return [[op, NAN, NAN], [op, op, NAN], [op, op, op]]

    def replay(self, stored: Sequence[int], presentations: int = 10) -> tuple[ReplayRow, ...]:
        """One row a task; tokens and bytes are 20 a presentation and 100 a sample."""
        return tuple(
            ReplayRow(
                task=TASKS[index],
                task_index=index,
                stored_samples=samples,
                presentations=presentations if index else 0,
                replay_updates=2 if index else 0,
                tokens=20 * presentations if index else 0,
                bytes=100 * samples,
                first_presentations=samples,  # all that is stored was shown: what is not is test_measures.py's
            )
            for index, samples in enumerate(stored)
        )

    def timing(self, *utilisation: float | None) -> tuple[TimingRow, ...]:
        """One row a task, the later the slower: 1000 tokens in 1, 2, 4, ... seconds of steps."""
        return tuple(
            TimingRow(
                task=TASKS[index],
                task_index=index,
                new_seconds=0.75 * 2**index,
                replay_seconds=0.25 * 2**index,
                distillation_seconds=0.125 * 2**index,
                teacher_seconds=0.5,
                evaluation_seconds=3.0,
                checkpoint_seconds=0.0625,
                tokens=1000,
                peak_memory_bytes=10**9 + index % 2,
                model_flops=1e12,
                flops_utilisation=share,
            )
            for index, share in enumerate(utilisation)
        )

    def heads(self, layers: int = 2, heads: int = 2) -> tuple[HeadRow, ...]:
        """Every head after every task; the first head of each layer is selected."""
        return tuple(
            HeadRow(
                task=task,
                task_index=index,
                layer=layer,
                head=head,
                sensitivity=1.0 / heads,
                forgettability=0.125,
                importance=0.0625 * (index + 1),
                selected=head == 0,
            )
            for index, task in enumerate(TASKS)
            for layer in range(layers)
            for head in range(heads)
        )

    def steps(self, task_index: int, count: int, first: int = 1) -> tuple[StepRow, ...]:
        """`count` steps of a task; every second one replays, except in the first task."""
        return tuple(
            StepRow(
                task_index=task_index,
                step=step,
                kind="replay" if replays else "new",
                loss=1.0 / step,
                terms=dict(zip(TERMS, (0.5, 0.25, 0.125), strict=True)) if replays else {"cross_entropy": 0.5},
                weights=dict(zip(TERMS, (0.5, 0.5, 10.0), strict=True)) if replays else {"cross_entropy": 1.0},
                shares=dict(zip(TERMS, (0.25, 0.125, 0.625), strict=True)) if replays else {},
                grad_norm=1.5,
                learning_rate=1e-3,
                samples=4,
                tokens=64,
                seconds=0.5,
                distillation_seconds=0.25 if replays else None,
                batch=(step, 0, 7),
                flops=1e6,
            )
            for step in range(first, first + count)
            for replays in [bool(task_index) and step % 2 == 0]
        )

    def __call__(self, trial: str = "0000", **fields: Any) -> TrialRecord:
        """A finished seekr trial with the matrix `FULL` and 6 stored samples, unless said otherwise."""
        scores = fields.pop("matrix", FULL)
        initial = fields.pop("initial", [10.0, 20.0, 5.0])
        split = fields.pop("split", "eval")
        defaults: dict[str, Any] = {
            "role": "trial",
            "status": "finished",
            "method": "seekr",
            "semantics": "corrected",
            "config": self.config(),
            "tasks": TASKS,
            "scores": score_cells(TASKS, {split: np.array(scores)}, {split: np.array(initial)}),
            "replay": self.replay((2, 2, 2)),
            "timing": self.timing(0.5, 0.25, 0.125),
            "tasks_done": 3,
            "wall_seconds": 12.5,
            "num_layers": 2,
            "num_heads": 2,
            "code_version": "0.1.0",
        }
        return TrialRecord(trial=trial, **{**defaults, **fields})
