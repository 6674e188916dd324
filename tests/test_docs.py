"""The docs hang together: every page is found from the first one, anchors exist, pictures are small and used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
MOST_PICTURE_BYTES = 150_000


def text_of(page: Path) -> str:
    """A page without its blocks of code, whose lines may look like headings and links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Files of this project that a page leads to, and the anchor in each; empty: its top."""
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        if not target.startswith("https://"):
            file, _, anchor = target.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


def anchors(page: Path) -> set[str]:
    """Anchors as GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_files_and_anchors_of_links_exist(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target.name}#{anchor}"


def test_anchors_are_those_of_headings_and_not_of_comments_in_code(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# What `rank` says, and why\n\n```bash\n# no heading\n```\n\n    # nor this\n", encoding="utf-8")
    assert anchors(page) == {"what-rank-says-and-why"}


def test_every_page_is_reached_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        waiting += [to for to, _ in links(page) if to.suffix == ".md" and DOCS in to.parents and to not in reached]
    assert set(PAGES) == reached


def test_pictures_are_small_and_shown() -> None:
    shown = {target for page in PAGES for target, _ in links(page)}
    for picture in filter(Path.is_file, (DOCS / "pictures").rglob("*")):
        assert picture.stat().st_size < MOST_PICTURE_BYTES, picture.name
        assert picture in shown, picture.name
