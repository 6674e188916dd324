"""What is kept of a task when it ends: its replay samples, and what the model just then says about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor

from seekr_tune.config import Config
from seekr_tune.method.importance import HeadScores, normalise_layers
from seekr_tune.method.memory import ReplaySample, TeacherSignals
from seekr_tune.method.passes import Tokens
from seekr_tune.method.reading import Arriving, Before, Observation, observe, observe_logits, observe_rows
from seekr_tune.method.selection import HeadSelection, all_heads, resolve_budgets, select_heads
from seekr_tune.method.semantics import Semantics
from seekr_tune.method.storage import Kept, keep_logits, keep_rows
from seekr_tune.method.transfer import Uploads
from seekr_tune.sequence.ahead import Ahead
from seekr_tune.sequence.draws import Draws
from seekr_tune.sequence.model import LoadedModel
from seekr_tune.sequence.schedule import accumulation_steps, batches, reading_batch
from seekr_tune.sequence.tokens import tokens_of
from seekr_tune.sequence.workers import Workers
from seekr_tune.stream.collate import EncodedExample, padded_length


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
        num_bytes: what the samples take, over all ranks.
    """

    samples: tuple[ReplaySample, ...]
    scores: HeadScores | None
    totals: HeadScores
    selected: HeadSelection
    num_bytes: int


@dataclass(frozen=True)
class _Chunk:
    """Candidates that are read in one forward pass.

    Attributes:
        positions: places among the candidates; none for a pass that only keeps step with the other ranks.
        tokens: the padded batch.
        queries: query rows of each sample.
    """

    positions: tuple[int, ...]
    tokens: Tokens
    queries: list[Tensor]


class _OneBehind:
    """Work on the CPU in another thread, while a GPU takes the next pass; never more than one piece of it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._running: Future[None] | None = None

    def run(self, work: Callable[[], None]) -> None:
        """Begin with a piece of work when the one before is done; raises what that one raised."""
        self._wait()
        self._running = self._thread.submit(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        with self._thread:
            if kind is None:
                self._wait()

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()


class Teacher:
    """Reads a model before and after it learns a task; each rank reads its share of the samples.

    Samples are read in the same small batches whatever the number of workers, so one sample's scores do not depend on
    it; they are added up in the order of the samples, so nor do the sums.

    Args:
        loaded: the model.
        config: method and recipe.
        semantics: reading of the method.
        draws: seeds random heads.
        workers: the processes that share the samples.
    """

    def __init__(
        self, loaded: LoadedModel, config: Config, semantics: Semantics, draws: Draws, workers: Workers
    ) -> None:
        self._loaded = loaded
        self._config = config
        self._method = config.method.in_effect()
        self._form = config.signal_form
        self._dtype = torch.float32 if self._form == "exact" else torch.float16
        self._semantics = semantics
        self._draws = draws
        self._workers = workers

    def rows(self, candidates: Sequence[Candidate]) -> dict[int, Tensor]:
        """Attention of every head at the query rows of this rank's candidates, by position, `[layers, heads, visible]`.

        Nothing where no attention is distilled.
        """
        rows: dict[int, Tensor] = {}

        def keep(chunk: _Chunk, arriving: Arriving[list[Tensor]]) -> None:
            rows.update(zip(chunk.positions, arriving(), strict=False))  # a pass that keeps step has no positions

        if self._method.distils_attention:
            self._loaded.model.eval()
            with _OneBehind() as behind:
                for chunk in self._chunks(candidates):
                    with self._workers.precision():
                        arriving = observe_rows(
                            self._loaded.model,
                            chunk.tokens,
                            chunk.queries,
                            self._semantics,
                            self._loaded.shape,
                            self._dtype,
                        )
                    behind.run(partial(keep, chunk, arriving))
        return rows

    def remember(
        self, task: str, candidates: Sequence[Candidate], before: Mapping[int, Tensor], totals: HeadScores
    ) -> Lesson:
        """Turn candidates into replay samples with the signals that the method distils.

        Args:
            task: name of the task, for random heads.
            before: what `rows` returned before the task was learned; overwritten with what is read now.
            totals: head scores of earlier tasks.
        """
        scores, selected = None, HeadSelection({})
        teachers: dict[int, TeacherSignals] = {}
        if self._method.distils_attention and candidates:
            scores, rows, logits = self._observed(candidates, before)
            totals = totals + scores
            selected = self._select(task, totals)
            for position, own in rows.items():
                teachers[position] = TeacherSignals(
                    logits.get(position), self._kept_rows(own, candidates[position], selected)
                )
        elif self._method.logit_weight > 0:
            teachers = {position: TeacherSignals(own, None) for position, own in self._logits(candidates).items()}
        samples = tuple(self._stored(i, c, selected, teachers.get(i)) for i, c in enumerate(candidates))
        return Lesson(samples, scores, totals, selected, self._bytes_of(samples))

    def _kept_rows(self, rows: Tensor, candidate: Candidate, selected: HeadSelection) -> Kept | None:
        if not selected.heads:
            return None
        chosen = torch.cat([rows[layer, list(heads)] for layer, heads in sorted(selected.heads.items())])
        return keep_rows(chosen, candidate.queries, len(candidate.example.input_ids), self._form)

    def _observed(
        self, candidates: Sequence[Candidate], before: Mapping[int, Tensor]
    ) -> tuple[HeadScores, dict[int, Tensor], dict[int, Kept]]:
        """Head scores over all candidates; attention rows and logits of this rank's."""
        self._loaded.model.eval()
        rows: dict[int, Tensor] = {}
        logits: dict[int, Kept] = {}
        measured: dict[int, tuple[Tensor, Tensor]] = {}

        def keep(chunk: _Chunk, arriving: Arriving[Observation]) -> None:
            if not chunk.positions:
                return
            # Into the memory of what they were compared with: fresh pages would take longer than the copy.
            seen = arriving([before[position] for position in chunk.positions])
            assert seen.moved is not None
            rows.update(zip(chunk.positions, seen.rows, strict=True))
            for i, position in enumerate(chunk.positions):
                measured[position] = (seen.energy[i], seen.moved[i])
                if self._method.logit_weight > 0:
                    logits[position] = keep_logits(seen.logits[i], self._form)

        with _OneBehind() as behind, Uploads(self._workers.device) as uploads:
            ahead = Ahead(self._chunks(candidates), partial(self._start_before, before, uploads))
            for chunk, old in ahead:
                ahead.begin_next()
                behind.run(partial(keep, chunk, self._observe(chunk, old())))
        everywhere = {position: own for part in self._workers.gather(measured) for position, own in part.items()}
        energies, moves = zip(*(everywhere[position] for position in range(len(candidates))), strict=True)
        energy = torch.stack(energies).sum(dim=0) / len(candidates)
        forgettability = torch.stack(moves).mean(dim=0)
        # The same sums on every rank, but one set of scores, and so one selection, must hold on any mix of machines.
        scores = self._workers.broadcast(lambda: HeadScores.of_task(normalise_layers(energy), forgettability))
        return scores, rows, logits

    def _start_before(
        self, before: Mapping[int, Tensor], uploads: Uploads, chunk: _Chunk
    ) -> Callable[[], Before | None]:
        """Begin to bring what a chunk is compared with to the device; a chunk without positions needs nothing."""
        if not chunk.positions:
            return lambda: None

        def make() -> dict[str, Tensor]:
            parts = [before[position].flatten(1) for position in chunk.positions]
            shape = (len(parts[0]), sum(own.shape[1] for own in parts))
            rows = torch.empty(shape, dtype=self._dtype, pin_memory=uploads.pins)
            weights = {f"weights/{i}": own for i, own in enumerate(self._change_weights(chunk))}
            return {"rows": torch.cat(parts, dim=1, out=rows), **weights}

        arriving, numbers = uploads.start(make), range(len(chunk.positions))

        def get() -> Before:
            tensors = arriving()
            return Before(tensors["rows"], [tensors[f"weights/{i}"] for i in numbers])

        return get

    def _change_weights(self, chunk: _Chunk) -> list[Tensor]:
        width, budget = chunk.tokens.input_ids.shape[1], self._method.query_budget
        return [
            self._semantics.change_weights(queries, length, width, budget)
            for queries, length in zip(chunk.queries, chunk.tokens.lengths, strict=True)
        ]

    def _observe(self, chunk: _Chunk, before: Before | None) -> Arriving[Observation]:
        # Gradients that the official reading leaves behind are averaged over ranks by the next update.
        weight = self._workers.world_size if chunk.positions else 0
        scale = weight / accumulation_steps(self._config, self._semantics)
        model, shape = self._loaded.model, self._loaded.shape
        with self._workers.precision():
            return observe(model, chunk.tokens, chunk.queries, self._semantics, shape, scale, before, self._dtype)

    def _logits(self, candidates: Sequence[Candidate]) -> dict[int, Kept]:
        self._loaded.model.eval()
        logits: dict[int, Kept] = {}
        for chunk in self._chunks(candidates):
            with self._workers.precision():
                seen = observe_logits(self._loaded.model, chunk.tokens, self._semantics)
            for position, own in zip(chunk.positions, seen, strict=False):
                logits[position] = keep_logits(own, self._form)
        return logits

    def _select(self, task: str, totals: HeadScores) -> HeadSelection:
        num_layers, num_heads = self._loaded.shape
        kind = self._method.selection
        if kind == "all":
            return all_heads(num_layers, num_heads)
        ranked_by = self._draws.head_scores(task, num_layers, num_heads) if kind == "random" else getattr(totals, kind)
        budgets = resolve_budgets(self._method.head_budget, self._method.layer_ratio, num_layers, num_heads)
        return select_heads(ranked_by, budgets.num_layers, budgets.num_heads)

    def _chunks(self, candidates: Sequence[Candidate]) -> Iterator[_Chunk]:
        """This rank's batches of candidates; all are padded to one length where scores depend on it.

        Every rank gets the same number of them, for a forward pass of a sharded model needs all ranks.
        """
        if not candidates:
            return
        multiple = self._config.recipe.pad_to_multiple_of
        if self._semantics.padding_counts:
            multiple = padded_length((len(candidate.example.input_ids) for candidate in candidates), multiple)
        parts = batches(range(len(candidates)), reading_batch(self._config))
        rank, world_size = self._workers.rank, self._workers.world_size
        own = [part for i, part in enumerate(parts) if self._shard(candidates[0].task, i) % world_size == rank]
        for number in range(-(-len(parts) // world_size)):
            positions = own[number] if number < len(own) else ()
            read = [candidates[i] for i in positions or parts[0]]
            examples = [candidate.example for candidate in read]
            tokens = tokens_of(examples, self._loaded.pad_token_id, multiple, self._workers.device)
            yield _Chunk(positions, tokens, [candidate.queries for candidate in read])

    def _shard(self, task: int, part: int) -> int:
        """Which rank (modulo their number) reads and keeps a part; tasks start at different ranks, to even out."""
        return task + part

    def _stored(
        self, position: int, candidate: Candidate, selected: HeadSelection, teacher: TeacherSignals | None
    ) -> ReplaySample:
        return ReplaySample(
            task=candidate.task,
            index=candidate.index,
            input_ids=torch.tensor(candidate.example.input_ids),
            num_labels=candidate.example.num_labels,
            queries=candidate.queries if selected.heads else torch.empty(0, dtype=torch.long),
            heads=selected.heads,
            shard=self._shard(candidate.task, position // reading_batch(self._config)),
            teacher=teacher,
        )

    def _bytes_of(self, samples: Sequence[ReplaySample]) -> int:
        """Bytes of samples and their signals over all ranks; what every rank knows counts once."""
        known = sum(replace(sample, teacher=None).num_bytes for sample in samples)
        signals = sum(sample.num_bytes for sample in samples) - known
        return known + int(self._workers.sum(torch.tensor(signals, device=self._workers.device)))
