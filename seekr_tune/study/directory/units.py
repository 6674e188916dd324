"""Sizes in words."""

from __future__ import annotations


def bytes_text(number: float) -> str:
    """Bytes in powers of 1000, as disks are sold."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number / 1000:.3g} kB"
