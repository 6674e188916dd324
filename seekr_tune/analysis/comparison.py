"""Studies beside each other: what differs in their settings, what each found, and by how much their scores differ.

Scores are compared run by run, where both studies have the same order, seed, memory draw and split; what differs
between the studies is then what is being compared. Studies with other tasks, other data or another split are shown
beside each other, but their scores are not subtracted, and a note says why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from seekr_tune.analysis.configurations import TrialRow, add_gains, configuration_key, is_point
from seekr_tune.analysis.inference import Inference, Verdict, verdicts
from seekr_tune.analysis.ledger import read_trials
from seekr_tune.analysis.ranking import Ranking, rank
from seekr_tune.analysis.ranking_tables import void_lines
from seekr_tune.analysis.uncertainty import paired_difference, study_differences, target_of, values_by_setting
from seekr_tune.analysis.worth import study_worths
from seekr_tune.analysis.worth_lines import warnings
from seekr_tune.config.facts import fields_at
from seekr_tune.config.leaves import leaves_of
from seekr_tune.config.meaning import setting_text
from seekr_tune.documents import parse_json
from seekr_tune.errors import StudyError
from seekr_tune.experiment import flatten, load_experiment, read_yaml_mapping

_DATA = ("stream.source", "stream.root", "stream.limits", "stream.columns", "stream.metrics")
"""Settings that say what the tasks consist of and how answers are scored."""


@dataclass(frozen=True)
class Side:
    """One study, or one single run.

    Attributes:
        name: short, and unlike those of the others.
        directory: where it lies.
        settings: of its experiment by config path, and of its search space by `space.<path>`.
        runs: of the `trials` table, with their gains.
        ranking: its configurations.
        warnings: what is wrong with its tasks, or with all of it.
    """

    name: str
    directory: Path
    settings: Mapping[str, Any]
    runs: tuple[TrialRow, ...]
    ranking: Ranking
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> TrialRow | None:
        """The configuration of rank 1; None where none is finished, or no task was learned."""
        return next((row for row in self.ranking.rows if row["rank"] == 1), None)

    def bound(self, method: str) -> float | None:
        """Mean OP of a reference over its finished runs."""
        ops = [row["op"] for row in self.ranking.bounds if row["method"] == method and is_point(row)]
        return fmean(ops) if ops else None

    def runs_of(self, configuration: str) -> list[TrialRow]:
        """The runs of one configuration."""
        return [run for run in self.runs if configuration_key(run) == configuration]


@dataclass(frozen=True)
class PairedScores:
    """Two configurations, of two studies or of one.

    Attributes:
        what: why these two: `best`, the method of the same settings in both, or what they differ in.
        study: name of the study that the second is of.
        first, second: their keys.
        difference: first minus second, run by run.
        verdict: what may be said of it, beside the others that were compared.
    """

    what: str
    study: str
    first: str
    second: str
    difference: Inference
    verdict: Verdict = "not decided"


@dataclass(frozen=True)
class Comparison:
    """Studies beside each other, in the order in which they were named.

    Attributes:
        by: column that chose the best configurations, and whose values are subtracted.
        sides: the studies.
        differing: settings that are not the same in all, by path; one value for each study, None where it has none.
        pairs: of the first study and each of the others.
        notes: what has to be known before anything is concluded.
    """

    by: str
    sides: tuple[Side, ...]
    differing: Mapping[str, tuple[Any, ...]]
    pairs: tuple[PairedScores, ...]
    notes: tuple[str, ...]


def read_side(
    name: str, directory: Path, experiment: Path, space: Path | None, by: str, changes: Sequence[str] = ()
) -> Side:
    """What is compared of a study or a run.

    Args:
        name: what it is called.
        directory: holds `ledger/`.
        experiment: its resolved experiment.
        space: its search space; None for a single run.
        by: column that ranks.
        changes: of its data and model, as they were accepted: one line each.

    Raises:
        StudyError: there is no ledger, or `by` is not a number of a run.
    """
    trials = read_trials(directory)
    ranking = rank(trials, by)
    runs: list[TrialRow] = trials.to_pylist()
    add_gains(runs)
    if runs and by not in runs[0]:
        raise StudyError(f"{by} is a number of several runs, so runs cannot be compared by it; give op, for example")
    searched = {} if space is None else dict(leaves_of(read_yaml_mapping(space), "space"))
    wrong = (*changes, *void_lines(ranking), *warnings(study_worths(directory)))
    return Side(name, directory, {**flatten(load_experiment(experiment)), **searched}, tuple(runs), ranking, wrong)


def compare(sides: Sequence[Side]) -> Comparison:
    """Put studies beside each other; the first one is the one that the others are compared with."""
    first, by = sides[0], sides[0].ranking.by
    pairs, notes = [], list(_notes(sides))
    for other in sides[1:]:
        reasons = incomparable(first, other)
        notes += [f"scores of {first.name} and {other.name} are not compared: {reason}" for reason in reasons]
        if not reasons:
            found = list(_pairs(first, other, by))
            pairs += found
            if not any(pair.difference.n for pair in found):
                notes.append(f"{first.name} and {other.name} have no order, seed and memory draw in common")
    if any(pair.what == "best" and pair.difference.n for pair in pairs):
        notes.append("the best of many trials looks better than it is: `best` compares two such choices")
    return Comparison(by, tuple(sides), _differing(sides), _judged(pairs), (*notes, *_whys(pairs)))


def compare_values(side: Side, path: str) -> Comparison:
    """The best configurations of one study for each value of a setting, each with each.

    Args:
        side: the study.
        path: of the setting: `method.name`.

    Raises:
        StudyError: no two of its finished configurations differ in it.
    """
    (field, *_), by = fields_at(path), side.ranking.by
    best: dict[str, TrialRow] = {}
    for row in side.ranking.rows:  # best first
        if is_point(row):
            best.setdefault(_text_at(row, field), row)
    if len(best) < 2:
        held = ", ".join(best) or "nothing"
        raise StudyError(f"{side.name}: finished configurations do not differ in {path} (it is {held})")
    target = target_of(side.runs)
    keys = {value: row["trial"] for value, row in best.items()}
    values = {value: values_by_setting(side.runs_of(key), by) for value, key in keys.items()}
    pairs = [
        PairedScores(
            f"{one} - {other}", side.name, keys[one], keys[other], paired_difference(values[one], values[other], target)
        )
        for one, other in combinations(best, 2)
    ]
    counts = Counter(_text_at(row, field) for row in side.ranking.rows if is_point(row))
    notes = [f"WARNING: {side.name}: {line}" for line in side.warnings]
    if max(counts.values()) > 1 and any(run["split"] == "eval" for run in side.runs):
        chosen = ", ".join(f"{counts[value]} ({value})" for value in best)
        notes.append(f"each is the best of {chosen} by {by}, and looks better than it is")
    return Comparison(by, (side,), {}, _judged(pairs), (*notes, *_whys(pairs)))


def _judged(pairs: Sequence[PairedScores]) -> tuple[PairedScores, ...]:
    found = verdicts([pair.difference for pair in pairs])
    return tuple(replace(pair, verdict=verdict) for pair, verdict in zip(pairs, found, strict=True))


def _whys(pairs: Sequence[PairedScores]) -> list[str]:
    """Why differences have no interval, each reason once."""
    reasons = {pair.difference.why: None for pair in pairs if pair.difference.why is not None and pair.difference.n}
    return [f"no interval: {reason}" for reason in reasons]


def _text_at(row: TrialRow, path: str) -> str:
    """A setting of a configuration, as text."""
    if path == "method.name":
        return str(row["method"])
    params = parse_json(row["params"])
    value: Any = params.get(path, parse_json(row["config"]))
    for part in () if path in params else path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return setting_text(path, value)


def incomparable(one: Side, other: Side) -> list[str]:
    """Why scores of two studies cannot be subtracted; empty where they can."""
    reasons = []
    if set(one.settings["stream.tasks"]) != set(other.settings["stream.tasks"]):
        reasons.append("they learn other tasks")
    different = [key for key in _differing([one, other]) if key.startswith(_DATA)]
    if different:
        reasons.append(f"their data differ ({', '.join(different)})")
    splits = [{run["split"] for run in side.runs if is_point(run)} for side in (one, other)]
    if all(splits) and not splits[0] & splits[1]:
        shown = " and ".join("/".join(sorted(split)) for split in splits)
        reasons.append(f"they were scored on other splits ({shown})")
    return reasons


def _notes(sides: Sequence[Side]) -> Iterator[str]:
    for side in sides:
        yield from (f"WARNING: {side.name}: {line}" for line in side.warnings)
        if side.best is None and side.ranking.void is None:
            yield f"{side.name} has no finished configuration yet"
    versions = {side.name: sorted({run["code_version"] for run in side.runs}) for side in sides}
    if len({tuple(own) for own in versions.values()}) > 1:
        yield "code versions differ: " + "; ".join(f"{name} {', '.join(own)}" for name, own in versions.items())


def _pairs(first: Side, other: Side, by: str) -> Iterator[PairedScores]:
    target = target_of(first.runs)
    if first.best is not None and other.best is not None:
        keys = first.best["trial"], other.best["trial"]
        values = [values_by_setting(side.runs_of(key), by) for side, key in zip((first, other), keys, strict=True)]
        yield PairedScores("best", other.name, *keys, paired_difference(values[0], values[1], target))
    for pair in study_differences(first.runs, other.runs, by, target):
        yield PairedScores(f"same {pair.method}", other.name, pair.first, pair.second, pair.difference)


def _differing(sides: Sequence[Side]) -> dict[str, tuple[Any, ...]]:
    paths = dict.fromkeys(path for side in sides for path in side.settings)
    values = {path: tuple(side.settings.get(path) for side in sides) for path in paths}
    return {path: own for path, own in values.items() if len({json.dumps(value) for value in own}) > 1}
