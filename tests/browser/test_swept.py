"""What a user sees of studies that were really swept: the demo, and real tasks where they are at hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Opened
from tests.browser.servers import open_tab, served, texts

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", params=["demo", "superni"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The study of an experiment of ours, with three trials, and its report."""
    name = request.param
    changed = []
    if name == "superni":
        data: Path = request.getfixturevalue("data_directory")
        changed = ["--set", f"stream.root={data / 'superni'}", f"model.path={data / 'models' / 'stories260K'}"]
        changed += ["stream.limits.train=100", "stream.limits.eval=20", "recipe.epochs=2"]
    directory = tmp_path_factory.mktemp("swept") / name
    _seekr_tune("sweep", repository / "experiments" / f"{name}.yaml", *changed, "--trials", 3, "--out", directory)
    _seekr_tune("report", directory)
    return directory


def _seekr_tune(*arguments: object) -> None:
    command = [sys.executable, "-m", "seekr_tune.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_report_draws_all_that_it_holds(
    browser: Any, study: Path, screenshots: Path, width: int, height: int
) -> None:
    opened = Opened(browser, study / "report" / "index.html", width, height)
    assert opened.empty_figures() == []
    assert opened.wider_than_the_screen() == []
    opened.page.screenshot(path=screenshots / f"report-{study.name}-{width}.png", full_page=True)
    opened.page.get_by_role("button", name="samples", exact=True).click()
    samples = opened.column("samples")
    assert len(samples) == 3 and samples == sorted(samples, key=float)
    opened.page.close()
    assert opened.errors == []


def test_tensorboard_shows_its_curves(browser: Any, study: Path, screenshots: Path) -> None:
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    with served("tensorboard", study) as address:
        text = texts(open_tab(page, address, "scalars", "tf-scalar-card"))
        page.screenshot(path=screenshots / f"tensorboard-{study.name}.png")
        page.close()
    for told in (*(f"{study.name}/{run}" for run in ("bound-seqft", "trial-0000", "trial-0002")), "loss", "score"):
        assert told in text


def test_the_dashboard_shows_the_search(browser: Any, study: Path, screenshots: Path) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1800})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    with served("dashboard", study) as address:
        page.goto(address, wait_until="load")
        page.wait_for_selector(".js-plotly-plot")
        page.screenshot(path=screenshots / f"dashboard-{study.name}.png", full_page=True)
        page.close()
    assert errors == []
