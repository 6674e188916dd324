"""Small files and JSON -> plain values, bounded: no file can block this process, fill its memory or end its stack.

All JSON of this package is read here, and all files that are read whole. A pipe would be waited for, a device has no
end, brackets can nest deeper than Python's stack, and `1e400` is no number that anybody means. Each is refused with one
error, which says what is wrong and how to mend it.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from seekr_tune.access import MEND_LINK, access_error, dangling
from seekr_tune.errors import DocumentError, NoDocument

MAX_BYTES = 100_000_000
"""Largest file that is read whole, unless the caller says otherwise; the largest result has a few megabytes."""
MAX_GROWN_BYTES = 2_000_000_000
"""Largest file to which a study adds lines as long as it runs."""
MAX_DEPTH = 100
"""Deepest nesting of JSON; a result needs 6. Python's stack ends near 1000."""
_MAX_DIGITS = 300
"""Longest whole number that any float can still be compared with."""
_PIECE = 1 << 23
_ALIKE = bytes.maketrans(b"{}", b"[]")
_AS_NUMBERS = bytes.maketrans(b"123456789E", b"000000000e")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}

Pairs = Callable[[list[tuple[str, Any]]], Any]
"""Makes an object of its keys and values, in their order; raises ValueError where it does not like them."""


@contextmanager
def opened(path: Path | str) -> Iterator[BufferedReader]:
    """A regular file, open for reading; nothing is waited for.

    Raises:
        NoDocument: there is nothing.
        DocumentError: something else is there, or it cannot be read.
        AccessError: this user may not read it.
    """
    with _told(path):
        _require_regular(path, os.stat(path))  # to open a device may do something
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            _require_regular(path, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_bytes(path: Path | str, limit: int = MAX_BYTES) -> bytes:
    """The content of a file.

    Args:
        path: of the file.
        limit: most bytes.

    Raises:
        NoDocument: there is nothing.
        DocumentError: it is no file, cannot be read, or is too large.
        AccessError: this user may not read it.
    """
    with opened(path) as file, _told(path):
        size, pieces = os.fstat(file.fileno()).st_size, []
        while size <= limit and (piece := file.read(_PIECE)):
            pieces.append(piece)
            size = max(size, sum(map(len, pieces)))  # a file may grow, and one of the system has no size
    if size > limit:
        raise DocumentError(f"has more than {_amount(limit)}", "it is not what belongs there; give another", path=path)
    return b"".join(pieces)


def read_text(path: Path | str, limit: int = MAX_BYTES) -> str:
    """The content of a file as text; a byte order mark is no part of it.

    Raises:
        NoDocument, DocumentError, AccessError: as `read_bytes`; or it is not UTF-8.
    """
    content = read_bytes(path, limit)
    with _placed(path):
        return _decoded(content)


def read_json(path: Path | str, limit: int = MAX_BYTES, *, finite: bool = True, pairs: Pairs | None = None) -> Any:
    """The JSON value that a file holds.

    Args:
        path: of the file.
        limit: most bytes.
        finite: see `parse_json`.
        pairs: see `parse_json`.

    Raises:
        NoDocument, DocumentError, AccessError: as `read_bytes`; or as `parse_json`.
    """
    content = read_bytes(path, limit)
    with _placed(path):
        return parse_json(content, finite=finite, pairs=pairs)


def parse_json(text: str | bytes, *, finite: bool = True, pairs: Pairs | None = None) -> Any:
    """The value of one JSON text.

    Args:
        text: the text, or its UTF-8.
        finite: refuse NaN, Infinity and numbers that no float can hold; otherwise they are read as Python reads them.
        pairs: makes the objects; None: dicts, which keep the last of equal keys.

    Raises:
        DocumentError: it is not JSON, nests deeper than `MAX_DEPTH`, or has a number that nobody means; without a path.
    """
    text = text if isinstance(text, str) else _decoded(text)
    if _is_deep(text):
        raise DocumentError(f"nests deeper than {MAX_DEPTH} levels", "write it anew, flatter")
    try:
        if pairs is None:
            return (_FINITE if finite and not is_modest(text) else _ANY).decode(text)
        return json.JSONDecoder(object_pairs_hook=pairs, **(_NUMBERS if finite else {})).decode(text)
    except DocumentError:
        raise
    except (ValueError, RecursionError) as error:  # brackets that are never closed; the caller's stack
        reason = " ".join(str(error).split())[:200]
        reason = "a whole number of thousands of digits" if "set_int_max_str_digits" in reason else reason
        raise DocumentError(f"not valid JSON ({reason})", "mend its syntax") from None


def kind_of(mode: int) -> str | None:
    """What stands where a file should, in words; None for a file."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def _require_regular(path: Path | str, status: os.stat_result) -> None:
    kind = kind_of(status.st_mode)
    if kind is not None:
        raise DocumentError(f"is {kind}, not a file", "remove it, or give another path", path=path)


def _is_deep(text: str) -> bool:
    """Whether brackets outside of strings nest too deep, without reading it; what is not JSON may be called either."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    brackets = outside.encode("utf-8", "replace").translate(_ALIKE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        if b"[]" not in brackets:
            break
        brackets = brackets.replace(b"[]", b"")  # the innermost level
    return b"[]" in brackets or brackets.count(b"[") > MAX_DEPTH


def is_modest(text: str) -> bool:
    """Whether no number can be beyond any float, so nobody has to look at each: fewer than 200 digits in a row, and two
    in an exponent."""
    seen = text.encode("utf-8", "replace").translate(_AS_NUMBERS, b"+-.")
    if any(sign in seen for sign in (b"0" * 200, b"NaN", b"Infinity")):
        return False
    *before, _ = seen.split(b"e000")
    return not any(part.rstrip(b"0")[-1:] in b":,[ \t\r\n" for part in before)  # in a checksum it stands for nothing


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _int(text: str) -> int:
    return int(text) if len(text) <= _MAX_DIGITS else _refuse(text)


def _refuse(text: str) -> NoReturn:
    shown = text if len(text) <= 20 else f"{text[:20]}..."
    raise DocumentError(f"{shown} is no finite number", "write a number in its place")


_NUMBERS: dict[str, Any] = {"parse_float": _float, "parse_int": _int, "parse_constant": _refuse}
_FINITE, _ANY = json.JSONDecoder(**_NUMBERS), json.JSONDecoder()


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"byte {error.start} is not UTF-8", "save it as UTF-8") from None


def _amount(size: int) -> str:
    return f"{size // 10**6} MB" if size >= 10**6 else f"{size} bytes"


@contextmanager
def _placed(path: Path | str) -> Iterator[None]:
    """Say where it stands."""
    try:
        yield
    except DocumentError as error:
        raise DocumentError(error.reason, error.mend, path=path) from None


@contextmanager
def _told(path: Path | str) -> Iterator[None]:
    """Turn what the system says into one line."""
    try:
        yield
    except DocumentError:
        raise
    except FileNotFoundError:
        broken = dangling(path)
        if broken is not None:
            raise NoDocument(broken, MEND_LINK, path=path) from None
        raise NoDocument("no such file", "check the path", path=path) from None
    except PermissionError as error:
        raise access_error(Path(path), error) from None
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise DocumentError("is a socket, not a file", "remove it, or give another path", path=path) from None
        mend = "check the path and its permissions"
        raise DocumentError(f"cannot be read ({error.strerror})", mend, path=path) from None
    except ValueError:  # a null character in the path
        raise DocumentError("is no path of a file", "check the path", path=repr(str(path))) from None
