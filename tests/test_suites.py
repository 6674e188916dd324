"""`make test-all` and `make test-long`: what has passed is not run again, what has not is."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.suites import COUNTS, SUITES, counts_of, run_suites, state_of, table

Ran = list[str]
Run = Callable[[str], dict[str, Any]]


def running(ran: Ran, **ends: bool | BaseException) -> Run:
    """Suites that end as they are told; all others pass."""

    def run(name: str) -> dict[str, Any]:
        ran.append(name)
        end = ends.get(name, True)
        if isinstance(end, BaseException):
            raise end
        return {"ok": end, "seconds": 2.0, "passed": 3, "failed": int(not end), "skipped": 0}

    return run


def called(kept: Path, state: str, run: Run) -> dict[str, dict[str, Any]]:
    return run_suites(("one", "two", "three"), state, kept, run, lambda line: None)


def test_the_same_call_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    kept, ran = tmp_path / "suites.json", Ran()
    with pytest.raises(KeyboardInterrupt):
        called(kept, "abc", running(ran, two=KeyboardInterrupt()))
    results = called(kept, "abc", running(ran))
    assert ran == ["one", "two", "two", "three"] and [*results] == ["one", "two", "three"]


def test_what_has_failed_is_run_again_and_does_not_keep_the_next_from_running(tmp_path: Path) -> None:
    kept, ran = tmp_path / "suites.json", Ran()
    results = called(kept, "abc", running(ran, two=False))
    assert [found["ok"] for found in results.values()] == [True, False, True]
    called(kept, "abc", running(ran))
    assert ran == ["one", "two", "three", "two"]


def test_another_state_of_the_tree_begins_anew_and_so_does_a_damaged_file(tmp_path: Path) -> None:
    kept, ran = tmp_path / "suites.json", Ran()
    called(kept, "abc", running(ran))
    called(kept, "abc+1234", running(ran))
    kept.write_text("{")
    called(kept, "abc+1234", running(ran))
    assert ran == ["one", "two", "three"] * 3


def test_the_state_is_the_commit_and_what_differs_from_it(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    clean = state_of(tmp_path)
    (tmp_path / "a").write_text("2")
    changed = state_of(tmp_path)
    (tmp_path / "new").write_text("1")
    assert re.fullmatch("[0-9a-f]{12}", clean) and changed.startswith(f"{clean}+")
    assert len({clean, changed, state_of(tmp_path)}) == 3


def test_the_table_names_the_commit_the_counts_and_the_seconds(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="2"/>'
        '<testsuite tests="1" failures="0" errors="0" skipped="0"/></testsuites>'
    )
    counts = counts_of(report)
    assert counts == {"passed": 5, "failed": 3, "skipped": 2} and counts.keys() == set(COUNTS)
    shown = table({"test": {"ok": False, "seconds": 61.0, **counts}, "soak": {"ok": True, "seconds": 2.0}}, "abc")
    assert [line.split() for line in shown.splitlines()] == [
        ["commit", "abc"],
        ["suite", "passed", "failed", "skipped", "seconds"],
        ["test", "5", "3", "2", "61", "FAILED"],
        ["soak", "-", "-", "-", "2"],
        ["63"],
    ]


def test_every_suite_is_a_target_of_the_makefile(repository: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    assert {name for names in SUITES.values() for name in names} <= targets
