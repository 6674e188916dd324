"""The experiment files that ship with the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.data.builtin import QUESTIONS
from seekr_tune.experiment import load_experiment

FILES = sorted((Path(__file__).parent.parent / "experiments").glob("*.yaml"))
TO_BE_GIVEN = {"methods", "superni", "trace"}
PAPER = {"trace_llama2_7b", "superni_llama2_7b"}


def load(name: str) -> Config:
    return load_experiment(FILES[0].parent / f"{name}.yaml")


def test_the_experiments_are_the_ones_the_readme_names() -> None:
    assert {path.stem for path in FILES} == {"demo"} | TO_BE_GIVEN | PAPER


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads_and_is_named_as_its_file(path: Path) -> None:
    config = load_experiment(path)
    assert config.name == path.stem  # `make` and the command line derive the same output directory from either
    assert config.study.space is not None and (path.parent / config.study.space).is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_task_has_a_metric_and_tuning_sees_eval_only(path: Path) -> None:
    config = load_experiment(path)
    assert set(config.stream.metrics) == set(config.stream.tasks)
    assert config.evaluation.splits == ("eval",)


def test_the_demo_needs_nothing_from_outside() -> None:
    config = load("demo")
    assert config.stream.source == "builtin" and config.model.path == "builtin"
    assert set(config.stream.tasks) == set(QUESTIONS)
    assert config.study.trials >= 8 and config.study.bounds == ("seqft", "joint")


@pytest.mark.parametrize("name", sorted(TO_BE_GIVEN))
def test_data_and_model_of_the_small_experiments_are_to_be_given(name: str) -> None:
    config = load(name)
    assert config.stream.root is None and config.model.path is None


@pytest.mark.parametrize("name", sorted(PAPER))
def test_the_7b_experiments_carry_the_published_settings(name: str) -> None:
    config = load(name)
    assert config.stream.root is None and config.model.path == "meta-llama/Llama-2-7b-chat-hf"
    assert (config.recipe.learning_rate, config.recipe.batch_size, config.recipe.betas) == (1e-5, 128, (0.9, 0.95))
    assert (config.recipe.lr_schedule, config.recipe.max_grad_norm) == ("constant", 1.0)
    assert (config.method.memory.percent, config.method.seekr.head_budget, config.method.seekr.query_budget) == (
        1.0,
        128,
        100,
    )
    assert (config.method.seekr.logit_weight, config.method.seekr.attention_weight) == (0.5, 1000.0)
    assert config.method.seekr.layer_ratio * 32 == 24
    assert config.training.workers == 8 and config.training.resources_per_worker["GPU"] == 1


def test_the_orders_are_those_of_the_paper() -> None:
    trace = load("trace_llama2_7b")
    assert trace.stream.tasks == (
        *("C-STANCE", "FOMC", "MeetingBank", "Py150", "ScienceQA", "NumGLUE-cm", "NumGLUE-ds", "20Minuten"),
    )
    assert trace.recipe.epochs == (5, 5, 5, 5, 5, 5, 10, 5)
    superni = load("superni_llama2_7b")
    order_3 = ("1572", "363", "1290", "181", "002", "1510", "073", "748", "511", "591", "195", "875")
    assert superni.stream.tasks == tuple(f"task{number}" for number in order_3)
    assert superni.recipe.epochs == 10
    for small, large in (("trace", trace), ("superni", superni)):
        tasks = load(small).stream.tasks
        assert tasks == tuple(task for task in large.stream.tasks if task in tasks)
        assert all(load(small).stream.metric_of(task) == large.stream.metric_of(task) for task in tasks)
