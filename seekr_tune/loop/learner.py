"""Learning one stage: new steps and replay steps, micro-batches and updates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from seekr_tune.checkpoint.shards import is_sharded, laid_out_like, local_part
from seekr_tune.checkpoint.state import LearnerState, Progress, StepRecord
from seekr_tune.config import Config
from seekr_tune.data.collate import EncodedExample
from seekr_tune.loop.balance import measured_steps, term_norms
from seekr_tune.loop.finite import require_finite
from seekr_tune.loop.optimizer import new_optimizer, restore_state, state_of
from seekr_tune.loop.schedule import Stage, Step, accumulation_steps
from seekr_tune.loop.sharing import Batches, MicroBatch, Signals, StepBatch
from seekr_tune.loop.throughput import FlopRates, Stopwatch, step_flops
from seekr_tune.loop.tokens import tokens_of
from seekr_tune.methods.combined import Combined
from seekr_tune.methods.draws import Draws
from seekr_tune.methods.losses import answer_cross_entropy
from seekr_tune.methods.memory import ReplayMemory
from seekr_tune.methods.passes import Tokens, answer_logits, count_rows
from seekr_tune.methods.prefetch import Ahead
from seekr_tune.methods.protocol import Kind, StepView, Update, below
from seekr_tune.methods.seekr.attention import recompute_activations
from seekr_tune.methods.semantics import Semantics
from seekr_tune.methods.terms import CROSS_ENTROPY, Term, shares_of, values_of, weighted_sum
from seekr_tune.methods.transfer import Uploads
from seekr_tune.methods.workers import Workers
from seekr_tune.models.loading import LoadedModel

DISTILLATION = "distillation"
"""Part of a replay step that is timed apart."""


class Learner:
    """A model in training: the weights, their optimizer, and what of them outlives a task.

    Args:
        loaded: the model; trained in place (and sharded in place, where workers share its weights).
        config: recipe.
        semantics: reading of the method.
        draws: seeds torch's generator (dropout) anew in every step, so that no random state has to be saved.
        workers: the processes that share the work.
        method: adds its terms to the steps.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        config: Config,
        semantics: Semantics,
        draws: Draws,
        workers: Workers,
        method: Combined,
    ) -> None:
        self._loaded = loaded
        self._config = config
        self._method = method
        self._semantics = semantics
        self._draws = draws
        self._workers = workers
        if config.training.activation_checkpointing:
            recompute_activations(loaded.model)
        self._rates = FlopRates.of(loaded.model)
        self._wrapped = workers.wrap(loaded.model)
        self._updates_after = accumulation_steps(config, semantics)
        # Without it, updates on a GPU hold copies of all weights and are read and written many times over.
        self._fused = workers.device.type == "cuda"
        self._optimizer = self._new_optimizer()
        self._pending_steps = 0
        self._updates = 0
        self._distillation = Stopwatch(workers.device)

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
        progress: Progress | None = None,
    ) -> Iterator[StepRecord]:
        """Run the steps of one stage, one at a time; the weights change in place.

        Args:
            steps: all steps of the stage.
            progress: what is done of them; the weights must be those of its moment.

        Raises:
            TrainingError: a loss or gradient is not finite.
        """
        if progress is not None:
            self.restore(progress.learner)
        else:
            self._updates = 0
            if self.resets_optimizer:
                self._optimizer = self._new_optimizer()
        schedule = self._schedule(max(1, len(steps) // self._updates_after))
        self._loaded.model.train()
        done = len(progress.steps) if progress else 0
        self._method.begin_steps([step.weights for step in progress.steps] if progress else [])
        measured = self._measured(steps)
        with Uploads(self._workers.device) as uploads:
            ahead = Ahead(steps[done:], self._batches(examples, memory, uploads).begin)
            for number, (step, batch) in enumerate(ahead, start=done):
                seed = self._draws.torch_seed(stage.name, number, self._workers.rank)
                started = time.perf_counter()
                shares = self._measure(batch, seed) if number in measured else {}
                torch.manual_seed(seed)
                record = self._step(stage, number, step, batch, schedule, ahead.begin_next, started, shares)
                require_finite(record, stage, memory, self._config.stream.tasks, self._method.mend_of)
                yield record

    def state(self, *, inside_stage: bool) -> LearnerState:
        """All that has to be saved besides the weights: waiting gradients, and moments that will be needed again."""
        parameters = self._loaded.trainable()
        tensors = {f"gradient/{name}": own.grad for name, own in parameters.items() if own.grad is not None}
        facts: Mapping[str, object] = {}
        if inside_stage or not self.resets_optimizer:
            kept, facts = state_of(self._optimizer, self._new_optimizer(), parameters)
            tensors |= {f"moments/{key}": value for key, value in kept.items()}
        return LearnerState(tensors, self._pending_steps, self._updates, facts)

    def restore(self, state: LearnerState) -> None:
        """Take up a `state` again; the weights must already be those of its moment."""
        parameters = self._loaded.trainable()
        self._optimizer = self._new_optimizer()
        self._optimizer.zero_grad(set_to_none=True)
        for name, gradient in below("gradient", state.tensors).items():
            parameters[name].grad = gradient.to(parameters[name])
        restore_state(self._optimizer, below("moments", state.tensors), state.optimizer, parameters)
        self._pending_steps, self._updates = state.pending_steps, state.updates

    def _batches(self, examples: Sequence[EncodedExample], memory: ReplayMemory, uploads: Uploads) -> Batches:
        recipe = self._config.recipe
        return Batches(
            examples,
            memory,
            recipe.micro_batch_size,
            recipe.pad_to_multiple_of,
            sorts=self._semantics.accumulation == "within_step",  # elsewhere a loss depends on its micro-batch
            join=self._method.batch_signals if self._method.keeps_signals else None,
            workers=self._workers,
            uploads=uploads,
        )

    def _step(
        self,
        stage: Stage,
        number: int,
        step: Step,
        batch: StepBatch,
        schedule: LambdaLR,
        launched: Callable[[], None],
        started: float,
        shares: Mapping[str, float],
    ) -> StepRecord:
        """One step.

        Args:
            launched: called when a GPU has all passes of the step before it, and this process has time.
            started: when it began, by `time.perf_counter`; its measurement is a part of it.
            shares: what was measured of it; empty where nothing was.
        """
        self._distillation.reset()
        weights = self._method.weights(step.kind)
        of_terms = len(weights)
        terms = self._backward(batch, weights)
        launched()
        learning_rate = float(self._optimizer.param_groups[0]["lr"])
        penalties, grad_norm = self._update(schedule, step.kind)
        weights |= {name: factor for name, (_, factor) in penalties.items()}
        terms = torch.cat([terms, *(value[None] for value, _ in penalties.values())])
        (loss, *values), seconds, distillation_seconds = self._shared(terms.cpu(), started)
        named = dict(zip(weights, values, strict=True))
        return StepRecord(
            task_index=stage.last,
            step=number,
            kind=step.kind,
            loss=loss + sum(factor * named[name] for name, (_, factor) in penalties.items()),
            terms=named,
            grad_norm=grad_norm,
            learning_rate=learning_rate,
            samples=len(batch.examples),
            tokens=sum(len(example.input_ids) for example in batch.examples),
            seconds=seconds,
            distillation_seconds=distillation_seconds if of_terms > 1 else None,
            batch=step.samples,
            flops=step_flops(
                self._rates,
                [len(example.input_ids) for example in batch.examples],
                sum(map(_predictable_labels, batch.examples)),
            ),
            weights=weights,
            shares=shares,
        )

    def _measured(self, steps: Sequence[Step]) -> frozenset[int]:
        """Numbers of the steps whose terms are measured: none where a replay step has but one."""
        if len(self._method.measured_weights()) < 2:
            return frozenset()
        every = self._config.training.gradient_shares_every
        return measured_steps(steps, every, calibrates=self._method.finds_weights)

    def _shared(self, terms: Tensor, started: float) -> tuple[list[float], float, float]:
        """The loss and its terms over the global batch, and rank 0's seconds of the step and of its distillation."""
        workers = self._workers
        distillation = self._distillation.seconds(DISTILLATION)  # waits for the device
        own_clock = [time.perf_counter() - started, distillation] if workers.rank == 0 else [0.0, 0.0]
        shared = torch.cat([terms, torch.tensor(own_clock, dtype=terms.dtype)])
        if workers.world_size > 1:
            shared = workers.sum(shared.to(workers.device)).cpu()
        if self._semantics.accumulation != "within_step":
            shared[:-2] /= workers.world_size
        *values, seconds, distilled = (float(value) for value in shared)
        return values, seconds, distilled

    def _backward(self, batch: StepBatch, weights: Mapping[str, float], *, measures: bool = False) -> Tensor:
        """Forward and backward passes of one step; returns this rank's part of the loss and its terms, on the device.

        Args:
            weights: of the terms, by name.
            measures: the gradients are for a measurement: without DDP, which counts the passes.
        """
        parts, multiple = batch.parts, self._config.recipe.pad_to_multiple_of
        within_step = self._semantics.accumulation == "within_step"
        global_labels = sum(map(_predictable_labels, batch.examples))
        step_rows = count_rows(batch.samples or [])
        # Gradients are averaged over ranks; a sum over the global batch must come out.
        scale = float(self._workers.world_size) if within_step else 1 / self._updates_after
        own_samples = sum(micro.weight * len(micro.items) for micro in parts) or 1.0
        # On the device: a number that Python sees has to be waited for, and the next pass would start late.
        logged = torch.zeros(1 + len(weights), dtype=torch.float64, device=self._workers.device)
        model = self._loaded.model if measures else self._wrapped
        for number, (micro, signals) in enumerate(zip(parts, batch.signals, strict=True), start=1):
            examples = [batch.examples[i] for i in micro.items]
            tokens = tokens_of(examples, self._loaded.pad_token_id, multiple, self._workers.device)
            # Terms are parts of a sum over the global batch, or (across steps) means over this micro-batch.
            weight = micro.weight if within_step else micro.weight * len(micro.items) / own_samples
            is_last = number == len(parts)
            # The forward pass belongs inside: DDP decides there whether the backward pass will reduce gradients.
            with nullcontext() if is_last or measures else self._workers.accumulate(self._wrapped):
                with self._workers.precision():
                    label_tokens = global_labels if within_step else tokens.num_labels
                    step = self._view(batch, micro, tokens, signals, label_tokens, step_rows)
                    terms = self._terms(model, step, weights)
                    loss = weighted_sum(terms)
                (loss * (scale * weight)).backward()  # type: ignore[no-untyped-call]
            logged += weight * torch.cat([loss.detach()[None], values_of(terms, tuple(weights))])
        return logged

    def _view(
        self,
        batch: StepBatch,
        micro: MicroBatch,
        tokens: Tokens,
        signals: Signals | None,
        label_tokens: int,
        step_rows: int,
    ) -> StepView:
        """A micro-batch as methods see it; of a pass that counts nothing they see no samples."""
        timed = partial(self._distillation.part, DISTILLATION)
        samples = () if batch.samples is None or not micro.weight else tuple(batch.samples[i] for i in micro.items)
        arrived: Mapping[str, Tensor] = {}
        if signals is not None:
            with timed():
                arrived = signals()
        kind: Kind = "new" if batch.samples is None else "replay"
        return StepView(kind, tokens, samples, arrived, label_tokens, step_rows, timed)

    def _terms(self, model: nn.Module, step: StepView, weights: Mapping[str, float]) -> dict[str, Term]:
        """Loss terms of one micro-batch."""
        tap = self._method.watch(step)
        logits = answer_logits(model, step.tokens, self._semantics, tap)
        own = self._method.terms(step, logits)
        values = {CROSS_ENTROPY: answer_cross_entropy(logits, step.tokens.labels) / step.label_tokens, **own}
        return {name: Term(value, weights[name]) for name, value in values.items()}

    def _measure(self, batch: StepBatch, seed: int) -> dict[str, float]:
        """Shares of the terms in the gradient of a replay step, which is taken behind it as if nothing had been.

        A method that is after a share finds the weight that gives it first.
        """

        def backward(alone: Mapping[str, float]) -> None:
            torch.manual_seed(seed)  # the same dropout in all passes
            self._backward(batch, alone, measures=True)

        norms = term_norms(self._loaded.trainable(), self._method.measured_weights(), backward, self._workers)
        return shares_of(self._method.measured(norms))

    def _update(self, schedule: LambdaLR, kind: Kind) -> tuple[dict[str, tuple[Tensor, float]], float | None]:
        """Count the step; when enough gradients are in, complete and clip them and change the weights.

        Returns:
            what the weights themselves add to the loss, this rank's part of the sum over ranks, with its factor; and
            the norm of the gradient before it was clipped. Nothing where gradients only accumulate.
        """
        self._pending_steps += 1
        if self._pending_steps < self._updates_after:
            return {}, None
        parameters = self._loaded.trainable()
        penalties = self._penalise(parameters) if self._method.has_penalties else {}
        if self._method.changes_gradients:
            self._method.before_update(self._gradients(parameters, kind))
        limit = self._config.recipe.max_grad_norm
        norm = clip_grad_norm_(list(parameters.values()), float("inf") if limit is None else limit)
        self._optimizer.step()
        schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._pending_steps = 0
        self._updates += 1
        return penalties, float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def _penalise(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, tuple[Tensor, float]]:
        """Add the gradients of terms of the weights alone: each rank those of the parts that it holds.

        Behind the reduction of the others: what is the same on all ranks need not be reduced, and what is sharded has
        been already.
        """
        weights = {name: local_part(parameter).detach().requires_grad_() for name, parameter in parameters.items()}
        penalties = self._method.penalties(weights)
        if not penalties:
            return {}
        total = sum(factor * value for value, factor in penalties.values())
        assert isinstance(total, Tensor)
        for (name, _), gradient in zip(
            weights.items(), torch.autograd.grad(total, list(weights.values()), allow_unused=True), strict=True
        ):
            if gradient is not None:
                self._add_gradient(parameters[name], gradient)
        # Summed over ranks where each has a part, or (within a step) all have the same; averaged across steps.
        same = not any(map(is_sharded, parameters.values())) and self._semantics.accumulation == "within_step"
        scale = 1 / self._workers.world_size if same else 1.0
        return {name: (value.detach().double() * scale, factor) for name, (value, factor) in penalties.items()}

    @staticmethod
    def _add_gradient(parameter: nn.Parameter, gradient: Tensor) -> None:
        if parameter.grad is None:
            parameter.grad = laid_out_like(parameter, gradient)
        else:
            local_part(parameter.grad).add_(gradient)

    def _gradients(self, parameters: Mapping[str, nn.Parameter], kind: Kind) -> Update:
        sharded = any(map(is_sharded, parameters.values()))
        gradients = {name: local_part(p.grad) for name, p in parameters.items() if p.grad is not None}
        return Update(kind, gradients, self._workers.sum if sharded else lambda tensor: tensor)

    def _schedule(self, num_updates: int) -> LambdaLR:
        """The learning-rate schedule of a stage, where `updates` has brought it."""
        recipe = self._config.recipe
        schedule: LambdaLR = get_scheduler(recipe.lr_schedule, self._optimizer, recipe.warmup_steps, num_updates)
        schedule.last_epoch = self._updates
        for group, base, factor in zip(
            self._optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(self._updates)
        return schedule

    def _new_optimizer(self) -> Optimizer:
        return new_optimizer(self._config, self._loaded.trainable().values(), fused=self._fused)


def _predictable_labels(example: EncodedExample) -> int:
    """Label tokens that have a token before them."""
    return min(example.num_labels, len(example.input_ids) - 1)
