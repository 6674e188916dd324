"""What the columns are: one entry each, and the docs agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from synthetic import RecordFactory

from seekr_tune.analysis.front import StudyMeasures
from seekr_tune.analysis.glossary import METRICS, explain, more_is_better
from seekr_tune.analysis.ledger import trials_table
from seekr_tune.analysis.ranking import rank
from seekr_tune.analysis.ranking_tables import printed_ranking, terminal_ranking
from seekr_tune.errors import StudyError


def test_every_column_of_the_ranking_has_an_entry_and_nothing_else_has(make_record: RecordFactory) -> None:
    (row,) = rank(trials_table([make_record()])).rows
    columns = {name for name in row if not name.startswith("config.")}
    of_a_study = {"hypervolume", "samples_to_target"}
    assert set(METRICS) == columns | of_a_study and of_a_study < set(StudyMeasures.model_fields)


def test_what_a_metric_is_computed_from_exists(make_record: RecordFactory) -> None:
    (row,) = rank(trials_table([make_record()])).rows
    for name, metric in METRICS.items():
        for column in metric.reads:
            known = column in row or column in ("result.json", "the column that orders") or column.count(".") == 1
            assert known, f"{name} reads {column}"


def test_a_number_that_is_better_one_way_has_a_unit() -> None:
    assert {name for name, one in METRICS.items() if one.better is not None and one.unit == "-"} == {"rank"}


def test_the_docs_tell_every_number(repository: Path) -> None:
    text = (repository / "docs" / "metrics.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(\w+)`", text))
    numbers = {name for name, one in METRICS.items() if one.better is not None or one.unit != "-"}
    assert numbers - {"tasks_done"} <= told


def test_costs_are_better_when_low_and_settings_have_no_better_way() -> None:
    assert more_is_better("op") and more_is_better("gain_per_replayed_sample_low")
    for column in ("memory_bytes", "forgetting", "op_se", "config.method.memory.percent", "nothing"):
        assert not more_is_better(column)


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    assert explain("op") is METRICS["op"]
    with pytest.raises(StudyError, match="there is no metric 'hypervolum'; did you mean 'hypervolume'?"):
        explain("hypervolum")
    with pytest.raises(StudyError, match="`seekr-tune explain` lists them"):
        explain("zzzzzzz")
    with pytest.raises(StudyError, match="`seekr-tune validate --fields` says what it does"):
        explain("config.seed")


def test_a_heading_of_the_table_may_be_asked_for(make_record: RecordFactory) -> None:
    records = [
        make_record(f"trial-000{replicate}", configuration="trial-0000", replicate=replicate) for replicate in (0, 1)
    ]
    ranking = rank(trials_table(records))
    for column in (*terminal_ranking(ranking).columns, *printed_ranking(ranking, "x", "eval").columns):
        assert explain(str(column.heading)) in METRICS.values()
    assert explain("gain") is METRICS["normalised_gain"]
