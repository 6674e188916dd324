"""A study that learned nothing is presented as a result nowhere, and a good one is called void nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic import TASKS, RecordFactory
from worths import prospects, study

from seekr_tune.analysis.final import final_rows, final_warnings
from seekr_tune.analysis.ledger import write_ledger
from seekr_tune.analysis.report.page import report_page
from seekr_tune.cli import main
from seekr_tune.config import Config
from seekr_tune.experiment import dump_config
from seekr_tune.records import TrialRecord, write_record
from seekr_tune.study.directory.layout import result_path
from seekr_tune.study.directory.provenance import keep_provenance
from seekr_tune.study.directory.report_source import report_source
from seekr_tune.study.final.export import chosen_run
from seekr_tune.study.life.status import study_status

SPACE = "method.memory.percent: {type: float, low: 1, high: 10, log: true}\n"


def written(directory: Path, records: list[TrialRecord]) -> Path:
    config = Config.model_validate({"name": "by-hand", "stream": {"tasks": TASKS}, "study": {"trials": 3}})
    write_ledger(directory, records, {})
    (directory / "experiment.yaml").write_text(dump_config(config))
    (directory / "space.yaml").write_text(SPACE)
    for record in records:
        path = result_path(directory, record.trial)
        path.parent.mkdir(parents=True)
        write_record(path, record)
    return directory


@pytest.fixture
def void(make_record: RecordFactory, tmp_path: Path) -> Path:
    """What was reported as closing 90 % of the gap: all prompts are cut, and one constant answer has 20 %."""
    rows = prospects(prompts_cut=1.0, longest_prompt=600)
    return written(tmp_path / "void", study(make_record, 3.8, 12.9, 12.0, error=2.0, rows=rows))


@pytest.fixture
def good(make_record: RecordFactory, tmp_path: Path) -> Path:
    return written(tmp_path / "good", study(make_record, 10.0, 80.0, 70.0))


def shown(directory: Path) -> str:
    """The sections of the report, without its scripts."""
    page = report_page(report_source(directory))
    return page[page.index('<section id="summary"') : page.index('id="figure-template"')]


MEND = "NOT LEARNED, in % just after learning: flags (11.5, one constant answer 20.0), rivers (11.5, one constant"
CUT = "prompts are cut on the left: flags (100 %), rivers (100 %), birds (100 %); raise recipe.max_prompt_tokens"


@pytest.mark.parametrize("command", [["rank"], ["rank", "--tasks"], ["status"]], ids=" ".join)
def test_commands_say_once_what_is_wrong_and_name_no_best(
    command: list[str], void: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], str(void), *command[1:]]) == 0
    lines = capsys.readouterr().out.splitlines()
    warned = [line for line in lines if "WARNING" in line]
    assert [sum(text in line for line in warned) for text in ("No task was learned", MEND, CUT)] == [1, 1, 1]
    assert len(warned) == 3 and max(map(len, warned)) < 250
    assert sum("NOT LEARNED" in line and "WARNING" not in line for line in lines) == 3  # the table of the tasks
    claims = ("hypervolume 1", "fewest samples", "best op", "Pareto front (")
    assert not any(claim in line for line in lines for claim in claims)
    assert not any(line.split()[:2] == ["1", "t0"] for line in lines)  # no rank


@pytest.mark.parametrize("format", ["json", "csv"])
def test_what_programs_read_keeps_its_form_and_has_the_reason(
    format: str, void: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rank", str(void), "--format", format]) == 0
    told = capsys.readouterr()
    assert "WARNING" not in told.out and MEND in told.err
    assert told.err.count("No task was learned") == 1
    assert told.out.count("neither joint training (12.9 %)") == 3


def test_the_report_claims_nothing(void: Path) -> None:
    page = shown(void)
    for claim in ("of the gap to joint training (", "It beats", "Best by", "Its knee", "On the front"):
        assert claim not in page
    assert page.index("No task was learned") < page.index(MEND) < page.index("Searched: ")
    assert page.count('<table id="worth-table"') == 1


def test_a_comparison_and_printed_tables_repeat_it(
    void: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(good), str(void)]) == 0
    told = capsys.readouterr()
    text = " ".join((told.out + told.err).split())
    assert "has no finished configuration" not in text
    assert "WARNING: void: No task was learned" in text and "WARNING: good" not in text
    assert main(["compare", str(good), str(void), "--format", "json"]) == 0
    sides = json.loads(capsys.readouterr().out)["studies"]
    assert [(side["name"], side["best"], side["op"]) for side in sides] == [("good", "t0", 70.0), ("void", None, None)]
    for table in ("ranking", "tasks"):
        to = tmp_path / f"{table}.md"
        assert main(["export", str(void), "--table", table, "--to", str(to)]) == 0
        assert "NOT LEARNED" in to.read_text()


def test_status_and_export_name_no_best(void: Path, good: Path) -> None:
    assert (study_status(void).best, study_status(void).front) == (None, {})
    assert study_status(good).best == "t0" and "t0" in study_status(good).front
    assert "no better than another: no task was learned" in chosen_run(void, None).why
    assert chosen_run(good, None).why == "best in tuning"


def test_accepted_changes_stand_above_all_results(
    good: Path, void: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "changed and accepted on 2026-11-30: data flags train"
    keep_provenance(good, {"Changes": {"2026-11-30T10:00:00+00:00 data flags train": "a -> b"}})
    page = shown(good)
    assert page.index(note) < page.index("Searched: ")
    for command in (["status"], ["rank"], ["rank", "--tasks"], ["rank", "--format", "json"], ["compare", str(void)]):
        assert main([command[0], str(good), *command[1:]]) == 0
        told = capsys.readouterr()
        (line,) = [line for line in (told.out + told.err).splitlines() if note in line]
        assert "WARNING: " in line
    to = tmp_path / "table.md"
    assert main(["export", str(good), "--table", "ranking", "--to", str(to)]) == 0
    assert f"WARNING: {note}" in to.read_text()


def test_final_tables_have_no_gain_and_the_reason(make_record: RecordFactory) -> None:
    records = [
        TrialRecord.from_json(record.to_json().replace('"split":"eval"', '"split":"test"'))
        for record in study(make_record, 3.8, 12.9, 12.0, error=2.0)
    ]
    rows = final_rows(records, ["t0", "t1"], {})
    assert {row.estimates["normalised_gain"].mean for row in rows} == {None}
    assert [line.split(":")[0] for line in final_warnings(records)][:2] == ["no task was learned", "no gain"]


@pytest.mark.parametrize("command", ["rank", "status"])
def test_a_good_study_is_not_called_void(command: str, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(good)]) == 0
    told = capsys.readouterr().out
    assert "WARNING" not in told and "NOT LEARNED" not in told and told.count("  learned") >= 3


def test_the_report_of_a_good_study_has_its_gain(good: Path) -> None:
    page = shown(good)
    assert "of the gap to joint training (" in page and "WARNING" not in page and "NOT LEARNED" not in page
