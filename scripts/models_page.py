"""Which models are served: a tiny random model of every type is built, loaded and compared, and docs/models.md written.

    python scripts/models_page.py docs/models.md

Takes minutes. The types are those of the installed transformers; the page holds no number that depends on a machine.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the tests are no installed package
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from tests.zoo.census import Case, Outcome, all_cases, examine  # noqa: E402
from tests.zoo.served import UNBUILT  # noqa: E402

WHY = (
    ("among other parts", "is a language model among other parts: text beside pictures, sound, codes"),
    ("looks ahead", "its attention looks ahead: an encoder"),
    ("do not call it", "has layers without attention, or with attention that cannot be read"),
    ("pass s_aux", "has attention sinks, which the fused kernel leaves out"),
    ("pass softcap", "caps its attention scores, which the fused kernel does not"),
    ("layers pass", "its layers ask attention for something else that the tap does not know"),
    ("what transformers computes; differs", "would compute something else through the tap"),
    ("cannot be compared", "a pass of training fails"),
    ("cannot be loaded", "transformers cannot load it"),
    ("attention tap cannot serve", "its attention is its own, not one that transformers lets others read"),
)
"""By words of a refusal, why in short."""

HEAD = """\
# Models

Which causal language models are served: a tiny random model of every type in transformers {version} was built, loaded,
and compared with what transformers itself computes. This page is written by `make models`.

{counts}

Served means that logits (of whole, padded and cut batches), attention rows, their gradient energies and greedy answers
equal those of transformers' eager attention to rounding, sample by sample. A model of your own is compared anew
whenever it is loaded ([how-to/own-model.md](how-to/own-model.md)), so what is refused here may be served in a setting
that was not tried, and the other way round.
"""


def page(outcomes: Mapping[Case, Outcome], version: str) -> str:
    """The page `docs/models.md`."""
    by_type: dict[str, list[Case]] = {}
    for case, outcome in outcomes.items():
        if not outcome.unbuilt:
            by_type.setdefault(case.model_type, []).append(case)
    served = [name for name, cases in by_type.items() if all(outcomes[case].served for case in cases)]
    refused = [name for name, cases in by_type.items() if not any(outcomes[case].served for case in cases)]
    mixed = [name for name in by_type if name not in served and name not in refused]
    unbuilt = {case: outcome for case, outcome in outcomes.items() if outcome.unbuilt}
    counts = (
        f"Of {len(by_type) + len(unbuilt)} types, {len(served)} are served, {len(mixed)} in some settings, "
        f"{len(refused)} are refused, and {len(unbuilt)} could not be built."
    )
    return "\n".join(
        [HEAD.format(version=version, counts=counts), *_sections(outcomes, by_type, served, mixed, refused)]
    )


def _sections(
    outcomes: Mapping[Case, Outcome],
    by_type: Mapping[str, Sequence[Case]],
    served: Sequence[str],
    mixed: Sequence[str],
    refused: Sequence[str],
) -> Iterator[str]:
    yield "## Served\n"
    yield "| type | also tried |"
    yield "|---|---|"
    for name in sorted(served):
        yield f"| `{name}` | {', '.join(case.face for case in by_type[name] if case.face)} |"
    yield "\n## Served in some settings\n"
    yield "| type | setting | |"
    yield "|---|---|---|"
    for name in sorted(mixed):
        for case in by_type[name]:
            verdict = "served" if outcomes[case].served else f"refused: {why(outcomes[case].refusal)}"
            yield f"| `{name}` | {case.face or 'as it comes'} | {verdict} |"
    yield "\n## Refused\n"
    yield "| why | types |"
    yield "|---|---|"
    by_reason: dict[str, list[str]] = {}
    for name in sorted(refused):
        reasons: list[str] = []
        for case in by_type[name]:
            reason = why(outcomes[case].refusal)
            if reason not in reasons:  # a face that is refused for the same reason says nothing new
                reasons.append(reason)
                by_reason.setdefault(reason, []).append(f"`{name}`" + (f" ({case.face})" if case.face else ""))
    for reason, names in sorted(by_reason.items()):
        yield f"| {reason} | {', '.join(names)} |"
    yield "\n## Not built\n"
    yield "No model of these types could be made here; what is loaded under their names is refused.\n"
    yield "| type | why |"
    yield "|---|---|"
    for case, outcome in sorted(outcomes.items(), key=lambda found: str(found[0])):
        if outcome.unbuilt:
            yield f"| `{case}` | {UNBUILT.get(str(case), outcome.unbuilt[:120])} |"
    yield ""


def why(refusal: str) -> str:
    """A refusal in short."""
    return next((short for words, short in WHY if re.search(words, refusal)), refusal[:100])


def main() -> None:
    """Examine every type, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    import torch
    import transformers

    torch.set_num_threads(1)  # the models are tiny
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory(prefix="seekr-tune-models-") as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # what was found before is found anew
        outcomes = dict(_examined(list(all_cases())))
    unsound = [str(case) for case, outcome in outcomes.items() if not outcome.sound]
    if unsound:
        sys.exit(f"error: served wrongly, or not refused in one line: {'; '.join(unsound)}; no page is written")
    arguments.page.write_text(page(outcomes, transformers.__version__), encoding="utf-8")


def _examined(cases: Sequence[Case]) -> Iterator[tuple[Case, Outcome]]:
    """Each case with what became of it; how far it is stands on the terminal."""
    for number, case in enumerate(cases, start=1):
        print(f"\r{number}/{len(cases)} {str(case):<60}", end="", file=sys.stderr, flush=True)
        yield case, examine(case)
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
