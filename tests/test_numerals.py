"""Plain words of YAML: read as their author means them, or refused with what to write instead."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seekr_tune.analysis.conditions import parse_conditions
from seekr_tune.config.numerals import UnclearValue
from seekr_tune.config.reading import dump_yaml, parse_yaml, read_yaml
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.experiment import dump_config, load_experiment, parse_config
from seekr_tune.study.search.space import load_space
from seekr_tune.study.search.warm_start import read_configurations

PACKAGE = Path(__file__).parent.parent / "seekr_tune"
EXPERIMENT = "name: mine\nstream: {tasks: [star]}\n"
SPACE = "recipe.learning_rate: {type: categorical, choices: [1e-4, 1e-3]}\nseed: {type: int, low: 1, high: 20}\n"

READ: list[tuple[str, Any]] = [
    ("1e-4", 1e-4),
    ("1e5", 1e5),
    ("-1E+3", -1000.0),
    ("1.5e3", 1500.0),
    (".5", 0.5),
    ("-.5", -0.5),
    (".5e1", 5.0),
    ("5.", 5.0),
    ("00.5", 0.5),
    ("+1", 1),
    ("1_000", 1000),
    ("1_000.5", 1000.5),
    ("0x10", 16),
    ("0xF_F", 255),
    ("0b11", 3),
    ("0o10", 8),
    ("-0o10", -8),
    ("0", 0),
    ("00", 0),
    ("07", 7),
    ("-0", 0),
    (".inf", math.inf),
    ("yes", True),
    ("off", False),
    ("~", None),
    ("null", None),
    ("2024-01-01", "2024-01-01"),
    ("2024-13-45", "2024-13-45"),
    ("2024-01-01T10:00:00", "2024-01-01T10:00:00"),
    ("=", "="),
    ("<<", "<<"),
    ("1.2.3", "1.2.3"),
    ("e5", "e5"),
    ("1e", "1e"),
    ("_1", "_1"),
    ("12 000", "12 000"),
    *((quoted, quoted[1:-1]) for quoted in ("'010'", "'1:30'", '"1e5"', "'yes'", "'2024-01-01'", "'~'", "'1_'")),
]
REFUSED = [
    ("010", "010 is 8 in YAML 1.1 (base 8); write 10, or 0o10 for 8"),
    ("016", "016 is 14 in YAML 1.1 (base 8); write 16, or 0o16 for 14"),
    ("-0_10", "-0_10 is -8 in YAML 1.1 (base 8); write -10, or 0o10 for -8"),
    ("1:30", "1:30 is 90 in YAML 1.1 (base 60); write 90, or text in quotes"),
    ("1:30.5", "1:30.5 is 90.5 in YAML 1.1 (base 60); write 90.5, or text in quotes"),
    ("-1:0:0", "-1:0:0 is -3600 in YAML 1.1 (base 60); write -3600, or text in quotes"),
    ("1_", "1_ is 1 with underscores that part no digits; write 1"),
    ("1__0", "1__0 is 10 with underscores that part no digits; write 10"),
    ("1_.5", "1_.5 is 1.5 with underscores that part no digits; write 1.5"),
    ("!!int '010'", "010 is 8 in YAML 1.1 (base 8); write 10, or 0o10 for 8"),
]


@pytest.mark.parametrize(("text", "value"), READ, ids=[text for text, _ in READ])
def test_what_means_one_thing_is_read_as_that(text: str, value: Any) -> None:
    for found in (parse_yaml(text), parse_yaml(f"a: {text}")["a"], parse_yaml(f"[{text}]")[0]):
        assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_would_be_another_number_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"a:\n  b: {text}\n")
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{path}: line 2, column 6: {said}')}$"):
        read_yaml(path)


@pytest.mark.parametrize("key", ["no", "on", "12", "010", "1e5", "~", "1:30"])
def test_keys_are_text(key: str) -> None:
    with pytest.raises(UnclearValue):
        parse_yaml(f"{{{key}: 1}}")
    assert parse_yaml(f"{{'{key}': 1}}") == {key: 1}


def test_a_key_that_is_no_text_is_told_as_it_was_written() -> None:
    with pytest.raises(UnclearValue, match="the key 'no' is no text; put it into quotes"):
        parse_yaml("metrics: {no: sari}")


def test_keys_may_be_merged_and_stand_once() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}
    with pytest.raises(yaml.YAMLError, match="stands twice"):
        parse_yaml("a: 1\n'a': 2")


# --- everywhere ------------------------------------------------------------------------------------------------------


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(EXPERIMENT)
    return path


def test_an_experiment_takes_numbers_as_people_write_them(experiment: Path) -> None:
    experiment.write_text(EXPERIMENT + "recipe: {learning_rate: 1e-4, max_prompt_tokens: 1_000}\n")
    config = load_experiment(experiment, ["seed=1e3", "method.seekr.layer_ratio=.5", "name=2024-01-01"])
    assert (config.recipe.learning_rate, config.recipe.max_prompt_tokens) == (1e-4, 1000)
    assert (config.seed, config.method.seekr.layer_ratio, config.name) == (1000, 0.5, "2024-01-01")


def test_an_assignment_is_read_like_a_file(experiment: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("--set seed=010: 010 is 8 in YAML 1.1 (base 8); write 10,")):
        load_experiment(experiment, ["seed=010"])


def test_spaces_and_configurations_to_try_are_read_like_experiments(experiment: Path, tmp_path: Path) -> None:
    path, tries = tmp_path / "space.yaml", tmp_path / "tries.yaml"
    path.write_text(SPACE)
    space, config = load_space(path), load_experiment(experiment)
    tries.write_text("- {recipe.learning_rate: 1e-4, seed: 3}\n")
    assert read_configurations(space, config, tries) == [{"recipe.learning_rate": 1e-4, "seed": 3}]
    tries.write_text("- {recipe.learning_rate: 1e-4, seed: 010}\n")
    with pytest.raises(ConfigError, match=r"tries\.yaml: line 1, column \d+: 010 is 8"):
        read_configurations(space, config, tries)
    path.write_text(SPACE.replace("high: 20", "high: 020"))
    with pytest.raises(ConfigError, match=r"space\.yaml: line 2, column \d+: 020 is 16"):
        load_space(path)


def test_conditions_are_read_like_experiments() -> None:
    rows = [{"trial": "a", "op": 0.5, "name": "010"}, {"trial": "b", "op": 1000.0, "name": "10"}]
    for text, kept in (("op=.5", "a"), ("op=1_000", "b"), ("op>1e-4", "ab"), ("name=010", "a"), ("name=10", "b")):
        (condition,) = parse_conditions([text], rows)
        assert "".join(str(row["trial"]) for row in rows if condition.holds(row)) == kept
    with pytest.raises(StudyError, match=re.escape("condition 'op<010': 010 is 8 in YAML 1.1 (base 8); write 10,")):
        parse_conditions(["op<010"], rows)


# --- what the package writes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*(text for text, _ in READ if text[0] not in "'\""), *(text for text, _ in REFUSED)])
def test_text_that_looks_like_something_else_is_written_in_quotes(text: str) -> None:
    for value in (text, [text], {text: text}):
        assert parse_yaml(dump_yaml(value)) == value
        assert yaml.safe_load(dump_yaml(value)) == value  # for readers of YAML 1.1, too


@pytest.mark.parametrize("text", ["\x85", "a\u2028b", " \u2029 ", "Größe"])
def test_other_ends_of_lines_survive(text: str) -> None:
    assert parse_yaml(dump_yaml({text: [text]})) == {text: [text]}


@settings(deadline=None)
@given(st.floats(allow_nan=False) | st.integers() | st.text("0123456789_.:eExbo+-~", max_size=8))
def test_what_is_written_is_read_as_it_was(value: Any) -> None:
    found = parse_yaml(dump_yaml([value]))[0]
    assert found == value and type(found) is type(value)


def test_names_that_look_like_numbers_survive_in_a_resolved_experiment(experiment: Path) -> None:
    config = parse_config({"name": "1e5", "stream": {"tasks": ["no", "010", "1:30"]}}, "test")
    experiment.write_text(dump_config(config))
    assert load_experiment(experiment) == config


@pytest.mark.parametrize("path", sorted(PACKAGE.parent.glob("experiments/*.yaml")), ids=lambda path: path.name)
def test_experiments_of_the_project_mean_in_yaml_1_1_what_they_mean_here(path: Path) -> None:
    assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_all_yaml_of_the_package_is_read_and_written_in_one_place() -> None:
    calls = re.compile(r"\byaml\.(safe_)?(load|dump)(_all)?\(")
    users = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if calls.search(path.read_text())}
    assert users == {"config/reading.py"}
