"""Copies between main memory and a GPU that go on beside the GPU's other work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Self

import torch
from torch import Tensor


def pinned(device: torch.device) -> bool:
    """Whether a tensor in main memory must lie in pinned pages to be copied from or to a device in the background."""
    return device.type == "cuda"


class Uploads:
    """Tensors made in main memory by another thread and copied to a device by another stream, in order.

    On a CPU they are made where they are asked for. Use it in a `with` block, behind which nothing is started.

    Args:
        device: where they are wanted.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._maker = ThreadPoolExecutor(max_workers=1) if pinned(device) else None

    @property
    def pins(self) -> bool:
        """Whether tensors have to be made in pinned memory."""
        return self._maker is not None

    def start(self, make: Callable[[], Mapping[str, Tensor]]) -> Callable[[], Mapping[str, Tensor]]:
        """Begin with some tensors; what is returned waits for them and gives them.

        Args:
            make: makes them, in pinned memory where `pins` says so.
        """
        if self._maker is None:
            return make
        stream, user = side_stream(self._device), torch.cuda.current_stream(self._device)

        def upload() -> tuple[dict[str, Tensor], torch.cuda.Event]:
            made = make()
            with torch.cuda.stream(stream):
                uploaded = {name: tensor.to(self._device, non_blocking=True) for name, tensor in made.items()}
                arrived = stream.record_event()
            for tensor in uploaded.values():
                tensor.record_stream(user)
            return uploaded, arrived

        running = self._maker.submit(upload)

        def get() -> Mapping[str, Tensor]:
            uploaded, arrived = running.result()
            torch.cuda.current_stream(self._device).wait_event(arrived)
            return uploaded

        return get

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if self._maker is not None:
            self._maker.shutdown(wait=kind is None, cancel_futures=True)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of main memory on a device, behind what the device has to do already; nobody waits for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if pinned(device) else tensor.to(device)


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
