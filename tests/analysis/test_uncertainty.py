"""Intervals and probabilities: against enumeration, simulation and the paired logic itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from synthetic import RecordFactory

from seekr_tune.analysis.configurations import add_gains
from seekr_tune.analysis.ledger import trials_table
from seekr_tune.analysis.ranking import Ranking, rank
from seekr_tune.analysis.uncertainty import (
    INTERVALS,
    Difference,
    Setting,
    paired_difference,
    resample_means,
    share_of_best,
    study_differences,
)
from seekr_tune.records import TrialRecord

Run = Callable[..., TrialRecord]


@pytest.fixture
def runs(make_record: RecordFactory) -> Callable[..., list[TrialRecord]]:
    """`runs(key, ops, samples, role, method)`: one run for each seed of a study of as many seeds."""

    def build(key: str, ops: list[float], samples: int = 10, of: int | None = None, **fields: Any) -> list[TrialRecord]:
        study = {"replicates": {"seeds": list(range(of or len(ops)))}}
        return [
            make_record(
                f"{key}-r{seed}" if seed else key,
                configuration=key,
                replicate=seed,
                matrix=make_record.matrix(op),
                replay=make_record.replay((samples, 0, 0)),
                config=make_record.config(seed=seed, study=study),
                **fields,
            )
            for seed, op in enumerate(ops)
        ]

    return build


def ranked(records: list[TrialRecord], by: str = "op") -> Ranking:
    return rank(trials_table(records), by)


def by_key(ranking: Ranking) -> dict[str, dict[str, Any]]:
    return {row["trial"]: row for row in (*ranking.rows, *ranking.bounds)}


def setting(seed: int) -> Setting:
    return Setting(("a",), seed, 0, "eval")


def test_an_interval_of_three_settings_is_the_range_of_its_values(runs: Callable[..., list[TrialRecord]]) -> None:
    """Widened for n = 3, the tail is far below the chance 1/27 of drawing the smallest value three times."""
    row = by_key(ranked(runs("a", [40.0, 50.0, 75.0])))["a"]
    assert (row["op_low"], row["op_high"]) == pytest.approx((40.0, 75.0))


def test_one_run_has_no_interval_and_no_probability(runs: Callable[..., list[TrialRecord]]) -> None:
    row = by_key(ranked([*runs("a", [40.0]), *runs("b", [50.0])]))["a"]
    assert [row[name] for name in (*INTERVALS, "p_best")] == [None] * 7


def test_intervals_of_gains_are_those_of_gains_within_each_seed(runs: Callable[..., list[TrialRecord]]) -> None:
    bounds = [
        *runs("bound-seqft", [40.0, 20.0, 30.0], 0, role="bound", method="seqft"),
        *runs("bound-joint", [80.0, 60.0, 70.0], 0, role="bound", method="joint"),
    ]
    rows = by_key(ranked([*runs("a", [50.0, 40.0, 60.0]), *bounds]))
    gains = [10 / 40, 20 / 40, 30 / 40]
    assert (rows["a"]["normalised_gain_low"], rows["a"]["normalised_gain_high"]) == pytest.approx(
        (min(gains), max(gains))
    )
    assert rows["a"]["gain_per_replayed_sample_low"] == pytest.approx(1.0)
    assert rows["bound-seqft"]["op_low"] == 20 and rows["bound-seqft"]["p_best"] is None


def test_a_configuration_without_a_bound_in_one_seed_has_no_interval_of_its_gain(
    runs: Callable[..., list[TrialRecord]],
) -> None:
    bounds = runs("bound-seqft", [40.0, 20.0], 0, of=3, role="bound", method="seqft")
    row = by_key(ranked([*runs("a", [50.0, 40.0, 60.0]), *bounds]))["a"]
    assert row["op_low"] == 40 and row["gain_per_replayed_sample_low"] is None


def test_the_probability_of_being_best_is_that_of_all_resamples(runs: Callable[..., list[TrialRecord]]) -> None:
    ops = {"a": [50.0, 60.0, 10.0, 40.0], "b": [45.0, 52.0, 30.0, 41.0], "c": [44.0, 70.0, 12.0, 20.0]}
    wins = dict.fromkeys(ops, 0.0)
    for drawn in itertools.product(range(4), repeat=4):
        sums = {key: sum(values[number] for number in drawn) for key, values in ops.items()}
        best = [key for key, total in sums.items() if total == max(sums.values())]
        for key in best:
            wins[key] += 1 / len(best) / 4**4
    rows = by_key(ranked([record for key, values in ops.items() for record in runs(key, values)]))
    for key, share in wins.items():
        assert rows[key]["p_best"] == pytest.approx(share, abs=0.02)
    assert sum(row["p_best"] for row in rows.values()) == pytest.approx(1)


def test_what_all_settings_share_does_not_blur_who_is_best(runs: Callable[..., list[TrialRecord]]) -> None:
    """b is better than a by 1 in every seed; the seeds differ by 60. Unpaired, nobody could tell them apart."""
    hard = [10.0, 30.0, 50.0, 70.0]
    rows = by_key(ranked([*runs("a", hard), *runs("b", [op + 1 for op in hard])]))
    assert (rows["a"]["p_best"], rows["b"]["p_best"]) == (0, 1)
    assert rows["a"]["op_low"] < rows["b"]["op_low"] < rows["a"]["op_high"]


def test_equals_share_the_first_place(runs: Callable[..., list[TrialRecord]]) -> None:
    values = [10.1, 33.3, 50.7]
    rows = by_key(ranked([*runs("a", values), *runs("b", values), *runs("c", [1.0, 2.0, 3.0])]))
    assert (rows["a"]["p_best"], rows["b"]["p_best"], rows["c"]["p_best"]) == (0.5, 0.5, 0)


def test_who_lost_the_race_has_an_interval_of_its_own_runs_and_does_not_compete(
    runs: Callable[..., list[TrialRecord]],
) -> None:
    lost = runs("lost", [90.0, 95.0], of=3)
    rows = by_key(ranked([*lost, *runs("a", [50.0, 40.0, 60.0]), *runs("b", [55.0, 30.0, 50.0])]))
    assert rows["lost"]["status"] == "pruned" and rows["lost"]["p_best"] is None
    assert (rows["lost"]["op_low"], rows["lost"]["op_high"]) == pytest.approx((90.0, 95.0))
    assert rows["a"]["p_best"] + rows["b"]["p_best"] == pytest.approx(1)


def test_costs_are_best_when_low_and_what_no_run_has_has_no_probability(
    runs: Callable[..., list[TrialRecord]],
) -> None:
    records = [*runs("cheap", [50.0, 40.0], samples=5), *runs("dear", [60.0, 45.0], samples=50)]
    rows = by_key(ranked(records, "distinct_replayed_samples"))
    assert (rows["cheap"]["p_best"], rows["dear"]["p_best"]) == (1, 0)
    assert by_key(ranked(records, "op_se"))["cheap"]["p_best"] is None


def test_the_same_ledger_gives_the_same_numbers(runs: Callable[..., list[TrialRecord]]) -> None:
    records = [*runs("a", [50.0, 40.0, 61.0, 44.0, 47.0]), *runs("b", [49.0, 45.0, 60.0, 30.0, 52.0])]
    assert by_key(ranked(records)) == by_key(ranked(records))
    turned = by_key(ranked(records[::-1]))
    assert turned["a"]["p_best"] == pytest.approx(by_key(ranked(records))["a"]["p_best"])


def test_all_configurations_are_read_at_the_same_drawn_settings() -> None:
    values = np.array([[1.0, 5.0, 2.0, 8.0], [2.0, 6.0, 3.0, 9.0]])
    means = resample_means(values).means
    assert np.allclose(means[1] - means[0], 1.0)


def test_without_the_widening_the_interval_is_that_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(50, 5, 12)
    monkeypatch.setattr("seekr_tune.analysis.uncertainty._widened", lambda num_settings: 0.95)
    ours = resample_means(values[None])
    theirs = bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert (ours.low[0], ours.high[0]) == pytest.approx((theirs.low, theirs.high), abs=0.15)


@pytest.mark.parametrize(("num_settings", "lowest", "highest"), [(2, 0.46, 0.55), (6, 0.92, 0.98), (12, 0.93, 0.97)])
def test_intervals_cover_the_true_mean_as_often_as_they_say(num_settings: int, lowest: float, highest: float) -> None:
    """1500 studies with normal spread: 95 % nominal; with two settings no more than half, as the docs say."""
    drawn = np.random.default_rng(11).normal(50, 8, (1500, num_settings))
    resampled = resample_means(drawn)  # one draw of settings for all, and independent values: coverage is unbiased
    covered = float(((resampled.low <= 50) & (resampled.high >= 50)).mean())
    assert lowest <= covered <= highest


def test_a_paired_difference_by_hand() -> None:
    a = {setting(0): 50.0, setting(1): 40.0, setting(2): 99.0}
    b = {setting(1): 41.0, setting(0): 45.0, setting(7): 0.0}
    difference = paired_difference(a, b)
    assert (difference.mean, difference.low, difference.high, difference.n) == (2.0, -1.0, 5.0, 2)
    assert difference.p_better == pytest.approx(
        0.75, abs=0.02
    )  # of (5, 5), (5, -1), (-1, 5), (-1, -1) three are above 0
    assert paired_difference(a, b, more_is_better=False).p_better == pytest.approx(0.25, abs=0.02)


def test_a_difference_needs_settings_in_common() -> None:
    a, b = {setting(0): 50.0}, {setting(1): 40.0}
    assert paired_difference(a, b) == Difference(None, None, None, 0, None)
    assert paired_difference(a, a) == Difference(0.0, None, None, 1, None)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=6))
def test_a_difference_turns_its_sign_with_its_sides(values: list[tuple[float, float]]) -> None:
    a = {setting(seed): one for seed, (one, _) in enumerate(values)}
    b = {setting(seed): other for seed, (_, other) in enumerate(values)}
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.mean == pytest.approx(-(back.mean or 0)) and there.low == pytest.approx(-(back.high or 0))
    assert (there.p_better or 0) + (back.p_better or 0) == pytest.approx(1)
    assert (there.low or 0) <= (there.mean or 0) + 1e-9 and (there.mean or 0) - 1e-9 <= (there.high or 0)


def test_two_studies_are_compared_where_method_and_settings_agree(runs: Callable[..., list[TrialRecord]]) -> None:
    def rows(records: list[TrialRecord]) -> list[dict[str, Any]]:
        made = trials_table(records).to_pylist()
        add_gains(made)
        return made

    one, two = {"method.memory.percent": 1.0, "recipe.epochs": 2}, {"method.memory.percent": 2.0}
    first = rows([*runs("trial-0000", [50.0, 60.0], params=one), *runs("trial-0001", [1.0, 2.0], params=two)])
    turned = dict(reversed(one.items()))
    second = rows([*runs("trial-0000", [9.0, 9.0], params={}), *runs("trial-0005", [45.0, 57.0], params=turned)])
    (found,) = study_differences(first, second, "op")
    assert (found.first, found.second, found.method) == ("trial-0000", "trial-0005", "seekr")
    assert (found.difference.mean, found.difference.n) == (4.0, 2)


def test_the_share_of_the_best_is_shared_by_ties() -> None:
    means = np.array([[1.0, 2.0, 3.0, 5.0], [1.0, 3.0, 2.0, 5.0], [0.0, 0.0, 0.0, 5.0]])
    assert share_of_best(means).tolist() == pytest.approx([(0.5 + 1 + 1 / 3) / 4, (0.5 + 1 + 1 / 3) / 4, 1 / 12])
