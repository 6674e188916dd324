"""The lines of a text file, one at a time, so that a file of any size can be read from its start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from seekr_tune.documents import MAX_BYTES
from seekr_tune.errors import DataError

_LONE_RETURN = re.compile(r"(?<=\r)(?!\n)")


def lines_of(path: Path, file: BinaryIO) -> Iterator[tuple[int, str]]:
    r"""Numbers (from 1) and lines, each with its end, which is `\n`, `\r\n` or `\r`; a byte order mark is no part.

    Not `str.splitlines()`: a line separator such as U+2028 may stand inside a text.

    Raises:
        DataError: a line is too long, or no UTF-8.
    """
    number = 0
    while content := file.readline(MAX_BYTES):
        place = f"{path}, line {number + 1}"
        if len(content) == MAX_BYTES:
            raise DataError(f"{place}: has more than {MAX_BYTES // 10**6} MB; cut it into rows")
        try:
            text = content.decode("utf-8-sig" if number == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{place}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
        for line in filter(None, _LONE_RETURN.split(text)):
            number += 1
            yield number, line
