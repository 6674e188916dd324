from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.config import MetricName
from seekr_tune.experiment import parse_config
from seekr_tune.stream import baseline
from seekr_tune.stream.baseline import constant_baseline
from seekr_tune.stream.sources import load_stream
from seekr_tune.stream.task import Example, Task


def _examples(*answers: str) -> tuple[Example, ...]:
    return tuple(Example(f"prompt {i}", answer) for i, answer in enumerate(answers))


def test_no_train_answer_does_better_on_the_split_where_another_is_more_frequent_in_train() -> None:
    """Labels may be shared out otherwise than in train: a model that always says the other one has learned nothing."""
    task = Task("t", "exact_match", {"train": _examples("B", "A", "B"), "eval": _examples("A", "A", "B", "A")})
    baseline = constant_baseline(task, "eval")
    assert (baseline.answer, baseline.score) == ("A", 75.0)


def test_an_answer_that_is_rare_in_train_and_frequent_in_the_split_is_tried() -> None:
    train = _examples(*(f"a{i // 2}" for i in range(200)), "rare")
    task = Task("t", "exact_match", {"train": train, "eval": _examples("rare", "rare", "a1")})
    assert constant_baseline(task, "eval").answer == "rare"


def test_overlap_metrics_take_the_answer_that_overlaps_most_with_the_split() -> None:
    train = _examples("x", "x", "a b", "a c", "a d", "a e")
    task = Task("t", "rouge_l", {"train": train, "eval": _examples("x", "x", "a y", "a z", "a w", "a v", "a u")})
    assert constant_baseline(task, "eval").answer.startswith("a ")


@pytest.mark.parametrize("metric", ["rouge_l", "sari", "edit_similarity"])
def test_of_long_texts_the_search_reads_no_more_than_it_may(
    metric: MetricName, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def count(metric: MetricName, predictions: list[str], answers: list[str], prompts: list[str]) -> float:
        sources = prompts if metric == "sari" else []
        read.append(sum(map(len, (*predictions, *answers, *sources))))
        return float(len(read) == 2)

    monkeypatch.setattr(baseline, "score", count)
    monkeypatch.setattr(baseline, "SEARCHED_CHARACTERS", 10_000)
    long = tuple(Example("p" * 100, f"{row:03}" + "x" * 97) for row in range(200))
    task = Task("t", metric, {"train": long, "eval": long})
    assert baseline.constant_baseline(task, "eval").answer == long[1].answer
    assert sum(read[:-1]) <= 10_000 and len(read) > 2
    read.clear()
    short = Task("t", metric, {"train": long[:5], "eval": long[:5]})
    baseline.constant_baseline(short, "eval")
    assert len(read) == 6 and read[0] == 5 * (300 if metric == "sari" else 200)  # every candidate on every row


@pytest.mark.parametrize(
    ("task", "metric", "expected"), [("trace/FOMC", "exact_match", 50), ("superni/task875", "exact_match", 20)]
)
def test_the_baselines_of_real_tasks_are_the_known_ones(
    data_directory: Path, task: str, metric: str, expected: int
) -> None:
    stream = {"source": "trace_json", "root": str(data_directory), "tasks": [task], "metrics": {task: metric}}
    loaded = load_stream(parse_config({"stream": stream}, "test"), ["train", "eval"])
    assert constant_baseline(loaded[0], "eval").score == pytest.approx(expected, abs=0.5)
