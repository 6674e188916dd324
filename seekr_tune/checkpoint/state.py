"""The values that the loop hands on: what outlives a task, and what it yields."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from seekr_tune.data.special_tokens import SpecialTokens
from seekr_tune.methods.memory import ReplayMemory
from seekr_tune.methods.protocol import HeadNotes, MethodState

Scores = np.ndarray[tuple[int, int], np.dtype[np.float64]]
InitialScores = np.ndarray[tuple[int], np.dtype[np.float64]]
Errors = np.ndarray[tuple[int, int, int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One training step, as logged; losses are means over the global batch.

    Attributes:
        task_index: index of the (last) task of the stage.
        step: number of the step within the stage, from 0.
        kind: new-task or replay step.
        loss: the loss that was back-propagated.
        terms: what it is made of, by name, before their weights.
        grad_norm: before clipping; None where gradients only accumulated.
        learning_rate: of the update.
        samples, tokens: of the global batch, padding not counted.
        seconds: wall time on rank 0.
        distillation_seconds: its part for distillation terms (forward); None where there are none.
        batch: indices of the samples, in the stage's train samples or in the memory.
        flops: model FLOPs of its forward and backward passes, over all ranks (`throughput.FlopRates`).
        weights: what each term was multiplied by.
        shares: of each term in the replay gradient, its norm by the sum of the norms; empty where they were not
            measured.
    """

    task_index: int
    step: int
    kind: Literal["new", "replay"]
    loss: float
    terms: Mapping[str, float]
    grad_norm: float | None
    learning_rate: float
    samples: int
    tokens: int
    seconds: float
    distillation_seconds: float | None
    batch: tuple[int, ...]
    flops: float
    weights: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StageTiming:
    """Where the time of one stage went, and what it took.

    Attributes:
        new_seconds, replay_seconds: training steps by kind.
        distillation_seconds: part of `replay_seconds`: teacher targets, attention rows, distillation terms (forward).
        teacher_seconds: reading the model before and after the stage.
        evaluation_seconds: generating and scoring.
        checkpoint_seconds: time that training waited for checkpoints inside the stage.
        tokens: trained, new and replayed, padding not counted.
        peak_memory_bytes: of the fullest rank: device memory on a GPU, resident set on a CPU; None where the system
            cannot say what it was since the stage began.
        model_flops: forward and backward passes of those tokens, over all ranks.
        flops_utilisation: their share of what the devices could have done in the steps' time; None where the peak of
            the device is not known.
        shared_seconds: of training and scoring that were spared, because another run had done the same. Its steps
            count in the seconds above, too: they are those of the run that took them.
        shared_step_seconds: the part of `shared_seconds` that are steps; None: an earlier version did not say.
    """

    new_seconds: float
    replay_seconds: float
    distillation_seconds: float
    teacher_seconds: float
    evaluation_seconds: float
    checkpoint_seconds: float
    tokens: int
    peak_memory_bytes: int | None
    model_flops: float
    flops_utilisation: float | None
    shared_seconds: float = 0.0
    shared_step_seconds: float | None = None


@dataclass(frozen=True)
class TaskHistory:
    """What the ledger keeps of one finished task.

    Attributes:
        task, index: name, and position in the stream.
        heads: what the method says of heads; None for one that ranks none.
        stored_samples, memory_bytes: what the memory keeps of this task.
        presentations, replay_updates, replay_tokens: replayed while this task was learned.
        seconds: wall time of the task, evaluation included; of its last launch, where it was interrupted.
        timing: where that time went.
        shares: of each term in the replay gradient, means over the steps in which they were measured; empty where they
            were not.
        first_shown: stored samples that were replayed for the first time while this task was learned, each as the
            index of its task and its index there; None where an earlier version did not note them.
        state_bytes: all that is kept for old tasks now, besides the model: the memory, and what methods know, whole and
            once, whatever the number of workers; None where an earlier version did not note it.
    """

    task: str
    index: int
    heads: HeadNotes | None
    stored_samples: int
    memory_bytes: int
    presentations: int
    replay_updates: int
    replay_tokens: int
    seconds: float
    timing: StageTiming
    shares: Mapping[str, float] = field(default_factory=dict)
    first_shown: tuple[tuple[int, int], ...] | None = None
    state_bytes: int | None = None

    @property
    def selected(self) -> Mapping[int, tuple[int, ...]]:
        """Heads selected when the task ended, by layer; none for a method that ranks none."""
        return self.heads.selected if self.heads else {}


@dataclass(frozen=True)
class StreamState:
    """All that outlives a task, besides the weights and the optimizer; saved whole and restored whole.

    Attributes:
        tasks_done: tasks that are learned.
        shape: layers of the model, heads of a layer.
        memory: the replay memory, with what methods keep beside the samples that this rank holds.
        method: what the methods know besides.
        scores: by split, `[tasks, tasks]` in percent: row = after learning that task, column = evaluated task, NaN
            where not evaluated.
        initial: by split, scores before any training, `[tasks]`.
        history: one entry a finished stage.
        errors: by split, `[tasks, tasks, 2]` in points: `error` and `margin_error` of each score (`TaskScore`), NaN
            where they are not known, as in a checkpoint of an earlier version.
        special_tokens: what stands around prompts and answers; None in a checkpoint of an earlier version.
    """

    tasks_done: int
    shape: tuple[int, int]
    memory: ReplayMemory
    scores: Mapping[str, Scores]
    initial: Mapping[str, InitialScores]
    history: tuple[TaskHistory, ...]
    special_tokens: SpecialTokens | None = None
    errors: Mapping[str, Errors] = field(default_factory=dict)
    method: MethodState = field(default_factory=MethodState)

    @classmethod
    def empty(cls, num_tasks: int, num_layers: int, num_heads: int, splits: tuple[str, ...]) -> StreamState:
        """Before the first task."""
        return cls(
            tasks_done=0,
            shape=(num_layers, num_heads),
            memory=ReplayMemory(),
            scores={split: np.full((num_tasks, num_tasks), np.nan) for split in splits},
            initial={split: np.full(num_tasks, np.nan) for split in splits},
            history=(),
            errors={split: np.full((num_tasks, num_tasks, 2), np.nan) for split in splits},
        )

    def grown(self, num_tasks: int) -> StreamState:
        """The same state in a longer stream; cells of the new tasks are not evaluated yet."""
        scores = {split: np.full((num_tasks, num_tasks), np.nan) for split in self.scores}
        initial = {split: np.full(num_tasks, np.nan) for split in self.initial}
        for split, known in self.scores.items():
            scores[split][: len(known), : len(known)] = known
        for split, row in self.initial.items():
            initial[split][: len(row)] = row
        errors = {split: np.full((num_tasks, num_tasks, 2), np.nan) for split in self.scores}
        for split, table in self.errors.items():
            errors[split][: len(table), : len(table)] = table
        return replace(self, scores=scores, initial=initial, errors=errors)

    def first_shown(self, places: Collection[int]) -> tuple[tuple[int, int], ...] | None:
        """Of samples that a stage has replayed, those that no earlier one had; None where that is not known.

        Args:
            places: of the samples in the memory.
        """
        known: set[tuple[int, int]] = set()
        for entry in self.history:
            if entry.first_shown is None:
                return None
            known.update(entry.first_shown)
        shown = {(self.memory[place].task, self.memory[place].index) for place in places}
        return tuple(sorted(shown - known))


@dataclass(frozen=True)
class LearnerState:
    """All that a learner knows besides the weights.

    Attributes:
        tensors: `moments/<entry>/<parameter>` and `gradient/<parameter>`, as they lie on this rank.
        pending_steps: steps whose gradients wait for an update.
        updates: optimizer updates done in the stage: where its learning-rate schedule stands.
        optimizer: what the optimizer knows besides tensors; JSON, the same on every rank.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    pending_steps: int = 0
    updates: int = 0
    optimizer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """A stage that is being learned.

    Attributes:
        steps: those that are done.
        learner: what it stands at besides the weights.
    """

    steps: tuple[StepRecord, ...]
    learner: LearnerState


@dataclass(frozen=True)
class TaskOutcome:
    """What the loop yields when a stage ends.

    Attributes:
        index, task: the (last) task that was learned.
        state: everything known now.
        steps: the steps of this stage.
        seconds: wall time of this stage.
    """

    index: int
    task: str
    state: StreamState
    steps: tuple[StepRecord, ...]
    seconds: float
