"""What is learned: examples, tasks, and the order of tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from seekr_tune.config import Split
from seekr_tune.data.scoring import Scorer


@dataclass(frozen=True, slots=True)
class Example:
    """One sample: a prompt and the answer to be learned."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Task:
    """One task of a stream.

    Attributes:
        name: the task's folder under the stream's root.
        scorer: how predictions are scored.
        splits: examples by split; a split that was not asked for is absent (a sealed `test` is never read).
        erased: rows of the train split that are not among the examples, for they were erased from the study.
    """

    name: str
    scorer: Scorer
    splits: Mapping[Split, tuple[Example, ...]]
    erased: frozenset[int] = frozenset()

    @property
    def train(self) -> tuple[Example, ...]:
        """The examples to learn from."""
        return self.splits["train"]

    @property
    def train_rows(self) -> tuple[int, ...]:
        """Index of each training example in the split as it was; it stays what it is when others are erased."""
        return tuple(row for row in range(len(self.train) + len(self.erased)) if row not in self.erased)


@dataclass(frozen=True)
class TaskStream:
    """Tasks in learning order."""

    tasks: tuple[Task, ...]

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __getitem__(self, index: int) -> Task:
        return self.tasks[index]

    @property
    def names(self) -> tuple[str, ...]:
        """Task names in learning order."""
        return tuple(task.name for task in self.tasks)


def digest_of_examples(examples: Sequence[Example]) -> str:
    """SHA-256 of prompts and answers in their order: equal data give equal digests, whatever file they come from."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.prompt, example.answer], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
