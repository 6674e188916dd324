"""The bridge to Optuna: which trial is next, and what became of it. Knows nothing of Ray.

The truth of a study is its Optuna journal plus one directory per trial. Everything here can be repeated: a queue that
is built again over the same journal and directories goes on where the killed one stood, hands out no trial twice and
tells none twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from seekr_tune.analysis.record import TrialRecord, write_record
from seekr_tune.config import Config, StudyConfig
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.experiment import flatten
from seekr_tune.study.layout import bound_key, journal_path, result_path, trial_key
from seekr_tune.study.objectives import OBJECTIVES, objective_values
from seekr_tune.study.outcome import read_record_of
from seekr_tune.study.request import TrialRequest
from seekr_tune.study.space import Space

_MAY_CHANGE = ("study.trials", "study.max_concurrent", "study.space", "training.")
"""What may differ between two launches of one study: how much and where it runs, never what a trial is."""

_STUDY_NAME = "seekr-tune"
"""One journal holds one study, whatever the experiment is called."""

_MAX_DRAWS = 10
"""Draws of a sampler that keeps proposing what was tried already, before random draws take its place."""

_MAX_RANDOM_DRAWS = 100
"""Random draws after which a repeated configuration is accepted: the space is then as good as used up."""


@dataclass
class TrialQueue:
    """What is still to be run: unfinished trials first, then bounds, then new trials up to the total.

    Args:
        study: the Optuna study; only one queue at a time may use it.
        space: what is searched.
        config: the experiment; `study` and `seed` are read.
        directory: the study's directory, where `trials/<key>/result.json` say how far each run came.
    """

    study: optuna.Study
    space: Space
    config: Config
    directory: Path
    _unfinished: deque[TrialRequest] = field(default_factory=deque, init=False)
    _bounds: deque[TrialRequest] = field(default_factory=deque, init=False)

    def __post_init__(self) -> None:
        if not self.study.get_trials(deepcopy=False) and self.space.published():
            self.study.enqueue_trial(self.space.published())
        for trial in self.study.get_trials(states=[TrialState.RUNNING]):
            self._take_up(trial)
        for bound in self.config.study.bounds:
            request = TrialRequest(bound_key(bound), "bound", {"method.name": bound})
            record = self.record(request.key)
            if record is not None and record.status == "failed":  # no search depends on it: it may be tried again
                record = record.model_copy(update={"status": "running", "error": None})
                write_record(result_path(self.directory, request.key), record)
            if record is None or record.status != "finished":
                self._bounds.append(request)

    @property
    def num_asked(self) -> int:
        """Trials that the search has proposed so far, over all launches."""
        return sum(trial.state != TrialState.WAITING for trial in self.study.get_trials(deepcopy=False))

    @property
    def num_left(self) -> int:
        """Requests that `next` will still hand out."""
        return len(self._unfinished) + len(self._bounds) + max(0, self.config.study.trials - self.num_asked)

    def next(self) -> TrialRequest | None:
        """The next run, or None when all have been handed out."""
        for waiting in (self._unfinished, self._bounds):
            if waiting:
                return waiting.popleft()
        if self.num_asked >= self.config.study.trials:
            return None
        self.study.sampler = make_sampler(
            self.config.study, self.config.seed, len(self.study.get_trials(deepcopy=False)), self.space
        )
        trial = self.study.ask()
        values = self.space.suggest(trial)
        trial.set_user_attr("trial", trial_key(trial.number))
        return TrialRequest(trial_key(trial.number), "trial", values, trial.number)

    def link(self, request: TrialRequest, ray_trial_id: str) -> None:
        """Note in the journal which Ray Tune trial runs a request."""
        if request.number is not None:
            storage_id = self.study.get_trials(deepcopy=False)[request.number]._trial_id
            self.study._storage.set_trial_user_attr(storage_id, "ray_trial_id", ray_trial_id)

    def finish(self, request: TrialRequest) -> None:
        """Tell Optuna what the trial's directory holds; a trial that is told already stays as it is."""
        if request.number is not None:
            record = self.record(request.key)
            values = None if record is None else objective_values(record, self.config.study.objectives)
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            self.study.tell(request.number, values, state=state, skip_if_finished=True)

    def record(self, key: str) -> TrialRecord | None:
        """What a run wrote so far; None before it was begun."""
        return read_record_of(self.directory, key)

    def _take_up(self, trial: FrozenTrial) -> None:
        """Settle a trial that a killed driver left: tell its result, or hand it out again."""
        if set(trial.params) != set(self.space.dimensions):  # killed while it was being proposed
            self.study.sampler = make_sampler(self.config.study, self.config.seed, trial.number, self.space)
            values = self.space.suggest(optuna.Trial(self.study, trial._trial_id))
        else:
            values = trial.params
        request = TrialRequest(trial_key(trial.number), "trial", values, trial.number)
        record = self.record(request.key)
        if record is not None and record.status in ("finished", "failed"):
            self.finish(request)
        else:
            self._unfinished.append(request)


def open_study(directory: Path, config: Config, space: Space) -> optuna.Study:
    """The Optuna study of a study directory, made on first use. The caller holds the directory's lock.

    Raises:
        ConfigError: an objective is not a column of the ledger.
        StudyError: the experiment or the space is not the one that the journal was begun with.
    """
    unknown = sorted(set(config.study.objectives) - set(OBJECTIVES))
    if unknown:
        raise ConfigError(f"study.objectives: {unknown[0]!r} is not one of {', '.join(OBJECTIVES)}")
    path = journal_path(directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_remains(path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=_STUDY_NAME,
        storage=JournalStorage(JournalFileBackend(str(path))),
        directions=list(config.study.objectives.values()),
        load_if_exists=True,
    )
    _require_same(study, directory, "experiment", _fixed_values(config))
    _require_same(study, directory, "space", json.loads(json.dumps(_space_values(space))))
    return study


def make_sampler(study: StudyConfig, seed: int, number: int, space: Space) -> BaseSampler:
    """The sampler that proposes Optuna trial `number`.

    It is made anew for each trial, with a seed of its own: a resumed study then proposes what the uninterrupted one
    would have proposed, and never the parameters of its first launch again.
    """
    own_seed = int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")
    sampler: BaseSampler
    if study.sampler == "tpe":
        # Random draws until there is one trial more than dimensions: studies of streams are small, and Optuna's
        # default of 10 would leave many of them without any search.
        sampler = TPESampler(
            seed=own_seed,
            multivariate=True,  # budgets and weights interact
            constant_liar=True,  # trials at the same time must not crowd around one point
            n_startup_trials=len(space.dimensions) + 1,
        )
    elif study.sampler == "qmc":  # one sequence for the whole study: its place in it is kept in the journal
        independent = RandomSampler(seed=own_seed)
        sampler = QMCSampler(scramble=True, seed=seed, independent_sampler=independent, warn_independent_sampling=False)
    elif study.sampler == "nsgaii":
        sampler = NSGAIISampler(seed=own_seed)
    else:
        sampler = RandomSampler(seed=own_seed)
    return DistinctSampler(sampler, own_seed, space)


class DistinctSampler(BaseSampler):
    """Draws all parameters of a trial at once, and again while they equal those of an earlier trial."""

    def __init__(self, sampler: BaseSampler, seed: int, space: Space) -> None:
        self._sampler, self._random = sampler, RandomSampler(seed=seed)
        self._distributions = space.distributions()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # A waiting trial brings its own values: they must not be compared with themselves, nor cost a draw.
        if "fixed_params" in trial.system_attrs and set(trial.system_attrs["fixed_params"]) == set(search_space):
            return {}
        earlier = [other.params for other in study.get_trials(deepcopy=False) if other.number < trial.number]
        for sampler, draws in ((self._sampler, _MAX_DRAWS), (self._random, _MAX_RANDOM_DRAWS)):
            for _ in range(draws):
                drawn = _draw(sampler, study, trial, search_space)
                if drawn not in earlier:
                    return drawn
        return drawn

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


def _draw(
    sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
) -> dict[str, Any]:
    """A value of every parameter: jointly where the sampler can, one by one where it has too few trials for that."""
    joint = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
    rest = {
        name: sampler.sample_independent(study, trial, name, distribution)
        for name, distribution in search_space.items()
        if name not in joint
    }
    return {**joint, **rest}


def _clear_remains(journal: Path) -> None:
    """Remove what a killed driver left: Optuna's lock files, and a last line that was cut in the middle."""
    for remains in journal.parent.glob(f"{journal.name}.lock*"):
        remains.unlink()
    if journal.is_file():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(journal, whole)


def _fixed_values(config: Config) -> dict[str, Any]:
    return {path: value for path, value in flatten(config).items() if not path.startswith(_MAY_CHANGE)}


def _space_values(space: Space) -> dict[str, Any]:
    return {key: dimension.model_dump(mode="json") for key, dimension in space.dimensions.items()}


def _require_same(study: optuna.Study, directory: Path, what: str, values: dict[str, Any]) -> None:
    begun = study.user_attrs.get(what)
    if begun is None:
        study.set_user_attr(what, values)
    elif begun != values:
        changed = sorted(key for key in {*begun, *values} if begun.get(key) != values.get(key))
        raise StudyError(
            f"{directory / f'{what}.yaml'}: {', '.join(changed)} changed since the study was started; "
            "put it back, or start a new study in another directory"
        )
