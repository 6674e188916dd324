from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from benchmarks.gpu import table
from benchmarks.gpu.batches import build_batch, sizes
from benchmarks.gpu.models import Setting, build_model
from benchmarks.gpu.replay import Replay
from seekr_tune.methods.transfer import Uploads

SMALL = "--device cpu --dtype float32 --shapes tiny --lengths 64 --tokens 128 --queries 5 --repeats 1 --matmul 32"
NEEDED = {
    "replay": {"plain", "distilled", "maps", "distilled/plain time", "maps/distilled memory"},
    "lesson": {"plain", "observe", "remember 0.25", "remember 1.0", "rows", "observe/plain time"},
    "step": {"learner", "bare", "trainer", "learner/bare time", "learner/trainer time", "learner tokens/s"},
}


def test_every_comparison_has_its_sides_and_is_written_at_once(tmp_path: Path) -> None:
    assert table.main([*SMALL.split(), "--out", str(tmp_path), "--block", "1", "--cases", "matmul", *NEEDED]) == 0
    rows = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["case"] for row in rows} == {"matmul", *NEEDED}
    for row in rows:
        assert NEEDED.get(row["case"], {"tflops"}) <= set(row)


def test_the_reference_with_full_maps_distils_the_same() -> None:
    options = table.parse(SMALL.split())
    setting = Setting("tiny", lora=False, checkpointing=False)
    model = build_model(setting, options)
    batches = [build_batch(sizes(setting, 64, options), 0)]
    gradients = []
    with Uploads(torch.device("cpu")) as uploads:
        replay = Replay(model, batches, uploads)
    for side in ("distilled", "maps"):
        replay.prepare(side)
        replay.run(side, 0)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5 * float(gradients[1].abs().max()))


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert table.main([]) == 2
    assert "--device cpu" in capsys.readouterr().err
