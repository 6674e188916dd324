from __future__ import annotations

from typing import Annotated, Literal

import pyarrow as pa
from pydantic import BaseModel, Field, FiniteFloat

from seekr_tune.analysis.ledger import COLUMNS
from seekr_tune.config import Section
from seekr_tune.records.columns import columns_of
from seekr_tune.records.meaning import Meaning, meanings_of


class _Row(BaseModel):
    name: str
    kind: Literal["a", "b"]
    count: int | None = Field(None, ge=0)
    share: FiniteFloat
    either: int | float | None = None
    is_on: bool = False
    batch: tuple[int, ...] = ()
    terms: dict[str, float] = Field(default_factory=dict)


class _Told(Section):
    op: Annotated[float | None, Meaning(unit="%", better="higher")] = Field(None, ge=0)
    """Mean over `j`. How well
    it went; look twice. Beware: of noise."""
    name: str
    """Only a name."""
    bare: int


def test_what_a_column_means_stands_at_its_field() -> None:
    assert meanings_of(_Told) == {
        "op": Meaning("mean over `j`", "%", "higher", reading="how well it went; look twice", trap="of noise"),
        "name": Meaning("only a name"),
        "bare": Meaning(),
    }
    told = {name: field.metadata for name, field in columns_of(_Told).items()}
    assert told == {
        "op": {b"meaning": b"mean over `j`", b"unit": b"%"},
        "name": {b"meaning": b"only a name"},
        "bare": None,
    }


def test_every_column_of_a_ledger_says_what_it_is() -> None:
    silent = {f"{table}.{name}" for table, own in COLUMNS.items() for name, field in own.items() if not field.metadata}
    assert silent == {"trials.params", "trials.config"}


def test_a_column_has_the_type_of_its_field() -> None:
    assert {name: field.type for name, field in columns_of(_Row).items()} == {
        "name": pa.string(),
        "kind": pa.string(),
        "count": pa.int64(),
        "share": pa.float64(),
        "either": pa.float64(),
        "is_on": pa.bool_(),
        "batch": pa.list_(pa.int64()),
        "terms": pa.map_(pa.string(), pa.float64()),
    }


def test_some_columns_keep_the_order_of_their_class() -> None:
    assert list(columns_of(_Row, {"share", "name"})) == ["name", "share"]
