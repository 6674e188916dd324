"""Every bad input is refused in one line that says where and how to mend it, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.cli import main

from . import data_files, experiments, models, overrides, saved, spaces
from .case import Case, lay_out, snapshot
from .report import Outcome

KINDS: dict[str, tuple[Case, ...]] = {
    "experiment": experiments.CASES,
    "override or command line": overrides.CASES,
    "search space": spaces.CASES,
    "data file": data_files.CASES,
    "model or tokenizer": models.CASES,
    "saved run or study": saved.CASES,
}


def params() -> Iterator[Any]:
    """Of the cases of a kind whose refusal must say the same, and of those that work, all but the first are slow."""
    for kind, cases in KINDS.items():
        seen = set()
        for case in cases:
            again = case.says in seen
            seen.add(case.says)
            yield pytest.param(kind, case, id=f"{kind}: {case.name}", marks=[pytest.mark.slow] if again else [])


@pytest.mark.parametrize(("kind", "case"), params())
def test_a_bad_input_is_refused_in_one_line_or_works(
    kind: str,
    case: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcomes: list[Outcome],
) -> None:
    lay_out(tmp_path, case)
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    capsys.readouterr()
    line = ""
    for command in case.commands:
        code = main(list(command))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        if case.works:
            assert code == 0, err
            continue
        (line,) = err.splitlines()
        assert code == 2 and line.startswith("error: "), f"exit code {code}: {err}"
        for text in case.says:
            assert text in line
        assert len(line) < 700, "a line that nobody reads to its end"
        assert snapshot(tmp_path) == before, "something was left behind"
    shown = line.replace(f"{tmp_path}/", "")
    outcomes.append(Outcome(kind, case.name, "works" if case.works else "refused", shown))


def test_the_corpus_is_large_and_no_case_stands_twice() -> None:
    names = [(kind, case.name) for kind, cases in KINDS.items() for case in cases]
    assert len(names) == len(set(names)) >= 200
