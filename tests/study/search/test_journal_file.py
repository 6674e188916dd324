"""Lines of a journal carry checksums that Optuna passes over."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seekr_tune.study.search.journal_file import CheckedJournalFile, is_entry


def journal_of_two_trials(path: Path) -> list[bytes]:
    """Its lines."""
    study = optuna.create_study(storage=JournalStorage(CheckedJournalFile(str(path))), study_name="two")
    study.optimize(lambda trial: trial.suggest_float("x", -1.0, 1e-9) ** 2 + float(trial.number), n_trials=2)
    return path.read_bytes().splitlines()


def said(line: bytes) -> list[tuple[str, object]]:
    """What Optuna reads of a line: all but the checksum, which stands last."""
    return list(json.loads(line).items())[:-1]


def test_optuna_reads_it_as_any_other_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    lines = journal_of_two_trials(path)
    plain = optuna.load_study(study_name="two", storage=JournalStorage(JournalFileBackend(str(path))))
    assert [trial.state.name for trial in plain.trials] == ["COMPLETE", "COMPLETE"]
    plain.set_user_attr("note", "written by somebody else")
    assert len(path.read_bytes().splitlines()) == len(lines) + 1
    assert all(map(is_entry, path.read_bytes().splitlines()))


def test_a_bit_that_flips_in_a_line_is_noticed_wherever_it_changes_what_is_said(tmp_path: Path) -> None:
    for line in journal_of_two_trials(tmp_path / "journal.log"):
        assert is_entry(line)
        for place in range(len(line)):
            damaged = bytearray(line)
            damaged[place] ^= 1 << place % 8
            if is_entry(bytes(damaged)):  # in the name of the checksum: the line counts as one that others have written
                assert said(bytes(damaged)) == said(line)
