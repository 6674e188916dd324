"""Nothing is made inside of a study or a run, nor around one."""

from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.cli import main
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.study.directory.placement import require_nothing_inside, require_outside
from seekr_tune.study.final.export import export_model
from seekr_tune.study.life.study import start_study
from seekr_tune.study.runs.single import run_experiment
from seekr_tune.study.search.space import Space

DEMO = "experiments/demo.yaml"


def study_at(path: Path) -> Path:
    (path / "study").mkdir(parents=True)
    (path / "experiment.yaml").write_text("{}")
    (path / "study" / "journal.log").write_text("")
    return path


def run_at(path: Path) -> Path:
    path.mkdir(parents=True)
    for name in ("config.yaml", "result.json"):
        (path / name).write_text("{}")
    return path


@pytest.mark.parametrize("inside", ["trials/x", "final", "trials/trial-0000/checkpoints/deep", "x"])
def test_a_place_inside_of_a_study_or_a_run_is_refused(tmp_path: Path, inside: str) -> None:
    for place in (study_at(tmp_path / "study"), run_at(tmp_path / "run")):
        with pytest.raises(
            StudyError, match=f"lies inside the {place.name} {place}, which would take a model"
        ) as refused:
            require_outside(place / inside, "a model")
        assert "\n" not in str(refused.value)


def test_a_link_into_a_study_is_inside_of_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(study_at(tmp_path / "study"))
    with pytest.raises(StudyError, match="lies inside the study"):
        require_outside(tmp_path / "link" / "x", "a run")


def test_settings_files_of_those_names_alone_are_no_study_and_no_run(tmp_path: Path) -> None:
    for name in ("experiment.yaml", "config.yaml"):
        (tmp_path / name).write_text("{}")
    require_outside(tmp_path / "runs" / "mine", "a run")
    require_nothing_inside(tmp_path, "a study")
    (tmp_path / "result.json").write_text("{}")  # what makes it a run
    with pytest.raises(StudyError, match="lies inside the run"):
        require_outside(tmp_path / "runs" / "mine", "a run")


@pytest.mark.parametrize("below", ["one", "trials/one"])
def test_a_place_around_others_is_refused(tmp_path: Path, below: str) -> None:
    run_at(tmp_path / below)
    with pytest.raises(StudyError, match=f"{tmp_path / below} lies in it, which a study made there"):
        require_nothing_inside(tmp_path, "a study")


def test_run_sweep_and_export_refuse(tmp_path: Path, config: Config, space: Space) -> None:
    inside = study_at(tmp_path / "study") / "trials" / "x"
    with pytest.raises(StudyError, match="lies inside the study"):
        run_experiment(config, inside)
    with pytest.raises(StudyError, match="lies inside the study"):
        start_study(config, space, inside)
    with pytest.raises(StudyError, match="lies inside the study"):
        export_model(tmp_path / "study", inside)
    run_at(tmp_path / "around" / "one")
    for make in (
        lambda: run_experiment(config, tmp_path / "around"),
        lambda: start_study(config, space, tmp_path / "around"),
    ):
        with pytest.raises(StudyError, match="lies in it"):
            make()
    assert not inside.exists()


def test_the_commands_refuse_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    study = study_at(tmp_path / "study")
    for words in (["run", DEMO, "--out"], ["sweep", DEMO, "--out"], ["export", str(study), "--best", "--to"]):
        assert main([*words, str(study / "trials" / "x")]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert "lies inside the study" in line
    assert not (study / "trials").exists()
