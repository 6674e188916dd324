"""`make bench` runs every benchmark, and each keeps its figures under its own name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NO_FIGURES = {"__init__", "results", "page", "pictures"}


@pytest.fixture
def run(repository: Path) -> set[str]:
    """Names of the benchmarks that the Makefile runs."""
    text = (repository / "Makefile").read_text(encoding="utf-8")
    listed = re.search(r"^BENCHMARKS := (.*)$", text, re.MULTILINE)
    assert listed is not None
    return {*listed[1].split(), "quick"}


def test_every_benchmark_is_run(repository: Path, run: set[str]) -> None:
    assert {path.stem for path in (repository / "benchmarks").glob("*.py")} - NO_FIGURES == run


def test_each_keeps_what_it_found_under_its_name(repository: Path, run: set[str]) -> None:
    for name in run:
        assert f'keep("{name}", ' in (repository / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
