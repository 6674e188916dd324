"""A stopped study whose files are truncated or overwritten: it recovers, or says in one line what is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.experiment import dump_config, load_experiment, parse_config
from seekr_tune.records import TrialRecord, score_matrix
from seekr_tune.study.directory.layout import experiment_path, is_study, journal_path, space_path
from seekr_tune.study.life.status import read_records
from seekr_tune.study.search.queue import open_study
from seekr_tune.study.search.space import load_space
from tests.processes import descendants, living
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[3]
TRIALS = 4

Damage = Callable[[Path], None]


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def overwrite(path: Path) -> None:
    path.write_bytes(b"\x00\xffgarbage" * 16)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "seekr_tune.cli", *map(str, arguments)]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole`: an undisturbed study; `killed`: the same one, killed while its third trial ran."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "two.yaml").write_text(
        "method.memory.percent: {type: float, low: 5, high: 20, published: 10}\n"
        "method.seekr.attention_weight: {type: float, low: 1, high: 1000, log: true, published: 1000}\n"
    )
    tasks = ["star", "last", "paren"]
    config: Config = parse_config(
        {
            "name": "tiny",
            "stream": {"tasks": tasks, "limits": {"train": 48, "eval": 8, "test": 8}},
            "recipe": {"learning_rate": 5e-4, "batch_size": 8, "max_prompt_tokens": 40, "max_answer_tokens": 4},
            "method": {"replay_percent": 10, "head_budget": 0.25, "query_budget": 8, "attention_weight": 10},
            "evaluation": {"matrix": "diagonal_and_last"},
            "study": {"space": "two.yaml", "trials": TRIALS, "bounds": [], "max_concurrent": 1},
            "training": {"checkpoint_steps": 2},
        },
        "test",
    )
    experiment = folder / "tiny.yaml"
    experiment.write_text(dump_config(config))
    for name in ("whole", "killed"):
        process = subprocess.Popen(command("sweep", experiment, "--out", folder / name / "study"), cwd=ROOT)
        if name == "whole":
            assert process.wait(PATIENCE) == 0
        else:
            _wait_for_the_third(folder / name / "study", process)
            family = descendants(process.pid, "")
            process.kill()
            process.wait()
            wait_until(partial(has_ended, family), "the trial of the killed driver has ended")
    return folder


def has_ended(family: list[int]) -> bool:
    return not living(family)


def _wait_for_the_third(directory: Path, process: subprocess.Popen[bytes]) -> None:
    def is_there() -> bool:
        assert process.poll() is None
        return any(record.trial == "trial-0002" and record.tasks_done for record in _records(directory))

    wait_until(is_there, "a task of the third trial is finished")


def _records(directory: Path) -> list[TrialRecord]:
    return read_records(directory) if is_study(directory) else []


def scores(directory: Path) -> dict[str, str]:
    """The score matrix of each run, in all digits."""
    return {record.trial: repr(score_matrix(record, "eval").tolist()) for record in read_records(directory)}


def damaged_copy(studies: Path, target: Path, damage: Damage, *names: str) -> Path:
    """A copy of the killed study in which some files are damaged."""
    shutil.copytree(studies / "killed", target, symlinks=True)
    paths = [path for name in names for path in sorted(target.glob(name))]
    assert paths, f"nothing is called {names}"
    for path in paths:
        damage(path)
    return target / "study"


def resume(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("resume", directory), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


DAMAGES = [truncate, overwrite, empty]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    [
        "study/study/journal.log",
        "study/trials/trial-0000/result.json",
        "study/trials/trial-0002/result.json",
        "study/trials/trial-0001/steps.jsonl",
        "study/trials/trial-0002/steps.partial.jsonl",
        "study/study/driver.json",
        "study/.lock",
        "study/ray/**/experiment_state*.json",
        ".cache/stages/**/*.safetensors",
        ".cache/stages/**/manifest.json",
    ],
)
def test_damage_is_repaired(studies: Path, tmp_path: Path, name: str, damage: Damage) -> None:
    directory = damaged_copy(studies, tmp_path / "copy", damage, name)
    resumed = resume(directory)
    assert resumed.returncode == 0, resumed.stderr
    assert "Traceback" not in resumed.stderr
    assert scores(directory) == scores(studies / "whole" / "study")
    study = open_study(directory, load_experiment(experiment_path(directory)), load_space(space_path(directory)))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * TRIALS


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["study/experiment.yaml", "study/space.yaml", "study/trials/trial-0002/config.yaml"])
def test_settings_that_are_damaged_are_refused_in_one_line(
    studies: Path, tmp_path: Path, name: str, damage: Damage
) -> None:
    directory = damaged_copy(studies, tmp_path / "copy", damage, name)
    before = scores(directory)
    resumed = resume(directory)
    errors = [line for line in resumed.stderr.splitlines() if line.startswith("error:")]
    assert resumed.returncode == 2, resumed.stderr
    assert len(errors) == 1 and Path(name).name in errors[0]
    assert "Traceback" not in resumed.stderr
    assert before.items() <= scores(directory).items()


@pytest.mark.ray
@pytest.mark.slow
def test_a_journal_that_is_gone_is_no_fresh_start(studies: Path, tmp_path: Path) -> None:
    directory = damaged_copy(studies, tmp_path / "copy", Path.unlink, "study/study/journal.log")
    assert not journal_path(directory).exists()
    resumed = resume(directory)
    assert resumed.returncode == 0, resumed.stderr
    assert "journal" in resumed.stderr, "a journal that is built anew is told"
    assert scores(directory) == scores(studies / "whole" / "study")
