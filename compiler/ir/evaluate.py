"""Evaluating a graph in NumPy, op by op: the oracle that compiled graphs are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .graph import Graph, Input


def evaluate(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs for ``arrays``, one for each of ``graph.inputs``. Composite ops are evaluated by their own ``eval``."""
    memo = {n: np.asarray(a) for n, a in zip(graph.inputs, arrays, strict=True)}
    with np.errstate(all="ignore"):
        for n in graph.nodes:
            if not isinstance(n.op, Input):
                memo[n] = n.op.eval(*[memo[i] for i in n.inputs])
    return [memo[o] for o in graph.outputs]
