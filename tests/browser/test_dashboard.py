"""optuna-dashboard in Chromium: the study, and our plots of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.servers import made_by_hand, served

pytestmark = pytest.mark.browser

PATIENCE = 60_000  # milliseconds


def test_the_study_is_shown_with_our_plots(browser: Any, tmp_path: Path, screenshots: Path) -> None:
    with served("dashboard", made_by_hand(tmp_path / "study")) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1800})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address, wait_until="load")
        page.wait_for_function("document.querySelectorAll('.gtitle').length >= 4", timeout=PATIENCE)
        page.wait_for_timeout(1500)
        titles = page.locator(".gtitle").all_text_contents()
        page.screenshot(path=screenshots / "dashboard.png", full_page=True)
        page.close()
    assert {
        "Pareto front: OP over replayed samples",
        "Scores of trial-0002 on eval, in percent",
        "Heads of trial-0002: importance",
        "Heads of trial-0002: selected",
    } <= set(titles)
    assert not errors
