from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from reported import ERROR, HOSTILE, NUM_FINISHED, study_records, write_study

from seekr_tune.analysis.ledger import read_table, read_trials
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.analysis.report.columns import ranking_table
from seekr_tune.analysis.report.embed import script_json
from seekr_tune.analysis.report.page import report_page
from seekr_tune.analysis.report.runs import matrices, read_runs, shown_runs
from seekr_tune.analysis.report.source import Final
from seekr_tune.analysis.report.summary import caveats, findings
from seekr_tune.analysis.report.texts import count, settings
from seekr_tune.analysis.table import rounded
from seekr_tune.cli import main
from seekr_tune.errors import StudyError
from seekr_tune.foreign_text import duration
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.report_source import report_source


class Outline(HTMLParser):
    """What a browser would make of a page: its elements, its text, and the content of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def test_names_and_errors_of_the_data_are_text_and_never_markup(outline: Outline) -> None:
    assert HOSTILE in outline.text and ERROR in outline.text
    assert outline.all("img") == []
    plotly, own = outline.scripts[-2:]
    assert "plotly.js v" in plotly[:200] and "seekrReport" in own  # these two, and data: nothing else is run
    assert all(json.loads(script) for script in outline.scripts[:-2])
    assert len([one for one in outline.all("script") if one.get("type") != "application/json"]) == 2


def test_json_in_a_script_keeps_its_values_and_cannot_end_it() -> None:
    values = ["</script>", "<!--", "&amp;", "\u2028"]
    text = script_json(json.dumps(values, ensure_ascii=False))
    assert json.loads(text) == values
    assert not set("<>&\u2028") & set(text)


def test_nothing_is_loaded_from_elsewhere(outline: Outline) -> None:
    assert not [one for _, one in outline.elements if {"src", "srcset"} & one.keys()]
    assert {(one.get("href") or "")[:1] for _, one in outline.elements if "href" in one} == {"#"}
    policy = next(one["content"] for one in outline.all("meta") if one.get("http-equiv"))
    assert policy is not None and "default-src 'none'" in policy


def test_the_page_has_the_outline_that_screen_readers_go_by(outline: Outline) -> None:
    tags = [tag for tag, _ in outline.elements]
    assert [tags.count(tag) for tag in ("header", "nav", "main", "h1")] == [1, 1, 1, 1]
    ids = [one["id"] for _, one in outline.elements if "id" in one]
    assert len(ids) == len(set(ids))
    assert {(one["href"] or "")[1:] for one in outline.all("a")} <= set(ids)
    for canvas in (one for _, one in outline.elements if "data-figure" in one):
        assert set((canvas["aria-labelledby"] or "").split()) <= set(ids)
    assert tags.count("caption") == tags.count("table")


def test_every_section_stands_in_its_order(outline: Outline) -> None:
    sections = [one["id"] for one in outline.all("section")]
    assert sections == "summary ranking pareto scores settings heads losses cost protocol provenance".split()


def test_every_heading_of_the_table_tells_its_formula_and_so_does_the_glossary(page: str, ranking: Ranking) -> None:
    columns = ranking_table(ranking).columns
    table = page[page.index("<thead>") : page.index("</thead>")]
    assert len(re.findall(r'<button type="button" title="[^"]+">', table)) == len(columns)
    glossary = page[page.index('<dl class="glossary">') :]
    assert all(f"<dt>{column.heading}</dt>" in glossary for column in columns)


def test_the_four_readings_of_replayed_samples_have_a_column_each(ranking: Ranking) -> None:
    table = ranking_table(ranking)
    readings = ("distinct_replayed_samples", "stored_samples", "replay_presentations", "replay_tokens", "memory_bytes")
    assert [column.name for column in table.columns if column.group == "replay"] == list(readings)
    best = {column.name: text for column, text, _ in table.html(table.rows[table.num_references])}
    assert [best[reading] for reading in readings] == ["120", "120", "20", "400", "12,000"]


def test_a_column_without_any_value_is_left_out(ranking: Ranking) -> None:
    for row in ranking.rows:
        row["fwt"] = None
    for row in ranking.bounds:
        row["fwt"] = None
    assert "fwt" not in [column.name for column in ranking_table(ranking).columns]


def test_what_does_not_beat_no_replay_is_marked(ranking: Ranking) -> None:
    table = ranking_table(ranking)
    marked = {row["trial"]: row["notes"] for row in table.rows[table.num_references :] if row["notes"]}
    assert marked == {"trial-0004": ("not above no replay",), "trial-0006": (f"error: {ERROR}",)}


def test_a_missing_value_is_sorted_by_nothing(ranking: Ranking) -> None:
    table = ranking_table(ranking)
    failed = next(row for row in table.rows if row["status"] == "failed")
    (cell,) = [(text, key) for column, text, key in table.html(failed) if column.name == "op"]
    assert cell == ("–", "")


def test_the_summary_names_the_best_the_front_and_the_knee(study: Path, ranking: Ranking) -> None:
    text = " ".join(findings(ranking, [], report_source(study).config)).replace("\N{NO-BREAK SPACE}", " ")
    assert "7 configurations of 7 so far, each over up to 2 replicates (1 order x 2 seeds x 1 memory draw)" in text
    assert "5 finished, 1 pruned, 1 failed, 0 running" in text
    assert "Best by op: trial-0002 (seekr; replay_percent 4.5, attention_weight 100) with op 83.5 %" in text
    assert "(no interval: 2 runs), n = 2, for 120 distinct replayed samples" in text
    assert "beats the bound without replay (83.5 % against 30.5 %) and closes 90 % of the gap" in text
    assert "trial-0004 (29.5 % for 6), trial-0000 (61.5 % for 12), trial-0001 (76.5 % for 30)" in text
    assert "Its knee, behind which more samples pay least, is trial-0000" in text


def test_the_caveats_say_what_the_study_cannot(ranking: Ranking) -> None:
    text = " ".join(caveats(ranking, "tuned on eval; test sealed")).replace("\N{NO-BREAK SPACE}", " ")
    assert "Tuned on eval; test sealed." in text
    assert "Of 2 replicates there is no interval: they are too few to tell, 5 are needed." in text
    assert "1 configuration did not do better than no replay" in text
    told = " ".join(caveats(replace(ranking, shown_above=(1, 4)), "tuned on eval")).replace("\N{NO-BREAK SPACE}", " ")
    assert "shown to differ from 1 of 4 others (docs/metrics.md): the study does not tell it from the rest." in told


def test_one_run_each_is_a_caveat_and_has_no_interval(tmp_path: Path) -> None:
    texts = [record.to_json() for record in study_records() if record.replicate == 0]
    single = [TrialRecord.from_json(text.replace('"seeds":[0,1]', '"seeds":[]')) for text in texts]
    source = report_source(write_study(tmp_path, single))
    page = report_page(source).replace("\N{NO-BREAK SPACE}", " ")
    assert "one run only" in page and "(no interval: 1 run)" in page


def test_the_runs_of_the_best_and_of_the_bounds_are_shown_best_first(study: Path, ranking: Ranking) -> None:
    runs = shown_runs(ranking, read_trials(study).to_pylist())
    assert [run.key for run in runs[:4]] == ["trial-0002", "trial-0002-r1", "trial-0001", "trial-0001-r1"]
    assert len(runs) == 2 * (NUM_FINISHED + 2)
    scores, initial = matrices(read_runs(study, runs).scores, runs[0])
    assert scores[2].tolist() == [80.0, 82.0, 84.0] and initial.tolist() == [10.0, 20.0, 5.0]


def test_a_study_without_a_finished_configuration_has_a_report(tmp_path: Path) -> None:
    running = [record.model_copy(update={"status": "running"}) for record in study_records()[-2:]]
    page = report_page(report_source(write_study(tmp_path, running)))
    assert "No configuration has finished yet, so there is no best one." in page
    assert "No searched setting has a finished configuration yet." in page


def test_a_study_without_any_run_has_a_report(tmp_path: Path) -> None:
    page = report_page(report_source(write_study(tmp_path, [])))
    assert "No run has scores yet." in page


def test_the_final_table_stands_under_its_opening(study: Path) -> None:
    estimate = {"mean": 71.25, "error": 1.5}
    row = {"configuration": "trial-0002", "role": "trial", "method": "seekr", "n": 3, "tuned": 83.5}
    table = {"by": "op", "rule": "best 1 by op", "rows": [{**row, "estimates": {"op": estimate}}]}
    source = replace(
        report_source(study),
        openings=("2026-11-27: trial-0002",),
        finals=(Final("Final result, test opened 2026-11-27", table), Final("Again", None)),
    )
    text = " ".join(Outline(report_page(source)).text.split())
    assert "71.25 ± 1.50––––83.5" in text and "Again Its runs are not done yet." in text


def test_the_command_writes_the_page_and_says_where(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(study)]) == 0
    path = study / "report" / "index.html"
    assert capsys.readouterr().out.split() == [str(path)]
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [one.name for one in path.parent.iterdir()] == ["index.html"]


def test_the_command_writes_elsewhere_when_asked(study: Path, tmp_path: Path) -> None:
    assert main(["report", str(study), "--out", str(tmp_path / "new" / "page.html")]) == 0
    assert (tmp_path / "new" / "page.html").is_file()


def test_what_is_no_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no study" in capsys.readouterr().err


def test_a_study_without_a_ledger_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path)
    (tmp_path / "ledger" / "trials.parquet").unlink()
    with pytest.raises(StudyError, match="holds no results yet"):
        report_page(report_source(tmp_path))


def test_numbers_are_written_as_people_read_them() -> None:
    assert [count(value) for value in (None, 12, 12.5, 1234.5)] == ["-", "12", "12.5", "1,234"]
    assert [duration(seconds) for seconds in (3.21, 119, 125, 7300)] == ["3.21 s", "119 s", "2.08 min", "2.03 h"]
    assert [rounded(value) for value in (None, float("nan"), 0.123456)] == ["-", "-", "0.1235"]
    assert settings({"method.name": "seekr", "method.memory.percent": 1.23456}) == "replay_percent 1.235"


def test_the_ledger_reads_the_rows_of_some_runs_as_it_reads_all(study: Path) -> None:
    some = read_table(study, "heads", ["trial-0000", "trial-0002-r1"])
    every = read_table(study, "heads").to_pylist()
    assert some.to_pylist() == [row for row in every if row["trial"] in ("trial-0000", "trial-0002-r1")]
    assert read_table(study, "heads", []).num_rows == 0
