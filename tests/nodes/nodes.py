"""A Ray cluster on this machine whose nodes can be killed."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

from ray._private.authentication import authentication_token_setup as tokens
from ray.cluster_utils import Cluster

from tests.processes import descendants, living
from tests.waiting import wait_until


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

    def kill(self, index: int) -> list[int]:
        """Kill a node and all that runs there, without any notice; the processes, which have ended."""
        return self._kill(self._nodes[index])

    def shutdown(self) -> None:
        """End the whole cluster."""
        self.have(0)
        self._cluster.shutdown()

    def _kill(self, node: Any) -> list[int]:
        self._nodes.remove(node)
        raylet = _raylet(node)
        killed = [raylet.pid, *_children(raylet.pid)]
        for pid in killed:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
        raylet.wait()
        wait_until(lambda: not living(killed), f"{killed} have ended")
        self._cluster.remove_node(node, allow_graceful=False)  # what is left of it
        return killed


def _raylet(node: Any) -> Any:
    return node.all_processes["raylet"][0].process


def _train_workers(raylet: int) -> list[int]:
    return descendants(raylet, "RayTrainWorker")


def _children(parent: int) -> list[int]:
    return descendants(parent, "")
