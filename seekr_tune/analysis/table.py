"""A table, and the forms that it is shown in: terminal, lines of text, HTML, Markdown, LaTeX (booktabs), CSV, JSON.

People get rounded numbers, programs every number as it is. Whatever a user may name (tasks, experiments) is escaped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rich import box
from rich import table as rich_table
from rich.markup import escape

from seekr_tune.foreign_text import csv_text, printable

NOTHING = "-"
"""Stands where there is no value."""
COUNT = ".1f~"
"""Form of counts, and of means of counts."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "[": "{[}",  # behind the end of a row they would be taken for its options
    "*": "{*}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_MARKDOWN = {character: f"\\{character}" for character in "\\|*_`<>[]#~&"}
_NUMBER = re.compile(r"[-+]?\d[\d.e+-]*( ± [\d.e+-]+)?")


@runtime_checkable
class Several(Protocol):
    """A cell that holds more than one number."""

    def parts(self, name: str) -> Mapping[str, Any]:
        """What programs get, by the name of its column."""

    def text(self, number: Callable[[float | None], str]) -> str:
        """What people get; `number` writes one of them."""


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and its standard error; null where a run has no value, and the error also for one run."""

    mean: float | None
    error: float | None

    def parts(self, name: str) -> Mapping[str, Any]:
        """`op` and `op_se`."""
        return {name: self.mean, f"{name}_se": self.error}

    def text(self, number: Callable[[float | None], str]) -> str:
        """Mean ± standard error."""
        return number(self.mean) + ("" if self.error is None else f" ± {number(self.error).lstrip('+')}")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: under which rows hold it, and programs get it.
        heading: for people; None where only programs get it.
        form: how numbers are rounded: a format (`~` at its end: no zeros behind the point), or what writes a value.
        is_text: aligned on the left, and sorted as text.
        meaning: what it is, in a sentence.
        group: of columns that are shown or hidden together.
        folds: whether a narrow terminal may break its cells.
    """

    name: str
    heading: str | None = None
    form: str | Callable[[Any], str] = COUNT
    is_text: bool = False
    meaning: str = ""
    group: str = ""
    folds: bool = True

    def text(self, value: Any, comma: str = "") -> str:
        """A cell for people; `comma` stands between thousands."""
        if callable(self.form):
            return self.form(value)
        if isinstance(value, Several):
            return value.text(lambda one: self.text(one, comma))
        if isinstance(value, bool):
            return "*" if value else ""
        return value if isinstance(value, str) else rounded(value, self.form, comma)


@dataclass(frozen=True)
class Table:
    """A table that can be shown.

    Attributes:
        caption: what it shows, in one sentence; empty where that is said around it.
        columns: in order.
        rows: cells by the name of their column; what is missing is null.
        notes: what has to be known to read it, below it.
        num_references: leading rows that are set apart by a rule.
        num_unranked: rows at the end that are set back.
        label: of the table in LaTeX: letters, digits, `-`, `:`.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    num_references: int = 0
    num_unranked: int = 0
    label: str = "table"

    @property
    def printed(self) -> tuple[Column, ...]:
        """The columns that people get."""
        return tuple(column for column in self.columns if column.heading is not None)

    def texts(self, row: Mapping[str, Any]) -> list[str]:
        """The cells that people get."""
        return [column.text(row.get(column.name)) for column in self.printed]

    def html(self, row: Mapping[str, Any]) -> Iterator[tuple[Column, str, str]]:
        """The cells of a page: column, text, and what it is sorted by (empty where there is no value: sorted last)."""
        for column in self.printed:
            value = row.get(column.name)
            text = column.text(value, ",")
            first = next(iter(value.parts("").values())) if isinstance(value, Several) else value
            key = first if isinstance(first, str) else json.dumps(first)
            yield column, "–" if text == NOTHING else text, "" if text in ("", NOTHING) else key


def rounded(value: float | None, form: str = ".4g", comma: str = "") -> str:
    """A number by a format, as `Column.form` says; `NOTHING` for none, and for nan."""
    if value is None or math.isnan(value):
        return NOTHING
    text = f"{value:{form.removesuffix('~').replace('.', f'{comma}.')}}"
    return text.rstrip("0").rstrip(".") if form.endswith("~") else text


def records(table: Table) -> list[dict[str, Any]]:
    """The rows for programs; an estimate has two columns, `op` and `op_se`."""
    return [dict(_parts(table, row)) for row in table.rows]


def as_csv(tables: Sequence[Table]) -> str:
    """All rows below one heading with the columns of all tables; null is an empty cell, lists are JSON."""
    rows = [row for table in tables for row in records(table)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    columns = columns or [column.name for table in tables for column in table.columns]
    return csv_text(columns, ([_csv_cell(row.get(name)) for name in columns] for row in rows))


def as_json(tables: Sequence[Table]) -> str:
    """A list with an object for each table: `caption`, `notes`, `rows`."""
    values = [{"caption": table.caption, "notes": table.notes, "rows": records(table)} for table in tables]
    return f"{printable(json_text(values, ensure_ascii=False))}\n"


def json_text(value: Any, ensure_ascii: bool = True) -> str:
    """JSON for people too; null in place of nan and the infinities, which JSON does not have."""
    return json.dumps(_finite(value), indent=2, allow_nan=False, ensure_ascii=ensure_ascii)


def as_markdown(tables: Sequence[Table]) -> str:
    """Pipe tables (GitHub), each below its caption and above its notes."""
    return "\n".join(line for table in tables for line in _markdown(table))


def as_latex(tables: Sequence[Table]) -> str:
    """`table` environments that need the package booktabs."""
    return "\n".join([r"% \usepackage{booktabs}", *(line for table in tables for line in _latex(table)), ""])


def as_terminal(table: Table) -> rich_table.Table:
    """The table for a terminal, its notes below; references and what has no rank are dim."""
    shown = rich_table.Table(
        title=escape(table.caption),
        caption="\n".join(map(escape, table.notes)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in table.printed:
        shown.add_column(
            escape(_broken(column.heading or "")),
            justify="left" if column.is_text else "right",
            overflow="fold",
            no_wrap=not column.folds,
        )
    ranked = range(table.num_references, len(table.rows) - table.num_unranked)
    for number, row in enumerate(table.rows):
        shown.add_row(*map(escape, table.texts(row)), style=None if number in ranked else "dim")
    return shown


def as_lines(table: Table) -> Iterator[str]:
    """Headings, a line a row, and the notes, in text of equal width; nothing without rows."""
    rows = [[column.heading or "" for column in table.printed], *map(table.texts, table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if table.rows else ():
        cells = zip(row, table.printed, widths, strict=True)
        yield "  ".join(f"{text:{'<' if column.is_text else '>'}{width}}" for text, column, width in cells).rstrip()
    yield from table.notes if table.rows else ()


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is; line breaks become spaces."""
    return "".join(_LATEX.get(character, character) for character in _line(text))


def escape_markdown(text: str) -> str:
    """Text that Markdown prints as it is, in a cell of a table too; line breaks become spaces."""
    return "".join(_MARKDOWN.get(character, character) for character in _line(text))


def markdown_code(text: str) -> str:
    """Text as code that Markdown prints as it is, outside of tables: its fence is longer than any in the text."""
    plain = _line(text)
    longest = max(map(len, re.findall("`+", plain)), default=0)
    fence, blank = "`" * (longest + 1), " " * plain.startswith("`") or " " * plain.endswith("`")
    return f"{fence}{blank}{plain}{blank}{fence}"


def _line(text: str) -> str:
    return printable(" ".join(text.split()))


def _broken(heading: str) -> str:
    """A heading of several short lines, so that its column is narrow."""
    return heading.replace("/", "/\n").replace(" ", "\n")


def _markdown(table: Table) -> Iterator[str]:
    if table.caption:
        yield f"**{escape_markdown(table.caption)}**"
        yield ""
    yield _pipes(column.heading or "" for column in table.printed)
    yield f"| {' | '.join('---' if column.is_text else '---:' for column in table.printed)} |"
    yield from map(_pipes, map(table.texts, table.rows))
    yield ""
    yield from (f"- {escape_markdown(note)}" for note in table.notes)
    if table.notes:
        yield ""


def _pipes(cells: Iterator[str] | Sequence[str]) -> str:
    return f"| {' | '.join(map(escape_markdown, cells))} |"


def _latex(table: Table) -> Iterator[str]:
    yield r"\begin{table}"
    yield r"  \centering"
    yield f"  \\caption{{{escape_latex(table.caption)}}}"
    yield f"  \\label{{tab:{table.label}}}"
    yield f"  \\begin{{tabular}}{{{''.join('l' if column.is_text else 'r' for column in table.printed)}}}"
    yield r"    \toprule"
    yield _ampersands(escape_latex(column.heading or "") for column in table.printed)
    yield r"    \midrule"
    for number, row in enumerate(table.rows):
        if number and number == table.num_references:
            yield r"    \midrule"
        yield _ampersands(_latex_cell(*cell) for cell in zip(table.printed, table.texts(row), strict=True))
    yield r"    \bottomrule"
    yield r"  \end{tabular}"
    if table.notes:
        yield r"  \par\footnotesize"
        yield from (f"  {escape_latex(f'{note[:1].upper()}{note[1:]}.')}" for note in table.notes)
    yield r"\end{table}"


def _ampersands(cells: Iterator[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _latex_cell(column: Column, text: str) -> str:
    if text == NOTHING:
        return "--"
    is_number = not column.is_text and _NUMBER.fullmatch(text)  # in mathematics, - is a minus sign
    return f"${text.replace('±', chr(92) + 'pm')}$" if is_number else escape_latex(text)


def _parts(table: Table, row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for column in table.columns:
        value = row.get(column.name)
        yield from value.parts(column.name).items() if isinstance(value, Several) else [(column.name, value)]


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
