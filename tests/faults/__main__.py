"""`python -m tests.faults`: the whole campaign, or the kinds of faults that are named."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.faults.campaign import COUNTS, without_ray
from tests.faults.fault import table, write_outcomes


def main(names: list[str]) -> int:
    """Make the faults; 1 if a study did not survive one."""
    unknown = sorted(set(names) - {*COUNTS})
    if unknown:
        print(f"error: {unknown[0]!r} is not one of {', '.join(COUNTS)}", file=sys.stderr)
        return 2
    seed = int(os.environ.get("SEEKR_FAULT_SEED", "0"))
    reports = os.environ.get("SEEKR_RELIABILITY_DIR")
    folder = Path(tempfile.mkdtemp(prefix="seekr-faults-"))
    say = partial(print, flush=True)
    say(f"SEEKR_FAULT_SEED={seed}; studies are made in {folder}")
    outcomes = without_ray(folder, seed, names or list(COUNTS), say)
    say(table(outcomes))
    if reports:
        write_outcomes(Path(reports) / "faults.json", outcomes)
    return int(not all(outcome.survived for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
