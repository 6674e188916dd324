"""What a study is given from outside: configurations of its user, and trials of earlier studies."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from seekr_tune.config import Config
from seekr_tune.config.facts import fields_at, is_learned
from seekr_tune.config.meaning import same_meaning
from seekr_tune.config.messages import hint
from seekr_tune.config.reading import read_yaml
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.experiment import flatten, load_experiment, parse_config, with_values
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.layout import cache_path, experiment_path, is_study
from seekr_tune.study.directory.provenance import read_provenance
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.directory.same_inputs import accepted_changes, changes
from seekr_tune.study.search.dimensions import member
from seekr_tune.study.search.progress import configuration_values
from seekr_tune.study.search.protocol import replicates
from seekr_tune.study.search.resolution import Resolver, refusal
from seekr_tune.study.search.space import Space

_logger = logging.getLogger(__name__)


def enqueue(study: optuna.Study, space: Space, config: Config, file: Path) -> None:
    """Try configurations of a file next: a YAML list of mappings from config paths to values.

    What a configuration leaves out is proposed. The same file again adds nothing. Values are handed out with the
    meaning that they have in the file, never as what Optuna would make of them.

    Raises:
        ConfigError: the file is no such list, or a configuration is outside the space or breaks its constraints.
    """
    for number, values in enumerate(read_configurations(space, config, file), start=1):
        origin = f"{file.name}/{number}"
        known = [
            (json.dumps(trial.system_attrs.get("fixed_params")), trial.user_attrs.get("enqueued"))
            for trial in study.get_trials(deepcopy=False)
        ]
        if (json.dumps(values), origin) not in known:  # as text: 1 and 1.0 are equal
            study.enqueue_trial(values, user_attrs={"enqueued": origin})


def read_configurations(space: Space, config: Config, file: Path) -> list[dict[str, Any]]:
    """The configurations of a file, each of them checked; raises as `enqueue` does."""
    first = with_values(config, replicates(config)[0])
    space, resolver = space.within(first), Resolver(first)
    configurations = _read(file)
    return [
        _fitting(space, resolver, values, f"{file}: configuration {number}")
        for number, values in enumerate(configurations, start=1)
    ]


def warm_start(study: optuna.Study, space: Space, config: Config, directories: Sequence[Path]) -> None:
    """Let the sampler begin with the finished trials of earlier studies; they do not count as trials of this one.

    Trials outside a range of this space are skipped, and their number is logged.

    Raises:
        StudyError: there is no study, or it differs in more than what is searched here.
    """
    first = with_values(config, replicates(config)[0])
    space = space.within(first)
    for directory in directories:
        skipped = 0
        for key, earlier, values in _comparable(space, first, config, directory):
            params = space.active(space.among(earlier))
            if _add(study, space, params, values, f"{directory}/{key}"):
                continue
            skipped += 1
        if skipped:
            _logger.warning("%s: %d trials lie outside this search space and were skipped", directory, skipped)


def require_comparable_studies(space: Space, config: Config, directories: Sequence[Path]) -> None:
    """Refuse earlier studies that say nothing about this one; raises as `warm_start` does."""
    first = with_values(config, replicates(config)[0])
    for directory in directories:
        _comparable(space.within(first), first, config, directory)


def _comparable(
    space: Space, first: Config, config: Config, directory: Path
) -> list[tuple[str, dict[str, Any], tuple[float, ...]]]:
    """The finished trials of an earlier study: key, settings, and the objectives of this study."""
    finished, found = _finished(directory, config), []
    _require_same_inputs(config, directory)
    for key, record, values in finished:
        earlier = flatten(parse_config(record.config, str(directory)))
        _require_same(space, flatten(first), earlier, directory)
        found.append((key, earlier, values))
    return found


def _add(study: optuna.Study, space: Space, params: dict[str, Any], values: Sequence[float], origin: str) -> bool:
    """Tell the study of an earlier trial; whether it could be."""
    distributions = space.distributions()
    try:
        params = {path: member(space.dimensions[path], path, value) for path, value in params.items()}
    except ValueError:
        return False
    if all(trial.user_attrs.get("warm_start") != origin for trial in study.get_trials(deepcopy=False)):
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                values=list(values),
                params=params,
                distributions={path: distributions[path] for path in params},
                user_attrs={"warm_start": origin, "trial": origin},
            )
        )
    return True


def _finished(directory: Path, config: Config) -> list[tuple[str, TrialRecord, tuple[float, ...]]]:
    """The finished trials of an earlier study: key, first replicate, and the objectives of this study."""
    if not is_study(directory):
        raise StudyError(f"{directory}: holds no study to start from; name the directory of one")
    earlier = load_experiment(experiment_path(directory))
    objectives = with_values(earlier, {"study.objectives": config.study.objectives, "study.final.by": None})
    if replicates(earlier) != replicates(config):
        raise StudyError(
            f"{directory}: its trials were run in other orders, seeds or memory draws than study.replicates asks for, "
            "so their values cannot be compared; leave it out"
        )
    records = read_records(directory)
    first = {record.trial: record for record in records if record.role == "trial"}
    values = configuration_values(records, objectives)
    return [(key, first[key], found) for key, found in sorted(values.items())]


def _require_same(space: Space, ours: Mapping[str, Any], theirs: Mapping[str, Any], directory: Path) -> None:
    differing = sorted(
        path
        for path in {*ours, *theirs}
        if path not in space.fields and is_learned(path) and not same_meaning(path, ours.get(path), theirs.get(path))
    )
    if differing:
        raise StudyError(
            f"{directory}: differs from this study in {', '.join(differing)}, so its trials say nothing about this "
            "one; leave it out, or put that back"
        )


def _require_same_inputs(config: Config, directory: Path) -> None:
    """Refuse an earlier study of other data or another model, as far as it has noted them."""
    noted = read_provenance(directory)
    if noted is None or not noted.get("Data"):
        _logger.warning("%s: has no digests of data and model, so nobody can see whether they are these", directory)
        return
    differing = changes(noted, config, cache_path(directory, config.study.cache))
    if differing or accepted_changes(noted):
        what = ", ".join(map(str, differing)) or "data or model, which changed while it ran"
        raise StudyError(
            f"{directory}: differs from this study in {what}, so its trials say nothing about this one; leave it out"
        )


def _read(file: Path) -> list[dict[str, Any]]:
    content = read_yaml(file)
    if not isinstance(content, list) or not content or not all(isinstance(one, dict) for one in content):
        raise ConfigError(f"{file}: must hold a list of mappings, such as [{{method.memory.percent: 2}}]")
    return content


def _fitting(space: Space, resolver: Resolver, given: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The values of the space that a configuration means."""
    dimensions, values = space.dimensions, {}
    for key, value in given.items():
        key = space.fields.get(fields_at(str(key))[0], key)
        if key not in dimensions:
            there = hint(str(key), dimensions, f"it searches {', '.join(dimensions)}")
            raise ConfigError(f"{origin}: {key!r} is not searched by {space.origin}; {there}")
        try:
            values[key] = member(dimensions[key], key, value)
        except ValueError as error:
            raise ConfigError(f"{origin}: {key}={value!r} {error} in {space.origin}; change one of them") from None
    if space.missing(values) is not None:
        return values
    unread = sorted(set(values) - set(space.active(values)))
    if unread:
        raise ConfigError(f"{origin}: {unread[0]} is not searched together with the other values; drop it")
    reason = refusal(resolver, space.constraints, values)
    if reason is not None:
        raise ConfigError(f"{origin}: {reason}; change it")
    return values
