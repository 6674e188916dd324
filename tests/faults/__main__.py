"""`python -m tests.faults`: the whole campaign, or the kinds of faults that are named."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.faults.campaign import COUNTS, without_ray
from tests.faults.fault import table, write_outcomes
from tests.faults.on_ray import groups_on_ray, trials_on_ray
from tests.faults.small_disk import NAME, start_again_with_own_mounts

ON_RAY = {"trials on Ray": trials_on_ray, "groups on Ray": groups_on_ray}
"""What makes the faults of Ray's processes, by name."""


def main(names: list[str]) -> int:
    """Make the faults; 1 if a study did not survive one."""
    known = [*COUNTS, *ON_RAY]
    unknown = sorted(set(names) - {*known})
    if unknown:
        print(f"error: {unknown[0]!r} is not one of {', '.join(known)}", file=sys.stderr)
        return 2
    if NAME in (names or known):
        start_again_with_own_mounts("tests.faults", names)
    names = names or known
    seed = int(os.environ.get("SEEKR_FAULT_SEED", "0"))
    reports = os.environ.get("SEEKR_RELIABILITY_DIR")
    folder = Path(tempfile.mkdtemp(prefix="seekr-faults-"))
    say = partial(print, flush=True)
    say(f"SEEKR_FAULT_SEED={seed}; studies are made in {folder}")
    plain = [name for name in names if name in COUNTS]
    outcomes = without_ray(folder / "plain", seed, plain, say) if plain else []
    for name in ON_RAY:
        outcomes += ON_RAY[name](folder / "ray", seed, say) if name in names else []
        if reports:
            write_outcomes(Path(reports) / "faults.json", outcomes)
    say(table(outcomes))
    return int(not all(outcome.survived for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
