"""The report as a reader meets it: in Chromium, from its file, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.analysis.report.reported import NUM_FINISHED
from tests.browser.conftest import Opened

pytestmark = pytest.mark.browser


def heading(page: Any, text: str) -> Any:
    return page.locator("#ranking-table thead th", has=page.get_by_role("button", name=text, exact=True))


def test_the_page_opens_without_an_error_and_without_the_network(wide: Opened) -> None:
    wide.draw_all()
    wide.page.wait_for_timeout(300)
    assert wide.errors == []


def test_a_name_that_holds_markup_is_shown_and_not_obeyed(wide: Opened) -> None:
    wide.draw_all()
    assert wide.page.title() == "by-hand: report of a study"
    assert wide.page.locator("img").count() == 0
    assert "</script><script>document.title" in wide.page.locator("#choose-scores option").first.inner_text()
    assert "<img src=x" in wide.page.locator("#ranking-rows .badge", has_text="error").inner_text()


def test_every_figure_is_drawn_with_marks(wide: Opened) -> None:
    assert wide.empty_figures() == []
    assert wide.page.locator("[data-figure]").count() > 20


def test_figures_are_drawn_when_they_come_into_view_and_not_before(wide: Opened) -> None:
    time = wide.page.locator('[data-figure="time"]')
    wide.page.wait_for_timeout(300)
    assert time.locator(".main-svg").count() == 0
    time.scroll_into_view_if_needed()
    time.locator(".main-svg").first.wait_for()


def test_the_table_sorts_by_a_click_and_back(wide: Opened) -> None:
    assert wide.column("#") == ["1", "2", "3", "4", "5", "–", "–"]
    button = wide.page.get_by_role("button", name="samples", exact=True)
    button.click()
    samples = wide.column("samples")
    assert samples == sorted(samples, key=float)
    assert heading(wide.page, "samples").get_attribute("aria-sort") == "ascending"
    assert wide.page.locator("#ranking-table [aria-sort]").count() == 1
    button.click()
    assert wide.column("samples") == samples[::-1]
    assert heading(wide.page, "samples").get_attribute("aria-sort") == "descending"


def test_the_table_sorts_by_the_keyboard_and_what_has_no_value_stays_last(wide: Opened) -> None:
    wide.page.get_by_role("button", name="gain", exact=True).focus()
    for key in ("Enter", "Space"):
        wide.page.keyboard.press(key)
        gains = wide.column("gain")
        assert gains[NUM_FINISHED:] == ["–", "–"]
        assert gains[:NUM_FINISHED] == sorted(gains[:NUM_FINISHED], key=float, reverse=key == "Space")


def test_filters_leave_what_fits_all_of_them_and_say_how_many(wide: Opened) -> None:
    wide.page.locator("#filter-method").select_option("replay")
    assert set(wide.column("method")) == {"replay"}
    wide.page.locator("#filter-status").select_option("finished")
    assert wide.column("trial") == ["trial-0001", "trial-0003"]
    wide.page.get_by_label("Text", exact=True).fill("0003")
    assert wide.column("trial") == ["trial-0003"]
    assert wide.page.locator("#filter-count").inner_text() == "1 of 7 configurations"
    wide.page.keyboard.press("Enter")  # must not leave the page
    assert wide.column("trial") == ["trial-0003"]


def test_groups_of_columns_can_be_shown_and_hidden(wide: Opened) -> None:
    seconds = wide.page.get_by_role("button", name="sec", exact=True)
    assert not seconds.is_visible()
    wide.page.get_by_label("Cost").check()
    assert seconds.is_visible()


def test_choosing_a_run_shows_its_figures_in_every_section(wide: Opened) -> None:
    wide.page.locator("#choose-scores").select_option("trial-0001")
    for section in ("scores", "losses"):
        panels = wide.page.locator(f'[data-panel="{section}"]:not([hidden])')
        assert [panel.get_attribute("data-value") for panel in panels.all()] == ["trial-0001"]
        panels.locator("[data-figure]").first.scroll_into_view_if_needed()
        panels.locator(".main-svg").first.wait_for()


def test_the_first_key_leads_past_the_menu_and_focus_can_be_seen(wide: Opened) -> None:
    wide.page.keyboard.press("Tab")
    skip = wide.page.locator(":focus")
    assert skip.inner_text() == "Skip to the content"
    assert skip.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    wide.page.keyboard.press("Enter")
    assert wide.page.locator(":focus").get_attribute("id") == "summary"


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_nothing_sticks_out_of_the_page(width: str, request: pytest.FixtureRequest, screenshots: Path) -> None:
    opened: Opened = request.getfixturevalue(width)
    opened.draw_all()
    opened.page.screenshot(path=screenshots / f"report-{width}.png", full_page=True)
    assert opened.wider_than_the_screen() == []
    assert opened.errors == []


def test_a_figure_of_panels_is_stacked_on_a_phone(narrow: Opened, wide: Opened) -> None:
    lefts = {}
    for opened in (narrow, wide):
        opened.draw_all()
        titles = opened.page.locator('[data-figure="slices"] .annotation-text')
        lefts[opened] = {round(title.bounding_box()["y"]) for title in titles.all()}
    assert len(lefts[narrow]) == 3 and len(lefts[wide]) == 1


def test_the_page_prints(wide: Opened, screenshots: Path) -> None:
    path = screenshots / "report.pdf"
    wide.page.pdf(path=path, format="A4")
    assert path.read_bytes().startswith(b"%PDF")
    wide.page.emulate_media(media="print")
    wide.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not wide.page.locator("nav").is_visible()
    widths = wide.page.evaluate(
        """[...document.querySelectorAll("[data-figure]")].filter((figure) => figure.offsetParent)
             .map((figure) => figure.querySelector(".main-svg").clientWidth)"""
    )
    assert widths and max(widths) <= 680
    assert wide.page.locator("#provenance pre").first.is_visible()  # what is folded on a screen is open on paper
