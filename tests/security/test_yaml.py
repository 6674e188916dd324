"""YAML is data and nothing else, and it is bounded."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from seekr_tune.errors import ConfigError
from seekr_tune.experiment import load_experiment
from seekr_tune.study.search.space import load_space

KIND = "YAML"
TAGS = {
    "a function": "!!python/object/apply:pathlib.Path.touch [MARKER]",
    "an object": "!!python/object/new:pathlib.PosixPath [MARKER]",
    "a module": "!!python/module:antigravity",
    "a name": "!!python/name:os.system",
}


def laughs(levels: int = 9, each: int = 9) -> str:
    """A list of lists of lists, by reference: a few hundred bytes that mean gigabytes."""
    lines = ["l0: &l0 [ha, ha, ha]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * each)}]" for i in range(1, levels)]
    return "\n".join(lines)


BOMBS = {
    "references that multiply": laughs(),
    "brackets without end": "a: " + "[" * 100_000,
    "mappings without end": "{a: " * 50_000,
    "an anchor in itself": "a: &a [*a]",
    "a large file": "a: " + "x" * 50_000_000,
}


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_that_names(tmp_path: Path, marker: Path, tag: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: {TAGS[tag].replace('MARKER', str(marker))}\n")
    for read in (load_experiment, load_space):
        with pytest.raises(ConfigError):
            read(path)
    with pytest.raises(ConfigError):
        load_experiment(Path("experiments/demo.yaml"), [f"name={TAGS[tag].replace('MARKER', str(marker))}"])
    assert not marker.exists()


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_that_blows_up(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BOMBS[bomb])
    started = time.monotonic()
    for read in (load_experiment, load_space):
        with pytest.raises(ConfigError):
            read(path)
    assert time.monotonic() - started < 10
