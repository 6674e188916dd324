"""TensorBoard curves of one trial, and its settings and results for the HParams tab.

Curves of steps (x = training steps since the start of the stream, new and replay steps counted alike):

    loss/new, loss/replay                 the minimised loss, by the kind of step
    new/<term>, replay/<term>             what it is made of, before weights: `replay/attention_distillation`
    weight/<term>, gradient_share/<term>  what each term was multiplied by; its share of the replay gradient
    train/grad_norm, train/learning_rate
    throughput/tokens_per_second

Curves of tasks (x = tasks done; 0 is before any training):

    score/<task>    score of each task that was evaluated, in percent
    floor/<task>    what the best constant answer scores on it: a score that is not above it is no learning
    op              mean score of the tasks learned so far, in percent; after the last task it is the trial's OP
    bwt             mean over the tasks learned before the last one of (score now - score when it was learned)
    time/<part>     seconds of new and replay steps, distillation (part of replay), teacher, evaluation, checkpoint;
                    and `shared`: those that were spared, because another run had done the same
    memory/peak_bytes, throughput/flops_utilisation     of the fullest worker; share of the devices' peak

The Custom Scalars tab has the losses, the scores of all tasks,
OP and BWT as charts of their own.

`op` and `bwt` have no point where the scores they need were not evaluated.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch.utils.tensorboard.summary import custom_scalars, hparams, scalar

from seekr_tune.analysis.continual_metrics import backward_transfer, overall_performance
from seekr_tune.analysis.event_file import EventFile, event_file_name
from seekr_tune.analysis.flat import flat_config, known_kinds
from seekr_tune.analysis.measures import measure
from seekr_tune.analysis.sampled import sampled
from seekr_tune.config.facts import is_read
from seekr_tune.config.leaves import Kind
from seekr_tune.config.meaning import counts_or_shares
from seekr_tune.documents import parse_json
from seekr_tune.leftovers import new_file
from seekr_tune.records import StepRow, TimingRow, TrialRecord, initial_scores, score_matrix, tuning_split

HPARAM_SECTIONS = ("seed", "model", "recipe", "method", "training")
"""Parts of the config that the HParams tab shows, besides what the search chose."""

HPARAM_METRICS = (
    "op",
    "bwt",
    "forgetting",
    "distinct_replayed_samples",
    "replay_presentations",
    "memory_bytes",
    "op_per_replayed_sample",
    "wall_seconds",
    "op_floor",
    "tasks_learned",
)
"""Ledger columns that the HParams tab shows, as `hparam/<column>`."""

CHARTS = {
    "Losses": {
        "new and replay steps": ["Multiline", ["loss/(new|replay)$"]],
        "terms of replay steps": ["Multiline", ["replay/.*"]],
        "their shares of the gradient": ["Multiline", ["gradient_share/.*"]],
    },
    "Scores": {
        "each task, in percent": ["Multiline", ["score/.*"]],
        "one constant answer, in percent": ["Multiline", ["floor/.*"]],
        "the task just learned": ["Multiline", ["own$"]],
        "OP of the tasks learned so far": ["Multiline", ["op$"]],
        "BWT of the tasks learned so far": ["Multiline", ["bwt$"]],
    },
}
"""Charts of the Custom Scalars tab by group; their curves are regular expressions of tags, equal for all runs."""

_SAMPLE_OF_KIND: dict[Kind, float | bool | str] = {"number": 0.0, "flag": False, "text": ""}


class TrialWriter:
    """Writes the event files of one trial; to be used by one process at a time.

    A trial that starts again does so after its last finished task. What an earlier process logged of the unfinished
    task is purged (readers drop it), so that its steps appear once.

    Args:
        directory: the trial's directory of event files; made if need be.
        steps_done: training steps of the finished tasks; 0 for a trial that starts from the beginning.

    Raises:
        OSError: by every method too: the disk is full, or fails.
    """

    def __init__(self, directory: Path, steps_done: int = 0) -> None:
        self._step = steps_done
        # Steps count from 1, so a finished task's point (x = tasks done <= steps done) is never purged with the steps.
        purge_step = steps_done + 1 if steps_done else 0
        directory.mkdir(parents=True, exist_ok=True)
        self._file = EventFile(new_file(directory / event_file_name()), purge_step)
        if not steps_done:
            self._file.add(custom_scalars(CHARTS))  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log_step(self, row: StepRow) -> None:
        """Add one training step to the curves."""
        self._step += 1
        self._scalar(f"loss/{row.kind}", row.loss, self._step)
        for part, values in ((row.kind, row.terms), ("gradient_share", row.shares), ("weight", row.weights)):
            for term, value in values.items():
                self._scalar(f"{part}/{term}", value, self._step)
        self._scalar("train/grad_norm", row.grad_norm, self._step)
        self._scalar("train/learning_rate", row.learning_rate, self._step)
        if row.seconds > 0:
            self._scalar("throughput/tokens_per_second", row.tokens / row.seconds, self._step)
        self._file.flush()

    def log_task(self, record: TrialRecord) -> None:
        """Add the stage that was finished last; the first one brings the scores before any training with it."""
        split, done = tuning_split(record), record.tasks_done
        if split is not None:
            scores = score_matrix(record, split)
            if done == 1 or record.method == "joint":  # one stage learns all tasks
                self._log_scores(record, initial_scores(record, split), 0)
            self._log_scores(record, scores[done - 1], done)
            for row in record.prospects:
                if row.split == split:
                    self._scalar(f"floor/{row.task}", row.floor, done)
            own = scores[done - 1, done - 1]  # known also where the others are scored at the end only
            self._scalar("own", None if np.isnan(own) else float(own), done)
            self._scalar("op", overall_performance(scores[:done, :done]), done)
            self._scalar("bwt", backward_transfer(scores[:done, :done]), done)
        if record.timing:
            self._log_timing(record.timing[-1], done)
        self._file.flush()

    def close(self, record: TrialRecord | None = None) -> None:
        """Close the file; with the record of an ended trial, its settings and results are written first."""
        if record is not None:
            self._log_hparams(record)
        self._file.close()

    def _log_scores(self, record: TrialRecord, row: np.ndarray[Any, np.dtype[np.float64]], step: int) -> None:
        for task, score in zip(record.tasks, row, strict=True):
            self._scalar(f"score/{task}", None if np.isnan(score) else float(score), step)

    def _log_timing(self, row: TimingRow, step: int) -> None:
        for name, value in row.model_dump().items():
            part, _, unit = name.rpartition("_")
            if unit == "seconds":
                self._scalar(f"time/{part}", value, step)
        self._scalar("memory/peak_bytes", row.peak_memory_bytes, step)
        self._scalar("throughput/flops_utilisation", row.flops_utilisation, step)

    def _log_hparams(self, record: TrialRecord) -> None:
        """What `SummaryWriter.add_hparams` writes, in this run's own file, with the same columns for every trial.

        TensorBoard takes the list of columns from the first run of a study; `add_hparams` lists only what that one
        run has a value for, so a setting that is off there would be missing for all.
        """
        values = hparam_values(record)
        columns = {path: _SAMPLE_OF_KIND[kind] for path, kind in known_kinds().items() if _is_main(path)}
        columns |= {name: 0.0 for path in counts_or_shares() for name in (path, f"{path}.count")}
        metrics = {f"hparam/{name}": 0.0 for name in HPARAM_METRICS}
        experiment, _, _ = hparams({**values, **columns}, metrics)  # type: ignore[no-untyped-call]
        _, start, end = hparams(values, {})  # type: ignore[no-untyped-call]
        for summary in (experiment, start, end):
            self._file.add(summary)
        worth = sampled(record, tuning_split(record)).model_dump()
        results = {**measure(record).model_dump(), **worth, "wall_seconds": record.wall_seconds}
        for name in HPARAM_METRICS:
            self._scalar(f"hparam/{name}", results[name], record.tasks_done)

    def _scalar(self, tag: str, value: float | None, step: int) -> None:
        if value is not None:
            self._file.add(scalar(tag, value), step)  # type: ignore[no-untyped-call]


def hparam_values(record: TrialRecord) -> dict[str, float | bool | str]:
    """A trial's settings for the HParams tab, by config path, without those that are off (null) or not read."""
    flat = {"status": record.status, **flat_config(record.config)}
    for path in counts_or_shares() & flat.keys():  # two columns of numbers: a count and a share have no common scale
        if (text := flat.pop(path)) is not None:
            value = parse_json(str(text))
            flat[path if isinstance(value, float) else f"{path}.count"] = value
    return {path: value for path, value in flat.items() if value is not None and _is_shown(path, record)}


def _is_shown(path: str, record: TrialRecord) -> bool:
    field = path.removesuffix(".count")
    return path == "status" or (is_read(field, record.method) and (field in record.params or _is_main(field)))


def _is_main(path: str) -> bool:
    return path.split(".", 1)[0] in HPARAM_SECTIONS
