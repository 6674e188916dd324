"""References that another study has run already."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import seekr_tune.study.runs.trial as trial_module
from seekr_tune.config import Config
from seekr_tune.experiment import with_values
from seekr_tune.records import TrialRecord, read_record, read_steps
from seekr_tune.study.runs.bounds import keep_bound
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.trial import run_trial


@pytest.fixture(params=["seqft", "joint"])
def bound(request: pytest.FixtureRequest, config: Config) -> Config:
    return with_values(config, {"method.name": request.param})


def run_bound(config: Config, directory: Path, cache: Path, role: str = "bound") -> TrialRecord:
    return run_trial(config, directory, TrialRequest("bound-x", role, configuration="bound-x"), cache=cache)  # type: ignore[arg-type]


def test_a_reference_is_taken_over_without_a_step(
    bound: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_bound(bound, tmp_path / "one", tmp_path / "cache")
    monkeypatch.setattr(trial_module, "StreamRun", None)
    other_study = with_values(bound, {"study.trials": 3, "method.seekr.attention_weight": 2.0})
    second = run_bound(other_study, tmp_path / "two", tmp_path / "cache")
    assert (second.status, second.tasks_done, second.wall_seconds) == ("finished", 3, 0.0)
    assert second.scores == first.scores and second.replay == first.replay
    assert second.config == other_study.model_dump(mode="json")
    for taken, made in zip(second.timing, first.timing, strict=True):
        assert taken.shared_seconds == pytest.approx(
            made.new_seconds + made.replay_seconds + made.teacher_seconds + made.evaluation_seconds
        )
    assert read_record(tmp_path / "two" / "result.json") == second
    assert read_steps(tmp_path / "two" / "steps.jsonl") == read_steps(tmp_path / "one" / "steps.jsonl")
    assert not (tmp_path / "two" / "steps.partial.jsonl").exists()
    assert list((tmp_path / "two" / "events").iterdir())
    assert run_bound(other_study, tmp_path / "two", tmp_path / "cache") == second


@pytest.mark.parametrize("name", ["result.json", "steps.jsonl", "manifest.json"])
def test_a_damaged_reference_is_run_again_with_a_warning(
    name: str, bound: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = run_bound(bound, tmp_path / "one", tmp_path / "cache")
    (damaged,) = tmp_path.glob(f"cache/bounds/*/{name}")
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with caplog.at_level(logging.WARNING, "seekr_tune"):
        again = run_bound(bound, tmp_path / "two", tmp_path / "cache")
    assert "damaged" in caplog.text and "is run again" in caplog.text
    assert again.wall_seconds > 0 and again.scores == first.scores
    third = run_bound(bound, tmp_path / "three", tmp_path / "cache")
    assert third.wall_seconds == 0


def test_only_references_are_kept(bound: Config, tmp_path: Path) -> None:
    run_bound(bound, tmp_path / "one", tmp_path / "cache", role="trial")
    assert not (tmp_path / "cache" / "bounds").exists()


def test_a_place_that_cannot_be_written_is_warned_of(
    bound: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = run_bound(bound, tmp_path / "one", tmp_path / "cache")
    (tmp_path / "file").write_text("no directory")
    with caplog.at_level(logging.WARNING, "seekr_tune"):
        keep_bound(tmp_path / "file" / "bounds" / "key", record, ())
    assert "cannot be kept" in caplog.text
