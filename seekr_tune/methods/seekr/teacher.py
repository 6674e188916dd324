"""What SEEKR reads of a model: attention before a task, and after it attention, logits and the scores of heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor

from seekr_tune.config.section import SignalForm
from seekr_tune.methods.prefetch import Ahead
from seekr_tune.methods.protocol import Pass, Setting
from seekr_tune.methods.reading import Arriving, Before, Observation, observe, observe_rows
from seekr_tune.methods.seekr.importance import HeadScores, normalise_layers
from seekr_tune.methods.storage import Kept, keep_logits
from seekr_tune.methods.transfer import Uploads

Queried = Sequence[Tensor]
"""Query rows of each stored sample by its place, negative positions from the end."""
Passes = Callable[[], Iterator[Pass]]


@dataclass(frozen=True)
class Seen:
    """What was read when a task ended.

    Attributes:
        scores: of all heads, over all samples.
        rows: attention of every head at the query rows of this rank's samples, by place, `[layers, heads, visible]`.
        logits: of this rank's samples, by place; empty where none were asked for.
    """

    scores: HeadScores
    rows: Mapping[int, Tensor]
    logits: Mapping[int, Kept]


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
        setting: the run.
        query_budget: most query rows of a sample.
        form: how what is read is kept.
        logits: logits are kept, too.
    """

    def __init__(self, setting: Setting, query_budget: int | None, form: SignalForm, *, logits: bool) -> None:
        self._setting, self._query_budget, self._keeps_logits = setting, query_budget, logits
        self._semantics, self._workers = setting.semantics, setting.workers
        self._form, self._dtype = form, torch.float32 if form == "exact" else torch.float16

    def rows(self, passes: Passes, queried: Queried) -> dict[int, Tensor]:
        """Attention of every head at the query rows of this rank's samples, by place, `[layers, heads, visible]`."""
        rows: dict[int, Tensor] = {}

        def keep(one: Pass, arriving: Arriving[list[Tensor]]) -> None:
            rows.update(zip(one.positions, arriving(), strict=False))  # a pass that keeps step has no positions

        model, shape = self._setting.model.eval(), self._setting.shape
        with _OneBehind() as behind:
            for one in passes():
                with self._workers.precision():
                    queries = _queries(one, queried)
                    arriving = observe_rows(model, one.tokens, queries, self._semantics, shape, self._dtype)
                behind.run(partial(keep, one, arriving))
        return rows

    def lesson(self, passes: Passes, queried: Queried, before: Mapping[int, Tensor]) -> Seen:
        """What the model says now of the samples, and how far its heads have moved.

        Args:
            before: what `rows` returned before the task was learned; overwritten with what is read now.
        """
        self._setting.model.eval()
        rows: dict[int, Tensor] = {}
        logits: dict[int, Kept] = {}
        measured: dict[int, tuple[Tensor, Tensor]] = {}

        def keep(one: Pass, arriving: Arriving[Observation]) -> None:
            if not one.positions:
                return
            # Into the memory of what they were compared with: fresh pages would take longer than the copy.
            seen = arriving([before[position] for position in one.positions])
            assert seen.moved is not None
            rows.update(zip(one.positions, seen.rows, strict=True))
            for i, position in enumerate(one.positions):
                measured[position] = (seen.energy[i], seen.moved[i])
                if self._keeps_logits:
                    logits[position] = keep_logits(seen.logits[i], self._form)

        with _OneBehind() as behind, Uploads(self._workers.device) as uploads:
            ahead = Ahead(passes(), partial(self._start_before, before, queried, uploads))
            for one, old in ahead:
                ahead.begin_next()
                behind.run(partial(keep, one, self._observe(one, _queries(one, queried), old())))
        everywhere = {position: own for part in self._workers.gather(measured) for position, own in part.items()}
        energies, moves = zip(*(everywhere[position] for position in range(len(queried))), strict=True)
        energy = torch.stack(energies).sum(dim=0) / len(queried)
        forgettability = torch.stack(moves).mean(dim=0)
        # The same sums on every rank, but one set of scores, and so one selection, must hold on any mix of machines.
        scores = self._workers.broadcast(lambda: HeadScores.of_task(normalise_layers(energy), forgettability))
        return Seen(scores, rows, logits)

    def _start_before(
        self, before: Mapping[int, Tensor], queried: Queried, uploads: Uploads, one: Pass
    ) -> Callable[[], Before | None]:
        """Begin to bring what a pass is compared with to the device; a pass without positions needs nothing."""
        if not one.positions:
            return lambda: None

        def make() -> dict[str, Tensor]:
            parts = [before[position].flatten(1) for position in one.positions]
            shape = (len(parts[0]), sum(own.shape[1] for own in parts))
            rows = torch.empty(shape, dtype=self._dtype, pin_memory=uploads.pins)
            weights = {f"weights/{i}": own for i, own in enumerate(self._change_weights(one, queried))}
            return {"rows": torch.cat(parts, dim=1, out=rows), **weights}

        arriving, numbers = uploads.start(make), range(len(one.positions))

        def get() -> Before:
            tensors = arriving()
            return Before(tensors["rows"], [tensors[f"weights/{i}"] for i in numbers])

        return get

    def _change_weights(self, one: Pass, queried: Queried) -> list[Tensor]:
        width = one.tokens.input_ids.shape[1]
        return [
            self._semantics.change_weights(queries, length, width, self._query_budget)
            for queries, length in zip(_queries(one, queried), one.tokens.lengths, strict=True)
        ]

    def _observe(self, one: Pass, queries: Sequence[Tensor], before: Before | None) -> Arriving[Observation]:
        # Gradients that the official reading leaves behind are averaged over ranks by the next update.
        weight = self._workers.world_size if one.positions else 0
        scale = weight / self._setting.steps_an_update
        model, shape = self._setting.model, self._setting.shape
        with self._workers.precision():
            return observe(model, one.tokens, queries, self._semantics, shape, scale, before, self._dtype)


def _queries(one: Pass, queried: Queried) -> list[Tensor]:
    return [queried[place] for place in one.read]
