"""DER++: the model's own logits on stored samples are distilled besides. Source: Buzzega et al. 2020."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from seekr_tune.config.methods import DerppOptions
from seekr_tune.methods.losses import label_rows, soft_cross_entropy
from seekr_tune.methods.memory import ReplaySample, TeacherSignals
from seekr_tune.methods.protocol import Kind, Method, Needs, Setting, StepView, TaskView
from seekr_tune.methods.reading import observe_logits
from seekr_tune.methods.sizes import FLOAT16, FLOAT32, INT32, ModelShape, SampleBytes, SampleSize
from seekr_tune.methods.storage import LARGEST_TOKENS, Kept, keep_logits
from seekr_tune.methods.targets import TeacherBatch, joined
from seekr_tune.methods.terms import CROSS_ENTROPY, LOGIT_DISTILLATION


class DerPP(Method):
    """(1 - w) CE + w (logit distillation) on replayed samples."""

    needs: ClassVar[Needs] = Needs(memory=True)
    mends: ClassVar[Mapping[str, str]] = {LOGIT_DISTILLATION: "lower recipe.learning_rate or method.derpp.logit_weight"}
    Options: ClassVar[type[DerppOptions]] = DerppOptions
    options: DerppOptions

    def __init__(self, options: DerppOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self._semantics, self._workers = setting.semantics, setting.workers
        self._form = options.form(setting.computed_dtype)

    @classmethod
    def sample_bytes(cls, options: Any, sample: SampleSize, model: ModelShape) -> SampleBytes:
        if options.logit_weight == 0:
            return SampleBytes()
        form = options.form(model.computed_dtype)
        if form == "compact":
            return SampleBytes(sample.labels * min(LARGEST_TOKENS, model.vocabulary) * (FLOAT16 + INT32))
        number = FLOAT32 if (form, model.computed_dtype) == ("exact", "float32") else FLOAT16
        return SampleBytes(sample.labels * model.vocabulary * number)

    @property
    def keeps_signals(self) -> bool:
        return self.options.logit_weight > 0

    def weights(self, kind: Kind) -> dict[str, float]:
        own = self.options.logit_weight if kind == "replay" else 0.0
        return {CROSS_ENTROPY: 1 - own} | ({LOGIT_DISTILLATION: own} if own > 0 else {})

    def batch_signals(self, samples: Sequence[ReplaySample], padded_length: int, pin: bool) -> dict[str, Tensor]:
        return joined(samples, padded_length, logits=True, rows=False, pin=pin)

    def terms(self, step: StepView, logits: Tensor) -> dict[str, Tensor]:
        if not step.samples or not self.options.logit_weight:
            return {}
        with step.timed():
            shift, teacher = self._semantics.logit_shift, teacher_of(step)
            student = label_rows(logits, step.tokens.labels, shift, teacher.num_logits)
            total = soft_cross_entropy(student, teacher.logits(student.shape[1]))
        within_step = self._semantics.accumulation == "within_step"
        return {LOGIT_DISTILLATION: total / (step.label_tokens if within_step else sum(step.tokens.answers))}

    def after_task(self, task: TaskView) -> Sequence[ReplaySample]:
        logits = self._logits(task) if self.keeps_signals else {}
        return [
            replace(sample, teacher=TeacherSignals(logits[place], None)) if place in logits else sample
            for place, sample in enumerate(task.stored)
        ]

    def _logits(self, task: TaskView) -> dict[int, Kept]:
        """Of this rank's samples, by place."""
        model = self.setting.model.eval()
        logits: dict[int, Kept] = {}
        for one in task.passes():
            with self._workers.precision():
                seen = observe_logits(model, one.tokens, self._semantics)
            for position, own in zip(one.positions, seen, strict=False):  # none where the pass only keeps step
                logits[position] = keep_logits(own, self._form)
        return logits


def teacher_of(step: StepView) -> TeacherBatch:
    """The signals of a replay step's samples."""
    return TeacherBatch(step.samples, step.tokens.input_ids.shape[1], step.signals)
