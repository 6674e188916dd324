"""Sessions of Ray: which cluster is used, what is said when there is none, and how many trials fit."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from seekr_tune.cli import main
from seekr_tune.cluster import existing as cluster_module
from seekr_tune.cluster.session import HEAD_NODE, cluster_session, ray_session, trials_at_once
from seekr_tune.config import TrainingConfig
from seekr_tune.errors import StudyError
from seekr_tune.study.directory.layout import experiment_path
from seekr_tune.study.life.study import resume_study
from seekr_tune.study.runs.single import run_experiment
from tests.loop.tiny import tiny_config

DEMO = str(Path(__file__).parents[2] / "experiments" / "demo.yaml")


@pytest.fixture
def closed() -> str:
    """HOST:PORT where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"127.0.0.1:{port}"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], str]]:
    """Starts servers that are no cluster: each sends its answer, if any, and keeps the connection open."""
    monkeypatch.setattr(cluster_module, "_PROBE_SECONDS", 0.3)
    servers: list[socket.socket] = []

    def start(answer: bytes) -> str:
        server = socket.create_server(("0.0.0.0", 0))
        servers.append(server)

        def accept() -> None:
            connection, _ = server.accept()
            connection.sendall(answer)
            ended.wait()

        threading.Thread(target=accept, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    ended = threading.Event()
    yield start
    ended.set()
    for server in servers:
        server.close()


def refusal(address: str) -> str:
    with pytest.raises(StudyError) as caught, ray_session(address):
        pass
    assert not ray.is_initialized()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["", "head", "head:", "head:port", "head:99999", "local", "ray://head:10001"])
def test_what_is_no_address_is_refused(address: str) -> None:
    assert refusal(address) == f"address {address!r}: is not HOST:PORT of a cluster's head; `ray start` prints it"


def test_an_address_where_nobody_listens_is_refused(closed: str) -> None:
    assert f"address {closed!r}: no Ray cluster answers at" in refusal(closed)


def test_a_name_that_nobody_knows_is_refused() -> None:
    assert "no Ray cluster answers at nobody.invalid:6379" in refusal("nobody.invalid:6379")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_a_server_that_is_no_cluster_is_refused_at_once(serve: Callable[[bytes], str], answer: bytes) -> None:
    assert "no Ray cluster answers at" in refusal(serve(answer))


def test_auto_reads_the_environment_as_ray_does(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", closed)
    assert "address 'auto': no Ray cluster answers at" in refusal("auto")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert "'ray://head:10001': is not HOST:PORT" in refusal("auto")


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_wrong_address_is_one_line_and_leaves_nothing(
    command: str, closed: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workers = ["--set", "training.workers=2"]
    assert main([command, DEMO, *workers, "--out", str(tmp_path / "out" / "here"), "--address", closed]) == 2
    captured = capfd.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert f"error: address '{closed}': no Ray cluster answers at" in captured.err
    assert list(tmp_path.iterdir()) == []


def test_a_study_is_not_touched_when_the_address_is_wrong(closed: str, tmp_path: Path) -> None:
    experiment_path(tmp_path).touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StudyError, match="no Ray cluster answers"):
        resume_study(tmp_path, address=closed)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_in_this_process_cannot_use_a_cluster(closed: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="with training.workers 0 the run would stay in this process"):
        run_experiment(tiny_config(), tmp_path / "run", address=closed)
    assert list(tmp_path.iterdir()) == []


def test_without_an_address_there_is_no_cluster_session() -> None:
    with cluster_session(None):
        assert not ray.is_initialized()


# --- sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.ray
def test_a_machine_on_which_ray_does_not_start_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def overloaded(**options: Any) -> None:
        raise Exception("The current node timed out\nduring startup.")

    monkeypatch.setattr(ray, "init", overloaded)
    with pytest.raises(StudyError) as refused, ray_session():
        pass
    assert "(The current node timed out during startup.)" in str(refused.value)
    assert "give the command again" in str(refused.value) and not ray.is_initialized()


def test_a_session_is_private_whatever_the_environment_says(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", closed)
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "3")
    monkeypatch.delenv("RAY_CHDIR_TO_TRIAL_DIR", raising=False)
    with ray_session():
        here = ray.get_runtime_context().gcs_address
        assert here.startswith("127.0.0.1:") and here != closed
        assert ray.nodes()[0]["Resources"][HEAD_NODE] == 1.0
        assert os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "3"  # what the user says
        assert os.environ["RAY_CHDIR_TO_TRIAL_DIR"] == "0"
        with ray_session(), ray_session(here):  # the same one, and still there afterwards
            assert ray.get_runtime_context().gcs_address == here
        assert ray.is_initialized()
        with pytest.raises(StudyError, match="no Ray cluster answers"), ray_session(closed):
            pass
    assert not ray.is_initialized()
    assert "RAY_CHDIR_TO_TRIAL_DIR" not in os.environ


def test_a_cluster_is_told_where_code_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(cluster_module, "_require_cluster", lambda address: address)
    monkeypatch.setattr(ray, "init", lambda **options: told.update(options))
    with ray_session("127.0.0.1:6379"):
        pass
    assert told["runtime_env"]["env_vars"]["PYTHONSAFEPATH"] == "1"
    assert told["job_config"]._runtime_env_has_working_dir(), "so Ray adds no directory of its own"
    assert set(told["job_config"]._py_driver_sys_path) <= {str(Path(__file__).parents[2])}


# --- room ---------------------------------------------------------------------------------------------------------


def training(**values: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(values)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that the session has the nodes that it is given, each by its resources."""

    def pretend(*nodes: dict[str, float]) -> None:
        alive = [{"Alive": True, "Resources": node} for node in nodes]
        dead = {"Alive": False, "Resources": {"CPU": 100.0, "GPU": 100.0}}
        monkeypatch.setattr(ray, "nodes", lambda: [*alive, dead])

    return pretend


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"workers": 0}, 7),
        ({"workers": 1}, 7),
        ({"workers": 2}, 3),
        ({"workers": 2, "resources_per_worker": {"CPU": 2.0}}, 1),  # 1 + 1 + 0, not floor(7 / 2)
        ({"workers": 2, "resources_per_worker": {"CPU": 0.5}}, 7),
        ({"workers": 1, "resources_per_worker": {"CPU": 1.0, "GPU": 1.0}}, 2),
        ({"workers": 0, "resources_per_worker": {"GPU": 0.1}}, 20),
        ({"workers": 4, "min_workers": 2, "resources_per_worker": {"CPU": 2.0}}, 1),  # begins with the two that fit
        ({"workers": 3, "min_workers": 1}, 2),
    ],
)
def test_trials_are_counted_by_what_fits_on_each_node(
    cluster: Callable[..., None], asked: dict[str, Any], expected: int
) -> None:
    cluster({"CPU": 3.0, "GPU": 2.0}, {"CPU": 3.0}, {"CPU": 1.0})
    assert trials_at_once(training(**asked)) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"workers": 0, "resources_per_worker": {"CPU": 3.0}}, "needs 1 x (3 CPU)"),
        ({"workers": 4, "resources_per_worker": {"CPU": 2.0}}, "needs 4 x (2 CPU)"),
        ({"workers": 5, "min_workers": 4, "resources_per_worker": {"CPU": 2.0}}, "needs 4 x (2 CPU)"),
    ],
)
def test_a_trial_that_no_node_has_room_for_is_refused(
    cluster: Callable[..., None], asked: dict[str, Any], message: str
) -> None:
    cluster({"CPU": 2.0}, {"CPU": 2.0}, {"CPU": 2.0, "GPU": 1.0}, {"CPU": 1.0}, {"memory": 1e9})
    with pytest.raises(StudyError) as caught:
        trials_at_once(training(**asked))
    assert message in str(caught.value)
    assert "there is only 3 x (2 CPU), 1 x (1 CPU), 1 x (0 CPU); ask for less" in str(caught.value)


def test_two_resources_have_to_be_on_the_same_node(cluster: Callable[..., None]) -> None:
    cluster({"CPU": 8.0}, {"CPU": 1.0, "GPU": 4.0})
    with pytest.raises(StudyError, match=r"1 x \(8 CPU, 0 GPU\), 1 x \(1 CPU, 4 GPU\)"):
        trials_at_once(training(workers=1, resources_per_worker={"CPU": 2.0, "GPU": 1.0}))
