"""Commands of `seekr-tune` in processes that begin in milliseconds, with a fault in them if need be.

A server process has imported everything and is forked for each command (`multiprocessing`'s fork server); in the
forked one, studies run without Ray (`stand_in`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import torch

from seekr_tune.cli import main
from tests.faults.injection import Injection, built_library
from tests.faults.stand_in import without_ray
from tests.processes import in_session

ROOT = Path(__file__).parents[2]
PRELOADED = (
    *("seekr_tune.validation", "seekr_tune.study.runs.group", "seekr_tune.cluster.trainer"),
    *("seekr_tune.study.final.printed", "seekr_tune.study.search.samplers"),
    "seekr_tune.analysis.report.figures.pareto",
    *("transformers.models.llama.modeling_llama", "optuna_dashboard", "optuna.importance", "plotly.graph_objects"),
    *("scipy.stats", "sklearn.ensemble", "PIL.PngImagePlugin"),
)
"""What commands import when they need it: the server has it already."""
PATIENCE = 120.0
"""Seconds for one command."""


@dataclass(frozen=True)
class Ended:
    """What became of a command.

    Attributes:
        code: exit code; negative: the signal that killed it.
        said: what it wrote to the terminal.
        operations: paths that it changed, one for each time; of a command without a fault.
        left: ids of processes that it left behind.
    """

    code: int
    said: str
    operations: tuple[str, ...]
    left: tuple[int, ...]

    @property
    def errors(self) -> list[str]:
        """Its error lines."""
        return [line for line in self.said.splitlines() if line.startswith("error:")]

    @property
    def is_refusal(self) -> bool:
        """Whether it ended as a user's error must: code 2, one line, no traceback."""
        return self.code == 2 and len(self.errors) == 1 and "Traceback" not in self.said


class Running:
    """A command that was started on the files below a folder."""

    def __init__(self, process: Any, log: Path) -> None:
        self._process, self._log = process, log

    @property
    def pid(self) -> int:
        """Id of its process."""
        return int(self._process.pid)

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._process.exitcode is not None

    @property
    def said(self) -> str:
        """What it has written to the terminal so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.is_file() else ""

    def signal(self, number: int) -> None:
        """Send a signal to it."""
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Its end; one that takes longer than `PATIENCE` is killed."""
        self._process.join(PATIENCE)
        if not self.has_ended:
            self.signal(signal.SIGKILL)
            self._process.join()
        left = tuple(in_session(self.pid))
        trace = self._log.with_suffix(".trace")
        operations = trace.read_text().splitlines() if trace.is_file() else ()
        return Ended(self._process.exitcode, self.said, tuple(operations), left)


class Launcher:
    """Starts commands; the block holds the server.

    Args:
        folder: for the library that makes the faults, and for what the commands say.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._library = folder, built_library(folder)
        self._context = multiprocessing.get_context("forkserver")
        self._preloaded: list[str] = list(forkserver._forkserver._preload_modules)  # type: ignore[attr-defined]
        self._number = 0

    def __enter__(self) -> Self:
        _stop_server()  # another test's has neither the library nor what commands import
        self._context.set_forkserver_preload([__name__, *PRELOADED])
        with _environment(LD_PRELOAD=str(self._library), PYTHONPATH=str(ROOT)):
            self.start(self._folder, ["--help"]).wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _stop_server()  # else it lives as long as this process
        self._context.set_forkserver_preload(self._preloaded)

    def start(self, folder: Path, arguments: Sequence[object], injection: Injection | None = None) -> Running:
        """Start a command.

        Args:
            folder: operations below it count.
            arguments: of `seekr-tune`.
            injection: the fault that it makes.
        """
        self._number += 1
        log = self._folder / f"command-{self._number:05d}.log"
        words = [str(argument) for argument in arguments]
        process = self._context.Process(
            target=_run, args=(words, log, self._library, folder, injection or Injection("count"))
        )
        process.start()
        return Running(process, log)

    def run(self, folder: Path, arguments: Sequence[object], injection: Injection | None = None) -> Ended:
        """Start a command and wait for its end."""
        return self.start(folder, arguments, injection).wait()


def _stop_server() -> None:
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def _run(words: list[str], log: Path, library: Path, folder: Path, injection: Injection) -> None:
    """What the process of a command does."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    torch.set_num_threads(1)
    with without_ray():
        injection.arm(library, folder, log.with_suffix(".trace"))
        code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Variables of the environment for the time of the block, before what stands there."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value, prepend=os.pathsep)
        yield
