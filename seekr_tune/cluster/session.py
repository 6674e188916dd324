"""Ray for a time: a private session on this machine, or a cluster that somebody else runs; and what fits in it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from seekr_tune.cluster.environment import DRIVER, EVERYWHERE, ray_environment
from seekr_tune.cluster.existing import joined_cluster, require_same_cluster
from seekr_tune.cluster.private_session import private_session
from seekr_tune.config import TrainingConfig
from seekr_tune.errors import StudyError

HEAD_NODE = "node:__internal_head__"
"""Resource that the head node of every cluster has one of. A trial that only waits for its worker group takes a little
of it, for Ray refuses a trial that asks for nothing."""


@contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """Ray for the time of the block. A session that the caller has started is used as it is, and left running.

    Args:
        address: of a running cluster that this machine belongs to: HOST:PORT of its head, or `auto`; the cluster is
            left running. None starts a private session, also where `RAY_ADDRESS` is set.

    Raises:
        StudyError: there is no such cluster, or it does not let us in; said within seconds. Or Ray does not start here.
    """
    if not _is_running():
        with private_session() if address is None else joined_cluster(address):
            yield
        return
    if address is not None:
        require_same_cluster(address)
    with ray_environment(EVERYWHERE | DRIVER):
        yield


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


def _is_running() -> bool:
    """Whether this process is in a Ray session; Ray is not imported for it, for it reads its settings on import."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _workers_on(node: Mapping[str, float], worker: Mapping[str, float]) -> int:
    return min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in worker.items())


def _have(nodes: list[dict[str, float]], worker: Mapping[str, float]) -> str:
    shapes = Counter(_text({name: node.get(name, 0.0) for name in worker}) for node in nodes)
    return ", ".join(f"{count} x ({shape})" for shape, count in shapes.items())


def _text(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())
