"""SSE4.2: 16 registers of 16 bytes; no masks, no fused multiply-add, no float16 conversions."""

from __future__ import annotations

from ..builder import Builder, Value

HALF = False
GATHER = False
SCATTER = False


def masked(itemsize: int) -> bool:
    return False


def scale(b: Builder, y: Value, n: Value) -> Value | None:
    return None
