"""The sub-graph of a control-flow op: closed, so everything that it uses is one of its inputs."""

from __future__ import annotations

from functools import cached_property

from ...runtime.dim import Dim
from .graph import Graph
from .types import items_of


class Body:
    """An attribute of an op: ``graph`` is computed as part of a step of the op's node. Equal when the texts are equal."""

    def __init__(self, graph: Graph):
        self.graph = graph

    @cached_property
    def key(self) -> tuple:
        """The text without names of origins or values of free dimensions."""
        from .text import graph_text

        return ("body", graph_text(self.graph, bare=True))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The present values of the free sizes in it: what interning must tell apart beyond ``key``."""
        return tuple([int(d) for n in (*self.graph.inputs, *self.graph.nodes) for t in items_of(n.type) for d in t.shape if type(d) is Dim])

    def __repr__(self) -> str:
        return f"Body({self.graph.name})"
