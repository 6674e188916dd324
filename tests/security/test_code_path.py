"""Code comes from where it is installed: modules that lie in a study, where somebody works, are not imported."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from seekr_tune.code_path import child_variables, package_root
from seekr_tune.experiment import dump_config

from .small import SPACE, finished_run, small_config, study_of

KIND = "planted module"

PLANTED = (
    *("numpy", "pyarrow", "pydantic", "torch", "ray", "pandas", "yaml", "rich", "typer", "optuna", "transformers"),
    *("psutil", "grpc", "google", "filelock", "aiohttp", "tensorboard", "seekr_tune"),
    *("json", "typing", "signal", "re", "pathlib", "dataclasses", "__future__"),  # of Python itself
    *("uvloop", "tensorflow", "jax", "wandb", "opencensus", "setproctitle"),  # asked for where they are installed
)
COMMANDS = {
    "script": [str(Path(sys.executable).with_name("seekr-tune"))],
    "module": [sys.executable, "-m", "seekr_tune.cli"],
}
ACCIDENT = {"PYTHONPATH": ":", "PATH": f"{os.environ['PATH']}:", "LD_LIBRARY_PATH": ":"}
"""What `export PYTHONPATH=$PYTHONPATH:` leaves: the working directory, to Python and to the system's loader."""


def plant(directory: Path, marker: Path) -> None:
    """Modules that write to `marker` when somebody imports them."""
    code = f"""
        import os, sys
        with open({str(marker)!r}, "a") as file:
            print(__name__, os.getpid(), sys.orig_argv[:4], file=file)
        raise ImportError("planted")
    """
    for name in PLANTED:
        (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / name / "__init__.py").write_text(textwrap.dedent(code))


def uproot(directory: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(directory / name)


def call(command: str, directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of ours, in a directory."""
    return subprocess.run(
        [*COMMANDS[command], *arguments],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def require_untouched(marker: Path) -> None:
    assert not marker.exists(), marker.read_text()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def study(finished: Path, tmp_path: Path, marker: Path) -> Path:
    """A finished study with modules in it."""
    directory = study_of(finished, tmp_path / "study")
    plant(directory, marker)
    return directory


@pytest.fixture
def experiment(tmp_path: Path, marker: Path) -> Path:
    """A directory with an experiment, a space, and modules in it."""
    directory = tmp_path / "here"
    plant(directory, marker)
    (directory / "space.yaml").write_text(SPACE)
    (directory / "small.yaml").write_text(dump_config(small_config()))
    return directory


def test_the_planted_modules_would_be_imported(study: Path, marker: Path) -> None:
    subprocess.run([sys.executable, "-c", "import numpy"], cwd=study, capture_output=True, check=False)
    assert marker.read_text().startswith("numpy")


# --- the command itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "arguments", [["--help"], ["rank", "."], ["report", "."], ["status", "."]], ids=lambda it: it[0]
)
def test_a_command_in_a_study(command: str, arguments: list[str], study: Path, marker: Path) -> None:
    if command == "module":  # then it is this one that Python is told to run
        uproot(study, "seekr_tune")
    done = call(command, study, *arguments)
    assert done.returncode == 0, done.stderr
    require_untouched(marker)


def test_a_command_where_variables_name_the_working_directory_by_accident(study: Path, marker: Path) -> None:
    # `re` and its like are loaded by Python before the first line of ours, from wherever PYTHONPATH says.
    uproot(study, "seekr_tune", *(name for name in PLANTED if name in sys.stdlib_module_names))
    done = call("script", study, "rank", ".", **ACCIDENT)
    assert done.returncode == 0, done.stderr
    require_untouched(marker)


@pytest.mark.parametrize("server", ["tensorboard", "dashboard"])
def test_a_server_in_a_study(server: str, study: Path, marker: Path) -> None:
    assert call("script", study, "resume", ".").returncode == 0  # builds what the dashboard reads
    with subprocess.Popen(
        [*COMMANDS["script"], server, ".", "--port", "0"],
        cwd=study,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "http://" in line:
                break
        process.terminate()
        said += process.stdout
    assert "http://" in "".join(said), "".join(said)
    require_untouched(marker)


def test_an_installation_puts_no_relative_name_on_the_path(tmp_path: Path) -> None:
    code = "import os, sys; print([entry for entry in sys.path if not os.path.isabs(entry)])"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", "install the package again: `make setup`"


# --- processes of Ray ---------------------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_and_a_resumed_study(experiment: Path, marker: Path) -> None:
    done = call("script", experiment, "sweep", "small.yaml", "--out", "study")
    assert done.returncode == 0, done.stderr
    plant(experiment / "study", marker)
    done = call("script", experiment / "study", "resume", ".", "--trials", "2")
    assert done.returncode == 0, done.stderr
    require_untouched(marker)


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_with_two_workers_under_uv(experiment: Path, marker: Path) -> None:
    """Under `uv run`, Ray by itself sends the working directory to its workers."""
    (experiment / "run").write_text(
        shlex.join([*COMMANDS["script"], "run", "small.yaml", "--set", "training.workers=2", "--out", "two"])
        + "; exit $?"
    )
    done = subprocess.run(
        ["bash", "-c", "exec -a uv bash run"], cwd=experiment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    require_untouched(marker)


@pytest.mark.ray
def test_every_process_of_a_private_session_looks_for_code_in_named_places_only(experiment: Path, marker: Path) -> None:
    code = """
        import os, sys, ray
        import psutil
        from seekr_tune.cluster.session import ray_session
        def require_named(found):
            assert found["PYTHONSAFEPATH"] == "1"
            for name in ("PYTHONPATH", "PATH", "LD_LIBRARY_PATH"):
                entries = found[name].split(os.pathsep) if name in found else []
                assert all(map(os.path.isabs, entries)), (name, entries)
        with ray_session():
            @ray.remote(num_cpus=0)
            def of_a_worker():
                import os, sys
                return sys.path, dict(os.environ)
            path, found = ray.get(of_a_worker.remote())
            assert os.getcwd() not in map(os.path.abspath, path), path
            assert all(map(os.path.isabs, path)), path
            require_named(found)
            family = [process.as_dict(["cmdline", "environ"]) for process in psutil.Process().children(recursive=True)]
            # A worker writes what it does over the place where the system keeps its environment.
            readable = [process["environ"] for process in family if not process["cmdline"][0].startswith("ray::")]
            assert len(readable) >= 4
            for found in readable:
                require_named(found)
    """
    uproot(experiment, *PLANTED)  # what the user's own Python is told by PYTHONPATH is beyond us
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=experiment,
        env={**os.environ, **ACCIDENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# --- what is decided ----------------------------------------------------------------------------------------------


def test_entries_that_are_not_absolute_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":/one:.:lib:/two:")
    monkeypatch.setenv("LD_LIBRARY_PATH", ":")
    monkeypatch.setenv("PATH", "/bin:~/bin")
    assert child_variables() == {
        "PYTHONPATH": "/one:/two",
        "LD_LIBRARY_PATH": None,
        "PATH": "/bin",
        "PYTHONSAFEPATH": "1",
    }


def test_workers_are_told_where_a_checkout_lies_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seekr_tune.cluster.environment import our_job

    root = str(Path(__file__).parents[2])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(entry for entry in sys.path if entry != root)])
    assert package_root() is None and our_job()._py_driver_sys_path == []
    monkeypatch.setattr(sys, "path", [root, *sys.path])
    assert package_root() == root and our_job()._py_driver_sys_path == [root]
    assert our_job()._runtime_env_has_working_dir(), "so Ray adds neither the working directory nor the script's"
