"""The page about methods of one's own shows the example, and what it shows runs."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from seekr_tune.experiment import load_experiment
from seekr_tune.methods.registry import require_methods

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "own-method.md").read_text(encoding="utf-8")
METHOD, TEST = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
MOST_LINES = 80


def test_the_code_of_the_page_is_the_example() -> None:
    assert (ROOT / "examples" / "plugins" / "ewc" / "ewc.py").read_text(encoding="utf-8") == METHOD
    assert METHOD.count("\n") <= MOST_LINES


def test_the_experiments_of_the_page_load(tmp_path: Path) -> None:
    (tmp_path / "ewc.py").write_text(METHOD)
    (lines,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    found = []
    for line in lines.splitlines():
        (tmp_path / "mine.yaml").write_text(f"name: mine\nstream: {{tasks: [star, last]}}\n{line}\n")
        methods = require_methods(load_experiment(tmp_path / "mine.yaml"))
        found.append((list(methods), methods["ewc"][1].strength))
    assert found == [(["ewc"], 300.0), (["replay", "ewc"], 1000.0)]


def test_the_test_of_the_page_finds_the_method(tmp_path: Path) -> None:
    """Collected, and one of its checks; all of them are run of the example elsewhere."""
    (tmp_path / "ewc.py").write_text(METHOD)
    module: Any = ModuleType("test_own")
    module.__file__ = str(tmp_path / "test_own.py")
    exec(TEST, module.__dict__)
    (mark,) = module.test_contract.pytestmark
    assert mark.name == "parametrize" and "goes on where it was killed" in mark.args[1]
    module.test_contract("refuses what it cannot serve")
