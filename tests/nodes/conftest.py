"""One cluster for all tests: starting nodes takes longer than most of what the tests do with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nodes.nodes import Nodes


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """A cluster; `nodes.have(n)` gives it n nodes that train."""
    cluster = Nodes()
    yield cluster
    cluster.shutdown()
