"""Runs suites of tests one after the other, and goes on where it was stopped: `python scripts/suites.py all|long`.

What has passed is kept in a small file with the state of the source tree that it passed with: the commit, and what
differs from it. The same call goes on behind that; with any other state all begins anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SUITES: Mapping[str, Sequence[str]] = {
    "all": ("test", "test-slow", "test-cluster", "test-browser", "test-golden"),
    "long": ("test-faults", "soak", "fuzz", "test-oldest", "test-newest"),
}
"""Targets of the Makefile, in the order in which they run."""
COUNTS = ("passed", "failed", "skipped")

Results = dict[str, dict[str, Any]]
Run = Callable[[str], dict[str, Any]]


def state_of(root: Path) -> str:
    """The commit; with what differs from it, as a digest, where something does."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout

    commit, changed = git("rev-parse", "--short=12", "HEAD").decode().strip(), git("diff", "HEAD")
    for name in filter(None, git("ls-files", "--others", "--exclude-standard", "-z").split(b"\0")):
        path = root / os.fsdecode(name)
        changed += name + (path.read_bytes() if path.is_file() else b"")
    return f"{commit}+{hashlib.sha256(changed).hexdigest()[:8]}" if changed else commit


def run_suites(names: Sequence[str], state: str, kept: Path, run: Run, say: Callable[[str], None]) -> Results:
    """Run each suite that has not passed in this state yet; one that fails does not keep the next from running.

    Args:
        names: of the suites.
        state: of the source tree.
        kept: file of what has passed.
        run: runs one; its result has `ok`, `seconds` and the counts that it knows.
        say: shows a line.
    """
    results = {name: found for name, found in _read(kept, state).items() if found["ok"]}
    for name in names:
        if name in results:
            say(f"{name}: has passed with {state}")
            continue
        say(f"{name}: begins")
        results[name] = run(name)
        kept.write_text(json.dumps({"state": state, "suites": results}), encoding="utf-8")
    return {name: results[name] for name in names}


def table(results: Results, state: str) -> str:
    """The commit and, per suite, its counts and its time."""
    lines = [f"commit {state}", f"{'suite':<14}{''.join(f'{name:>9}' for name in COUNTS)}{'seconds':>9}"]
    for name, found in results.items():
        counts = "".join(f"{found.get(count, '-'):>9}" for count in COUNTS)
        lines.append(f"{name:<14}{counts}{found['seconds']:>9.0f}{'' if found['ok'] else '  FAILED'}")
    lines.append(f"{'':<14}{'':>27}{sum(found['seconds'] for found in results.values()):>9.0f}")
    return "\n".join(lines)


def run_target(name: str, root: Path, place: Path) -> dict[str, Any]:
    """One target of the Makefile; the counts of one that runs pytest."""
    report = place / f"{name}.xml"
    report.unlink(missing_ok=True)
    begun = time.monotonic()
    reported = {**os.environ, "PYTEST_ADDOPTS": f"{os.environ.get('PYTEST_ADDOPTS', '')} --junitxml='{report}'"}
    done = subprocess.run(["make", "--no-print-directory", name], cwd=root, env=reported, check=False)
    counts = counts_of(report) if report.is_file() else {}
    return {"ok": done.returncode == 0, "seconds": time.monotonic() - begun, **counts}


def counts_of(report: Path) -> dict[str, int]:
    """How many tests passed, failed and were skipped, by pytest's report."""
    totals = [suite.attrib for suite in ElementTree.parse(report).getroot().iter("testsuite")]
    tests, failed, errors, skipped = (
        sum(int(total[name]) for total in totals) for name in ("tests", "failures", "errors", "skipped")
    )
    return {"passed": tests - failed - errors - skipped, "failed": failed + errors, "skipped": skipped}


def _read(kept: Path, state: str) -> Results:
    try:
        found = json.loads(kept.read_text(encoding="utf-8"))
        return dict(found["suites"]) if found["state"] == state else {}
    except (FileNotFoundError, ValueError, KeyError):
        return {}


def main(which: str, place: str) -> int:
    """Run them, and show what came out; 1 where one has failed."""
    root, kept = Path(__file__).parent.parent, Path(place).absolute()
    state = state_of(root)

    def run(name: str) -> dict[str, Any]:
        return run_target(name, root, kept)

    results = run_suites(SUITES[which], state, kept / f"suites-{which}.json", run, lambda line: print(line, flush=True))
    print(table(results, state))
    return 0 if all(found["ok"] for found in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
