"""The score of a task and how sure it is: one formula for each, against scipy's."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy.stats import sem

from seekr_tune.config import MetricName
from seekr_tune.data.samples import TaskScore, sample_scores, scored
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.task import Example, Task

EXAMPLES = tuple(Example(f"say {answer} now", answer) for answer in ("yes", "no", "yes it is", "not at all", "yes"))
PREDICTIONS = ("yes", "yes", "yes it was", "", "no")


@pytest.mark.parametrize("metric", get_args(MetricName))
def test_the_mean_over_samples_is_the_score_of_the_metric(metric: MetricName) -> None:
    task = Task("t", SCORERS[metric], {"eval": EXAMPLES})
    texts = [(text, one.answer, one.prompt) for text, one in zip(PREDICTIONS, EXAMPLES, strict=True)]
    found = scored(task, EXAMPLES, PREDICTIONS)
    assert found.score == pytest.approx(sum(SCORERS[metric].score(*three) for three in texts) / 5, abs=1e-9)
    assert found.error == pytest.approx(sem(sample_scores(task, EXAMPLES, PREDICTIONS)))
    assert found.margin_error is None


def test_the_margin_is_paired_sample_by_sample() -> None:
    task = Task("t", SCORERS["exact_match"], {"eval": EXAMPLES})
    constant = sample_scores(task, EXAMPLES, ["yes"] * 5)
    assert constant == [100, 0, 0, 0, 100]
    found = scored(task, EXAMPLES, PREDICTIONS, constant)
    assert found.score == 20.0 and found.margin_error == pytest.approx(sem(np.array([0, 0, 0, 0, -100])))
    assert scored(task, EXAMPLES, ["yes"] * 5, constant).margin_error == 0.0


def test_one_sample_has_a_score_and_no_error() -> None:
    task = Task("t", SCORERS["exact_match"], {"eval": EXAMPLES[:1]})
    assert scored(task, EXAMPLES[:1], ["yes"], [0.0]) == TaskScore(100.0, None, None)
