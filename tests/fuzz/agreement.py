"""Comparing a compiled graph with the oracle, element by element, as exactly as the graph's own conditioning allows.

A random graph may amplify rounding without bound (a pole, a cancellation) or jump (floor, comparisons). So the oracle is also run with inputs
and intermediate results perturbed by units in the last place of the coarsest floating type in the graph: an element that moves more than the tolerance says nothing about
the compiler and is left out; the others are held to what they moved plus a small multiple of the rounding unit.
"""

from __future__ import annotations

import numpy as np

from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph
from kerogen.compiler.ir.types import items_of
from kerogen.compiler.ops.control import Region
from kerogen.compiler.passes.decompose import decompose
from kerogen.runtime.dtype import as_dtype


def rounding_unit(graph: Graph) -> float:
    """The coarsest floating type's relative spacing, sub-graphs included: 2^-7 for bfloat16, 2^-10 for float16, 2^-23 for float32, 2^-52 for float64."""
    units = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}
    own = [units.get(t.dtype.name, 0.0) for n in graph.nodes for t in items_of(n.type)]
    return max([*own, *[rounding_unit(b.graph) for n in graph.nodes if isinstance(n.op, Region) for b in n.op.bodies()]], default=2.0**-52)


def oracle(graph: Graph, arrays: list[np.ndarray], rounds: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(outputs, how far each element moves when inputs and the results of all ops in between are perturbed)."""
    exact = evaluate(graph, arrays)
    unit = rounding_unit(graph)
    rng = np.random.default_rng(0)
    spread = [np.zeros(o.shape) for o in exact]
    parts = decompose(graph)
    for _ in range(rounds):
        with np.errstate(all="ignore"):
            for s, o, e in zip(spread, _perturbed(parts, arrays, rng, unit), exact):
                d = np.abs(o.astype(np.float64) - e.astype(np.float64))
                np.maximum(s, np.where(np.isnan(d), np.inf, d), out=s)
    return exact, spread


def _perturbed(graph: Graph, arrays: list[np.ndarray], rng: np.random.Generator, unit: float) -> list[np.ndarray]:
    """The graph evaluated with inputs a few units away, and each op's result about half a unit."""

    def moved(a: np.ndarray, amount: float) -> np.ndarray:
        a = np.asarray(a)
        return a if not as_dtype(a.dtype).is_float else (a.astype(np.float64) * (1 + amount * unit * rng.standard_normal(a.shape))).astype(a.dtype)

    memo: dict = {n: moved(a, 4) for n, a in zip(graph.inputs, arrays)}
    for n in graph.nodes:
        if n not in memo:
            out = n.op.eval(*[memo[i] for i in n.inputs])
            exactly = n.op.kind in ("movement", "source", "result") or n.has_items
            memo[n] = out if exactly else moved(out, 0.5)
    return [memo[o] for o in graph.outputs]


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
