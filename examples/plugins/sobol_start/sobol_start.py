"""A sampler that covers the space with a Sobol sequence before TPE searches it."""

from __future__ import annotations

from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler

from seekr_tune.study.search.samplers import Search


def sobol_start(search: Search) -> BaseSampler:
    """Trials 0 to `start` - 1 are points of one sequence, which lies evenly where random draws leave gaps."""
    if search.number < search.options.get("start", 8):
        # One sequence for the whole study; its first point, and what has no order, is drawn for the trial alone.
        others = RandomSampler(seed=search.seed)
        return QMCSampler(seed=search.study_seed, scramble=True, independent_sampler=others)
    return TPESampler(seed=search.seed, multivariate=True, constant_liar=True, n_startup_trials=1)
