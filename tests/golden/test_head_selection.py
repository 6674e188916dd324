from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.errors import ConfigError
from seekr_tune.methods.seekr.selection import select_heads

from .vectors import Arrays, read_json


def test_selections_equal_those_of_the_release(golden: Path) -> None:
    matrices = Arrays(golden / "head_selection" / "attn_ipt.npz")
    cases = read_json(golden / "head_selection" / "selections.json")
    numbered = [case for case in cases if isinstance(case["matrix"], int)]  # the others say "do not test": ties
    assert len(numbered) >= len(cases) - 1
    for case in numbered:
        importance = matrices[f"attn_ipt_{case['matrix']}"]
        if case["error"]:
            with pytest.raises(ConfigError, match="budget"):
                select_heads(importance, case["layer_budget"], case["head_budget"])
        else:
            selection = select_heads(importance, case["layer_budget"], case["head_budget"])
            expected = {int(layer): tuple(heads) for layer, heads in case["select_heads"].items()}
            assert dict(selection.heads) == expected, case
