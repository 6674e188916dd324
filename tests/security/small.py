"""A run of a second, a study made of it, and bytes that would run code if anybody unpickled them."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

from seekr_tune.analysis.ledger import write_ledger
from seekr_tune.checkpoint.directories import MANIFEST, fingerprint, read_json
from seekr_tune.config import Config
from seekr_tune.experiment import dump_config, parse_config
from seekr_tune.records import read_record, read_steps, write_record
from seekr_tune.study.directory.layout import experiment_path, space_path, trial_path
from seekr_tune.study.runs.single import run_experiment

SPACE = "method.memory.percent: {type: float, low: 5, high: 20, published: 10}\n"
TASKS = ("star", "last")


class Bomb:
    """What it stands for runs when its pickle is read."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._marker,)


def bomb(marker: Path) -> bytes:
    """A pickle that makes `marker`."""
    return pickle.dumps(Bomb(marker))


def small_config(**sections: Any) -> Config:
    """Two tasks of the built-in stream, half a second each."""
    values = {
        "name": "small",
        "stream": {"tasks": list(TASKS), "limits": {"train": 16, "eval": 4, "test": 4}},
        "recipe": {"learning_rate": 5e-4, "batch_size": 8, "max_prompt_tokens": 40, "max_answer_tokens": 4},
        "method": {"replay_percent": 20, "head_budget": 0.25, "query_budget": 8, "attention_weight": 10},
        "evaluation": {"matrix": "diagonal_and_last"},
        "study": {"trials": 1, "bounds": [], "space": "space.yaml"},
    }
    return parse_config({**values, **sections}, "small")


def finished_run(directory: Path, **sections: Any) -> Path:
    """A run that has ended."""
    run_experiment(small_config(**sections), directory)
    return directory


def study_of(run: Path, directory: Path) -> Path:
    """A finished study whose one trial is that run."""
    place = trial_path(directory, "trial-0000")
    shutil.copytree(run, place)
    shutil.rmtree(place / "ledger")
    record = read_record(place / "result.json").model_copy(
        update={"trial": "trial-0000", "role": "trial", "params": {"method.memory.percent": 20.0}}
    )
    write_record(place / "result.json", record)
    space_path(directory).write_text(SPACE)
    experiment_path(directory).write_text(dump_config(small_config()))
    write_ledger(directory, [record], {"trial-0000": read_steps(place / "steps.jsonl")})
    return directory


def vouch_for(checkpoint: Path) -> None:
    """Let the manifest of a checkpoint say that its files are as they should be."""
    manifest = read_json(checkpoint / MANIFEST)
    manifest["files"] = {name: fingerprint(checkpoint / name) for name in manifest["files"]}
    (checkpoint / MANIFEST).write_text(json.dumps(manifest))
