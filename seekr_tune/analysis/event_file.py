"""One of TensorBoard's event files, written where it is asked for.

TensorBoard's own writer leaves that to a thread: on a full disk it dies with a traceback on the console, and a process
that is killed loses what the thread still holds. Here the call that cannot write raises, and `flush` loses nothing.
"""

from __future__ import annotations

import os
import socket
import time
from itertools import count
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter

_VERSION = "brain.Event:2"
_numbers = count()


def event_file_name() -> str:
    """A name that readers know as that of an event file, and put behind earlier ones."""
    return f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):06d}"


class EventFile:
    """A new event file.

    Args:
        path: of the file; its directory must be there.
        purge_step: readers drop what earlier files hold from this step on.

    Raises:
        OSError: by every method too: it cannot be written.
    """

    def __init__(self, path: Path, purge_step: int) -> None:
        self._file = path.open("ab")
        self._records = RecordWriter(self._file)
        self._add(Event(file_version=_VERSION))
        self._add(Event(file_version=_VERSION, step=purge_step))
        self._add(Event(session_log=SessionLog(status=SessionLog.START), step=purge_step))
        self.flush()

    def add(self, summary: Any, step: int | None = None) -> None:
        """Add what a function of `torch.utils.tensorboard.summary` has made."""
        self._add(Event(summary=summary, step=step))

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def close(self) -> None:
        """Hand everything to the system, and end."""
        self._file.close()

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
