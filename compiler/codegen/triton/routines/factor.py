"""Factorisations with a lane per matrix, and triangular systems with a lane per column: for batches of small matrices."""

from __future__ import annotations

from .....runtime.dim import ceil_div
from ....kernel.routine import Factor, TriangularSolve
from .text import LANES, names, register


def factor_body(r: Factor) -> tuple[list[str], int]:
    t = register(r.buffers[0].dtype)
    head = [f"lane = tl.program_id(0).to(tl.int64) * {LANES} + tl.arange(0, {LANES})", "inside = lane < n0", "base = lane * n1 * n1"]
    return head + (_cholesky if r.form == "cholesky" else _lu)(t, *names(r)), ceil_div(r.sizes[0], LANES)


def _cholesky(t: str, source: str, out: str) -> list[str]:
    return [
        "for i in range(n1):",
        "    for j in range(i + 1):",
        f"        rest = tl.load({source} + base + i * n1 + j, mask=inside, other=0).to({t})",
        "        for k in range(j):",
        f"            rest -= tl.load({out} + base + i * n1 + k, mask=inside, other=0) * tl.load({out} + base + j * n1 + k, mask=inside, other=0)",
        "        if i == j:",
        f"            tl.store({out} + base + i * n1 + i, tl.sqrt(rest), mask=inside)",
        "        else:",
        f"            tl.store({out} + base + i * n1 + j, rest / tl.load({out} + base + j * n1 + j, mask=inside, other=1), mask=inside)",
        "    for j in range(i + 1, n1):",
        f"        tl.store({out} + base + i * n1 + j, tl.full(({LANES},), 0, {t}), mask=inside)",
    ]


def _lu(t: str, source: str, out: str, order: str, pivots: str) -> list[str]:
    def at(i: str, j: str) -> str:
        return f"{out} + base + ({i}) * n1 + {j}"

    def load(i: str, j: str) -> str:
        return f"tl.load({at(i, j)}, mask=inside, other=0)"

    return [
        "for i in range(n1):",
        f"    tl.store({order} + lane * n1 + i, tl.full(({LANES},), 0, tl.int32) + i, mask=inside)",
        "    for j in range(n1):",
        f"        tl.store({at('i', 'j')}, tl.load({source} + base + i * n1 + j, mask=inside, other=0), mask=inside)",
        "for k in range(n1):",
        f"    best = tl.full(({LANES},), -1, {t})",
        f"    p = tl.full(({LANES},), 0, tl.int64) + k",
        "    for i in range(k, n1):",
        f"        size = tl.abs({load('i', 'k')})",
        "        p = tl.where(size > best, i, p)",
        "        best = tl.where(size > best, size, best)",
        f"    tl.store({pivots} + lane * n1 + k, p.to(tl.int32), mask=inside)",
        f"    held = tl.load({order} + lane * n1 + k, mask=inside, other=0)",
        f"    tl.store({order} + lane * n1 + k, tl.load({order} + lane * n1 + p, mask=inside, other=0), mask=inside)",
        f"    tl.store({order} + lane * n1 + p, held, mask=inside)",
        "    for j in range(n1):",
        f"        one = {load('k', 'j')}",
        f"        tl.store({at('k', 'j')}, {load('p', 'j')}, mask=inside)",
        f"        tl.store({at('p', 'j')}, one, mask=inside)",
        f"    pivot = {load('k', 'k')}",
        "    for i in range(k + 1, n1):",
        f"        x = {load('i', 'k')}",
        "        scale = tl.where(pivot == 0, x, x / tl.where(pivot == 0, 1.0, pivot))",
        f"        tl.store({at('i', 'k')}, scale, mask=inside)",
        "        for j in range(k + 1, n1):",
        f"            tl.store({at('i', 'j')}, {load('i', 'j')} - scale * {load('k', 'j')}, mask=inside)",
    ]


def triangular_body(r: TriangularSolve) -> tuple[list[str], int]:
    matrix, right, out = names(r)
    t = register(r.buffers[0].dtype)
    forward = r.lower != r.transposed
    i, k = ("s", "d") if forward else ("(n1 - 1 - s)", "(n1 - 1 - d)")
    element = f"{k} * n1 + {i}" if r.transposed else f"{i} * n1 + {k}"
    lines = [
        f"lane = tl.program_id(0).to(tl.int64) * {LANES} + tl.arange(0, {LANES})",
        "inside = lane < n0 * n2",
        "base = lane // n2 * n1 * n1",
        "column = lane // n2 * n1 * n2 + lane % n2",
        "for s in range(n1):",
        f"    x = tl.load({right} + column + {i} * n2, mask=inside, other=0).to({t})",
        "    for d in range(s):",
        f"        x -= tl.load({matrix} + base + {element}, mask=inside, other=0) * tl.load({out} + column + {k} * n2, mask=inside, other=0)",
    ]
    if not r.unit:
        lines.append(f"    x = x / tl.load({matrix} + base + {i} * n1 + {i}, mask=inside, other=1)")
    lines.append(f"    tl.store({out} + column + {i} * n2, x, mask=inside)")
    return lines, ceil_div(r.sizes[0] * r.sizes[2], LANES)
