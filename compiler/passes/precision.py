"""The ``precision`` option: what products of float32 may lose.

"highest" and "high" ask for no less than float32 gives (the CPU computes both in float32); "bfloat16" rounds the operands of every contraction to bfloat16 and
accumulates in float32.
"""

from __future__ import annotations

from ...runtime.dtype import bfloat16, float32
from ..ir.graph import Graph, Node, node
from ..ir.rewrite import rebuild, with_bodies
from ..ops import functional as f


def apply_precision(graph: Graph, precision: str) -> Graph:
    """``graph`` with the operands of its float32 contractions rounded as ``precision`` says."""
    if precision != "bfloat16":
        return graph

    def rounded(n: Node) -> Node:
        if n.op.kind == "region":
            return node(with_bodies(n.op, lambda g: apply_precision(g, precision)), *n.inputs)
        if n.op.kind != "contraction" or n.dtype is not float32:
            return n
        return node(n.op, *[f.cast(f.cast(i, bfloat16), float32) for i in n.inputs])

    return rebuild(graph, rounded)
