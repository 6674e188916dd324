"""Which settings matter: known functions, Optuna's own numbers, settings that only some trials have."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, MeanDecreaseImpurityImportanceEvaluator, get_param_importances
from scipy.stats import rankdata, spearmanr

from seekr_tune.analysis.hyperparameters import (
    TOLD,
    EvaluatorName,
    Importance,
    chosen_evaluator,
    importance_table,
    importances,
    settings_together,
)
from seekr_tune.errors import StudyError

EVERY: tuple[EvaluatorName, ...] = ("fanova", "mdi", "pedanova")


def row(number: int, value: float | None, column: str = "op", **fields: Any) -> dict[str, Any]:
    params = fields.pop("params")
    return {
        "trial": f"trial-{number:04}",
        "role": "trial",
        "status": "finished",
        column: value,
        "params": json.dumps(params),
        **fields,
    }


def rows(count: int = 60, column: str = "op", sign: float = 1.0) -> list[dict[str, Any]]:
    """The objective is 10 x - 3 y, whatever z and the letter are."""
    drawn = np.random.default_rng(7).random((count, 3))
    return [
        row(number, sign * (10 * x - 3 * y), column, params={"z": z, "x": x, "y": y, "letter": "ab"[number % 2]})
        for number, (x, y, z) in enumerate(drawn.tolist())
    ]


def by_path(found: tuple[Importance, ...]) -> dict[str, Importance]:
    return {one.path: one for one in found}


@pytest.mark.parametrize("evaluator", EVERY)
def test_what_decides_comes_first_with_the_sign_of_its_effect(evaluator: EvaluatorName) -> None:
    found = importances(rows(), "op", evaluator)
    assert found[0].path == "x" and found[0].importance > 0.5
    assert sum(one.importance for one in found) == pytest.approx(1.0)
    assert all((one.low or 0) <= one.importance <= (one.high or 0) <= 1 and one.n == 60 for one in found)
    assert found[0].p <= (0.25 if evaluator == "pedanova" else 0.05)  # the best tenth of 50 are 5
    effects = by_path(found)
    assert (effects["x"].effect or 0) > 0.9 and (effects["y"].effect or 0) < 0 and effects["letter"].effect is None


def test_the_effect_is_a_rank_correlation() -> None:
    ours = by_path(importances(rows(), "op", "pedanova"))["y"].effect
    params = [json.loads(one["params"])["y"] for one in rows()]
    assert ours == pytest.approx(spearmanr(params, [one["op"] for one in rows()]).statistic)


@pytest.mark.parametrize("evaluator", EVERY)
def test_the_direction_of_the_objective_is_kept(evaluator: EvaluatorName) -> None:
    """`forgetting` is better when lower: the same study with the sign turned has the same importances."""
    higher = by_path(importances(rows(), "op", evaluator))
    lower = by_path(importances(rows(column="forgetting", sign=-1.0), "forgetting", evaluator))
    for path, one in higher.items():
        assert lower[path].importance == pytest.approx(one.importance, abs=1e-9)


def test_pedanova_looks_at_the_best_trials_and_not_at_the_worst() -> None:
    """x decides among the best (all of them have x > 0.8) and nothing among the worst, where y decides."""
    drawn = np.random.default_rng(3).random((200, 2)).tolist()
    values = [100.0 if x > 0.8 else -100.0 if y > 0.8 else 0.0 for x, y in drawn]
    made = [
        row(number, value, params={"x": x, "y": y})
        for number, ((x, y), value) in enumerate(zip(drawn, values, strict=True))
    ]
    assert importances(made, "op", "pedanova")[0].path == "x"
    turned = [{**one, "op": -one["op"]} for one in made]
    assert importances(turned, "op", "pedanova")[0].path == "y"


@pytest.mark.parametrize(
    ("name", "evaluator"),
    [
        ("fanova", FanovaImportanceEvaluator(seed=0)),
        ("mdi", MeanDecreaseImpurityImportanceEvaluator(seed=0)),
    ],
)
def test_the_numbers_are_those_of_optuna_on_the_same_trials(name: EvaluatorName, evaluator: Any) -> None:
    made = rows(30)
    study = optuna.create_study(direction="maximize")
    every = [json.loads(one["params"]) for one in made]
    ranges = {path: FloatDistribution(min(p[path] for p in every), max(p[path] for p in every)) for path in "xyz"}
    for one, params in zip(made, every, strict=True):
        distributions = {**ranges, "letter": CategoricalDistribution(["a", "b"])}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=one["op"]))
    theirs = get_param_importances(study, evaluator=evaluator)
    ours = by_path(importances(made, "op", name))
    for path, value in theirs.items():
        assert ours[path].importance == pytest.approx(value)


@pytest.mark.parametrize("evaluator", EVERY)
def test_a_setting_that_only_some_trials_have_is_judged_among_them(evaluator: EvaluatorName) -> None:
    drawn = np.random.default_rng(5).random((80, 2)).tolist()
    made = []
    for number, (weight, noise) in enumerate(drawn):
        if number % 2:
            made.append(row(number, 50 + 40 * weight, params={"method": "seekr", "noise": noise, "weight": weight}))
        else:
            made.append(row(number, 50 + 10 * noise, params={"method": "replay", "noise": noise}))
    found = by_path(importances(made, "op", evaluator))
    assert found["weight"].n == 40 and found["method"].n == found["noise"].n == 80
    assert found["weight"].importance > found["noise"].importance
    assert (found["weight"].effect or 0) == pytest.approx(1.0)


def test_the_order_of_the_rows_changes_nothing_and_the_same_rows_give_the_same_numbers() -> None:
    assert importances(rows(20), "op") == importances(rows(20)[::-1], "op")


def test_only_finished_trials_with_the_objective_count() -> None:
    others = [
        row(90, 99.0, params={"x": 9.0}, status="pruned"),
        row(91, None, params={"x": 9.0}),
        row(92, 99.0, params={}, role="bound"),
    ]
    assert importances([*rows(20), *others], "op", "pedanova") == importances(rows(20), "op", "pedanova")


def test_a_setting_that_never_varied_and_an_objective_that_never_did_have_no_importance() -> None:
    made = [row(number, float(number), params={"fixed": 1.0, "x": number / 9}) for number in range(10)]
    found = by_path(importances(made, "op"))
    assert (found["fixed"].importance, found["fixed"].p, found["x"].importance) == (0.0, 1.0, pytest.approx(1.0))
    found = by_path(importances(made, "op", "fanova"))
    assert found["fixed"].importance == 0 and found["fixed"].effect is None and found["x"].importance == 1
    same = [{**one, "op": 5.0} for one in made]
    assert {one.importance for one in importances(same, "op")} == {0.0}


def test_few_trials_are_refused_in_one_line() -> None:
    with pytest.raises(
        StudyError, match="needs 4 finished configurations with searched settings and op, but there are 3"
    ):
        importances(rows(3), "op")


def test_optuna_says_nothing_meanwhile(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.INFO)
    try:
        importances(rows(8), "op", "pedanova")
        assert capfd.readouterr().err == "" and optuna.logging.get_verbosity() == logging.INFO
    finally:
        optuna.logging.set_verbosity(before)


def test_a_count_beside_shares_is_a_choice_and_has_no_direction() -> None:
    path = "method.seekr.head_budget"
    budgets = [1, 1.0, 0.5, 64] * 6
    found = rows(len(budgets))
    for one, budget in zip(found, budgets, strict=True):
        one["params"] = json.dumps({path: budget, "x": json.loads(one["params"])["x"]})
        one["op"] = 90.0 if budget == 1 and isinstance(budget, int) else 10.0
    (heads, _) = importances(found, "op", "fanova")  # on one scale a single head and all of them would be the same
    assert heads.path == path and heads.importance > 0.9 and heads.effect is None


def test_few_trials_are_judged_by_their_ranks_and_many_by_a_forest() -> None:
    few, many = rows(20), rows(30)
    assert (chosen_evaluator(few, "op"), chosen_evaluator(many, "op")) == ("ranks", "fanova")
    found = by_path(importances(few, "op"))
    xs, values = [json.loads(one["params"])["x"] for one in few], [one["op"] for one in few]
    assert found["x"].importance == pytest.approx(abs(spearmanr(xs, values).statistic))
    assert found["x"].p < 0.01 < 0.05 < found["z"].p and found["x"].low is None
    letters = [json.loads(one["params"])["letter"] for one in few]
    ranks = rankdata(values) - 10.5
    between = sum(ranks[[own == letter for own in letters]].mean() ** 2 * letters.count(letter) for letter in "ab")
    assert found["letter"].importance == pytest.approx((between / (ranks**2).sum()) ** 0.5)


@pytest.mark.parametrize(("count", "studies"), [(10, 60), (40, 6)])
def test_of_noise_nothing_is_distinguishable(count: int, studies: int) -> None:
    drawn, told = np.random.default_rng(13), 0
    for _ in range(studies):
        made = [
            row(number, float(drawn.normal()), params={"x": float(drawn.random()), "y": float(drawn.random())})
            for number in range(count)
        ]
        found = importances(made, "op")
        told += any(one.p <= TOLD for one in found)
        note = importance_table(found, "op", chosen_evaluator(made, "op")).notes[0]
        assert note.startswith("NOT DISTINGUISHABLE") == all(one.p > TOLD for one in found)
    assert told / studies <= 0.1 + 1 / studies


def test_settings_that_were_tried_together_are_said() -> None:
    made = [row(n, float(n), params={"x": n / 9, "y": (n + n % 2) / 9, "z": (n * 7) % 10 / 9}) for n in range(10)]
    (line,) = settings_together(made, "op")
    assert line.startswith("x and y went together (rank correlation +0.")
