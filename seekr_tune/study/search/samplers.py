"""Samplers by name, Optuna's and a user's own, and one around them that never proposes the same twice."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

from seekr_tune.config import Config, StudyConfig
from seekr_tune.config.messages import hint
from seekr_tune.errors import ConfigError, UserError
from seekr_tune.plugins import imported
from seekr_tune.quiet_libraries import hear_libraries
from seekr_tune.study.directory.disk import disk_fault
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


@dataclass(frozen=True)
class Search:
    """What a sampler is made for: one trial of a study.

    A sampler is made anew for each trial, also when a killed study goes on. So that this trial is proposed as it would
    have been, a sampler takes what it draws at random from `seed`, a design of the whole study from `study_seed`, and
    what it knows of earlier trials from the Optuna study that its methods are handed.

    Attributes:
        seed: of this trial alone.
        study_seed: the same for all trials of the study.
        number: of the trial, from 0.
        options: `study.sampler_options`.
        directions: of the objectives: "maximize" or "minimize"; two or more make a Pareto search.
        space: what is searched; `space.distributions()` are Optuna's.
    """

    seed: int
    study_seed: int
    number: int
    options: Mapping[str, Any]
    directions: tuple[str, ...]
    space: Space


Check = Callable[[Mapping[str, Any]], bool]
Maker = Callable[[Search], BaseSampler]
"""Makes the sampler of one trial: a class or a function."""


def _of(kind: type[BaseSampler], **fixed: Any) -> Maker:
    """Makes one of Optuna's, which knows its options by itself."""
    known = inspect.signature(kind).parameters

    def make(search: Search) -> BaseSampler:
        # Random draws until there is one trial more than dimensions: studies of streams are small, and Optuna's default
        # of 10 would leave many of them without any search.
        startup: dict[str, Any] = {"n_startup_trials": len(search.space.dimensions) + 1}
        if kind is not TPESampler:  # a conditional space cannot do without
            startup["warn_independent_sampling"] = False
        options: dict[str, Any] = {name: value for name, value in startup.items() if name in known}
        if kind is TPESampler:
            options |= {"group": search.space.is_conditional}
        if "independent_sampler" in known:
            options["independent_sampler"] = RandomSampler(seed=search.seed)
        # One sequence for the whole study: its place in it is kept in the journal.
        seed = search.study_seed if kind is QMCSampler else search.seed
        return kind(**{**options, "seed": seed, **fixed, **search.options})

    return make


_CLASSES: dict[str, type[BaseSampler]] = {
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

_FIXED: dict[str, dict[str, Any]] = {
    # Budgets and weights interact; trials at the same time must not crowd around one point.
    "tpe": {"multivariate": True, "constant_liar": True},
    "qmc": {"scramble": True},
}


def make_sampler(config: Config, number: int, space: Space) -> BaseSampler:
    """The sampler that proposes Optuna trial `number`.

    It is made anew for each trial, with a seed of its own: a resumed study then proposes what the uninterrupted one
    would have proposed, and never the parameters of its first launch again.

    Raises:
        ConfigError: the sampler refuses its options, or code of a user's own is no sampler.
    """
    study = config.study
    directions = tuple(study.objectives.values())
    seed = own_seed_of(config.seed, number)
    with _blaming(study):
        made: Any = _maker(config)(Search(seed, config.seed, number, study.sampler_options, directions, space))
    if not isinstance(made, BaseSampler):
        raise ConfigError(f"study.sampler: {study.sampler} makes no sampler: it must return a BaseSampler of Optuna's")
    return made


def _maker(config: Config) -> Maker:
    name = config.study.sampler
    if name == "grid":
        return _GridSampler
    if name in _CLASSES:
        return _of(_CLASSES[name], **_FIXED.get(name, {}))
    found: Maker = imported("sampler", name, config.plugins[name])
    if not callable(found):
        raise ConfigError(f"sampler {name} ({config.plugins[name].origin}): is neither a class nor a function")
    return found


@contextmanager
def _blaming(study: StudyConfig) -> Iterator[None]:
    """What a sampler raises, in one line; a full disk is no fault of it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of whatever kind Optuna, NumPy, PyTorch or code of a user raise
        if disk_fault(error) is not None:
            raise
        line = " ".join(f"{type(error).__name__}: {error}".split())
        given = f"study.sampler_options: {study.sampler} refuses {study.sampler_options}"
        place = given if study.sampler_options else f"study.sampler: {study.sampler} fails"
        raise ConfigError(f"{place}: {line}") from error


def own_seed_of(seed: int, number: int) -> int:
    """A seed for what is drawn for one trial."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")


def require_sampler(config: Config, space: Space) -> bool:
    """Refuse a sampler that does not fit the space or the objectives, and options that it does not know.

    Returns:
        Whether it proposes the same when it is asked the same again, as a study that is resumed does.

    Raises:
        ConfigError: in one line.
    """
    study = config.study
    if study.sampler == "grid":
        if study.sampler_options:
            raise ConfigError("study.sampler_options: grid has no options; drop them")
        points = num_points(space)
        if study.trials > points:
            raise ConfigError(f"study.trials is {study.trials}, but the grid has {points} points; lower it")
        return True
    if study.sampler in _CLASSES:
        _require_known_options(study)
    if study.sampler == "cmaes":
        _require_numeric(study, space)
    make_sampler(config, 0, space)
    if study.sampler in _CLASSES:
        if study.sampler_options:
            _rehearsed(config, space)
        return True
    return _rehearsed(config, space) == _rehearsed(config, space)


def _require_known_options(study: StudyConfig) -> None:
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


def _rehearsed(config: Config, space: Space) -> list[dict[str, Any]]:
    """Proposals on made-up results, in memory: some options are looked at no sooner, nor several objectives.

    Raises:
        ConfigError: the sampler fails.
    """
    study, searching = config.study, config
    known = _CLASSES.get(study.sampler)
    if known is not None and "n_startup_trials" in inspect.signature(known).parameters:
        options = {**study.sampler_options, "n_startup_trials": 1}
        searching = config.model_copy(update={"study": study.model_copy(update={"sampler_options": options})})
    rehearsed = optuna.create_study(directions=list(study.objectives.values()))
    hear_libraries()  # or Optuna prints its account of these trials
    with _blaming(study):
        for number, asked in enumerate((config, config, searching)):
            rehearsed.sampler = make_sampler(asked, number, space)
            trial = rehearsed.ask()
            space.suggest(trial)
            rehearsed.tell(trial, [float(number)] * len(study.objectives))
    return [trial.params for trial in rehearsed.get_trials(deepcopy=False)]


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

    def __init__(self, search: Search) -> None:
        self._space, self._seed = search.space, search.study_seed
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
        config: the experiment.
        number: of the trial.
        space: what is searched.
        fits: whether values keep the constraints.
        is_new: whether no earlier trial means the same.
    """

    def __init__(self, config: Config, number: int, space: Space, fits: Check, is_new: Check) -> None:
        self._study, self._seed = config.study, own_seed_of(config.seed, number)
        self._sampler, self._random = make_sampler(config, number, space), RandomSampler(seed=self._seed)
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
        with _blaming(self._study):
            return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        with _blaming(self._study):
            self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        with _blaming(self._study):
            self._sampler.after_trial(study, trial, state, values)

    def _candidates(
        self, study: optuna.Study, trial: FrozenTrial, given: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """The sampler's draws, then random ones, then every point of a small space."""
        # A sequence that lost its place walks over what was tried already.
        walked = len(study.get_trials(deepcopy=False)) if isinstance(self._sampler, QMCSampler) else 0
        draws = MAX_POINTS if isinstance(self._sampler, _GridSampler) else _MAX_DRAWS + walked
        for _ in range(draws):
            with _blaming(self._study):
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
