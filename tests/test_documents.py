"""Whatever lies where a file belongs, and whatever its text is, reading it ends: with a value, or with one line."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.documents import MAX_DEPTH, opened, parse_json, read_bytes, read_json, read_text
from seekr_tune.errors import AccessError, DocumentError, NoDocument


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def alternating(depth: int) -> str:
    """Lists and objects in turn, with brackets in a string that close nothing."""
    text = '"]]}\\"]"'
    for level in range(depth):
        text = f"[{text}, 1]" if level % 2 else f'{{"[[{{": {text}, "b": [1, {{}}]}}'
    return text


def put_endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 10**12)


def put_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "is a pipe, not a file; remove it"),
    "a socket": (put_socket, "is a socket, not a file"),
    "a folder": (Path.mkdir, "is a folder, not a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "a link in a circle": (lambda path: path.symlink_to(path), "cannot be read (Too many levels of symbolic links)"),
    "no end": (put_endless, "has more than 100 MB"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "result.json"
    put, said = ODD[kind]
    put(path)
    for read in (read_bytes, read_text, read_json):
        with pytest.raises(DocumentError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: {said}") and not isinstance(caught.value, NoDocument)


def test_what_is_put_in_the_place_of_a_file_between_two_looks_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain = tmp_path / "result.json", tmp_path / "plain"
    os.mkfifo(path)
    plain.touch()
    status = os.stat(plain)
    monkeypatch.setattr(os, "stat", lambda path: status)
    with pytest.raises(DocumentError, match="is a pipe"), opened(path):
        pass


def test_a_missing_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NoDocument, match="absent: no such file; check the path"):
        read_json(tmp_path / "absent")
    (tmp_path / "plain").touch()
    for path in (tmp_path / "plain" / "x", tmp_path / ("n" * 300), tmp_path / "a\0b"):
        with pytest.raises(DocumentError):
            read_json(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_this_user_may_not_read_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.touch(mode=0)
    with pytest.raises(AccessError):
        read_json(path)


def test_a_file_of_the_system_that_has_no_size_is_read_and_bounded(tmp_path: Path) -> None:
    assert "VmHWM" in read_text("/proc/self/status")
    with pytest.raises(DocumentError, match="has more than 10 bytes"):
        read_text("/proc/self/status", limit=10)
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbf" + b"x" * 10)
    assert read_bytes(path, limit=13) == path.read_bytes() and read_text(path) == "x" * 10
    with pytest.raises(DocumentError, match="more than 12 bytes"):
        read_bytes(path, limit=12)


@pytest.mark.parametrize("text", [nested, alternating])
def test_nesting_ends_where_it_is_said_to(text: Callable[[int], str]) -> None:
    inner = 2 if text is alternating else 0
    deepest = text(MAX_DEPTH - inner)
    assert parse_json(deepest) == json.loads(deepest)
    for depth in (MAX_DEPTH + 1, 990, 100_000 if text is nested else 500):
        with pytest.raises(DocumentError, match=f"nests deeper than {MAX_DEPTH} levels"):
            parse_json(text(depth))


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a":' * 10**5, '"' + "[" * 10**6, "]" * 10**6 + "[" * 10**6])
def test_brackets_that_are_never_closed_do_not_end_the_stack(text: str) -> None:
    with pytest.raises(DocumentError):
        parse_json(text)


def test_many_brackets_side_by_side_and_in_strings_are_no_depth() -> None:
    wide = [[{}, []] for _ in range(1000)]
    assert parse_json(json.dumps(wide)) == wide
    text = json.dumps(["[" * 1000, '\\"[', "\\", *["{[" * 200] * 3])
    assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize(
    "number",
    ["1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1" * 301, "1" * 10**6, "1" * 250 + "e99", " 7.5E+999"],
)
def test_a_number_that_nobody_means_is_refused(number: str) -> None:
    with pytest.raises(DocumentError, match="is no finite number; write a number in its place") as caught:
        parse_json(f'{{"a": [{number}]}}')
    assert len(str(caught.value)) < 100


def test_where_such_numbers_may_be_only_endless_ones_are_refused() -> None:
    assert parse_json("[1e400, -Infinity]", finite=False) == [float("inf"), float("-inf")]
    with pytest.raises(DocumentError, match="a whole number of thousands of digits"):
        parse_json("1" * 10**6, finite=False)


@pytest.mark.parametrize("text", ["", "{", "[1,]", "{'a': 1}", b"\xff", "[1] 2", '"\n"', "\x00"])
def test_what_is_not_json_is_said_in_one_line(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value) and caught.value.reason in str(caught.value)
    path = tmp_path / "document.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DocumentError) as caught:
        read_json(path)
    assert str(caught.value) == f"{path}: {caught.value.reason}; {caught.value.mend}"


def test_objects_are_made_as_the_caller_wants() -> None:
    def once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(fields)) < len(fields):
            raise ValueError("stands twice")
        return dict(fields)

    assert parse_json('{"a": 1, "a": 2}') == {"a": 2}
    assert parse_json('{"a": {"b": 1}}', pairs=once) == {"a": {"b": 1}}
    with pytest.raises(DocumentError, match="stands twice"):
        parse_json('{"a": 1, "a": 2}', pairs=once)
