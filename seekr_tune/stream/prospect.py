"""What data and model allow of a task, before anything is trained: what is cut, what is unknown, ceiling and floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seekr_tune.config import Split
from seekr_tune.stream.baseline import ConstantBaseline
from seekr_tune.stream.ceiling import Ceiling, ceiling
from seekr_tune.stream.collate import Encoder, TokenCounts
from seekr_tune.stream.task import Task, TaskStream

Constants = Mapping[tuple[str, Split], ConstantBaseline]
"""By task and scored split, the best constant answer."""


@dataclass(frozen=True)
class Prospect:
    """One split of one task.

    Attributes:
        task, split: which.
        counts: its tokens, and what the limits leave of them.
        ceiling: the best score that any model can reach; None for a split that is not scored.
        floor: score of the best constant answer, in percent; None likewise, or where it was not asked for.
    """

    task: str
    split: Split
    counts: TokenCounts
    ceiling: Ceiling | None = None
    floor: float | None = None


def prospects(
    stream: TaskStream,
    scored: Sequence[Split],
    encoder: Encoder,
    constants: Constants | None = None,
    train: Sequence[TokenCounts] | None = None,
) -> list[Prospect]:
    """The train split and the scored ones of each task.

    Args:
        stream: the tasks, with these splits.
        scored: splits that are scored.
        encoder: of the run, with the tokens that end an answer.
        constants: the best constant answers; None leaves the floors out, for to find them may take a while.
        train: tokens of each task's train split, where they have been counted.
    """
    found = []
    for index, task in enumerate(stream):
        found.append(Prospect(task.name, "train", train[index] if train else encoder.encode_counted(task.train)[1]))
        found += [_scored(task, split, encoder, constants) for split in scored if split != "train"]
    return found


def _scored(task: Task, split: Split, encoder: Encoder, constants: Constants | None) -> Prospect:
    floor = None if constants is None else constants[task.name, split].score
    return Prospect(task.name, split, encoder.count(task.splits[split]), ceiling(task, split, encoder), floor)
