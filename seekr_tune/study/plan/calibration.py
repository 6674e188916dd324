"""How long the parts of a run take on this machine: a few of each are done, timed, and thrown away.

Everything is done by the classes that a run is made of, on its own data and model, in this process alone. Nothing is
written. The model changes a little while steps are timed, so nothing here may be used for anything but its duration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, median

import torch
from transformers.utils import logging as transformers_logging

from seekr_tune.cluster.strategy import local_workers
from seekr_tune.config import Config, Split
from seekr_tune.data.collate import Encoder
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import Task, TaskStream
from seekr_tune.loop.evaluate import score_task
from seekr_tune.loop.learner import Learner
from seekr_tune.loop.schedule import Stage, Step, accumulation_steps, batches
from seekr_tune.loop.views import Views, setting_of, stored_sample
from seekr_tune.methods.draws import draws_of
from seekr_tune.methods.memory import ReplayMemory, ReplaySample
from seekr_tune.methods.protocol import TaskView
from seekr_tune.methods.registry import method_of
from seekr_tune.methods.semantics import SEMANTICS
from seekr_tune.methods.sizes import SampleSize
from seekr_tune.methods.workers import Workers
from seekr_tune.models.converter import converter_of
from seekr_tune.models.loading import LoadedModel, load_model
from seekr_tune.study.plan.workload import Rates, TaskRates, TaskSize

_REPEATS = 5
"""Times that each part is done, after once to warm up; the median counts."""

_PATIENCE = 5.0
"""Seconds after which a part is not repeated once more."""

_STORED = 4
"""Samples of each task that are read and replayed."""


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        rates: how long each part takes.
        sizes: examples of every task, by name.
        samples: mean tokens of a train sample, by task.
        device: where it was measured, in words.
        seconds: how long measuring took.
    """

    rates: Rates
    sizes: Mapping[str, TaskSize]
    samples: Mapping[str, SampleSize]
    device: str
    seconds: float


def calibrate(config: Config) -> Calibration:
    """Time the parts of a run of this experiment.

    Raises:
        UserError: the data, the model or the device cannot be used.
    """
    begun = time.perf_counter()
    workers = local_workers(config)
    started = _clock(workers.device)
    splits: tuple[Split, ...] = ("train", *config.evaluation.splits)
    stream = load_stream(config, splits)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    loaded = load_model(config.model, workers.device, convert=converter_of(config))
    bench = _Bench(config, stream, loaded, workers)
    loading = _clock(workers.device) - started
    scoring = {task.name: bench.scoring(task) for task in stream}  # first: steps change what the model answers
    reading, memory = bench.readings()
    new_steps = {task.name: bench.new_steps(index) for index, task in enumerate(stream)}
    tasks = {task.name: TaskRates(new_steps[task.name], reading[task.name], scoring[task.name]) for task in stream}
    return Calibration(
        rates=Rates(loading, bench.replay_steps(memory), tasks),
        sizes={task.name: _size_of(task, config) for task in stream},
        samples=bench.samples(),
        device=_device_text(workers.device),
        seconds=time.perf_counter() - begun,
    )


class _Bench:
    """The parts of a run, each for itself."""

    def __init__(self, config: Config, stream: TaskStream, loaded: LoadedModel, workers: Workers) -> None:
        self._config, self._stream, self._loaded, self._workers = config, stream, loaded, workers
        self._semantics = SEMANTICS[config.method.semantics]
        self._draws = draws_of(self._semantics, config.seed)
        recipe = config.recipe
        self._encoder = Encoder(
            loaded.tokenizer, recipe.max_prompt_tokens, recipe.max_answer_tokens, self._semantics.collation
        )
        self._encoded = [self._encoder.encode_all(task.train) for task in stream]
        method = method_of(config, setting_of(loaded, config, self._semantics, self._draws, workers))
        self._views, self._method = Views(loaded, config, self._semantics, self._draws, workers), method
        self._learner = Learner(loaded, config, self._semantics, self._draws, workers, method)

    def scoring(self, task: Task) -> float:
        """Seconds to score all splits of a task once: those of one batch, times the batches."""
        size, total = self._config.evaluation.batch_size, 0.0
        for split in self._config.evaluation.splits:
            examples = task.splits[split]
            part = replace(task, splits={split: examples[:size]})
            batch = self._median(partial(self._score, part, split))
            total += batch * len(examples) / max(1, min(size, len(examples)))
        return total

    def _score(self, task: Task, split: Split) -> None:
        config = self._config
        with self._workers.whole(self._loaded.model):
            limit = config.recipe.max_answer_tokens
            score_task(self._loaded, self._encoder, task, split, config.evaluation, limit, self._workers)

    def readings(self) -> tuple[dict[str, float], ReplayMemory]:
        """Seconds for each stored sample, by task, and a memory of a few samples of each; empty without replay."""
        memory, seconds = ReplayMemory(), {}
        for index, task in enumerate(self._stream):
            stored = self._stored(index, task.name)
            if not stored:
                seconds[task.name] = 0.0
                continue
            view = self._views.of_task(Stage(task.name, (index,)), stored, self._encoded[index])
            seconds[task.name] = self._median(partial(self._read, view)) / len(stored)
            memory = memory.add(self._read(view))
        return seconds, memory

    def _read(self, view: TaskView) -> Sequence[ReplaySample]:
        self._method.before_task(view)
        return self._method.after_task(view)

    def new_steps(self, task: int) -> float:
        """Seconds of a step on new samples of a task."""
        order = self._draws.epoch_order(self._stream[task].name, 0, len(self._encoded[task]))
        size = self._config.recipe.batch_size // accumulation_steps(self._config, self._semantics)
        drawn = batches(order, size)[: _REPEATS + 1]
        return self._median_step(task, [Step("new", batch) for batch in drawn], ReplayMemory())

    def replay_steps(self, memory: ReplayMemory) -> float:
        """Seconds of a step on replayed samples of mixed tasks; 0 without replay."""
        if not len(memory):
            return 0.0
        size = self._config.recipe.replay_batch_size
        order = self._draws.replay_order("calibration", 0, len(memory)) * -(-size * (_REPEATS + 1) // len(memory))
        steps = [Step("replay", batch) for batch in batches(order, size)[: _REPEATS + 1]]
        return self._median_step(0, steps, memory)

    def samples(self) -> dict[str, SampleSize]:
        """Mean tokens and labels of the train samples, by task."""
        return {
            task.name: SampleSize(
                round(fmean(len(example.input_ids) for example in encoded)),
                round(fmean(example.num_labels for example in encoded)),
            )
            for task, encoded in zip(self._stream, self._encoded, strict=True)
        }

    def _stored(self, task: int, name: str) -> list[ReplaySample]:
        if self._config.stored_percent == 0:
            return []
        examples = self._encoded[task]
        indices = self._draws.memory_samples(name, len(examples), min(_STORED, len(examples)))
        return [stored_sample(task, i, place, examples[i], self._config) for place, i in enumerate(indices)]

    def _median_step(self, task: int, steps: Sequence[Step], memory: ReplayMemory) -> float:
        stage = Stage(self._stream[task].name, (task,))
        records = self._learner.learn(stage, steps, self._encoded[task], memory)
        return _median_of(lambda: next(records), len(steps), self._workers.device)

    def _median(self, action: Callable[[], object]) -> float:
        return _median_of(action, _REPEATS + 1, self._workers.device)


def _median_of(action: Callable[[], object], times: int, device: torch.device) -> float:
    """Median seconds of an action; the first time warms up, and counts only where it is the only one."""
    seconds: list[float] = []
    while len(seconds) < times and sum(seconds) < _PATIENCE:
        started = _clock(device)
        action()
        seconds.append(_clock(device) - started)
    return median(seconds[1:] or seconds)


def _clock(device: torch.device) -> float:
    """Seconds that only differences of mean something; on one thread those of the processor, which nobody else uses."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def _size_of(task: Task, config: Config) -> TaskSize:
    return TaskSize(len(task.train), {split: len(task.splits[split]) for split in config.evaluation.splits})


def _device_text(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
