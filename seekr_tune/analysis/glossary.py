"""Every column of the ranking and every number of a study: formula, unit, which way is better, how to read it.

Each is explained where it is declared (`columns.Meaning`); what only a ranking adds is declared here.
Notation: T tasks, a[i, j] = score in percent on task j after training task i, b[j] = score on task j before any
training. Numbers that need cells which were not evaluated are null, and so is a quotient whose divisor is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from seekr_tune.analysis.front import StudyMeasures
from seekr_tune.analysis.ledger import COLUMNS
from seekr_tune.analysis.measures import Measures
from seekr_tune.analysis.sampled import Sampled
from seekr_tune.analysis.table import COUNT, Column
from seekr_tune.config.facts import short_name
from seekr_tune.config.meaning import setting_text
from seekr_tune.config.messages import hint
from seekr_tune.errors import StudyError
from seekr_tune.records import Row, TimingRow, TrialRecord
from seekr_tune.records.meaning import Meaning, meanings_of


class Compared(Row):
    """Columns that compare configurations with each other: a ranking adds them to the rows of the ledger."""

    normalised_gain: Annotated[
        float | None,
        Meaning(unit="share of the gap", better="higher", reads=("op", "op_seqft", "op_joint"), heading="gain"),
    ]
    """(op - op_seqft) / (op_joint - op_seqft): share of the gap between the bounds that is closed; of a configuration
    the ratio of their sums over its settings; null where joint training is not better than seqft. 0 is no better than
    no replay, 1 is as good as learning all tasks at once. Beware: says nothing of the price; a small gap makes it
    noisy; needs both bounds in each order and seed; null for all where joint training is not above seqft beyond the 95
    % interval of their difference over samples, or neither is above the best constant answers: why_no_gain says
    which."""
    why_no_gain: Annotated[
        str | None, Meaning(reads=("normalised_gain", "op_sample_error", "op_margin_error", "op_floor"))
    ]
    """Why normalised_gain is null; null where it is not. A gap that the scored samples do not show cannot be closed.
    Beware: a gap of runs of an earlier version is taken as it is, for they kept no errors."""
    gain_per_replayed_sample: Annotated[
        float | None,
        Meaning(
            unit="points per sample",
            better="higher",
            reads=("op", "op_seqft", "distinct_replayed_samples"),
            heading="gain/sample",
        ),
    ]
    """(op - op_seqft) / distinct_replayed_samples; null without replay. Points above no replay that a replayed sample
    buys. Beware: noise / few samples is large: compare it with its interval only."""
    op_seqft: Annotated[float | None, Meaning(unit="%", reads=("op",), heading="seqft")]
    """op of the bound without replay, in the same stream and with the same seed. The lower bound; what replay has to
    beat."""
    op_joint: Annotated[float | None, Meaning(unit="%", reads=("op",), heading="joint")]
    """op of the bound that learns all tasks at once. The upper bound. Beware: of this recipe, not of what can be
    reached: a configuration can exceed it."""
    beats_seqft: Annotated[bool | None, Meaning(reads=("op", "op_seqft"))]
    """The 95 % interval of op - op_seqft over settings lies above 0; without an interval: op > op_seqft. False: storing
    samples may have bought nothing, whatever the rank; marked `!` in the table. Beware: below five settings it compares
    means."""
    replicates: Annotated[int, Meaning(unit="runs", reads=("status",), heading="n")]
    """Finished runs of the configuration; its numbers are means over them. How much a row rests on."""
    op_se: Annotated[float | None, Meaning(unit="points", better="lower", reads=("op",))]
    """Standard error of op: sample standard deviation over the finished runs / sqrt(replicates); null for one. Spread
    of the mean over orders, seeds and memory draws. Beware: part of it is how hard an order is for all, which cancels
    in differences: see p_best and `compare`."""
    op_low: Annotated[float | None, Meaning(unit="%", better="higher", reads=("op",))]
    """Lower end of the 95 % interval of the mean of op over settings (order, seed, memory draw), for what study.target
    declares. What op is at least, as far as the settings tell; a careful order. Beware: null below five settings, and
    where only orders differ."""
    op_high: Annotated[float | None, Meaning(unit="%", better="higher", reads=("op",))]
    """Upper end of the 95 % interval of the mean of op over settings. What op is at most, as far as the settings tell.
    Beware: as of op_low."""
    normalised_gain_low: Annotated[
        float | None, Meaning(unit="share of the gap", better="higher", reads=("normalised_gain",))
    ]
    """Lower end of Fieller's 95 % interval of normalised_gain, a ratio of two means over settings. Above 0: better than
    no replay in all that the settings tell. Beware: as of op_low."""
    normalised_gain_high: Annotated[
        float | None, Meaning(unit="share of the gap", better="higher", reads=("normalised_gain",))
    ]
    """Upper end of Fieller's 95 % interval of normalised_gain. Below 1: worse than joint training in all that the
    settings tell. Beware: as of op_low."""
    gain_per_replayed_sample_low: Annotated[
        float | None, Meaning(unit="points per sample", better="higher", reads=("gain_per_replayed_sample",))
    ]
    """Lower end of the 95 % interval of the mean of gain_per_replayed_sample over settings. Above 0: a stored sample
    buys something. Beware: as of op_low."""
    gain_per_replayed_sample_high: Annotated[
        float | None, Meaning(unit="points per sample", better="higher", reads=("gain_per_replayed_sample",))
    ]
    """Upper end of the 95 % interval of the mean of gain_per_replayed_sample over settings. What a stored sample buys
    at most. Beware: as of op_low."""
    p_best: Annotated[
        float | None, Meaning(unit="probability", better="higher", reads=("the column that orders",), heading="best")
    ]
    """Probability that its mean of the column that orders is the best of all finished configurations, given their
    values in common settings and one normal spread for all. How sure first place is. Beware: null below five common
    settings; of ten equal configurations the luckiest one has some 0.4."""
    rank: Annotated[int | None, Meaning(better="lower", reads=("the column that orders",), heading="#")]
    """Place by the column that orders, the better first; ties go to the higher op, then to the smaller key. Only
    finished configurations have one. Beware: neighbours are seldom told apart by few replicates: look at p_best and the
    intervals."""
    pareto: Annotated[bool | None, Meaning(reads=("op", "distinct_replayed_samples"), heading="front")]
    """No finished trial has op at least as high with as few distinct_replayed_samples, and one of them better. True:
    whoever has no more room for samples cannot do better; marked `*` in the table. Beware: says nothing of noise: on a
    long front some are there by luck."""
    knee: Annotated[bool | None, Meaning(reads=("pareto", "op", "distinct_replayed_samples"))]
    """The point of the front with the largest y - x, where x = log10(samples) and y = op, each scaled to [0, 1] over
    the front; of equals the one with fewest samples. Behind it more samples pay least; marked `K` in the table. Beware:
    depends on where the front ends; there is none with fewer than 3 points that have samples, or none above the
    chord."""


_ROWS = (TrialRecord, TimingRow, Measures, Sampled, Compared, StudyMeasures)
_OF_A_STUDY = ("hypervolume", "samples_to_target")
_FIELDS = {name: one for row in _ROWS for name, one in meanings_of(row).items()}

_NAMES = (*Measures.model_fields, *Sampled.model_fields, *Compared.model_fields, *_OF_A_STUDY, *COLUMNS["trials"])
METRICS = {name: _FIELDS[name] for name in _NAMES}
"""By column; `hypervolume` and `samples_to_target` are of a whole study."""

_ASKED_FOR = {"P": "pareto", **{one.heading: name for name, one in METRICS.items() if one.heading}}
"""By heading: the column that it stands above. `P` is the one of marks in the terminal's ranking."""

_FORMS = {"%": ".2f", "points": ".2f", "probability": ".2f", "share of the gap": "z.2f", "share": ".3f", "s": ".1f"}
"""How a number is rounded, by its unit; quotients have four digits, and what else there is are counts."""


def column(name: str, group: str = "") -> Column:
    """A column of the ranking as all tables for people show it; of a field of the experiment, too."""
    if name.startswith("config."):
        return setting_column(name.removeprefix("config."), name, group)
    if name not in METRICS:
        return Column(name, name.replace("_", " "), ".4g", False, f"objective {name} of your own", group, folds=False)
    metric = METRICS[name]
    form = _FORMS.get(metric.unit, ".4g" if " per " in metric.unit else COUNT)
    if (metric.unit, metric.better) == ("points", "higher"):  # a change: its sign says which way
        form = f"+z{form}"
    is_text = metric.unit == "-" and metric.better is None
    return Column(name, metric.heading or name.replace("_", " "), form, is_text, metric.formula, group, folds=False)


def setting_column(path: str, name: str | None = None, group: str = "setting") -> Column:
    """The column of a setting, headed by the end of its path; empty where a row has none."""
    heading = short_name(path).replace("_", " ")
    return Column(name or path, heading, partial(setting_text, path), False, f"searched setting {path}", group)


def more_is_better(column: str, rows: Sequence[Mapping[str, Any]] = ()) -> bool:
    """Whether a column is ordered from high to low; settings of the config and costs are not.

    Args:
        column: of the `trials` table.
        rows: of that table: an objective of the user's own has the direction that their study gives it.
    """
    if column in METRICS:
        return METRICS[column].better == "higher"
    return any(row.get(f"config.study.objectives.{column}") == "maximize" for row in rows)


def explain(name: str) -> Meaning:
    """The entry of a column, of a heading of a table, or of a number of a study.

    Raises:
        StudyError: there is none.
    """
    name = _ASKED_FOR.get(name, name)
    if name in METRICS:
        return METRICS[name]
    if name.startswith("config."):
        raise StudyError(f"{name} is a field of the experiment; `seekr-tune validate --fields` says what it does")
    raise StudyError(f"there is no metric {name!r}; {hint(name, METRICS, '`seekr-tune explain` lists them')}")
