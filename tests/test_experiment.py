"""Experiment files and `--set`: what goes in comes out again, and mistakes are told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import (
    config_paths,
    dump_config,
    flatten,
    load_experiment,
    parse_config,
    require_path,
    with_values,
)

EXPERIMENT = """
name: small
stream: {tasks: [a, b]}
method: {replay_percent: 2}
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT)
    return path


configs = st.builds(
    lambda **values: with_values(parse_config({"stream": {"tasks": ["a", "b"]}}, "test"), values),
    **{
        "seed": st.integers(0, 2**31),
        "stream.metrics": st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["rouge_l", "sari"])),
        "stream.limits.train": st.none() | st.integers(1, 1000),
        "model.lora": st.none() | st.just({"rank": 4, "target_modules": ["q_proj"]}),
        "recipe.epochs": st.integers(1, 9) | st.just([2, 3]),
        "recipe.learning_rate": st.floats(1e-7, 1.0),
        "method.seekr.head_budget": st.integers(1, 64) | st.floats(0.01, 1.0),
        "method.seekr.attention_weight": st.floats(0.0, 1e6),
        "method.seekr.query_budget": st.none() | st.integers(1, 512),
        "study.objectives": st.just({"op": "maximize", "distinct_replayed_samples": "minimize"}),
    },
)


@settings(deadline=None)
@given(configs)
def test_config_to_yaml_to_config_is_the_identity(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    path = tmp_path_factory.mktemp("round") / "trip.yaml"
    path.write_text(dump_config(config))
    assert load_experiment(path) == config


def test_overrides_take_yaml_values(experiment: Path) -> None:
    config = load_experiment(
        experiment,
        [
            "stream.tasks=[c, d, e]",
            "method.seekr.head_budget=4",
            "model.lora.rank=2",
            "stream.root=null",
            "recipe.epochs=3",
        ],
    )
    assert config.stream.tasks == ("c", "d", "e")
    assert config.method.seekr.head_budget == 4
    assert config.model.lora is not None and config.model.lora.rank == 2
    assert config.stream.root is None and config.recipe.epochs == 3


def test_the_last_of_two_overrides_counts(experiment: Path) -> None:
    assert load_experiment(experiment, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "must read path=value"),
        ("=3", "must read path=value"),
        ("seed=[1", "not valid YAML"),
        ("name.deeper=1", "is not a section"),
        ("method.replay=1", "unknown field 'method.replay'"),
        ("method.memory.percent=lots", "method.memory.percent='lots' is refused"),
    ],
)
def test_a_bad_override_is_one_line(experiment: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(experiment, [override])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"stream: [", "not valid YAML"),
        (b"- a\n- b\n", "must hold a mapping"),
        (b"\xff\xfe\x00binary", "byte 0 is not UTF-8; give a YAML file"),
        (b"name: x\n", "stream is missing"),
        (b"stream: {tasks: [a]}\nname: 'two words'\n", "name='two words' is refused"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    assert message in str(caught.value) and "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_flat_paths_are_the_paths_of_overrides(experiment: Path) -> None:
    config = load_experiment(experiment)
    flat = flatten(config)
    assert flat["method.memory.percent"] == 2.0 and flat["stream.tasks"] == ["a", "b"]
    assert with_values(config, {path: value for path, value in flat.items() if "." in path}) == config


def test_every_config_path_has_a_docstring_in_the_schema() -> None:
    missing = [
        f"{section.__name__}.{name}"
        for section in (Config, *(field.annotation for field in Config.model_fields.values()))
        if hasattr(section, "model_fields")
        for name, field in section.model_fields.items()
        if not field.description and not hasattr(field.annotation, "model_fields")
    ]
    assert missing == []


def test_require_path_knows_nested_fields() -> None:
    for path in ("method.memory.percent", "stream.limits.train", "model.lora.rank"):
        assert path in config_paths()
        require_path(path, "space.yaml")
    with pytest.raises(ConfigError, match=r"space\.yaml: unknown field 'method\.heads'"):
        require_path("method.heads", "space.yaml")
