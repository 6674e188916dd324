"""The continual loop: a stream in, one outcome a task out. Reads like the paper's algorithm; Ray stays outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from seekr_tune.config import Config
from seekr_tune.errors import DataError
from seekr_tune.method.semantics import SEMANTICS, Semantics
from seekr_tune.sequence.checkpoint import Checkpoint, load_newest, save_checkpoint
from seekr_tune.sequence.draws import Draws, draws_of
from seekr_tune.sequence.evaluate import score_task, tasks_to_score
from seekr_tune.sequence.learner import Learner
from seekr_tune.sequence.model import LoadedModel, check_budgets, check_lengths, num_positions
from seekr_tune.sequence.schedule import Stage, Step, plan_steps, stages_of, stored_samples
from seekr_tune.sequence.state import Scores, StepRecord, StreamState, TaskHistory, TaskOutcome
from seekr_tune.sequence.teacher import Candidate, Lesson, Teacher
from seekr_tune.sequence.workers import SingleProcess, Workers
from seekr_tune.stream.collate import EncodedExample, Encoder
from seekr_tune.stream.task import TaskStream


def run_stream(
    config: Config,
    stream: TaskStream,
    loaded: LoadedModel,
    *,
    directory: Path | None = None,
    workers: Workers | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
    semantics: Semantics | None = None,
    draws: Draws | None = None,
) -> Iterator[TaskOutcome]:
    """Learn the tasks of a stream in order; yield after each.

    Args:
        config: the experiment; its `stream` section is not read again, but names the tasks.
        stream: train and evaluation splits of every task.
        loaded: the base model; trained in place.
        directory: where checkpoints go and are looked for. A run that is started again goes on behind the last
            finished task, and does not yield what was finished before. None keeps nothing.
        workers: the processes that share the work; every rank iterates.
        on_step: called after each step on every rank.
        semantics: another reading of the method than the config's name stands for.
        draws: other random draws than the config's seed gives.

    Raises:
        ConfigError: settings that this model cannot meet.
        DataError: a sample that cannot be learned.
        TrainingError: training diverged.
    """
    workers = workers or SingleProcess()
    semantics = semantics or SEMANTICS[config.method.semantics]
    draws = draws or draws_of(semantics, config.seed)
    check_budgets(config, loaded.model.config)
    if config.evaluation.splits:  # generation may use every position that the limits allow, training what the data need
        check_lengths(config, loaded.model.config)
    checkpoints = None if directory is None else directory / "checkpoints"
    run = _Run(config, stream, loaded, semantics, draws, workers)
    learner = Learner(loaded, config, semantics, workers)
    teacher = Teacher(loaded, config, semantics, draws, workers)
    state = _restored(checkpoints, loaded, learner) or run.first_state()

    for stage in stages_of(config):
        if stage.last < state.tasks_done:
            continue
        started = time.perf_counter()
        torch.manual_seed(draws.torch_seed(stage.name, workers.rank))  # dropout: the same again after a restart
        candidates = run.candidates(stage)
        rows_before = teacher.rows(candidates)
        steps = run.plan(stage, len(state.memory))
        records = learner.learn(stage, steps, run.examples_of(stage), state.memory, on_step)
        lesson = teacher.remember(stage.name, candidates, rows_before, state.totals)
        scores = run.scores_after(stage.last, state.scores)
        seconds = time.perf_counter() - started
        history = _history(config, stage, records, lesson, seconds)
        state = StreamState(
            tasks_done=stage.last + 1,
            totals=lesson.totals,
            memory=state.memory.add(lesson.samples),
            scores=scores,
            initial=state.initial,
            history=(*state.history, history),
        )
        _save(checkpoints, state, loaded, learner, workers)
        yield TaskOutcome(stage.last, history.task, state, tuple(records), seconds)


class _Run:
    """What stays the same over all stages of a run."""

    def __init__(
        self,
        config: Config,
        stream: TaskStream,
        loaded: LoadedModel,
        semantics: Semantics,
        draws: Draws,
        workers: Workers,
    ) -> None:
        recipe = config.recipe
        self._config, self._stream, self._loaded = config, stream, loaded
        self._semantics, self._draws, self._workers = semantics, draws, workers
        self._encoder = Encoder(
            loaded.tokenizer, recipe.max_prompt_tokens, recipe.max_answer_tokens, semantics.collation
        )
        self._encoded = [self._encoder.encode_all(task.train) for task in stream]
        for task, examples in zip(stream, self._encoded, strict=True):
            _require_learnable(task.name, examples, num_positions(loaded.model.config))

    def first_state(self) -> StreamState:
        """Nothing learned; scores before any training, if the experiment asks for them."""
        splits, num_tasks = self._config.evaluation.splits, len(self._stream)
        state = StreamState.empty(num_tasks, *self._loaded.shape, splits)
        initial = {split: scores.copy() for split, scores in state.initial.items()}
        for split, index in self._cells(-1):
            initial[split][index] = self._score(split, index)
        return replace(state, initial=initial)

    def scores_after(self, last: int, scores: Mapping[str, Scores]) -> dict[str, Scores]:
        """The score matrices with the row of task `last` filled in."""
        filled = {split: matrix.copy() for split, matrix in scores.items()}
        for split, index in self._cells(last):
            filled[split][last, index] = self._score(split, index)
        return filled

    def candidates(self, stage: Stage) -> list[Candidate]:
        """The samples of a stage's tasks that will be stored."""
        method = self._config.method.in_effect()
        candidates = []
        for task in stage.tasks:
            name, examples = self._stream[task].name, self._encoded[task]
            count = stored_samples(len(examples), method.replay_percent, self._semantics)
            for index in self._draws.memory_samples(name, len(examples), count):
                example = examples[index]
                queries = self._draws.query_rows(name, index, len(example.input_ids), method.query_budget)
                candidates.append(Candidate(task, index, example, queries))
        return candidates

    def examples_of(self, stage: Stage) -> list[EncodedExample]:
        """Training samples of all tasks of a stage, one after the other."""
        return [example for task in stage.tasks for example in self._encoded[task]]

    def plan(self, stage: Stage, memory_size: int) -> list[Step]:
        """The steps of a stage; a task is present in as many epochs as its own setting says."""
        recipe = self._config.recipe
        epochs: list[list[int]] = [[] for _ in range(max(recipe.epochs_of(task) for task in stage.tasks))]
        offset = 0
        for task in stage.tasks:
            size = len(self._encoded[task])
            for epoch in range(recipe.epochs_of(task)):
                epochs[epoch].extend(range(offset, offset + size))
            offset += size
        return plan_steps(epochs, memory_size, self._config, stage.name, self._semantics, self._draws)

    def _cells(self, last: int) -> list[tuple[Literal["eval", "test"], int]]:
        indices = tasks_to_score(self._config.evaluation.matrix, last, len(self._stream))
        return [(split, index) for split in self._config.evaluation.splits for index in indices]

    def _score(self, split: Literal["eval", "test"], index: int) -> float:
        return score_task(
            self._loaded,
            self._encoder,
            self._stream[index],
            split,
            self._config.evaluation,
            self._config.recipe.max_answer_tokens,
            self._workers,
        )


def _require_learnable(task: str, examples: Sequence[EncodedExample], positions: int | None) -> None:
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        if length < 2:
            raise DataError(f"task {task!r}, train row {row}: has no token to predict an answer from; drop the row")
        if positions is not None and length > positions:
            raise DataError(
                f"task {task!r}, train row {row}: has {length} tokens, the model {positions} positions; "
                "lower recipe.max_prompt_tokens or recipe.max_answer_tokens"
            )


def _history(
    config: Config, stage: Stage, records: Sequence[StepRecord], lesson: Lesson, seconds: float
) -> TaskHistory:
    replayed = [record for record in records if record.kind == "replay"]
    distilled = lesson.scores is not None
    return TaskHistory(
        task=config.stream.tasks[stage.last],
        index=stage.last,
        scores=lesson.scores,
        total=lesson.totals if distilled else None,
        selected=lesson.selected.heads,
        stored_samples=len(lesson.samples),
        memory_bytes=sum(sample.num_bytes for sample in lesson.samples),
        presentations=sum(record.samples for record in replayed),
        replay_updates=len(replayed),
        replay_tokens=sum(record.tokens for record in replayed),
        seconds=seconds,
    )


def _restored(checkpoints: Path | None, loaded: LoadedModel, learner: Learner) -> StreamState | None:
    checkpoint = None if checkpoints is None else load_newest(checkpoints)
    if checkpoint is None:
        return None
    parameters = loaded.trainable()
    with torch.no_grad():
        for name, weight in checkpoint.weights.items():
            parameters[name].copy_(weight)
    learner.restore(checkpoint.learner, checkpoint.pending_steps)
    return checkpoint.state


def _save(
    checkpoints: Path | None, state: StreamState, loaded: LoadedModel, learner: Learner, workers: Workers
) -> None:
    """Write on rank 0; the others wait, so that no rank runs ahead of what is safe on disk."""
    if checkpoints is None:
        return
    weights = {name: parameter.detach() for name, parameter in loaded.trainable().items()}
    checkpoint = Checkpoint(state, weights, learner.snapshot(), learner.pending_steps)
    workers.broadcast(lambda: str(save_checkpoint(checkpoints, checkpoint)))
