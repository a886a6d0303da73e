"""Walks over nodes that several passes need. All are iterative: graphs are deep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .graph import Input, Node, post_order


def leaves(roots: Iterable[Node]) -> list[Node]:
    """The ``Input`` nodes under ``roots``, in the order of the walk."""
    return [n for n in post_order(roots) if isinstance(n.op, Input)]


def dependents(order: Sequence[Node], sources: Iterable[Node], through: Callable[[Node], bool] = lambda n: True) -> set[Node]:
    """The nodes of ``order`` (operands first) that a path leads to from ``sources``, over nodes for which ``through`` holds."""
    found = set(sources)
    for n in order:
        if n not in found and through(n) and any(i in found for i in n.inputs):
            found.add(n)
    return found


def depth(roots: Iterable[Node]) -> int:
    """Nodes on the longest path."""
    level: dict[Node, int] = {}
    for n in post_order(roots):
        level[n] = 1 + max((level[i] for i in n.inputs), default=0)
    return max(level.values(), default=0)
