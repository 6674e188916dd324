"""Which samples are learned in which step: pure functions of sizes, settings and draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from seekr_tune.config import Config
from seekr_tune.method.semantics import Semantics
from seekr_tune.sequence.draws import Draws

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """One forward and backward pass over a global batch.

    Attributes:
        kind: samples of the new task, or of the replay memory.
        samples: indices into the training samples, or into the memory.
    """

    kind: Literal["new", "replay"]
    samples: tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """What is learned between two checkpoints: one task, or all of them at once (`joint`).

    Attributes:
        name: key of the stage's draws.
        tasks: indices of the tasks that are learned.
    """

    name: str
    tasks: tuple[int, ...]

    @property
    def last(self) -> int:
        """Index of the last task that is known when the stage ends."""
        return self.tasks[-1]


def stages_of(config: Config) -> list[Stage]:
    """The stages of an experiment, in learning order."""
    tasks = config.stream.tasks
    if config.method.name == "joint":
        return [Stage("+".join(tasks), tuple(range(len(tasks))))]
    return [Stage(task, (index,)) for index, task in enumerate(tasks)]


def stored_samples(train_size: int, percent: float, semantics: Semantics) -> int:
    """How many samples of a task are kept."""
    if semantics.draws == "fixed":
        return int(train_size * percent / 100)
    # Differs from official: never silently nothing.
    return max(1, round(train_size * percent / 100)) if percent > 0 else 0


def accumulation_steps(config: Config, semantics: Semantics) -> int:
    """Steps whose gradients make up one optimizer update."""
    if semantics.accumulation == "within_step":
        return 1
    return max(1, config.recipe.batch_size // (config.recipe.micro_batch_size or config.recipe.batch_size))


def reading_batch(config: Config) -> int:
    """Samples that are read in one pass when a task ends."""
    replayed = config.recipe.replay_batch_size
    return min(replayed, config.recipe.micro_batch_size or replayed)


def plan_steps(
    epochs: Sequence[Sequence[int]], memory_size: int, config: Config, stage: str, semantics: Semantics, draws: Draws
) -> list[Step]:
    """All steps of one stage, in order.

    Args:
        epochs: training samples of each epoch.
        memory_size: samples in the replay memory.
        config: batch sizes and, for the official schedule, the replay cycle.
        stage: key of the draws.
    """
    batch_size = config.recipe.batch_size // accumulation_steps(config, semantics)
    new, replay = [], []
    for epoch, population in enumerate(epochs):
        order = draws.epoch_order(stage, epoch, len(population))
        new.append([Step("new", batch) for batch in batches([population[i] for i in order], batch_size)])
        replay.append(draws.replay_order(stage, epoch, memory_size))
    size = config.recipe.replay_batch_size
    if semantics.schedule == "spread":
        # Differs from official: memory samples are presented once an epoch, over batch and epoch borders.
        presented = [Step("replay", batch) for batch in batches([i for order in replay for i in order], size)]
        return spread([step for steps in new for step in steps], presented)
    cycle = config.method.replay_cycle
    return [
        step
        for steps, order in zip(new, replay, strict=True)
        for step in interleave(steps, [Step("replay", batch) for batch in batches(order, size)], cycle)
    ]


def batches(samples: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Cut into batches of `size`; the last one may be smaller."""
    return [tuple(samples[start : start + size]) for start in range(0, len(samples), size)]


def spread(new: Sequence[T], replay: Sequence[T]) -> list[T]:
    """Place replay steps evenly among new steps: after new step k, round-half-up of k/new of them are done.

    The first new step comes before any replay: until an update, the student still is the teacher's successor and
    attention distillation is rounding noise.
    """
    steps: list[T] = []
    done = 0
    for k, step in enumerate(new, start=1):
        steps.append(step)
        due = (2 * k * len(replay) + len(new)) // (2 * len(new))
        steps.extend(replay[done:due])
        done = due
    return steps


def interleave(new: Sequence[T], replay: Sequence[T], cycle: int | None = None) -> list[T]:
    """One epoch of the release: a replay step before every `cycle`-th new step, the replay order wrapping around.

    Args:
        cycle: None for new steps / replay steps, rounded down; 0, which comes out when there are more replay than new
            steps, means no replay at all.

    Source: official `training/seekr.py`, `train_one_task`.
    """
    cycle = cycle or (len(new) // len(replay) if replay else 0)
    steps: list[T] = []
    presented = 0
    for index, step in enumerate(new, start=1):
        if replay and cycle and index % cycle == 0:
            steps.append(replay[presented % len(replay)])
            presented += 1
        steps.append(step)
    return steps
