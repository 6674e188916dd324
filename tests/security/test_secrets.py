"""Secrets of the environment are in no file of a run and in no line that is printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seekr_tune.cli import main
from seekr_tune.errors import ConfigError

from .small import small_config, study_of

KIND = "secret"
SECRETS = {
    "HF_TOKEN": "hf_SecretOfTheHub",
    "AWS_SECRET_ACCESS_KEY": "SecretOfTheBucket",
    "RAY_AUTH_TOKEN": "SecretOfTheCluster00000000000000",
    "WANDB_API_KEY": "SecretOfSomebodyElse",
}
PLACES = [
    "s3://key:SecretOfTheBucket@bucket/folder",
    "s3://bucket/folder?secret_key=SecretOfTheBucket",
    "abfs://container/folder?sas_token=SecretOfTheBucket",
    "gs://bucket/folder?access_token=SecretOfTheBucket",
]


def test_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    from seekr_tune.study.directory.provenance import write_provenance
    from seekr_tune.study.runs.single import run_experiment

    config = small_config()
    run_experiment(config, tmp_path / "run")
    study = study_of(tmp_path / "run", tmp_path / "study")
    write_provenance(study, config)
    for command in (["status"], ["rank"], ["report"], ["rank", "--format", "json"]):
        assert main([command[0], str(study), *command[1:]]) == 0
    assert main(["doctor", "--quick"]) in (0, 2)
    told = capfd.readouterr()
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for value in SECRETS.values():
        assert value not in told.out + told.err
        assert value.encode() not in files


@pytest.mark.parametrize("place", PLACES)
def test_in_the_address_of_a_store(place: str) -> None:
    with pytest.raises(ConfigError, match="has a password or a key in it") as refused:
        small_config(training={"workers": 1, "storage_path": place})
    assert "SecretOfTheBucket" not in str(refused.value)


def test_every_secret_of_this_test_is_looked_for() -> None:
    assert not set(SECRETS.values()) & {value for name, value in os.environ.items() if name not in SECRETS}
