"""Columns of the ledger's tables, from the classes of their rows: a number is declared and explained where it is made.

A whole number is int64, also where it may be null; a field that takes whole numbers and others is float64.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seekr_tune.config.leaves import alternatives

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


@dataclass(frozen=True)
class Meaning:
    """What a number (or a name) is.

    It stands at its field: `op: Annotated[float | None, Meaning(unit="%")]`, and in the docstring there, whose first
    sentence is `formula`, what follows `reading`, and what follows `Beware:` is `trap`.

    Attributes:
        formula: how it is computed, or what it says.
        unit: of the number; `-` where it has none.
        better: which way is better; None where neither is.
        reads: columns of the ledger or of the ranking that it is computed from.
        reading: how to read it.
        trap: what it does not say, or says wrongly; empty where there is nothing to beware of.
        heading: what stands above its column; empty: its name.
    """

    formula: str = ""
    unit: str = "-"
    better: Literal["higher", "lower"] | None = None
    reads: tuple[str, ...] = ()
    reading: str = ""
    trap: str = ""
    heading: str = ""


def columns_of(row: type[BaseModel], only: Collection[str] | None = None) -> dict[str, pa.Field]:
    """Arrow field of each field of a class of rows, in order; its metadata say the meaning and the unit.

    Args:
        row: its fields are numbers, texts, flags, or tuples or mappings of them.
        only: these fields; None: all.
    """
    hints, meanings = get_type_hints(row, include_extras=True), meanings_of(row)
    return {
        name: pa.field(name, _arrow_type(hints[name]), metadata=_metadata(meaning))
        for name, meaning in meanings.items()
        if only is None or name in only
    }


def meanings_of(row: type[BaseModel]) -> dict[str, Meaning]:
    """What the fields of a class of rows mean."""
    return {name: _meaning(field) for name, field in row.model_fields.items()}


def _meaning(field: FieldInfo) -> Meaning:
    given = next((one for one in field.metadata if isinstance(one, Meaning)), Meaning())
    told, _, trap = " ".join((field.description or "").split()).removesuffix(".").partition(". Beware: ")
    formula, _, reading = told.partition(". ")
    return replace(given, formula=_begun(formula), reading=_begun(reading), trap=trap)


def _begun(sentence: str) -> str:
    """A sentence as a part of another one."""
    return f"{sentence[:1].lower()}{sentence[1:]}"


def _metadata(meaning: Meaning) -> dict[str, str] | None:
    told = {"meaning": meaning.formula, "unit": meaning.unit.replace("-", "")}
    return {key: text for key, text in told.items() if text} or None


def _arrow_type(annotation: Any) -> pa.DataType:
    types = set(alternatives(annotation)) - {type(None)}
    if types == {int, float}:
        return _TYPES[float]
    (kind,) = types
    if get_origin(kind) is tuple:
        return pa.list_(_arrow_type(get_args(kind)[0]))
    if get_origin(kind) is dict:
        return pa.map_(*map(_arrow_type, get_args(kind)))
    return _TYPES[kind]
