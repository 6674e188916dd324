"""The exception tree.

    SeekrTuneError              something this project can name; never a bare traceback for a user
    ├── UserError               what the user can mend: one line, exit code 2
    │   ├── ConfigError         an experiment file, an override or a search space
    │   ├── DataError           a stream: its folders, files, rows
    │   ├── ModelError          a model or tokenizer that cannot be loaded or served
    │   ├── TrainingError       training diverged: a loss or gradient is not a number
    │   ├── StudyError          a run or study directory, or what is asked of it
    │   ├── DocumentError       a file or a JSON text that is odd, too large or damaged; tells reason and mend apart
    │   │   └── NoDocument      there is no such file
    │   └── AccessError         files that this user may not read: neither missing nor damaged
    ├── CheckpointError         a checkpoint whose files do not match its manifest
    └── Stopped                 nothing is wrong: the user ended a study or a run, which can be resumed; exit code 130

Anything else that escapes is a fault of this project: exit code 1, with a traceback.
"""

from __future__ import annotations


class SeekrTuneError(Exception):
    """Base of every error that this project raises on purpose."""


class UserError(SeekrTuneError, ValueError):
    """What the user can mend. The message says what is wrong, where, and how to mend it, in one line."""


class ConfigError(UserError):
    """An experiment file, a `--set` override or a search space is wrong."""


class DataError(UserError):
    """A stream cannot be read, or what was read cannot be learned from."""


class ModelError(UserError):
    """A model or tokenizer cannot be loaded, or the attention tap cannot serve it."""


class TrainingError(UserError):
    """A loss or a gradient stopped being a finite number; the message names the task, the step and the term."""


class StudyError(UserError):
    """A run or study directory is not what the command needs."""


class DocumentError(UserError):
    """A file that is none, or a text that is not JSON, or one beyond the bounds of `seekr_tune.documents`.

    Args:
        reason: what is wrong.
        mend: what to do about it.
        path: where, if known.
    """

    def __init__(self, reason: str, mend: str, *, path: object = None) -> None:
        place = "" if path is None else f"{path}: "
        super().__init__(f"{place}{reason}; {mend}")
        self.reason, self.mend, self.path = reason, mend, path


class NoDocument(DocumentError):
    """There is no such file."""


class AccessError(UserError):
    """This user may not read something, so nobody can say what it holds, or whether it is there."""


class CheckpointError(SeekrTuneError):
    """A checkpoint is incomplete or does not match its manifest."""


class Stopped(SeekrTuneError):
    """The user ended a study or a run; the message says how to go on."""
