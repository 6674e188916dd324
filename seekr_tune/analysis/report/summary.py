"""A study in words: what was searched, what is best, and what that is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from seekr_tune.analysis.configurations import TrialRow, is_point
from seekr_tune.analysis.inference import FEWEST
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.analysis.ranking_tables import searched_paths
from seekr_tune.analysis.report.texts import (
    PER_CENT,
    count,
    percent,
    plural,
    settings,
    share,
    short_path,
)
from seekr_tune.analysis.table import rounded
from seekr_tune.analysis.uncertainty import WITH_INTERVAL
from seekr_tune.config import Config
from seekr_tune.documents import parse_json

_MOST_NAMED = 6
"""Members of the front that are named."""


def findings(ranking: Ranking, runs: Sequence[TrialRow], config: Config) -> tuple[str, ...]:
    """What was done and what came out, a sentence or two each.

    Args:
        ranking: by the first objective.
        runs: rows of the `trials` table.
        config: the study's experiment.
    """
    parts = (_searched, _ended, _best, _front)
    return tuple(sentence for part in parts for sentence in part(ranking, runs, config))


def caveats(ranking: Ranking, protocol: str, found: Iterable[str] = ()) -> tuple[str, ...]:
    """What a reader must know before believing it; `found` is what was measured besides."""
    return (*_caveats(ranking, protocol), *found)


def best_of(ranking: Ranking) -> TrialRow | None:
    """The configuration of rank 1; None while none has a value, and where no task was learned."""
    first = next(iter(ranking.rows), None)
    return first if first is not None and first["rank"] == 1 and first[ranking.by] is not None else None


def _searched(ranking: Ranking, runs: Sequence[TrialRow], config: Config) -> Iterator[str]:
    study, paths = config.study, searched_paths(ranking.rows)
    what = ", ".join(short_path(path).replace("_", " ") for path in paths) or "nothing"
    objectives = " and ".join(f"{direction} {name}" for name, direction in study.objectives.items())
    asked = study.replicates
    orders, seeds = max(1, len(asked.orders)), max(1, len(asked.seeds))
    crossed = f"{plural(orders, 'order')} x {plural(seeds, 'seed')} x {plural(asked.memory_draws, 'memory draw')}"
    yield (
        f"Searched: {what}, by {study.sampler}, to {objectives}. {plural(len(ranking.rows), 'configuration')} of "
        f"{study.trials} so far, each over up to {plural(asked.count, 'replicate')} "
        f"({'each with an order and a seed of its own' if asked.pairs else crossed})."
    )


def _ended(ranking: Ranking, runs: Sequence[TrialRow], config: Config) -> Iterator[str]:
    counted = Counter(row["status"] for row in ranking.rows)
    statuses = ", ".join(f"{counted[status]} {status}" for status in ("finished", "pruned", "failed", "running"))
    trained = sum(row["role"] != "bound" for row in runs)
    yield (
        f"Of the configurations {statuses}; {plural(trained, 'run')} of them, and "
        f"{plural(len(runs) - trained, 'run')} of the bounds."
    )


def _best(ranking: Ranking, runs: Sequence[TrialRow], config: Config) -> Iterator[str]:
    best = best_of(ranking)
    if ranking.void is not None:
        return  # the warnings say why there is none
    if best is None:
        yield "No configuration has finished yet, so there is no best one."
        return
    chosen = "; ".join(filter(None, [best["method"], settings(parse_json(best["params"]))]))
    yield (
        f"Best by {ranking.by}: {best['trial']} ({chosen}) with {_value(best, ranking.by)}, "
        f"n = {best['replicates']}, for {count(best['distinct_replayed_samples'])} distinct replayed samples."
    )
    yield _against_bounds(best)
    if best["p_best"] is not None:
        yield (
            f"It is the best of these configurations with probability {best['p_best']:.2f}, if all spread alike over "
            "orders, seeds and memory draws."
        )


def _value(row: TrialRow, column: str) -> str:
    """A number with its interval where it has one."""
    unit = PER_CENT if column in ("op", "bwt", "fwt", "forgetting") else ""
    value = f"{column} {rounded(row[column])}{unit}"
    if column not in WITH_INTERVAL:
        return value
    ends = row[f"{column}_low"], row[f"{column}_high"]
    return (
        f"{value} (no interval: {plural(row['replicates'], 'run')})"
        if None in ends
        else f"{value} (95 % interval {' to '.join(map(rounded, ends))})"
    )


def _against_bounds(best: TrialRow) -> str:
    if best["op_seqft"] is None:
        return "There is no finished bound without replay to compare it with."
    if best["why_no_gain"] is not None and best["op_joint"] is not None:
        return f"Whether it is better than no replay is not told: {best['why_no_gain']}."
    verb = "beats" if best["beats_seqft"] else "does not beat"
    text = f"It {verb} the bound without replay ({percent(best['op'])} against {percent(best['op_seqft'])})"
    if best["normalised_gain"] is not None:
        closed, joint = share(best["normalised_gain"]), percent(best["op_joint"])
        text += f" and closes {closed} of the gap to joint training ({joint})"
    return f"{text}."


def _front(ranking: Ranking, runs: Sequence[TrialRow], config: Config) -> Iterator[str]:
    front = sorted((row for row in ranking.rows if row["pareto"]), key=lambda row: row["distinct_replayed_samples"])
    if not front:
        return
    members = ", ".join(f"{row['trial']} ({_point(row)})" for row in front[:_MOST_NAMED])
    more = f" and {len(front) - _MOST_NAMED} more" if len(front) > _MOST_NAMED else ""
    yield f"On the front of OP over distinct replayed samples: {members}{more}."
    knee = next((row for row in front if row["knee"]), None)
    if knee is not None:
        yield f"Its knee, behind which more samples pay least, is {knee['trial']} ({_point(knee)})."


def _point(row: TrialRow) -> str:
    return f"{percent(row['op'])} for {count(row['distinct_replayed_samples'])}"


def _caveats(ranking: Ranking, protocol: str) -> Iterator[str]:
    yield f"{protocol[0].upper()}{protocol[1:]}. Scores are on the split that was tuned on, unless said otherwise."
    ranked = [row for row in ranking.rows if row["status"] == "finished"]
    fewest = min((row["replicates"] for row in ranked), default=0)
    if fewest == 1:
        yield "Some configurations have one run only: differences of a few points are within the spread over seeds."
    elif 1 < fewest < FEWEST:
        yield f"Of {fewest} replicates there is no interval: they are too few to tell, {FEWEST} are needed."
    if ranking.shown_above is not None:
        shown, told = ranking.shown_above
        yield (
            f"Run by run, the best is shown to differ from {shown} of {plural(told, 'other')} (docs/metrics.md)"
            f"{': the study does not tell it from the rest' if shown < told else ''}."
        )
    below = sum(row["beats_seqft"] is False for row in ranking.rows if is_point(row))
    if below:
        yield f"{plural(below, 'configuration')} did not do better than no replay, as the table says."
    without = sum(is_point(row) and row["distinct_replayed_samples"] == 0 for row in ranking.rows)
    if without:
        yield f"{plural(without, 'configuration')} replayed nothing and cannot be drawn over a logarithm of samples."
    yield "OP / sample always favours the smallest memory; read it together with the gain and the front."
