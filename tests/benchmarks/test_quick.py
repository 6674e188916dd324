"""The check of ratios fails when it must."""

from __future__ import annotations

import pytest

from benchmarks import quick
from benchmarks.gpu import compare
from benchmarks.gpu.models import Setting


@pytest.mark.parametrize(("ratio", "code"), [(1.14, 0), (1.16, 1)])
def test_a_ratio_may_leave_its_goal_by_the_noise_and_no_more(
    ratio: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"case": "replay", "length": 256, "distilled/plain time": ratio, "maps/plain time": 9.0}
    monkeypatch.setattr(quick, "measured", lambda sizes: [row])
    assert quick.main([]) == code
    said = capsys.readouterr().out
    assert ("MISSED" in said) == bool(code)
    assert "maps/plain time 9.000" in said


def test_every_goal_is_of_a_ratio_that_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "SETTING", Setting("tiny", False, False))
    monkeypatch.setattr(compare, "WARM_UP", 0)
    names = {
        (row["case"], name) for row in quick.measured(dict.fromkeys(quick.MEASURES, "--lengths 64")) for name in row
    }
    assert {(goal.case, goal.ratio) for goal in quick.GOALS} <= names


def test_what_is_kept_names_both_sides_and_the_goal() -> None:
    row = {"case": "step", "length": 256, "learner tokens/s": 99.0, "learner/bare time": 1.2, "bare": {"ms": 1.0}}
    speed, ratio = quick.figures_of(row)
    assert (speed.name, speed.value, speed.unit) == ("new-task step, 256 tokens a sample, learner", 99.0, "tokens/s")
    assert (ratio.name, ratio.against) == ("new-task step, 256 tokens a sample, learner: time", "bare")
    assert ratio.goal == pytest.approx(1 / 0.97) and ratio.misses
