from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, Field, FiniteFloat

from seekr_tune.analysis.columns import columns_of


class _Row(BaseModel):
    name: str
    kind: Literal["a", "b"]
    count: int | None = Field(None, ge=0)
    share: FiniteFloat
    either: int | float | None = None
    is_on: bool = False
    batch: tuple[int, ...] = ()
    terms: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class _Numbers:
    op: float | None
    split: Literal["eval", "test"] | None


def test_a_column_has_the_type_of_its_field() -> None:
    assert columns_of(_Row) == {
        "name": pa.string(),
        "kind": pa.string(),
        "count": pa.int64(),
        "share": pa.float64(),
        "either": pa.float64(),
        "is_on": pa.bool_(),
        "batch": pa.list_(pa.int64()),
        "terms": pa.map_(pa.string(), pa.float64()),
    }
    assert list(columns_of(_Numbers).items()) == [("op", pa.float64()), ("split", pa.string())]


def test_some_columns_keep_the_order_of_their_class() -> None:
    assert list(columns_of(_Row, {"share", "name"})) == ["name", "share"]
