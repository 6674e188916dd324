"""Bytes that a stored sample takes, known from shapes alone: what a method answers before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from seekr_tune.methods.semantics import Semantics

FLOAT32 = INT32 = 4
FLOAT16 = INT16 = 2
POSITION = 8


class SampleSize(NamedTuple):
    """What of a stored sample its signals depend on.

    Attributes:
        length: its tokens.
        labels: how many of them are labels.
        visible: keys that its query rows see, together; None: as many as rows that are drawn at random see on average.
    """

    length: int
    labels: int
    visible: int | None = None


@dataclass(frozen=True)
class ModelShape:
    """What of a model and of its precision the signals depend on."""

    layers: int
    heads: int
    vocabulary: int
    computed_dtype: Literal["float32", "bfloat16"]
    semantics: Semantics


@dataclass(frozen=True)
class SampleBytes:
    """What one stored sample takes.

    Attributes:
        signals: kept beside it by the worker that has read it.
        known: of it on every worker, besides its tokens.
        rows: held beside it until its task ends.
        reading: while it is read in a pass.
    """

    signals: int = 0
    known: int = 0
    rows: int = 0
    reading: int = 0

    def __add__(self, other: SampleBytes) -> SampleBytes:
        return SampleBytes(
            self.signals + other.signals,
            self.known + other.known,
            self.rows + other.rows,
            self.reading + other.reading,
        )
