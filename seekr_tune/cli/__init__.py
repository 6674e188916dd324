"""The command line: parse, call, print. What a command does is in the modules that it calls.

Exit codes: 0 done; 2 the user can mend it (one line on stderr that says how); 3 the gate of `extend` refused an update;
130 somebody ended it (Ctrl-C, SIGTERM, `stop`) and it can go on; 1 a fault of ours (a traceback).
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from seekr_tune.cli import compare, dashboard, doctor, export, log, privacy, report, results, runs, studies
from seekr_tune.cli.app import app
from seekr_tune.cli.experiments import default_run_directory, default_study_directory
from seekr_tune.cli.output import say, say_traceback, warnings_shown
from seekr_tune.errors import Stopped, StudyError, UserError
from seekr_tune.study.directory.disk import disk_fault

__all__ = [
    "app",
    "compare",
    "dashboard",
    "default_run_directory",
    "default_study_directory",
    "doctor",
    "export",
    "log",
    "main",
    "one_flag_per_assignment",
    "privacy",
    "report",
    "results",
    "runs",
    "studies",
]

USER_ERROR = 2
ENDED_BY_USER = 130
_MOVED = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` by default); returns the exit code."""
    # Read when the libraries are imported: no progress bars, of transformers too.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if argv is None:  # this process is the command
        sys.excepthook = say_traceback
        atexit.register(gc.freeze)  # at its end Python would look through all that was read once more
    arguments = one_flag_per_assignment(sys.argv[1:] if argv is None else argv)
    try:
        _require_working_directory()
        with warnings_shown():
            code: Any = app(args=arguments or ["--help"], prog_name="seekr-tune", standalone_mode=False)
    except UserError as error:
        return _refuse(str(error))
    except Stopped as stopped:
        say(str(stopped))
        return ENDED_BY_USER
    except typer.TyperException as error:
        return _refuse(_usage(error))
    except MemoryError:
        return _refuse("this machine has not enough memory for that; lower the sizes, which `seekr-tune plan` adds up")
    except Exception as error:
        return _refuse(_of_files(error))
    if code == ENDED_BY_USER:  # Ctrl-C where nothing waits for a step to end
        say("ended by Ctrl-C; what was saved goes on with the same command, a study with `seekr-tune resume`")
    return code if isinstance(code, int) else 0


def one_flag_per_assignment(arguments: Sequence[str]) -> list[str]:
    """Let one `--set` take several assignments: `--set a=1 b=2` becomes `--set a=1 --set b=2`."""
    expanded: list[str] = []
    after_set = False
    for argument in arguments:
        is_assignment = "=" in argument and not argument.startswith("-")
        if after_set and is_assignment and expanded[-1] != "--set":
            expanded.append("--set")
        after_set = argument == "--set" or (after_set and is_assignment)
        expanded.append(argument)
    return expanded


def _require_working_directory() -> None:
    """Refuse to start where relative paths lead nowhere.

    Raises:
        StudyError: the working directory was removed.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise StudyError(
            "the working directory was removed or replaced; change into one that is there (`cd`)"
        ) from None


def _of_files(error: Exception) -> str:
    """What a disk, or somebody else's file, has refused. An error of another kind is ours, and raised again."""
    place = getattr(error, "filename", None) or "a file"
    if isinstance(error, _MOVED) and getattr(error, "filename", None):
        return (
            f"{place}: something else is there than this command needs, or nothing any more ({error.strerror}); put "
            "back what was moved or replaced, or choose another place"
        )
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{str(place)[:100]}...: the name is too long; give a shorter one"
    if isinstance(error, PermissionError):
        return f"{place}: this user may not read or write there ({error.strerror}); choose another place, or allow it"
    fault = disk_fault(error)
    if fault is None:
        raise error
    return f"{place}: {fault}, then give the same command again"


def _usage(error: typer.TyperException) -> str:
    """What was wrong with the command line, and where its options are listed."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "seekr-tune"
    message = getattr(error, "format_message", error.__str__)()
    return f"{message.rstrip('.')}; see `{command} --help`"


def _refuse(message: str) -> int:
    say(f"error: {' '.join(message.split())}")
    return USER_ERROR
