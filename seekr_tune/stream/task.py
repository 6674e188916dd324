"""What is learned: examples, tasks, and the order of tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from seekr_tune.config import MetricName, Split


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
        metric: how predictions are scored.
        splits: examples by split; a split that was not asked for is absent (a sealed `test` is never read).
    """

    name: str
    metric: MetricName
    splits: Mapping[Split, tuple[Example, ...]]

    @property
    def train(self) -> tuple[Example, ...]:
        """The examples to learn from."""
        return self.splits["train"]


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
