"""Rules by name that say whether a trial should be stopped: those of `fidelity`, and pruners of Optuna's or a user's.

A pruner is handed values at one position only: of the trial that is judged, and of those that came as far. Optuna's own
best-so-far comparisons thus never compare one position with another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState, create_trial

from seekr_tune.config import Config, Direction
from seekr_tune.errors import ConfigError, UserError
from seekr_tune.plugins import imported
from seekr_tune.quiet_libraries import hear_libraries
from seekr_tune.study.directory.disk import disk_fault
from seekr_tune.study.search.fidelity import RULES, Rule, Settings, Values


def rule_of(config: Config, tasks: int) -> Rule:
    """What `study.pruning` says of trials after as many tasks.

    Raises:
        ConfigError: code of a user's own is no pruner, or refuses its options.
    """
    pruning = config.study.pruning
    if pruning.rule in RULES:
        if pruning.options:
            raise ConfigError(f"study.pruning.options: {pruning.rule} has none; drop them")
        return RULES[pruning.rule]
    plugin = config.plugins[pruning.rule]
    if len(config.study.objectives) > 1:
        raise ConfigError(
            f"study.pruning.rule {pruning.rule}: Optuna's pruners follow one objective; drop the others, or take median"
        )
    found = imported("pruner", pruning.rule, plugin)
    made: Any = _blamed(config, lambda: found(**pruning.options))
    if not isinstance(made, BasePruner):
        raise ConfigError(f"pruner {pruning.rule} ({plugin.origin}): makes no BasePruner of Optuna's")

    def judged(own: Values, others: Sequence[Values], directions: Sequence[Direction], settings: Settings) -> bool:
        study, trial = _comparison(own, others, directions, tasks)
        return bool(_blamed(config, lambda: made.prune(study, trial)))

    return judged


def require_pruner(config: Config) -> None:
    """Refuse a pruner that cannot be had, or that fails on made-up values.

    Raises:
        ConfigError: in one line.
    """
    settings, directions = config.study.pruning, list(config.study.objectives.values())
    rule = rule_of(config, settings.grace_tasks)
    first, *others = [tuple(float(number) for _ in directions) for number in range(4)]
    rule(first, others, directions, settings)


def _comparison(
    own: Values, others: Sequence[Values], directions: Sequence[Direction], tasks: int
) -> tuple[optuna.Study, FrozenTrial]:
    """A study in memory that knows this position of each trial, and nothing else; its last trial is judged."""
    hear_libraries()
    study = optuna.create_study(directions=list(directions))
    for values in others:
        study.add_trial(
            create_trial(state=TrialState.COMPLETE, values=list(values), intermediate_values={tasks: values[0]})
        )
    study.add_trial(create_trial(state=TrialState.RUNNING, intermediate_values={tasks: own[0]}))
    return study, study.get_trials(deepcopy=False)[-1]


def _blamed(config: Config, ask: Callable[[], Any]) -> Any:
    """What code of a user raises, in one line; a full disk is no fault of it."""
    try:
        return ask()
    except UserError:
        raise
    except Exception as error:
        if disk_fault(error) is not None:
            raise
        line = " ".join(f"{type(error).__name__}: {error}".split())
        name = config.study.pruning.rule
        raise ConfigError(f"pruner {name} ({config.plugins[name].origin}) fails: {line}") from error
