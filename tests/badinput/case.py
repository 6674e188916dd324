"""A case of bad input: what lies in the folder, the command lines that meet it, and what they must say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Content = str | bytes | None | Callable[[Path], None]
"""What a file holds; None: it is not there; a function makes it (a link, a Parquet file, a model) at its path."""

_JOURNAL = "journal.log"
VALIDATE, RUN, SWEEP = ("validate", "mine.yaml"), ("run", "mine.yaml"), ("sweep", "mine.yaml")

EXPERIMENT = """\
name: mine
stream: {source: trace_json, root: data, tasks: [words]}
recipe: {max_prompt_tokens: 16, max_answer_tokens: 4, batch_size: 4}
study: {space: space.yaml}
"""
SPACE = "method.memory.percent: {type: float, low: 1, high: 5}\n"
TRAIN = [{"prompt": "say a", "answer": "a"}]
EVAL = [{"prompt": "say b", "answer": "boat"}]  # a word of the built-in model, which can then score all


@dataclass(frozen=True)
class Case:
    """One bad input, or an odd one that must work.

    Attributes:
        name: what is wrong, in words.
        files: contents by path, over those of `FOLDER`.
        says: what the one line must contain: the file, the field, the mend.
        commands: every one of them must refuse it (or work).
        works: whether it is odd but right: exit code 0.
    """

    name: str
    files: Mapping[str, Content] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = (VALIDATE, RUN)
    works: bool = False

    def __post_init__(self) -> None:
        assert self.works or self.says, f"{self.name}: a refusal must say something"


def rows_of(*rows: Any) -> str:
    """Rows as the JSON list that a split file holds."""
    return json.dumps(rows)


FOLDER: Mapping[str, Content] = {
    "mine.yaml": EXPERIMENT,
    "space.yaml": SPACE,
    "data/words/train.json": json.dumps(TRAIN),
    "data/words/eval.json": json.dumps(EVAL),
}
"""What lies in the folder of every case: an experiment that works, its space and its data."""


def lay_out(folder: Path, case: Case) -> None:
    """Write the files of a case."""
    for name, content in {**FOLDER, **case.files}.items():
        if content is None:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, and what its file holds; None: no file, or the journal, which notes who opens it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() and path.name != _JOURNAL else None
        for path in sorted(folder.rglob("*"))
    }
