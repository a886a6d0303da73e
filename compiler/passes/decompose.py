"""Decomposition: composites that the target does not claim become the ops that define them."""

from __future__ import annotations

from collections.abc import Collection

from ..ir import location
from ..ir.graph import Graph, Node, node, post_order


def decompose(graph: Graph, claimed: Collection[type] = ()) -> Graph:
    """The graph without composites, but for those of the classes ``claimed``; what a decomposition contains is decomposed too."""
    memo: dict[Node, Node] = {}

    def convert(root: Node) -> Node:
        stack = [root]
        while stack:
            n = stack[-1]
            if n in memo:
                stack.pop()
                continue
            missing = [i for i in n.inputs if i not in memo]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            with location.keep(n.origins):
                inputs = [memo[i] for i in n.inputs]
                if n.op.kind == "composite" and type(n.op) not in claimed:
                    for i in inputs:
                        memo[i] = i
                    memo[n] = convert(n.op.decompose(*inputs))
                else:
                    memo[n] = n if all(a is b for a, b in zip(inputs, n.inputs)) else node(n.op, *inputs)
        return memo[root]

    for n in post_order(graph.outputs):
        convert(n)
    return graph.with_outputs([memo[o] for o in graph.outputs])
