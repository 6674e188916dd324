"""What is kept of a task when it ends: its replay samples, and what the model just then says about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seekr_tune.config import Config
from seekr_tune.method.importance import HeadScores, normalise_layers
from seekr_tune.method.memory import ReplaySample, TeacherSignals
from seekr_tune.method.passes import Observation, Tokens, observe, observe_logits, observe_rows
from seekr_tune.method.selection import HeadSelection, all_heads, resolve_budgets, select_heads
from seekr_tune.method.semantics import Semantics
from seekr_tune.sequence.draws import Draws
from seekr_tune.sequence.model import LoadedModel
from seekr_tune.sequence.schedule import accumulation_steps, batches
from seekr_tune.sequence.workers import Workers
from seekr_tune.stream.collate import EncodedExample, collate


@dataclass(frozen=True)
class Candidate:
    """A training sample that will be stored.

    Attributes:
        task: index of its task.
        index: its index in the task's train split.
        example: its tokens.
        queries: query rows, negative positions from the end.
    """

    task: int
    index: int
    example: EncodedExample
    queries: Tensor


@dataclass(frozen=True)
class Lesson:
    """What a finished task adds.

    Attributes:
        samples: for the replay memory.
        scores: head scores of this task; None where no attention is distilled.
        totals: head scores summed over tasks.
        selected: heads selected now.
    """

    samples: tuple[ReplaySample, ...]
    scores: HeadScores | None
    totals: HeadScores
    selected: HeadSelection


class Teacher:
    """Reads a model before and after it learns a task.

    Args:
        loaded: the model.
        config: method and recipe.
        semantics: reading of the method.
        draws: seeds random heads.
        workers: the processes; all read the same samples, and rank 0's scores count.
    """

    def __init__(
        self, loaded: LoadedModel, config: Config, semantics: Semantics, draws: Draws, workers: Workers
    ) -> None:
        self._loaded = loaded
        self._config = config
        self._method = config.method.in_effect()
        self._semantics = semantics
        self._draws = draws
        self._workers = workers

    def rows(self, candidates: Sequence[Candidate]) -> list[Tensor]:
        """Attention of every head at the query rows of each candidate; nothing where no attention is distilled."""
        if self._method.attention_weight == 0 or not candidates:
            return []
        self._loaded.model.eval()
        return [
            rows
            for tokens, own in self._batches(candidates)
            for rows in observe_rows(
                self._loaded.model, tokens, [c.queries for c in own], self._semantics, self._loaded.shape
            )
        ]

    def remember(
        self, task: str, candidates: Sequence[Candidate], before: Sequence[Tensor], totals: HeadScores
    ) -> Lesson:
        """Turn candidates into replay samples with the signals that the method distils.

        Args:
            task: name of the task, for random heads.
            before: rows of the candidates before the task was learned.
            totals: head scores of earlier tasks.
        """
        if self._method.attention_weight > 0 and candidates:
            return self._with_attention(task, candidates, before, totals)
        teachers: list[TeacherSignals | None] = [None] * len(candidates)
        if self._method.logit_weight > 0 and candidates:
            self._loaded.model.eval()
            no_rows = torch.empty(0, dtype=torch.long)
            teachers = [
                TeacherSignals(logits, no_rows, {}, {})
                for tokens, _ in self._batches(candidates)
                for logits in observe_logits(self._loaded.model, tokens, self._semantics)
            ]
        samples = [_stored(c, teacher) for c, teacher in zip(candidates, teachers, strict=True)]
        return Lesson(tuple(samples), None, totals, HeadSelection({}))

    def _with_attention(
        self, task: str, candidates: Sequence[Candidate], before: Sequence[Tensor], totals: HeadScores
    ) -> Lesson:
        observations = self._observe(candidates)
        after = [rows for observation in observations for rows in observation.rows]
        logits = [own for observation in observations for own in observation.logits]
        padded_length = self._padded_length(candidates)
        forgettability = torch.stack(
            [
                self._semantics.squared_change(now - then, c.queries, padded_length, self._method.query_budget)
                for c, now, then in zip(candidates, after, before, strict=True)
            ]
        ).mean(dim=0)
        energy = torch.stack([observation.energy for observation in observations]).sum(dim=0) / len(candidates)
        # Ranks may differ in the last bit; one set of scores, and so one selection, must hold for all.
        scores = self._workers.broadcast(lambda: HeadScores.of_task(normalise_layers(energy), forgettability))
        totals = totals + scores
        selected = self._select(task, totals)
        samples = []
        for candidate, rows, own_logits in zip(candidates, after, logits, strict=True):
            kept_rows = {layer: rows[layer, list(heads)].clone() for layer, heads in selected.heads.items()}
            kept_logits = own_logits if self._method.logit_weight > 0 else None
            teacher = TeacherSignals(kept_logits, candidate.queries, selected.heads, kept_rows)
            samples.append(_stored(candidate, teacher))
        return Lesson(tuple(samples), scores, totals, selected)

    def _observe(self, candidates: Sequence[Candidate]) -> list[Observation]:
        self._loaded.model.eval()
        scale = 1 / accumulation_steps(self._config, self._semantics)
        return [
            observe(
                self._loaded.model, tokens, [c.queries for c in own], self._semantics, self._loaded.shape, scale
            )
            for tokens, own in self._batches(candidates)
        ]

    def _select(self, task: str, totals: HeadScores) -> HeadSelection:
        num_layers, num_heads = self._loaded.shape
        kind = self._method.selection
        if kind == "all":
            return all_heads(num_layers, num_heads)
        ranked_by = self._draws.head_scores(task, num_layers, num_heads) if kind == "random" else getattr(totals, kind)
        budgets = resolve_budgets(self._method.head_budget, self._method.layer_ratio, num_layers, num_heads)
        return select_heads(ranked_by, budgets.num_layers, budgets.num_heads)

    def _batches(self, candidates: Sequence[Candidate]) -> list[tuple[Tokens, list[Candidate]]]:
        """Candidates in small batches, all padded to one length (official scores depend on it)."""
        examples = [candidate.example for candidate in candidates]
        padded = collate(examples, self._loaded.pad_token_id, self._config.recipe.pad_to_multiple_of)
        device = self._workers.device
        chunks = batches(range(len(candidates)), self._config.recipe.replay_batch_size)
        return [
            (
                Tokens(
                    padded.input_ids[list(chunk)].to(device),
                    padded.attention_mask[list(chunk)].to(device),
                    padded.labels[list(chunk)].to(device),
                ),
                [candidates[i] for i in chunk],
            )
            for chunk in chunks
        ]

    def _padded_length(self, candidates: Sequence[Candidate]) -> int:
        multiple = self._config.recipe.pad_to_multiple_of
        return -(-max(len(c.example.input_ids) for c in candidates) // multiple) * multiple


def _stored(candidate: Candidate, teacher: TeacherSignals | None) -> ReplaySample:
    ids = torch.tensor(candidate.example.input_ids)
    return ReplaySample(candidate.task, candidate.index, ids, candidate.example.num_labels, teacher)
