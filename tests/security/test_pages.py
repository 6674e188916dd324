"""Markup in names, prompts and errors is shown and not obeyed: in the report, in TensorBoard, in exported tables."""

from __future__ import annotations

import json
import urllib.request
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path

import pytest

from seekr_tune.analysis.report.page import report_page
from seekr_tune.analysis.tensorboard import TrialWriter
from seekr_tune.experiment import dump_config
from seekr_tune.study.directory.report_source import report_source
from seekr_tune.study.life.tensorboard_server import open_board
from seekr_tune.study.runs.single import run_experiment
from tests.waiting import PATIENCE, wait_until

from .small import finished_run, small_config, study_of

KIND = "script injection"
MARK = "stolen='cookie'"
HOSTILE = {
    "a script": f"<script>{MARK}</script>",
    "an end of a script": f"</script><script>{MARK}</script>",
    "an image": f"<img src=x onerror={MARK}>",
    "an attribute": f'" onmouseover={MARK} x="',
    "a comment": f"<!-- <script>{MARK}",
    "an address": f"javascript:{MARK}",
    "a template": "{{ 7919 * 7919 }}{% raw %}",
}


class Obeyed(HTMLParser):
    """What a browser would obey: scripts, handlers, addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and dict(attrs).get("type") not in ("application/json",)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts.append(data)


def assert_nothing_is_obeyed(page: str) -> None:
    parser = Obeyed()
    parser.feed(page)
    assert not [script for script in parser.scripts if MARK in script]
    assert not [name for name, _ in parser.attributes if name.startswith("on")]
    assert not [value for name, value in parser.attributes if name in ("href", "src") and "javascript:" in value]
    assert "62710561" not in page, "a template of the data was rendered"


@pytest.mark.parametrize("case", HOSTILE)
def test_a_task_whose_name_and_prompts_are(tmp_path: Path, case: str) -> None:
    text = HOSTILE[case]
    task = text.replace("//", "/").strip("/")
    for split, place in (("train", 0), ("eval", 50)):
        path = tmp_path / "data" / task / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"prompt": f"{text} note {i} : apple", "answer": f"apple {text}"} for i in range(place, place + 8)]
        path.write_text(json.dumps(rows))
    sections = {"stream": {"source": "trace_json", "root": str(tmp_path / "data"), "tasks": [task]}}
    config = small_config(**sections)
    run_experiment(config, tmp_path / "run")
    study = study_of(tmp_path / "run", tmp_path / "study")
    (study / "experiment.yaml").write_text(dump_config(config))
    page = report_page(report_source(study))
    assert_nothing_is_obeyed(page)


def served(url: str) -> tuple[str, Message]:
    """What is served there, and its headers."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read().decode(), answer.headers


def test_tensorboard_serves_names_as_data(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    from seekr_tune.records import read_record

    record = read_record(run / "result.json")
    hostile = HOSTILE["a script"]
    named = json.loads(record.model_dump_json().replace('"star"', json.dumps(hostile)))
    writer = TrialWriter(tmp_path / "study <script>" / "events", steps_done=0)
    writer.log_task(type(record).model_validate(named))
    writer.close()
    (tmp_path / "study <script>" / "config.yaml").write_text("")
    with open_board({"study <script>": tmp_path / "study <script>"}, "127.0.0.1", 0) as url:
        assert url.startswith(("http://127.0.0.1:", "http://localhost:"))
        wait_until(lambda: "study" in served(f"{url}data/runs")[0], "TensorBoard has read the run")
        found = []
        for path in ("", "data/runs", "data/plugin/scalars/tags", "data/plugin/custom_scalars/layout", "data/logdir"):
            body, headers = served(f"{url}{path}")
            if "<script>stolen" in body or "study <script>" in body:
                found.append(path)
                assert headers["Content-Type"].startswith("application/json")
                assert headers["X-Content-Type-Options"] == "nosniff"
        assert "data/runs" in found, "else the test would show nothing"


def test_tables_that_are_exported(tmp_path: Path) -> None:
    from seekr_tune.analysis.table import escape_latex, escape_markdown

    for text in HOSTILE.values():
        assert "<" not in escape_markdown(text).replace("&lt;", "").replace("\\<", "")
        assert "{{" not in escape_latex(text).replace("\\{\\{", "")
