"""What the search proposes: configurations that can be run, and that mean something new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import with_values
from seekr_tune.study.directory.layout import trial_key
from seekr_tune.study.search.journal import trial_number
from seekr_tune.study.search.protocol import replicates
from seekr_tune.study.search.resolution import Resolver, refusal
from seekr_tune.study.search.samplers import DistinctSampler
from seekr_tune.study.search.space import Space


@dataclass
class Proposals:
    """Asks Optuna for trials, each with a sampler of its own, so that a resumed study proposes what it would have.

    Args:
        study: the Optuna study.
        space: what is searched.
        config: the experiment; `study` and `seed` are read.
        resolver: what values come to for the model and the data.
    """

    study: optuna.Study
    space: Space
    config: Config
    resolver: Resolver
    _resolved: dict[int, str] = field(default_factory=dict, init=False)

    def enqueue_published(self) -> None:
        """The published settings are a trial; where others were enqueued, they come behind those.

        Raises:
            ConfigError: the space does not allow them.
        """
        published = self.space.published()
        if not published or any("published" in trial.user_attrs for trial in trials_of(self.study)):
            return
        if self.space.missing(published) is None:
            reason = refusal(self.resolver, self.space.constraints, published)
            if reason is not None:
                raise ConfigError(f"{self.space.origin}: the published settings cannot be tried: {reason}; change them")
        self.study.enqueue_trial(published, user_attrs={"published": True})

    def ask(self) -> FrozenTrial:
        """A new trial with all of its values; one that was enqueued comes first."""
        self._use_own_sampler(trial_number(self.study))
        trial = self.study.ask()
        self.space.suggest(trial)
        trial.set_user_attr("trial", trial_key(trial.number))
        return trials_of(self.study)[trial.number]

    def complete(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial with the values that it still lacked, because the driver was killed while it was being proposed."""
        self._use_own_sampler(trial.number)
        self.space.suggest(optuna.Trial(self.study, trial._trial_id))
        return trials_of(self.study)[trial.number]

    def twin_of(self, trial: FrozenTrial) -> str | None:
        """Key of the earlier trial that means the same; None if there is none."""
        meaning = self._meaning(trial)
        for other in trials_of(self.study)[: trial.number]:
            if other.params and "same_as" not in other.user_attrs and self._meaning(other) == meaning:
                return str(other.user_attrs.get("trial", trial_key(other.number)))
        return None

    def _use_own_sampler(self, number: int) -> None:
        others = [trial for trial in trials_of(self.study) if trial.number != number and trial.params]
        known = {self._meaning(trial) for trial in others}
        self.study.sampler = DistinctSampler(
            self.config,
            number,
            self.space,
            fits=lambda values: refusal(self.resolver, self.space.constraints, values) is None,
            is_new=lambda values: self.resolver.resolve(values).key not in known,
        )

    def _meaning(self, trial: FrozenTrial) -> str:
        """Equal for trials that mean the same; one whose values cannot be run means nothing but itself."""
        if trial.number not in self._resolved:
            try:
                self._resolved[trial.number] = self.resolver.resolve(trial.params).key
            except ConfigError:
                return f"trial {trial.number}"
        return self._resolved[trial.number]


def require_proposals(config: Config, space: Space) -> None:
    """Refuse published settings and constraints with which a study would not come far: its beginning, in memory.

    Reads the train splits and the model's configuration.

    Args:
        config: the experiment.
        space: what is searched.

    Raises:
        ConfigError: the published settings cannot be tried, or no configuration keeps the constraints.
    """
    first = with_values(config, replicates(config)[0], origin="study.replicates")
    for bound in config.study.bounds:
        with_values(first, {"method.name": bound}, origin="study.bounds")
    study = optuna.create_study(directions=list(config.study.objectives.values()))
    proposals = Proposals(study, space.within(first), config, Resolver(first))
    proposals.enqueue_published()
    for _ in range(min(2, config.study.trials)):
        proposals.ask()


def trials_of(study: optuna.Study) -> list[FrozenTrial]:
    """All trials by number, not to be changed."""
    return study.get_trials(deepcopy=False)


def note(study: optuna.Study, number: int, attributes: Mapping[str, Any]) -> None:
    """Write attributes of a trial into the journal, in whatever state it is."""
    storage_id = trials_of(study)[number]._trial_id
    for name, value in attributes.items():
        study._storage.set_trial_user_attr(storage_id, name, value)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of the study's own, and neither of an earlier study nor the end of a revived one."""
    return not {"warm_start", "revives"} & set(trial.user_attrs)
