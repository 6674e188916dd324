"""`seekr-tune doctor` finds what is in the way, says how to mend it, and gives no secret away."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from seekr_tune import doctor
from seekr_tune.cli import main
from seekr_tune.cluster import private_directory
from seekr_tune.doctor import Finding, examine


def found(tmp_path: Path, what: str) -> list[Finding]:
    return [finding for finding in examine(tmp_path, quick=True) if finding.what == what]


def test_nothing_is_in_the_way_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path), "--quick"]) == 0
    told = capsys.readouterr()
    for word in ("Python", "torch 2", "ray 2", "optuna", "free for", "open files", "shared memory"):
        assert word in told.out
    assert "nothing is in the way" in told.err
    assert not list(tmp_path.iterdir()), "nothing is left"


@pytest.mark.ray
def test_the_model_and_ray_are_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "loads and is tapped" in out and "a worker answers" in out


def test_a_missing_package_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["torch==2.13.0", "no-such-package==1.0", "no-such-extra==1; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    assert main(["doctor", str(tmp_path), "--quick"]) == 2
    told = capsys.readouterr()
    assert "no-such-package is missing; install no-such-package==1.0" in told.out
    assert "no-such-extra" not in told.out and "1 in the way of a study" in told.err


def test_another_version_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: ["ray==0.1"])
    (note,) = [finding for finding in found(tmp_path, "packages") if finding.state == "note"]
    assert f"ray {metadata.version('ray')} (tested: ==0.1)" in note.text


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: object) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr(doctor.shutil, "disk_usage", broken)
    states = {finding.what: finding.state for finding in examine(tmp_path, quick=True)}
    assert states["disk"] == "problem" and states["environment"] == "ok"


def test_secrets_are_named_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "RAY_AUTH_TOKEN", "SEEKR_API_KEY", "NCCL_PASSWORD"):
        monkeypatch.setenv(name, "hidden-value")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    texts = [finding.text for finding in found(tmp_path, "environment")]
    assert "HF_TOKEN" in texts[0] and "CUDA_VISIBLE_DEVICES=0,3" in texts[0]
    assert not any("hidden-value" in text for text in texts)
    assert "turns Ray's tokens off" in texts[1]


def test_a_directory_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path / "none")]) == 2
    assert "no such directory" in capsys.readouterr().err


def test_a_temporary_directory_that_ray_cannot_use_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("l" * 90)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(long))
    passed_over, place = found(tmp_path, "Ray's files")
    assert passed_over.state == "note" and passed_over.text.startswith(f"TMPDIR={long} is longer than")
    assert place.state == "ok" and "in a directory with mode 0700 in /" in place.text
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file"))
    monkeypatch.setattr(private_directory, "_most_bytes", lambda: 4096)
    (problem,) = found(tmp_path, "Ray's files")
    assert problem.state == "problem" and problem.text.startswith(f"TMPDIR={tmp_path}/file: cannot be written to")
