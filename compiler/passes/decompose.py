"""Decomposition: composites that the target does not claim become the ops that define them."""

from __future__ import annotations

from collections.abc import Callable

from ..ir import location
from ..ir.graph import Graph, Node, node, post_order
from ..ops.result import Result

Claims = Callable[[Node], bool]


def decompose(graph: Graph, claims: Claims | None = None) -> Graph:
    """The graph without composites, but for those that ``claims`` holds for (``passes.claims``): they become steps of their own. What a
    decomposition contains is decomposed too."""
    memo: dict[Node, Node | tuple[Node, ...]] = {}  # of a node with several results: what each became

    def whole(n: Node) -> Node:
        found = memo[n]
        assert isinstance(found, Node)  # only Result reads a node with several results
        return found

    def replaced(n: Node) -> Node | tuple[Node, ...]:
        if isinstance(n.op, Result) and isinstance(memo[n.inputs[0]], tuple):
            return memo[n.inputs[0]][n.op.index]  # type: ignore[index]
        inputs = [whole(i) for i in n.inputs]
        again = n if all(a is b for a, b in zip(inputs, n.inputs)) else node(n.op, *inputs)
        if n.op.kind != "composite" or (claims is not None and claims(again)):
            return again
        for i in inputs:
            memo[i] = i
        parts = n.op.decompose(*inputs)
        if not n.has_items:
            return whole(convert(parts))
        return tuple([whole(convert(p)) for p in parts])

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
                memo[n] = replaced(n)
        return root

    for n in post_order(graph.outputs):
        convert(n)
    return graph.with_outputs([whole(o) for o in graph.outputs])
