"""Text of others as people get it: on a terminal, in a spreadsheet, in a shell.

Names of tasks, directories and hosts, errors of libraries, what stands in a study's files: all of it is data. A
terminal obeys control characters, a spreadsheet computes what begins like a formula, a shell expands what is pasted
into it. There is one function for each of the three, and `tests/security/test_shown.py` finds who goes around them.
Beside them stands how long a time is said to be.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of a line
    "\u2028\u2029\ufeff\ud800-\udfff]"  # line ends, a mark without width, bytes that are no text
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a spreadsheet knows that it shall compute; the last four are the wide forms of the first."""
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)")


def printable(text: object) -> str:
    r"""A text that a terminal shows and does not obey: control characters are written as `\u001b`.

    Line feeds and tabs stay. Of JSON the meaning stays: there these characters only occur in strings.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def in_one_line(text: object) -> str:
    """The same in one line: what follows a line feed follows a blank."""
    return " ".join(printable(text).splitlines())


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV with a heading; null is an empty cell, numbers are numbers, and no text is a formula.

    Args:
        columns: the heading.
        rows: cells in the order of the columns.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([csv_cell(cell) for cell in row] for row in (columns, *rows))
    return text.getvalue()


def csv_cell(value: Any) -> Any:
    """What a cell holds: a text that a spreadsheet would compute has a quote in front, which makes it take it as text.

    A text that is a number is one.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    is_formula = value.startswith(_FORMULA) or value.lstrip().startswith(_FORMULA)
    return printable(f"'{value}" if is_formula and not _NUMBER.fullmatch(value) else value)


def command(*words: object) -> str:
    """A command to be pasted into a shell, which gets these words and nothing else; the first one is the program.

    Paths that begin with `-` get a `./`, so that they are no options.
    """
    return " ".join(_word(word) for word in words)


def ours(*words: object) -> str:
    """A command of this package: `ours("resume", directory)`."""
    return command("seekr-tune", *words)


def _word(word: object) -> str:
    text = str(word)
    if isinstance(word, Path) and text.startswith("-"):
        text = f"./{text}"
    if printable(text) == text and " ".join(text.split()) == text:
        return shlex.quote(text)
    # What a terminal would not show, or a line not keep, is written as bytes.
    shown = (chr(byte) if _is_plain(byte) else f"\\x{byte:02x}" for byte in b"".join(map(_bytes_of, text)))
    return f"$'{''.join(shown)}'"


def _bytes_of(character: str) -> bytes:
    """In a path, a byte that is no text is a surrogate."""
    code = ord(character)
    return bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else character.encode(errors="surrogatepass")


def _is_plain(byte: int) -> bool:
    return chr(byte).isalnum() and byte < 0x80 or chr(byte) in "/._-+:,=@%"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
