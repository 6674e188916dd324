"""Task files that cannot be learned from, and odd ones that can."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from .case import EVAL, EXPERIMENT, FOLDER, RUN, TRAIN, VALIDATE, Case, Content, rows_of

_TRAIN, _EVAL = "data/words/train.json", "data/words/eval.json"
_OTHER_PROMPT = {"prompt": "say c", "answer": "c"}


def _train(name: str, content: Content, *says: str) -> Case:
    """A train split that is refused, naming its file."""
    return Case(name, {_TRAIN: content}, (_TRAIN, *says))


def _row(name: str, row: Any, *says: str) -> Case:
    """A second row that is refused, naming its place."""
    return _train(name, rows_of(*TRAIN, row), "row 2", *says)


def _source(name: str, source: str, files: dict[str, Content], *says: str, works: bool = False) -> Case:
    """Tasks in another layout."""
    experiment = EXPERIMENT.replace("trace_json", source)
    own: dict[str, Content] = {"mine.yaml": experiment, _TRAIN: None, _EVAL: None, **files}
    return Case(name, own, says, (VALIDATE, RUN), works)


def _jsonl(name: str, train: str | bytes, *says: str, works: bool = False) -> Case:
    files: dict[str, Content] = {"data/words/train.jsonl": train, "data/words/eval.jsonl": json.dumps(EVAL[0])}
    return _source(name, "jsonl", files, *([] if works else ["data/words/train.jsonl"]), *says, works=works)


def _parquet(name: str, train: Content, *says: str, works: bool = False) -> Case:
    files: dict[str, Content] = {"data/words/train.parquet": train, "data/words/eval.parquet": _table(EVAL)}
    return _source(name, "parquet", files, *([] if works else ["data/words/train.parquet"]), *says, works=works)


def _table(rows: list[dict[str, Any]]) -> Callable[[Path], None]:
    return lambda path: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def _works(name: str, train: Content, evaluation: Content = FOLDER[_EVAL], **files: Content) -> Case:
    """An odd stream that is learned to its end."""
    return Case(name, {_TRAIN: train, _EVAL: evaluation, **files}, works=True)


def _setting(name: str, section: str, *says: str) -> Case:
    """A stream section that does not fit the files."""
    line = "stream: {source: trace_json, root: data, tasks: [words]}"
    return Case(name, {"mine.yaml": EXPERIMENT.replace(line, f"stream: {section}")}, ("mine.yaml", *says))


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _official(name: str, train: str, *says: str, works: bool = False) -> Case:
    """Learned with the release's reading of prompts and answers."""
    experiment = EXPERIMENT + "method: {semantics: official, name: replay}\n"
    return Case(name, {"mine.yaml": experiment, _TRAIN: train}, says, works=works)


_CSV = "prompt,answer\nsay c,None\nsay d,NA\nsay e,007\nsay f,2020-01-01\n"
_LONG = " ".join(["apple"] * 500)

CASES: tuple[Case, ...] = (
    # --- where it lies ---
    _setting(
        "a root that is not there", "{source: trace_json, root: nowhere, tasks: [words]}", "'nowhere'", "give the"
    ),
    _setting("a root that is a file", "{source: trace_json, root: space.yaml, tasks: [words]}", "'space.yaml'", "give"),
    _setting("a root with a NUL", '{source: trace_json, root: "a\\0b", tasks: [words]}', "stream.root", "give"),
    _setting("a task that is not there", "{source: trace_json, root: data, tasks: [wrods]}", "'wrods'", "'words'?"),
    _setting("a task above the root", "{source: trace_json, root: data, tasks: [../data]}", "outside stream.root"),
    _setting(
        "an absolute task", "{source: trace_json, root: data, tasks: [/etc]}", "outside stream.root", "under data"
    ),
    _setting("a task of a point", "{source: trace_json, root: data, tasks: [.]}", "stream.tasks", "'.'"),
    _setting("an empty task", "{source: trace_json, root: data, tasks: ['']}", "stream.tasks", "''"),
    _setting("a task with two slashes", "{source: trace_json, root: data, tasks: [words//]}", "write 'words//'"),
    _setting("a task with a NUL", '{source: trace_json, root: data, tasks: ["wor\\0ds"]}', "stream.tasks", "words"),
    _setting("a task name of 300 letters", f"{{source: trace_json, root: data, tasks: [{'a' * 300}]}}", "no folder"),
    _setting("another column", "{source: trace_json, root: data, tasks: [words], columns: {answer: label}}", "'label'"),
    _setting(
        "a misspelt metric's task",
        "{source: trace_json, root: data, tasks: [words], metrics: {wrods: sari}}",
        "'wrods'",
    ),
    _setting(
        "files of another source", "{source: jsonl, root: data, tasks: [words]}", "set stream.source to trace_json"
    ),
    replace(
        _setting("no root", "{source: trace_json, tasks: [words]}", "stream.root", "--set stream.root=DATA"),
        commands=(RUN,),
    ),
    Case("a missing split", {_EVAL: None}, (_EVAL, "no such file", "train.json")),
    Case("a split that is a folder", {_EVAL: None, f"{_EVAL}/x": ""}, (_EVAL, "is a folder, not a file")),
    Case(
        "a link out of the root", {"secret.json": json.dumps(EVAL), _EVAL: _link("../../secret.json")}, (_EVAL, "link")
    ),
    Case("a link to nothing", {_EVAL: _link("nothing.json")}, (_EVAL, "is a link to nothing.json, which is not there")),
    # --- bytes ---
    _train("an empty file", b"", "is empty", "copy it again"),
    _train("blanks", b"  \n ", "nothing but blanks"),
    _train("a picture", b"\x89PNG\r\n\x1a\n\x00\xff", "UTF-8"),
    _train("a compressed file", gzip.compress(json.dumps(TRAIN).encode()), "gzip", "unpack it"),
    _train("a pointer", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    _train("UTF-16", json.dumps(TRAIN).encode("utf-16"), "UTF-8", "save it"),
    _train("Latin-1", '[{"prompt": "caf\xe9", "answer": "a"}]'.encode("latin-1"), "UTF-8"),
    _train("NUL bytes", b"\0" * 100, "not valid JSON"),
    _train("a NUL inside a text", b'[{"prompt": "a\0b", "answer": "c"}]', "not valid JSON"),
    _train("a file cut in a row", b'[{"prompt": "a", "ans', "not valid JSON"),
    _train("a comma too many", '[{"prompt": "a", "answer": "b"},]', "not valid JSON", "line 1"),
    _train("single quotes", "[{'prompt': 'a', 'answer': 'b'}]", "not valid JSON"),
    _train("two lists", json.dumps(TRAIN) * 2, "not valid JSON", "Extra data"),
    _train("lists nested a hundred thousand deep", "[" * 100_000, "nests deeper", "flatter"),
    _train("a number of ten thousand digits", f'[{{"prompt": {"1" * 10_000}, "answer": "b"}}]', "not valid JSON"),
    _train("lines of JSON", json.dumps(TRAIN[0]) + "\n" + json.dumps(_OTHER_PROMPT), "not valid JSON", "jsonl"),
    # --- rows ---
    _train("no rows", "[]", "no rows", "at least one"),
    _train("a mapping of rows", json.dumps({"rows": TRAIN}), "must hold a list", "in its field 'rows'"),
    _train("a text", '"say a"', "must hold a list"),
    _train("null", "null", "must hold a list"),
    _train("NaN", "NaN", "must hold a list"),
    _row("a list for a row", ["say c", "c"], "must be a mapping", "give an object"),
    _row("null for a row", None, "must be a mapping"),
    _row("an empty row", {}, "no field 'prompt'", "none"),
    _row("no answer", {"prompt": "say c"}, "no field 'answer'", "stream.columns.answer"),
    _row("a field in capitals", {"Prompt": "say c", "answer": "c"}, "no field 'prompt'", "stream.columns.prompt"),
    _row("a number for an answer", {"prompt": "say c", "answer": 3}, "'answer' must be text", "write a string"),
    _row("null for an answer", {"prompt": "say c", "answer": None}, "'answer' must be text"),
    _row("NaN for an answer", {"prompt": "say c", "answer": float("nan")}, "'answer' must be text", "float"),
    _row("true for an answer", {"prompt": "say c", "answer": True}, "'answer' must be text", "bool"),
    _row("several answers", {"prompt": "say c", "answer": ["c", "d"]}, "'answer' must be text", "list"),
    _row("an empty answer", {"prompt": "say c", "answer": ""}, "the answer is empty", "fill or drop"),
    _row("an answer of blanks", {"prompt": "say c", "answer": " \n\t"}, "the answer is empty"),
    _row("an answer of wide blanks", {"prompt": "say c", "answer": "\u3000\u00a0"}, "the answer is empty"),
    _row("an empty prompt", {"prompt": "", "answer": "c"}, "the prompt is empty", "fill or drop"),
    _row("half a surrogate pair", {"prompt": "\ud800", "answer": "c"}, "surrogate", "mend it"),
    _train(
        "a field twice",
        '[{"prompt": "say a", "prompt": "say c", "answer": "a"}]',
        "field 'prompt' stands twice",
        "say c",
        "drop one",
    ),
    _train("a task without labels", rows_of({"prompt": "say a", "answer": ""}), "row 1", "the answer is empty"),
    Case("prompts of eval in train", {_EVAL: json.dumps(TRAIN)}, ("1 of 1 prompts of split 'eval'", "remove them")),
    Case(
        "the same prompts but for blanks",
        {_EVAL: rows_of({"prompt": " say\n a ", "answer": "a"})},
        ("1 of 1 prompts of split 'eval'", "remove them"),
    ),
    # --- other layouts ---
    _jsonl("a line that is no JSON", json.dumps(TRAIN[0]) + "\n{oops\n", "line 2", "one object a line"),
    _jsonl("a list for lines", json.dumps(TRAIN), "row 1", "must be a mapping"),
    _jsonl("lines of bytes", b"\xff\xfe{}", "UTF-8"),
    _jsonl("no lines", "\n\n", "no rows"),
    _jsonl(
        "a field twice in a line",
        '{"prompt": "a", "answer": "b", "answer": "c"}',
        "line 1",
        "'answer' stands twice",
        "drop one",
    ),
    _jsonl("a line nested too deep", "[" * 100_000 + "\n", "line 1"),
    _parquet("a table that is none", b"PAR1 and more", "cut short", "copy it again"),
    _parquet("an empty table file", b"", "is empty"),
    _parquet("a table without rows", _table([{"prompt": "a", "answer": "b"}][:0]), "no rows"),
    _parquet("a table of numbers", _table([{"prompt": "say a", "answer": 3}]), "'answer' must be text", "int64"),
    _parquet("a table with other columns", _table([{"text": "say a"}]), "no field 'prompt'", "text"),
    _parquet("a table with a hole", _table([*TRAIN, {"prompt": "say c", "answer": None}]), "row 2", "must be text"),
    _source("a data set without splits", "datasets", {"data/words/notes.txt": "x"}, "no data set split named train"),
    _source("a damaged data set", "datasets", {"data/words/train.parquet": b"PAR1"}, "train.parquet", "copy it again"),
    _source(
        "a split in two formats",
        "datasets",
        {
            "data/words/train.parquet": _table(TRAIN),
            "data/words/train.csv": _CSV,
            "data/words/eval.json": rows_of(*EVAL),
        },
        "more than once, as train.parquet and train.csv",
        "keep one",
    ),
    _source(
        "a table with semicolons",
        "datasets",
        {"data/words/train.csv": _CSV.replace(",", ";"), "data/words/eval.json": rows_of(*EVAL)},
        "train.csv",
        "semicolons",
    ),
    # --- what the release's reading cannot label ---
    _official("an answer that melts into its prompt", rows_of({"prompt": "x", "answer": "apple"}), works=True),
    # --- odd, but right ---
    _source(
        "words in a CSV that could be numbers, dates or nothing",
        "datasets",
        {"data/words/train.csv": _CSV, "data/words/eval.json": rows_of(*EVAL)},
        works=True,
    ),
    _works("with a byte order mark", b"\xef\xbb\xbf" + json.dumps(TRAIN).encode()),
    _works("lines of Windows", json.dumps(TRAIN, indent=1).replace("\n", "\r\n")),
    _works("more fields than are read", rows_of({**TRAIN[0], "id": 3, "tags": [None]})),
    _works("a prompt of a million letters in one line", rows_of({"prompt": "say " + "a" * 1_000_000, "answer": "a"})),
    _works("a prompt longer than the context", rows_of({"prompt": _LONG, "answer": "a"})),
    _works("an answer longer than the context", rows_of({"prompt": "say a", "answer": _LONG})),
    _works("an eval answer longer than the context", json.dumps(TRAIN), rows_of({"prompt": "b", "answer": _LONG})),
    _works("unknown words only", rows_of({"prompt": "\u65e5\u672c\u8a9e", "answer": "\U0001f600"})),
    _works(
        "right to left, accents and joiners", rows_of({"prompt": "\u0634\u0643 e\u0301 \u200d", "answer": "\u200bx"})
    ),
    _works("a NUL that is written out", rows_of({"prompt": "a\u0000b", "answer": "c\u0000"})),
    _works("a pair of surrogates", '[{"prompt": "\\ud83d\\ude00", "answer": "a"}]'),
    _works("names of special tokens", rows_of({"prompt": "</s> <s> <pad>", "answer": "</s>"})),
    _works("a prompt twice in train", rows_of(*TRAIN, *TRAIN)),
    _works(
        "one sample and 100 percent of replay",
        json.dumps(TRAIN),
        **{"mine.yaml": EXPERIMENT + "method: {replay_percent: 100}\n"},
    ),
    _jsonl(
        "a line separator inside a text",
        json.dumps({"prompt": "a\u2028b", "answer": "c"}, ensure_ascii=False),
        works=True,
    ),
    _jsonl("no newline at the end, blanks between", f"\n{json.dumps(TRAIN[0])}\n\n", works=True),
)
