"""Values come back from JSON as they were, to the last bit."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seekr_tune.checkpoint.codec import (
    decode_state,
    decode_steps,
    encode_state,
    encode_steps,
    head_tensors,
    sample_tensors,
    signal_tensors,
)
from seekr_tune.checkpoint.state import StageTiming, StepRecord
from seekr_tune.methods.memory import TeacherSignals

from .saved import TIMING, assert_same_state, step, stream_state

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**63)
TERMS = st.dictionaries(st.sampled_from(["cross_entropy", "logit_distillation", "a term"]), FLOATS)
STEPS = st.builds(
    StepRecord,
    task_index=COUNTS,
    step=COUNTS,
    kind=st.sampled_from(["new", "replay"]),
    loss=FLOATS,
    terms=TERMS,
    grad_norm=st.none() | FLOATS,
    learning_rate=FLOATS,
    samples=COUNTS,
    tokens=COUNTS,
    seconds=FLOATS,
    distillation_seconds=st.none() | FLOATS,
    batch=st.lists(COUNTS, max_size=4).map(tuple),
    flops=FLOATS,
    weights=TERMS,
    shares=TERMS,
)
TIMINGS = st.builds(
    StageTiming,
    new_seconds=FLOATS,
    replay_seconds=FLOATS,
    distillation_seconds=FLOATS,
    teacher_seconds=FLOATS,
    evaluation_seconds=FLOATS,
    checkpoint_seconds=FLOATS,
    tokens=COUNTS,
    peak_memory_bytes=COUNTS,
    model_flops=FLOATS,
    flops_utilisation=st.none() | FLOATS,
)


def bits(value: object) -> object:
    """A value in which 0.0 and -0.0 differ."""
    if isinstance(value, dict):
        return [(name, bits(own)) for name, own in value.items()]
    return struct.pack("d", value) if isinstance(value, float) else value


@given(st.lists(STEPS, max_size=3))
def test_steps_come_back_bit_for_bit(steps: list[StepRecord]) -> None:
    decoded = decode_steps(json.loads(json.dumps(encode_steps(steps))))
    names = StepRecord.__dataclass_fields__
    assert [[bits(getattr(s, name)) for name in names] for s in decoded] == [
        [bits(getattr(s, name)) for name in names] for s in steps
    ]


def test_steps_of_earlier_versions_have_their_terms_by_name() -> None:
    """They had a field for each of three terms, null where it is off, and no shares before those were measured."""
    entry = encode_steps([step(0)])[0]
    terms, weights = entry.pop("terms"), entry.pop("weights")
    del entry["shares"]
    flat = {name: terms.get(name) for name in ("cross_entropy", "logit_distillation", "attention_distillation")}
    (oldest,) = decode_steps([entry | flat])
    assert (oldest.terms, oldest.weights, oldest.shares) == (terms, {}, {})
    shares = {"cross_entropy_share": 0.25, "logit_distillation_share": None, "attention_distillation_share": 0.75}
    later = entry | flat | shares | {"attention_weight": weights["attention_distillation"]}
    (measured,) = decode_steps(json.loads(json.dumps([later])))
    assert measured.terms == terms and measured.weights == {"attention_distillation": 1e3 / 3}
    assert measured.shares == {"cross_entropy": 0.25, "attention_distillation": 0.75}


@given(TIMINGS)
def test_timings_come_back_bit_for_bit(timing: StageTiming) -> None:
    state = stream_state(2)
    state = replace(state, history=tuple(replace(entry, timing=timing) for entry in state.history))
    document = json.loads(json.dumps(encode_state(state)))
    decoded = decode_state(document, head_tensors(state), sample_tensors(state.memory), {}, {})
    for entry in decoded.history:
        assert {name: bits(value) for name, value in vars(entry.timing).items()} == {
            name: bits(value) for name, value in vars(timing).items()
        }


def test_a_state_comes_back_from_its_json_and_its_tensors() -> None:
    state = stream_state(2)
    signals: dict[int, dict[str, object]] = {}
    for key, tensor in signal_tensors(state.memory).items():
        position, _, name = key.partition("/")
        signals.setdefault(int(position), {})[name] = tensor
    teachers = {position: TeacherSignals.from_tensors(named) for position, named in signals.items()}  # type: ignore[arg-type]
    document = json.loads(json.dumps(encode_state(state)))
    assert_same_state(decode_state(document, head_tensors(state), sample_tensors(state.memory), teachers, {}), state)


def test_json_holds_no_nan() -> None:
    state = stream_state(2)
    assert np.isnan(state.scores["eval"]).any(), "else there would be none to write"
    written = json.dumps([encode_state(state), encode_steps([step(0), step(1)])], allow_nan=False)
    assert "null" in written


def test_the_timing_of_each_stage_is_its_own() -> None:
    state = stream_state(2)
    decoded = decode_state(
        json.loads(json.dumps(encode_state(state))), head_tensors(state), sample_tensors(state.memory), {}, {}
    )
    assert [entry.timing.tokens for entry in decoded.history] == [TIMING.tokens, 5]
