"""What libraries say: known noise is dropped by name, and anything else is heard."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator

import pytest

from seekr_tune import quiet_libraries
from seekr_tune.cli.output import warnings_shown
from seekr_tune.quiet_libraries import NOISE, Noise, hear_libraries, is_heard, noise_of, python_warnings_logged


def record(logger: str, level: int, message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(logger, level, __file__, 1, message, args, None)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (
        Noise("optuna.study", r"Trial \d+ is slow", "it is not"),
        Noise("optuna.exceptions.ExperimentalWarning", "", "we know"),
    )
    monkeypatch.setattr(quiet_libraries, "NOISE", entries)


@pytest.fixture
def printing() -> Iterator[logging.Logger]:
    """A library that prints by itself, as Optuna does when it is imported."""
    logger = logging.getLogger("optuna.of_this_test")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    logger.propagate = True


@pytest.mark.parametrize(
    ("logger", "level", "message", "heard"),
    [
        ("optuna.study", logging.WARNING, "Trial 7 is slow", False),
        ("optuna.study.study", logging.ERROR, "Trial 7 is slow, indeed", False),
        ("optuna.study", logging.WARNING, "Trial seven is slow", True),
        ("optuna.studying", logging.WARNING, "Trial 7 is slow", True),  # another module, not one below
        ("ray.tune", logging.WARNING, "Trial 7 is slow", True),
        ("optuna.study", logging.INFO, "A new study was created", False),  # no warning
        ("seekr_tune.study", logging.INFO, "task finished", True),
        ("seekr_tunes", logging.INFO, "task finished", False),
    ],
)
def test_noise_is_known_by_logger_and_message(table: None, logger: str, level: int, message: str, heard: bool) -> None:
    assert is_heard(record(logger, level, message)) is heard


def test_a_record_whose_arguments_do_not_fit_is_heard_all_the_same(table: None) -> None:
    assert is_heard(record("ray.tune", logging.WARNING, "%d of %d", "one"))


def test_a_python_warning_is_known_by_its_class(table: None, caplog: pytest.LogCaptureFixture) -> None:
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings(), python_warnings_logged():
        warnings.simplefilter("always")
        warnings.warn("will change", ExperimentalWarning, stacklevel=1)
        warnings.warn("is wrong", UserWarning, stacklevel=1)
    first, second = caplog.records
    assert (is_heard(first), is_heard(second)) == (False, True)
    assert second.getMessage() == "is wrong"
    fields = vars(second)["fields"]
    assert fields["category"] == "builtins.UserWarning" and fields["place"].startswith("tests/test_quiet_libraries.py:")


def test_afterwards_python_warns_as_before() -> None:
    before = warnings.showwarning
    with python_warnings_logged():
        assert warnings.showwarning is not before
    assert warnings.showwarning is before


def test_a_library_hands_on_what_it_would_print(
    printing: logging.Logger, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    hear_libraries()
    printing.warning("no good")
    assert "no good" in caplog.text and capsys.readouterr().err == ""
    hear_libraries()  # again, for what was loaded meanwhile
    printing.warning("no good either")
    assert len(caplog.records) == 2


def test_files_of_a_library_are_left_to_it(tmp_path: object, printing: logging.Logger) -> None:
    handler = logging.FileHandler(f"{tmp_path}/ray.log", delay=True)
    printing.addHandler(handler)
    hear_libraries()
    assert printing.handlers == [handler]


def test_on_the_console_unknown_warnings_stand_in_one_line_each_once(
    table: None, printing: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, study = logging.getLogger("seekr_tune.study"), logging.getLogger("optuna.study")
    with warnings_shown():
        hear_libraries()
        for _ in range(3):
            printing.warning("no good,\nsays %s", "somebody")
            study.warning("Trial 7 is slow")
            ours.warning("%s: damaged", "task-0001")
            ours.error("run failed", extra={"fields": {"error": "an event"}})
    assert capsys.readouterr().err.splitlines() == [
        "warning: optuna.of_this_test: no good, says somebody",
        "warning: task-0001: damaged",
    ]


def test_every_entry_of_the_table_says_why_and_names_a_library() -> None:
    assert NOISE
    for entry in NOISE:
        assert entry.why and entry.origin
        assert entry.text, f"{entry.origin} would be silenced wholesale"
    assert noise_of(record("ray.tune", logging.WARNING, "something new")) is None
