"""What is given to `make` reaches the shell as words: whatever is in a path, nothing of it is run."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

KIND = "text that is obeyed"
MAKEFILE = Path(__file__).parent.parent.parent / "Makefile"
HOSTILE = 'it\'s $(touch x); `touch y` "a  b" & <c>'


@pytest.fixture(autouse=True)
def no_make_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test` hands its level and variables on to every make below it, which then says where it is, and obeys."""
    for name in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("target", "variables", "words"),
    [
        ("sweep", ("EXPERIMENT", "OUT"), [HOSTILE, "--out", HOSTILE]),
        ("resume", ("OUT", "TRIALS"), [HOSTILE, "--trials", HOSTILE]),
        ("rank", ("OUT", "BY", "FORMAT"), [HOSTILE, "--by", HOSTILE, "--format", HOSTILE]),
        ("status", ("OUT",), [HOSTILE]),
        ("tensorboard", ("OUT", "PORT"), [HOSTILE, "--port", HOSTILE]),
        ("dashboard", ("OUT",), [HOSTILE]),
        ("export", ("OUT", "TO"), [HOSTILE, "--best", "--to", HOSTILE]),
        ("run", ("EXPERIMENT",), [HOSTILE]),  # the command names a directory by itself: that of OUT is a study's
        ("run", ("EXPERIMENT", "OUT"), [HOSTILE, "--out", HOSTILE]),
        ("run", ("SET",), ["experiments/demo.yaml", *(w for part in HOSTILE.split() for w in ("--set", part))]),
        ("compare", ("DIRS",), HOSTILE.split()),
    ],
)
def test_a_variable_of_make_is_a_word(
    tmp_path: Path, target: str, variables: tuple[str, ...], words: list[str]
) -> None:
    """The target's commands with a program in the place of ours that says what it was given."""
    program = tmp_path / "bin" / "seekr-tune"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\" > $(dirname $0)/given-$1\n")
    program.chmod(0o700)
    (tmp_path / HOSTILE.replace("/", "")).mkdir()
    given = [f"{name}={HOSTILE.replace('$', '$$')}" for name in variables]
    line = ["make", "-f", str(MAKEFILE), target, f"BIN={program.parent}", "READY=", *given]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, *said = (program.parent / f"given-{target}").read_text().removesuffix("\0").split("\0")
    assert said == words
    assert {path.name for path in tmp_path.iterdir()} == {"bin", HOSTILE}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("target", "given", "words"),
    [
        ("sweep", "EXPERIMENT=my dir/a  b.yaml", ["sweep", "my dir/a  b.yaml", "--out", "runs/a  b"]),
        ("export", "OUT=my dir/a  b", ["export", "my dir/a  b", "--best", "--to", "models/a  b"]),
        ("compare", "OUT=my dir/a  b", ["compare", "my dir/a  b"]),
    ],
)
def test_what_follows_from_a_path_with_blanks_has_them_too(target: str, given: str, words: list[str]) -> None:
    shown = ["make", "-f", str(MAKEFILE), "--dry-run", target, "BIN=bin", "READY=", given]
    line = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    assert shlex.split(line) == ["bin/seekr-tune", *words]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    line = ["make", "-f", str(MAKEFILE), "tensorboard", "READY=", f"OUT={HOSTILE.replace('$', '$$')}"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"error: {HOSTILE}: no such directory; run 'make sweep' first" in done.stderr
    assert done.returncode == 2 and not list(tmp_path.iterdir())
