"""Which samples are learned in which step: pure functions of sizes, settings and draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.methods.draws import Draws, draws_of
from seekr_tune.methods.semantics import SEMANTICS, Semantics

T = TypeVar("T")

_MOST_PRESENTATIONS = 100_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """One forward and backward pass over a global batch.

    Attributes:
        kind: samples of the new task, or of the replay memory.
        samples: indices into the training samples, or into the memory.
    """

    kind: Literal["new", "replay"]
    samples: tuple[int, ...]

    @property
    def batch(self) -> tuple[int, ...]:
        """The samples, by the name that a step has for them that was taken."""
        return self.samples


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
    if config.method.learns_at_once:
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


def stage_steps(
    config: Config, stage: Stage, sizes: Sequence[int], memory_size: int, semantics: Semantics, draws: Draws
) -> list[Step]:
    """The steps of a stage; a task is present in as many epochs as its own setting says.

    Args:
        sizes: training samples of every task of the stream.
        memory_size: samples in the replay memory.

    Raises:
        ConfigError: there are more of them than memory has room for.
    """
    presentations = sum(config.recipe.epochs_of(task) * sizes[task] for task in stage.tasks)
    if presentations > _MOST_PRESENTATIONS:
        raise ConfigError(
            f"recipe.epochs: stage {stage.name!r} would learn {presentations} samples one after the other, and their "
            f"order alone would not fit into memory above {_MOST_PRESENTATIONS}; lower recipe.epochs, or cap the rows "
            "by stream.limits.train"
        )
    epochs: list[list[int]] = [[] for _ in range(max(config.recipe.epochs_of(task) for task in stage.tasks))]
    offset = 0
    for task in stage.tasks:
        for epoch in range(config.recipe.epochs_of(task)):
            epochs[epoch].extend(range(offset, offset + sizes[task]))
        offset += sizes[task]
    return plan_steps(epochs, memory_size, config, stage.name, semantics, draws)


class _Taken(Protocol):
    """A step that is planned, or one that was taken."""

    @property
    def kind(self) -> Literal["new", "replay"]: ...

    @property
    def batch(self) -> tuple[int, ...]: ...


def shown_samples(steps: Iterable[_Taken]) -> set[int]:
    """Places in the memory of the samples that steps replay."""
    return {place for step in steps if step.kind == "replay" for place in step.batch}


def replayed_samples(config: Config, sizes: Sequence[int]) -> int:
    """How many different stored samples a run will replay. The last task's are stored, and never replayed.

    Args:
        config: the experiment as the run sees it.
        sizes: training samples of every task of the stream.
    """
    semantics, percent = SEMANTICS[config.method.semantics], config.stored_percent
    draws = draws_of(semantics, config.seed, config.memory_draw)
    shown: set[int] = set()
    memory_size = 0
    for stage in stages_of(config):
        if memory_size:
            shown |= shown_samples(stage_steps(config, stage, sizes, memory_size, semantics, draws))
        memory_size += sum(stored_samples(sizes[task], percent, semantics) for task in stage.tasks)
    return len(shown)


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
    cycle = config.method.memory.cycle
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
