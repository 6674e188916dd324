from __future__ import annotations

import pytest
from synthetic import RecordFactory


@pytest.fixture(scope="session")
def make_record() -> RecordFactory:
    return RecordFactory()
