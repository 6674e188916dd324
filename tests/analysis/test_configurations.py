"""Replicates: each is compared with the bounds of its own setting, then they are averaged."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from synthetic import TASKS, RecordFactory

from seekr_tune.analysis.configurations import mean, standard_error
from seekr_tune.analysis.ledger import trials_table
from seekr_tune.analysis.ranking import Ranking, rank, study_measures
from seekr_tune.analysis.ranking_tables import terminal_ranking
from seekr_tune.analysis.table import as_terminal
from seekr_tune.records import TrialRecord

Run = Callable[..., TrialRecord]


@pytest.fixture
def run(make_record: RecordFactory) -> Run:
    """`run(configuration, replicate, op, samples, seed)`: a replicate of a study of three seeds."""

    def build(
        configuration: str, replicate: int, op: float, samples: int = 10, seed: int | None = None, **fields: Any
    ) -> TrialRecord:
        seed = replicate if seed is None else seed
        draws = fields.pop("memory_draws", 1)
        study = {"replicates": {"seeds": [0, 1, 2], "memory_draws": draws}}
        return make_record(
            f"{configuration}-r{replicate}" if replicate else configuration,
            configuration=configuration,
            replicate=replicate,
            matrix=make_record.matrix(op),
            replay=make_record.replay((samples, 0, 0), presentations=2 * samples),
            config=make_record.config(seed=seed, study=study),
            **fields,
        )

    return build


def bounds(run: Run, seqft: tuple[float, ...], joint: tuple[float, ...]) -> list[TrialRecord]:
    ops = {"seqft": seqft, "joint": joint}
    return [
        run(f"bound-{name}", seed, op, 0, role="bound", method=name)
        for name, own in ops.items()
        for seed, op in enumerate(own)
    ]


def ranked(records: list[TrialRecord], by: str = "op") -> Ranking:
    return rank(trials_table(records), by)


def only(ranking: Ranking) -> dict[str, Any]:
    (row,) = ranking.rows
    return row


def test_a_configuration_is_one_row_with_the_means_of_its_replicates(run: Run) -> None:
    records = [run("trial-0000", 0, 40.0, 10, wall_seconds=1.0), run("trial-0000", 1, 50.0, 20, wall_seconds=2.0)]
    records.append(run("trial-0000", 2, 75.0, 60, wall_seconds=6.0))
    row = only(ranked(records[::-1]))
    assert (row["trial"], row["status"], row["rank"], row["replicates"]) == ("trial-0000", "finished", 1, 3)
    assert row["op"] == pytest.approx(55.0) and row["distinct_replayed_samples"] == 30 and row["wall_seconds"] == 3.0
    assert row["op_per_replayed_sample"] == pytest.approx((40 / 10 + 50 / 20 + 75 / 60) / 3)
    assert row["op_se"] == pytest.approx(statistics.stdev([40, 50, 75]) / 3**0.5)
    assert row["config.seed"] == 0  # of the first one


def test_a_gain_is_the_ratio_of_what_all_seeds_gained_and_could_have(run: Run) -> None:
    trials = [run("trial-0000", seed, op) for seed, op in enumerate((60.0, 45.0, 90.0))]
    ranking = ranked([*trials, *bounds(run, (40.0, 40.0, 80.0), (80.0, 60.0, 100.0))])
    row = only(ranking)
    assert row["normalised_gain"] == pytest.approx((20 + 5 + 10) / (40 + 20 + 20))
    assert row["op_seqft"] == pytest.approx(160 / 3) and row["op_joint"] == 80
    assert row["gain_per_replayed_sample"] == pytest.approx((20 + 5 + 10) / 3 / 10) and row["beats_seqft"] is True
    assert [(bound["trial"], bound["replicates"]) for bound in ranking.bounds] == [
        ("bound-joint", 3),
        ("bound-seqft", 3),
    ]
    assert study_measures(ranking, (1, 100)).hypervolume == pytest.approx(65 - 160 / 3)


def test_memory_draws_share_the_bounds_of_their_seed(run: Run) -> None:
    trials = [run("trial-0000", number, 60.0 + number, seed=number % 3, memory_draws=2) for number in range(6)]
    row = only(ranked([*trials, *bounds(run, (40.0,) * 3, (80.0,) * 3)]))
    assert row["status"] == "finished" and row["normalised_gain"] == pytest.approx((22.5) / 40)


def test_a_gain_is_unknown_where_that_of_a_replicate_is(run: Run) -> None:
    trials = [run("trial-0000", seed, 60.0) for seed in range(3)]
    row = only(ranked([*trials, *bounds(run, (40.0, 40.0, 40.0), (80.0, 80.0))]))
    assert row["normalised_gain"] is None and row["gain_per_replayed_sample"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("statuses", "expected", "op"),
    [
        (("finished", "finished", "finished"), "finished", 20.0),
        (("finished", "finished"), "pruned", 15.0),  # it lost the race
        (("finished", "pruned"), "pruned", 10.0),
        (("finished", "running"), "running", 10.0),
        (("finished", "failed", "running"), "failed", 10.0),
        (("pruned",), "pruned", 10.0),
    ],
)
def test_only_a_configuration_with_all_its_replicates_is_ranked(
    run: Run, statuses: tuple[str, ...], expected: str, op: float
) -> None:
    lost = [run("trial-0001", number, 10.0 * (number + 1), status=status) for number, status in enumerate(statuses)]
    ranking = ranked([*lost, *(run("trial-0000", seed, 5.0) for seed in range(3))])
    row = next(row for row in ranking.rows if row["trial"] == "trial-0001")
    assert (row["status"], row["op"]) == (expected, op)
    assert row["replicates"] == statuses.count("finished")
    assert (row["rank"], row["pareto"]) == ((1, True) if expected == "finished" else (None, None))
    assert ranking.rows[0] is row if expected == "finished" else ranking.rows[-1] is row


def test_final_runs_on_test_are_complete_whatever_the_study_tuned_on(run: Run) -> None:
    row = only(ranked([run("trial-0000", 0, 50.0, split="test")]))
    assert (row["status"], row["rank"]) == ("finished", 1)


def test_a_run_that_stands_alone_has_one_replicate_and_no_error(make_record: RecordFactory) -> None:
    row = only(ranked([make_record("mine", role="run")]))
    assert (row["trial"], row["replicates"], row["op_se"], row["op"]) == ("mine", 1, None, 75.0)


def test_the_time_that_was_spared_is_summed_over_tasks(make_record: RecordFactory) -> None:
    timing = tuple(row.model_copy(update={"shared_seconds": 0.5}) for row in make_record.timing(None, None, None))
    row = only(ranked([make_record(timing=timing)]))
    assert row["shared_seconds"] == 1.5 and len(TASKS) == 3


def test_the_table_shows_how_many_runs_a_row_is_and_its_error(run: Run) -> None:
    trials = [run("trial-0000", seed, op) for seed, op in enumerate((40.0, 50.0, 60.0))]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(as_terminal(terminal_ranking(ranked(trials))))
    text = console.export_text()
    line = next(line for line in text.splitlines() if "trial-0000" in line)
    assert "50.00 ± 5.77" in line and line.split()[:5] == ["1", "trial-0000", "3", "50.00", "±"]
    assert max(map(len, text.splitlines())) <= 120


def test_a_mean_needs_every_value_and_an_error_needs_two() -> None:
    assert mean([1.0, None]) is None and mean([]) is None and mean([1.0, 2.0]) == 1.5
    assert standard_error([1.0]) is None and standard_error([1.0, 3.0, None]) is None
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
    assert mean([7, 7]) == 7 and isinstance(mean([7, 7]), int)
