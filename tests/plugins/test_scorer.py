"""A scorer of one's own: the example, what it is worth in a run, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.cli import main
from seekr_tune.config import Config
from seekr_tune.data.baseline import constant_baseline
from seekr_tune.data.sources import load_stream
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import load_experiment, parse_config
from seekr_tune.plugins import imported

FOLDER = Path(__file__).parents[2] / "examples" / "plugins" / "scorer"
EXPERIMENT = "name: own\nstream: {tasks: [star, last], metrics: {last: ./mine.py:ends}}\n"
ENDS = "def ends(prediction, answer, prompt):\n    return float(prediction[-1:] == answer[-1:])\n"


def written(folder: Path, text: str = ENDS, experiment: str = EXPERIMENT) -> Config:
    (folder / "mine.py").write_text(text)
    (folder / "own.yaml").write_text(experiment)
    return load_experiment(folder / "own.yaml")


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("so it is 1,002 km", "1000", 1.0),
        ("1011", "1000", 0.0),
        ("990.5 or -3", "-3.0", 1.0),
        ("about twelve", "12", 0.0),
        ("0", "0.0", 1.0),
    ],
)
def test_the_example_finds_the_last_number(prediction: str, answer: str, expected: float, tmp_path: Path) -> None:
    (tmp_path / "numbers.py").write_text((FOLDER / "numbers.py").read_text())
    text = "stream: {tasks: [star], metrics: {star: ./numbers.py:nearly}}\n"
    (tmp_path / "own.yaml").write_text(text)
    plugin = load_experiment(tmp_path / "own.yaml").plugins["nearly"]
    assert imported("scorer", "nearly", plugin)(prediction, answer, "") == expected


def test_the_page_shows_the_example() -> None:
    page = (FOLDER.parents[2] / "docs" / "how-to" / "own-scorer.md").read_text()
    assert (FOLDER / "numbers.py").read_text() in page and len(page.splitlines()) <= 40


def test_a_task_is_scored_by_it_sample_by_sample(tmp_path: Path) -> None:
    stream = load_stream(written(tmp_path), ("train", "eval"))
    star, last = stream
    assert (star.scorer.name, last.scorer.name) == ("exact_match", "ends")
    pairs = [("ab", "b"), (" b ", "a"), ("", "b")]
    assert [last.scorer.score(*pair, "") for pair in pairs] == [100.0, 0.0, 0.0]
    answers = [example.answer for example in last.splits["eval"]]
    floor = constant_baseline(last, "eval")
    assert floor.score == 100 * sum(floor.answer[-1:] == answer[-1:] for answer in answers) / len(answers)


def test_its_code_is_a_part_of_the_experiment_and_of_every_key(tmp_path: Path) -> None:
    one = written(tmp_path)
    two = written(tmp_path, ENDS.replace("[-1:]", "[:1]"))
    (tmp_path / "mine.py").unlink()
    again = parse_config(one.model_dump(mode="json"), "again")
    first, second = (load_stream(config, ("train",))[1].scorer for config in (again, two))
    assert first.name == second.name == "ends" and first.key != second.key
    assert first.score("xa", "a", "") == 100.0 and second.score("xa", "a", "") == 0.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ends = 3\n", "ends is no function of (prediction, answer, prompt)"),
        ("1 / 0\n", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("def ends(prediction):\n    return 1\n", "scorer ends: fails (TypeError"),
        ("def ends(*texts):\n    return 2\n", "scorer ends: returns 2.0 for prediction "),
        ("def ends(*texts):\n    return float('nan')\n", "scorer ends: returns nan for prediction "),
        ("def ends(*texts):\n    return 'good'\n", "scorer ends: fails (ValueError"),
    ],
)
def test_a_fault_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        task = load_stream(written(tmp_path, text), ("train",))[1]
        task.scorer.score("a", "b", "c")
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_validate_says_it_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "def ends(*texts):\n    return 2\n")
    assert main(["validate", str(tmp_path / "own.yaml")]) == 2
    err = capsys.readouterr().err
    assert "task 'last', sample 1: scorer ends: returns 2.0 for prediction " in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("metric", "said"),
    [("rouge", "did you mean 'rouge_l'"), ("./nosuch.py:f", "there is no file"), ("mine.py:", "metrics")],
)
def test_a_name_that_is_none_is_refused(metric: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        written(tmp_path, experiment=f"stream: {{tasks: [star], metrics: {{star: '{metric}'}}}}\n")
