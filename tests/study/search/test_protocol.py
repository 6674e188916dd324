"""What a study may look at: its replicates, its final runs, and a test split that stays sealed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.config import Config, Split, StreamConfig
from seekr_tune.data import sources
from seekr_tune.data.formats import Format
from seekr_tune.errors import ConfigError, DataError
from seekr_tune.experiment import parse_config, with_values
from seekr_tune.study.search.protocol import final_settings, replicates, require_protocol, settings_of_bounds

FIVE = ["star", "last", "paren", "second", "first"]
PREFIX = {"study.protocol": "prefix", "study.prefix_tasks": 3}


def experiment(tasks: list[str] | None = None, **values: Any) -> Config:
    stream = {"tasks": tasks or FIVE, "limits": {"train": 8, "eval": 4, "test": 4}}
    config = parse_config({"stream": stream}, "test")
    return with_values(config, {path.replace("__", "."): value for path, value in values.items()})


def with_all(values: dict[str, Any]) -> Config:
    return with_values(experiment(), values)


@pytest.fixture
def on_disk(tmp_path: Path) -> Config:
    """Three tasks with one row a split, no two prompts equal."""
    for task, split in itertools.product("abc", ("train", "eval", "test")):
        write(tmp_path, task, split, f"{task} {split} ?")
    return parse_config({"stream": {"source": "jsonl", "root": str(tmp_path), "tasks": ["a", "b", "c"]}}, "test")


def write(root: Path, task: str, split: str, prompt: str) -> None:
    (root / task).mkdir(exist_ok=True)
    (root / task / f"{split}.jsonl").write_text(json.dumps({"prompt": prompt, "answer": "yes"}) + "\n")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Split]]]:
    """Every (task, split) that is read."""
    seen: list[tuple[str, Split]] = []
    read = sources._read_split

    def spy(stream: StreamConfig, found: Format, task: str, split: Split) -> Any:
        seen.append((task, split))
        return read(stream, found, task, split)

    monkeypatch.setattr(sources, "_read_split", spy)
    yield seen


def test_a_study_without_replicates_runs_each_configuration_as_the_experiment_says() -> None:
    assert replicates(experiment(seed=3)) == [{}]
    assert replicates(with_all({"study.replicates.seeds": [0]})) == [{}]


def test_orders_vary_fastest_then_seeds_then_draws() -> None:
    forth, back = FIVE, FIVE[::-1]
    config = with_all(
        {
            "study.replicates.orders": [forth, back],
            "study.replicates.seeds": [4, 5],
            "study.replicates.memory_draws": 2,
            "memory_draw": 7,
        }
    )
    assert [(run["memory_draw"], run["seed"], run["stream.tasks"]) for run in replicates(config)] == [
        (7, 4, forth),
        (7, 4, back),
        (7, 5, forth),
        (7, 5, back),
        (8, 4, forth),
        (8, 4, back),
        (8, 5, forth),
        (8, 5, back),
    ]


def test_one_other_seed_is_a_setting_of_its_own() -> None:
    assert replicates(with_all({"study.replicates.seeds": [9]})) == [
        {"stream.tasks": FIVE, "seed": 9, "memory_draw": 0}
    ]


def test_epochs_follow_their_tasks_into_another_order() -> None:
    config = with_all(
        {"recipe.epochs": [1, 2, 3, 4, 5], "study.replicates.orders": [["paren", "first", *FIVE[:2], "second"]]}
    )
    (setting,) = replicates(config)
    run = with_values(config, setting)
    epochs = {task: run.recipe.epochs_of(index) for index, task in enumerate(run.stream.tasks)}
    assert epochs == dict(zip(FIVE, (1, 2, 3, 4, 5), strict=True))


def test_a_prefix_is_tuned_on_and_the_rest_is_reported() -> None:
    config = with_all({**PREFIX, "recipe.epochs": [1, 2, 3, 4, 5]})
    (tuned,), (final,) = replicates(config), final_settings(config)
    assert (tuned["stream.tasks"], tuned["recipe.epochs"]) == (["star", "last", "paren"], [1, 2, 3])
    assert (final["stream.tasks"], final["recipe.epochs"]) == (["second", "first"], [4, 5])
    assert with_values(config, tuned).evaluation.splits == ("eval",)


def test_orders_of_a_prefix_are_orders_of_its_tasks() -> None:
    config = with_all({**PREFIX, "study.replicates.orders": [["paren", "last", "star"]]})
    assert replicates(config)[0]["stream.tasks"] == ["paren", "last", "star"]
    require_protocol(config)
    with pytest.raises(
        ConfigError, match=r"study.replicates.orders: \[star, .*\] is no order of the tasks \[star, last"
    ):
        require_protocol(with_all({**PREFIX, "study.replicates.orders": [FIVE]}))


def test_final_runs_score_test_only_in_the_tuned_orders_and_seeds_unless_told_otherwise() -> None:
    tuned = {"study.replicates.orders": [FIVE, FIVE[::-1]], "study.replicates.seeds": [1, 2]}
    runs = final_settings(with_all(tuned))
    assert [(run["stream.tasks"], run["seed"]) for run in runs] == [
        (FIVE, 1),
        (FIVE[::-1], 1),
        (FIVE, 2),
        (FIVE[::-1], 2),
    ]
    assert all(run["evaluation.splits"] == ["test"] for run in runs)
    other = with_all({**tuned, "study.final.seeds": [3], "study.final.memory_draws": 2})
    assert [(run["seed"], run["memory_draw"]) for run in final_settings(other)] == [(3, 0), (3, 0), (3, 1), (3, 1)]


def test_held_out_orders_are_reported_and_not_tuned_on() -> None:
    held_out = {"study.protocol": "held_out_orders", "study.final.orders": [FIVE[::-1]]}
    config = with_all(held_out)
    assert [run["stream.tasks"] for run in final_settings(config)] == [FIVE[::-1]]
    assert replicates(config) == [{}]
    require_protocol(config)
    with pytest.raises(ConfigError, match="the order of stream.tasks, which is tuned on"):
        require_protocol(with_all({**held_out, "study.final.orders": [FIVE]}))
    require_protocol(with_all({**held_out, "study.final.orders": [FIVE], "study.replicates.orders": [FIVE[::-1]]}))


def test_a_bound_runs_once_for_each_order_and_seed() -> None:
    config = with_all({"study.replicates.seeds": [1, 2], "study.replicates.memory_draws": 3})
    assert [(run["seed"], run["memory_draw"]) for run in settings_of_bounds(replicates(config))] == [(1, 0), (2, 0)]
    assert settings_of_bounds([{}]) == [{}]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"evaluation.splits": ["eval", "test"]}, "evaluation.splits lists test, which a study must not see"),
        (
            {"study.protocol": "prefix", "study.prefix_tasks": 4},
            "prefix_tasks is 4 of 5 tasks, which leaves fewer than 2",
        ),
        ({"study.replicates.orders": [FIVE[:4]]}, "is no order of the tasks"),
        ({"study.replicates.orders": [[*FIVE[:4], "star"]]}, "is no order of the tasks"),
        ({"study.final.for_each": ["method.nam"]}, "unknown field 'method.nam'; did you mean 'method.name'?"),
        (
            {"method.semantics": "official", "study.final.memory_draws": 2},
            "official knows one memory only; set it to 1",
        ),
    ],
)
def test_what_contradicts_the_protocol_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        require_protocol(with_all(values))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("source", "split"), [("b", "train"), ("b", "eval"), ("a", "train")])
def test_a_test_prompt_in_train_or_eval_of_any_task_is_refused(
    on_disk: Config, tmp_path: Path, source: str, split: str
) -> None:
    require_protocol(on_disk)
    write(tmp_path, "b", "test", f"{source}  {split} ? ")  # blanks make no difference
    message = rf"task 'b': 1 of 1 prompts of split 'test' also occur .* in {split} of '{source}'"
    with pytest.raises(DataError, match=message):
        require_protocol(on_disk)


def test_a_missing_test_split_is_a_note_and_the_others_are_compared_all_the_same(
    on_disk: Config, tmp_path: Path
) -> None:
    (tmp_path / "a" / "test.jsonl").unlink()
    assert require_protocol(on_disk) == ("no test split for a: `seekr-tune finalize` will need it",)
    write(tmp_path, "c", "test", "c train ?")
    with pytest.raises(DataError, match="task 'c'"):
        require_protocol(on_disk)


def test_settings_are_refused_before_test_is_read(on_disk: Config, opened: list[tuple[str, Split]]) -> None:
    with pytest.raises(ConfigError):
        require_protocol(with_values(on_disk, {"study.replicates.orders": [["a", "b"]]}))
    assert opened == []


def test_the_test_split_of_a_prefix_is_never_read(
    on_disk: Config, tmp_path: Path, opened: list[tuple[str, Split]]
) -> None:
    for task in ("d", "e"):
        for split in ("train", "eval", "test"):
            write(tmp_path, task, split, f"{task} {split} ?")
    require_protocol(with_values(on_disk, {"stream.tasks": ["a", "b", "c", "d", "e"], **PREFIX}))
    assert {task for task, split in opened if split == "test"} == {"d", "e"}


@pytest.mark.parametrize("saved", ["files", "disk"])
def test_a_test_split_of_a_data_set_is_found_without_reading_it(
    tmp_path: Path, saved: str, opened: list[tuple[str, Split]]
) -> None:
    import datasets

    rows = {
        split: datasets.Dataset.from_list([{"prompt": f"{split} ?", "answer": "yes"}]) for split in ("train", "eval")
    }
    if saved == "disk":
        datasets.DatasetDict(rows).save_to_disk(str(tmp_path / "a"))
    else:
        (tmp_path / "a").mkdir()
        for split, dataset in rows.items():
            dataset.to_json(str(tmp_path / "a" / f"{split}.jsonl"))
    config = parse_config({"stream": {"source": "datasets", "root": str(tmp_path), "tasks": ["a"]}}, "test")
    found = {split: sources.has_split(config, "a", split) for split in ("train", "eval", "test")}
    assert found == {"train": True, "eval": True, "test": False} and opened == []


def test_pairs_have_an_order_and_a_seed_each_and_fewer_are_the_first_of_more() -> None:
    def drawn(count: int, **values: Any) -> list[tuple[tuple[str, ...], int]]:
        runs = replicates(with_all({"study.replicates.pairs": count, **values}))
        return [(tuple(run["stream.tasks"]), run["seed"]) for run in runs]

    ten = drawn(10)
    assert drawn(4) == ten[:4] and len({seed for _, seed in ten}) == 10
    assert all(sorted(order) == sorted(FIVE) for order, _ in ten) and len({order for order, _ in ten}) > 5
    assert drawn(10, seed=1) != ten
    assert len(settings_of_bounds(replicates(with_all({"study.replicates.pairs": 10})))) == 10


def test_final_pairs_are_others_and_as_many_unless_told_otherwise() -> None:
    tuned = with_all({"study.replicates.pairs": 6})
    seeds = {run["seed"] for run in replicates(tuned)}
    final = final_settings(tuned)
    assert len(final) == 6 and not seeds & {run["seed"] for run in final}
    assert len(final_settings(with_all({"study.replicates.pairs": 6, "study.final.pairs": 9}))) == 9
    assert [
        run["seed"] for run in final_settings(with_all({"study.replicates.pairs": 6, "study.final.seeds": [3]}))
    ] == [3]


def test_final_pairs_are_drawn_from_the_orders_that_were_not_tuned_on() -> None:
    three = FIVE[:3]
    orders = [list(order) for order in itertools.permutations(three)]
    held_out = {"study.protocol": "held_out_orders", "study.final.pairs": 20}

    def config(tuned: list[list[str]]) -> Config:
        return with_values(experiment(three), {**held_out, "study.replicates.orders": tuned})

    assert {tuple(run["stream.tasks"]) for run in final_settings(config(orders[:4]))} == set(map(tuple, orders[4:]))
    with pytest.raises(ConfigError, match="tunes on every order there is"):
        require_protocol(config(orders))


@pytest.mark.parametrize("path", ["study.replicates", "study.final"])
def test_pairs_stand_alone(path: str) -> None:
    with pytest.raises(ConfigError, match="pairs draws orders and seeds itself"):
        with_all({f"{path}.pairs": 5, f"{path}.seeds": [1]})
