"""The command line as a user meets it: what it prints, where it writes, how it ends."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from seekr_tune.cli import default_run_directory, default_study_directory, main, one_flag_per_assignment
from seekr_tune.experiment import load_experiment, with_values
from seekr_tune.validation import require_ready

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "experiments" / "demo.yaml"
COMMANDS = (
    *("plan", "run", "sweep", "resume", "stop", "status", "show", "log", "revive", "finalize"),
    *("validate", "ls", "rank", "explain", "importance", "extend", "export", "compare", "dashboard", "tensorboard"),
)
SMALL = (
    *("--set", "stream.tasks=[star, last]", "stream.metrics={}", "stream.limits.train=32", "stream.limits.eval=8"),
    *("recipe.epochs=1", "method.memory.percent=10"),
)
CONTRACT = {
    *("trial", "status", "method", "op", "bwt", "distinct_replayed_samples", "replay_presentations"),
    *("op_per_replayed_sample", "wall_seconds", "config"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"seekr-tune {command}" in capsys.readouterr().out


def test_without_arguments_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        (["run", "e.yaml", "--set", "a=1", "b=2"], ["run", "e.yaml", "--set", "a=1", "--set", "b=2"]),
        (["run", "--set", "a=1", "--set", "b=2", "c=3"], ["run", "--set", "a=1", "--set", "b=2", "--set", "c=3"]),
        (["run", "--set", "a=1", "e.yaml", "b=2"], ["run", "--set", "a=1", "e.yaml", "b=2"]),
        (["sweep", "e.yaml", "--set", "a=1", "--out", "x=y"], ["sweep", "e.yaml", "--set", "a=1", "--out", "x=y"]),
        (["run", "e.yaml", "--set"], ["run", "e.yaml", "--set"]),
    ],
)
def test_set_takes_several_assignments(given: list[str], expanded: list[str]) -> None:
    assert one_flag_per_assignment(given) == expanded


def test_output_directories_follow_the_name_and_the_settings() -> None:
    config = load_experiment(DEMO)
    assert default_study_directory(config) == Path("runs/demo")
    run = default_run_directory(config)
    assert run.parent == Path("runs") and run.name.startswith("demo-")
    assert default_run_directory(load_experiment(DEMO)) == run
    assert default_run_directory(with_values(config, {"method.memory.percent": 7.0})) != run
    assert default_run_directory(with_values(config, {"study.trials": 99, "training.workers": 2})) == run


def test_validate_tells_what_was_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(DEMO)]) == 0
    out = capsys.readouterr().out
    assert "star: 400 train, 100 eval, 100 test; exact_match; the best constant answer scores" in out
    assert "3 layers of 4 heads" in out and "method.memory.percent" in out


@pytest.mark.parametrize("name", ["superni", "trace", "trace_llama2_7b", "superni_llama2_7b"])
def test_validate_accepts_what_is_still_to_be_given(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(ROOT / "experiments" / f"{name}.yaml")]) == 0
    out = capsys.readouterr().out
    assert "note  stream  stream.root is still to be given: --set stream.root=DATA" in out
    assert "note  model " in out


def test_paths_that_were_given_are_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run in processes with another working directory, and a study may be resumed from anywhere."""
    for split, word in (("train", "a"), ("eval", "b")):
        path = tmp_path / "data" / "words" / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([{"prompt": f"say {word}", "answer": word}]))
    monkeypatch.chdir(tmp_path)
    source = {"stream.source": "trace_json", "stream.root": "data", "stream.tasks": ["words"], "stream.metrics": {}}
    config = with_values(load_experiment(DEMO), source)
    ready, _ = require_ready(config, DEMO, search=False)
    assert ready.stream.root == str(tmp_path / "data") and ready.model.path == "builtin"
    assert with_values(ready, {"stream.root": "data"}) == config


@pytest.mark.parametrize(("name", "cut"), [("superni", False), ("trace", True)])
def test_the_small_experiments_fit_real_data(
    name: str, cut: bool, data_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ScienceQA's answers are cut on purpose, for the letter alone is scored."""
    given = (f"stream.root={data_directory / name}", f"model.path={data_directory / 'models' / 'stories260K'}")
    assert main(["validate", str(ROOT / "experiments" / f"{name}.yaml"), "--set", *given]) == 0
    out = capsys.readouterr().out
    assert "5 layers of 8 heads; budgets and lengths fit" in out
    warned = [line.split("WARNING: ")[1] for line in out.splitlines() if "WARNING" in line]
    assert bool(warned) == ("note" in out) == cut
    assert all("are cut" in line and "ScienceQA" in line and ";" in line for line in warned)


def test_ls_lists_what_is_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["ls"]) == 0
    out = capsys.readouterr().out
    assert "experiments/demo.yaml  seekr, 5 tasks, data: built-in, model: builtin" in out
    assert "search_spaces/seekr.yaml" in out


def test_ls_in_an_empty_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ls"]) == 0
    assert "nothing here" in capsys.readouterr().out


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "small"
    assert main(["run", str(DEMO), *SMALL, "--out", str(directory)]) == 0
    return directory


def test_a_run_is_ranked_as_one_row(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", str(finished_run), "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert set(row) >= CONTRACT
    assert row["status"] == "finished" and row["method"] == "seekr" and row["semantics"] == "corrected"
    assert row["distinct_replayed_samples"] > 0
    assert row["config"]["method"]["memory"]["percent"] == 10.0
    assert row["op_per_replayed_sample"] == pytest.approx(row["op"] / row["distinct_replayed_samples"])


def test_csv_and_table_show_the_same_run(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", str(finished_run), "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["status"] == "finished"
    assert main(["rank", str(finished_run), "--by", "op"]) == 0
    shown = capsys.readouterr().out
    assert row["trial"] in shown and f"{float(row['op']):.2f}" in shown


def test_a_finished_run_is_not_run_again(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished_run / "result.json").read_bytes()
    assert main(["run", str(DEMO), *SMALL, "--out", str(finished_run)]) == 0
    assert (finished_run / "result.json").read_bytes() == before


def test_the_log_of_a_run_is_shown_from_a_level_on(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", str(finished_run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "run started" in lines[0] and "task=last" in lines[-2] and "run finished" in lines[-1]
    assert [line[:19] for line in lines] == sorted(line[:19] for line in lines)
    assert main(["log", str(finished_run), "--level", "warning"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("trial", ["trial-0009", "../..", ""])
def test_a_log_that_is_not_there_is_refused_in_one_line(
    finished_run: Path, trial: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", str(finished_run), trial]) == 2
    err = capsys.readouterr().err
    assert f"has no trial {trial!r}; it has none yet" in err and len(err.splitlines()) == 1


def test_a_run_directory_refuses_other_settings(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(DEMO), *SMALL, "--set", "seed=1", "--out", str(finished_run)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "seed" in err and len(err.splitlines()) == 1


def test_an_unknown_column_is_answered_with_the_nearest(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", str(finished_run), "--by", "opp"]) == 2
    assert "did you mean 'op'?" in capsys.readouterr().err
    assert main(["rank", str(finished_run), "--by", "method"]) == 2
    assert "not a number" in capsys.readouterr().err


def test_a_fault_of_ours_ends_with_a_traceback_and_1() -> None:
    code = (
        "import sys, seekr_tune.catalogue, seekr_tune.cli\n"
        "def broken(): raise RuntimeError('a fault')\n"
        "seekr_tune.catalogue.catalogue = broken\n"
        "sys.exit(seekr_tune.cli.main(['ls']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1 and "Traceback" in done.stderr and "a fault" in done.stderr


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("seekr_tune.errors.Stopped('runs/x: stopped; go on with `seekr-tune resume runs/x`')", 130, "runs/x: stopped"),
        ("KeyboardInterrupt", 130, "ended by Ctrl-C"),
        ("seekr_tune.errors.StudyError('runs/x: no space left')", 2, "error: runs/x: no space left"),
    ],
)
def test_how_a_command_ends_is_one_line_and_its_exit_code(raised: str, code: int, said: str) -> None:
    script = (
        "import sys, seekr_tune.catalogue, seekr_tune.cli, seekr_tune.errors\n"
        f"def ending(): raise {raised}\n"
        "seekr_tune.catalogue.catalogue = ending\n"
        "sys.exit(seekr_tune.cli.main(['ls']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(said) and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["resume", "stop", "status", "show", "revive", "finalize"])
def test_a_directory_without_a_study_is_refused_and_left_alone(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = ["trial-0000"] if command in ("show", "revive") else []
    assert main([command, str(tmp_path / "nothing"), *trial]) == 2
    err = capsys.readouterr().err
    assert "holds no study" in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_a_study_from_start_to_ranking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    sweep = ["sweep", str(DEMO), *SMALL, "study.bounds=[seqft]", "--trials", "2", "--out", str(study)]
    assert main(sweep) == 0
    assert "trial-0000" in capsys.readouterr().out

    assert main(sweep) == 2  # nothing is overwritten by accident
    err = capsys.readouterr().err
    assert f"seekr-tune resume {study}" in err and len(err.splitlines()) == 1
    assert main([*sweep, "--set", "seed=5"]) == 2
    assert "seed differs from it; put that back" in capsys.readouterr().err

    assert main(["run", str(DEMO), *SMALL, "--out", str(study)]) == 2
    assert "study" in capsys.readouterr().err

    assert main(["resume", str(study), "--trials", "3"]) == 0
    capsys.readouterr()
    assert main(["status", str(study), "--watch", "60"]) == 0  # nobody runs it, so it is shown once
    out = capsys.readouterr().out
    assert out.startswith(f"demo ({study}): 4 finished of 4") and "test sealed" in out
    assert main(["show", str(study), "trial-0002"]) == 0
    assert "Optuna trial    2 (COMPLETE)" in capsys.readouterr().out
    assert main(["log", str(study), "trial-0002"]) == 0
    assert "run finished  attempt=1" in capsys.readouterr().out.splitlines()[-1]
    assert main(["log", str(study)]) == 0
    assert "trial=trial-0002" in capsys.readouterr().out
    assert main(["stop", str(study)]) == 0
    assert "nothing to stop" in capsys.readouterr().err

    assert main(["rank", str(study), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(set(row) >= CONTRACT for row in rows)
    assert [row["role"] for row in rows] == ["trial"] * 3 and all(row["op_seqft"] is not None for row in rows)
    values = [row["op_per_replayed_sample"] for row in rows]
    assert values == sorted(values, reverse=True)


def test_explain_lists_the_columns_and_tells_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("normalised_gain ") and "(op - op_seqft)" in line for line in listed)
    assert main(["explain", "op_per_replayed_sample"]) == 0
    out = capsys.readouterr().out
    assert "better   higher" in out and "beware   always favours the smallest memory" in out
    assert main(["explain", "op_per_sample"]) == 2
    assert "did you mean 'op_per_replayed_sample'?" in capsys.readouterr().err


def test_rank_shows_who_meets_the_conditions(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["rank", str(finished_run), "--format", "json"]
    assert main([*asked, "--where", "method.name=seekr", "--where", "replay_percent>=10"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    assert main([*asked, "--where", "replay_percent<10"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main([*asked, "--where", "replay_percnt<10"]) == 2
    err = capsys.readouterr().err
    assert "did you mean 'replay_percent'?" in err and len(err.splitlines()) == 1


def test_rank_by_task_has_the_scores_behind_op(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", str(finished_run), "--tasks", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    finals = [one["final"] for one in row["tasks"].values()]
    assert list(row["tasks"]) == ["star", "last"] and sum(finals) / 2 == pytest.approx(row["op"])
    assert main(["rank", str(finished_run), "--tasks", "--format", "csv"]) == 0
    assert "star,star_change,last,last_change" in capsys.readouterr().out
    assert main(["rank", str(finished_run), "--tasks"]) == 0
    assert "star" in capsys.readouterr().out


def test_importance_of_a_single_run_is_refused_in_one_line(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["importance", str(finished_run)]) == 2
    err = capsys.readouterr().err
    assert "importance needs 4 finished configurations" in err and len(err.splitlines()) == 1
