"""The files of a run: none changes once its record says that it has ended, and they are always given back."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from filelock import FileLock

from seekr_tune.analysis.tensorboard import TrialWriter
from seekr_tune.atomic_files import write_atomically
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import with_values
from seekr_tune.records import TrialRecord
from seekr_tune.records import files as record_module
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.run_directory import TrialFiles
from seekr_tune.study.runs.trial import run_trial

from .test_trial import After, killed_after

REQUEST = TrialRequest("trial-0000", "trial", {"method.memory.percent": 10.0}, 0, "trial-0000")
BOUND = TrialRequest("bound-seqft", "bound", {"method.name": "seqft"}, configuration="bound-seqft")


def contents(directory: Path) -> dict[str, str]:
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name != "result.json"]
    return {str(path.relative_to(directory)): sha256(path.read_bytes()).hexdigest() for path in paths}


def finished(config: Config, directory: Path) -> None:
    run_trial(config, directory, REQUEST)


def pruned(config: Config, directory: Path) -> None:
    run_trial(config, directory, REQUEST, stops=After(0))


def killed_before_its_record(config: Config, directory: Path) -> None:
    with killed_after(3):
        run_trial(config, directory, REQUEST)
    run_trial(config, directory, REQUEST)


def taken_over_from_another_study(config: Config, directory: Path) -> None:
    cache = directory.parent / "cache"
    for place in (directory.parent / "first", directory):
        run_trial(BOUND.config(config), place, BOUND, cache=cache)


@pytest.mark.parametrize("run", [finished, pruned, killed_before_its_record, taken_over_from_another_study])
def test_nothing_changes_once_the_record_says_that_the_run_has_ended(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[[Config, Path], None]
) -> None:
    """Whoever reads the record may copy, compare or serve the other files at once, while the process still ends."""
    when_it_ended: list[dict[str, str]] = []
    directory = tmp_path / "run"

    def written(path: Path, content: bytes) -> None:
        if path == directory / "result.json" and TrialRecord.from_json(content).status in ("finished", "pruned"):
            when_it_ended.append(contents(directory))
        write_atomically(path, content)

    monkeypatch.setattr(record_module, "write_atomically", written)
    run(with_values(config, {"stream.limits.train": 16}), directory)
    assert len(when_it_ended) == 1 and "log.jsonl" in when_it_ended[0]
    assert contents(directory) == when_it_ended[0]


def test_a_directory_is_given_back_though_its_curves_cannot_be_closed(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: TrialWriter, record: TrialRecord | None = None) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TrialWriter, "close", full)
    with pytest.raises(OSError, match="No space left"):
        run_trial(with_values(config, {"stream.limits.train": 16}), tmp_path, REQUEST)
    with FileLock(tmp_path / ".lock", timeout=0):
        assert not (tmp_path / "steps.partial.jsonl").exists()
    monkeypatch.undo()
    assert TrialFiles(tmp_path, REQUEST.config(config))  # and can be taken again


def test_a_run_that_is_moved_while_it_learns_ends_after_its_step_and_goes_on_when_it_is_put_back(
    config: Config, tmp_path: Path
) -> None:
    directory, other = tmp_path / "run", tmp_path / "other"
    whole = run_trial(config, tmp_path / "whole", REQUEST)
    asked = 0

    def take_away() -> bool:
        nonlocal asked
        asked += 1
        if asked == 4:
            directory.rename(other)
        return False

    with pytest.raises(StudyError) as refused:
        run_trial(config, directory, REQUEST, stop_asked=take_away)
    assert str(refused.value).startswith(f"{directory}: was moved or deleted while it was worked on, and nothing is")
    assert asked == 4 and not directory.exists(), "nothing is made where it was"
    other.rename(directory)
    again = run_trial(config, directory, REQUEST)
    assert again.scores == whole.scores and again.status == "finished"
