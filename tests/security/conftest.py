"""Every test here is an attack that must come to nothing; with `SEEKR_RELIABILITY_DIR=directory` the list of them is
written there as `security.json`: `{kind, case, outcome}`, a kind a module, an outcome `held`, `BROKEN` or `skipped`."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_OUTCOMES = pytest.StashKey[list[dict[str, str]]]()
_WORDS = {"passed": "held", "failed": "BROKEN", "skipped": "skipped"}
_HERE = Path(__file__).parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if _HERE in item.path.parents and (report.when == "call" or report.outcome != "passed"):
        outcome = {"kind": _kind_of(item), "case": _case_of(item), "outcome": _WORDS[report.outcome]}
        item.config.stash.setdefault(_OUTCOMES, []).append(outcome)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    directory, found = os.environ.get("SEEKR_RELIABILITY_DIR"), session.config.stash.get(_OUTCOMES, [])
    if directory and found:
        Path(directory).mkdir(parents=True, exist_ok=True)
        text = json.dumps(found, indent=1, ensure_ascii=False)
        (Path(directory) / "security.json").write_text(f"{text}\n", encoding="utf-8")


def _kind_of(item: pytest.Item) -> str:
    module: Any = getattr(item, "module", None)
    return str(module.KIND)


def _case_of(item: pytest.Item) -> str:
    name, _, case = item.name.partition("[")
    sentence = name.removeprefix("test_").replace("_", " ")
    return f"{sentence}: {case.removesuffix(']')}" if case else sentence


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there when code of an attacker has run."""
    return tmp_path / "somebody-was-here"
