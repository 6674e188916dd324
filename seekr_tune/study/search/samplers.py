"""Optuna's samplers by name, and one that never proposes the same twice."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState

from seekr_tune.config import SamplerName, StudyConfig
from seekr_tune.config.messages import hint
from seekr_tune.errors import ConfigError
from seekr_tune.noise import hear_libraries
from seekr_tune.study.search.dimensions import Choices, member
from seekr_tune.study.search.space import Space

MAX_POINTS = 100_000
"""Largest grid that is enumerated."""
_MOST_OF_AN_OPTION = 1_000_000

_MAX_DRAWS = 10
"""Draws of a sampler that keeps proposing what was tried already, before random draws take its place."""

_MAX_RANDOM_DRAWS = 100
"""Random draws after which a repeated configuration is accepted: the space is then as good as used up."""

_MAX_UNFIT_DRAWS = 1000
"""Random draws after which it is believed that no configuration keeps the constraints."""

_FEW_POINTS = 2000
"""A space of so many points is looked through before anything is repeated."""

_CLASSES: dict[SamplerName, type[BaseSampler]] = {
    "tpe": TPESampler,
    "gp": GPSampler,
    "nsgaii": NSGAIISampler,
    "nsgaiii": NSGAIIISampler,
    "qmc": QMCSampler,
    "random": RandomSampler,
    "cmaes": CmaEsSampler,
}
_OURS = ("self", "seed", "constraints_func", "independent_sampler", "search_space", "warn_asynchronous_seeding")
"""Arguments that a study sets itself."""

_NO_SCALARS = (
    *("gamma", "weights", "mutation", "crossover", "elite_population_selection_strategy", "x0", "source_trials"),
    *("child_generation_strategy", "after_trial_strategy", "reference_points"),
)
"""Arguments that are objects, which a YAML file cannot hold."""

Check = Callable[[Mapping[str, Any]], bool]


def make_sampler(study: StudyConfig, seed: int, number: int, space: Space) -> BaseSampler:
    """The sampler that proposes Optuna trial `number`.

    It is made anew for each trial, with a seed of its own: a resumed study then proposes what the uninterrupted one
    would have proposed, and never the parameters of its first launch again.

    Raises:
        ConfigError: the sampler does not know an option, or refuses its value.
    """
    own_seed = own_seed_of(seed, number)
    if study.sampler == "grid":
        return _GridSampler(space, seed)
    # Random draws until there is one trial more than dimensions: studies of streams are small, and Optuna's default of
    # 10 would leave many of them without any search.
    startup = {"n_startup_trials": len(space.dimensions) + 1}
    defaults: dict[SamplerName, dict[str, Any]] = {
        # Budgets and weights interact; trials at the same time must not crowd around one point.
        "tpe": {"multivariate": True, "group": space.is_conditional, "constant_liar": True, **startup},
        "gp": startup,
        "cmaes": startup,
        "qmc": {"scramble": True},
    }
    kind = _CLASSES[study.sampler]
    options = {"seed": own_seed, **defaults.get(study.sampler, {}), **study.sampler_options}
    if study.sampler == "qmc":  # one sequence for the whole study: its place in it is kept in the journal
        options["seed"] = seed
    known = inspect.signature(kind).parameters
    if "independent_sampler" in known:
        options["independent_sampler"] = RandomSampler(seed=own_seed)
    if "warn_independent_sampling" in known and study.sampler != "tpe":  # a conditional space cannot do without
        options.setdefault("warn_independent_sampling", False)
    try:
        return kind(**options)
    except (ValueError, TypeError) as error:
        raise _refused(study, error) from None


def own_seed_of(seed: int, number: int) -> int:
    """A seed for what is drawn for one trial."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")


def require_sampler(study: StudyConfig, space: Space) -> None:
    """Refuse a sampler that does not fit the space, and options that it does not know.

    Raises:
        ConfigError: in one line.
    """
    if study.sampler == "grid":
        if study.sampler_options:
            raise ConfigError("study.sampler_options: grid has no options; drop them")
        points = num_points(space)
        if study.trials > points:
            raise ConfigError(f"study.trials is {study.trials}, but the grid has {points} points; lower it")
        return
    known = [name for name in inspect.signature(_CLASSES[study.sampler]).parameters if name not in _OURS + _NO_SCALARS]
    for name, value in study.sampler_options.items():
        if isinstance(value, int | float) and not -_MOST_OF_AN_OPTION <= value <= _MOST_OF_AN_OPTION:
            raise ConfigError(
                f"study.sampler_options: {name} is beyond {_MOST_OF_AN_OPTION}, for which no machine has room; lower it"
            )
        if name in _OURS:
            raise ConfigError(f"study.sampler_options: {name!r} is set by the study itself; drop it")
        if name not in known:
            there = hint(name, known, f"it has {', '.join(known) or 'none'}")
            raise ConfigError(f"study.sampler_options: {study.sampler} has no option {name!r}; {there}")
    if study.sampler == "cmaes":
        _require_numeric(study, space)
    make_sampler(study, 0, 0, space)
    if study.sampler_options:
        _rehearse(study, space)


def _rehearse(study: StudyConfig, space: Space) -> None:
    """Refuse options that Optuna looks at no sooner than when it has results: with made-up ones, in memory."""
    searching = study
    if "n_startup_trials" in inspect.signature(_CLASSES[study.sampler]).parameters:
        searching = study.model_copy(update={"sampler_options": {**study.sampler_options, "n_startup_trials": 1}})
    rehearsed = optuna.create_study(directions=list(study.objectives.values()))
    hear_libraries()  # or Optuna prints its account of these trials
    try:
        for number, asked in enumerate((study, study, searching)):
            rehearsed.sampler = make_sampler(asked, 0, number, space)
            trial = rehearsed.ask()
            space.suggest(trial)
            rehearsed.tell(trial, [float(number)] * len(study.objectives))
    except ConfigError:
        raise
    except Exception as error:  # of whatever kind Optuna, NumPy or PyTorch raise for a value that they cannot use
        raise _refused(study, error) from None


def _refused(study: StudyConfig, error: Exception) -> ConfigError:
    line = " ".join(str(error).split())
    return ConfigError(f"study.sampler_options: {study.sampler} refuses {study.sampler_options}: {line}")


def num_points(space: Space) -> int:
    """Points of a grid over a space.

    Raises:
        ConfigError: there are infinitely many, or too many.
    """
    key = space.infinite()
    if key is not None:
        raise ConfigError(f"study.sampler grid: {space.origin}: {key} has infinitely many values; give it a step")
    count = sum(1 for _ in islice(space.points() or (), MAX_POINTS + 1))
    if count > MAX_POINTS:
        raise ConfigError(
            f"study.sampler grid: {space.origin}: has more than {MAX_POINTS} points; give larger steps, or take tpe"
        )
    return count


def _require_numeric(study: StudyConfig, space: Space) -> None:
    refusals = [
        *(f"{key} is categorical" for key, one in space.dimensions.items() if isinstance(one, Choices)),
        *(f"{key} is not searched in every trial" for key in space.dimensions if space.condition(key)),
        *(["there are several objectives"] if len(study.objectives) > 1 else []),
    ]
    if refusals:
        raise ConfigError(
            f"study.sampler cmaes: {refusals[0]}, and CMA-ES follows one objective over numbers; take tpe"
        )


class _GridSampler(BaseSampler):
    """The points of a finite space in an order drawn from the seed, those first that no trial has."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._left: Iterator[dict[str, Any]] | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space.distributions()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._left is None:
            points = list(self._space.points() or ())
            random.Random(self._seed).shuffle(points)
            others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
            tried = {_text(self._space.members(other.params)) for other in others}
            new = [point for point in points if _text(point) not in tried]
            self._left = iter(new or points)
        return next(self._left, {})

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return RandomSampler(seed=own_seed_of(self._seed, trial.number)).sample_independent(
            study, trial, param_name, param_distribution
        )


class DistinctSampler(BaseSampler):
    """Draws all parameters of a trial at once, and again while they do not fit or mean the same as an earlier trial's.

    Args:
        sampler: what proposes.
        seed: of the random draws that take its place when it keeps repeating itself.
        space: what is searched.
        fits: whether values keep the constraints.
        is_new: whether no earlier trial means the same.
    """

    def __init__(self, sampler: BaseSampler, seed: int, space: Space, fits: Check, is_new: Check) -> None:
        self._sampler, self._random, self._seed = sampler, RandomSampler(seed=seed), seed
        self._space, self._fits, self._is_new = space, fits, is_new

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space.distributions()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # An enqueued trial brings values of its own, and one that was killed while it was proposed has some.
        given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        if self._space.missing(given) is None:
            return {}
        repeated: dict[str, Any] | None = None
        for values in self._candidates(study, trial, given):
            if not self._fits(values):
                continue
            if self._is_new(values):
                return values
            repeated = repeated or values
        if repeated is None:
            repeated = next(filter(self._fits, self._random_draws(study, trial, given, _MAX_UNFIT_DRAWS)), None)
        if repeated is None:
            raise ConfigError(
                f"{self._space.origin}: none of {_MAX_UNFIT_DRAWS} random configurations keeps the constraints "
                f"{', '.join(map(str, self._space.constraints))}; loosen them, or change the ranges"
            )
        return repeated

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

    def _candidates(
        self, study: optuna.Study, trial: FrozenTrial, given: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """The sampler's draws, then random ones, then every point of a small space."""
        # A sequence that lost its place walks over what was tried already.
        walked = len(study.get_trials(deepcopy=False)) if isinstance(self._sampler, QMCSampler) else 0
        draws = MAX_POINTS if isinstance(self._sampler, _GridSampler) else _MAX_DRAWS + walked
        for _ in range(draws):
            drawn = self._draw(self._sampler, study, trial, given)
            if isinstance(self._sampler, _GridSampler) and not drawn:
                break
            yield drawn
        yield from self._random_draws(study, trial, given, _MAX_RANDOM_DRAWS)
        yield from self._small_space(given)

    def _random_draws(
        self, study: optuna.Study, trial: FrozenTrial, given: Mapping[str, Any], count: int
    ) -> Iterator[dict[str, Any]]:
        return (self._draw(self._random, study, trial, given) for _ in range(count))

    def _small_space(self, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        points = list(islice(self._space.points() or (), _FEW_POINTS + 1))
        if len(points) <= _FEW_POINTS:
            random.Random(self._seed).shuffle(points)
            yield from (point for point in points if _text(self._space.members({**point, **given})) == _text(point))

    def _draw(
        self, sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A value of everything that is searched: jointly where the sampler can, else one by one."""
        joint = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        if isinstance(sampler, _GridSampler):
            return self._space.active({**joint, **given}) if joint else {}
        values: dict[str, Any] = {}
        for key, distribution in self._space.distributions().items():
            if not self._space.is_active(key, values):
                continue
            # Drawn even where it is given, so that a trial whose proposal was killed is proposed the same again.
            drawn = joint[key] if key in joint else sampler.sample_independent(study, trial, key, distribution)
            values[key] = given.get(key, member(self._space.dimensions[key], key, drawn))
        return values


def _text(values: Mapping[str, Any]) -> str:
    """Values as their dimensions have them, as text: there 1 and 1.0 differ, and a set finds them at once."""
    return json.dumps(values, sort_keys=True)
