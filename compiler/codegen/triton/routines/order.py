"""Sorting by counting each element's rank: a program compares a block of a row with the whole row."""

from __future__ import annotations

from .....runtime.dim import ceil_div
from ....kernel.routine import Order
from .text import LANES, names, register


def order_body(r: Order) -> tuple[list[str], int]:
    source, out = names(r)
    dtype = r.buffers[0].dtype
    t = register(dtype)
    less = "y > x" if r.descending else "y < x"
    equal = "y == x"
    if dtype.is_float:
        nan = "(y != y) & (x == x)" if r.descending else "(x != x) & (y == y)"
        less, equal = f"({less}) | ({nan})", "(y == x) | ((y != y) & (x != x))"
    lines = [
        f"blocks = (n1 + {LANES - 1}) // {LANES}",
        "program = tl.program_id(0).to(tl.int64)",
        "row = program // blocks",
        f"i = program % blocks * {LANES} + tl.arange(0, {LANES})",
        "inside = i < n1",
        "base = row // n2 * n1 * n2 + row % n2",
        "target = row // n2 * n3 * n2 + row % n2",
        f"x = tl.load({source} + base + i * n2, mask=inside, other=0).to({t})",
        f"rank = tl.full(({LANES},), 0, tl.int64)",
        "for j in range(n1):",
        f"    y = tl.load({source} + base + j * n2).to({t})",
        f"    before = ({less}) | (({equal}) & (j < i))",
        "    rank += before.to(tl.int64)",
        f"tl.store({out} + target + rank * n2, i.to(tl.int32), mask=inside & (rank < n3))",
    ]
    return lines, r.sizes[0] * r.sizes[2] * ceil_div(r.sizes[1], LANES)
