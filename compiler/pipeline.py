"""The pipeline: from a graph to an executable. (Bootstrapping: evaluates op by op until the passes below stand.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..runtime.dim import Dim
from .ir.evaluate import evaluate
from .ir.graph import Graph
from .passes.autodiff import grad as grad


def executable(trace: Callable[[Mapping[str, int]], Graph], *, bindings: Sequence[Any] = (), name: str = "graph",
               options: Any = None, unflatten: Callable | None = None):
    """An ``Executable`` for the graph that ``trace(dims)`` builds.

    ``trace`` is called with a value (a ``Dim``) for every free dimension, by name, whenever a new specialisation is needed; inputs of the
    graph that have role "parameter" or "state" are bound, in order, to ``bindings``: objects with ``array`` and ``version``.
    """
    return _Evaluated(trace, bindings, unflatten)


class _Evaluated:
    """Bootstrap only."""

    def __init__(self, trace, bindings, unflatten):
        self.trace, self.bindings, self.unflatten = trace, list(bindings), unflatten

    def __call__(self, *arrays, **named):
        dims = _Needed()
        graph = self.trace(dims)
        dims.values = {}
        ports = [n for n in graph.inputs if n.op.role == "input"]
        given = [np.asarray(a) for a in arrays]
        for p, a in zip(ports, given):
            for n, m in zip(p.shape, a.shape):
                if type(n) is Dim and len(n.expr) == 1:
                    dims.values[n.expr[0][0][0]] = Dim.free(n.expr[0][0][0], m)
        graph = self.trace(dims.values)
        feed, b, g = [], iter(self.bindings), iter(given)
        for n in graph.inputs:
            feed.append(next(g) if n.op.role == "input" else next(b).array)
        outs = evaluate(graph, feed)
        bound = [n for n in graph.inputs if n.op.role != "input"]
        for o, i in graph.aliases:
            target = self.bindings[bound.index(graph.inputs[i])]
            target.array[...] = outs[o]
            target.version += 1
            outs[o] = target.array
        if self.unflatten:
            return self.unflatten(outs)
        return outs[0] if len(outs) == 1 else outs


class _Needed(dict):
    def __missing__(self, name):
        return Dim.free(name, 7)
