"""What a benchmark keeps, and what the page makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.markdown import BEGIN, END, with_part
from benchmarks.page import charts_of, measured_part
from benchmarks.pictures import picture_of_chart, picture_of_goals
from benchmarks.results import Curve, Figure, Results, keep, median_of_ratios, read_results

FIGURES = (
    Figure(name="step", against="plain | step", value=1.2, spread=(1.0, 1.5), goal=1.05),
    Figure(name="speed", against="by hand", value=0.98, goal=0.97, at_least=True),
    Figure(name="rate", value=5394.4, unit="tokens/s"),
    Figure(name="start", value=0.0123, unit="s", goal=1.0),
)
CURVES = (
    Curve(chart="growth", name="heads", x="heads", y="time", points=((1, 1.0), (4, 1.25))),
    Curve(chart="growth", name="layers", x="tokens", y="time", points=((2, 0.004), (16, 1.5))),
)


def results_of(directory: Path) -> Results:
    return keep("example", 90.04, FIGURES, CURVES, directory)


def test_what_is_kept_is_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = results_of(tmp_path)
    assert read_results(tmp_path) == [kept]
    written = json.loads((tmp_path / "example.json").read_text())
    assert written["seconds"] == 90.0 and written["date"] and written["device"] and written["versions"]["torch"]
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("MISSED") and not any("MISSED" in line for line in said[1:])


@pytest.mark.parametrize(
    ("value", "at_least", "misses"), [(1.1, False, True), (1.0, False, False), (0.9, True, True), (1.0, True, False)]
)
def test_a_goal_is_missed_beyond_it_only(value: float, at_least: bool, misses: bool) -> None:
    assert Figure(name="x", value=value, goal=1.0, at_least=at_least).misses == misses


def test_ratios_are_of_pairs() -> None:
    assert median_of_ratios([2.0, 30.0, 3.0], [1.0, 10.0, 1.0]) == (3.0, (2.0, 3.0))


def test_the_page_has_every_figure_with_its_goal(tmp_path: Path) -> None:
    lines = measured_part([results_of(tmp_path)], []).splitlines()
    assert "in 2 minutes" in lines[0]
    assert "| step | plain \\| step | **1.200** (1.000-1.500) | at most 1.050 |" in lines
    assert "| speed | by hand | 0.980 | at least 0.970 |" in lines
    assert "| rate | - | 5394 tokens/s |  |" in lines
    assert "| start | - | 0.0123 s | at most 1.00 s |" in lines
    assert "| tokens: layers | 2: 0.0040, 16: 1.500 |" in lines


def test_the_page_shows_the_pictures_that_there_are(tmp_path: Path) -> None:
    results = [results_of(tmp_path)]
    assert "](pictures/benchmarks/growth.svg)" in measured_part(results, ["growth"])
    assert "svg" not in measured_part(results, [])


def test_only_what_is_between_the_markers_changes() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = with_part(page, "new")
    assert new == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_part(new, "new") == new


@pytest.mark.parametrize("page", ["", BEGIN, f"{END} {BEGIN}"])
def test_a_page_without_markers_is_not_touched(page: str) -> None:
    with pytest.raises(SystemExit, match="must have a line"):
        with_part(page, "new")


def test_pictures_hold_what_was_measured(tmp_path: Path) -> None:
    goals = picture_of_goals(FIGURES)
    measured, wanted = goals.data
    assert list(measured.x) == [0.98, 1.2] and list(wanted.x) == [0.97, 1.05]  # amounts are on no common axis
    assert list(measured.error_x.array) == pytest.approx([0, 0.3])
    growth = picture_of_chart(charts_of([results_of(tmp_path)])["growth"])
    assert [list(trace.y) for trace in growth.data] == [[1.0, 1.25], [0.004, 1.5]]
    assert growth.data[1].xaxis == "x2" and growth.layout.yaxis.type == "log"
