"""`make bench` runs every benchmark, and each keeps its figures under its own name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


@pytest.fixture
def run(repository: Path) -> set[str]:
    """Names of the benchmarks that the Makefile runs."""
    text = (repository / "Makefile").read_text(encoding="utf-8")
    listed = re.search(r"^BENCHMARKS := (.*)$", text, re.MULTILINE)
    assert listed is not None
    return {*listed[1].split(), "quick"}


def test_every_benchmark_is_run_and_keeps_what_it_found_under_its_name(repository: Path, run: set[str]) -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (repository / "benchmarks").glob("*.py")}
    kept = {name: re.findall(r'\bkeep\("(\w+)"', text) for name, text in texts.items()}
    assert {name: [name] for name in run} == {name: own for name, own in kept.items() if own}
