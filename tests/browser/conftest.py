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
