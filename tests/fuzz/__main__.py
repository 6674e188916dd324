"""`python -m tests.fuzz MINUTES [READER ...]`: every reader in turn, for an equal share of the time.

In the name of a reader blanks are written as hyphens. Corpora stay in runs/fuzz, so the next call goes on from what
this one has reached. What came of it is written to `fuzzing.json` in the directory that `SEEKR_RELIABILITY_DIR` names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

CORPORA = Path("runs/fuzz")
_START_SECONDS = 180
"""To import everything, and to make the files that a reader begins with."""


@dataclass(frozen=True)
class Fuzzed:
    """What came of a reader.

    Attributes:
        reader: its name.
        seconds: for which it was fuzzed.
        inputs: that it was given.
        edges, features: of the code of `seekr_tune` that they reached, as libFuzzer counts them.
        findings: places of the code where it raised what it must not, hung or took too much memory.
    """

    reader: str
    seconds: int
    inputs: int
    edges: int
    features: int
    findings: int

    def __str__(self) -> str:
        reached = f"{self.inputs:>9} inputs {self.edges:>6} edges {self.features:>6} features"
        return f"{self.reader:<26} {self.seconds:>5} s {reached}  {self.findings} findings"


def slug(name: str) -> str:
    """The name of a reader on the command line and on disk."""
    return name.replace(",", "").replace(" ", "-").lower()


def fuzz(reader: str, seconds: int) -> Fuzzed:
    """Fuzz one reader in a process of its own."""
    folder = CORPORA / slug(reader)
    shutil.rmtree(folder / "findings", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.harness", reader, str(folder), str(seconds)]
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}
    log = folder / "log.txt"
    with log.open("wb") as output:
        ended = subprocess.run(command, env=quiet, stdout=output, stderr=output, timeout=seconds + _START_SECONDS)
    said = log.read_text(encoding="utf-8", errors="replace")
    place = folder / "place.json"
    if place.is_file():
        shutil.rmtree(json.loads(place.read_text()), ignore_errors=True)
    progress = re.findall(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+)", said, re.MULTILINE)
    if not progress:
        raise SystemExit(f"error: {reader}: could not be fuzzed; {log} says why")
    inputs, edges, features = (int(number) for number in progress[-1])
    findings = [path for path in (folder / "findings").iterdir() if path.suffix != ".txt"]
    if ended.returncode and not any("-" in path.name for path in findings):  # it crashed, and libFuzzer kept no input
        raise SystemExit(f"error: {reader}: ended with code {ended.returncode}; {log} says why")
    return Fuzzed(reader, seconds, inputs, edges, features, len(findings))


def note(path: Path, outcome: Fuzzed, order: list[str]) -> None:
    """Write down what came of a reader; what stands there of others stays."""
    known = {row["reader"]: row for row in json.loads(path.read_text(encoding="utf-8"))} if path.is_file() else {}
    known[outcome.reader] = asdict(outcome)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [known[reader] for reader in order if reader in known]
    path.write_text(f"{json.dumps(rows, indent=1)}\n", encoding="utf-8")


def main(minutes: float, names: list[str]) -> int:
    """Fuzz; 1 if anything was found."""
    from tests.fuzz.readers import READERS

    known = {slug(reader.name): reader.name for reader in READERS}
    unknown = sorted({*names} - {*known})
    if unknown:
        print(f"error: {unknown[0]!r} is not one of {', '.join(known)}", file=sys.stderr)
        return 2
    names = [known[name] for name in names or known]
    seconds = max(1, round(minutes * 60 / len(names)))
    reports = os.environ.get("SEEKR_RELIABILITY_DIR")
    found = 0
    for name in names:
        outcome = fuzz(name, seconds)
        found += outcome.findings
        print(outcome, flush=True)
        if outcome.findings:
            print(f"  kept in {CORPORA / slug(name)}, as inputs and as tracebacks", flush=True)
        if reports:
            note(Path(reports) / "fuzzing.json", outcome, list(known.values()))
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
