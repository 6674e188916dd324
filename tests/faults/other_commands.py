"""Faults in commands that are not studies: killed at a write, or refused by the disk; the same one finishes them."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from seekr_tune.records import read_record
from seekr_tune.study.directory.forgotten import erasing_path, read_erased
from seekr_tune.study.life.forget import stored_samples
from tests.faults.bench import Bench
from tests.faults.fault import Fault
from tests.faults.injection import Injection
from tests.faults.invariants import TEMPORARY, TIMES, Results, step_rows, violations
from tests.faults.plain import INJECTED, Make, last_words

NAME = "other commands"
KINDS = ("SIGKILL in a write", "torn write", "disk full", "disk read-only", "write error")


@dataclass(frozen=True)
class Command:
    """One of them.

    Attributes:
        words: its arguments, by the folder that it works in; the finished study is `study` there.
        result: what it comes to, without times.
        is_done: what it says where it has been done before; empty: it can be done again.
    """

    words: Callable[[Path, str], Sequence[object]]
    result: Callable[[Path], Any]
    is_done: str = ""


@dataclass(frozen=True)
class Undisturbed:
    """A command without a fault.

    Attributes:
        operations: how many files are changed.
        result: see `Command`.
    """

    operations: int
    result: Any


def _runs(folder: Path) -> dict[str, Any]:
    """Records and steps of all runs, of the study or beside it."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("result.json")):
        record = read_record(path).model_dump(exclude=TIMES)
        found[str(path.relative_to(folder))] = record, step_rows(path.with_name("steps.jsonl"))
    return found


def _weights(folder: Path) -> dict[str, str]:
    files = sorted((folder / "model").glob("*.safetensors"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _page(folder: Path) -> str:
    """The end of the page: it is whole."""
    return (folder / "page.html").read_text(encoding="utf-8").rstrip()[-7:]


def _memory(folder: Path) -> Any:
    """What is stored, what is erased, and the results of the study, which are as they were."""
    study = folder / "study"
    return stored_samples(study), frozenset(entry.sample for entry in read_erased(study)), Results.of(study)


COMMANDS = {
    "run": Command(
        lambda folder, _: ["run", folder.parent / "experiment" / "tiny.yaml", "--out", folder / "run"], _runs
    ),
    "finalize": Command(lambda folder, _: ["finalize", folder / "study"], _runs, "was opened on"),
    "export": Command(
        lambda folder, _: ["export", folder / "study", "--best", "--to", folder / "model"], _weights, "model"
    ),
    "report": Command(lambda folder, _: ["report", folder / "study", "--out", folder / "page.html"], _page),
    "forget": Command(lambda folder, sample: ["forget", folder / "study", "--sample", sample], _memory),
}


class OtherCommands:
    """The commands on copies of the whole study.

    Args:
        bench: has the study.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench, self._known = bench, dict[str, Undisturbed]()
        self._sample = min(stored_samples(bench.folder / "whole" / "study"))

    def fault(self, name: str, seed: int) -> tuple[Fault, Make]:
        """A fault of a random kind at a random operation of a command."""
        kind = random.Random(seed).choice(KINDS)
        return Fault(kind, name, seed), partial(self._disturb, name, kind, seed)

    def _undisturbed(self, name: str) -> Undisturbed:
        if name not in self._known:
            folder, command = self._copy(f"{name}-undisturbed"), COMMANDS[name]
            ended = self._bench.launcher.run(folder, command.words(folder, self._sample))
            assert ended.code == 0, ended.said
            self._known[name] = Undisturbed(len(ended.operations), command.result(folder))
        return self._known[name]

    def _disturb(self, name: str, kind: str, seed: int) -> Sequence[str]:
        command, recipe, undisturbed = COMMANDS[name], INJECTED[kind], self._undisturbed(name)
        folder, at = self._copy(f"{name}-{seed}"), random.Random(seed).randint(1, undisturbed.operations)
        words, launcher = command.words(folder, self._sample), self._bench.launcher
        ended = launcher.run(folder, words, Injection(recipe.kind, at, recipe.error))
        if not (ended.code <= 0 or ended.is_refusal):
            return [f"ended with code {ended.code} at operation {at}: {last_words(ended)}"]
        if erasing_path(folder / "study").is_file():
            resumed = self._bench.go_on(folder / "study")
            if not (resumed.is_refusal and "seekr-tune forget" in resumed.said):
                return [f"resumed with a half-forgotten sample: {last_words(resumed)}"]
        again = launcher.run(folder, words)
        is_done = again.is_refusal and command.is_done and command.is_done in again.said
        if again.code != 0 and not (ended.code <= 0 and is_done):
            return [f"given again, it ended with code {again.code}: {last_words(again)}"]
        wrong = [] if command.result(folder) == undisturbed.result else ["not the result of the undisturbed command"]
        return self._bench.done_with(folder / "study", [*wrong, *self._wrong(folder)])

    def _wrong(self, folder: Path) -> list[str]:
        """What does not hold of the study, and what is left behind."""
        left = [f"left behind: {path.relative_to(folder)}" for path in folder.rglob("*") if TEMPORARY.search(path.name)]
        resumed = self._bench.go_on(folder / "study")
        if resumed.code != 0:
            return [*left, f"resume ended with code {resumed.code}: {last_words(resumed)}"]
        return [*left, *violations(folder / "study", self._bench.expected)]

    def _copy(self, name: str) -> Path:
        """The folder of the whole study again, elsewhere."""
        folder = self._bench.place(name).parent
        shutil.copytree(self._bench.folder / "whole", folder, dirs_exist_ok=True)
        return folder
