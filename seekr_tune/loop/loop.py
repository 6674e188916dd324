"""The continual loop: a stream in, one outcome a task out. Reads like the paper's algorithm; Ray stays outside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from seekr_tune.checkpoint.keeper import CheckpointKeeper, Room
from seekr_tune.checkpoint.shards import is_sharded
from seekr_tune.checkpoint.state import (
    Errors,
    Progress,
    Scores,
    StageTiming,
    StepRecord,
    StreamState,
    TaskHistory,
    TaskOutcome,
)
from seekr_tune.config import Config
from seekr_tune.data.collate import EncodedExample, Encoder
from seekr_tune.data.prospect import Constants, Prospect, prospects
from seekr_tune.data.task import TaskStream
from seekr_tune.loop.balance import mean_shares
from seekr_tune.loop.cadence import Cadence
from seekr_tune.loop.evaluate import Scorer
from seekr_tune.loop.first_stage import FirstStage, SharedDirectories
from seekr_tune.loop.learner import Learner
from seekr_tune.loop.lost_updates import require_moved, weight_sums
from seekr_tune.loop.optimizer import require_optimizer
from seekr_tune.loop.same_tokens import require_same_tokens
from seekr_tune.loop.schedule import Stage, Step, shown_samples, stage_steps, stages_of, stored_samples
from seekr_tune.loop.shared_scores import SharedScores
from seekr_tune.loop.stopping import RunStopped, StopAsked, StopPoll
from seekr_tune.loop.throughput import StageClock
from seekr_tune.loop.views import Views, setting_of, stored_sample
from seekr_tune.methods.draws import Draws, draws_of
from seekr_tune.methods.memory import ReplaySample
from seekr_tune.methods.protocol import MethodState
from seekr_tune.methods.registry import method_of, require_fits, with_needs
from seekr_tune.methods.semantics import SEMANTICS, Semantics
from seekr_tune.methods.workers import SingleProcess, Workers
from seekr_tune.models.loading import LoadedModel, check_lengths, num_positions, require_learnable

OnStep = Callable[[StepRecord], None]

_logger = logging.getLogger(__name__)


def run_stream(
    config: Config,
    stream: TaskStream,
    loaded: LoadedModel,
    *,
    directory: Path | None = None,
    workers: Workers | None = None,
    on_step: OnStep | None = None,
    semantics: Semantics | None = None,
    draws: Draws | None = None,
) -> Iterator[TaskOutcome]:
    """Learn the tasks of a stream in order; yield after each. Arguments and errors: see `StreamRun`."""
    run = StreamRun(config, stream, loaded, directory=directory, workers=workers, semantics=semantics, draws=draws)
    yield from run.outcomes(on_step)


class StreamRun:
    """A stream that is learned, from where its checkpoints stand.

    Args:
        config: the experiment; its `stream` section is not read again, but names the tasks.
        stream: train and evaluation splits of every task.
        loaded: the base model; trained in place.
        directory: where checkpoints go and are looked for. A run that is made again goes on behind the newest one, and
            does not yield what was finished before. None keeps nothing.
        workers: the processes that share the work; every rank makes and iterates the run.
        semantics: another reading of the method than the config's name stands for.
        draws: other random draws than the config's seed gives.
        room: where checkpoints are kept, for ranks that share no directory; None: in `directory`.
        shared: where runs that begin alike share their beginning; needs `directory`. None shares nothing.
        stop_asked: asked on rank 0 between steps; when it says so, the steps so far are saved, and `outcomes` ends.
        constants: the best constant answer of each task and scored split; None compares no score with them.

    Attributes:
        state: what the newest checkpoint holds of the finished tasks; None where nothing was begun.
        unfinished: steps of the next task that it holds.
        stopped: whether `outcomes` ended because `stop_asked` said so.

    Raises:
        ConfigError: settings that this model cannot meet.
        DataError: a sample that cannot be learned.
        StudyError: its checkpoints were made with other special tokens around texts.
    """

    def __init__(
        self,
        config: Config,
        stream: TaskStream,
        loaded: LoadedModel,
        *,
        directory: Path | None = None,
        workers: Workers | None = None,
        semantics: Semantics | None = None,
        draws: Draws | None = None,
        room: Room | None = None,
        shared: SharedDirectories | None = None,
        stop_asked: StopAsked | None = None,
        constants: Constants | None = None,
    ) -> None:
        semantics = semantics or SEMANTICS[config.method.semantics]
        draws = draws or draws_of(semantics, config.seed, config.memory_draw)
        workers = workers or SingleProcess()
        recipe = config.recipe
        config = with_needs(config)
        require_fits(config, *loaded.shape)
        require_optimizer(config)
        if config.evaluation.splits:  # generation may use all positions that the limits allow, training what data need
            check_lengths(config, loaded.model.config)
        self._config, self._stream, self._loaded = config, stream, loaded
        self._semantics, self._draws, self._workers = semantics, draws, workers
        limits = (recipe.max_prompt_tokens, recipe.max_answer_tokens)
        self._encoder = Encoder(loaded.tokenizer, *limits, semantics.collation, loaded.other_ends)
        counted = [self._encoder.encode_counted(task.train) for task in stream]
        self._encoded, self._counts = [encoded for encoded, _ in counted], [counts for _, counts in counted]
        for task, examples in zip(stream, self._encoded, strict=True):
            require_learnable(task.name, examples, num_positions(loaded.model.config))
        self._method = method_of(config, setting_of(loaded, config, semantics, draws, workers))
        self._learner = Learner(loaded, config, semantics, draws, workers, self._method)
        self._views = Views(loaded, config, semantics, draws, workers)
        self._constants = constants
        self._scorer = Scorer(config, stream, loaded, self._encoder, workers, constants)
        self._stop = StopPoll(stop_asked, workers)
        self._first = FirstStage(shared, directory, workers, self._stop) if shared and directory else None
        self.stopped = False
        self._keeper = (
            None
            if directory is None
            else CheckpointKeeper(directory / "checkpoints", workers, config.training.checkpoints_kept, room)
        )
        self.state: StreamState | None = None
        self.unfinished: tuple[StepRecord, ...] = ()
        restored = self._keeper.restore_stage(loaded.trainable()) if self._keeper else None
        if restored is not None:
            require_same_tokens(restored.state.special_tokens, self._encoder, stream, directory)
            self.state, self.unfinished = restored.state.grown(len(stream)), restored.unfinished
            self._learner.restore(restored.learner)
            if self.state.history:
                self._method.restore(self.state.method)

    def prospects(self) -> list[Prospect]:
        """What data and model allow of each task and split."""
        return prospects(self._stream, self._config.evaluation.splits, self._encoder, self._constants, self._counts)

    def outcomes(self, on_step: OnStep | None = None) -> Generator[TaskOutcome]:
        """Learn what is left; yield after each task.

        Args:
            on_step: called after each step on every rank.

        Raises:
            TrainingError: training diverged.
            CheckpointError: a checkpoint could not be written.
        """
        try:
            state = self.state or self._begin()
            for stage in stages_of(self._config):
                if stage.last >= state.tasks_done:
                    if self._stop.is_asked():
                        raise RunStopped
                    outcome = self._learn(stage, state, on_step)
                    state = outcome.state
                    yield outcome
        except RunStopped:
            self.stopped = True
        finally:
            if self._keeper:
                self._keeper.close()
            if self._first:
                self._first.close()

    def _begin(self) -> StreamState:
        """Nothing learned; scores before any training, if the experiment asks for them."""
        splits, num_tasks = self._config.evaluation.splits, len(self._stream)
        state = StreamState.empty(num_tasks, *self._loaded.shape, splits)
        if self._first:
            with self._first.base_turn():
                initial = self._scorer.rows(-1, self._first.base_scores)
        else:
            initial = self._scorer.rows(-1)
        before = {split: row[:, 0] for split, row in initial.items()}
        state = replace(state, initial=before, special_tokens=self._encoder.special_tokens)
        if self._keeper:
            self._keeper.save_stage(state, None, self._learner.state(inside_stage=False))
        return state

    def _learn(self, stage: Stage, state: StreamState, on_step: OnStep | None) -> TaskOutcome:
        """One stage, from where its progress stands."""
        task, size = self._config.stream.tasks[stage.last], sum(len(self._encoded[index]) for index in stage.tasks)
        fields = {"task": task, "stage": stage.last, "samples": size, "memory": len(state.memory)}
        _logger.info("task started", extra={"fields": fields})
        clock = StageClock(self._workers, self._loaded)
        view = self._views.of_task(stage, self._stored(stage), self._examples_of(stage))
        with clock.part("teacher"):
            self._method.before_task(view)
        # All tasks at once are no beginning that runs could share.
        alike = stage.tasks == (0,) and not self._config.method.learns_at_once and not self._method.touches_first_task
        first = self._first if alike else None
        records, spared = self._train(stage, state, on_step, clock, first)
        with clock.part("teacher"):
            samples = tuple(self._method.after_task(view))
            memory, known = state.memory.add(samples), self._method.state()
            sizes = self._bytes_of(samples), self._bytes_of(memory.samples) + self._bytes_known(known)
        with clock.part("evaluation"):
            scores, errors = self._scores(stage, state, first.scores if first else None)
        if first:
            first.close()
        timing = clock.timing(records, spared, self._first.spared_scoring() if self._first else 0.0)
        history = self._history(stage, state, records, (len(samples), *sizes), clock.total(), timing)
        state = StreamState(
            tasks_done=stage.last + 1,
            shape=state.shape,
            memory=memory,
            scores=scores,
            initial=state.initial,
            history=(*state.history, history),
            special_tokens=self._encoder.special_tokens,
            errors=errors,
            method=known,
        )
        if self._keeper:
            self._keeper.save_stage(state, self._loaded.trainable(), self._learner.state(inside_stage=False))
        return TaskOutcome(stage.last, history.task, state, tuple(records), history.seconds)

    def _train(
        self, stage: Stage, state: StreamState, on_step: OnStep | None, clock: StageClock, first: FirstStage | None
    ) -> tuple[list[StepRecord], float]:
        """All steps of a stage, and the seconds of those that another run took for this one."""
        # Only now: the attention before the task had to be read with the weights that it started from.
        parameters = self._loaded.trainable()
        steps = self._plan(stage, len(state.memory))
        progress = self._keeper.restore_steps(parameters, range(1, len(steps) + 1)) if self._keeper else None
        if first is None:
            return self._steps(stage, steps, state, progress, on_step, clock), 0.0
        shared = first.take(parameters, len(steps))
        if shared is not None:
            self._learner.restore(shared.learner)
            spared = shared.steps[len(progress.steps) if progress else 0 :]
            for record in spared:
                if on_step is not None:
                    on_step(record)
            return list(shared.steps), sum(record.seconds for record in spared)
        first.begin(anew=progress is None)
        records = self._steps(stage, steps, state, progress, on_step, clock)
        first.keep(Progress(tuple(records), self._learner.state(inside_stage=False)), parameters, state)
        return records, 0.0

    def _steps(
        self,
        stage: Stage,
        steps: Sequence[Step],
        state: StreamState,
        progress: Progress | None,
        on_step: OnStep | None,
        clock: StageClock,
    ) -> list[StepRecord]:
        """Take the steps of a stage; those that an earlier launch took come from its checkpoint."""
        records = list(progress.steps) if progress else []
        taken, parameters = len(records), self._loaded.trainable()
        before = weight_sums(parameters)
        cadence = Cadence(self._config.training)
        for record in self._learner.learn(stage, steps, self._examples_of(stage), state.memory, progress):
            records.append(record)
            if on_step is not None:
                on_step(record)
            stop_now = self._stop.is_asked_after(record)
            if self._keeper and (cadence.is_due(record) or stop_now):
                with clock.part("checkpoint"):
                    now = Progress(tuple(records), self._learner.state(inside_stage=True))
                    self._keeper.save_steps(state.tasks_done, now, self._loaded.trainable())
                    if stop_now:
                        self._keeper.settle()
            if stop_now:
                raise RunStopped
        require_moved(before, parameters, records[taken:], stage, self._workers)
        return records

    def _stored(self, stage: Stage) -> list[ReplaySample]:
        """The samples of a stage's tasks that will be stored."""
        percent, stored = self._config.stored_percent, list[ReplaySample]()
        for task in stage.tasks:
            name = self._stream[task].name
            examples = dict(zip(self._stream[task].train_rows, self._encoded[task], strict=True))
            count = stored_samples(len(examples), percent, self._semantics)
            # Drawn as if nothing had been erased: the other samples are then those that earlier runs have stored.
            size = len(examples) + len(self._stream[task].erased)
            order = self._order(name, size, size if self._stream[task].erased else count)
            for index in [index for index in order if index in examples][:count]:
                stored.append(stored_sample(task, index, len(stored), examples[index], self._config))
        return stored

    def _order(self, task: str, size: int, count: int) -> Sequence[int]:
        if self._config.method.memory.choice == "first":
            return range(count)
        return self._draws.memory_samples(task, size, count)

    def _bytes_of(self, samples: Sequence[ReplaySample]) -> int:
        """Bytes of samples and what is kept beside them over all ranks; what every rank knows counts once."""
        known = sum(replace(sample, teacher=None).num_bytes for sample in samples)
        signals = sum(sample.num_bytes for sample in samples) - known
        return known + int(self._workers.sum(torch.tensor(signals, device=self._workers.device)))

    def _bytes_known(self, method: MethodState) -> int:
        sharded = any(map(is_sharded, self._loaded.trainable().values()))
        return method.num_bytes(self._workers.sum) if sharded else method.num_bytes()

    def _examples_of(self, stage: Stage) -> list[EncodedExample]:
        """Training samples of all tasks of a stage, one after the other."""
        return [example for task in stage.tasks for example in self._encoded[task]]

    def _plan(self, stage: Stage, memory_size: int) -> list[Step]:
        sizes = [len(examples) for examples in self._encoded]
        return stage_steps(self._config, stage, sizes, memory_size, self._semantics, self._draws)

    def _scores(
        self, stage: Stage, state: StreamState, shared: SharedScores | None
    ) -> tuple[dict[str, Scores], dict[str, Errors]]:
        """The score matrices with what is due after a stage, and their errors."""
        scores = {split: matrix.copy() for split, matrix in state.scores.items()}
        errors = {split: np.full((*matrix.shape, 2), np.nan) for split, matrix in state.scores.items()}
        errors |= {split: known.copy() for split, known in state.errors.items()}
        for split, row in self._scorer.rows(stage.last, shared).items():
            scores[split][stage.last], errors[split][stage.last] = row[:, 0], row[:, 1:]
        return scores, errors

    def _history(
        self,
        stage: Stage,
        state: StreamState,
        records: Sequence[StepRecord],
        kept: tuple[int, int, int],
        seconds: float,
        timing: StageTiming,
    ) -> TaskHistory:
        replayed = [record for record in records if record.kind == "replay"]
        return TaskHistory(
            task=self._config.stream.tasks[stage.last],
            index=stage.last,
            heads=self._method.heads(),
            stored_samples=kept[0],
            memory_bytes=kept[1],
            state_bytes=kept[2],
            presentations=sum(record.samples for record in replayed),
            replay_updates=len(replayed),
            replay_tokens=sum(record.tokens for record in replayed),
            seconds=seconds,
            timing=timing,
            shares=mean_shares(records),
            first_shown=state.first_shown(shown_samples(records)),
        )
