"""What libraries say that is no news, by name; everything else that they say is heard.

Libraries print on stderr, each in its own way. `hear_libraries` makes them hand their records on instead, so that one
filter, `is_heard`, stands before the console of a command and before the log of a run (`study.directory.log`).
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

OURS = "seekr_tune"
LIBRARIES = ("datasets", "huggingface_hub", "optuna", "peft", "ray", "torch", "transformers")
"""Those that print by themselves; others hand their records on anyway."""

_WARNINGS = "py.warnings"
"""Logger of what comes through Python's `warnings`, as the standard library calls it."""


@dataclass(frozen=True)
class Noise:
    """One thing that a library says.

    Attributes:
        origin: logger that it comes from, those below it included; of a Python warning the class, as `module.Name`.
        text: what the message begins with, a regular expression.
        why: it is no news.
    """

    origin: str
    text: str
    why: str


NOISE = (
    Noise(
        "optuna.exceptions.ExperimentalWarning",
        r"\S+ is experimental \(supported from v",
        "versions are pinned, so what may change in a later one does not change here",
    ),
    Noise(
        "builtins.FutureWarning",
        "`is_gradient_checkpointing` is deprecated",
        "PEFT calls transformers by a name that a later version will drop",
    ),
    Noise(
        "datasets.packaged_modules",
        r"Failed to (read|load) ",
        "a file that cannot be read ends in an error of ours, which names it",
    ),
    Noise(
        "huggingface_hub.utils._http",
        r".* thrown while requesting |Retrying in ",
        "a hub that answers at last does no harm, and one that does not ends in an error of ours",
    ),
    Noise(
        "ray._private.authentication",
        "Token authentication is enabled for this Ray cluster",
        "so it shall be",
    ),
    Noise(
        "ray.tune.analysis",
        r"Failed to fetch metrics for \d+ trial",
        "Tune looks for files of its own loggers, which are off: results stand in the runs' directories",
    ),
    Noise(
        "ray.tune.tune",
        "Trials did not complete: ",
        "each of them has a line of its own, with the cause",
    ),
)


def is_heard(record: logging.LogRecord) -> bool:
    """Whether a record is news: all of ours, and warnings and errors of libraries that `NOISE` does not name."""
    if record.name == OURS or record.name.startswith(f"{OURS}."):
        return True
    return record.levelno >= logging.WARNING and noise_of(record) is None


def noise_of(record: logging.LogRecord) -> Noise | None:
    """The entry of `NOISE` that a library's record falls under."""
    origin, message = getattr(record, "category", record.name), message_of(record)
    for noise in NOISE:
        if f"{origin}.".startswith(f"{noise.origin}.") and re.match(noise.text, message):
            return noise
    return None


def message_of(record: logging.LogRecord) -> str:
    """What a record says; where a library gave other arguments than its message has places for, the message alone."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


def hear_libraries() -> None:
    """Let libraries that are loaded hand on what they would print; those that are loaded later need another call."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in LIBRARIES:
            printing = [handler for handler in logger.handlers if _prints(handler)]
            for handler in printing:
                logger.removeHandler(handler)
                logger.propagate = True


@contextmanager
def python_warnings_logged() -> Iterator[None]:
    """Python's warnings are log records for the time of the block, with their class as `category`."""
    before = warnings.showwarning
    warnings.showwarning = _log_warning
    try:
        yield
    finally:
        warnings.showwarning = before


def _prints(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    name = f"{category.__module__}.{category.__qualname__}"
    origin = {"category": name, "fields": {"category": name, "place": f"{_inside_library(filename)}:{lineno}"}}
    logging.getLogger(_WARNINGS).warning("%s", message, extra=origin)


def _inside_library(filename: str) -> str:
    """A path as it is below the folder that Python imports it from."""
    path = Path(filename)
    roots = [root for root in sys.path if root and path.is_relative_to(root)]
    return str(path.relative_to(max(roots, key=len))) if roots else filename
