"""The vectors that are kept beside the tests are those of the full directory: to test with the full one tests both."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

SUBSET = Path(__file__).parent / "data"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_full_directory_holds_the_subset(golden: Path) -> None:
    if golden == SUBSET:
        pytest.skip("only the subset is here; set SEEKR_GOLDEN_DIR to the full directory")
    names = [path.relative_to(SUBSET) for path in SUBSET.rglob("*") if path.is_file() and path.name != "README.md"]
    assert len(names) >= 20
    assert {str(name): digest(SUBSET / name) for name in names} == {str(name): digest(golden / name) for name in names}
