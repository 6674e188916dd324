from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from synthetic import RecordFactory

from seekr_tune.analysis.ledger import trials_table
from seekr_tune.analysis.ranking import Ranking, rank, study_measures
from seekr_tune.errors import StudyError
from seekr_tune.records import TrialRecord


@pytest.fixture
def trial(make_record: RecordFactory) -> Callable[..., TrialRecord]:
    """`trial(key, op, samples, **fields)`: a finished trial with that OP and that many stored samples."""

    def build(key: str, op: float, samples: int, **fields: Any) -> TrialRecord:
        replay = make_record.replay((samples, 0, 0), presentations=2 * samples)
        return make_record(key, matrix=make_record.matrix(op), replay=replay, **fields)

    return build


def ranked(records: list[TrialRecord], by: str = "op_per_replayed_sample") -> Ranking:
    return rank(trials_table(records), by)


def keys(ranking: Ranking) -> list[str]:
    return [row["trial"] for row in ranking.rows]


def by_key(ranking: Ranking) -> dict[str, dict[str, Any]]:
    return {row["trial"]: row for row in (*ranking.rows, *ranking.bounds)}


def test_the_literal_quotient_crowns_the_smallest_memory_and_the_gain_does_not(
    trial: Callable[..., TrialRecord],
) -> None:
    records = [
        trial("none-learned", 10.0, 1),
        trial("useful", 60.0, 10),
        trial("s", 20.0, 0, method="seqft", role="bound"),
        trial("j", 80.0, 0, method="joint", role="bound"),
    ]
    assert keys(ranked(records)) == ["none-learned", "useful"]
    assert keys(ranked(records, "gain_per_replayed_sample")) == ["useful", "none-learned"]
    rows = by_key(ranked(records))
    assert rows["none-learned"]["beats_seqft"] is False and rows["useful"]["beats_seqft"] is True
    assert rows["none-learned"]["normalised_gain"] == pytest.approx(-10 / 60)


def test_trials_that_did_not_finish_come_last_without_rank(trial: Callable[..., TrialRecord]) -> None:
    records = [
        trial("failed", 99.0, 1, status="failed", error="out of memory"),
        trial("pruned", 99.0, 1, status="pruned"),
        trial("running", 99.0, 1, status="running"),
        trial("done", 10.0, 10),
    ]
    ranking = ranked(records)
    assert keys(ranking) == ["done", "running", "pruned", "failed"]
    assert [row["rank"] for row in ranking.rows] == [1, None, None, None]
    assert [row["pareto"] for row in ranking.rows] == [True, None, None, None]


def test_a_trial_without_replay_has_no_quotient_and_ranks_after_those_with_one(
    trial: Callable[..., TrialRecord],
) -> None:
    ranking = ranked([trial("none", 90.0, 0, method="seqft"), trial("some", 1.0, 1000)])
    assert keys(ranking) == ["some", "none"]
    assert [row["rank"] for row in ranking.rows] == [1, 2]
    assert by_key(ranking)["none"]["gain_per_replayed_sample"] is None


def test_ties_go_to_the_higher_score_and_then_to_the_smaller_key(trial: Callable[..., TrialRecord]) -> None:
    records = [trial("c", 10.0, 2), trial("b", 20.0, 4), trial("a", 10.0, 2)]
    assert keys(ranked(records)) == keys(ranked(records[::-1])) == ["b", "a", "c"]


def test_costs_are_better_when_lower_and_scores_when_higher(trial: Callable[..., TrialRecord]) -> None:
    records = [trial("cheap", 10.0, 2, wall_seconds=1.0), trial("good", 20.0, 40, wall_seconds=9.0)]
    for column in ("distinct_replayed_samples", "replay_presentations", "memory_bytes", "wall_seconds"):
        assert keys(ranked(records, column)) == ["cheap", "good"], column
    assert keys(ranked(records, "op")) == ["good", "cheap"]


def test_any_number_of_the_config_may_order_the_trials(
    trial: Callable[..., TrialRecord], make_record: RecordFactory
) -> None:
    records = [trial(str(p), 10.0, 2, config=make_record.config(method={"replay_percent": p})) for p in (5, 1, 3)]
    assert keys(ranked(records, "config.method.memory.percent")) == ["1", "3", "5"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("op_per_sample", "trials have no column 'op_per_sample'; did you mean 'op_per_replayed_sample'?"),
        ("gain", "trials have no column 'gain'; give one of tasks_done, op, bwt"),
        ("status", "trials cannot be ranked by 'status', which is not a number; give one of"),
        ("pareto", "trials have no column 'pareto'; "),
    ],
)
def test_a_column_that_cannot_rank_is_refused_with_a_way_out(column: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        rank(trials_table([]), column)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bounds_count_only_where_seed_tasks_and_split_agree(
    trial: Callable[..., TrialRecord], make_record: RecordFactory
) -> None:
    def bound(key: str, method: str, op: float, seed: int, **fields: Any) -> TrialRecord:
        return trial(key, op, 0, method=method, role="bound", config=make_record.config(seed=seed), **fields)

    records = [
        trial("seed-0", 60.0, 10, config=make_record.config(seed=0)),
        trial("seed-1", 60.0, 10, config=make_record.config(seed=1)),
        trial("seed-2", 60.0, 10, config=make_record.config(seed=2)),
        trial("test", 60.0, 10, config=make_record.config(seed=0), split="test"),
        bound("s0", "seqft", 40.0, 0),
        bound("j0", "joint", 80.0, 0),
        bound("s1", "seqft", 50.0, 1),
        bound("j1", "joint", 99.0, 1, status="failed"),
    ]
    rows = by_key(ranked(records))
    assert rows["seed-0"]["normalised_gain"] == pytest.approx(0.5)
    assert rows["seed-0"]["gain_per_replayed_sample"] == pytest.approx(2.0)
    assert rows["seed-1"]["normalised_gain"] is None
    assert rows["seed-1"]["gain_per_replayed_sample"] == pytest.approx(1.0)
    for key in ("seed-2", "test"):
        assert [rows[key][name] for name in ("normalised_gain", "beats_seqft")] == [None, None]
    assert rows["s0"]["normalised_gain"] == 0 and rows["j0"]["normalised_gain"] == 1


def test_joint_training_is_no_competitor_on_the_front(trial: Callable[..., TrialRecord]) -> None:
    rows = by_key(ranked([trial("joint", 90.0, 0, method="joint", role="run"), trial("seekr", 60.0, 10, role="run")]))
    assert rows["joint"]["pareto"] is None and rows["seekr"]["pareto"] is True


def test_an_empty_study_has_no_numbers() -> None:
    ranking = rank(trials_table([]))
    assert ranking.rows == () and ranking.bounds == ()
    study = study_measures(ranking, (10, 100))
    assert study.hypervolume is None and set(study.samples_to_target.values()) == {None}


def test_one_that_does_not_beat_no_replay_is_marked_wherever_it_ranks(trial: Callable[..., TrialRecord]) -> None:
    bounds = [trial("s", 20.0, 0, method="seqft", role="bound")]
    ranking = ranked([trial("worse", 19.0, 1), trial("equal", 20.0, 2), trial("better", 21.0, 90), *bounds])
    assert [(row["trial"], row["beats_seqft"]) for row in ranking.rows] == [
        ("worse", False),
        ("equal", False),
        ("better", True),
    ]


def test_conditions_say_who_is_compared(trial: Callable[..., TrialRecord], make_record: RecordFactory) -> None:
    def config(name: str) -> dict[str, Any]:
        return make_record.config(method={"name": name})

    records = [
        trial("r", 60.0, 10, method="replay", config=config("replay")),
        trial("s1", 50.0, 10, config=config("seekr")),
        trial("s2", 55.0, 40, config=config("seekr")),
        trial("bound", 20.0, 0, method="seqft", role="bound"),
    ]
    every = rank(trials_table(records), "op")
    assert [(row["trial"], row["rank"], row["pareto"]) for row in every.rows] == [
        ("r", 1, True),
        ("s2", 2, False),
        ("s1", 3, False),
    ]
    ours = rank(trials_table(records), "op", ["method.name=seekr"])
    assert [(row["trial"], row["rank"], row["pareto"]) for row in ours.rows] == [("s2", 1, True), ("s1", 2, True)]
    assert [row["trial"] for row in ours.bounds] == ["bound"]
    on_front = rank(trials_table(records), "op", ["pareto=true", "rank<=1"])
    assert [row["trial"] for row in on_front.rows] == ["r"]
    assert rank(trials_table(records), "op", ["method.name=seekr", "op>50"]).rows[0]["trial"] == "s2"


def test_the_range_of_the_hypervolume_is_declared_or_that_of_the_study(trial: Callable[..., TrialRecord]) -> None:
    bound = trial("s", 20.0, 0, method="seqft", role="bound")
    ranking = ranked([trial("a", 30.0, 10), trial("b", 50.0, 1000), bound])
    study = study_measures(ranking)
    assert study.sample_range == (10, 1000) and study.hypervolume == pytest.approx(10 * 2)  # b only at its very end
    assert study_measures(ranking, (10, 10_000)).hypervolume == pytest.approx(10 * 2 + 30 * 1)
    alone = study_measures(ranked([trial("a", 30.0, 10), bound]))
    assert (alone.sample_range, alone.hypervolume) == (None, None)


def budgets(make_record: RecordFactory, *values: float) -> list[TrialRecord]:
    return [
        make_record(
            f"trial-{number:04d}",
            role="trial",
            config=make_record.config(method={"head_budget": value}),
            params={"method.seekr.head_budget": value},
            matrix=make_record.matrix(50.0 + number),
        )
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("head_budget=1", ["trial-0000"]),
        ("head_budget=1.0", ["trial-0001"]),
        ("head_budget!=1", ["trial-0001", "trial-0002", "trial-0003"]),
        ("head_budget<=64", ["trial-0000", "trial-0003"]),
        ("head_budget>=0.5", ["trial-0001", "trial-0002"]),
    ],
)
def test_a_condition_keeps_counts_and_shares_apart(
    make_record: RecordFactory, condition: str, expected: list[str]
) -> None:
    table = trials_table(budgets(make_record, 1, 1.0, 0.5, 64))
    assert sorted(row["trial"] for row in rank(table, "op", [condition]).rows) == expected


def test_an_order_of_shares_alone_may_be_written_either_way(make_record: RecordFactory) -> None:
    table = trials_table(budgets(make_record, 0.25, 1.0, 0.5))
    assert [row["trial"] for row in rank(table, "op", ["head_budget<1"]).rows] == ["trial-0002", "trial-0000"]


def test_configurations_are_ranked_by_a_budget_of_one_kind_only(make_record: RecordFactory) -> None:
    column = "config.method.seekr.head_budget"
    ranked_shares = rank(trials_table(budgets(make_record, 1.0, 0.25)), column).rows
    assert [row[column] for row in ranked_shares] == [0.25, 1.0]
    with pytest.raises(StudyError, match="a count in some and a share in others"):
        rank(trials_table(budgets(make_record, 1, 1.0)), column)
