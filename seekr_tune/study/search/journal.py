"""The Optuna journal of a study: opened, checked, and built anew from the runs' records where it is damaged.

A journal that was cut in its last line lost what was being written: that is a kill, and nothing is said of it. A line
that is not as it was written, an empty file beside runs, or a journal that does not know a run is damage: it is kept
beside, and the trials are read from their directories.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from seekr_tune.access import listed
from seekr_tune.atomic_files import write_atomically
from seekr_tune.config import Config, StreamConfig
from seekr_tune.config.facts import fields_at, may_change
from seekr_tune.documents import MAX_GROWN_BYTES, parse_json, read_bytes, read_json
from seekr_tune.errors import AccessError, NoDocument, StudyError, UserError
from seekr_tune.experiment import differing, flatten, leaves_that, load_experiment
from seekr_tune.quiet_libraries import hear_libraries
from seekr_tune.records import SCHEMA_VERSION, TrialRecord
from seekr_tune.study.directory.layout import journal_path, result_path, trial_key, trials_path
from seekr_tune.study.directory.records import read_all_records
from seekr_tune.study.runs.outcome import read_record_of
from seekr_tune.study.search.dimensions import holds
from seekr_tune.study.search.journal_file import CheckedJournalFile, is_entry
from seekr_tune.study.search.judge import require_comparable
from seekr_tune.study.search.objectives import objective_values, require_objectives
from seekr_tune.study.search.samplers import require_sampler
from seekr_tune.study.search.space import Space

_DEFAULTS = Config(stream=StreamConfig(tasks=("any",)))

_VERSION = "schema_version"
"""Of the records whose objectives a journal was told; one without it is of version 2."""

_STUDY_NAME = "seekr-tune"
"""One journal holds one study, whatever the experiment is called."""

_RECOUNTED = ("distinct_replayed_samples", "op_per_replayed_sample")
"""Objectives that mean something else since schema version 3."""

_COUNTS = "counts stored samples as"

_logger = logging.getLogger(__name__)


def open_study(directory: Path, config: Config, space: Space, *, recount: bool = True) -> optuna.Study:
    """The Optuna study of a study directory, made on first use. The caller holds the directory's lock.

    Args:
        directory, config, space: of the study.
        recount: build anew a journal that was told of other counts; not needed where nothing is proposed.

    Raises:
        ConfigError: an objective is not a column of the ledger, or the sampler does not fit.
        StudyError: the experiment or the space is not the one that the journal was begun with.
    """
    space = space.within(config)
    require_objectives(config)
    require_comparable(config)
    require_sampler(config, space)
    path = journal_path(directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    for remains in path.parent.glob(f"{path.name}.lock*"):  # of a killed driver
        remains.unlink()
    hear_libraries()
    known = _params_on_disk(directory, space)
    damage = _damage(path, bool(known)) or _unknown_trial(path, known)
    if damage is None and recount:
        damage = _earlier_counts(directory, config)
    if damage is None:
        study = _load(path, config)
    else:
        study = _rebuild(directory, config, space, known, damage)
    _require_same(study, directory, "experiment", _fixed_values(config), _fixed_values(_DEFAULTS))
    _require_same(study, directory, "space", parse_json(json.dumps(_space_values(space))))
    return study


def trial_number(study: optuna.Study) -> int:
    """Number of the trial that will be asked for next: a waiting one, or a new one."""
    trials = study.get_trials(deepcopy=False)
    waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
    return waiting[0] if waiting else len(trials)


def record_or_aside(directory: Path, key: str) -> TrialRecord | None:
    """What a run wrote so far; None before it was begun. A damaged record is set aside: its run is done again.

    What the run had finished is taken from its checkpoints, as far as they are there.
    """
    try:
        return read_record_of(directory, key)
    except StudyError as error:
        path = result_path(directory, key)
        aside = _free_name(path)
        path.rename(aside)
        _logger.warning("%s (kept as %s): the run goes on from its checkpoints", error, aside.name)
        return None


def note_given(directory: Path, study: optuna.Study) -> None:
    """Keep beside the journal the trials that have no directory to be read from: of earlier studies, enqueued ones, and
    those that took over a known result."""
    given: dict[int, dict[str, Any]] = {}
    for trial in study.get_trials(deepcopy=False):
        notes = trial.user_attrs
        if "warm_start" in notes:
            given[trial.number] = {"params": trial.params, "values": trial.values, "user_attrs": notes}
        elif "same_as" in notes:
            given[trial.number] = {"params": trial.params, "user_attrs": {"same_as": notes["same_as"]}}
        elif "enqueued" in notes:
            fixed = trial.system_attrs["fixed_params"]
            given[trial.number] = {"fixed": fixed, "user_attrs": {"enqueued": notes["enqueued"]}}
    if given:
        write_atomically(_given_path(directory), json.dumps(given).encode())


def _load(path: Path, config: Config) -> optuna.Study:
    study = optuna.create_study(
        study_name=_STUDY_NAME,
        storage=JournalStorage(CheckedJournalFile(str(path))),
        directions=list(config.study.objectives.values()),
        load_if_exists=True,
    )
    if not study.get_trials(deepcopy=False):
        study.set_user_attr(_VERSION, SCHEMA_VERSION)
    if study.metric_names is None:  # else optuna-dashboard calls them "Objective 0" and so on
        study.set_metric_names(list(config.study.objectives))
    return study


def _damage(path: Path, has_runs: bool) -> str | None:
    """What is wrong with a journal; cuts a last line that was not written to its end."""
    if not path.is_file():
        return "is missing" if has_runs else None
    content = read_bytes(path, MAX_GROWN_BYTES)
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].splitlines()
    for number, line in enumerate(lines, start=1):
        if not is_entry(line):
            return f"line {number} is damaged"
    if content and not lines and not content.startswith(b"{"):
        return "holds no journal"
    if not lines and has_runs:
        return "is empty"
    if whole < len(content):
        os.truncate(path, whole)
    return None


def _unknown_trial(path: Path, known: Mapping[int, Mapping[str, Any]]) -> str | None:
    """What the runs' directories know and the journal does not."""
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        study = optuna.load_study(study_name=_STUDY_NAME, storage=JournalStorage(JournalFileBackend(str(path))))
        trials = study.get_trials(deepcopy=False)
    except Exception as error:  # Optuna has no errors of its own for a journal that contradicts itself
        if not known and isinstance(error, KeyError):  # killed before the study had its name
            return None
        return f"cannot be read ({type(error).__name__})"
    for number, params in known.items():
        if number >= len(trials) or trials[number].state == TrialState.WAITING or trials[number].params != params:
            return f"does not know {trial_key(number)}"
    return None


def _earlier_counts(directory: Path, config: Config) -> str | None:
    """Whether the search was told of stored samples where it is told of replayed ones now. The records know both.

    Raises:
        StudyError: they do not, so earlier trials and new ones would be compared in different units.
    """
    path, objectives = journal_path(directory), config.study.objectives
    counted = [name for name in objectives if name in _RECOUNTED]
    if not counted or not path.is_file() or not path.stat().st_size:
        return None
    try:
        study = optuna.load_study(study_name=_STUDY_NAME, storage=JournalStorage(JournalFileBackend(str(path))))
    except KeyError:  # killed before the study had its name
        return None
    trials = study.get_trials(deepcopy=False)
    if not trials or _VERSION in study.user_attrs:
        return None
    lost = next((trial.user_attrs["warm_start"] for trial in trials if "warm_start" in trial.user_attrs), None)
    for record in read_all_records(directory)[0]:
        if record.role == "trial" and record.status == "finished" and objective_values(record, objectives) is None:
            lost = lost or record.trial
    if lost is not None:
        raise StudyError(
            f"{directory}: an earlier version took stored samples for {counted[0]}, and those that {lost} replayed "
            "cannot be counted any more, so new trials could not be compared with it; start a new study"
        )
    return f"{_COUNTS} {counted[0]}, as an earlier version did"


def _params_on_disk(directory: Path, space: Space) -> dict[int, dict[str, Any]]:
    """By number, the parameters of the trials that have a directory."""
    found: dict[int, dict[str, Any]] = {}
    for folder in listed(trials_path(directory)):
        number = folder.name.removeprefix("trial-")
        if folder.name.startswith("trial-") and number.isdigit():
            record = record_or_aside(directory, folder.name)
            params = _params_of(folder, space) if record is None else record.params
            if params is not None:
                found[int(number)] = dict(params)
    return found


def _params_of(folder: Path, space: Space) -> dict[str, Any] | None:
    """The parameters of a run whose record is lost, from its configuration."""
    if not (folder / "config.yaml").is_file():
        return None
    try:
        values = flatten(load_experiment(folder / "config.yaml"))
    except UserError:
        return None
    return space.active(space.among(values))


def _rebuild(
    directory: Path, config: Config, space: Space, known: Mapping[int, Mapping[str, Any]], damage: str
) -> optuna.Study:
    """A journal of the trials that have directories, each under its number; the queue then tells their results."""
    path = journal_path(directory)
    kept = ""
    if path.is_file():
        aside = _free_name(path, "earlier" if damage.startswith(_COUNTS) else "damaged")
        path.rename(aside)
        kept = f" (kept as {aside.name})"
    _logger.warning("%s: the journal %s%s; built anew from the records of %d trials", path, damage, kept, len(known))
    given = _read_given(directory)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    study = _load(fresh, config)
    for number in range(max([*known, *given], default=-1) + 1):
        study.add_trial(_rebuilt(number, known.get(number), given.get(number, {}), space))
    fresh.replace(path)  # a kill before this leaves no journal, and the next launch builds it again
    return _load(path, config)


def _rebuilt(number: int, params: Mapping[str, Any] | None, given: Mapping[str, Any], space: Space) -> FrozenTrial:
    distributions = space.distributions()
    attributes = dict(given.get("user_attrs", {}))
    params = given.get("params", params)
    fitting = {key: value for key, value in (params or {}).items() if holds(space.dimensions[key], key, value)}
    if params is None:
        return create_trial(
            state=TrialState.WAITING,
            system_attrs={"fixed_params": given.get("fixed", {})},
            user_attrs=attributes,
        )
    return create_trial(
        state=TrialState.COMPLETE if "values" in given else TrialState.RUNNING,
        values=given.get("values"),
        params=fitting,
        distributions={key: distributions[key] for key in fitting},
        system_attrs={"fixed_params": given["fixed"]} if "fixed" in given else {},
        user_attrs=attributes if "values" in given else {**attributes, "trial": trial_key(number)},
    )


def _read_given(directory: Path) -> dict[int, dict[str, Any]]:
    path = _given_path(directory)
    try:
        return {int(number): entry for number, entry in read_json(path).items()}
    except NoDocument:
        return {}
    except AccessError:
        raise
    except (ValueError, AttributeError, OSError):
        raise StudyError(
            f"{path}: cannot be read, and neither can the journal, so nobody knows what the study was given; "
            "restore one of them from a copy"
        ) from None


def _given_path(directory: Path) -> Path:
    return journal_path(directory).with_name("given.json")


def _free_name(path: Path, what: str = "damaged") -> Path:
    """A name beside a file for the content that it had."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.{what}-{number}")).exists():
        number += 1
    return aside


def _fixed_values(config: Config) -> dict[str, Any]:
    return leaves_that(config, lambda path: not may_change(path))


def _space_values(space: Space) -> dict[str, Any]:
    dimensions = {key: dimension.model_dump(mode="json") for key, dimension in space.dimensions.items()}
    return {**dimensions, "constraints": [str(constraint) for constraint in space.constraints]}


def _require_same(
    study: optuna.Study, directory: Path, what: str, values: dict[str, Any], defaults: Mapping[str, Any] | None = None
) -> None:
    """Refuse other values than those that the journal was begun with; what an earlier version did not know had its
    default then."""
    begun = study.user_attrs.get(what)
    if what == "experiment" and begun is not None:
        begun = {field: value for path, value in begun.items() for field in fields_at(path)}
    if begun is not None:
        begun = {key: value for key, value in (defaults or {}).items() if key in values} | begun
    if begun is None:
        study.set_user_attr(what, values)
    elif changed := differing(begun, values):
        raise StudyError(
            f"{directory / f'{what}.yaml'}: {', '.join(changed)} changed since the study was started; "
            "put it back, or start a new study in another directory"
        )
