"""Greedy generation and scoring of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from seekr_tune.checkpoint.state import Scores
from seekr_tune.config import Config, EvaluationConfig, Split
from seekr_tune.data.collate import Encoder, collate_prompts
from seekr_tune.data.prospect import Constants
from seekr_tune.data.samples import TaskScore, sample_scores, scored
from seekr_tune.data.special_tokens import read_answer
from seekr_tune.data.task import Task, TaskStream
from seekr_tune.loop.schedule import batches
from seekr_tune.loop.shared_scores import SharedScores
from seekr_tune.methods.workers import Workers
from seekr_tune.models.loading import LoadedModel

_COLUMNS = ("score", "error", "margin_error")
"""Of a row; the fields of `TaskScore`."""


def tasks_to_score(matrix: str, last: int, num_tasks: int) -> list[int]:
    """Which tasks are scored after task `last` (-1: before any training).

    `full` scores every task at every moment, `seen` those that were learned, `diagonal_and_last` the one just learned
    and, at the end, all.
    """
    if matrix == "full":
        return list(range(num_tasks))
    if matrix == "seen" or last == num_tasks - 1:
        return list(range(last + 1))
    return [last] if last >= 0 else []


class Scorer:
    """Scores the tasks of a stream when they are due.

    Args:
        config: what is scored, and when.
        stream: the tasks.
        loaded: the model, as it is when it is asked.
        encoder: of prompts.
        workers: the processes that share the prompts.
        constants: the best constant answers, which scores are compared with sample by sample; none: they are not.
    """

    def __init__(
        self,
        config: Config,
        stream: TaskStream,
        loaded: LoadedModel,
        encoder: Encoder,
        workers: Workers,
        constants: Constants | None = None,
    ) -> None:
        self._config, self._stream, self._loaded = config, stream, loaded
        self._encoder, self._workers, self._constants = encoder, workers, constants or {}

    def rows(self, last: int, shared: SharedScores | None = None) -> dict[str, Scores]:
        """By split, `[tasks, 3]`: what is due after task `last` (-1: before any training), NaN elsewhere.

        Columns are those of `TaskScore`: score, its error, and the error of its margin.

        Args:
            shared: what other runs know of the model as it is now.
        """
        due = tasks_to_score(self._config.evaluation.matrix, last, len(self._stream))
        rows: dict[str, Scores] = {}
        with self._workers.whole(self._loaded.model):
            for split in self._config.evaluation.splits:
                rows[split] = np.full((len(self._stream), len(_COLUMNS)), np.nan)
                for index in due:
                    found = self._score(split, self._stream[index], shared)
                    rows[split][index] = [found.get(name, np.nan) for name in _COLUMNS]
        return rows

    def _score(self, split: Split, task: Task, shared: SharedScores | None) -> Mapping[str, float]:
        evaluation, limit = self._config.evaluation, self._config.recipe.max_answer_tokens

        def score() -> Mapping[str, float]:
            constant = self._constant(split, task)
            arguments = (self._loaded, self._encoder, task, split, evaluation, limit, self._workers)
            found = score_task(*arguments, constant=constant)
            return {name: value for name, value in asdict(found).items() if value is not None}

        return score() if shared is None else shared.get(self._subject(split, task), score)

    def _constant(self, split: Split, task: Task) -> list[float] | None:
        """What the best constant answer scores on each sample; None where it is not known."""
        known = self._constants.get((task.name, split))
        if known is None:
            return None
        examples = task.splits[split]
        return sample_scores(task, examples, [known.answer] * len(examples))

    def _subject(self, split: Split, task: Task) -> dict[str, Any]:
        """What a score depends on besides the model."""
        return {
            "task": task.name,
            "split": split,
            "metric": task.scorer.key,
            "examples": [[example.prompt, example.answer] for example in task.splits[split]],
            "batch_size": self._config.evaluation.batch_size,
            "max_prompt_tokens": self._config.recipe.max_prompt_tokens,
            "max_answer_tokens": self._config.recipe.max_answer_tokens,
            "constant": known.answer if (known := self._constants.get((task.name, split))) else None,
        }


def score_task(
    loaded: LoadedModel,
    encoder: Encoder,
    task: Task,
    split: Split,
    config: EvaluationConfig,
    max_new_tokens: int,
    workers: Workers,
    *,
    constant: Sequence[float] | None = None,
) -> TaskScore:
    """Generate answers to one split, sharded over workers, and score them.

    Args:
        loaded, encoder: the model, and how prompts become tokens.
        task, split: what is scored.
        config: how many prompts at once.
        max_new_tokens: the longest answer.
        workers: the processes that share the prompts.
        constant: what the best constant answer scores on each sample, in percent.
    """
    examples = task.splits[split]
    prompts = encoder.encode_prompts([example.prompt for example in examples])
    # Prompts of like length share a batch; ranks take every world_size-th, so that their work is alike.
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    own = by_length[workers.rank :: workers.world_size]
    answers: dict[int, str] = {}
    for chunk in batches(own, config.batch_size):
        with workers.precision():
            texts = generate(loaded, [prompts[index] for index in chunk], max_new_tokens)
        answers.update(zip(chunk, texts, strict=True))
    for gathered in workers.gather(answers):
        answers.update(gathered)
    predictions = [answers[index] for index in range(len(examples))]
    return scored(task, examples, predictions, constant)


@torch.no_grad()
def generate(loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Greedy continuations of a batch of prompts, each up to the first token that ends an answer."""
    model: Any = loaded.model
    input_ids, attention_mask = collate_prompts(prompts, loaded.pad_token_id, pad_to_multiple_of=1)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    output = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=attention_mask.to(device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        synced_gpus=False,  # `Workers.whole` lets ranks generate without each other
        pad_token_id=loaded.pad_token_id,
        eos_token_id=list(loaded.ends),
    )
    model.train(was_training)
    new_tokens = output[:, input_ids.shape[1] :].tolist()
    return [read_answer(loaded.tokenizer, ids, loaded.ends) for ids in new_tokens]
