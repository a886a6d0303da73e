"""NEON (AArch64): 32 registers of 16 bytes, fused multiply-add and float16 conversions, no masks."""

from __future__ import annotations

from ..builder import Builder, Value

HALF = True
GATHER = False
SCATTER = False


def masked(itemsize: int) -> bool:
    return False


def scale(b: Builder, y: Value, n: Value) -> Value | None:
    return None
