"""The bridge to Optuna: which run is next, and what became of it. Knows nothing of Ray.

The truth of a study is its Optuna journal plus one directory per run. Everything here can be repeated: a queue that is
built again over the same journal and directories goes on where the killed one stood, hands out no run twice and tells
no trial twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import load_experiment, with_values
from seekr_tune.foreign_text import ours
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.layout import bound_key, experiment_path, result_path, run_key, trial_key, trial_path
from seekr_tune.study.directory.provenance import read_provenance
from seekr_tune.study.directory.records import change_record
from seekr_tune.study.directory.same_inputs import accepted_changes
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.fidelity import at_position
from seekr_tune.study.search.journal import note_given, open_study, record_or_aside
from seekr_tune.study.search.judge import Judge
from seekr_tune.study.search.objectives import objective_values
from seekr_tune.study.search.proposals import Proposals, counts, note, trials_of
from seekr_tune.study.search.protocol import replicates, settings_of_bounds
from seekr_tune.study.search.resolution import Resolver
from seekr_tune.study.search.space import Space

__all__ = ["TrialQueue", "open_study", "revive"]


@dataclass
class TrialQueue:
    """What is still to be run: unfinished runs, then bounds, further replicates, and new trials up to the total.

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
    _ready: deque[TrialRequest] = field(default_factory=deque, init=False)
    _bounds: deque[TrialRequest] = field(default_factory=deque, init=False)
    _live: dict[str, TrialRequest] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._settings = replicates(self.config)
        self._changes = accepted_changes(read_provenance(self.directory))
        first = with_values(self.config, self._settings[0], origin="study.replicates")
        self.space = self.space.within(first)
        self._judge = Judge(self.config, self.directory)
        self._proposals = Proposals(self.study, self.space, self.config, Resolver(first))
        note_given(self.directory, self.study)
        if not any(counts(trial) and trial.state != TrialState.WAITING for trial in self._trials()):
            self._proposals.enqueue_published()
        for trial in self.study.get_trials(states=[TrialState.RUNNING]):
            self._take_up(trial)
        for trial in self.study.get_trials(states=[TrialState.PRUNED]):
            self._settle(trial)
        self._settle_twins()
        self._find_lost()
        self._find_bounds()

    @property
    def num_asked(self) -> int:
        """Trials that the search has proposed so far, over all launches; what it was told of others does not count."""
        return sum(counts(trial) and trial.state != TrialState.WAITING for trial in self._trials())

    @property
    def num_left(self) -> int:
        """Requests that `next` may still hand out, at most: a race may spare some."""
        new = max(0, self.config.study.trials - self.num_asked) * len(self._settings)
        later = [request for request in (*self._ready, *self._live.values()) if request.role == "trial"]
        further = sum(len(self._settings) - 1 - request.replicate for request in later)
        return len(self._ready) + len(self._bounds) + further + new

    @property
    def total(self) -> int:
        """Runs of the whole study, bounds included, at most."""
        bounds = len(self.config.study.bounds) * len(settings_of_bounds(self._settings))
        return bounds + max(self.config.study.trials, self.num_asked) * len(self._settings)

    @property
    def is_done(self) -> bool:
        """Whether every run that was handed out has ended, and nothing will be handed out any more."""
        return not (self._ready or self._bounds or self._live) and self.num_asked >= self.config.study.trials

    def next(self) -> TrialRequest | None:
        """The next run; None where there is none now, though there may be when another one has ended."""
        request = self._next()
        if request is not None:
            request = replace(request, accepted_changes=self._changes)
            self._live[request.key] = request
        return request

    def _next(self) -> TrialRequest | None:
        if self._ready and self._was_begun(self._ready[0]):
            return self._ready.popleft()
        for waiting in (self._bounds, self._ready):
            if waiting:
                return waiting.popleft()
        while self.num_asked < self.config.study.trials:
            trial = self._proposals.ask()
            if not self._take_over(trial):
                return self._request(trial, 0)
        return None

    def link(self, request: TrialRequest, ray_trial_id: str) -> None:
        """Note in the journal which Ray Tune trial runs a request, and where its files are."""
        if request.number is not None and self._trials()[request.number].state == TrialState.RUNNING:
            run = f"trials/{request.key}"
            attributes = {"ray_trial_id": ray_trial_id, "record": f"{run}/result.json"}
            attributes |= {"tensorboard": f"{run}/events", "checkpoints": f"{run}/checkpoints"}
            self._note(request.number, attributes)

    def finish(self, request: TrialRequest) -> None:
        """Take note of how a run ended, by its directory; a trial that is told already stays as it is."""
        self._live.pop(request.key, None)
        if request.number is not None:
            self._settle(self._trials()[request.number])
            self._settle_twins()

    def record(self, key: str) -> TrialRecord | None:
        """What a run wrote so far; None before it was begun."""
        return record_or_aside(self.directory, key)

    # What became of it.

    def _take_over(self, trial: FrozenTrial) -> bool:
        """Whether an earlier trial means the same, and this one therefore has its result without a run."""
        if "same_as" in trial.user_attrs:
            return True
        earlier = self._proposals.twin_of(trial)
        if earlier is None:
            return False
        self._note(trial.number, {"same_as": earlier})
        note_given(self.directory, self.study)
        self._settle_twins()
        return True

    def _take_up(self, trial: FrozenTrial) -> None:
        """Settle a trial that a killed driver left: tell its result, or hand out what is missing of it."""
        if self.space.missing(trial.params) is not None:  # killed while it was being proposed
            trial = self._proposals.complete(trial)
        if "trial" not in trial.user_attrs:
            self._note(trial.number, {"trial": trial_key(trial.number)})
            if not self._records(trial.number) and self._take_over(trial):
                return
        if "same_as" not in trial.user_attrs:
            self._settle(trial)

    def _settle(self, trial: FrozenTrial) -> None:
        """Tell what is known of a trial, or make its next run ready. May be called at any time, any number of times."""
        if trial.state != TrialState.RUNNING and not self._is_revived(trial):
            return
        records = self._records(trial.number)
        ended = next((record.status for record in records if record.status in ("failed", "pruned")), None)
        done = [record for record in records if record.status == "finished"]
        if ended is not None or len(done) == len(self._settings):
            self._tell(trial, records, ended)
        elif len(done) < len(records) or not done or not self._judge.ends_race(done):
            request = self._request(trial, len(done))
            if request.key not in self._live and request not in self._ready:
                self._ready.append(request)
        else:
            self._tell(trial, records, "pruned")

    def _tell(self, trial: FrozenTrial, records: Sequence[TrialRecord], ended: str | None) -> None:
        every = [objective_values(record, self.config.study.objectives) for record in records] if not ended else [None]
        known = [values for values in every if values is not None]
        state, values = TrialState.FAIL, None
        if ended == "pruned":
            state = TrialState.PRUNED
        elif len(known) == len(every):
            state, values = TrialState.COMPLETE, [fmean(column) for column in zip(*known, strict=True)]
        if trial.state == TrialState.PRUNED:
            if state == TrialState.COMPLETE:  # Optuna does not let a trial end twice
                attributes = {"trial": trial_key(trial.number), "revives": trial.number}
                self.study.add_trial(
                    create_trial(
                        values=values, params=trial.params, distributions=trial.distributions, user_attrs=attributes
                    )
                )
            return
        positions = at_position(records, self.config.study.objectives) if state != TrialState.FAIL else {}
        self._note(trial.number, {"intermediate": [[*place, list(found)] for place, found in positions.items()]})
        if len(self.config.study.objectives) == 1:  # Optuna's samplers know intermediate values of one objective only
            tasks = len(records[0].tasks)
            for place, found in positions.items():
                step = place.replicate * tasks + place.tasks
                self.study._storage.set_trial_intermediate_value(trial._trial_id, step, found[0])
        self.study.tell(trial.number, values, state=state, skip_if_finished=True)

    def _settle_twins(self) -> None:
        """Tell trials that took over another one's result, as soon as that is known."""
        trials = self._trials()
        ended = {
            trial.user_attrs.get("trial", trial_key(trial.number)): trial
            for trial in trials
            if trial.state.is_finished() and "same_as" not in trial.user_attrs
        }
        for twin in trials:
            other = ended.get(twin.user_attrs.get("same_as", ""))
            if twin.state == TrialState.RUNNING and other is not None:
                values = other.values if other.state == TrialState.COMPLETE else None
                self._note(twin.number, {"intermediate": other.user_attrs.get("intermediate", [])})
                self.study.tell(twin.number, values, state=other.state, skip_if_finished=True)

    def _is_revived(self, trial: FrozenTrial) -> bool:
        """Whether somebody took up a trial that was pruned, and its end is not told yet."""
        told = any(other.user_attrs.get("revives") == trial.number for other in self._trials())
        pruned = trial.state == TrialState.PRUNED and not told
        return pruned and any(record.revived for record in self._records(trial.number))

    def _find_lost(self) -> None:
        """Runs of trials that are told, whose records were lost since: what is told stays, the record is made again."""
        for trial in self._trials():
            if not trial.state.is_finished() or self._is_revived(trial):
                continue
            for replicate in range(len(self._settings)):
                key = run_key(trial.user_attrs.get("trial", trial_key(trial.number)), replicate)
                if counts(trial) and trial_path(self.directory, key).is_dir() and self.record(key) is None:
                    self._ready.append(self._request(trial, replicate))

    def _find_bounds(self) -> None:
        """Runs of the bounds that are not finished: one for each order and seed."""
        for bound in self.config.study.bounds:
            for number, setting in enumerate(settings_of_bounds(self._settings)):
                configuration = bound_key(bound)
                key, values = run_key(configuration, number), {"method.name": bound}
                request = TrialRequest(key, "bound", values, None, configuration, number, setting)
                record = self.record(key)
                if record is not None and record.status == "failed":  # no search depends on it: it may be tried again
                    record = change_record(result_path(self.directory, key), status="running", error=None)
                if record is None or record.status != "finished":
                    self._bounds.append(request)

    def _records(self, number: int) -> list[TrialRecord]:
        """Of the replicates of a trial, in order, up to the first that was not begun."""
        found: list[TrialRecord] = []
        for replicate in range(len(self._settings)):
            record = self.record(run_key(trial_key(number), replicate))
            if record is None:
                break
            found.append(record)
        return found

    def _request(self, trial: FrozenTrial, replicate: int) -> TrialRequest:
        configuration = trial_key(trial.number)
        values = {key: trial.params[key] for key in self.space.dimensions if key in trial.params}
        key, setting = run_key(configuration, replicate), self._settings[replicate]
        return TrialRequest(key, "trial", values, trial.number, configuration, replicate, setting)

    def _was_begun(self, request: TrialRequest) -> bool:
        return request.replicate == 0 or self.record(request.key) is not None

    def _note(self, number: int, attributes: Mapping[str, Any]) -> None:
        note(self.study, number, attributes)

    def _trials(self) -> list[FrozenTrial]:
        return trials_of(self.study)


def revive(directory: Path, key: str) -> None:
    """Mark a trial that was stopped as to be continued: the queue hands it out again, and nothing stops it any more.

    Raises:
        StudyError: there is no such trial, or it was not stopped.
    """
    count = len(replicates(load_experiment(experiment_path(directory))))
    found = (record_or_aside(directory, run_key(key, number)) for number in range(count))
    records = [record for record in found if record is not None]
    if not records or records[0].role != "trial":
        raise StudyError(f"{directory}: has no trial {key!r}; `{ours('status', directory)}` lists the trials")
    last = records[-1]
    if last.status not in ("pruned", "finished") or (last.status == "finished" and len(records) == count):
        raise StudyError(f"{directory}: {key} is {last.status}; only a trial that was stopped can be revived")
    status = "running" if last.status == "pruned" else last.status
    change_record(result_path(directory, last.trial), status=status, revived=True)
