from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic import NAN, TASKS, RecordFactory

from seekr_tune.analysis import ledger
from seekr_tune.analysis.flat import flat_value, known_kinds
from seekr_tune.analysis.ledger import COLUMNS, read_table, read_trials, runs_in, table_path, trials_table, write_ledger
from seekr_tune.errors import StudyError

NAMES: tuple[ledger.TableName, ...] = ("trials", "scores", "heads", "replay", "timing", "steps")


def test_the_trials_table_holds_what_the_matrix_and_the_costs_say(make_record: RecordFactory, tmp_path: Path) -> None:
    write_ledger(tmp_path, [make_record("0003", optuna_number=3, ray_trial_id="abc_3")], {})
    (row,) = read_trials(tmp_path).to_pylist()
    assert row["op"] == (60 + 70 + 95) / 3
    assert row["bwt"] == ((60 - 90) + (70 - 80)) / 2
    assert row["bwt_official"] == pytest.approx(((60 - 90) + (70 - 80)) / 3)
    assert row["forgetting"] == ((90 - 60) + (80 - 70)) / 2
    assert row["distinct_replayed_samples"] == 6 and row["memory_bytes"] == 600
    assert row["replay_presentations"] == 20 and row["replay_tokens"] == 400 and row["replay_updates"] == 4
    assert row["op_per_replayed_sample"] == 75 / 6 and row["op_per_presentation"] == 75 / 20
    assert row["op_per_replayed_token"] == 75 / 400 and row["op_per_replayed_byte"] == 75 / 600
    assert row["trial"] == "0003" and row["optuna_number"] == 3 and row["ray_trial_id"] == "abc_3"
    assert row["tasks"] == list(TASKS) and row["split"] == "eval"


def test_without_replay_there_is_no_quotient(make_record: RecordFactory) -> None:
    (row,) = trials_table([make_record(replay=make_record.replay((0, 0, 0), presentations=0))]).to_pylist()
    assert row["distinct_replayed_samples"] == 0 and row["op"] == 75
    assert [row[name] for name in row if name.startswith("op_per_")] == [None] * 4


def test_an_unfinished_trial_has_costs_but_no_performance(make_record: RecordFactory) -> None:
    matrix = [[90.0, 20.0, 10.0], [70.0, 80.0, 15.0], [NAN, NAN, NAN]]
    record = make_record(status="pruned", tasks_done=2, matrix=matrix, replay=make_record.replay((2, 2)))
    (row,) = trials_table([record]).to_pylist()
    assert row["op"] is None and row["op_per_replayed_sample"] is None
    assert row["distinct_replayed_samples"] == 4 and row["tasks_done"] == 2


def test_a_joint_run_has_a_last_row_only(make_record: RecordFactory) -> None:
    matrix = [[NAN] * 3, [NAN] * 3, [60.0, 70.0, 80.0]]
    (row,) = trials_table([make_record(method="joint", role="bound", matrix=matrix, replay=())]).to_pylist()
    assert row["op"] == 70 and row["bwt"] is None and row["distinct_replayed_samples"] == 0


def test_time_and_memory_of_a_trial_are_those_of_all_its_tasks(make_record: RecordFactory) -> None:
    (row,) = trials_table([make_record()]).to_pylist()
    assert row["tokens_per_second"] == 3000 / (1 + 2 + 4) and row["peak_memory_bytes"] == 10**9 + 1
    assert row["flops_utilisation"] == 3e12 / (1e12 / 0.5 + 1e12 / 0.25 + 1e12 / 0.125)


def test_utilisation_is_unknown_where_that_of_a_task_is(make_record: RecordFactory) -> None:
    records = [make_record(timing=make_record.timing(*shares)) for shares in ((0.5, None), ())]
    known, before = trials_table(records).to_pylist()
    assert known["flops_utilisation"] is None and known["tokens_per_second"] == 2000 / 3
    assert [before[name] for name in ("flops_utilisation", "tokens_per_second", "peak_memory_bytes")] == [None] * 3


def test_the_split_of_the_scores_is_named_and_may_be_chosen(make_record: RecordFactory) -> None:
    cells = make_record(split="test").scores + make_record(matrix=make_record.matrix(50.0)).scores
    record = make_record(scores=cells)
    assert trials_table([record]).select(["split", "op"]).to_pylist() == [{"split": "eval", "op": 50.0}]
    assert trials_table([record], "test").select(["split", "op"]).to_pylist() == [{"split": "test", "op": 75.0}]


def test_the_config_is_exact_as_json_and_typed_as_columns(make_record: RecordFactory, tmp_path: Path) -> None:
    gpu = {"resources_per_worker": {"GPU": 1}}
    first = make_record.config(method={"head_budget": 1, "replay_percent": 3}, training=gpu)
    second = make_record.config(method={"head_budget": 1.0, "query_budget": None}, recipe={"epochs": [1, 2, 3]})
    records = [make_record("a", config=first), make_record("b", config=second)]
    write_ledger(tmp_path, records, {})
    table = read_trials(tmp_path)
    one, two = table.to_pylist()
    assert json.loads(one["config"]) == first and json.loads(two["config"]) == second
    assert '"head_budget": 1,' in one["config"] and '"head_budget": 1.0,' in two["config"]
    assert (one["config.method.memory.percent"], two["config.method.seekr.query_budget"]) == (3.0, None)
    assert (one["config.method.seekr.head_budget"], two["config.method.seekr.head_budget"]) == ("1", "1.0")
    assert (one["config.recipe.epochs"], two["config.recipe.epochs"]) == ("1", "[1, 2, 3]")
    assert one["config.stream.tasks"] == json.dumps(list(TASKS)) and one["config.model.path"] == "builtin"
    assert [row["config.training.resources_per_worker.GPU"] for row in (one, two)] == [1.0, None]
    assert table.schema.field("config.recipe.micro_batch_size").type == pa.float64()
    assert table.schema.field("config.recipe.reset_optimizer").type == pa.bool_()


def test_every_config_field_is_a_column_whose_type_does_not_depend_on_the_trials(make_record: RecordFactory) -> None:
    empty, one = trials_table([]).schema, trials_table([make_record()]).schema
    assert all(one.field(name).type == empty.field(name).type for name in empty.names)
    assert {f"config.{path}" for path in known_kinds()} <= set(empty.names)
    assert {"model.lora.rank", "method.seekr.query_budget", "seed"} <= set(known_kinds())


def test_settings_of_adapters_are_columns_where_there_are_adapters(make_record: RecordFactory) -> None:
    records = [make_record(config=make_record.config(model={"lora": lora})) for lora in (None, {"rank": 4})]
    table = trials_table(records)
    assert table["config.model.lora.rank"].to_pylist() == [None, 4.0] and "config.model.lora" not in table.column_names


def test_a_value_of_another_kind_is_refused() -> None:
    with pytest.raises(StudyError, match="config field seed='one' is not a number"):
        flat_value("seed", "one")


@pytest.mark.parametrize("name", NAMES)
def test_empty_tables_keep_their_columns_and_types(
    name: ledger.TableName, make_record: RecordFactory, tmp_path: Path
) -> None:
    write_ledger(tmp_path / "none", [], {})
    write_ledger(tmp_path / "one", [make_record(heads=make_record.heads())], {"0000": make_record.steps(0, 2)})
    none, one = read_table(tmp_path / "none", name), read_table(tmp_path / "one", name)
    assert none.num_rows == 0 and one.num_rows > 0
    assert all(one.schema.field(field.name).type == field.type for field in none.schema)
    assert pa.null() not in one.schema.types


def test_the_long_tables_hold_every_row(make_record: RecordFactory, tmp_path: Path) -> None:
    records = [make_record("a", heads=make_record.heads()), make_record("b")]
    steps = {"a": make_record.steps(0, 2) + make_record.steps(1, 2, first=3), "b": make_record.steps(0, 1)}
    first, *others = steps["a"]
    steps["a"] = (first.model_copy(update={"terms": {"ewc": 0.5}}), *others)
    write_ledger(tmp_path, records, steps)
    rows = {name: read_table(tmp_path, name).to_pylist() for name in NAMES}
    assert rows["scores"][3] == {"trial": "a", **records[0].scores[3].model_dump()}
    assert len(rows["scores"]) == 2 * (9 + 3)
    assert rows["heads"] == [{"trial": "a", **row.model_dump()} for row in records[0].heads]
    assert [row | {"shares": dict(row["shares"])} for row in rows["replay"]] == [
        {"trial": r.trial, **row.model_dump()} for r in records for row in r.replay
    ]
    assert rows["timing"] == [
        {"trial": r.trial, **row.model_dump(), "tokens_per_second": 1000 / 2**row.task_index}
        for r in records
        for row in r.timing
    ]
    logged = [{"trial": trial, **row.model_dump(mode="json")} for trial in steps for row in steps[trial]]
    by_term = ("terms", "weights", "shares")
    assert [row | {name: dict(row[name]) for name in by_term} for row in rows["steps"]] == logged
    assert all(any(row[name] for row in logged) for name in by_term)


def test_columns_of_three_terms_are_read_as_one_by_name(make_record: RecordFactory, tmp_path: Path) -> None:
    """As earlier versions wrote them, to steps and to the tasks of a run."""
    (step,) = make_record.steps(1, 1, first=2)
    write_ledger(tmp_path, [make_record("a")], {"a": (step,)})
    for name, columns in (("steps", ("terms", "weights", "shares")), ("replay", ("shares",))):
        table = pq.read_table(table_path(tmp_path, name))  # type: ignore[arg-type]
        earlier = {"cross_entropy_share": 0.25, "logit_distillation_share": None, "attention_distillation_share": 0.75}
        if name == "steps":
            earlier |= {"cross_entropy": 0.5, "logit_distillation": None, "attention_distillation": 0.125}
            earlier |= {"attention_weight": 10.0}
        table = table.drop_columns(list(columns))
        for column, value in earlier.items():
            table = table.append_column(column, pa.array([value] * len(table), pa.float64()))
        if name == "steps":
            table = table.append_column("other_terms", pa.array([[("ewc", 2.0)]], pa.map_(pa.string(), pa.float64())))
        pq.write_table(table, table_path(tmp_path, name))  # type: ignore[arg-type]
        found = read_table(tmp_path, name)  # type: ignore[arg-type]
        assert dict(found["shares"].to_pylist()[0]) == {"cross_entropy": 0.25, "attention_distillation": 0.75}
        assert set(found.column_names) == set(COLUMNS[name])  # type: ignore[index]
    (row,) = read_table(tmp_path, "steps").to_pylist()
    assert dict(row["terms"]) == {"cross_entropy": 0.5, "attention_distillation": 0.125, "ewc": 2.0}
    assert dict(row["weights"]) == {"attention_distillation": 10.0}


def test_large_tables_are_written_and_handed_out_run_by_run(
    make_record: RecordFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [make_record(key, heads=make_record.heads() if key != "b" else ()) for key in "abcd"]
    write_ledger(tmp_path, records, {})
    at_once = read_table(tmp_path, "heads")
    monkeypatch.setattr(ledger, "_ROWS_AT_ONCE", 20)  # the heads of a run are 12
    write_ledger(tmp_path, records, {})
    assert pq.read_metadata(table_path(tmp_path, "heads")).num_row_groups == 2
    assert read_table(tmp_path, "heads") == at_once
    found = {key: rows.to_pylist() for key, rows in runs_in(tmp_path, "heads")}
    assert found == {key: read_table(tmp_path, "heads", [key]).to_pylist() for key in "acd"}
    write_ledger(tmp_path, records, {}, dict(runs_in(tmp_path, "heads")))
    assert read_table(tmp_path, "heads") == at_once, "columns are taken as they are"


def test_files_are_zstd_and_versioned_and_leave_nothing_behind(make_record: RecordFactory, tmp_path: Path) -> None:
    for _ in range(2):
        write_ledger(tmp_path, [make_record()], {})
    assert sorted(path.name for path in (tmp_path / "ledger").iterdir()) == sorted(
        f"{name}.parquet" for name in (*NAMES, "prospects")
    )
    metadata = pq.read_metadata(table_path(tmp_path, "trials"))
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert metadata.metadata[b"seekr_tune.schema_version"] == b"3"


@pytest.mark.parametrize(
    ("name", "column"),
    [("steps", "flops"), ("replay", "state_bytes"), ("timing", "shared_step_seconds")],
)
def test_a_column_that_an_earlier_version_did_not_write_is_null(
    name: ledger.TableName, column: str, make_record: RecordFactory, tmp_path: Path
) -> None:
    write_ledger(tmp_path, [make_record()], {})
    whole = pq.read_table(table_path(tmp_path, name))
    pq.write_table(whole.drop_columns([column]), table_path(tmp_path, name))
    found = read_table(tmp_path, name)
    assert set(found.column(column).to_pylist()) <= {None}
    assert found.schema.field(column).type == whole.schema.field(column).type
    assert len(found) == len(whole)


def test_missing_damaged_and_foreign_tables_are_refused_in_one_line(make_record: RecordFactory, tmp_path: Path) -> None:
    path = table_path(tmp_path, "trials")
    with pytest.raises(StudyError, match=r"trials.parquet: no such table"):
        read_trials(tmp_path)
    write_ledger(tmp_path, [make_record()], {})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StudyError, match=r"trials.parquet: is damaged \(.*\); resume") as caught:
        read_trials(tmp_path)
    assert "\n" not in str(caught.value)
    pq.write_table(pa.table({"trial": ["a"]}), path)
    with pytest.raises(StudyError, match="has schema version none, but this package reads versions 2 and 3"):
        read_trials(tmp_path)


def test_reading_and_ranking_need_neither_torch_nor_ray() -> None:
    code = (
        "import sys; import seekr_tune.analysis.ledger, seekr_tune.analysis.ranking_tables; "
        "print(sorted({'torch', 'ray', 'transformers', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
