"""Which configurations are scored on the test split: the rule of `study.final`, applied to what tuning found.

Only complete configurations can be chosen: every replicate finished, every objective known. One that was pruned, or got
no further replicates, was seen on too little; one that was revived and finished is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seekr_tune.config import Config, StudyConfig
from seekr_tune.records import TrialRecord
from seekr_tune.study.search.objectives import as_gains
from seekr_tune.study.search.progress import configuration_values, group_of, pareto_front


@dataclass(frozen=True)
class Candidate:
    """A complete configuration.

    Attributes:
        key: of its first run.
        config: the experiment as it sees it, nested.
        params: what the search chose, by config path.
        values: its objectives in their order, means over its replicates.
    """

    key: str
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    values: Mapping[str, float]


def candidates(records: Sequence[TrialRecord], config: Config) -> list[Candidate]:
    """The complete configurations of a study, in the order of their keys.

    Args:
        records: of its runs, bounds included.
        config: the experiment of the study.
    """
    first = {record.configuration_key: record for record in records if record.replicate == 0}
    return [
        Candidate(key, first[key].config, first[key].params, dict(zip(config.study.objectives, values, strict=True)))
        for key, values in sorted(configuration_values(records, config).items())
    ]


def choose(found: Sequence[Candidate], study: StudyConfig) -> list[Candidate]:
    """Those that the declared rule takes, best first; with `for_each`, group after group by their first key.

    Equals in the objective that decides: the better one in the others, in their order, then the earlier trial.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(group_of(candidate.config, study.final.for_each), []).append(candidate)
    return [one for group in groups.values() for one in _chosen(group, study)]


def rule_text(study: StudyConfig) -> str:
    """The declared rule in a few words."""
    final = study.final
    each = f" for each {', '.join(final.for_each)}" if final.for_each else ""
    if final.select == "pareto":
        return f"Pareto front of {', '.join(study.objectives)}{each}"
    return f"best {final.count} by {decides(study)}{each}"


def decides(study: StudyConfig) -> str:
    """The objective that decides, and that a final table shows beside its results."""
    return study.final.by or next(iter(study.objectives))


def _chosen(group: Sequence[Candidate], study: StudyConfig) -> list[Candidate]:
    ordered = sorted(group, key=lambda one: _order(one, study))
    if study.final.select == "best":
        return ordered[: study.final.count]
    front = pareto_front({one.key: tuple(one.values.values()) for one in group}, list(study.objectives.values()))
    return [one for one in ordered if one.key in front]


def _order(one: Candidate, study: StudyConfig) -> tuple[Any, ...]:
    first = decides(study)
    names = [first, *(name for name in study.objectives if name != first)]
    gains = as_gains([one.values[name] for name in names], [study.objectives[name] for name in names])
    return (*(-gain for gain in gains), one.key)
