"""optuna-dashboard in Chromium: the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.servers import made_by_hand, served

pytestmark = pytest.mark.browser


def test_the_study_is_shown(browser: Any, tmp_path: Path, screenshots: Path) -> None:
    with served("dashboard", made_by_hand(tmp_path / "study")) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1800})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address, wait_until="load")
        page.wait_for_selector(".js-plotly-plot")
        page.screenshot(path=screenshots / "dashboard.png", full_page=True)
        page.close()
    assert not errors
