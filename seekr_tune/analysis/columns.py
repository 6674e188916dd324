"""Columns of the ledger's tables, from the classes of their rows: a number is declared where it is made.

A whole number is int64, also where it may be null; a field that takes whole numbers and others is float64.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any, cast, get_args, get_origin, get_type_hints

import pyarrow as pa
from pydantic import BaseModel

from seekr_tune.config.leaves import alternatives

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def columns_of(row: type, only: Collection[str] | None = None) -> dict[str, pa.DataType]:
    """Name and Arrow type of each field of a class of rows (pydantic or dataclass), in their order.

    Args:
        row: its fields are numbers, texts, flags, or tuples or mappings of them.
        only: these fields; None: all.
    """
    hints = get_type_hints(row, include_extras=True)
    names = row.model_fields if issubclass(row, BaseModel) else [field.name for field in fields(cast("Any", row))]
    return {name: _arrow_type(hints[name]) for name in names if only is None or name in only}


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
