"""What must hold of a study when it has ended, whatever was done to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seekr_tune.analysis.ledger import read_table, read_trials
from seekr_tune.checkpoint.directories import Position, verify
from seekr_tune.config import Config
from seekr_tune.errors import CheckpointError, StudyError
from seekr_tune.experiment import load_experiment
from seekr_tune.records import TrialRecord, read_steps
from seekr_tune.study.directory.layout import experiment_path, journal_path, trial_path, trials_path
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.life.quota import disk_usage

TEMPORARY = re.compile(
    r"\.writing-|^\.tmp|\.partial$|\.tmp$|^discarded-|^\.removed-|^steps\.partial\.jsonl$|^journal\.log\.(lock|new)|^rank-\d+\.json$"
    r"|^(stop|driver\.json)$|^\..*\.json\.[0-9a-f]{8}$"
)
"""Names of files that must not outlive the process that makes them."""

TIMES = {"wall_seconds", "timing", "ray_trial_id"}
_STEP_TIMES = {"seconds", "distillation_seconds"}


@dataclass(frozen=True)
class Results:
    """What a finished study says, without what differs from one run of it to the next.

    Attributes:
        records: by key, everything but times.
        steps: by key, everything but times.
        told: by number, state, parameters and values in the journal.
        weights: by key, SHA-256 of the last model of those runs that still have it.
    """

    records: Mapping[str, Any]
    steps: Mapping[str, Any]
    told: Mapping[int, Any]
    weights: Mapping[str, str]

    @classmethod
    def of(cls, directory: Path) -> Results:
        """The results of a study."""
        records = {record.trial: record for record in read_records(directory)}
        return cls(
            records={key: record.model_dump(exclude=TIMES) for key, record in records.items()},
            steps={key: step_rows(trial_path(directory, key) / "steps.jsonl") for key in records},
            told={trial.number: (trial.state.name, trial.params, trial.values) for trial in _journal(directory)},
            weights={key: digest for key in records if (digest := _last_weights(trial_path(directory, key)))},
        )

    def without(self, directory: Path, found: Results, damaged: Collection[Path]) -> Results:
        """What can be expected when some files are lost."""
        trials = trials_path(directory)
        of_runs = [(path.relative_to(trials).parts[0], path) for path in damaged if path.is_relative_to(trials)]
        steps = {key: found.steps.get(key) for key, path in of_runs if path.name == "steps.jsonl"}
        weights = {key: found.weights.get(key) for key, path in of_runs if "checkpoints" in path.parts}
        return replace(self, steps={**self.steps, **steps}, weights={**self.weights, **weights})


def violations(directory: Path, expected: Results, damaged: Collection[Path] = ()) -> list[str]:
    """What is wrong with a study that has ended, one line each; empty where nothing is.

    Args:
        directory: of the study; what it shares with others lies beside it.
        expected: the results of the same study, undisturbed.
        damaged: files that were damaged behind its back. What only one of these held cannot come back: the log of
            steps and the model of a run that was finished.
    """
    try:
        found = Results.of(directory)
        expected = expected.without(directory, found, damaged)
        return [
            *_different("record", found.records, expected.records),
            *_different("steps", found.steps, expected.steps),
            *_different("journal", found.told, expected.told),
            *_different("weights", *_of_both(found.weights, expected.weights)),
            *_states(directory),
            *_ledger(directory),
            *_left_behind(directory.parent, damaged),
            *_over_quota(directory, load_experiment(experiment_path(directory))),
        ]
    except StudyError as error:
        return [f"cannot be read: {error}"]


def finished_files(directory: Path) -> dict[Path, str]:
    """SHA-256 of the results of the finished runs, by file: nothing may change them any more."""
    found = {}
    for path in sorted(trials_path(directory).glob("*/result.json")):
        try:
            finished = TrialRecord.from_json(path.read_bytes()).status == "finished"
        except StudyError:
            continue
        files = (path, *(path.with_name(name) for name in ("result.heads.parquet", "steps.jsonl", "config.yaml")))
        found.update({file: _digest(file) for file in files if finished and file.is_file()})
    return found


def changed(before: Mapping[Path, str]) -> list[str]:
    """Which of the files of `finished_files` are not as they were."""
    return [f"{path}: changed" for path, digest in before.items() if not path.is_file() or _digest(path) != digest]


def _different(what: str, found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> Iterator[str]:
    for key in sorted({*found, *expected}):
        if key not in found:
            yield f"{what} {key}: lost"
        elif key not in expected:
            yield f"{what} {key}: nobody asked for it"
        elif found[key] != expected[key]:
            yield f"{what} {key}: not that of the undisturbed study{_first_difference(found[key], expected[key])}"


def _of_both(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Both without what only one of them has: when a quota is enforced, a killed study may have more to remove."""
    keys = one.keys() & other.keys()
    return {key: one[key] for key in keys}, {key: other[key] for key in keys}


def _first_difference(found: Any, expected: Any) -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        return f" ({', '.join(sorted(name for name in expected if found.get(name) != expected[name]))})"
    return ""


def _states(directory: Path) -> Iterator[str]:
    trials = _journal(directory)
    keys = [trial.user_attrs.get("trial") for trial in trials]
    if len(set(keys)) < len(keys):
        yield f"journal: trials are doubled ({keys})"
    for trial in trials:
        if not trial.state.is_finished():
            yield f"journal: trial {trial.number} is {trial.state.name}"
    folders = {path.name for path in trials_path(directory).iterdir()}
    records = {record.trial for record in read_records(directory)}
    if folders != records:
        yield f"directories without a record: {sorted(folders - records)}"


def _ledger(directory: Path) -> Iterator[str]:
    """The ledger has the rows of the records, and the values of the journal."""
    rows = {row["trial"]: row for row in read_trials(directory).to_pylist()}
    records = {record.trial: record for record in read_records(directory)}
    if rows.keys() != records.keys():
        yield f"ledger: has {sorted(rows)}, the records are {sorted(records)}"
        return
    objectives = load_experiment(experiment_path(directory)).study.objectives
    for trial in _journal(directory):
        row = rows[trial.user_attrs["trial"]]
        if trial.values != [row[name] for name in objectives]:
            yield f"ledger: {row['trial']} has not the values of the journal ({trial.values})"
    lines = read_table(directory, "steps")["trial"].to_pylist()
    for key in records:
        if lines.count(key) != len(step_rows(trial_path(directory, key) / "steps.jsonl")):
            yield f"ledger: has {lines.count(key)} steps of {key}"


def _left_behind(folder: Path, damaged: Collection[Path]) -> Iterator[str]:
    """Temporary files, and checkpoints that are not whole."""
    for path in sorted(folder.rglob("*")):
        if TEMPORARY.search(path.name):
            yield f"left behind: {path.relative_to(folder)}"
        elif path.is_dir() and path.parent.name == "checkpoints" and Position.of(path):
            try:
                verify(path)
            except CheckpointError as error:
                if not any(file.is_relative_to(path.parent) for file in damaged):
                    yield f"{path.relative_to(folder)}: {error}"


def _over_quota(directory: Path, config: Config) -> Iterator[str]:
    quota, taken = config.study.disk_gigabytes, disk_usage(directory).total
    if quota is not None and taken > quota * 1e9:
        yield f"takes {taken} bytes, more than study.disk_gigabytes ({quota * 1e9:.0f})"


def _journal(directory: Path) -> list[optuna.trial.FrozenTrial]:
    """Read without mending anything."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(journal_path(directory))))
    return optuna.load_study(study_name=None, storage=storage).get_trials(deepcopy=False)


def step_rows(path: Path) -> list[dict[str, Any]]:
    """Empty where they cannot be read."""
    try:
        rows = read_steps(path)
    except StudyError:
        return []
    return [row.model_dump(exclude=_STEP_TIMES) for row in rows]


def _last_weights(run: Path) -> str | None:
    stages = [path for path in (run / "checkpoints").glob("task-*") if (at := Position.of(path)) and not at.steps]
    if not stages:
        return None
    weights = next(max(stages).glob("weights-*"), None)  # damage may have taken it
    return None if weights is None else _digest(weights)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
