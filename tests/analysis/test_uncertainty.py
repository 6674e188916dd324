"""What is said of configurations and their differences: whom an interval is of, and when there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from synthetic import RecordFactory

from seekr_tune.analysis.configurations import add_gains
from seekr_tune.analysis.inference import Setting
from seekr_tune.analysis.ledger import trials_table
from seekr_tune.analysis.ranking import Ranking, rank
from seekr_tune.analysis.uncertainty import INTERVALS, paired_difference, study_differences
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


def test_fewer_than_five_settings_have_no_interval_and_no_probability(runs: Callable[..., list[TrialRecord]]) -> None:
    rows = by_key(ranked([*runs("a", [40.0, 50.0, 60.0, 70.0]), *runs("b", [50.0, 50.0, 60.0, 71.0])]))
    assert [rows["a"][name] for name in (*INTERVALS, "p_best")] == [None] * 7
    assert rows["a"]["op"] == 55.0 and rows["a"]["replicates"] == 4


def test_an_interval_is_students_of_the_seeds(runs: Callable[..., list[TrialRecord]]) -> None:
    ops = [40.0, 50.0, 75.0, 60.0, 55.0]
    row = by_key(ranked(runs("a", ops)))["a"]
    expected = ttest_1samp(ops, 0).confidence_interval()
    assert (row["op_low"], row["op_high"]) == pytest.approx((expected.low, expected.high))


def test_a_gain_is_a_ratio_of_sums_and_a_gap_that_may_be_none_has_no_gain(
    runs: Callable[..., list[TrialRecord]],
) -> None:
    def of(ops: list[float], joint: list[float]) -> dict[str, Any]:
        seqft = runs("bound-seqft", [10.0] * len(ops), 0, role="bound", method="seqft")
        return by_key(ranked([*runs("a", ops), *seqft, *runs("bound-joint", joint, 0, role="bound", method="joint")]))[
            "a"
        ]

    assert of([26.0, 12.0], [30.0, 12.0])["normalised_gain"] == pytest.approx(18 / 22)  # the mean of ratios is 0.9
    told = of([26.0, 12.0, 20.0, 21.0, 19.0], [30.0, 12.0, 31.0, 30.0, 29.0])
    assert told["normalised_gain"] == pytest.approx(48 / 82)
    assert told["normalised_gain_low"] < 48 / 82 < told["normalised_gain_high"]
    unsure = of([26.0, 12.0, 20.0, 21.0, 19.0], [90.0, 12.0, 11.0, 10.0, 1.0])
    assert (
        unsure["normalised_gain"] is None and "gap between joint training and no replay has 0" in unsure["why_no_gain"]
    )


def test_who_may_be_no_better_than_no_replay_does_not_beat_it(runs: Callable[..., list[TrialRecord]]) -> None:
    seqft = runs("bound-seqft", [40.0, 50.0, 45.0, 55.0, 50.0], 0, role="bound", method="seqft")
    clear, unsure = [45.0, 56.0, 50.0, 61.0, 55.0], [60.0, 30.0, 70.0, 50.0, 52.0]
    rows = by_key(ranked([*runs("clear", clear), *runs("unsure", unsure), *seqft]))
    assert rows["unsure"]["op"] > rows["bound-seqft"]["op"]
    assert (rows["clear"]["beats_seqft"], rows["unsure"]["beats_seqft"]) == (True, False)
    few = by_key(
        ranked([*runs("unsure", unsure[:2]), *runs("bound-seqft", [40.0, 44.0], 0, role="bound", method="seqft")])
    )
    assert few["unsure"]["beats_seqft"] is True  # by its mean, where nothing better is known


def test_what_all_settings_share_does_not_blur_who_is_best(runs: Callable[..., list[TrialRecord]]) -> None:
    """b is better than a by 1 in every seed; the seeds differ by 60. Unpaired, nobody could tell them apart."""
    hard = [10.0, 30.0, 50.0, 70.0, 20.0]
    rows = by_key(ranked([*runs("a", hard), *runs("b", [op + 1 for op in hard])]))
    assert (rows["a"]["p_best"], rows["b"]["p_best"]) == (0, 1)
    assert rows["a"]["op_low"] < rows["b"]["op_low"] < rows["a"]["op_high"]


def test_equals_share_the_first_place(runs: Callable[..., list[TrialRecord]]) -> None:
    values = [10.1, 33.3, 50.7, 20.0, 30.0]
    rows = by_key(ranked([*runs("a", values), *runs("b", values)]))
    assert (rows["a"]["p_best"], rows["b"]["p_best"]) == (0.5, 0.5)


def test_who_lost_the_race_has_an_interval_of_its_own_runs_and_does_not_compete(
    runs: Callable[..., list[TrialRecord]],
) -> None:
    five = [50.0, 40.0, 60.0, 45.0, 52.0]
    lost = runs("lost", five, of=6)
    rows = by_key(ranked([*lost, *runs("a", [*five, 41.0]), *runs("b", [*five[::-1], 42.0])]))
    assert rows["lost"]["status"] == "pruned" and rows["lost"]["p_best"] is None
    assert rows["lost"]["op_low"] < 49.4 < rows["lost"]["op_high"]
    assert rows["a"]["p_best"] + rows["b"]["p_best"] == pytest.approx(1)


def test_costs_are_best_when_low_and_what_no_run_has_has_no_probability(
    runs: Callable[..., list[TrialRecord]],
) -> None:
    records = [
        *runs("cheap", [50.0, 40.0, 41.0, 42.0, 43.0], samples=5),
        *runs("dear", [60.0, 45.0, 41.0, 42.0, 43.0], samples=50),
    ]
    rows = by_key(ranked(records, "distinct_replayed_samples"))
    assert (rows["cheap"]["p_best"], rows["dear"]["p_best"]) == (1, 0)
    assert by_key(ranked(records, "op_se"))["cheap"]["p_best"] is None


def test_the_same_ledger_gives_the_same_numbers(runs: Callable[..., list[TrialRecord]]) -> None:
    records = [*runs("a", [50.0, 40.0, 61.0, 44.0, 47.0]), *runs("b", [49.0, 45.0, 60.0, 30.0, 52.0])]
    assert by_key(ranked(records)) == by_key(ranked(records))
    turned = by_key(ranked(records[::-1]))
    assert turned["a"]["p_best"] == pytest.approx(by_key(ranked(records))["a"]["p_best"])


def test_a_difference_is_of_the_settings_that_both_have() -> None:
    a = {setting(seed): 50.0 + seed for seed in range(6)}
    b = {setting(seed): 49.0 for seed in range(1, 9)}
    found = paired_difference(a, b, "these_orders")
    assert (found.mean, found.n, found.levels) == (4.0, 5, 5)
    assert paired_difference({setting(0): 1.0}, b, "these_orders").mean is None


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=5, max_size=7))
def test_a_difference_turns_its_sign_with_its_sides(values: list[tuple[float, float]]) -> None:
    a = {setting(seed): one for seed, (one, _) in enumerate(values)}
    b = {setting(seed): other for seed, (_, other) in enumerate(values)}
    there, back = paired_difference(a, b, "these_orders"), paired_difference(b, a, "these_orders")
    assert there.mean == pytest.approx(-(back.mean or 0)) and there.low == pytest.approx(-(back.high or 0))
    assert there.p_flip == back.p_flip and there.p_t == pytest.approx(back.p_t or 0.0)
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
    (found,) = study_differences(first, second, "op", "these_orders")
    assert (found.first, found.second, found.method) == ("trial-0000", "trial-0005", "seekr")
    assert (found.difference.mean, found.difference.n) == (4.0, 2)
