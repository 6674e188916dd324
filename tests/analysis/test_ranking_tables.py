from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from rich.console import Console
from synthetic import RecordFactory

from seekr_tune.analysis.hyperparameters import Importance, importance_table
from seekr_tune.analysis.ledger import trials_table
from seekr_tune.analysis.ranking import Ranking, rank, study_measures
from seekr_tune.analysis.ranking_tables import json_rows, study_lines, terminal_ranking, whole_ranking
from seekr_tune.analysis.table import Table, as_csv, as_terminal, json_text, records

PROMISED = (
    "trial status method op bwt distinct_replayed_samples replay_presentations op_per_replayed_sample wall_seconds "
    "config semantics"
).split()


@pytest.fixture
def ranking(make_record: RecordFactory) -> Ranking:
    params = {
        "method.memory.percent": 3.0,
        "method.seekr.head_budget": 0.125,
        "method.seekr.attention_weight": 1234.56789,
        "method.seekr.selection": "forgettability",
        "recipe.replay_batch_size": 16,
    }
    config = make_record.config(method={"replay_percent": 3.0, "head_budget": 0.125})
    return rank(
        trials_table(
            [
                make_record("0000-published", params=params, config=config),
                make_record("0001", params=params, replay=make_record.replay((100_000, 100_000, 0), 5_000_000)),
                make_record("0002", params=params, status="pruned", tasks_done=1, scores=()),
                make_record("bound-seqft", role="bound", method="seqft", replay=(), matrix=make_record.matrix(50.0)),
                make_record("bound-joint", role="bound", method="joint", replay=(), matrix=make_record.matrix(100.0)),
            ]
        )
    )


def rendered(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(as_terminal(table))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_terminal_table_fits_120_columns_and_cuts_no_number(ranking: Ranking) -> None:
    text = rendered(terminal_ranking(ranking), 120)
    assert max(map(len, text.splitlines())) <= 120
    assert "…" not in text
    for shown in "0000-published 75.00 -20.00 200000 10000000 12.5 0.50 0.000375 pruned bound-seqft".split():
        assert shown in text
    first, second = (next(line for line in text.splitlines() if key in line) for key in ("0000-", "0001"))
    assert first.count("*") == 1 and second.count("*") == 0
    assert text.index("0000-published") < text.index("0001") < text.index("0002")


def test_the_terminal_table_shows_the_formula_and_the_column_that_ranks(
    ranking: Ranking, make_record: RecordFactory
) -> None:
    text = " ".join(rendered(terminal_ranking(ranking), 200).split())
    assert "op_per_replayed_sample = op / distinct_replayed_samples" in text
    by_memory = rank(trials_table([make_record()]), "memory_bytes")
    shown = rendered(terminal_ranking(by_memory), 120)
    assert "memory" in shown and "bytes" in shown and "600" in shown


def test_json_rows_hold_what_is_promised(ranking: Ranking) -> None:
    rows = json.loads(json_text(json_rows(ranking)), parse_constant=pytest.fail)
    assert [row["trial"] for row in rows] == ["0000-published", "0001", "0002"]
    assert (rows[0]["op_seqft"], rows[0]["op_joint"]) == (50, 100)
    assert all(set(PROMISED) <= set(row) for row in rows)
    assert rows[0]["config"]["method"]["memory"]["percent"] == 3.0
    assert rows[0]["params"]["method.seekr.selection"] == "forgettability"
    assert rows[0]["op"] == 75 and rows[0]["pareto"] is True and rows[0]["normalised_gain"] == 0.5
    assert rows[2]["op"] is None and rows[2]["rank"] is None
    assert not any(name.startswith("config.") for name in rows[0])


def test_nan_is_null_in_json(ranking: Ranking) -> None:
    ranking.rows[0]["fwt"] = float("nan")
    assert json.loads(json_text(json_rows(ranking)), parse_constant=pytest.fail)[0]["fwt"] is None


def test_csv_holds_every_column_of_every_trial(ranking: Ranking) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv([whole_ranking(ranking)]))))
    assert len(rows) == 3 and set(rows[0]) == set(ranking.rows[0])
    assert list(rows[0])[:2] == ["rank", "trial"]
    assert rows[0]["op"] == "75.0" and rows[0]["config.method.memory.percent"] == "3.0" and rows[2]["op"] == ""
    assert json.loads(rows[0]["tasks"]) == ranking.rows[0]["tasks"]


def test_an_empty_study_has_an_empty_table() -> None:
    empty = rank(trials_table([]))
    assert json.loads(json_text(json_rows(empty))) == []
    assert as_csv([whole_ranking(empty)]).count("\n") == 1
    assert "Ranked by" in rendered(terminal_ranking(empty), 120)


def test_each_searched_setting_has_a_column_of_its_own(ranking: Ranking) -> None:
    line = next(line for line in rendered(terminal_ranking(ranking), 160).splitlines() if "0000-published" in line)
    assert line.split()[-7:] == ["3", "0.125", "1235", "forgettability", "16", *line.split()[-2:]]


def test_marks_tell_the_front_and_who_does_not_beat_no_replay(make_record: RecordFactory) -> None:
    def trial(key: str, op: float, samples: int) -> Any:
        return make_record(key, matrix=make_record.matrix(op), replay=make_record.replay((samples, 0, 0)))

    bound = make_record("bound-seqft", role="bound", method="seqft", replay=(), matrix=make_record.matrix(50.0))
    records = [trial("idle", 49.0, 1), trial("few", 60.0, 10), trial("bend", 79.0, 100), trial("many", 80.0, 1000)]
    ranked_rows = rank(trials_table([*records, bound]), "op")
    lines = rendered(terminal_ranking(ranked_rows), 120).splitlines()
    marks = {key: next(line for line in lines if f" {key} " in line) for key in ("idle", "few", "bend", "many")}
    assert "*!" in marks["idle"] and "!" not in marks["few"] and "*" in marks["many"]
    (knee,) = [row["trial"] for row in ranked_rows.rows if row["knee"]]
    assert "*K" in marks[knee] and "! op is not above that of no replay" in "\n".join(lines)


def test_the_numbers_of_the_study_stand_below_where_there_are_bounds(ranking: Ranking) -> None:
    declared = study_lines(study_measures(ranking, (1, 1000)), True)
    assert declared[0].startswith("hypervolume ") and "over 1 to 1000 samples (study.sample_range)" in declared[0]
    seen = study_lines(study_measures(ranking), False)
    assert "declare study.sample_range to compare" in seen[0]
    assert study_lines(study_measures(rank(trials_table([]))), False) == []


def test_importances_for_people_and_programs() -> None:
    found = [
        Importance("method.memory.percent", 0.75, 0.5, 1.0, 0.02, 10, -0.5),
        Importance("method.name", 0.25, 0, 0.5, 0.4, 9, None),
    ]
    table = importance_table(found, "op", "mdi")
    text = rendered(table, 120)
    assert "0.75  0.50  1.00  0.02  10   -0.50" in text and "90%" in text
    assert json.loads(json_text(records(table)))[1]["effect"] is None
    (first, second) = csv.DictReader(io.StringIO(as_csv([table])))
    assert (first["path"], first["importance"], second["effect"]) == ("method.memory.percent", "0.75", "")


def test_a_share_is_printed_as_one(make_record: RecordFactory) -> None:
    table = trials_table(
        [
            make_record(
                f"trial-{number:04d}",
                config=make_record.config(method={"head_budget": value}),
                params={"method.seekr.head_budget": value},
            )
            for number, value in enumerate((1, 1.0))
        ]
    )
    shown = terminal_ranking(rank(table, "op"))
    (column,) = [one for one in shown.columns if one.heading == "head budget"]
    assert [column.text(row[column.name]) for row in shown.rows] == ["1", "1.0"]
