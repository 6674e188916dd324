"""Tables as papers print them: one table, several forms (CSV, JSON, Markdown, LaTeX with booktabs, a terminal).

CSV and JSON hold every number as it is, and of an estimate its mean and its standard error (`op`, `op_se`). Markdown
and LaTeX round, and print `mean ± standard error`. Whatever a user may name (tasks, experiments) is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from seekr_tune.analysis.final import Estimate
from seekr_tune.shown import csv_text, printable

Cell = str | int | float | bool | Estimate | None

_NONE = "-"
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


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: in CSV and JSON.
        heading: in Markdown and LaTeX; None where it is left out there, because the caption says it.
        form: how numbers are rounded there.
        is_text: aligned on the left.
    """

    name: str
    heading: str | None
    form: str = ".2f"
    is_text: bool = False


@dataclass(frozen=True)
class PaperTable:
    """A table that can be printed.

    Attributes:
        label: of the table in LaTeX: letters, digits, `-`, `:`.
        caption: what it shows, in one sentence.
        columns: in order.
        rows: cells by the name of their column; what is missing is null.
        num_references: leading rows that are set apart by a rule.
        notes: what has to be known to read it, below it.
    """

    label: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]
    num_references: int = 0
    notes: tuple[str, ...] = ()

    @property
    def printed(self) -> tuple[Column, ...]:
        """The columns of Markdown and LaTeX."""
        return tuple(column for column in self.columns if column.heading is not None)


def as_csv(tables: Sequence[PaperTable]) -> str:
    """All rows below one heading with the columns of all tables; null is an empty cell."""
    rows = [dict(_numbers(table, row)) for table in tables for row in table.rows]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text(columns, ([row.get(name) for name in columns] for row in rows))


def as_json(tables: Sequence[PaperTable]) -> str:
    """A list with an object for each table: `caption`, `notes`, `rows`."""
    values = [
        {"caption": table.caption, "notes": table.notes, "rows": [dict(_numbers(table, row)) for row in table.rows]}
        for table in tables
    ]
    return printable(json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False)) + "\n"


def as_markdown(tables: Sequence[PaperTable]) -> str:
    """Pipe tables (GitHub), each below its caption and above its notes."""
    return "\n".join(line for table in tables for line in _markdown(table))


def as_latex(tables: Sequence[PaperTable]) -> str:
    """`table` environments that need the package booktabs."""
    return "\n".join([r"% \usepackage{booktabs}", *(line for table in tables for line in _latex(table)), ""])


def terminal_table(table: PaperTable) -> Table:
    """The table for a terminal, its notes below."""
    shown = Table(
        title=escape(table.caption),
        caption="\n".join(map(escape, table.notes)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in table.printed:
        shown.add_column(escape(column.heading or ""), justify="left" if column.is_text else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(escape(_text(row.get(column.name), column.form)) for column in table.printed))
    return shown


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


def _markdown(table: PaperTable) -> Iterator[str]:
    yield f"**{escape_markdown(table.caption)}**"
    yield ""
    yield _pipes(escape_markdown(column.heading or "") for column in table.printed)
    yield _pipes("---" if column.is_text else "---:" for column in table.printed)
    for row in table.rows:
        yield _pipes(escape_markdown(_text(row.get(column.name), column.form)) for column in table.printed)
    yield ""
    for note in table.notes:
        yield f"- {escape_markdown(note)}"
    if table.notes:
        yield ""


def _pipes(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(table: PaperTable) -> Iterator[str]:
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
        yield _ampersands(_latex_cell(row.get(column.name), column.form) for column in table.printed)
    yield r"    \bottomrule"
    yield r"  \end{tabular}"
    if table.notes:
        yield r"  \par\footnotesize"
        yield from (f"  {escape_latex(_sentence(note))}" for note in table.notes)
    yield r"\end{table}"


def _ampersands(cells: Iterator[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _latex_cell(value: Cell, form: str) -> str:
    text = _text(value, form)
    if text == _NONE:
        return "--"
    if isinstance(value, bool | str):
        return escape_latex(text)
    return f"${text.replace('±', chr(92) + 'pm')}$"  # in mathematics, - is a minus sign


def _text(value: Cell, form: str) -> str:
    if isinstance(value, Estimate):
        error = "" if value.error is None else f" ± {value.error:{form.lstrip('+')}}"
        return _NONE if value.mean is None else f"{value.mean:{form}}{error}"
    if isinstance(value, bool):
        return "*" if value else ""
    if isinstance(value, float):
        return f"{value:{form}}"
    return _NONE if value is None else str(value)


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}."


def _numbers(table: PaperTable, row: Mapping[str, Cell]) -> Iterator[tuple[str, Any]]:
    for column in table.columns:
        value = row.get(column.name)
        if isinstance(value, Estimate):
            yield column.name, value.mean
            yield f"{column.name}_se", value.error
        else:
            yield column.name, value
