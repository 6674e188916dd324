from __future__ import annotations

import json

import pytest
import torch

from benchmarks.gpu import smoke

SMALL = "--device cpu --dtype float32 --layers 2 --hidden 32 --intermediate 48 --heads 8 --kv-heads 4"
SIZES = "--vocabulary 64 --batch 2 --length 64 --queries 9 --repeats 1"


def test_a_small_model_passes_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert smoke.main([*SMALL.split(), *SIZES.split()]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result["passed"] and len(result["checks"]) == 3 and set(result["costs"]) == {"plain", "distilled"}
    assert result["costs"]["plain"]["milliseconds"] > 0 and result["costs"]["plain"]["peak_bytes"] > 0
    assert sum(" ok" in line for line in table) == 3 and result["date"] and result["device"]


def test_a_tap_that_reads_other_rows_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    right = smoke.all_heads_request
    monkeypatch.setattr(smoke, "all_heads_request", lambda heads, queries: right(heads, queries.roll(1)))
    assert smoke.main([*SMALL.split(), *SIZES.split()]) == 1
    assert not json.loads(capsys.readouterr().out.splitlines()[-1])["passed"]


def test_without_a_gpu_it_says_so_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert smoke.main([]) == 2
    written = capsys.readouterr()
    assert written.out == "" and written.err.count("\n") == 1 and "--device cpu" in written.err
