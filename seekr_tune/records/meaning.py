"""What a number is: declared and explained at its field, once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo


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
