from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import distilled
from benchmarks.distilled import replay_losses
from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.loop import throughput
from seekr_tune.loop.throughput import (
    FlopRates,
    StageClock,
    Stopwatch,
    flops_utilisation,
    give_back_memory,
    peak_flops,
    peak_memory,
    reset_peak_memory,
    step_flops,
)
from seekr_tune.methods import derpp, targets
from seekr_tune.methods.memory import ReplaySample, TeacherSignals
from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.seekr import attention
from seekr_tune.methods.seekr import method as seekr
from seekr_tune.methods.semantics import CORRECTED
from seekr_tune.methods.storage import Kept
from seekr_tune.methods.targets import TeacherBatch, teacher_batch
from seekr_tune.methods.workers import SingleProcess
from tests.loop.tiny import SIZES, VOCABULARY, tiny_loaded, tiny_model

CPU = torch.device("cpu")
LAYERS, HIDDEN, INTERMEDIATE = SIZES["num_hidden_layers"], SIZES["hidden_size"], SIZES["intermediate_size"]
HEADS, KEY_VALUE_HEADS = SIZES["num_attention_heads"], SIZES["num_key_value_heads"]
HEAD_DIM = HIDDEN // HEADS
LENGTH, LABELS = 24, 6


def llama_weights() -> int:
    """Matrix elements of the tiny Llama, written down layer by layer."""
    attention = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * KEY_VALUE_HEADS * HEAD_DIM
    return LAYERS * (attention + 3 * HIDDEN * INTERMEDIATE)


def counted_flops(model: Any) -> int:
    """What torch counts of a forward and a backward pass over one unpadded sample."""
    ids = torch.arange(LENGTH)[None]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=LABELS).logits
        logits.sum().backward()
    return counter.get_total_flops()


def test_parts_add_up_and_a_part_that_did_not_run_took_nothing() -> None:
    watch = Stopwatch(CPU)
    for _ in range(2):
        with watch.part("slow"):
            time.sleep(0.01)
    with pytest.raises(RuntimeError), watch.part("failed"):
        time.sleep(0.01)
        raise RuntimeError
    assert watch.seconds("slow") >= 0.02 and watch.seconds("failed") >= 0.01 and watch.seconds("other") == 0.0
    watch.reset()
    assert watch.seconds("slow") == 0.0


class FakeEvent:
    """An event whose time is given when it is recorded, as a GPU would give it later."""

    clock: list[float] = []
    waited: list[FakeEvent] = []

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: object) -> None:
        self.milliseconds = FakeEvent.clock.pop(0)

    def synchronize(self) -> None:
        FakeEvent.waited.append(self)

    def elapsed_time(self, end: FakeEvent) -> float:
        assert end in FakeEvent.waited, "an event may not be read before the device has reached it"
        return end.milliseconds - self.milliseconds


def test_on_a_gpu_nothing_waits_before_the_seconds_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    FakeEvent.clock, FakeEvent.waited = [0.0, 250.0, 1000.0, 2000.0], []
    watch = Stopwatch(torch.device("cuda"))
    for _ in range(2):
        with watch.part("rows"):
            pass
    assert FakeEvent.waited == []
    assert watch.seconds("rows") == 1.25 and len(FakeEvent.waited) == 2
    assert watch.seconds("rows") == 1.25 and len(FakeEvent.waited) == 2


def test_all_that_distillation_adds_to_a_forward_pass_is_timed_and_the_model_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, seen, inside = tiny_model().train(), [], False

    @contextmanager
    def timed() -> Iterator[None]:
        nonlocal inside
        assert not inside
        inside = True
        yield
        inside = False

    def note(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: (seen.append((name, inside)), function(*args, **kwargs))[1]

    parts = ((derpp, "soft_cross_entropy"), (seekr, "attention_distillation"), (distilled, "answer_logits"))
    for module, name in parts:
        monkeypatch.setattr(module, name, note(name, getattr(module, name)))
    for name in ("rows", "logits"):
        monkeypatch.setattr(TeacherBatch, name, note(name, getattr(TeacherBatch, name)))
    monkeypatch.setattr(targets, "restore_rows", note("restore_rows", targets.restore_rows))
    monkeypatch.setattr(attention, "attention_rows", note("attention_rows", attention.attention_rows))
    monkeypatch.setattr(model.model.layers[1].mlp, "forward", note("mlp", model.model.layers[1].mlp.forward))
    ids = torch.arange(8)
    rows = Kept(torch.full((2 * LAYERS, 6 + 7 + 8), 0.125))
    heads = {layer: (0, 3) for layer in range(LAYERS)}
    teacher = TeacherSignals(Kept(torch.randn(2, len(VOCABULARY))), rows)
    sample = ReplaySample(0, 0, ids, 2, torch.tensor([-3, -2, -1]), heads, 0, teacher)
    tokens = Tokens(ids[None], torch.ones(1, 8, dtype=torch.long), ids[None].masked_fill(ids < 6, -100))
    batch = teacher_batch([sample], 8)
    replay_losses(model, tokens, batch, CORRECTED, distil_logits=True, distil_attention=True, step_rows=12, timed=timed)
    assert {name for name, was_inside in seen if not was_inside} == {"answer_logits", "mlp"}
    assert [name for name, was_inside in seen if was_inside] == [
        "rows",
        *["attention_rows", "restore_rows"] * LAYERS,
        "logits",
        "soft_cross_entropy",
        "attention_distillation",
    ]


def step(kind: Literal["new", "replay"], seconds: float, distillation: float | None) -> StepRecord:
    return StepRecord(0, 0, kind, 1.0, {"cross_entropy": 1.0}, None, 0.1, 2, 30, seconds, distillation, (0, 1), 1e6)


def test_a_stage_adds_up_its_steps_and_its_parts() -> None:
    workers = SingleProcess()
    clock = StageClock(workers, tiny_loaded())
    with clock.part("teacher"):
        time.sleep(0.01)
    block = torch.ones(25_000_000)
    del block
    with clock.part("teacher"), pytest.raises(ZeroDivisionError):
        time.sleep(0.01)
        _ = 1 / 0
    timing = clock.timing([step("new", 4.0, None), step("replay", 1.0, 0.25), step("replay", 2.0, 0.5)])
    assert (timing.new_seconds, timing.replay_seconds, timing.distillation_seconds) == (4.0, 3.0, 0.75)
    assert timing.tokens == 90 and timing.model_flops == 3e6 and timing.flops_utilisation is None
    assert 0.02 <= timing.teacher_seconds <= clock.total() and timing.evaluation_seconds == 0.0
    assert timing.peak_memory_bytes is not None and timing.peak_memory_bytes > 100_000_000


class FourGPUs(SingleProcess):
    """A group whose other ranks hold more, and whose devices are known."""

    def gather(self, value: Any) -> list[Any]:
        return [value, 3 * value, 2 * value, value]


def test_utilisation_counts_all_devices_and_memory_the_fullest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1000)
    workers = FourGPUs(torch.device("cuda", 0), torch.bfloat16, world_size=4)
    timing = StageClock(workers, tiny_loaded()).timing([step("new", 2.0, None)])
    assert timing.peak_memory_bytes == 3000
    assert timing.flops_utilisation == pytest.approx(1e6 / (2.0 * 4 * 312e12))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak cannot be started anew")
def test_the_peak_of_a_cpu_falls_back_when_it_is_reset() -> None:
    torch.ones(1)
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    block = torch.ones(25_000_000)
    high = peak_memory(CPU)
    assert before is not None and high is not None
    assert block.nbytes * 0.9 < high - before < block.nbytes * 1.5
    del block
    assert (peak_memory(CPU) or 0) > high - 5_000_000
    give_back_memory()
    reset_peak_memory(CPU)
    assert (peak_memory(CPU) or high) < high - 50_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak cannot be started anew")
def test_what_an_earlier_trial_has_left_is_no_part_of_the_peak() -> None:
    """Small blocks, which the C library keeps when they are freed, between others that stay; and a circle."""
    torch.ones(1)
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    assert before is not None
    blocks = [torch.ones(2_000) for _ in range(30_000)]  # 240 MB in pieces of 8 kB
    circle: list[Any] = [torch.ones(25_000_000)]
    circle.append(circle)
    kept = blocks[::1000]
    del blocks, circle
    give_back_memory()
    reset_peak_memory(CPU)
    after = peak_memory(CPU)
    assert after is not None and len(kept) == 30
    assert after - before < 40_000_000


def test_a_peak_that_cannot_be_started_anew_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "_PROCESS", Path("/nowhere/at/all"))
    assert not reset_peak_memory(CPU)
    assert peak_memory(CPU) is None
    assert StageClock(SingleProcess(), tiny_loaded()).timing([step("new", 2.0, None)]).peak_memory_bytes is None


def test_the_flops_of_a_llama_are_those_that_torch_counts() -> None:
    model = tiny_model()
    ours = step_flops(FlopRates.of(model), [LENGTH], LABELS)
    assert ours == (
        6 * llama_weights() * LENGTH
        + 6 * len(VOCABULARY) * HIDDEN * LABELS
        + 12 * LAYERS * HEADS * HEAD_DIM * LENGTH * LENGTH
    )
    assert counted_flops(model) == ours


def test_frozen_weights_need_no_gradient_of_their_own() -> None:
    rank = 2
    model = get_peft_model(tiny_model(), LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    shapes = [(HIDDEN, HIDDEN)] * 2 + [(HIDDEN, KEY_VALUE_HEADS * HEAD_DIM)] * 2 + [(HIDDEN, INTERMEDIATE)] * 3
    adapters = LAYERS * rank * sum(sum(shape) for shape in shapes)
    rates = FlopRates.of(model)
    assert rates.per_token == 4 * llama_weights() + 6 * adapters
    assert rates.per_label == 4 * len(VOCABULARY) * HIDDEN


def test_tied_embeddings_count_as_the_output_head_only() -> None:
    tied, apart = (FlopRates.of(tiny_model(tie_word_embeddings=tie)) for tie in (True, False))
    assert tied == apart and tied.per_label == 6 * len(VOCABULARY) * HIDDEN


def test_positions_that_are_looked_up_cost_nothing() -> None:
    rates = FlopRates.of(tiny_model(family="gpt2"))
    assert rates.per_token == 6 * LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * 4 * HIDDEN)


def test_a_token_passes_only_its_chosen_experts() -> None:
    few, many = (
        FlopRates.of(tiny_model(family="mixtral", num_local_experts=8, num_experts_per_tok=chosen)) for chosen in (2, 8)
    )
    experts = 6 * LAYERS * 8 * 3 * HIDDEN * INTERMEDIATE
    assert many.per_token - few.per_token == experts * (1 - 2 / 8)


def test_samples_of_a_step_add_up_by_their_own_lengths() -> None:
    rates = FlopRates(per_token=10.0, per_label=3.0, per_pair=2.0)
    assert step_flops(rates, [2, 5], 4) == 10 * 7 + 3 * 4 + 2 * (4 + 25)


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", (312, 156, 19.5)),
        ("NVIDIA A100 80GB PCIe", (312, 156, 19.5)),
        ("NVIDIA H100 80GB HBM3", (989, 494.5, 67)),
        ("NVIDIA H100 PCIe", (756, 378, 51)),
        ("NVIDIA H200", (989, 494.5, 67)),
        ("NVIDIA L4", (121, 60, 30.3)),
        ("NVIDIA L40S", (362, 183, 91.6)),
        ("NVIDIA A10", (125, 62.5, 31.2)),
        ("NVIDIA GeForce RTX 4090", (165.2, 82.6, 82.6)),
        ("Tesla V100-SXM2-16GB", (None, None, 15.7)),
        ("NVIDIA A10G", (None, None, None)),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", (None, None, None)),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", (None, None, None)),
        ("AMD EPYC 9654", (None, None, None)),
    ],
)
def test_peaks_are_the_dense_ones_of_the_data_sheets(name: str, tera: tuple[float | None, ...]) -> None:
    found = (
        peak_flops(name, torch.bfloat16),
        peak_flops(name, torch.float32, tf32=True),
        peak_flops(name, torch.float32),
    )
    assert found == tuple(None if number is None else number * 1e12 for number in tera)


def test_formats_without_a_known_peak_have_none() -> None:
    assert peak_flops("NVIDIA A100-SXM4-80GB", torch.float64) is None


def test_utilisation_is_the_share_of_the_peak_and_unknown_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    gpu = torch.device("cuda", 0)
    assert flops_utilisation(312e12, 2.0, gpu, torch.bfloat16) == 0.5
    assert flops_utilisation(312e12, 2.0, gpu, torch.float32) == 8.0
    assert flops_utilisation(312e12, 0.0, gpu, torch.bfloat16) is None
    assert flops_utilisation(312e12, 2.0, CPU, torch.bfloat16) is None
