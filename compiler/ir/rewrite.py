"""Rebuilding graphs: the one walk that every pass uses. Iterative and memoised; unchanged parts keep their identity."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from . import location
from .body import Body
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


def with_bodies(op: Any, fn: Callable[[Graph], Graph]) -> Any:
    """``op`` with ``fn`` applied to each of its sub-graphs."""
    changed = {}
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if isinstance(value, Body):
            graph = fn(value.graph)
            if graph is not value.graph:
                changed[field.name] = Body(graph)
    return dataclasses.replace(op, **changed) if changed else op
