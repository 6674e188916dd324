from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from synthetic import FULL, NAN, TASKS, RecordFactory
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.hparams import backend_context, list_session_groups
from tensorboard.plugins.hparams.api_pb2 import ListSessionGroupsRequest, Status

from seekr_tune.analysis.tensorboard import CHARTS, HPARAM_METRICS, TrialWriter, hparam_values
from seekr_tune.records import TrialRecord


def curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar curve of a trial, as (x, y) points."""
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def so_far(make_record: RecordFactory, done: int) -> TrialRecord:
    """The record after `done` tasks of the matrix `FULL`."""
    matrix = [row if index < done else [NAN] * 3 for index, row in enumerate(FULL)]
    status = "finished" if done == 3 else "running"
    return make_record(matrix=matrix, tasks_done=done, status=status)


def test_losses_are_split_by_kind_and_counted_over_the_stream(make_record: RecordFactory, tmp_path: Path) -> None:
    with TrialWriter(tmp_path) as writer:
        for row in make_record.steps(0, 2) + make_record.steps(1, 2):  # the loop may count each task from 1
            writer.log_step(row)
    read = curves(tmp_path)
    assert read["loss/new"] == [(1, 1.0), (2, 0.5), (3, 1.0)]
    assert read["loss/replay"] == [(4, 0.5)]
    assert read["replay/cross_entropy"] == [(4, 0.5)]
    assert read["replay/logit_distillation"] == [(4, 0.25)]
    assert read["replay/attention_distillation"] == [(4, 0.125)]
    assert read["train/grad_norm"] == [(step, 1.5) for step in (1, 2, 3, 4)]
    assert read["throughput/tokens_per_second"] == [(step, 64 / 0.5) for step in (1, 2, 3, 4)]
    assert [round(rate, 9) for _, rate in read["train/learning_rate"]] == [1e-3] * 4


def test_terms_of_any_method_are_curves_of_their_names(make_record: RecordFactory, tmp_path: Path) -> None:
    first, second = make_record.steps(0, 2)
    with TrialWriter(tmp_path) as writer:
        writer.log_step(first)
        writer.log_step(
            second.model_copy(update={"terms": {"ewc": 0.25}, "weights": {"ewc": 8.0}, "shares": {"ewc": 1.0}})
        )
    read = curves(tmp_path)
    assert (read["new/ewc"], read["weight/ewc"], read["gradient_share/ewc"]) == ([(2, 0.25)], [(2, 8.0)], [(2, 1.0)])


def test_scores_op_and_bwt_are_those_of_the_tasks_learned_so_far(make_record: RecordFactory, tmp_path: Path) -> None:
    with TrialWriter(tmp_path) as writer:
        for done in (1, 2, 3):
            writer.log_task(so_far(make_record, done))
    read = curves(tmp_path)
    assert read["score/flags"] == [(0, 10.0), (1, 90.0), (2, 70.0), (3, 60.0)]
    assert read["score/birds"] == [(0, 5.0), (1, 10.0), (2, 15.0), (3, 95.0)]
    assert read["op"] == [(1, 90.0), (2, 75.0), (3, 75.0)]
    assert read["bwt"] == [(2, -20.0), (3, -20.0)]


def test_time_and_memory_of_each_task_are_curves(make_record: RecordFactory, tmp_path: Path) -> None:
    timing = make_record.timing(None, 0.25)
    with TrialWriter(tmp_path) as writer:
        for done in (1, 2):
            writer.log_task(make_record(tasks_done=done, timing=timing[:done]))
    read = curves(tmp_path)
    assert read["time/new"] == [(1, 0.75), (2, 1.5)] and read["time/replay"] == [(1, 0.25), (2, 0.5)]
    assert read["time/distillation"] == [(1, 0.125), (2, 0.25)] and read["time/teacher"] == [(1, 0.5), (2, 0.5)]
    assert read["time/evaluation"] == [(1, 3.0), (2, 3.0)] and read["time/checkpoint"] == [(1, 0.0625), (2, 0.0625)]
    assert [round(peak / 1e9, 6) for _, peak in read["memory/peak_bytes"]] == [1.0, 1.0]
    assert read["throughput/flops_utilisation"] == [(2, 0.25)]


def test_scores_that_were_not_evaluated_leave_no_point(make_record: RecordFactory, tmp_path: Path) -> None:
    diagonal = [[90.0, NAN, NAN], [NAN, 80.0, NAN], [60.0, 70.0, 95.0]]
    with TrialWriter(tmp_path) as writer:
        for done in (1, 2, 3):
            writer.log_task(make_record(matrix=diagonal, tasks_done=done))
    read = curves(tmp_path)
    assert read["score/rivers"] == [(0, 20.0), (2, 80.0), (3, 70.0)]
    assert read["op"] == [(1, 90.0), (3, 75.0)] and read["bwt"] == [(3, -20.0)]
    assert read["own"] == [(1, 90.0), (2, 80.0), (3, 95.0)]  # the score of the task just learned is always known


def test_steps_of_an_unfinished_task_appear_once_after_a_resume(make_record: RecordFactory, tmp_path: Path) -> None:
    with TrialWriter(tmp_path) as killed:
        for row in make_record.steps(0, 3):
            killed.log_step(row)
        killed.log_task(so_far(make_record, 1))
        for row in make_record.steps(1, 2, first=4):
            killed.log_step(row.model_copy(update={"learning_rate": 99.0}))
    with TrialWriter(tmp_path, steps_done=3) as resumed:
        for row in make_record.steps(1, 3, first=4):
            resumed.log_step(row)
        resumed.log_task(so_far(make_record, 2))
    read = curves(tmp_path)
    assert [step for step, _ in read["train/learning_rate"]] == [1, 2, 3, 4, 5, 6]
    assert max(rate for _, rate in read["train/learning_rate"]) < 1
    assert read["score/flags"] == [(0, 10.0), (1, 90.0), (2, 70.0)] and read["op"] == [(1, 90.0), (2, 75.0)]


def test_one_step_a_task_is_enough_to_keep_the_finished_tasks(make_record: RecordFactory, tmp_path: Path) -> None:
    with TrialWriter(tmp_path) as killed:
        killed.log_step(make_record.steps(0, 1)[0])
        killed.log_task(so_far(make_record, 1))
    with TrialWriter(tmp_path, steps_done=1) as resumed:
        resumed.log_step(make_record.steps(1, 1, first=2)[0])
    assert curves(tmp_path)["op"] == [(1, 90.0)] and curves(tmp_path)["train/grad_norm"] == [(1, 1.5), (2, 1.5)]


def test_a_start_from_the_beginning_drops_everything_before(make_record: RecordFactory, tmp_path: Path) -> None:
    for _ in range(2):
        with TrialWriter(tmp_path) as writer:
            writer.log_step(make_record.steps(0, 1)[0])
    assert curves(tmp_path)["loss/new"] == [(1, 1.0)]


def ended(make_record: RecordFactory, root: Path, trial: str, config: dict[str, Any], **fields: Any) -> TrialRecord:
    record = make_record(trial, config=make_record.config(**config), **fields)
    writer = TrialWriter(root / trial / "events")
    writer.log_step(make_record.steps(0, 1)[0])
    writer.close(record)
    return record


def hparams_tab(root: Path) -> tuple[set[str], list[str], dict[str, tuple[dict[str, Any], dict[str, float]]]]:
    """What TensorBoard's own HParams backend shows: settings, results, and both of each run, sorted by OP."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(root))
    runs.Reload()
    tab = backend_context.Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(root))))
    context = RequestContext()
    columns = tab.experiment_from_metadata(context, "", True, tab.hparams_metadata(context, ""), [])
    request = ListSessionGroupsRequest(slice_size=100, allowed_statuses=[Status.Value("STATUS_SUCCESS")])
    request.col_params.add(metric={"tag": "hparam/op"}, order="ORDER_DESC")
    groups = list_session_groups.Handler(context, tab, "", request).run().session_groups
    cells = {
        group.name: (
            {name: MessageToDict(value) for name, value in group.hparams.items()},
            {metric.name.tag: metric.value for metric in group.metric_values},
        )
        for group in groups
    }
    return {info.name for info in columns.hparam_infos}, [info.name.tag for info in columns.metric_infos], cells


def test_two_trials_show_their_settings_and_results_in_the_same_columns(
    make_record: RecordFactory, tmp_path: Path
) -> None:
    params = {"method.memory.percent": 3.0, "method.seekr.query_budget": None, "stream.limits.train": 8}
    stream = {"tasks": TASKS, "limits": {"train": 8}}
    first = {"method": {"replay_percent": 3.0, "query_budget": None}, "stream": stream}
    second = {"method": {"selection": "random"}, "recipe": {"reset_optimizer": True}}
    ended(make_record, tmp_path, "0000", first, params=params, replay=())
    ended(make_record, tmp_path, "0001", second, matrix=make_record.matrix(80.0))
    settings, results, cells = hparams_tab(tmp_path)
    assert list(cells) == ["0001/events", "0000/events"]
    (one, one_results), (zero, zero_results) = cells.values()
    # The first run searched a limit and has the query budget off: the columns must hold both settings all the same.
    assert {"stream.limits.train", "method.seekr.query_budget"} <= settings and set(one) | set(zero) <= settings
    assert zero["method.memory.percent"] == 3.0 and one["method.memory.percent"] == 1.0
    assert "method.seekr.query_budget" not in zero and one["method.seekr.query_budget"] == 100
    assert zero["stream.limits.train"] == 8 and "study.trials" not in settings
    assert one["method.seekr.selection"] == "random" and one["recipe.reset_optimizer"] == 1
    assert results == [f"hparam/{name}" for name in HPARAM_METRICS]
    assert one_results["hparam/op"] == 80 and one_results["hparam/op_per_replayed_sample"] == pytest.approx(80 / 6)
    assert zero_results["hparam/op"] == 75 and "hparam/op_per_replayed_sample" not in zero_results


def test_a_trial_that_failed_early_still_has_its_settings(make_record: RecordFactory, tmp_path: Path) -> None:
    record = ended(make_record, tmp_path, "0000", {}, status="failed", scores=(), replay=(), tasks_done=0, error="out")
    assert hparam_values(record)["status"] == "failed"
    read = curves(tmp_path / "0000" / "events")
    assert "hparam/op" not in read and read["hparam/wall_seconds"] == [(0, 12.5)]


def test_joint_training_is_one_stage_with_the_scores_before_and_after(
    make_record: RecordFactory, tmp_path: Path
) -> None:
    matrix = [[NAN] * 3, [NAN] * 3, [60.0, 70.0, 80.0]]
    with TrialWriter(tmp_path) as writer:
        writer.log_task(make_record(method="joint", matrix=matrix, replay=()))
    read = curves(tmp_path)
    assert read["score/flags"] == [(0, 10.0), (3, 60.0)] and read["op"] == [(3, 70.0)] and "bwt" not in read


def test_a_bound_shows_no_setting_that_it_does_not_read(make_record: RecordFactory) -> None:
    searched = {"method.seekr.attention_weight": 5.0, "recipe.learning_rate": 0.5}
    shown = {name: hparam_values(make_record(method=name, params=searched)) for name in ("seqft", "derpp", "seekr")}
    assert (
        not {"method.memory.percent", "method.seekr.attention_weight", "recipe.replay_batch_size"}
        & shown["seqft"].keys()
    )
    assert {"recipe.learning_rate", "seed", "method.name"} <= shown["seqft"].keys()
    assert shown["derpp"].keys() - shown["seqft"].keys() == {
        *("method.memory.percent", "method.derpp.logit_weight", "recipe.replay_batch_size")
    }
    assert {"method.seekr.attention_weight", "method.seekr.head_budget"} <= shown["seekr"].keys() - shown[
        "derpp"
    ].keys()


def layout(root: Path) -> dict[str, dict[str, list[str]]]:
    """The charts that TensorBoard's own plugin makes of the layouts of all runs."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(root))
    runs.Reload()
    plugin = CustomScalarsPlugin(TBContext(data_provider=MultiplexerDataProvider(runs, str(root)), logdir=str(root)))
    found = json.loads(plugin.layout_impl(RequestContext(), ""))
    return {
        group["title"]: {chart["title"]: chart["multiline"]["tag"] for chart in group["chart"]}
        for group in found["category"]
    }


def test_two_runs_share_the_charts_and_every_chart_has_a_curve(make_record: RecordFactory, tmp_path: Path) -> None:
    for trial in ("0000", "0001"):
        with TrialWriter(tmp_path / trial) as writer:
            for row in make_record.steps(0, 2) + make_record.steps(1, 2):
                writer.log_step(row)
            for done in (1, 2, 3):
                writer.log_task(so_far(make_record, done))
    with TrialWriter(tmp_path / "0000", steps_done=4) as resumed:
        resumed.log_step(make_record.steps(2, 1)[0])
    charts = layout(tmp_path)
    assert {group: list(own) for group, own in charts.items()} == {group: list(own) for group, own in CHARTS.items()}
    tags = set(curves(tmp_path / "0000"))
    drawn = {
        title: {tag for tag in tags if any(re.match(pattern, tag) for pattern in patterns)}
        for own in charts.values()
        for title, patterns in own.items()
    }
    assert drawn["new and replay steps"] == {"loss/new", "loss/replay"}
    assert drawn["each task, in percent"] == {f"score/{task}" for task in TASKS}
    assert drawn["OP of the tasks learned so far"] == {"op"} and drawn["BWT of the tasks learned so far"] == {"bwt"}
    assert len(drawn["terms of replay steps"]) == 3
    assert drawn["their shares of the gradient"] == {
        "gradient_share/cross_entropy",
        "gradient_share/logit_distillation",
        "gradient_share/attention_distillation",
    }


def test_counts_and_shares_are_two_columns_of_the_hparams_tab(make_record: RecordFactory) -> None:
    found = [hparam_values(make_record(config=make_record.config(method={"head_budget": value}))) for value in (1, 1.0)]
    assert found[0]["method.seekr.head_budget.count"] == 1 and "method.seekr.head_budget" not in found[0]
    assert found[1]["method.seekr.head_budget"] == 1.0 and "method.seekr.head_budget.count" not in found[1]
