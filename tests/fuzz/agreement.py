"""Comparing a compiled graph with the oracle, element by element, as exactly as the graph's own conditioning allows.

A random graph may amplify rounding without bound (a pole, a cancellation) or jump (floor, comparisons). So the oracle is also run on inputs
perturbed by a few units in the last place of the coarsest floating type in the graph: an element that moves more than the tolerance says nothing about
the compiler and is left out; the others are held to what they moved plus a small multiple of the rounding unit.
"""

from __future__ import annotations

import numpy as np

from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph
from kerogen.compiler.ir.types import items_of
from kerogen.compiler.ops.control import Region


def rounding_unit(graph: Graph) -> float:
    """The coarsest floating type's relative spacing, sub-graphs included: 2^-7 for bfloat16, 2^-10 for float16, 2^-23 for float32, 2^-52 for float64."""
    units = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}
    own = [units.get(t.dtype.name, 0.0) for n in graph.nodes for t in items_of(n.type)]
    return max([*own, *[rounding_unit(b.graph) for n in graph.nodes if isinstance(n.op, Region) for b in n.op.bodies()]], default=2.0**-52)


def oracle(graph: Graph, arrays: list[np.ndarray], rounds: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(outputs, how far each element moves under perturbation)."""
    exact = evaluate(graph, arrays)
    unit = rounding_unit(graph)
    rng = np.random.default_rng(0)
    spread = [np.zeros(o.shape) for o in exact]
    for _ in range(rounds):
        moved = []
        for a in arrays:
            if a.dtype.kind in "iub":
                moved.append(a)
            else:
                noise = 1 + 4 * unit * rng.standard_normal(a.shape)
                moved.append((a.astype(np.float64) * noise).astype(a.dtype))
        with np.errstate(all="ignore"):
            for s, o, e in zip(spread, evaluate(graph, moved), exact):
                d = np.abs(o.astype(np.float64) - e.astype(np.float64))
                np.maximum(s, np.where(np.isnan(d), np.inf, d), out=s)
    return exact, spread


def disagreement(graph: Graph, got: list[np.ndarray], exact: list[np.ndarray], spread: list[np.ndarray]) -> str | None:
    """None, or which output differs and how."""
    unit = rounding_unit(graph)
    for n, a, b, s in zip(graph.outputs, got, exact, spread, strict=True):
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{n}: {a.dtype}{a.shape} instead of {b.dtype}{b.shape}"
        x, y = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(all="ignore"):
            tolerance = 64 * unit * (1 + np.abs(y)) + 16 * s
            stable = s <= 1e-2 * (1 + np.abs(y))
            fine = (x == y) | (np.isnan(x) & np.isnan(y)) | (np.abs(x - y) <= tolerance) | ~stable
        if not np.all(fine):
            worst = np.unravel_index(np.argmax(np.where(fine, 0, np.abs(x - y))), x.shape)
            return f"{n} at {tuple(map(int, worst))}: {x[worst]!r} instead of {y[worst]!r} (moves by {s[worst]:.2g})"
    return None
