"""Folders as users have them, made by the project itself: small runs, a study, checkpoints, a model, data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow
import pyarrow.parquet

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.config import SignalForm
from seekr_tune.loop.shared_scores import SharedScores
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.records import read_record, read_steps
from seekr_tune.study.directory.forgotten import Erasing, write_erasing
from seekr_tune.study.directory.layout import journal_path, trial_path
from seekr_tune.study.directory.lock import Holder
from seekr_tune.study.directory.provenance import write_provenance
from seekr_tune.study.directory.test_split_log import Opening, write_openings
from seekr_tune.study.runs.bounds import keep_bound
from seekr_tune.study.search.journal import note_given, open_study
from seekr_tune.study.search.space import load_space
from tests.badinput.case import EVAL, TRAIN
from tests.loop.tiny import run as learn
from tests.loop.tiny import saved_model, tiny_config
from tests.security.small import SPACE, finished_run, small_config, study_of

STAGE, STEPS = "checkpoints/task-0002", "checkpoints/task-0002-step-000003"
SUBJECT = {"what": "is scored"}
"""Of the shared score."""

_ROOM = TemporaryDirectory(prefix="fuzz-made-")
_WHEN = "2026-01-01T00:00:00+00:00"


class _Killed(BaseException):
    """Ends a run where it stands."""


@cache
def _run() -> Path:
    return finished_run(Path(_ROOM.name) / "run")


def result(folder: Path) -> None:
    """The files of a run that are read later."""
    for name in ("result.json", "steps.jsonl", "log.jsonl"):
        shutil.copy(_run() / name, folder / name)


def result_without_checksum(folder: Path) -> None:
    """A record as it was written before records had checksums: its fields are looked at."""
    record = json.loads((_run() / "result.json").read_bytes())
    del record["sha256"]
    (folder / "result.json").write_text(json.dumps(record))


def step_log(folder: Path) -> None:
    """A run that was killed in its second task."""
    lines = (_run() / "steps.jsonl").read_bytes().splitlines(keepends=True)
    of_first = [line for line in lines if json.loads(line)["task_index"] == 0]
    (folder / "steps.jsonl").write_bytes(b"".join(of_first))
    (folder / "steps.partial.jsonl").write_bytes(b"".join(lines[len(of_first) :]))


def ledger(folder: Path) -> None:
    """The ledger of a run."""
    shutil.copytree(_run() / "ledger", folder / "ledger")


def study(folder: Path) -> None:
    """A finished study of one trial with all that can lie in its directory."""
    study_of(_run(), folder)
    shutil.rmtree(trial_path(folder, "trial-0000") / "checkpoints")
    config, space = small_config(), load_space(folder / "space.yaml")
    searched = open_study(folder, config, space)
    searched.enqueue_trial({"method.memory.percent": 9.0}, user_attrs={"enqueued": "tries.yaml/1"})
    note_given(folder, searched)
    journal_path(folder).with_name("driver.json").write_text(json.dumps(vars(Holder.here())))
    write_provenance(folder, config)
    finalist = {"configuration": "trial-0000", "params": {}, "tuned": {"op": 50.0}}
    of_opening = {"when": _WHEN, "code_version": "1", "rule": "best", "configurations": [finalist]}
    drawn = {"orders": [["star"]], "seeds": [1], "memory_draws": [0], "folder": "final", "again": False}
    write_openings(folder, [Opening.model_validate_json(json.dumps(of_opening | drawn))])
    sample = {"sample": "star:3", "when": _WHEN, "why": "asked for", "checkpoints": 2}
    proof = {"files_read": 4, "bytes_read": 4096, "code_version": "1"}
    (folder / "erased.json").write_text(json.dumps([sample | proof]))
    write_erasing(folder, Erasing(samples={"star:5": "asked for"}, prompts=("say",)))
    (folder / "storage.json").write_text(json.dumps({"storage_path": str(folder), "folder": "mine-0a1b2c3d"}))


def searched(folder: Path) -> None:
    """A study as its next launch finds it: what it needs to go on with the search."""
    study(folder)
    for name in ("erased.json", "erasing.json", "storage.json"):
        (folder / name).unlink()


def checkpoints(form: SignalForm, folder: Path) -> None:
    """The checkpoints of a run that was killed inside its third task."""
    shutil.copytree(_killed(form) / "checkpoints", folder / "checkpoints")


@cache
def _killed(form: SignalForm) -> Path:
    directory = Path(_ROOM.name) / form
    settings = {"training.checkpoint_steps": 3, "method.seekr.signals": form}

    def on_step(step: StepRecord) -> None:
        if (step.task_index, step.step) == (2, 4):
            raise _Killed

    try:
        learn(tiny_config(**settings), directory=directory, on_step=on_step)
    except _Killed:
        return directory
    raise AssertionError("was not killed")


def model(folder: Path) -> None:
    """A model's directory."""
    saved_model(folder)


def data(suffix: str, folder: Path) -> None:
    """A task."""
    write: dict[str, Callable[[list[dict[str, str]], Path], object]] = {
        "json": lambda rows, path: path.write_text(json.dumps(rows)),
        "jsonl": lambda rows, path: path.write_text("".join(f"{json.dumps(row)}\n" for row in rows)),
        "parquet": lambda rows, path: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path),
        "csv": lambda rows, path: path.write_text(
            "\n".join(["prompt,answer", *(",".join(row.values()) for row in rows)])
        ),
    }
    (folder / "words").mkdir()
    for split, rows in (("train", [*TRAIN, {"prompt": "say \u00e9", "answer": "e"}]), ("eval", EVAL)):
        write[suffix](rows, folder / "words" / f"{split}.{suffix}")


def space(folder: Path) -> None:
    """A search space with one of everything, and configurations to try."""
    lines = (
        SPACE,
        "method.name: {type: categorical, choices: [seekr, derpp]}\n",
        "method.seekr.attention_weight: {type: float, low: 1, high: 9, log: true, when: {method.name: [seekr]}}\n",
        "recipe.epochs: {type: int, low: 1, high: 3}\n",
        'constraints: ["recipe.epochs <= method.memory.percent"]\n',
    )
    (folder / "space.yaml").write_text("".join(lines))
    (folder / "tries.yaml").write_text("- {method.memory.percent: 7, method.name: derpp}\n- {recipe.epochs: 1}\n")


def shared(folder: Path) -> None:
    """A score and a reference that other runs have left."""
    SharedScores(folder, SingleProcess()).get(SUBJECT, lambda: {"score": 50.0})
    next(folder.glob("*.json")).rename(folder / "score.json")
    keep_bound(folder / "bound", read_record(_run() / "result.json"), read_steps(_run() / "steps.jsonl"))


exact_checkpoints, compact_checkpoints = partial(checkpoints, "exact"), partial(checkpoints, "compact")
