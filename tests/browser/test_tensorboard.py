"""TensorBoard in Chromium: curves, charts, pictures of heads and settings of a study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.servers import SHOWN, made_by_hand, open_tab, served, texts

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    study = made_by_hand(tmp_path_factory.mktemp("board") / "study")
    with served("tensorboard", study) as url:
        yield url


@pytest.fixture
def tab(browser: Any, address: str, screenshots: Path) -> Iterator[Any]:
    """Opens a tab of TensorBoard and waits until it shows something; keeps a picture of how it ends."""
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    opened: list[str] = []

    def opens(name: str, selector: str) -> Any:
        opened.append(name)
        return open_tab(page, address, name, selector)

    yield opens
    page.wait_for_timeout(1500)  # charts fade in
    page.screenshot(path=screenshots / f"tensorboard_{'_'.join(opened)}.png")
    page.close()


def test_curves_are_grouped_by_what_they_are_and_runs_by_study(tab: Any) -> None:
    page = tab("scalars", "tf-scalar-card")
    text = texts(page)
    for told in (*(f"study/{run}" for run in SHOWN), "loss", "replay", "score", "throughput"):
        assert told in text


def test_the_charts_show_the_scores_of_all_tasks_together(tab: Any) -> None:
    page = tab("custom_scalars", "tf-custom-scalar-multi-line-chart-card")
    text = texts(page)
    assert "Losses" in text and "Scores" in text and "new and replay steps" in text
    assert page.locator("tf-custom-scalar-multi-line-chart-card").count() >= 2


def test_settings_and_results_stand_beside_each_other(tab: Any) -> None:
    page = tab("hparams", "text=study/trial-0002")
    text = texts(page)
    assert "method.memory.percent" in text and "hparam/op" in text and "study/bound-seqft" in text
