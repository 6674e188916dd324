"""What the best configurations cost: Pareto front, its knee, hypervolume and samples to target.

All of them look at finished configurations as points over OP (percent, more is better) and distinct replayed samples
(fewer is better); where a configuration has replicates, both are means over them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, NamedTuple

from seekr_tune.errors import StudyError
from seekr_tune.records import Row
from seekr_tune.records.meaning import Meaning


class Outcome(NamedTuple):
    """A finished configuration as a point: what it reached, and how many samples it replayed."""

    op: float
    samples: float


class StudyMeasures(Row):
    """Numbers of a whole study; null where the bounds or finished trials that they need are missing."""

    hypervolume: Annotated[
        float | None,
        Meaning(unit="% x decades", better="higher", reads=("op", "distinct_replayed_samples", "op_seqft")),
    ]
    """Integral over x = log10(samples), over study.sample_range, of max(0, best op of the configurations with at most
    10^x distinct_replayed_samples - mean op of the seqft bounds). One number for a whole front. Beware: compare studies
    only with the same declared range, stream and bounds; without one it is the range seen."""
    sample_range: tuple[float, float] | None
    """Range of distinct replayed samples that the hypervolume covers; null where none was declared and finished
    configurations do not differ in their samples."""
    samples_to_target: Annotated[
        Mapping[float, float | None],
        Meaning(unit="samples", better="lower", reads=("normalised_gain", "distinct_replayed_samples")),
    ]
    """Fewest distinct_replayed_samples of a configuration whose normalised_gain reaches 60, 75, 90 %. The price of most
    of what joint training has over no replay; null where nobody reached it. Beware: the cheapest of many noisy ones
    reaches a target early by luck."""


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """At least as good in every gain (more is better), and better in one."""
    pairs = list(zip(one, other, strict=True))
    return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)


def on_front(gains: Collection[Sequence[float]]) -> list[bool]:
    """Whether no other point dominates each of these; equals share the front."""
    return [not any(dominates(other, one) for other in gains) for one in gains]


def pareto_front(outcomes: Sequence[Outcome]) -> list[bool]:
    """Whether each outcome is on the front over OP (more is better) and samples (fewer is better)."""
    return on_front([(outcome.op, -outcome.samples) for outcome in outcomes])


def knee(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The point of the front behind which more samples pay least: the one that lies highest above the front's chord.

    With x = log10(samples) and y = op, both scaled to [0, 1] over the front, the chord between its ends is y = x, and
    the distance to it is (y - x) / sqrt(2). The knee is the point with the largest y - x; of equals, the one with
    fewest samples. None where the front has fewer than 3 different points with samples, or none above the chord.

    Source: Satopaa et al. 2011 (Kneedle), without its smoothing: a front rises already.
    """
    on_front = {one for one, is_on in zip(outcomes, pareto_front(outcomes), strict=True) if is_on}
    points = sorted((one for one in on_front if one.samples > 0), key=_by_samples)
    if len(points) < 3:
        return None
    first, last = points[0], points[-1]
    rise, run = last.op - first.op, math.log10(last.samples / first.samples)
    heights = [(p.op - first.op) / rise - math.log10(p.samples / first.samples) / run for p in points]
    highest = max(heights)
    return points[heights.index(highest)] if highest > 1e-9 else None  # on the chord up to rounding is not above it


def hypervolume(outcomes: Sequence[Outcome], sample_range: tuple[float, float], reference_op: float) -> float:
    """Area between the front and the reference OP over log10(samples), in percent times decades.

    At each x of the range the front's height is the best OP of the outcomes with at most 10^x samples. An outcome
    below the range (0 samples too) counts from its start; one above the range does not count.

    Args:
        outcomes: OP in percent and distinct replayed samples of finished configurations.
        sample_range: lowest and highest number of samples, 0 < lowest < highest.
        reference_op: OP in percent that is worth nothing, such as that of seqft.

    Raises:
        StudyError: the range is not one.
    """
    low, high = sample_range
    if not 0 < low < high:
        raise StudyError(f"sample range [{low}, {high}] must have 0 < lowest < highest; give another range")
    area, best = 0.0, reference_op
    inside = sorted(outcome for outcome in map(_by_samples, outcomes) if outcome[0] <= high)
    edges = [math.log10(max(samples, low)) for samples, _ in inside] + [math.log10(high)]
    for (_, op), (start, end) in zip(inside, pairwise(edges), strict=True):
        best = max(best, op)
        area += (best - reference_op) * (end - start)
    return area


def samples_to_target(gains: Sequence[tuple[float, float]], share: float) -> float | None:
    """Fewest samples that closed at least `share` of the gap between the bounds; None where nothing did.

    Args:
        gains: normalised gain and distinct replayed samples of finished configurations.
        share: the target, 0.75 for 75 % of the gap.
    """
    return min((samples for gain, samples in gains if gain >= share), default=None)


def _by_samples(outcome: Outcome) -> tuple[float, float]:
    return outcome.samples, outcome.op
