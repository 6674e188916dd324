from __future__ import annotations

from pathlib import Path

import pytest
from reported import write_study

from seekr_tune.analysis.ledger import read_trials
from seekr_tune.analysis.ranking import Ranking, rank
from seekr_tune.analysis.report.page import report_page
from seekr_tune.study.directory.report_source import report_source


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a study with two replicates a configuration."""
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def page(study: Path) -> str:
    """Its report."""
    return report_page(report_source(study))


@pytest.fixture
def ranking(study: Path) -> Ranking:
    """Its ranking by OP; rows may be changed."""
    return rank(read_trials(study), "op")
