"""What a method is: one way to keep old tasks alive while new ones are learned.

A method is one class. A run makes one instance of it on every rank, and hands it what it may touch; it never sees the
loop, and nothing is patched. The order of the calls:

    method = Method(options, setting)
    restore(state)                                        a run that goes on
    for each task:
        before_task(task)                                 weights as they were before the task
        begin_steps(taken)                                steps that an earlier launch took of the task
        for each step:
            weights(kind)                                 its terms, and what each is multiplied by
            for each micro-batch:
                batch_signals(samples, ..)                replay: what the memory keeps beside its samples
                watch(step) -> forward pass -> terms(step, logits)
            penalties(weights); before_update(update)     once an optimizer step, before clipping
        after_task(task) -> what the memory stores
        state()                                           saved; must come back bit for bit
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from seekr_tune.config.section import Section
from seekr_tune.methods.draws import Draws
from seekr_tune.methods.memory import ReplaySample
from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.seekr.attention import AttentionTap
from seekr_tune.methods.semantics import Semantics
from seekr_tune.methods.sizes import ModelShape, SampleBytes, SampleSize
from seekr_tune.methods.terms import CROSS_ENTROPY
from seekr_tune.methods.workers import Workers

T = TypeVar("T")
Kind = Literal["new", "replay"]
"""A step on samples of the new task, or of the replay memory."""


@dataclass(frozen=True)
class Needs:
    """What a method asks of a run, known before anything is loaded.

    Attributes:
        memory: some samples of each task are stored, and replay steps learn them again.
        all_at_once: the tasks are learned together, in one stage.
        weight_copies: how often the state holds the trained weights over (EWC: 2), for the plan of memory and disk.
        touches_first_task: the first task is not learned as plain fine-tuning learns it, so that its end cannot be
            shared with other runs.
    """

    memory: bool = False
    all_at_once: bool = False
    weight_copies: int = 0
    touches_first_task: bool = False


@dataclass(frozen=True)
class Setting:
    """What a method is made with; it holds for the whole run.

    Attributes:
        model: as it is called outside of training steps; loaded with the attention tap.
        shape: layers of the model, heads of a layer.
        semantics: reading of SEEKR.
        draws: keyed random draws.
        workers: the processes that share the run.
        computed_dtype: precision of forward and backward passes.
        steps_an_update: steps whose gradients make up one update.
    """

    model: nn.Module
    shape: tuple[int, int]
    semantics: Semantics
    draws: Draws
    workers: Workers
    computed_dtype: Literal["float32", "bfloat16"]
    steps_an_update: int = 1


@dataclass(frozen=True)
class Pass:
    """Stored samples that are read in one forward pass.

    Attributes:
        read: places of the samples among those that will be stored.
        positions: the same; none for a pass that only keeps step with the other ranks, and whose results are dropped.
        tokens: the padded batch.
    """

    read: tuple[int, ...]
    positions: tuple[int, ...]
    tokens: Tokens


Gradients = Mapping[str, Tensor]
"""Of trained parameters by name: this rank's parts of them, plain tensors."""


@dataclass(frozen=True)
class TaskView:
    """A task that is about to be learned, or that has been; of `joint` training, all of them.

    Attributes:
        name: key of its draws.
        names: of all tasks of the stream; `ReplaySample.task` is an index among them.
        stored: the samples that the memory will keep of it.
        passes: stored samples in this rank's batches; every rank makes as many passes.
        weights: this rank's parts of the trained parameters by name, as they are now; copy what you keep.
        mean_over_samples: mean of a function of the gradient that each training sample has alone, over samples (the
            first so many in a drawn order, or all); every rank calls it, and gets its parts of the same mean. A
            sample's loss is the sum over its label tokens.
    """

    name: str
    names: tuple[str, ...]
    stored: tuple[ReplaySample, ...]
    passes: Callable[[], Iterator[Pass]]
    weights: Callable[[], dict[str, Tensor]]
    mean_over_samples: Callable[[Callable[[Tensor], Tensor], int | None], dict[str, Tensor]]


@dataclass(frozen=True)
class StepView:
    """One micro-batch of a step.

    Attributes:
        kind: of the step.
        tokens: the padded batch, on the device.
        samples: the stored samples of a replay step, in the order of the batch; none in a step on new samples, nor on a
            rank that only keeps step with the others.
        signals: what `batch_signals` made for these samples, on the device.
        label_tokens: what a sum over label tokens is divided by; of the whole step over all ranks, or of this
            micro-batch alone where micro-batches are steps of their own (official).
        step_rows: attention rows that the samples of the whole step have stored.
        timed: entered where a method does work of its own; what was spent there is reported apart.
    """

    kind: Kind
    tokens: Tokens
    samples: tuple[ReplaySample, ...]
    signals: Mapping[str, Tensor]
    label_tokens: int
    step_rows: int
    timed: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Update:
    """Gradients that are about to change the weights.

    Attributes:
        kind: of the step that completed them.
        gradients: accumulated and averaged over ranks; change them in place.
        total: sum over ranks of what each computed of its parts; leaves it alone where every rank holds all.
    """

    kind: Kind
    gradients: Gradients
    total: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MethodState:
    """What a method knows when a task has ended; saved and restored whole, by any number of workers.

    Attributes:
        weights: by a name of the method's own, one tensor for each trained parameter, laid out as this rank's part.
        tensors: the same on every rank.
        facts: what JSON can hold, the same on every rank.
    """

    weights: Mapping[str, Gradients] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def num_bytes(self, total: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> int:
        """Bytes of all its tensors, each counted once, however many workers hold it.

        Args:
            total: sum over ranks where each holds a part of the weights; every rank calls it.
        """
        parts = torch.tensor(sum(own.nbytes for named in self.weights.values() for own in named.values()))
        return int(total(parts)) + sum(own.nbytes for own in self.tensors.values())


def below(name: str, values: Mapping[str, T]) -> dict[str, T]:
    """Of values by path, those below one name, by the rest of their paths."""
    return {key.removeprefix(f"{name}/"): own for key, own in values.items() if key.startswith(f"{name}/")}


@dataclass(frozen=True)
class HeadNotes:
    """What a method that ranks heads says of them when a task ends.

    Attributes:
        scores: of this task alone, by name, `[layers, heads]` each; the ledger has `sensitivity` and `forgettability`.
        total: summed over tasks so far, by the same names; the ledger has `importance`.
        selected: heads selected now, by layer.
    """

    scores: Mapping[str, Tensor]
    total: Mapping[str, Tensor]
    selected: Mapping[int, tuple[int, ...]]


class Method:
    """A method that does nothing: plain fine-tuning. Yours overrides what it needs.

    What `state` does not return is lost when a run is killed; a run that goes on calls `restore`, `before_task` and
    `begin_steps`, so nothing that a step changes may matter to the next one.

    Args:
        options: its settings, of class `Options`.
        setting: what holds for the whole run.
    """

    Options: ClassVar[type[Section]] = Section
    """Its settings: fields with defaults and docstrings. They are `method.<name>.<field>` of an experiment."""
    needs: ClassVar[Needs] = Needs()
    mends: ClassVar[Mapping[str, str]] = {}
    """Its loss terms, and what to do where one is no finite number: `{"ewc": "lower method.ewc.strength"}`."""
    unsupported: ClassVar[Mapping[str, str]] = {}
    """What it cannot serve of `ddp`, `fsdp` and `lora`, and why; a run that asks for it is refused with that reason."""

    def __init__(self, options: Any, setting: Setting) -> None:
        self.options, self.setting = options, setting

    @classmethod
    def require_fits(cls, options: Any, layers: int, heads: int) -> None:
        """Refuse options that a model of so many layers, and heads of each, cannot serve.

        Raises:
            ConfigError: naming the field.
        """

    @classmethod
    def sample_bytes(cls, options: Any, sample: SampleSize, model: ModelShape) -> SampleBytes:
        """What a stored sample takes besides its tokens, for the plan of memory and disk."""
        return SampleBytes()

    def restore(self, state: MethodState) -> None:
        """Take up a `state` again; not called for a run that begins."""

    def state(self) -> MethodState:
        """What must outlive the task that has just ended."""
        return MethodState()

    def before_task(self, task: TaskView) -> None:
        """A task is about to be learned; called again where it is taken up in the middle, with the same weights."""

    def after_task(self, task: TaskView) -> Sequence[ReplaySample]:
        """A task has been learned: the samples to store, with what the method keeps beside them."""
        return task.stored

    def heads(self) -> HeadNotes | None:
        """What is known of heads since the last task ended; None: the method ranks none."""
        return None

    def begin_steps(self, taken: Sequence[Mapping[str, float]]) -> None:
        """Steps begin.

        Args:
            taken: `weights` of the steps that an earlier launch took of this task.
        """

    def weights(self, kind: Kind) -> dict[str, float]:
        """The terms of the next step, in the order in which they are computed, and what each is multiplied by.

        `cross_entropy` is computed by the loop; several methods' factors of it are multiplied.
        """
        return {CROSS_ENTROPY: 1.0}

    @property
    def keeps_signals(self) -> bool:
        """Whether `after_task` puts tensors beside samples, which `batch_signals` then brings to replay steps."""
        return False

    def batch_signals(self, samples: Sequence[ReplaySample], padded_length: int, pin: bool) -> Mapping[str, Tensor]:
        """What the memory keeps beside samples, as tensors of a batch in main memory.

        Called in another thread while a GPU takes the step before.

        Args:
            padded_length: tokens of the padded batch.
            pin: make them in pinned memory.
        """
        return {}

    def watch(self, step: StepView) -> AttentionTap | None:
        """The tap for the forward pass of a micro-batch; at most one method of a run has one."""
        return None

    def terms(self, step: StepView, logits: Tensor) -> Mapping[str, Tensor]:
        """Its terms of a micro-batch, before their weights: scalars with graph, divided as `StepView` says.

        Args:
            logits: of the last positions, `[batch, kept, vocabulary]`, enough for the longest answer.
        """
        return {}

    def penalties(self, weights: Gradients) -> Mapping[str, tuple[Tensor, float]]:
        """Terms of the weights alone, added once an update: by name, a sum over these parts, and its factor.

        Args:
            weights: this rank's parts of the trained parameters; their gradients are taken.
        """
        return {}

    def before_update(self, update: Update) -> None:
        """Gradients are complete, penalties included, and not clipped yet."""

    @property
    def finds_weights(self) -> bool:
        """Whether `measured` changes a weight, and needs measurements at steps 1, 2, 4, 8, ... of a task."""
        return False

    def measured(self, norms: Mapping[str, float]) -> Mapping[str, float]:
        """Told what each term's part of a replay gradient measures at `measured_weights`; returns it at the weights
        that hold from now on."""
        return norms

    def measured_weights(self) -> dict[str, float]:
        """Weights at which a replay step is measured."""
        return self.weights("replay")
