"""Ray for a time: a private session on this machine, or a cluster that somebody else runs; and what fits in it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from seekr_tune.config import TrainingConfig
from seekr_tune.errors import StudyError
from seekr_tune.noise import hear_libraries

HEAD_NODE = "node:__internal_head__"
"""Resource that the head node of every cluster has one of. A trial that only waits for its worker group takes a little
of it, for Ray refuses a trial that asks for nothing."""

_EVERYWHERE = {
    # Train's controller consumes reports only when it polls; at its default of 2 s, short tasks wait for it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of an experiment mean the same in a trial
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Settings that the processes of trials read, too; in a private session they inherit them."""

_DRIVER = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # The trial directories are the truth: Tune's logs and snapshots would only cost time.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune would end runs in the middle of a step
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    # The searcher hands out as many runs as fit. At Tune's own 1, their processes would start one after the other.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints errors of trials even when it is to be silent
}

_LOCAL = {
    # Ray takes the loopback address for its node, and with it binds every port to 127.0.0.1. It keeps its default
    # token authentication: other users of the machine can reach a loopback port, but cannot run code through it.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody takes this machine away with a notice
}

_CLUSTER = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # an address of this machine is the one that other nodes know
    "RAY_gcs_server_port_wait_time_s": "1",  # tries to connect; at Ray's own number a wrong address takes minutes
}

_PROBE_SECONDS = 5.0
_GRPC_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""What a gRPC client says first: the preface of HTTP/2, and an empty frame of settings."""
_SETTINGS_FRAME = 4


@contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """Ray for the time of the block. A session that the caller has started is used as it is, and left running.

    Args:
        address: of a running cluster that this machine belongs to: HOST:PORT of its head, or `auto`; the cluster is
            left running. None starts a private session, also where `RAY_ADDRESS` is set.

    Raises:
        StudyError: there is no such cluster, or it does not let us in; said within seconds. Or Ray does not start here.
    """
    if _is_running():
        if address is not None:
            _require_same_cluster(address)
        with _environment(_EVERYWHERE | _DRIVER):
            yield
        return
    with _environment(_EVERYWHERE | _DRIVER | (_CLUSTER if address else _LOCAL)):
        import ray

        hear_libraries()
        with _own_sigterm():
            if address is None:
                _start_here()
            else:
                _connect(address)
        try:
            yield
        finally:
            ray.shutdown()


def _start_here() -> None:
    """A private session on this machine.

    Raises:
        StudyError: Ray's processes do not come up, which they must within 30 s.
    """
    import ray

    try:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # Ray has no kind of its own for it
        ray.shutdown()  # what has come up already
        reason = " ".join(str(error).split())
        raise StudyError(
            f"Ray does not start on this machine ({reason}); it may be busy or short of memory: give the command again"
        ) from error


@contextmanager
def cluster_session(address: str | None) -> Iterator[None]:
    """The cluster at `address` for the time of the block, see `ray_session`; None leaves everything as it is.

    What comes before a run writes its first file: a wrong address must leave nothing behind.
    """
    if address is None:
        yield
        return
    with ray_session(address):
        yield


def trials_at_once(training: TrainingConfig) -> int:
    """Trials that the resources of the session allow at the same time. Needs a Ray session.

    A worker has to fit on one node, so what is left over on several nodes does not add up to another worker.

    Raises:
        StudyError: not even one; Ray would wait for ever for the missing resources.
    """
    import ray

    all_nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes: list[dict[str, float]] = [node["Resources"] for node in all_nodes if node["Alive"]]
    room = sum(_workers_on(node, training.resources_per_worker) for node in nodes)
    most = max(1, training.workers)
    fewest = training.min_workers or most
    if room < fewest:
        needed, there = _text(training.resources_per_worker), _have(nodes, training.resources_per_worker)
        raise StudyError(
            f"a trial needs {fewest} x ({needed}), each of them whole on one node, but there is only {there}; ask for "
            "less in training.resources_per_worker, or for fewer training.workers"
        )
    return max(1, room // most)


def this_node() -> str:
    """Resource that only the node of this process has. Needs a Ray session."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    all_nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    resources: dict[str, float] = next(node["Resources"] for node in all_nodes if node["NodeID"] == here)
    return next(name for name in resources if name.startswith("node:") and name != HEAD_NODE)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray ends the process at SIGTERM; a handler that the caller brought stays instead."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _is_running() -> bool:
    """Whether this process is in a Ray session; Ray is not imported for it, for it reads its settings on import."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _connect(address: str) -> None:
    import ray
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    from ray.exceptions import AuthenticationError

    found = _require_cluster(address)
    # Ray sends the user's token by itself to a cluster that it finds by itself, but not to one that it is told of.
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        ray.init(
            address=found,
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": _settings_of_trials()},
        )
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        ray.shutdown()
        raise StudyError(
            f"address {address!r}: the cluster cannot be joined ({_first_line(error)}); run the command on one of its "
            "machines, with the versions of Python and Ray and the token (~/.ray/auth_token) that it was started with"
        ) from None


def _require_cluster(address: str) -> str:
    """HOST:PORT of a cluster that answers."""
    from ray._private.services import canonicalize_bootstrap_address, extract_ip_port

    given = (os.environ.get("RAY_ADDRESS") or address) if address == "auto" else address  # as Ray itself reads `auto`
    try:
        found = None if "://" in given else canonicalize_bootstrap_address(given)
        host, port = extract_ip_port(found or "")
    except ConnectionError:
        raise StudyError(
            "address 'auto': no Ray cluster runs on this machine; start one with `ray start`, or give HOST:PORT of a "
            "head"
        ) from None
    except ValueError:
        raise StudyError(f"address {given!r}: is not HOST:PORT of a cluster's head; `ray start` prints it") from None
    if not _speaks_grpc(host, port):
        raise StudyError(
            f"address {address!r}: no Ray cluster answers at {host}:{port} within {_PROBE_SECONDS:.0f} s; "
            "give HOST:PORT that `ray start --head` has printed"
        )
    return f"{host}:{port}"


def _require_same_cluster(address: str) -> None:
    import ray

    there, wanted = ray.get_runtime_context().gcs_address, _require_cluster(address)
    if address != "auto" and wanted != there:
        raise StudyError(
            f"address {address!r}: this process is in the Ray session at {there} already; end it with ray.shutdown(), "
            "or leave the address out"
        )


def _speaks_grpc(host: str, port: int) -> bool:
    """Whether a gRPC server, as Ray's is, listens there. Ray itself would try for minutes."""
    try:
        with socket.create_connection((host, port), timeout=_PROBE_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":  # nothing to be read without the certificates
                return True
            connection.settimeout(_PROBE_SECONDS)
            connection.sendall(_GRPC_HELLO)
            header = connection.recv(9, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(header) == 9 and header[3] == _SETTINGS_FRAME


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set what the user has not set, for the time of the block."""
    missing = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(missing)
    _choose_address()
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
        _choose_address()


def _choose_address() -> None:
    """Let Ray read again which address of this machine it takes; it does so on import, once for all sessions."""
    from ray._private import ray_constants

    ray: Any = ray_constants
    ray.ENABLE_RAY_CLUSTER = ray.env_bool(ray.ENABLE_RAY_CLUSTERS_ENV_VAR, not ray.IS_WINDOWS_OR_OSX)


def _settings_of_trials() -> dict[str, str]:
    """What the processes of a cluster cannot inherit."""
    return {name: os.environ[name] for name in os.environ if name in _EVERYWHERE or name.startswith("RAY_TRAIN_")}


def _workers_on(node: Mapping[str, float], worker: Mapping[str, float]) -> int:
    return min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in worker.items())


def _have(nodes: list[dict[str, float]], worker: Mapping[str, float]) -> str:
    shapes = Counter(_text({name: node.get(name, 0.0) for name in worker}) for node in nodes)
    return ", ".join(f"{count} x ({shape})" for shape, count in shapes.items())


def _text(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
