"""AVX2 with FMA and F16C: 16 registers of 32 bytes, masked moves of 4- and 8-byte elements."""

from __future__ import annotations

from ..builder import Builder, Value

HALF = True
GATHER = False  # vpgather exists, but scalar loads are as fast and LLVM would branch around its lanes
SCATTER = False


def masked(itemsize: int) -> bool:
    """vmaskmov and vpmaskmov move 4- and 8-byte elements; anything else would become a branch per lane."""
    return itemsize >= 4


def scale(b: Builder, y: Value, n: Value) -> Value | None:
    return None
