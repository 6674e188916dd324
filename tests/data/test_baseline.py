from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from seekr_tune.data import baseline
from seekr_tune.data.baseline import constant_baseline
from seekr_tune.data.scoring import SCORERS, Scorer
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import Example, Task
from seekr_tune.experiment import parse_config


def _examples(*answers: str) -> tuple[Example, ...]:
    return tuple(Example(f"prompt {i}", answer) for i, answer in enumerate(answers))


def test_no_train_answer_does_better_on_the_split_where_another_is_more_frequent_in_train() -> None:
    """Labels may be shared out otherwise than in train: a model that always says the other one has learned nothing."""
    task = Task("t", SCORERS["exact_match"], {"train": _examples("B", "A", "B"), "eval": _examples("A", "A", "B", "A")})
    baseline = constant_baseline(task, "eval")
    assert (baseline.answer, baseline.score) == ("A", 75.0)


def test_an_answer_that_is_rare_in_train_and_frequent_in_the_split_is_tried() -> None:
    train = _examples(*(f"a{i // 2}" for i in range(200)), "rare")
    task = Task("t", SCORERS["exact_match"], {"train": train, "eval": _examples("rare", "rare", "a1")})
    assert constant_baseline(task, "eval").answer == "rare"


def test_overlap_metrics_take_the_answer_that_overlaps_most_with_the_split() -> None:
    train = _examples("x", "x", "a b", "a c", "a d", "a e")
    task = Task(
        "t", SCORERS["rouge_l"], {"train": train, "eval": _examples("x", "x", "a y", "a z", "a w", "a v", "a u")}
    )
    assert constant_baseline(task, "eval").answer.startswith("a ")


@pytest.mark.parametrize("reads_prompts", [False, True])
def test_of_long_texts_the_search_reads_no_more_than_it_may(
    reads_prompts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, int] = Counter()
    a_row = 300 if reads_prompts else 200

    def count(prediction: str, answer: str, prompt: str) -> float:
        read[prediction] += len(prediction) + len(answer) + len(prompt) * reads_prompts
        return float(prediction == long[1].answer)

    monkeypatch.setattr(baseline, "SEARCHED_CHARACTERS", 10_000)
    long = tuple(Example("p" * 100, f"{row:03}" + "x" * 97) for row in range(200))
    scorer = Scorer("counting", count if reads_prompts else lambda prediction, answer: count(prediction, answer, ""))
    assert baseline.constant_baseline(Task("t", scorer, {"train": long, "eval": long}), "eval").answer == long[1].answer
    assert sum(read.values()) - 200 * a_row <= 10_000 and len(read) >= 2  # the best is then scored on every row
    read.clear()
    baseline.constant_baseline(Task("t", scorer, {"train": long[:5], "eval": long[:5]}), "eval")
    assert len(read) == 5 and sum(read.values()) == 6 * 5 * a_row  # every candidate on every row


@pytest.mark.parametrize(
    ("task", "metric", "expected"), [("trace/FOMC", "exact_match", 50), ("superni/task875", "exact_match", 20)]
)
def test_the_baselines_of_real_tasks_are_the_known_ones(
    data_directory: Path, task: str, metric: str, expected: int
) -> None:
    stream = {"source": "trace_json", "root": str(data_directory), "tasks": [task], "metrics": {task: metric}}
    loaded = load_stream(parse_config({"stream": stream}, "test"), ["train", "eval"])
    assert constant_baseline(loaded[0], "eval").score == pytest.approx(expected, abs=0.5)
