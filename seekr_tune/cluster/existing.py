"""A Ray cluster that somebody else runs: whether there is one at an address, and how to join it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from seekr_tune.cluster.environment import (
    DRIVER,
    EVERYWHERE,
    our_job,
    ray_environment,
    settings_of_trials,
    starting,
)
from seekr_tune.errors import StudyError

_CLUSTER = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # an address of this machine is the one that other nodes know
    "RAY_gcs_server_port_wait_time_s": "1",  # tries to connect; at Ray's own number a wrong address takes minutes
}

_PROBE_SECONDS = 5.0
_GRPC_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""What a gRPC client says first: the preface of HTTP/2, and an empty frame of settings."""
_SETTINGS_FRAME = 4


@contextmanager
def joined_cluster(address: str) -> Iterator[None]:
    """The cluster at `address` for the time of the block; it is left running.

    Raises:
        StudyError: there is no such cluster, or it does not let us in.
    """
    with ray_environment(EVERYWHERE | DRIVER | _CLUSTER):
        import ray

        with starting():
            _connect(address)
        try:
            yield
        finally:
            ray.shutdown()


def require_same_cluster(address: str) -> None:
    """Refuse an address that is not of the session that this process is in."""
    import ray

    there, wanted = ray.get_runtime_context().gcs_address, _require_cluster(address)
    if address != "auto" and wanted != there:
        raise StudyError(
            f"address {address!r}: this process is in the Ray session at {there} already; end it with ray.shutdown(), "
            "or leave the address out"
        )


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
            job_config=our_job(),
            runtime_env={"env_vars": settings_of_trials()},
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


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
