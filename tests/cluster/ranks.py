"""Processes that form a process group on the CPU."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

# Ranks are forked from one server that has imported this already: importing takes longer than most of what they run.
multiprocessing.set_forkserver_preload(["peft", "tests.loop.tiny", "tests.cluster.ranks"])

PATIENCE = timedelta(minutes=5)
"""After this a collective that some rank never joins is an error and not a wait."""


def run_ranks(function: Callable[[], Any], world_size: int, directory: Path) -> list[Any]:
    """Call `function` on every rank of a new group; what it returns, in rank order.

    Args:
        function: of a module, or a method of a value that can be pickled; the ranks import it anew.
        directory: an empty one, where the ranks meet and leave their results.
    """
    arguments = (function, world_size, directory)
    start_processes(_rank_main, args=arguments, nprocs=world_size, start_method="forkserver")
    return [torch.load(directory / f"result{rank}.pt", weights_only=False) for rank in range(world_size)]


def _rank_main(rank: int, function: Callable[[], Any], world_size: int, directory: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{directory}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size, timeout=PATIENCE)
    torch.save(function(), directory / f"result{rank}.pt")
    dist.destroy_process_group()
