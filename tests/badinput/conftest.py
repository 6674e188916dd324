"""Collects what became of each case; with `SEEKR_RELIABILITY_DIR=directory` they are written there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .report import Outcome, write_outcomes

_OUTCOMES = pytest.StashKey[list[Outcome]]()


@pytest.fixture
def outcomes(request: pytest.FixtureRequest) -> list[Outcome]:
    """Where a test leaves the outcome of its case."""
    return request.config.stash.setdefault(_OUTCOMES, [])


def pytest_sessionfinish(session: pytest.Session) -> None:
    directory, found = os.environ.get("SEEKR_RELIABILITY_DIR"), session.config.stash.get(_OUTCOMES, [])
    if directory and found:
        write_outcomes(Path(directory), found)
