"""Conditions on configurations, such as `method.name=seekr` or `replay_percent<=5`."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from seekr_tune.analysis.configurations import TrialRow
from seekr_tune.config.facts import former_paths, short_name
from seekr_tune.config.meaning import counts_or_shares
from seekr_tune.config.messages import hint
from seekr_tune.config.numerals import UnclearValue
from seekr_tune.config.reading import parse_yaml
from seekr_tune.errors import StudyError

_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*([\w.*/-]+?)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*", re.ASCII)


@dataclass(frozen=True)
class Condition:
    """What a column must be.

    Attributes:
        column: of the ranking, or `config.<path>`.
        sign: one of `= != < <= > >=`.
        value: number, flag, text or None, as the column holds it.
        exact: whether a count (1) and a share (1.0) are different things here.
    """

    column: str
    sign: str
    value: Any
    exact: bool = False

    def holds(self, row: TrialRow) -> bool:
        """Whether a row meets it; where the row has no value, only `=null` and `!=` something hold."""
        own = row.get(self.column)
        if own is None or self.value is None:
            return bool(_OPERATORS[self.sign](own, self.value)) if self.sign in ("=", "!=") else False
        if self.exact and isinstance(own, int) != isinstance(self.value, int):
            return self.sign == "!="
        return bool(_OPERATORS[self.sign](own, self.value))


def parse_conditions(texts: Iterable[str], rows: Sequence[TrialRow]) -> tuple[Condition, ...]:
    """Read conditions on the columns of some rows.

    Args:
        texts: such as `method.name=seekr`, `replay_percent<=5`, `knee=true`, `error!=null`. A column may be given by
            the end of a config path where only one ends so.
        rows: the rows that are asked; they say which columns there are, and of which kind.

    Raises:
        StudyError: it is no condition, there is no such column, or its value is of another kind.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return tuple(_parse(text, columns, rows) for text in texts) if rows else ()


def _parse(text: str, columns: Sequence[str], rows: Sequence[TrialRow]) -> Condition:
    matched = _FORM.fullmatch(text)
    if matched is None:
        raise StudyError(f"{text!r} is no condition; write COLUMN=VALUE, or one of != < <= > >= instead of =")
    name, sign, value = matched.groups()
    column = _column(name, columns)
    known = next((row[column] for row in rows if row.get(column) is not None), None)
    read = _value(value, known, text)
    if isinstance(known, list) or (read is not None and known is not None and not _alike(read, known)):
        kind = "a list" if isinstance(known, list) else f"{_kind(known)}, such as {json.dumps(known)}"
        raise StudyError(f"condition {text!r}: {column} is {kind}; give a value or a column of that kind")
    sign = "=" if sign == "==" else sign
    if sign not in ("=", "!=") and _kind(read) != "a number":
        raise StudyError(f"condition {text!r}: only numbers have an order; use = or !=")
    return Condition(column, sign, read, _is_exact(column, sign, rows))


def _is_exact(column: str, sign: str, rows: Sequence[TrialRow]) -> bool:
    """Whether counts and shares are kept apart: always for equality; for an order where the rows have both."""
    if column.removeprefix("config.") not in counts_or_shares():
        return False
    return sign in ("=", "!=") or len({type(row[column]) for row in rows if row.get(column) is not None}) > 1


def _column(name: str, columns: Sequence[str]) -> str:
    if name in columns:
        return name
    if f"config.{name}" in columns:
        return f"config.{name}"
    now = former_paths().get(name, former_paths().get(f"method.{name}", ()))
    ends = [
        column
        for column in columns
        if column.startswith("config.") and (column.endswith(f".{name}") or column.removeprefix("config.") in now)
    ]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise StudyError(f"{name!r} is the end of several fields; give one of {', '.join(ends)}")
    by_name = {short: column for column in columns for short in (column, short_name(column.removeprefix("config.")))}
    listed = "`seekr-tune explain` lists columns, `validate --fields` settings"
    raise StudyError(f"there is no column {name!r}; {hint(name, by_name, listed)}")


def _value(text: str, known: Any, condition: str) -> Any:
    """A value as an experiment file would have it; where the column holds text, the text itself."""
    if text == "null":
        return None
    if isinstance(known, str):
        return text
    try:
        read = parse_yaml(text)
    except UnclearValue as error:
        raise StudyError(f"condition {condition!r}: {error.problem}") from None
    except yaml.YAMLError:
        return text
    return text if read is None else read


def _alike(one: Any, other: Any) -> bool:
    return _kind(one) == _kind(other)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "text"
