"""A Ray cluster on this machine whose nodes can be killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray._private.authentication import authentication_token_setup as tokens
from ray.cluster_utils import Cluster


class Nodes:
    """A head without CPUs, where drivers run, and nodes of one CPU each, where workers run."""

    def __init__(self) -> None:
        tokens.enable_token_auth_by_default()  # as it is on in sessions: all nodes and this process alike
        tokens.ensure_token_if_auth_enabled()
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes: list[Any] = []

    @property
    def address(self) -> str:
        """HOST:PORT of the head."""
        return str(self._cluster.address)

    def have(self, count: int) -> None:
        """Start or kill nodes until there are `count`."""
        while len(self._nodes) < count:
            self._nodes.append(self._cluster.add_node(num_cpus=1))
        while len(self._nodes) > count:
            self._kill(self._nodes[-1])

    def training(self) -> list[int]:
        """How many workers of a group each node has."""
        return [len(_train_workers(_raylet(node).pid)) for node in self._nodes]

    def kill(self, index: int) -> None:
        """Kill a node and all that runs there, without any notice."""
        self._kill(self._nodes[index])

    def shutdown(self) -> None:
        """End the whole cluster."""
        self.have(0)
        self._cluster.shutdown()

    def _kill(self, node: Any) -> None:
        self._nodes.remove(node)
        raylet = _raylet(node)
        for pid in (raylet.pid, *_children(raylet.pid)):
            os.kill(pid, signal.SIGKILL)
        raylet.wait()
        self._cluster.remove_node(node, allow_graceful=False)  # what is left of it


def _raylet(node: Any) -> Any:
    return node.all_processes["raylet"][0].process


def _children(parent: int) -> list[int]:
    return [pid for pid, its_parent in _processes() if its_parent == parent]


def _train_workers(raylet: int) -> list[int]:
    return [pid for pid in _children(raylet) if b"RayTrainWorker" in _read(Path(f"/proc/{pid}/cmdline"))]


def _processes() -> Iterator[tuple[int, int]]:
    """Every process with its parent."""
    for path in Path("/proc").glob("[0-9]*"):
        fields = _read(path / "stat").rpartition(b")")[2].split()
        if fields:
            yield int(path.name), int(fields[1])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""
