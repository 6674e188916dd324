"""Copies between main memory and a GPU that go on beside the GPU's other work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor


def pinned(device: torch.device) -> bool:
    """Whether a tensor in main memory must lie in pinned pages to be copied from or to a device in the background."""
    return device.type == "cuda"


class Uploads:
    """Tensors made in main memory by another thread and copied to a device by another stream, in order.

    On a CPU they are made where they are asked for.

    Args:
        device: where they are wanted.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._maker = ThreadPoolExecutor(max_workers=1) if pinned(device) else None

    def start(self, make: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Begin with one tensor; what is returned waits for it and gives it.

        Args:
            make: makes it, in pinned memory.
        """
        if self._maker is None:
            made = make()
            return lambda: made
        stream, user = side_stream(self._device), torch.cuda.current_stream(self._device)

        def upload() -> tuple[Tensor, torch.cuda.Event]:
            with torch.cuda.stream(stream):
                uploaded = make().to(self._device, non_blocking=True)
                arrived = stream.record_event()
            uploaded.record_stream(user)
            return uploaded, arrived

        running = self._maker.submit(upload)

        def get() -> Tensor:
            uploaded, arrived = running.result()
            torch.cuda.current_stream(self._device).wait_event(arrived)
            return uploaded

        return get

    def close(self) -> None:
        """Nothing more will be started."""
        if self._maker is not None:
            self._maker.shutdown(wait=False)


def download(tensor: Tensor) -> Tensor:
    """A copy in main memory, complete only after `arrival_of_downloads`; a CPU's tensor is returned as it is."""
    if not pinned(tensor.device):
        return tensor
    stream = side_stream(tensor.device)
    stream.wait_stream(torch.cuda.current_stream(tensor.device))
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    with torch.cuda.stream(stream):
        copy.copy_(tensor, non_blocking=True)
    tensor.record_stream(stream)
    return copy


def arrival_of_downloads(device: torch.device) -> Callable[[], None]:
    """What waits until every `download` so far has arrived, in any thread."""
    return side_stream(device).record_event().synchronize if pinned(device) else lambda: None


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The one stream for copies: each stream has its own pool of memory, so there must not be many."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
