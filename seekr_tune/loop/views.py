"""What the loop hands to a method: the run, and a task before and after it is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from seekr_tune.checkpoint.shards import is_sharded, local_part
from seekr_tune.config import Config
from seekr_tune.data.collate import EncodedExample, padded_length
from seekr_tune.loop.schedule import Stage, accumulation_steps, batches, reading_batch
from seekr_tune.loop.tokens import tokens_of
from seekr_tune.methods.draws import Draws
from seekr_tune.methods.losses import answer_cross_entropy
from seekr_tune.methods.memory import ReplaySample
from seekr_tune.methods.passes import answer_logits
from seekr_tune.methods.protocol import Pass, Setting, TaskView
from seekr_tune.methods.semantics import Semantics
from seekr_tune.methods.workers import Workers
from seekr_tune.models.loading import LoadedModel


def setting_of(loaded: LoadedModel, config: Config, semantics: Semantics, draws: Draws, workers: Workers) -> Setting:
    """The run, as a method sees it."""
    steps = accumulation_steps(config, semantics)
    return Setting(loaded.model, loaded.shape, semantics, draws, workers, config.model.computed_dtype, steps)


def stored_sample(task: int, index: int, position: int, example: EncodedExample, config: Config) -> ReplaySample:
    """A training sample that will be stored, before a method has put anything beside it.

    Args:
        task: index of its task.
        index: its index in the task's train split.
        position: its place among the samples that are stored of the task. Batches of them are read by one rank after
            the other, and tasks start at different ranks, to even out.
        example: its tokens.
    """
    shard = task + position // reading_batch(config)
    return ReplaySample(task, index, torch.tensor(example.input_ids), example.num_labels, shard=shard)


class Views:
    """Makes the views of tasks.

    Args:
        loaded: the model.
        config: recipe.
        semantics: reading of the method.
        draws: order of samples whose gradients are asked for.
        workers: the processes that share the run.
    """

    def __init__(
        self, loaded: LoadedModel, config: Config, semantics: Semantics, draws: Draws, workers: Workers
    ) -> None:
        self._loaded, self._config, self._semantics = loaded, config, semantics
        self._draws, self._workers = draws, workers

    def of_task(self, stage: Stage, stored: Sequence[ReplaySample], examples: Sequence[EncodedExample]) -> TaskView:
        """A stage, as a method sees it.

        Args:
            stored: the samples that the memory will keep of it.
            examples: all of its training samples.
        """
        return TaskView(
            name=stage.name,
            names=self._config.stream.tasks,
            stored=tuple(stored),
            passes=partial(self._passes, tuple(stored)),
            weights=self._weights,
            mean_over_samples=partial(self._mean_over_samples, stage.name, examples),
        )

    def _weights(self) -> dict[str, Tensor]:
        return {name: local_part(parameter) for name, parameter in self._loaded.trainable().items()}

    def _passes(self, stored: tuple[ReplaySample, ...]) -> Iterator[Pass]:
        """This rank's batches; all are padded to one length where scores depend on it.

        Every rank gets the same number of them, for a forward pass of a sharded model needs all ranks.
        """
        if not stored:
            return
        multiple = self._config.recipe.pad_to_multiple_of
        if self._semantics.padding_counts:
            multiple = padded_length((len(sample.input_ids) for sample in stored), multiple)
        parts = batches(range(len(stored)), reading_batch(self._config))
        rank, world_size = self._workers.rank, self._workers.world_size
        own = [part for part in parts if stored[part[0]].shard % world_size == rank]
        for number in range(-(-len(parts) // world_size)):
            positions = own[number] if number < len(own) else ()
            read = positions or parts[0]
            examples = [EncodedExample(tuple(stored[i].input_ids.tolist()), stored[i].num_labels) for i in read]
            tokens = tokens_of(examples, self._loaded.pad_token_id, multiple, self._workers.device)
            yield Pass(read, positions, tokens)

    def _mean_over_samples(
        self,
        name: str,
        examples: Sequence[EncodedExample],
        function: Callable[[Tensor], Tensor],
        count: int | None,
    ) -> dict[str, Tensor]:
        order = self._draws.epoch_order(f"{name}/gradients", 0, len(examples))[:count]
        parameters, workers = self._loaded.trainable(), self._workers
        # A sharded model reduces gradients in every pass: all ranks read the same sample. Else each reads its own.
        together = any(is_sharded(parameter) for parameter in parameters.values())
        own = order if together else order[workers.rank :: workers.world_size]
        sums = {name: torch.zeros_like(local_part(p), dtype=torch.float32) for name, p in parameters.items()}
        waiting = {name: parameter.grad for name, parameter in parameters.items()}
        self._loaded.model.eval()
        for index in own:
            for parameter in parameters.values():
                parameter.grad = None
            self._backward(examples[index])
            for parameter_name, parameter in parameters.items():
                if parameter.grad is not None:
                    sums[parameter_name] += function(local_part(parameter.grad).float())
        for parameter_name, parameter in parameters.items():
            parameter.grad = waiting[parameter_name]
        if not together and workers.world_size > 1:
            sums = {parameter_name: workers.sum(total) for parameter_name, total in sums.items()}
        return {parameter_name: total / len(order) for parameter_name, total in sums.items()}

    def _backward(self, example: EncodedExample) -> None:
        multiple = self._config.recipe.pad_to_multiple_of
        tokens = tokens_of([example], self._loaded.pad_token_id, multiple, self._workers.device)
        with self._workers.precision():
            loss = answer_cross_entropy(answer_logits(self._loaded.model, tokens, self._semantics), tokens.labels)
        loss.backward()  # type: ignore[no-untyped-call]
