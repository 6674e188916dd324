"""What became of each bad input, for the page that lists them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What one case came to.

    Attributes:
        kind: the kind of input.
        case: what is wrong with it, in words.
        outcome: `refused`, `works`, or (of numbers) `failed with the step named`.
        line: what the user reads; empty where it works.
    """

    kind: str
    case: str
    outcome: str
    line: str = ""


def write_outcomes(directory: Path, outcomes: list[Outcome]) -> None:
    """Write `bad-inputs.json`: one object a case, in the order of kinds and cases."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(outcome) for outcome in outcomes], indent=1, ensure_ascii=False)
    (directory / "bad-inputs.json").write_text(text + "\n", encoding="utf-8")
