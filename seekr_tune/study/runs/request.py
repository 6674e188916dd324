"""One run that is to be started, or continued: what the search hands to whoever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seekr_tune.config import Config
from seekr_tune.experiment import with_values
from seekr_tune.records import Role


@dataclass(frozen=True)
class TrialRequest:
    """One run.

    Attributes:
        key: its name, and that of its directory in a study.
        role: `trial` was proposed by the search, `bound` is a reference beside it, `run` stands alone.
        values: config paths in which its configuration differs from the experiment.
        number: number of the Optuna trial; None unless the role is `trial`.
        configuration: key of the trial or bound that it is a replicate of; None for a run that stands alone.
        replicate: which one, from 0.
        setting: config paths that make it this replicate: tasks in their order, seed, memory draw.
        accepted_changes: of data and model, so far.
    """

    key: str
    role: Role
    values: Mapping[str, Any] = field(default_factory=dict)
    number: int | None = None
    configuration: str | None = None
    replicate: int = 0
    setting: Mapping[str, Any] = field(default_factory=dict)
    accepted_changes: int = 0

    def config(self, experiment: Config) -> Config:
        """The experiment as this run sees it."""
        return with_values(experiment, {**self.setting, **self.values}, origin=self.key)

    @property
    def params(self) -> dict[str, Any]:
        """What the search chose."""
        return dict(self.values) if self.role == "trial" else {}
