"""A dozen faults of the campaign that `make test-faults` makes in full: one of each kind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seekr_tune.records import read_record, write_record
from seekr_tune.study.directory.layout import journal_path, result_path
from tests.faults.bench import Bench
from tests.faults.command import Launcher
from tests.faults.damage import damaged, stopped_studies
from tests.faults.invariants import violations
from tests.faults.other_commands import OtherCommands
from tests.faults.plain import injected, signalled
from tests.faults.small_disk import ANY_FILE, OWN_MOUNTS, can_mount, on_small_disk

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: faults are preloaded")

SMALL = {"stream.tasks": ["star", "last"], "study.trials": 2, "study.disk_gigabytes": 0.003}
INJECTED = [
    ("SIGKILL in a write", "journal"),
    ("torn write", "checkpoint"),
    ("disk full", "record"),
    ("write error", "steps"),
    ("clock a day behind", "journal"),
]
DAMAGED = [("bit flipped", "record"), ("truncated", "journal"), ("swapped", "record"), ("deleted", "settings")]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Two short trials and a bound, undisturbed."""
    folder = tmp_path_factory.mktemp("faults")
    with Launcher(folder) as launcher:
        yield Bench.prepare(launcher, folder, **SMALL)


@pytest.fixture(scope="module")
def stopped(bench: Bench) -> list[Path]:
    """Studies that were killed, and one that is finished."""
    return stopped_studies(bench, seed=0)


@pytest.mark.parametrize(("name", "target"), INJECTED)
def test_a_study_survives_what_happens_in_its_process(bench: Bench, name: str, target: str) -> None:
    fault, make = injected(bench, name, target, seed=1)
    assert list(make()) == [], fault


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSTOP"])
def test_a_study_survives_signals(bench: Bench, name: str) -> None:
    fault, make = signalled(bench, name, seed=1)
    assert list(make()) == [], fault


@pytest.mark.parametrize(("name", "target"), DAMAGED)
def test_a_stopped_study_survives_damage(bench: Bench, stopped: list[Path], name: str, target: str) -> None:
    fault, make = damaged(bench, stopped, name, target, seed=1)
    assert list(make()) == [], fault


@pytest.mark.parametrize("name", ["run", "forget"])
def test_a_command_is_finished_when_it_is_given_again(bench: Bench, name: str) -> None:
    fault, make = OtherCommands(bench).fault(name, seed=2)
    assert list(make()) == [], fault


def test_a_study_survives_a_disk_that_is_too_small(request: pytest.FixtureRequest) -> None:
    if can_mount():
        fault, make = on_small_disk(request.getfixturevalue("bench"), ANY_FILE, seed=1)
        assert list(make()) == [], fault
        return
    if shutil.which("unshare") is None or subprocess.run([*OWN_MOUNTS, "true"]).returncode != 0:
        pytest.skip("needs root or user namespaces: it mounts a small disk")
    command = [*OWN_MOUNTS, sys.executable, "-m", "pytest", request.node.nodeid]
    assert subprocess.run(command, cwd=request.config.rootpath).returncode == 0


def test_what_does_not_hold_is_noticed(bench: Bench) -> None:
    """Else all of the above could not fail."""
    study = bench.place("wrong")
    shutil.copytree(bench.folder / "whole", study.parent, dirs_exist_ok=True)
    assert violations(study, bench.expected) == []
    path = result_path(study, "trial-0001")
    record = read_record(path)
    write_record(path, record.model_copy(update={"scores": record.scores[:-1]}))
    (study / "ledger" / ".trials.parquet.host-1.partial").touch()
    (study / "filler").write_bytes(bytes(3_000_000))
    lines = journal_path(study).read_bytes().splitlines(keepends=True)
    journal_path(study).write_bytes(b"".join(line for line in lines if b'"state":1' not in line))
    wrong = "\n".join(violations(study, bench.expected))
    for sign in ("record trial-0001", "trial 0 is", "ledger: trial-0000", "left behind", "more than study.disk"):
        assert sign in wrong
    shutil.rmtree(path.parent)
    assert any("trial-0001: lost" in line for line in violations(study, bench.expected))
