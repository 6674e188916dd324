"""Anything at all as input: it is read to a checked value, or refused in one line by the error of its kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from seekr_tune.checkpoint.directories import verify
from seekr_tune.config import Config
from seekr_tune.config.reading import dump_yaml, parse_yaml
from seekr_tune.data.collate import IGNORED_LABEL, Encoder, collate
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import Example
from seekr_tune.errors import CheckpointError, ConfigError, DataError, StudyError
from seekr_tune.experiment import dump_config, load_experiment, parse_config
from seekr_tune.records import StepRow, TrialRecord, read_record, read_steps
from seekr_tune.study.search.space import load_space
from tests.loop.tiny import tiny_tokenizer

from .case import EXPERIMENT, SPACE

ANYTHING = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
FIELDS = ("name", "seed", "stream", "model", "recipe", "method", "training", "evaluation", "study")
ROWS = json.dumps([{"prompt": "say a", "answer": "a"}, {"prompt": "say \u00e9", "answer": "e"}]).encode()
RECORD = b'{"schema_version": 2, "trial": "run", "role": "run", "status": "finished", "tasks": ["a"], "config": {}}'
MANIFEST = b'{"schema_version": 3, "files": {"state.json": {"bytes": 2, "sha256": "0"}}}'


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with a few pieces cut out, doubled, overwritten or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 8))
        piece = bytes(content[start : start + length])
        content[start : start + length] = draw(
            st.sampled_from([b"", piece * 2, b"\0", b"null", b"[", b"1e999"]) | st.binary(max_size=4)
        )
    return bytes(content)


def refused(error: Exception, path: Path) -> None:
    line = str(error)
    assert "\n" not in line and len(line) < 1000 and path.name in line


@ANYTHING
@given(damaged(EXPERIMENT.encode()) | st.binary(max_size=60))
@example(b"seed: !!bool maybe")
@example(b"seed: !!int ''")
@example(b"a: &a [*a]")
@example(b"? {a: 1}\n: 2")
def test_any_experiment_is_a_config_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    try:
        assert parse_config(yaml.safe_load(dump_config(found := load_experiment(path))), "again") == found
    except ConfigError as error:
        refused(error, path)


@ANYTHING
@given(damaged(SPACE.encode()) | st.binary(max_size=60))
def test_any_space_is_a_space_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    try:
        assert load_space(path).distributions()
    except ConfigError as error:
        refused(error, path)


@ANYTHING
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES | st.dictionaries(st.sampled_from(FIELDS), VALUES)))
def test_any_values_are_a_config_or_one_line(values: dict[str, Any]) -> None:
    try:
        assert isinstance(parse_config(values, "values"), Config)
    except ConfigError as error:
        refused(error, Path("values"))


@ANYTHING
@given(
    st.recursive(
        SCALARS.filter(lambda value: value == value), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_yaml_writes_is_read_as_it_was(value: Any) -> None:
    text = dump_yaml(value)
    assert parse_yaml(text) == yaml.safe_load(text) == yaml.safe_load(yaml.safe_dump(value))


@ANYTHING
@given(st.sampled_from(["trace_json", "jsonl"]), damaged(ROWS) | st.binary(max_size=60))
def test_any_data_file_is_rows_or_one_line(tmp_path: Path, source: str, content: bytes) -> None:
    path = tmp_path / "words" / ("train.json" if source == "trace_json" else "train.jsonl")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    config = parse_config({"stream": {"source": source, "root": str(tmp_path), "tasks": ["words"]}}, "test")
    try:
        rows = load_stream(config, ("train",))[0].train
        assert rows and all(row.prompt.strip() and row.answer.strip() for row in rows)
    except DataError as error:
        refused(error, path)


@ANYTHING
@given(damaged(RECORD) | st.binary(max_size=60), st.sampled_from([read_record, read_steps]))
def test_any_result_is_a_record_or_one_line(tmp_path: Path, content: bytes, read: Any) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    try:
        found = read(path)
    except StudyError as error:
        refused(error, path)
    else:
        again = type(found).from_json(found.to_json()) if isinstance(found, TrialRecord) else found
        assert again == found and (read is read_record or all(isinstance(row, StepRow) for row in found))


@ANYTHING
@given(damaged(MANIFEST) | st.binary(max_size=60))
def test_a_checkpoint_with_any_other_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "task-0001"
    path.mkdir(exist_ok=True)
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointError):
        verify(path)


@ANYTHING
@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30)), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(1, 6),
    st.sampled_from([1, 8]),
    st.sampled_from(["separate", "joint"]),
)
def test_any_text_becomes_a_batch_within_its_limits(
    texts: list[tuple[str, str]], prompt: int, answer: int, multiple: int, style: Any
) -> None:
    encoder = Encoder(tiny_tokenizer(), prompt, answer, style)
    try:
        encoded = encoder.encode_all([Example(*pair) for pair in texts])
    except DataError:
        assert style == "joint"
        return
    assert all(0 < row.num_labels <= len(row.input_ids) <= prompt + answer for row in encoded)
    batch = collate(encoded, 1, multiple)
    assert batch.input_ids.shape[1] % multiple == 0
    assert batch.attention_mask.sum(1).tolist() == [len(row.input_ids) for row in encoded]
    assert (batch.labels != IGNORED_LABEL).sum(1).tolist() == [row.num_labels for row in encoded]
    assert torch.equal(batch.labels[batch.labels != IGNORED_LABEL], batch.input_ids[batch.labels != IGNORED_LABEL])
