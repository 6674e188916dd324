"""What runs have to do, counted before any of it is done: pure arithmetic over the sizes of data and settings."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Self

from seekr_tune.config import Config, Split
from seekr_tune.config.facts import recipe_of_all
from seekr_tune.loop.evaluate import tasks_to_score
from seekr_tune.loop.schedule import Stage, plan_steps, stages_of, stored_samples
from seekr_tune.methods.draws import SeededDraws
from seekr_tune.methods.semantics import SEMANTICS


@dataclass(frozen=True)
class TaskSize:
    """Examples of a task: to learn, and to score in each split."""

    train: int
    scored: Mapping[Split, int]

    @property
    def prompts(self) -> int:
        """Answers that are generated to score the task once, in all splits."""
        return sum(self.scored.values())


@dataclass(frozen=True)
class TaskRates:
    """Seconds that parts of the work on one task take.

    Attributes:
        new_step: an optimizer step on new samples.
        reading: a stored sample, read before and after the task.
        scoring: generating and scoring all splits once.
    """

    new_step: float
    reading: float
    scoring: float


@dataclass(frozen=True)
class Rates:
    """Seconds that parts of the work take.

    Attributes:
        loading: data and model, once for each run.
        replay_step: an optimizer step on replayed samples.
        tasks: of each task, by name.
    """

    loading: float
    replay_step: float
    tasks: Mapping[str, TaskRates]


@dataclass(frozen=True)
class Work:
    """An amount of work.

    Attributes:
        stages: of training: a task, or all of them at once.
        new_steps, replay_steps: of the optimizer, by their samples.
        readings: stored samples that are read before and after their task.
        prompts: answers that are generated to be scored.
        seconds: of one worker's device.
    """

    stages: float = 0.0
    new_steps: float = 0.0
    replay_steps: float = 0.0
    readings: float = 0.0
    prompts: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Work) -> Self:
        return type(self)(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __mul__(self, times: float) -> Self:
        return type(self)(*(times * getattr(self, one.name) for one in fields(self)))

    def __sub__(self, other: Work) -> Self:
        return self + other * -1.0


@dataclass(frozen=True)
class RunWork:
    """What one run has to do, and what of it other runs may have done already.

    Attributes:
        whole: everything.
        first: training of the first stage, and scoring after it.
        first_key: runs with an equal one share `first`; None for a run that shares it with nobody.
        initial: by what identifies them, the scores of the base model.
    """

    whole: Work
    first: Work
    first_key: Hashable
    initial: Mapping[Hashable, Work]


def run_work(config: Config, sizes: Mapping[str, TaskSize], rates: Rates) -> RunWork:
    """What one run has to do.

    Args:
        config: the experiment as the run sees it.
        sizes: of every task, by name.
        rates: how long each part takes.
    """
    names = config.stream.tasks
    initial: dict[Hashable, Work] = {
        (_base_key(config), names[task]): _scoring(sizes[names[task]], rates.tasks[names[task]])
        for task in tasks_to_score(config.evaluation.matrix, -1, len(names))
    }
    whole = _sum([Work(seconds=rates.loading), *initial.values()])
    first, memory = Work(), 0
    for number, stage in enumerate(stages_of(config)):
        stored = [_stored(config, sizes[names[task]]) for task in stage.tasks]
        read = [count * rates.tasks[names[task]].reading for task, count in zip(stage.tasks, stored, strict=True)]
        done = _training(config, stage, memory, sizes, rates) + _scoring_after(config, stage, sizes, rates)
        whole += done + Work(readings=sum(stored), seconds=sum(read))
        memory += sum(stored)
        if number == 0:
            first = done
    return RunWork(whole, first, _first_key(config), initial)


def shared_work(runs: Iterable[RunWork]) -> Work:
    """What runs are spared when the first stage, and the scores of the base model, are computed once for all."""
    spared, seen = Work(), set[Hashable]()
    for run in runs:
        parts = {**run.initial, **({} if run.first_key is None else {run.first_key: run.first})}
        spared += _sum(work for key, work in parts.items() if key in seen)
        seen.update(parts)
    return spared


def _base_key(config: Config) -> Hashable:
    """What the base model's scores depend on, where data, model and code are the same."""
    recipe, adapters_seed = config.recipe, None if config.model.lora is None else config.seed
    lengths = (recipe.max_prompt_tokens, recipe.max_answer_tokens)
    return config.model.model_dump_json(), config.method.semantics, adapters_seed, lengths, config.evaluation.batch_size


def _first_key(config: Config) -> Hashable:
    """What the weights after the first stage depend on, where data, model and code are the same."""
    if config.method.learns_at_once:
        return None
    recipe = json.dumps({**recipe_of_all(config), "epochs": config.recipe.epochs_of(0)}, sort_keys=True)
    training = config.training
    where = (training.workers, training.parallelism)
    return config.stream.tasks[0], config.seed, config.model.model_dump_json(), recipe, config.method.semantics, where


def _stored(config: Config, size: TaskSize) -> int:
    percent = config.stored_percent
    return stored_samples(size.train, percent, SEMANTICS[config.method.semantics])


def _training(config: Config, stage: Stage, memory: int, sizes: Mapping[str, TaskSize], rates: Rates) -> Work:
    names = [config.stream.tasks[task] for task in stage.tasks]
    recipe, method = config.recipe, config.method
    counts = tuple(sizes[name].train for name in names)
    epochs = tuple(recipe.epochs_of(task) for task in stage.tasks)
    batches = (recipe.batch_size, recipe.micro_batch_size, recipe.replay_batch_size)
    new, replay = _count_steps(counts, epochs, memory, batches, method.semantics, method.memory.cycle)
    # Of several tasks at once, each gives samples in proportion to its size and epochs.
    weights = [count * times for count, times in zip(counts, epochs, strict=True)]
    new_step = sum(weight * rates.tasks[name].new_step for name, weight in zip(names, weights, strict=True)) / sum(
        weights
    )
    seconds = new * new_step + replay * rates.replay_step
    return Work(stages=1, new_steps=new, replay_steps=replay, seconds=seconds)


@lru_cache(maxsize=4096)
def _count_steps(
    counts: tuple[int, ...],
    epochs: tuple[int, ...],
    memory: int,
    batches: tuple[int, int | None, int],
    semantics: str,
    replay_cycle: int | None,
) -> tuple[int, int]:
    """Steps of a stage on new and on replayed samples, as the loop will plan them.

    Args:
        counts: train samples of each of its tasks.
        epochs: passes over each of them.
        memory: samples in the replay memory.
        batches: batch size, micro-batch size and replay batch size of the recipe.
        semantics, replay_cycle: as in the config.
    """
    sizes = [
        sum(count for count, times in zip(counts, epochs, strict=True) if times > epoch) for epoch in range(max(epochs))
    ]
    config = Config.model_validate(
        {
            "stream": {"tasks": ["any"]},
            "recipe": dict(zip(("batch_size", "micro_batch_size", "replay_batch_size"), batches, strict=True)),
            "method": {"semantics": semantics, "memory": {"cycle": replay_cycle}},
        }
    )
    draws = SeededDraws(0)  # the order of samples does not change how many steps they make
    steps = plan_steps(
        [range(size) for size in sizes], memory, config, "any", SEMANTICS[config.method.semantics], draws
    )
    replay = sum(step.kind == "replay" for step in steps)
    return len(steps) - replay, replay


def _scoring_after(config: Config, stage: Stage, sizes: Mapping[str, TaskSize], rates: Rates) -> Work:
    names = config.stream.tasks
    due = tasks_to_score(config.evaluation.matrix, stage.last, len(names))
    return _sum(_scoring(sizes[names[task]], rates.tasks[names[task]]) for task in due)


def _scoring(size: TaskSize, rates: TaskRates) -> Work:
    return Work(prompts=size.prompts, seconds=rates.scoring)


def _sum(works: Iterable[Work] | Sequence[Work]) -> Work:
    return sum(works, Work())
