"""Which of the searched settings matter: importance with an interval, and the direction of the effect.

Importances come from Optuna's evaluators, on a study in memory that is built from finished configurations of the
ledger (means over their replicates). The objective keeps its direction there, so that PED-ANOVA, which asks what the
best trials have in common, looks at the right end.

A setting that only some trials have (another method does not read it) is judged among those: fANOVA and MDI are
fitted once for each set of trials that have a setting, on the settings that all of them have. PED-ANOVA handles
conditional settings by itself, on all trials.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    MeanDecreaseImpurityImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.trial import FrozenTrial, create_trial

from seekr_tune.analysis.associations import associations, together
from seekr_tune.analysis.configurations import TrialRow
from seekr_tune.analysis.glossary import more_is_better
from seekr_tune.analysis.table import Column, Table
from seekr_tune.config.meaning import on_one_scale
from seekr_tune.documents import parse_json
from seekr_tune.errors import StudyError
from seekr_tune.quiet_libraries import hear_libraries

EvaluatorName = Literal["ranks", "fanova", "mdi", "pedanova"]
FEW = 30
"""Finished configurations below which ranks are compared, unless something else is asked for."""
TOLD = 0.05
"""The largest p of a setting that is told from chance."""

LEVEL = 0.90
"""Nominal coverage of the intervals."""
NUM_RESAMPLES = 40
MIN_TRIALS = 4
"""Fewer finished configurations say nothing."""

_NUM_TREES = 64  # Optuna's own default
_NUM_TREES_OF_MANY = 16  # fANOVA's time grows with the square of a tree's leaves; more trials also need fewer trees
_MANY_TRIALS = 200
_NUM_TREES_RESAMPLED = 8  # their noise widens the intervals a little, and keeps them to seconds
_NUM_SHUFFLES = 39  # the fewest with which p can be below 0.05
_MAX_RESAMPLED = 50  # trials in a resample, for the same reason
_SEED = 0


@dataclass(frozen=True)
class Importance:
    """How much one searched setting matters.

    Attributes:
        path: its config path.
        importance: share of what all settings explain, from 0 to 1; they sum to 1 where all trials have all settings.
        low, high: its 90 % interval, within 0 and 1, from 40 resamples of the trials; null of `ranks`.
        p: of one as large where nothing matters, for all settings together: of `ranks` by Holm's rule, else by the
            largest one of all settings in 39 shuffles of the objective.
        n: finished configurations that have it.
        effect: Spearman's rank correlation with the objective, above 0: more of the setting, more of the objective;
            null for what is no number, is always the same, or stands in fewer than 3 configurations.
    """

    path: str
    importance: float
    low: float | None
    high: float | None
    p: float
    n: int
    effect: float | None


def importances(
    rows: Sequence[TrialRow], objective: str, evaluator: EvaluatorName | None = None
) -> tuple[Importance, ...]:
    """Importance of every searched setting, the most important first.

    Args:
        rows: configurations of a ranking; those that are finished and have the objective count.
        objective: a numeric column.
        evaluator: `ranks` (strength of the association with the objective, from 0 to 1), `fanova` (share of the
            variance, each setting by itself), `mdi` (what a forest splits on) or `pedanova` (what tells the best tenth
            from the others); None: `chosen_evaluator`.

    Raises:
        StudyError: there are too few finished configurations with searched settings.
    """
    hear_libraries()
    trials = _trials(rows, objective)
    if len(trials) < MIN_TRIALS:
        raise StudyError(
            f"importance needs {MIN_TRIALS} finished configurations with searched settings and {objective}, but there "
            f"are {len(trials)}; let the study run on"
        )
    evaluator = evaluator or _by_count(len(trials))
    if evaluator == "ranks":
        return _by_ranks(trials)
    maximise = more_is_better(objective, rows)
    num_trees = _NUM_TREES if len(trials) < _MANY_TRIALS else _NUM_TREES_OF_MANY
    found = _evaluate(trials, maximise, _EVALUATORS[evaluator](num_trees))
    spreads, chance = _spreads(trials, maximise, evaluator), _by_chance(trials, maximise, evaluator)
    every = []
    for path, value in found.items():
        low, high = (min(1.0, max(0.0, value + end)) for end in spreads[path])
        p = (1 + sum(largest >= value for largest in chance)) / (1 + len(chance))
        every.append(Importance(path, value, low, high, p, _count(trials, path), _effect(trials, path)))
    return tuple(sorted(every, key=lambda one: (-one.importance, one.path)))


def chosen_evaluator(rows: Sequence[TrialRow], objective: str) -> EvaluatorName:
    """What is asked of so many configurations: `ranks` below 30, where a forest finds importance in noise."""
    return _by_count(len(_trials(rows, objective)))


def settings_together(rows: Sequence[TrialRow], objective: str) -> list[str]:
    """A line for each pair of settings that were tried together, so that what one does may be the other's."""
    trials = _trials(rows, objective)
    numbers = {
        path: [trial.params.get(path) for trial in trials]
        for path in dict.fromkeys(path for trial in trials for path in trial.params)
        if not any(isinstance(trial.distributions.get(path), CategoricalDistribution) for trial in trials)
    }
    return [
        f"{one} and {other} went together (rank correlation {found:+.2f}): what one does may be the other's"
        for one, other, found in together(numbers)
    ]


def importance_table(found: Sequence[Importance], objective: str, evaluator: str) -> Table:
    """One row a setting, the most important first."""
    names = ("importance", "low", "high")
    return Table(
        caption=f"What {objective} depends on ({evaluator})",
        columns=(
            Column("path", "setting", is_text=True),
            *(Column(name, name, ".2f") for name in names),
            Column("p", "p", ".2g"),
            Column("n", "n"),
            Column("effect", "effect", "+.2f"),
        ),
        rows=tuple(map(asdict, found)),
        notes=tuple(_notes(found, evaluator)),
    )


def _notes(found: Sequence[Importance], evaluator: str) -> Iterator[str]:
    if all(one.p > TOLD for one in found):
        yield "NOT DISTINGUISHABLE from chance: so much is found where no setting matters"
    if evaluator == "ranks":
        yield "importance: strength of the association of the ranks, from 0 to 1"
    else:
        yield f"low, high: interval of {LEVEL:.0%}, from {NUM_RESAMPLES} resamples of the configurations"
    yield "p: of one as large by chance, for all settings together"
    yield "n: configurations with the setting, among which it is judged"
    yield "effect: rank correlation with the objective"


def _by_count(trials: int) -> EvaluatorName:
    return "ranks" if trials < FEW else "fanova"


def _by_ranks(trials: Sequence[FrozenTrial]) -> tuple[Importance, ...]:
    settings: dict[str, tuple[list[float], bool]] = {}
    values: dict[str, NDArray[np.float64]] = {}
    for path in dict.fromkeys(path for trial in trials for path in trial.params):
        having = [trial for trial in trials if path in trial.params]
        kind = having[0].distributions[path]
        is_choice = isinstance(kind, CategoricalDistribution)
        settings[path] = [float(kind.to_internal_repr(trial.params[path])) for trial in having], not is_choice
        values[path] = np.array([trial.value for trial in having], dtype=np.float64)
    found = associations(settings, values)
    every = [
        Importance(path, own.strength, None, None, own.p, _count(trials, path), _effect(trials, path))
        for path, own in found.items()
    ]
    return tuple(sorted(every, key=lambda one: (-one.importance, one.path)))


def _by_chance(trials: Sequence[FrozenTrial], maximise: bool, evaluator: EvaluatorName) -> list[float]:
    """The largest importance of all settings where the objective is shuffled; of at most 50 trials, which errs high."""
    rng = np.random.default_rng(_SEED)
    size, largest = min(len(trials), _MAX_RESAMPLED), []
    for _ in range(_NUM_SHUFFLES):
        drawn = [trials[number] for number in rng.permutation(len(trials))[:size]]
        values = rng.permutation([trial.value for trial in drawn])
        shuffled = [
            create_trial(params=trial.params, distributions=trial.distributions, value=float(value))
            for trial, value in zip(drawn, values, strict=True)
        ]
        largest.append(max(_evaluate(shuffled, maximise, _EVALUATORS[evaluator](_NUM_TREES_RESAMPLED)).values()))
    return largest


def _trials(rows: Sequence[TrialRow], objective: str) -> list[FrozenTrial]:
    """Finished configurations as Optuna's trials; the range of a setting is what was tried."""
    in_order = sorted(rows, key=lambda row: str(row["trial"]))  # the forests depend on it, the ranking must not
    used = [
        (row, parse_json(row["params"])) for row in in_order if (row["status"], row["role"]) == ("finished", "trial")
    ]
    used = [(row, params) for row, params in used if params and row[objective] is not None]
    paths = list(dict.fromkeys(path for _, params in used for path in params))
    ranges = {path: _range(path, [params[path] for _, params in used if path in params]) for path in paths}
    return [
        create_trial(
            params={path: _plain(value, ranges[path]) for path, value in params.items()},
            distributions={path: ranges[path] for path in params},
            value=float(row[objective]),
        )
        for row, params in used
    ]


def _range(path: str, values: Sequence[Any]) -> BaseDistribution:
    """Numbers that span a decade are on a logarithmic scale; what is no number is a choice, and so are counts beside
    shares, which have no common scale."""
    if not on_one_scale(path, values):
        return CategoricalDistribution(sorted({_text(value) for value in values}))
    low, high = min(values), max(values)
    is_log = low > 0 and high >= 10 * low
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high, log=is_log)
    return FloatDistribution(float(low), float(high), log=is_log)


def _plain(value: Any, distribution: BaseDistribution) -> Any:
    return _text(value) if isinstance(distribution, CategoricalDistribution) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _evaluate(trials: Sequence[FrozenTrial], maximise: bool, evaluator: BaseImportanceEvaluator) -> dict[str, float]:
    """Importance by path, of every setting that some trial has."""
    paths = list(dict.fromkeys(path for trial in trials for path in trial.params))
    if isinstance(evaluator, PedAnovaImportanceEvaluator):
        return _optunas(trials, maximise, evaluator, paths)
    found: dict[tuple[int, ...], dict[str, float]] = {}
    importance = {}
    for path in paths:
        having = tuple(number for number, trial in enumerate(trials) if path in trial.params)
        if having not in found:
            own = [trials[number] for number in having]
            common = [name for name in paths if all(name in trial.params for trial in own)]
            found[having] = _optunas(own, maximise, evaluator, common)
        importance[path] = found[having][path]
    return importance


def _optunas(
    trials: Sequence[FrozenTrial], maximise: bool, evaluator: BaseImportanceEvaluator, paths: list[str]
) -> dict[str, float]:
    """What Optuna says; 0 for all where the objective is always the same."""
    if len({trial.value for trial in trials}) < 2:
        return dict.fromkeys(paths, 0.0)
    study = optuna.create_study(direction="maximize" if maximise else "minimize")
    study.add_trials(trials)
    # Sorted: the MDI evaluator of Optuna 5.0.0 gives names in the order asked to values in alphabetic order.
    found = get_param_importances(study, evaluator=evaluator, params=sorted(paths))
    return {path: float(found[path]) for path in paths}


_EVALUATORS: Mapping[str, Callable[[int], BaseImportanceEvaluator]] = {
    "fanova": lambda trees: FanovaImportanceEvaluator(n_trees=trees, seed=_SEED),
    "mdi": lambda trees: MeanDecreaseImpurityImportanceEvaluator(n_trees=trees, seed=_SEED),
    "pedanova": lambda trees: PedAnovaImportanceEvaluator(),
}


def _spreads(trials: Sequence[FrozenTrial], maximise: bool, evaluator: EvaluatorName) -> dict[str, tuple[float, float]]:
    """How far below and above their mean the importances lie when m of the n trials are drawn with replacement.

    The distances are taken around the mean, for a forest that sees some trials twice is biased; and they are scaled by
    sqrt(m / n), which is 1 unless there are more trials than a resample takes.
    """
    random = np.random.default_rng(_SEED)
    size = min(len(trials), _MAX_RESAMPLED)
    drawn: dict[str, list[float]] = {path: [] for trial in trials for path in trial.params}
    for _ in range(NUM_RESAMPLES):
        sample = [trials[number] for number in random.integers(0, len(trials), size)]
        for path, value in _evaluate(sample, maximise, _EVALUATORS[evaluator](_NUM_TREES_RESAMPLED)).items():
            drawn[path].append(value)
    scale = math.sqrt(size / len(trials))
    tails = (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)
    spreads = {}
    for path, values in drawn.items():
        low, high = np.quantile(values, tails) - np.mean(values) if values else (-1.0, 1.0)  # never drawn: all is open
        spreads[path] = float(min(0.0, low) * scale), float(max(0.0, high) * scale)
    return spreads


def _count(trials: Sequence[FrozenTrial], path: str) -> int:
    return sum(path in trial.params for trial in trials)


def _effect(trials: Sequence[FrozenTrial], path: str) -> float | None:
    having = [trial for trial in trials if path in trial.params]
    if isinstance(having[0].distributions[path], CategoricalDistribution) or len(having) < 3:
        return None
    settings: NDArray[np.float64] = np.array([trial.params[path] for trial in having], dtype=np.float64)
    values = np.array([trial.value for trial in having], dtype=np.float64)
    if np.ptp(settings) == 0 or np.ptp(values) == 0:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(settings, values).statistic)
