"""Which settings go with the objective, told from chance: rank correlations with permutation tests.

For few configurations: a forest then finds importance in noise. Numbers have Spearman's correlation, choices the
correlation ratio of the ranks (0: all alike, 1: the choice decides). p is the share of 9999 shuffles of the objective
with a value as large, corrected by Holm's rule over the settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from seekr_tune.analysis.inference import holm

Values = NDArray[np.float64]

_SHUFFLES = 9999
_SEED = 0
_TOGETHER = 0.6
"""Correlation of two settings above which what one does may be the other's."""


@dataclass(frozen=True)
class Association:
    """How a setting goes with the objective.

    Attributes:
        strength: from 0 to 1.
        p: of one as large by chance, corrected for the number of settings; 1 where the setting never varied.
    """

    strength: float
    p: float


def associations(
    settings: Mapping[str, tuple[Sequence[float], bool]], values: Mapping[str, Values]
) -> dict[str, Association]:
    """The association of each setting with the objective.

    Args:
        settings: by path its values (of a choice: a number for each one), and whether they are numbers.
        values: by path the objective where the setting is there.
    """
    from scipy.stats import rankdata

    rng = np.random.default_rng(_SEED)
    strengths, pvalues = {}, []
    for path, (given, are_numbers) in settings.items():
        ranks = rankdata(values[path])
        ranks = ranks - ranks.mean()
        shuffled = np.stack([ranks, *(rng.permutation(ranks) for _ in range(_SHUFFLES))])
        found = _correlation(rankdata(given), shuffled) if are_numbers else _ratio(np.array(given), shuffled)
        strengths[path] = float(found[0])
        pvalues.append(float((found >= found[0] - 1e-12).mean()))
    corrected = holm(pvalues)
    return {path: Association(own, p) for (path, own), p in zip(strengths.items(), corrected, strict=True)}


def together(settings: Mapping[str, Sequence[float | None]]) -> list[tuple[str, str, float]]:
    """Pairs of number settings that were tried together: their rank correlation, where it is large.

    Args:
        settings: by path a number for each configuration; None where it has not the setting.
    """
    from scipy.stats import spearmanr

    found = []
    for one, other in combinations(settings, 2):
        pairs = zip(settings[one], settings[other], strict=True)
        both = np.array([pair for pair in pairs if None not in pair], dtype=np.float64)
        if len(both) > 2 and np.ptp(both, axis=0).all():
            correlation = float(spearmanr(both).statistic)
            if abs(correlation) >= _TOGETHER:
                found.append((one, other, correlation))
    return found


def _correlation(ranks: Values, shuffled: Values) -> Values:
    own = ranks - ranks.mean()
    size = np.sqrt((own**2).sum() * (shuffled[0] ** 2).sum())
    return np.zeros(len(shuffled)) if size == 0 else np.abs(shuffled @ own) / size


def _ratio(choices: NDArray[np.float64], shuffled: Values) -> Values:
    members = (choices[:, None] == np.unique(choices)).astype(np.float64)
    size = float((shuffled[0] ** 2).sum())
    between = ((shuffled @ members) ** 2 / members.sum(axis=0)).sum(axis=1)
    return np.zeros(len(shuffled)) if size == 0 else np.sqrt(between / size)
