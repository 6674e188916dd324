"""Parts of a page that a program writes: what stands between two markers, and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def with_part(page: str, part: str) -> str:
    """A page with a new part between its markers.

    Raises:
        SystemExit: a marker is missing, or they are the wrong way round.
    """
    begin, end = page.find(BEGIN), page.find(END)
    if not 0 <= begin < end:
        raise SystemExit(f"error: the page must have a line {BEGIN} and after it a line {END}; put them back")
    return f"{page[: begin + len(BEGIN)]}\n\n{part}\n\n{page[end:]}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a bar in a cell stays one."""

    def lines() -> Iterator[str]:
        yield _row(head)
        yield _row(["---"] * len(head))
        for row in rows:
            yield _row([cell.replace("|", "\\|") for cell in row])

    return "\n".join(lines())


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
