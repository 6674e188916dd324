"""The hub: what cannot be kept here is told apart from what cannot be reached; local files need neither."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from seekr_tune.data.hub import hub_rows
from seekr_tune.errors import DataError

from .files import table


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, "cannot", "/cache/x")

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train"])
    monkeypatch.setattr(datasets, "load_dataset", full)
    with pytest.raises(DataError, match=r"owner/name \[t\].*/cache/x.*set HF_HOME to a directory"):
        list(hub_rows("owner/name", "t", "train"))


def test_local_files_are_read_without_the_library_and_its_cache(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    table(prompt=["p"], answer=["a"])(tmp_path / "t" / "train.parquet")
    (tmp_path / "t" / "eval.csv").write_text("prompt,answer\nq,None\n")
    code = f"""
import sys
sys.modules["datasets"] = None  # importing it raises ImportError
from seekr_tune.config import Config
from seekr_tune.data.sources import load_stream
config = Config.model_validate({{"stream": {{"source": "datasets", "root": {str(tmp_path)!r}, "tasks": ["t"]}}}})
assert load_stream(config, ("train", "eval"))[0].splits["eval"][0].answer == "None"
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
