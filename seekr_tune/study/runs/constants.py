"""The best constant answers of a stream, found once for all runs of a study: trying them may outlast a task."""

from __future__ import annotations

from pathlib import Path

from seekr_tune.config import Config, Split
from seekr_tune.data.baseline import ConstantBaseline, constant_baseline
from seekr_tune.data.prospect import Constants
from seekr_tune.data.task import Task, TaskStream
from seekr_tune.loop.shared_scores import SharedScores
from seekr_tune.methods.workers import Workers
from seekr_tune.study.runs.cache_keys import code_digest


def constants_of(config: Config, stream: TaskStream, cache: Path | None, workers: Workers) -> Constants:
    """By task and scored split, the best constant answer; every rank calls this.

    Args:
        config: the experiment.
        stream: its tasks.
        cache: of shared work; the number of a train row stands there for its answer, which may have to be forgotten.
            None shares nothing.
        workers: the processes that share the run.
    """
    known = None if cache is None else SharedScores(cache / "floors", workers)
    return {
        (task.name, split): _constant(task, split, known, workers)
        for task in stream
        for split in config.evaluation.splits
    }


def _constant(task: Task, split: Split, known: SharedScores | None, workers: Workers) -> ConstantBaseline:
    if known is None:
        return workers.broadcast(lambda: constant_baseline(task, split))

    def find() -> dict[str, float]:
        def of_rank_0() -> dict[str, float]:
            found = constant_baseline(task, split)
            return {"row": [one.answer for one in task.train].index(found.answer), "score": found.score}

        return workers.broadcast(of_rank_0)

    rows = {name: [[one.prompt, one.answer] for one in task.splits[name]] for name in ("train", split)}
    found = known.get({"code": code_digest(), "metric": task.scorer.key, "split": split, "rows": rows}, find)
    return ConstantBaseline(task.train[int(found["row"])].answer, found["score"])
