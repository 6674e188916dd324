from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from synthetic import RecordFactory

from seekr_tune.analysis.ledger import read_table, write_ledger
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.analysis.report.figures.cost import time_figure
from seekr_tune.analysis.report.figures.heads import head_map_figure
from seekr_tune.analysis.report.figures.losses import MOST_POINTS, losses_figure
from seekr_tune.analysis.report.figures.matrices import forgetting_figure, matrix_figure
from seekr_tune.analysis.report.figures.pareto import pareto_figure
from seekr_tune.analysis.report.figures.settings import slice_figure
from seekr_tune.analysis.report.figures.style import label, log_axis, panels, short_label
from seekr_tune.analysis.spent import PARTS

NAN = math.nan
SCORES = np.array([[50.0, NAN, NAN], [40.0, 60.0, NAN], [30.0, 45.0, 90.0]])
TASKS = ("flags", "rivers", "birds")


def traces(figure: object, name: str) -> list[dict[str, object]]:
    return [trace for trace in figure.to_plotly_json()["data"] if trace.get("name") == name]  # type: ignore[attr-defined]


def test_a_label_is_shown_letter_for_letter() -> None:
    assert label("<b>a</b> & b") == "&lt;b&gt;a&lt;/b&gt; &amp; b"


def test_a_long_label_loses_its_middle_before_it_is_escaped() -> None:
    assert short_label("<" * 40) == "&lt;" * 10 + "…" + "&lt;" * 10


def test_the_matrix_has_the_scores_before_training_on_top_and_its_holes_are_empty() -> None:
    heat = matrix_figure(SCORES, TASKS, np.array([1.0, 2.0, 3.0])).data[0]
    assert heat.z.shape == (4, 3)
    assert heat.z[0].tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(heat.z[1, 1:]).all() and heat.z[3].tolist() == [30.0, 45.0, 90.0]
    assert matrix_figure(SCORES, TASKS, np.full(3, NAN)).data[0].z.shape == (3, 3)


def test_a_curve_of_forgetting_starts_when_its_task_was_learned() -> None:
    figure = forgetting_figure(SCORES, TASKS)
    assert [(list(trace.x), list(trace.y)) for trace in figure.data] == [
        ([1, 2, 3], [50.0, 40.0, 30.0]),
        ([2, 3], [60.0, 45.0]),
        ([3], [90.0]),
    ]


def test_curves_differ_in_more_than_colour() -> None:
    figure = forgetting_figure(np.tril(np.full((8, 8), 50.0)), [f"task {number}" for number in range(8)])
    assert len({(trace.line.dash, trace.marker.symbol) for trace in figure.data}) == 8


def test_every_task_has_its_map_of_heads_and_all_share_one_scale() -> None:
    values = np.arange(24.0).reshape(3, 2, 4)
    figure = head_map_figure(values, TASKS, "importance")
    assert [trace.z.tolist() for trace in figure.data] == values.tolist()
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}
    assert [title.text for title in figure.layout.annotations] == list(TASKS)


def test_a_map_of_heads_refuses_names_of_other_tasks() -> None:
    with pytest.raises(ValueError, match="values of 3 tasks, but 2 names"):
        head_map_figure(np.zeros((3, 2, 4)), TASKS[:2], "importance")


def test_panels_are_placed_anew_for_a_narrow_screen() -> None:
    figure = panels(["a", "b", "c"], columns=3, panel_height=100)
    narrow = figure.layout.meta["narrow"]
    assert [figure.layout[axis].domain[0] for axis in ("yaxis", "yaxis2", "yaxis3")] == [0, 0, 0]
    assert narrow["yaxis.domain"][0] > narrow["yaxis2.domain"][1] > narrow["yaxis3.domain"][0] == 0
    assert narrow["xaxis3.domain"] == [0.0, 1.0] and narrow["height"] > figure.layout.height
    assert narrow["annotations[0].y"] == 1.0


def test_ticks_of_a_logarithmic_axis_are_round() -> None:
    assert log_axis([3.0, 40.0])["ticktext"] == ["1", "2", "5", "10", "20", "50", "100", "200", "500"]
    assert log_axis([1.0, 10_000.0])["ticktext"] == ["1", "10", "100", "1000", "10000"]
    assert log_axis([20.0, 30.0]) == {"type": "log"}


def test_the_front_is_drawn_as_steps_through_its_members_in_order(ranking: Ranking) -> None:
    front = traces(pareto_figure(ranking), "Pareto front")[0]
    members = sorted((row["distinct_replayed_samples"], row["op"]) for row in ranking.rows if row["pareto"])
    assert len(members) == 4
    assert list(zip(front["x"], front["y"], strict=True)) == members  # type: ignore[call-overload]
    assert front["line"]["shape"] == "hv"  # type: ignore[index]


def test_points_carry_their_intervals_and_the_knee_its_ring(ranking: Ranking) -> None:
    for row in ranking.rows:
        row["op_low"], row["op_high"] = (None, None) if row["op"] is None else (row["op"] - 2, row["op"] + 3)
    figure = pareto_figure(ranking)
    replay = traces(figure, "replay")[0]
    rows = [row for row in ranking.rows if row["method"] == "replay" and row["rank"]]
    assert replay["y"] == [row["op"] for row in rows]
    above = replay["error_y"]["array"]  # type: ignore[index]
    assert above == pytest.approx([row["op_high"] - row["op"] for row in rows])
    assert traces(figure, "knee")[0]["x"] == [row["distinct_replayed_samples"] for row in ranking.rows if row["knee"]]
    assert [note.text for note in figure.layout.annotations] == ["joint training 89.5 %", "no replay 30.5 %"]


def test_what_replayed_nothing_has_no_place_over_a_logarithm(ranking: Ranking) -> None:
    ranking.rows[0]["distinct_replayed_samples"] = 0
    drawn = [x for trace in pareto_figure(ranking).data if trace.name in ("seekr", "replay") for x in trace.x]
    assert len(drawn) == 4 and min(drawn) > 0


def test_a_slice_has_the_configurations_that_have_the_setting(ranking: Ranking) -> None:
    figure = slice_figure(ranking.rows, "op")
    of_weight = [trace for trace in figure.data if trace.xaxis == "x3"]
    assert [trace.name for trace in of_weight] == ["seekr"]
    assert sorted(of_weight[0].x) == [1.0, 100.0, 10_000.0]
    assert sorted(trace.name for trace in figure.data if trace.showlegend) == ["replay", "seekr"]


def test_without_a_finished_configuration_there_is_nothing_to_slice(ranking: Ranking) -> None:
    unfinished = [row for row in ranking.rows if row["rank"] is None]
    assert slice_figure(unfinished, "op") is None


def test_a_long_run_is_thinned_to_means_of_neighbours(make_record: RecordFactory) -> None:
    rows = [step.model_dump() for step in make_record.steps(0, 3 * MOST_POINTS)]
    figure = losses_figure(pa.Table.from_pylist(rows), TASKS)
    new = traces(figure, "new steps")[0]
    assert len(new["y"]) == MOST_POINTS  # type: ignore[arg-type]
    assert new["y"][:2] == pytest.approx([(1 + 1 / 2 + 1 / 3) / 3, (1 / 4 + 1 / 5 + 1 / 6) / 3], rel=1e-3)  # type: ignore[index]


def test_losses_are_parted_by_kind_and_ends_of_tasks_are_marked(study: object) -> None:
    steps = read_table(study, "steps", ["trial-0000"])  # type: ignore[arg-type]
    figure = losses_figure(steps, TASKS)
    assert [trace.name for trace in figure.data] == [
        "new steps",
        "replay steps",
        "cross_entropy",
        "logit_distillation",
        "attention_distillation",
    ]
    assert {shape.x0 for shape in figure.layout.shapes} == {30, 70}


def test_a_term_of_another_method_is_a_curve_of_its_name(make_record: RecordFactory, tmp_path: Path) -> None:
    first, second = make_record.steps(0, 2)
    steps = {"a": [first, second.model_copy(update={"terms": {"cross_entropy": 0.5, "ewc": 0.25}})]}
    write_ledger(tmp_path, [make_record("a")], steps)
    figure = losses_figure(read_table(tmp_path, "steps"), TASKS)
    (term,) = (trace for trace in figure.data if trace.name == "ewc")
    assert list(term.x) == [2] and list(term.y) == [0.25]


def test_time_is_stacked_in_the_order_of_the_table() -> None:
    parts = {**dict.fromkeys(PARTS, 2.0), "spared": 0.0}
    figure = time_figure({"first": parts, "second": {**parts, "new": 5.0, "spared": 232.4}})
    assert list(figure.data[0].x) == [2.0, 5.0] and len(figure.data) == 7
    assert figure.layout.yaxis.categoryarray == ("second", "first")  # plotly draws from below
    assert [sum(trace.x[i] for trace in figure.data) for i in (0, 1)] == [14.0, 17.0]
    assert list(figure.data[-1].text) == ["", "+ 232 s spared"]  # beside the bar, and no part of it
    assert len({trace.marker.pattern.shape for trace in figure.data}) == 7
