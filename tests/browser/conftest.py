"""Chromium, and the report of a study that was made by hand, opened from its file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.analysis.report.page import report_page
from seekr_tune.study.directory.report_source import report_source
from tests.analysis.report.reported import write_study

MARKS = ".point, .js-line, .heatmaplayer image, .gl-canvas"
"""What plotly draws for a value: points and bars, lines, cells of a map."""

_QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page."""
    directory = tmp_path_factory.mktemp("study")
    path = directory / "report.html"
    path.write_text(report_page(report_source(write_study(directory))), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the page go: the directory in `SEEKR_SCREENSHOT_DIR`, else a temporary one."""
    named = os.environ.get("SEEKR_SCREENSHOT_DIR")
    return Path(named) if named else tmp_path_factory.mktemp("screenshots")


class Opened:
    """A page that was opened from its file, with what went wrong in it.

    Attributes:
        page: playwright's page.
        errors: what the console said, and what was asked of the network.
    """

    def __init__(self, browser: Any, path: Path, width: int, height: int) -> None:
        self.errors: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.route(lambda url: not url.startswith(("file:", "data:", "blob:")), self._refuse)
        self.page.goto(path.as_uri(), wait_until="load")

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _refuse(self, route: Any) -> None:
        self.errors.append(f"asked the network for {route.request.url}")
        route.abort()

    def empty_figures(self) -> list[str]:
        """Draw every figure; those that hold no mark, and `no figures` where there are none."""
        self.draw_all()
        figures = self.page.locator("[data-figure]").all()
        empty = [figure.get_attribute("data-figure") for figure in figures if figure.locator(MARKS).count() == 0]
        return [str(name) for name in empty] if figures else ["no figures"]

    def wider_than_the_screen(self) -> list[str]:
        """Figures that are wider than their place, and `the page` where it is to be scrolled sideways."""
        is_scrolled = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        wide = self.page.evaluate(
            """[...document.querySelectorAll("[data-figure]")].filter((figure) => figure.offsetParent)
                 .filter((figure) => figure.querySelector(".main-svg").clientWidth > figure.clientWidth + 1)
                 .map((figure) => figure.dataset.figure)"""
        )
        return [*(str(name) for name in wide), *(["the page"] if self.page.evaluate(is_scrolled) else [])]

    def column(self, heading: str) -> list[str]:
        """The cells below a heading of the ranking, as they stand now, without those that are filtered out."""
        index = self.page.locator("#ranking-table thead button").all_text_contents().index(heading)
        rows = self.page.locator("#ranking-rows tr:not([hidden])")
        return [rows.nth(number).locator("th, td").nth(index).inner_text() for number in range(rows.count())]

    def draw_all(self) -> None:
        """Draw every figure, hidden ones too."""
        self.page.evaluate("seekrReport.drawAll()")


@pytest.fixture
def wide(browser: Any, report: Path) -> Iterator[Opened]:
    """On a laptop."""
    opened = Opened(browser, report, 1280, 900)
    yield opened
    opened.page.close()


@pytest.fixture
def narrow(browser: Any, report: Path) -> Iterator[Opened]:
    """On a phone."""
    opened = Opened(browser, report, 390, 844)
    yield opened
    opened.page.close()
