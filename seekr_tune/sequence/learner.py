"""Learning one stage: new steps and replay steps, micro-batches and updates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from transformers import get_scheduler

from seekr_tune.config import Config
from seekr_tune.errors import TrainingError
from seekr_tune.method.losses import IGNORED, answer_cross_entropy
from seekr_tune.method.memory import ReplayMemory, ReplaySample
from seekr_tune.method.passes import Tokens, answer_logits, count_rows, replay_losses
from seekr_tune.method.semantics import Semantics
from seekr_tune.sequence.model import LoadedModel
from seekr_tune.sequence.schedule import Stage, Step, accumulation_steps
from seekr_tune.sequence.state import StepRecord
from seekr_tune.sequence.workers import Workers
from seekr_tune.stream.collate import EncodedExample, collate


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass of one rank.

    Attributes:
        items: positions within the step's global batch.
        weight: 1, or 0 for a rank that has nothing left but must make the same calls as the others.
    """

    items: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Terms:
    """Loss terms of one micro-batch, with graph; means over the tokens or rows they are normalised by."""

    total: Tensor
    cross_entropy: Tensor
    logits: Tensor | None = None
    attention: Tensor | None = None


class Learner:
    """A model in training: the weights, their optimizer, and what of them outlives a task.

    Args:
        loaded: the model; trained in place.
        config: recipe and method.
        semantics: reading of the method.
        workers: the processes that share the work.
    """

    def __init__(self, loaded: LoadedModel, config: Config, semantics: Semantics, workers: Workers) -> None:
        self._loaded = loaded
        self._config = config
        self._method = config.method.in_effect()
        self._semantics = semantics
        self._workers = workers
        if config.training.activation_checkpointing:
            # Never the reentrant kind: it drops the gradient of everything the tap recorded, silently.
            loaded.model.activation_checkpointing_enable()
        self._wrapped = workers.wrap(loaded.model)
        self._updates_after = accumulation_steps(config, semantics)
        self.optimizer = self._new_optimizer()
        self.pending_steps = 0
        """Steps whose gradients wait for an update (official: they may wait across tasks)."""

    @property
    def resets_optimizer(self) -> bool:
        """Whether each stage starts with fresh moments."""
        wanted = self._config.recipe.reset_optimizer
        return self._semantics.resets_optimizer if wanted is None else wanted

    def learn(
        self,
        stage: Stage,
        steps: Sequence[Step],
        examples: Sequence[EncodedExample],
        memory: ReplayMemory,
        on_step: Callable[[StepRecord], None] | None,
    ) -> list[StepRecord]:
        """Run all steps of one stage; the weights change in place.

        Raises:
            TrainingError: a loss or gradient is not finite.
        """
        if self.resets_optimizer:
            self.optimizer = self._new_optimizer()
        recipe = self._config.recipe
        schedule = get_scheduler(
            recipe.lr_schedule, self.optimizer, recipe.warmup_steps, max(1, len(steps) // self._updates_after)
        )
        self._loaded.model.train()
        records = []
        for number, step in enumerate(steps):
            started = time.perf_counter()
            samples = [memory[i] for i in step.samples] if step.kind == "replay" else None
            batch = [_as_example(s) for s in samples] if samples else [examples[i] for i in step.samples]
            terms = self._backward(batch, samples)
            learning_rate = float(self.optimizer.param_groups[0]["lr"])
            grad_norm = self._update(schedule)
            record = StepRecord(
                task_index=stage.last,
                step=number,
                kind=step.kind,
                loss=terms[0],
                cross_entropy=terms[1],
                logit_distillation=terms[2] if samples and self._method.logit_weight > 0 else None,
                attention_distillation=terms[3] if samples and self._method.attention_weight > 0 else None,
                grad_norm=grad_norm,
                learning_rate=learning_rate,
                samples=len(batch),
                tokens=sum(len(example.input_ids) for example in batch),
                seconds=time.perf_counter() - started,
            )
            _require_finite(record, stage)
            records.append(record)
            if on_step is not None:
                on_step(record)
        return records

    def snapshot(self) -> dict[str, Tensor]:
        """All that outlives a stage besides the weights: moments, unless they are reset, and waiting gradients.

        Keys are `moments/<entry>/<parameter>` and `gradient/<parameter>`.
        """
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._loaded.trainable().items():
            if parameter.grad is not None:
                tensors[f"gradient/{name}"] = parameter.grad
            if not self.resets_optimizer:
                entries = self.optimizer.state.get(parameter, {})
                tensors.update({f"moments/{entry}/{name}": value for entry, value in entries.items()})
        return tensors

    def restore(self, snapshot: Mapping[str, Tensor], pending_steps: int) -> None:
        """Take up a `snapshot` again; the weights must already be those of its moment."""
        parameters = self._loaded.trainable()
        for key, tensor in snapshot.items():
            kind, _, rest = key.partition("/")
            if kind == "gradient":
                parameters[rest].grad = tensor.to(parameters[rest])
            else:
                entry, _, name = rest.partition("/")
                # AdamW counts its steps on the CPU, wherever the parameter is.
                self.optimizer.state[parameters[name]][entry] = (
                    tensor if entry == "step" else tensor.to(parameters[name].device)
                )
        self.pending_steps = pending_steps

    def _backward(self, batch: Sequence[EncodedExample], samples: Sequence[ReplaySample] | None) -> list[float]:
        """Forward and backward passes of one step; returns its loss terms over the global batch."""
        micro_batches = list(_shares(len(batch), self._config.recipe.micro_batch_size, self._workers))
        within_step = self._semantics.accumulation == "within_step"
        global_labels = sum(_predictable_labels(example) for example in batch)
        step_rows = count_rows(samples or [])
        # DDP averages gradients over ranks; a sum over the global batch must come out.
        scale = float(self._workers.world_size) if within_step else 1 / self._updates_after
        own_samples = sum(micro.weight * len(micro.items) for micro in micro_batches) or 1.0
        logged = torch.zeros(4)
        for number, micro in enumerate(micro_batches, start=1):
            tokens = self._tokens([batch[i] for i in micro.items])
            own = None if samples is None else [samples[i] for i in micro.items]
            # Terms are parts of a sum over the global batch, or (across steps) means over this micro-batch.
            weight = micro.weight if within_step else micro.weight * len(micro.items) / own_samples
            is_last = number == len(micro_batches)
            # The forward pass belongs inside: DDP decides there whether the backward pass will reduce gradients.
            with nullcontext() if is_last else self._workers.accumulate(self._wrapped):
                terms = self._terms(tokens, own, global_labels if within_step else None, step_rows)
                loss = terms.total * (scale * weight)
                loss.backward()  # type: ignore[no-untyped-call]
            logged += weight * torch.tensor([float(term.detach()) for term in _logged(terms)])
        if self._workers.world_size > 1:
            logged = self._workers.sum(logged.to(self._workers.device)).cpu()
        return [float(term) for term in (logged if within_step else logged / self._workers.world_size)]

    def _terms(
        self, tokens: Tokens, samples: Sequence[ReplaySample] | None, global_labels: int | None, step_rows: int
    ) -> Terms:
        """Loss terms of one micro-batch, normalised by the global batch or (None) by the micro-batch alone."""
        num_labels = tokens.num_labels if global_labels is None else global_labels
        method, semantics = self._method, self._semantics
        if samples is None or (method.logit_weight == 0 and method.attention_weight == 0):
            logits = answer_logits(self._wrapped, tokens, semantics)
            cross_entropy = answer_cross_entropy(logits, tokens.labels) / num_labels
            return Terms(cross_entropy, cross_entropy)
        sums = replay_losses(
            self._wrapped,
            tokens,
            samples,
            semantics,
            distil_logits=method.logit_weight > 0,
            distil_attention=method.attention_weight > 0,
            step_rows=step_rows,
        )
        cross_entropy = sums.cross_entropy / num_labels
        total = (1 - method.logit_weight) * cross_entropy
        logit_term = None
        if sums.logits is not None:
            rows = int((tokens.labels != IGNORED).sum()) if global_labels is None else global_labels
            logit_term = sums.logits / rows
            total = total + method.logit_weight * logit_term
        if sums.attention is not None:
            total = total + method.attention_weight * sums.attention
        return Terms(total, cross_entropy, logit_term, sums.attention)

    def _update(self, schedule: Any) -> float | None:
        """Count the step; when enough gradients are in, clip them and change the weights."""
        self.pending_steps += 1
        if self.pending_steps < self._updates_after:
            return None
        parameters = list(self._loaded.trainable().values())
        limit = self._config.recipe.max_grad_norm
        norm = clip_grad_norm_(parameters, float("inf") if limit is None else limit)
        self.optimizer.step()
        schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.pending_steps = 0
        return float(norm)

    def _tokens(self, batch: Sequence[EncodedExample]) -> Tokens:
        padded = collate(batch, self._loaded.pad_token_id, self._config.recipe.pad_to_multiple_of)
        device = self._workers.device
        return Tokens(padded.input_ids.to(device), padded.attention_mask.to(device), padded.labels.to(device))

    def _new_optimizer(self) -> torch.optim.AdamW:
        recipe = self._config.recipe
        return torch.optim.AdamW(
            self._loaded.trainable().values(),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
        )


def _shares(size: int, micro_batch_size: int | None, workers: Workers) -> Iterator[MicroBatch]:
    """This rank's micro-batches of a global batch; every rank gets the same number of them."""
    share = -(-size // workers.world_size)
    own = range(workers.rank * share, min(size, (workers.rank + 1) * share))
    micro = micro_batch_size or share
    for start in range(0, share, micro):
        items = tuple(own[start : start + micro])
        yield MicroBatch(items, 1.0) if items else MicroBatch((0,), 0.0)


def _as_example(sample: ReplaySample) -> EncodedExample:
    return EncodedExample(tuple(sample.input_ids.tolist()), sample.num_labels)


def _predictable_labels(example: EncodedExample) -> int:
    """Label tokens that have a token before them."""
    return min(example.num_labels, len(example.input_ids) - 1)


def _logged(terms: Terms) -> list[Tensor]:
    zero = torch.zeros(())
    return [terms.total, terms.cross_entropy, *(zero if t is None else t for t in (terms.logits, terms.attention))]


def _require_finite(record: StepRecord, stage: Stage) -> None:
    for term in ("cross_entropy", "logit_distillation", "attention_distillation", "loss", "grad_norm"):
        value = getattr(record, term)
        if value is not None and not math.isfinite(value):
            raise TrainingError(
                f"stage {stage.name!r}, step {record.step} ({record.kind}): {term} is {value}; "
                "lower recipe.learning_rate or the weight of that term"
            )
