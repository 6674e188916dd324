"""The tables of docs/reliability.md: `python -m tests.reliability DIRECTORY`.

The directory is what `SEEKR_RELIABILITY_DIR` named when `make test-faults`, `make soak`, `make fuzz` and the tests in
`tests/badinput` and `tests/security` ran. What stands between the two markers of the page is written anew.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from benchmarks.markdown import table, with_part
from benchmarks.pictures import write_pictures
from tests.fuzz.found import FOUND

PAGE = Path("docs/reliability.md")
PICTURES = Path("docs/pictures/reliability")
Rows = Sequence[Mapping[str, Any]]


def measured_part(
    faults: Rows, soak: Mapping[str, Any], soaked: Rows, inputs: Rows, fuzzing: Rows, security: Rows
) -> str:
    """What stands between the markers.

    Args:
        faults, soaked: one entry a fault, of the campaign and of the soak.
        soak: what the driver took.
        inputs: one entry a bad input.
        fuzzing: one entry a reader.
        security: one entry an attack.
    """
    survived = sum(fault["survived"] for fault in faults)
    held = Counter(case["outcome"] for case in security)
    parts = [
        f"### Faults\n\n{len(faults)} faults, {survived} survived.",
        table(("fault", "done to", "count", "survived"), _fault_rows(faults)),
        "### Soak",
        _soak_text(soak, soaked),
        "![memory and file handles of the driver](pictures/reliability/soak.svg)",
        f"### Bad input\n\n{len(inputs)} inputs.",
        table(("kind", "inputs", "outcome"), _kind_rows(inputs)),
        "### Fuzzing",
        _fuzzing_text(fuzzing),
        table(("reader", "seconds", "inputs", "edges", "features", "mended", "open"), _fuzzing_rows(fuzzing)),
        f"### Security\n\n{len(security)} cases: {', '.join(f'{n} {name}' for name, n in held.items())}.",
        table(("kind", "cases", "outcome"), _kind_rows(security)),
    ]
    return "\n\n".join(parts)


def _fault_rows(faults: Rows) -> list[tuple[str, ...]]:
    """A row for each kind of fault; what it was done to, and how often."""
    targets: dict[str, Counter[str]] = {}
    survived = Counter[str]()
    for fault in faults:
        targets.setdefault(fault["fault"], Counter())[fault["target"]] += 1
        survived[fault["fault"]] += fault["survived"]
    return [
        (name, ", ".join(f"{target} {count}" for target, count in own.items()), str(own.total()), str(survived[name]))
        for name, own in targets.items()
    ]


def _kind_rows(cases: Rows) -> list[tuple[str, ...]]:
    by_kind: dict[str, Counter[str]] = {}
    for case in cases:
        by_kind.setdefault(case["kind"], Counter())[case["outcome"]] += 1
    return [
        (kind, str(found.total()), ", ".join(f"{count} {outcome}" for outcome, count in found.items()))
        for kind, found in by_kind.items()
    ]


def _fuzzing_text(fuzzing: Rows) -> str:
    inputs, seconds, still_open = (sum(one[name] for one in fuzzing) for name in ("inputs", "seconds", "findings"))
    return (
        f"{inputs:,} inputs to {len(fuzzing)} readers in {seconds / 60:.0f} minutes, the last session of each; edges "
        f"and features are those that its corpus reaches by now, as libFuzzer counts them. {len(FOUND)} inputs were "
        f"found that a reader did not refuse as it must, and are mended; {still_open} are open."
    )


def _fuzzing_rows(fuzzing: Rows) -> list[tuple[str, ...]]:
    mended = Counter(one.reader for one in FOUND)
    names = ("reader", "seconds", "inputs", "edges", "features")
    return [(*(str(one[name]) for name in names), str(mended[one["reader"]]), str(one["findings"])) for one in fuzzing]


def _soak_text(soak: Mapping[str, Any], soaked: Rows) -> str:
    grown, survived = soak["growth"], sum(one["survived"] for one in soaked)
    return (
        f"{soak['minutes']:g} minutes, {soak['studies']} studies back to back in one driver, each disturbed while it "
        f"ran and damaged when it stood still; {survived} survived. From the first to the last quarter behind the "
        f"warm-up, the driver's memory grew by a factor of {grown['rss_bytes']:.3f}, its open file handles by "
        f"{grown['file_handles']:.3f}. Ray alone leaves {soak['ray_alone']:.1f} sockets open for every session that a "
        "process begins and ends (the connection to its GCS; measured on bare `ray.init()` and `ray.shutdown()` in the "
        f"same run); without these, the handles grew by {grown['file_handles_without_ray']:.3f}. `seekr-tune` begins "
        "one session a process."
    )


def picture_of_soak(soak: Mapping[str, Any]) -> go.Figure:
    """Memory and file handles of the driver over time."""
    minutes = [sample["seconds"] / 60 for sample in soak["samples"]]
    picture = make_subplots(rows=1, cols=2)
    memory = [sample["rss_bytes"] / 2**20 for sample in soak["samples"]]
    handles = [sample["file_handles"] for sample in soak["samples"]]
    for column, (values, title) in enumerate(((memory, "memory, MiB"), (handles, "open file handles")), start=1):
        picture.add_trace(go.Scatter(x=minutes, y=values, mode="lines"), row=1, col=column)
        picture.update_yaxes(title_text=title, rangemode="tozero", col=column)
    picture.update_xaxes(title_text="minutes")
    return picture.update_layout(width=1000, height=320, showlegend=False, template="plotly_white")


def main(directory: Path) -> None:
    """Write the page's tables and its picture."""

    def read(name: str) -> Any:
        return json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))

    names = ("faults", "soak", "soak-faults", "bad-inputs", "fuzzing", "security")
    missing = [name for name in names if not (directory / f"{name}.json").is_file()]
    if missing:
        raise SystemExit(f"error: {directory} holds no {', '.join(missing)}; run what writes them first")
    found = {name: read(name) for name in names}
    part = measured_part(*found.values())
    write_pictures({"soak": picture_of_soak(found["soak"])}, PICTURES)
    PAGE.write_text(with_part(PAGE.read_text(encoding="utf-8"), part), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
