from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SMALL = "--device cpu --dtype float32 --layers 2 --hidden 32 --intermediate 48 --heads 8 --kv-heads 4"
SIZES = "--vocabulary 64 --batch 2 --length 64 --queries 9 --repeats 1"


@pytest.fixture
def smoke(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("gpu_smoke", repository / "benchmarks" / "gpu_smoke.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_smoke", module)  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_a_small_model_passes_on_the_cpu(smoke: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert smoke.main([*SMALL.split(), *SIZES.split()]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result["passed"] and len(result["checks"]) == 3 and set(result["costs"]) == {"plain", "distilled"}
    assert result["costs"]["plain"]["milliseconds"] > 0 and result["costs"]["plain"]["peak_bytes"] > 0
    assert sum(" ok" in line for line in table) == 3 and result["date"] and result["device"]


def test_a_tap_that_reads_other_rows_fails(
    smoke: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = smoke.all_heads_request
    monkeypatch.setattr(smoke, "all_heads_request", lambda heads, queries: right(heads, queries.roll(1)))
    assert smoke.main([*SMALL.split(), *SIZES.split()]) == 1
    assert not json.loads(capsys.readouterr().out.splitlines()[-1])["passed"]


def test_without_a_gpu_it_says_so_in_one_line(
    smoke: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert smoke.main([]) == 2
    written = capsys.readouterr()
    assert written.out == "" and written.err.count("\n") == 1 and "--device cpu" in written.err
