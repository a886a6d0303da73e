"""Rebuilding graphs: the one walk that every pass uses. Iterative and memoised; unchanged parts keep their identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import location
from .graph import Graph, Node, node, post_order


def rebuild(graph: Graph, fn: Callable[[Node], Node]) -> Graph:
    """``graph`` with every node replaced by ``fn`` of it; ``fn`` sees a node whose operands are already replaced."""
    memo: dict[Node, Node] = {}
    for n in graph.nodes:
        with location.keep(n.origins):
            inputs = tuple([memo[i] for i in n.inputs])
            same = n if all(a is b for a, b in zip(inputs, n.inputs)) else node(n.op, *inputs)
            memo[n] = fn(same)
    return graph.with_outputs([memo[o] for o in graph.outputs])


def substitute(roots: list[Node], mapping: Mapping[Node, Node]) -> list[Node]:
    """``roots`` with leaves (or any nodes) replaced."""
    memo: dict[Node, Node] = dict(mapping)
    for n in post_order(roots):
        if n not in memo:
            with location.keep(n.origins):
                inputs = tuple([memo[i] for i in n.inputs])
                memo[n] = n if all(a is b for a, b in zip(inputs, n.inputs)) else node(n.op, *inputs)
    return [memo[r] for r in roots]
