"""Runs and studies on disk whose files are damaged, of another version, or not what a command needs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet

from seekr_tune.cli import main
from seekr_tune.experiment import dump_config, load_experiment
from seekr_tune.records.seal import sealed
from seekr_tune.study.directory.layout import experiment_path, space_path
from seekr_tune.study.search.journal import open_study
from seekr_tune.study.search.space import load_space

from .case import SPACE, Case

_EXPERIMENT = """\
name: mine
stream: {source: builtin, tasks: [star, last], limits: {train: 8, eval: 4}}
recipe: {max_prompt_tokens: 40, max_answer_tokens: 4, batch_size: 4}
method: {replay_percent: 25}
study: {space: space.yaml}
"""
_ROOM = TemporaryDirectory(prefix="badinput-saved-")
_RUN = ("run", "mine.yaml", "--out", "done")
_RANK, _EXTEND = ("rank", "done"), ("extend", "done", "--task", "first")

_TABLE, _RESULT = "ledger/trials.parquet", "result.json"

Change = Callable[[Path], None]


@cache
def _finished() -> Path:
    """A run of two tasks, done once."""
    directory = Path(_ROOM.name) / "run"
    directory.mkdir()
    (directory / "mine.yaml").write_text(_EXPERIMENT)
    (directory / "space.yaml").write_text(SPACE)
    before = Path.cwd()
    os.chdir(directory)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(list(_RUN)) == 0
    os.chdir(before)
    return directory / "done"


@cache
def _begun() -> Path:
    """A study that was killed before its first trial."""
    directory = Path(_ROOM.name) / "study"
    directory.mkdir()
    (directory / "mine.yaml").write_text(_EXPERIMENT)
    space_path(directory).write_text(SPACE)
    config, space = load_experiment(directory / "mine.yaml"), load_space(space_path(directory))
    open_study(directory, config, space)
    experiment_path(directory).write_text(dump_config(config))
    (directory / ".lock").touch()
    return directory


def _copy(made: Callable[[], Path], change: Change) -> Change:
    def make(path: Path) -> None:
        shutil.copytree(made(), path)
        change(path)

    return make


def _holding(name: str, content: str | bytes) -> Change:
    data = content.encode() if isinstance(content, str) else content
    return lambda path: (path / name).write_bytes(data) and None


def _json(name: str, **fields: Any) -> Change:
    """Set fields of a JSON file."""
    return lambda path: (path / name).write_text(json.dumps(json.loads((path / name).read_text()) | fields)) and None


def _record(**fields: Any) -> Change:
    """Set fields of the record, with a checksum that is right."""

    def change(path: Path) -> None:
        document = json.loads((path / _RESULT).read_text())
        del document["sha256"]
        (path / _RESULT).write_bytes(sealed(json.dumps(document | fields).encode()))

    return change


def _removed(name: str) -> Change:
    return lambda path: shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()


def _replaced(name: str, old: str, new: str) -> Change:
    return lambda path: (path / name).write_text((path / name).read_text().replace(old, new)) and None


def _table_of_version(version: str | None) -> Change:
    def change(path: Path) -> None:
        table = pyarrow.parquet.read_table(path / "ledger/trials.parquet")
        metadata = {} if version is None else {b"seekr_tune.schema_version": version.encode()}
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), path / "ledger/trials.parquet")

    return change


def _run(name: str, change: Change, says: tuple[str, ...], *commands: tuple[str, ...]) -> Case:
    """A finished run with a damage."""
    return Case(name, {"mine.yaml": _EXPERIMENT, "done": _copy(_finished, change)}, says, commands)


def _works(name: str, change: Change, *commands: tuple[str, ...]) -> Case:
    """A finished run with a damage that is no obstacle."""
    files = {"mine.yaml": _EXPERIMENT, "done": _copy(_finished, change)}
    return Case(name, files, commands=commands, works=True)


def _study(name: str, change: Change, says: tuple[str, ...], *commands: str) -> Case:
    """A study that was begun, with a damage."""
    return Case(name, {"begun": _copy(_begun, change)}, says, tuple(tuple(one.split()) for one in commands))


def _nothing(path: Path) -> None:
    """No damage."""


_MANIFEST = "checkpoints/task-0002/manifest.json"
_OLD, _CUT = _json(_MANIFEST, schema_version=1), _holding(_MANIFEST, "{")

CASES: tuple[Case, ...] = (
    # --- the ledger ---
    _run("a ledger of an older version", _table_of_version("1"), (_TABLE, "version 1", "package version"), _RANK),
    _run("a ledger of a later version", _table_of_version("99"), (_TABLE, "version 99", "package version"), _RANK),
    _run("a ledger of no version", _table_of_version(None), (_TABLE, "schema version none", "package version"), _RANK),
    _run("a ledger of bytes", _holding(_TABLE, b"PAR1 no"), (_TABLE, "is damaged", "write its ledger again"), _RANK),
    _run(
        "an empty ledger",
        _holding(_TABLE, b""),
        (_TABLE, "is damaged"),
        _RANK,
        ("export", "done", "--table", "ranking"),
    ),
    _run("no ledger", _removed("ledger"), (_TABLE, "no such table"), _RANK),
    _run("a column that is none", _nothing, ("'opp'", "did you mean 'op'"), (*_RANK, "--by", "opp")),
    _run("a condition that is none", _nothing, ("'op' is no condition", "COLUMN=VALUE"), (*_RANK, "--where", "op")),
    _run("a condition on no column", _nothing, ("'opp'", "op"), (*_RANK, "--where", "opp>3")),
    # --- the record ---
    _run("a record that is no JSON", _holding(_RESULT, "{oops"), (_RESULT, "restore the file"), _RUN),
    _run("an empty record", _holding(_RESULT, ""), (_RESULT, "restore the file"), _RUN),
    _run("a record that is a list", _holding(_RESULT, "[]"), (_RESULT, "restore the file"), _RUN),
    _run("a record of bytes", _holding(_RESULT, b"\xff\xfe\x00"), (_RESULT, "restore the file"), _RUN),
    _run("a record of an older version", _record(schema_version=1), (_RESULT, "version 1", "package"), _RUN),
    _run("a record of a later version", _record(schema_version=99), (_RESULT, "version 99", "package"), _RUN),
    _run("a record with a field too many", _record(later=1), (_RESULT, "not permitted", "restore the file"), _RUN),
    _run("a record of an unknown status", _record(status="lost"), (_RESULT, "status", "restore"), _RUN),
    _run(
        "a record that an editor wrote anew",
        _json(_RESULT),
        (_RESULT, "written anew by another program", "restore the file"),
        _RUN,
    ),
    _run("a record nested too deep", _holding(_RESULT, "[" * 100_000), (_RESULT, "restore the file"), _RUN),
    _run("steps that are no JSON", _holding("steps.jsonl", "{oops\n"), ("steps.jsonl, line 1", "restore"), _RUN),
    # --- the settings ---
    _run(
        "settings that are no YAML", _holding("config.yaml", "name: ["), ("config.yaml", "is damaged", "restore"), _RUN
    ),
    _run("empty settings", _holding("config.yaml", ""), ("config.yaml", "is damaged", "restore"), _RUN),
    _run(
        "settings of a later version",
        _replaced("config.yaml", "name: mine", "name: mine\nlater: 1"),
        ("config.yaml", "'later'", "damaged"),
        _RUN,
    ),
    _run(
        "other settings",
        _replaced("config.yaml", "seed: 0", "seed: 1"),
        ("other settings (seed", "another directory"),
        _RUN,
    ),
    # --- checkpoints, where they are needed ---
    _run("no checkpoints", _removed("checkpoints"), ("done", "checkpoint"), _EXTEND),
    _run("a task that was learned already", _nothing, ("'star'", "already"), ("extend", "done", "--task", "star")),
    _run("a task that is none", _nothing, ("'frist'", "did you mean 'first'"), ("extend", "done", "--task", "frist")),
    _run("no room for a model", _nothing, ("--to",), ("export", "done", "--best")),
    _run("a model into a full folder", _nothing, ("done",), ("export", "done", "--best", "--to", "done")),
    _run("a sweep into a run", _nothing, ("done", "holds a single run"), ("sweep", "mine.yaml", "--out", "done")),
    _run("a study's command on a run", _nothing, ("done", "holds no study"), ("resume", "done"), ("finalize", "done")),
    # --- a study ---
    _study("a study without results", _nothing, ("no results yet",), "rank begun", "report begun"),
    _study("a trial that is none", _nothing, ("trial-0099",), "show begun trial-0099", "revive begun trial-0099"),
    _study(
        "an experiment cut in a line",
        _holding("experiment.yaml", "stream: ["),
        ("experiment.yaml", "not valid YAML"),
        "resume begun",
        "status begun",
    ),
    _study(
        "an experiment of bytes",
        _holding("experiment.yaml", b"\xff"),
        ("experiment.yaml", "UTF-8"),
        "resume begun",
        "status begun",
    ),
    _study(
        "an empty experiment",
        _holding("experiment.yaml", ""),
        ("experiment.yaml", "is empty"),
        "resume begun",
        "status begun",
    ),
    _study(
        "an experiment of a later version",
        _replaced("experiment.yaml", "name: mine", "name: mine\nlater: 1"),
        ("experiment.yaml", "'later'"),
        "resume begun",
        "status begun",
    ),
    _study(
        "an experiment that was changed",
        _replaced("experiment.yaml", "seed: 0", "seed: 1"),
        ("seed changed since",),
        "resume begun",
    ),
    _study("a space that is gone", _removed("space.yaml"), ("space.yaml",), "resume begun"),
    _study(
        "a space that was changed",
        _replaced("space.yaml", "high: 5", "high: 6"),
        ("space", "changed since"),
        "resume begun",
    ),
    _study("fewer trials than there are", _nothing, ("--trials",), "resume begun --trials 0"),
    _study(
        "openings that are no JSON",
        _holding("study/openings.json", "{"),
        ("openings.json",),
        "finalize begun",
    ),
    _study("a test split before its time", _nothing, ("begun",), "finalize begun"),
    Case(
        "a folder of something else",
        {"other/notes.txt": "mine"},
        ("other",),
        (
            ("resume", "other"),
            ("status", "other"),
            ("rank", "other"),
            ("finalize", "other"),
            ("stop", "other"),
            ("show", "other", "trial-0000"),
            ("report", "other"),
            ("extend", "other", "--task", "x"),
        ),
    ),
    # --- what goes on all the same ---
    _works("a damaged checkpoint that nobody needs", _holding(_MANIFEST, "{"), _RANK, _RUN),
    _works("a checkpoint of another version, in place of which the one before is used", _OLD, _EXTEND),
    _works("a checkpoint whose manifest is no JSON, in place of which the one before is used", _CUT, _EXTEND),
    _works("a checkpoint that lacks a file", _removed("checkpoints/task-0002/state.json"), _EXTEND),
    Case(
        "a driver's file that is no JSON",
        {"begun": _copy(_begun, _holding("study/driver.json", "{"))},
        commands=(("status", "begun"), ("stop", "begun")),
        works=True,
    ),
)
