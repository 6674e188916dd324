"""Copies beside the work of a GPU; on a CPU nothing is copied, and both sides see the same tensors."""

from __future__ import annotations

import pytest
import torch

from seekr_tune.methods.transfer import Uploads, arrival_of_downloads, download

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def in_main_memory(values: list[float], device: torch.device) -> dict[str, torch.Tensor]:
    return {"values": torch.tensor(values, pin_memory=device.type == "cuda")}


@pytest.mark.parametrize("name", DEVICES)
def test_what_is_started_arrives_whole_and_in_any_order_of_asking(name: str) -> None:
    device = torch.device(name)
    with Uploads(device) as uploads:
        first, second = (
            uploads.start(lambda value=value: in_main_memory([value] * 1000, device)) for value in (1.0, 2.0)
        )
        assert second()["values"].sum().item() == 2000.0 and first()["values"].sum().item() == 1000.0
        assert first()["values"].device.type == name


@pytest.mark.parametrize("name", DEVICES)
def test_an_error_of_the_maker_reaches_who_asks(name: str) -> None:
    def broken() -> dict[str, torch.Tensor]:
        raise ValueError("no rows")

    with pytest.raises(ValueError, match="no rows"), Uploads(torch.device(name)) as uploads:
        uploads.start(broken)()


@pytest.mark.parametrize("name", DEVICES)
def test_a_download_equals_its_origin_once_it_has_arrived(name: str) -> None:
    origin = torch.arange(1000.0, device=name)
    copy = download(origin)
    arrival_of_downloads(origin.device)()
    assert copy.device.type == "cpu" and torch.equal(copy, origin.cpu())
    assert (copy is origin) == (name == "cpu")
