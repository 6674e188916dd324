"""The schema refuses what cannot be meant, and says so by the path that the user wrote."""

from __future__ import annotations

from typing import Any

import pytest

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import parse_config, with_values


def parse(**sections: Any) -> Config:
    return parse_config({"stream": {"tasks": ["a", "b", "c"]}, **sections}, "test.yaml")


def test_the_defaults_are_the_published_settings() -> None:
    method = parse().method
    assert (method.name, method.semantics, method.memory.percent) == ("seekr", "corrected", 1.0)
    seekr = method.seekr
    assert (seekr.head_budget, seekr.layer_ratio, seekr.query_budget) == (128 / 1024, 24 / 32, 100)
    assert (seekr.logit_weight, seekr.attention_weight, method.derpp.logit_weight) == (0.5, 1e3, 0.5)


@pytest.mark.parametrize(("budget", "kind"), [(1, int), (8, int), (1.0, float), (0.125, float)])
def test_a_whole_number_is_a_count_and_a_decimal_is_a_fraction(budget: float, kind: type) -> None:
    assert type(parse(method={"head_budget": budget}).method.seekr.head_budget) is kind


@pytest.mark.parametrize("budget", [0, -1, 0.0, 1.5, "half", None, True])
def test_a_head_budget_that_is_neither_is_refused(budget: object) -> None:
    with pytest.raises(ConfigError, match=r"method\.seekr\.head_budget.*count of heads.*fraction"):
        parse(method={"head_budget": budget})


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("method.memory", "percent", 101.0),
        ("method.memory", "percent", -1.0),
        ("method.seekr", "layer_ratio", 0.0),
        ("method.seekr", "layer_ratio", 1.5),
        ("method.seekr", "logit_weight", 1.1),
        ("method.seekr", "attention_weight", -1.0),
        ("method.seekr", "query_budget", 0),
        ("method", "name", "sekr"),
        ("recipe", "learning_rate", 0.0),
        ("recipe", "batch_size", 0),
        ("study", "trials", 0),
        ("study", "objectives", {}),
        ("stream", "tasks", []),
        ("evaluation", "splits", ["train"]),
    ],
)
def test_a_value_out_of_range_is_named_by_its_path(section: str, field: str, value: object) -> None:
    outer, _, inner = section.partition(".")
    sections: dict[str, Any] = {outer: {inner: {field: value}} if inner else {field: value}}
    with pytest.raises(ConfigError) as caught:
        parse(**sections)
    message = str(caught.value)
    assert message.startswith(f"test.yaml: {section}.{field}") and "\n" not in message


def test_an_unknown_field_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"'method\.memory\.precent'; did you mean 'method\.memory\.percent'"):
        parse(method={"memory": {"precent": 1}})


def test_a_task_listed_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'a' is listed twice"):
        parse(stream={"tasks": ["a", "b", "a"]})


def test_epochs_are_one_number_or_one_for_each_task() -> None:
    assert [parse(recipe={"epochs": [3, 1, 2]}).recipe.epochs_of(index) for index in range(3)] == [3, 1, 2]
    assert parse(recipe={"epochs": 4}).recipe.epochs_of(2) == 4
    with pytest.raises(ConfigError, match=r"recipe\.epochs lists 2 numbers for 3 tasks"):
        parse(recipe={"epochs": [3, 1]})


@pytest.mark.parametrize(("strategy", "workers"), [("single", 2), ("ddp", 1), ("ddp", 0), ("fsdp", 1)])
def test_strategy_and_workers_must_agree(strategy: str, workers: int) -> None:
    with pytest.raises(ConfigError, match=r"strategy .* worker"):
        parse(training={"strategy": strategy, "workers": workers})


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        (
            {"training": {"workers": 2, "strategy": "fsdp"}, "method": {"semantics": "official"}},
            "release lets gradients wait from step to step",
        ),
        (
            {"training": {"workers": 2, "strategy": "fsdp", "resources_per_worker": {"GPU": 0.5}}},
            "whole GPU for each worker",
        ),
        ({"training": {"workers": 8}, "recipe": {"batch_size": 4}}, "would never have a sample"),
        ({"training": {"workers": 2, "min_workers": 3}}, "min_workers is 3, above workers"),
        ({"model": {"dtype": "bfloat16", "compute_dtype": "float32"}}, "compute_dtype float32 needs float32 weights"),
    ],
)
def test_a_combination_that_cannot_work_is_refused_with_its_reason(sections: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        parse(**sections)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)  # what is wrong; how to mend it


def test_the_strategy_follows_from_the_workers_where_it_is_left_open() -> None:
    chosen = [parse(training={"workers": workers}).training.parallelism for workers in (0, 1, 2)]
    assert chosen == ["single", "single", "ddp"]


def test_a_task_without_a_metric_is_scored_by_exact_match() -> None:
    stream = parse(stream={"tasks": ["a", "b"], "metrics": {"a": "rouge_l"}}).stream
    assert (stream.metric_of("a"), stream.metric_of("b")) == ("rouge_l", "exact_match")


def test_a_share_of_attention_takes_the_place_of_the_default_weight() -> None:
    method = parse(method={"attention_share": 0.5}).method
    assert (method.seekr.attention_weight, method.seekr.attention_share, method.seekr.distils_attention) == (
        None,
        0.5,
        True,
    )
    again = parse_config(parse(method={"attention_share": 0.5}).model_dump(mode="json"), "again")
    assert again.method == method


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attention_share": 0.5, "attention_weight": 10}, "exclude each other; drop one"),
        ({"attention_weight": None}, "no attention_share either; give one"),
        ({"attention_share": 0.0}, "attention_share"),
        ({"attention_share": 1.0}, "attention_share"),
    ],
)
def test_a_share_and_a_weight_are_refused_together_and_so_is_neither(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(method=values)


def test_what_is_set_over_an_experiment_takes_the_place_of_its_alternative() -> None:
    weighed = parse(method={"attention_weight": 10})
    shared = with_values(weighed, {"method.seekr.attention_share": 0.3})
    assert (shared.method.seekr.attention_weight, shared.method.seekr.attention_share) == (None, 0.3)
    assert with_values(shared, {"method.seekr.attention_weight": 10}) == weighed
    with pytest.raises(ConfigError, match="exclude each other"):
        with_values(weighed, {"method.seekr.attention_weight": 10, "method.seekr.attention_share": 0.3})
