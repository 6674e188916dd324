"""Where the golden vectors are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden() -> Path:
    """Directory of the golden vectors: `SEEKR_GOLDEN_DIR`, else the subset that is kept beside the tests."""
    directory = Path(os.environ.get("SEEKR_GOLDEN_DIR", Path(__file__).parent / "data"))
    if not directory.is_dir():
        pytest.skip(f"no golden vectors at {directory}; set SEEKR_GOLDEN_DIR")
    return directory
