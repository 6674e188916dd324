"""optuna-dashboard in Chromium: the study, and our plots of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.servers import made_by_hand, served, titles_of_plots

pytestmark = pytest.mark.browser


def test_the_study_is_shown_with_our_plots(browser: Any, tmp_path: Path, screenshots: Path) -> None:
    with served("dashboard", made_by_hand(tmp_path / "study")) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1800})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        titles = titles_of_plots(page, address, at_least=4)
        page.screenshot(path=screenshots / "dashboard.png", full_page=True)
        page.close()
    assert {
        "Pareto front: OP over replayed samples",
        "Scores of trial-0002 on eval, in percent",
        "Heads of trial-0002: importance",
        "Heads of trial-0002: selected",
    } <= set(titles)
    assert not errors
