"""Where the buffers of one call lie in its arena: offsets from live ranges and sizes.

Largest first, each in the smallest gap that fits among those placed before it whose live ranges overlap its own (best fit by
size; the strategy that TensorFlow Lite's planner and Pisarchyk & Lee, "Efficient memory management for deep neural net
inference", 2020, found within a few per cent of the lower bound). It runs when sizes are known: they may depend on the batch.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

ALIGN = 64


def place(intervals: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets (bytes, multiples of 64) of buffers given as (nbytes, first, last) with ``first``..``last`` the steps, both
    included, in which each is live; and the arena's size. Buffers live at a common step never share a byte."""
    order = sorted(range(len(intervals)), key=lambda i: (-intervals[i][0], intervals[i][1], i))
    offsets = [0] * len(intervals)
    placed: list[tuple[int, int, int, int]] = []  # (offset, end, first, last), by offset
    total = 0
    for i in order:
        nbytes, first, last = intervals[i]
        size = -(-nbytes // ALIGN) * ALIGN
        if size == 0:
            continue
        best, best_gap, end = -1, -1, 0
        for offset, stop, f, g in placed:
            if f > last or g < first:
                continue
            gap = offset - end
            if gap >= size and (best < 0 or gap < best_gap):
                best, best_gap = end, gap
            if stop > end:
                end = stop
        at = best if best >= 0 else end
        offsets[i] = at
        insort(placed, (at, at + size, first, last))
        total = max(total, at + size)
    return offsets, total


def peak(intervals: Sequence[tuple[int, int, int]]) -> int:
    """Bytes live at the busiest step: no arena can be smaller."""
    changes: dict[int, int] = {}
    for nbytes, first, last in intervals:
        size = -(-nbytes // ALIGN) * ALIGN
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
    most = now = 0
    for step in sorted(changes):
        now += changes[step]
        most = max(most, now)
    return most
