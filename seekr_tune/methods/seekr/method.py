"""SEEKR: the attention of the few heads that matter is distilled on stored samples. Source: He et al., EMNLP 2024."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from seekr_tune.config.methods import SeekrOptions
from seekr_tune.methods.derpp import DerPP, teacher_of
from seekr_tune.methods.losses import attention_distillation, row_divergence
from seekr_tune.methods.memory import ReplaySample, TeacherSignals
from seekr_tune.methods.protocol import HeadNotes, Kind, MethodState, Setting, StepView, TaskView
from seekr_tune.methods.seekr.attention import AttentionTap
from seekr_tune.methods.seekr.importance import HeadScores
from seekr_tune.methods.seekr.selection import HeadSelection, all_heads, resolve_budgets, select_heads
from seekr_tune.methods.seekr.teacher import Queried, Teacher
from seekr_tune.methods.sizes import FLOAT16, FLOAT32, INT16, INT32, POSITION, ModelShape, SampleBytes, SampleSize
from seekr_tune.methods.storage import LARGEST_INT16, LARGEST_KEYS, Kept, keep_rows
from seekr_tune.methods.targets import RowTargets, joined
from seekr_tune.methods.terms import ATTENTION_DISTILLATION, LOGIT_DISTILLATION, weight_of_share

_FIELDS = ("sensitivity", "forgettability", "importance")
_ATTENTION = "lower recipe.learning_rate or method.seekr.attention_weight"


class Seekr(DerPP):
    """DER++ + w (attention distillation) on replayed samples, of heads that are chosen when their task ends.

    A head's importance is its sensitivity (to the task's loss) times its forgettability (how far learning the task has
    moved its attention), summed over tasks.
    """

    mends: ClassVar[Mapping[str, str]] = {
        LOGIT_DISTILLATION: "lower recipe.learning_rate or method.seekr.logit_weight",
        ATTENTION_DISTILLATION: _ATTENTION,
        "loss": "lower method.seekr.attention_weight",
        "grad_norm": _ATTENTION,
    }

    Options: ClassVar[type[SeekrOptions]] = SeekrOptions
    options: SeekrOptions

    def __init__(self, options: SeekrOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self._distils = options.distils_attention
        self._weight = options.attention_weight or 0.0  # where a share is asked for, found as it is met
        self._totals = HeadScores.zeros(*setting.shape)
        self._heads: HeadNotes | None = None
        self._teacher = Teacher(setting, options.query_budget, self._form, logits=options.logit_weight > 0)
        self._before: Mapping[int, Tensor] = {}
        self._targets: dict[int, RowTargets] = {}
        self._tap: AttentionTap | None = None

    # --- before anything is loaded -----------------------------------------------------------------------------------

    @classmethod
    def require_fits(cls, options: Any, layers: int, heads: int) -> None:
        if options.distils_attention and options.selection != "all":
            resolve_budgets(options.head_budget, options.layer_ratio, layers, heads)

    @classmethod
    def sample_bytes(cls, options: Any, sample: SampleSize, model: ModelShape) -> SampleBytes:
        found = super().sample_bytes(options, sample, model)
        if not options.distils_attention:
            return found
        form, every = options.form(model.computed_dtype), model.layers * model.heads
        queries = sample.length if options.query_budget is None else options.query_budget
        if model.semantics.draws != "fixed":
            queries = min(queries, sample.length)
        visible = queries * (sample.length + 1) // 2 if sample.visible is None else sample.visible
        rows = every * visible * (FLOAT32 if form == "exact" else FLOAT16)
        heads = every
        if options.selection != "all":
            heads = resolve_budgets(options.head_budget, options.layer_ratio, model.layers, model.heads).num_heads
        kept = rows * heads // every
        if form == "compact":
            entry = FLOAT16 + (INT16 if sample.length <= LARGEST_INT16 else INT32)
            kept = heads * queries * min(LARGEST_KEYS, sample.length) * entry
        reading = model.heads * queries * sample.length * FLOAT32 + 2 * rows
        return found + SampleBytes(kept, POSITION * queries, rows, reading)

    # --- what outlives a task ----------------------------------------------------------------------------------------

    def state(self) -> MethodState:
        return MethodState(tensors={f"totals/{name}": own for name, own in vars(self._totals).items()})

    def restore(self, state: MethodState) -> None:
        self._totals = HeadScores(*(state.tensors[f"totals/{name}"] for name in _FIELDS))

    def heads(self) -> HeadNotes | None:
        return self._heads

    # --- around a task -----------------------------------------------------------------------------------------------

    def before_task(self, task: TaskView) -> None:
        self._before = self._teacher.rows(task.passes, self._queried(task)) if self._distils else {}

    def after_task(self, task: TaskView) -> Sequence[ReplaySample]:
        self._heads = None
        if not self._distils or not task.stored:
            return super().after_task(task)
        queried = self._queried(task)
        seen = self._teacher.lesson(task.passes, queried, self._before)
        self._before = {}
        self._totals = self._totals + seen.scores
        selected = self._select(task.name)
        self._heads = HeadNotes(vars(seen.scores), vars(self._totals), selected.heads)

        def kept(place: int, sample: ReplaySample) -> ReplaySample:
            teacher = None
            if place in seen.rows:
                rows = self._kept_rows(seen.rows[place], queried[place], len(sample.input_ids), selected)
                teacher = TeacherSignals(seen.logits.get(place), rows)
            queries = queried[place] if selected.heads else sample.queries
            return replace(sample, queries=queries, heads=selected.heads, teacher=teacher)

        return [kept(place, sample) for place, sample in enumerate(task.stored)]

    def _queried(self, task: TaskView) -> Queried:
        """Query rows of each sample, by its place."""
        budget, draws = self.options.query_budget, self.setting.draws
        tasks = task.names
        return [draws.query_rows(tasks[s.task], s.index, len(s.input_ids), budget) for s in task.stored]

    def _select(self, task: str) -> HeadSelection:
        num_layers, num_heads = self.setting.shape
        kind = self.options.selection
        if kind == "all":
            return all_heads(num_layers, num_heads)
        is_random = kind == "random"
        ranked_by = self.setting.draws.head_scores(task, num_layers, num_heads) if is_random else None
        budgets = resolve_budgets(self.options.head_budget, self.options.layer_ratio, num_layers, num_heads)
        scores = getattr(self._totals, kind) if ranked_by is None else ranked_by
        return select_heads(scores, budgets.num_layers, budgets.num_heads)

    def _kept_rows(self, rows: Tensor, queries: Tensor, length: int, selected: HeadSelection) -> Kept | None:
        if not selected.heads:
            return None
        chosen = torch.cat([rows[layer, list(heads)] for layer, heads in sorted(selected.heads.items())])
        return keep_rows(chosen, queries, length, self._form)

    # --- in a step ---------------------------------------------------------------------------------------------------

    @property
    def keeps_signals(self) -> bool:
        return self._distils or super().keeps_signals

    def begin_steps(self, taken: Sequence[Mapping[str, float]]) -> None:
        if self.options.attention_share is not None:
            known = [weights[ATTENTION_DISTILLATION] for weights in taken if ATTENTION_DISTILLATION in weights]
            self._weight = known[-1] if known else 0.0

    def weights(self, kind: Kind) -> dict[str, float]:
        attention = {ATTENTION_DISTILLATION: self._weight} if kind == "replay" and self._distils else {}
        return super().weights(kind) | attention

    def batch_signals(self, samples: Sequence[ReplaySample], padded_length: int, pin: bool) -> dict[str, Tensor]:
        return joined(samples, padded_length, logits=self.options.logit_weight > 0, rows=self._distils, pin=pin)

    def watch(self, step: StepView) -> AttentionTap | None:
        self._targets = {}
        if not step.samples or not self._distils:
            return None
        with step.timed():
            self._targets = targets = teacher_of(step).rows()

        def diverge(layer: int, rows: Tensor) -> Tensor:
            return row_divergence(rows, targets[layer].probabilities, self._semantics.student_epsilon)

        requests = {layer: target.request for layer, target in targets.items()}
        self._tap = AttentionTap(requests, timed=step.timed, reduce=diverge)
        return self._tap

    def terms(self, step: StepView, logits: Tensor) -> dict[str, Tensor]:
        terms = super().terms(step, logits)
        if step.samples and self._distils:
            with step.timed():
                weights = self._semantics.row_weights(self._targets, len(step.samples), step.step_rows)
                assert self._tap is not None
                terms[ATTENTION_DISTILLATION] = attention_distillation(self._tap.rows, weights)
        return terms

    # --- a share in place of a weight --------------------------------------------------------------------------------

    @property
    def finds_weights(self) -> bool:
        return self.options.attention_share is not None

    def measured_weights(self) -> dict[str, float]:
        return self.weights("replay") | ({ATTENTION_DISTILLATION: 1.0} if self.finds_weights else {})

    def measured(self, norms: Mapping[str, float]) -> Mapping[str, float]:
        share = self.options.attention_share
        if share is None:
            return norms
        self._weight = weight_of_share(share, norms, ATTENTION_DISTILLATION, self._weight)
        return {**norms, ATTENTION_DISTILLATION: norms[ATTENTION_DISTILLATION] * self._weight}
