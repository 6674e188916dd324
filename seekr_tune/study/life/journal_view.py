"""What the journal of a search says, for those who only look: nothing is written, and a damaged one is no error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seekr_tune.access import access_error
from seekr_tune.quiet_libraries import hear_libraries
from seekr_tune.study.directory.layout import journal_path, trial_key

_NOTES = ("same_as", "enqueued", "intermediate")
"""User attributes of a trial that tell more than its directory."""


@dataclass(frozen=True)
class ToldTrial:
    """A trial of the search.

    Attributes:
        number: Optuna's.
        state: Optuna's name of it: RUNNING, COMPLETE, PRUNED, FAIL.
        params: what was chosen.
        notes: what else the search noted.
    """

    number: int
    state: str
    params: Mapping[str, Any]
    notes: Mapping[str, Any]

    @property
    def has_ended(self) -> bool:
        """Whether the search knows how it ended."""
        return self.state in ("COMPLETE", "PRUNED", "FAIL")


def told_trials(directory: Path) -> dict[str, ToldTrial]:
    """By key, the trials that the search has asked for; empty where the journal is missing or cannot be read.

    A trial that was revived stands twice in the journal: its second end counts. What the search was told of earlier
    studies is left out.
    """
    path = journal_path(directory)
    if not path.is_file():
        return {}
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    hear_libraries()
    try:
        study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(path))))
        trials = study.get_trials(deepcopy=False)
    except PermissionError as error:
        raise access_error(path, error) from None
    except Exception:  # whatever a damaged journal makes of Optuna: `resume` mends it, and says so
        return {}
    return {
        str(trial.user_attrs.get("trial", trial_key(trial.number))): ToldTrial(
            trial.number,
            trial.state.name,
            trial.params,
            {name: trial.user_attrs[name] for name in _NOTES if name in trial.user_attrs},
        )
        for trial in trials
        if trial.state.name != "WAITING" and "warm_start" not in trial.user_attrs
    }
