"""Which nodes of a graph or function body anything needs."""

from __future__ import annotations

from collections.abc import Iterable

from .model import GraphDef, NodeDef


def live(nodes: tuple[NodeDef, ...], wanted: Iterable) -> list[NodeDef]:
    """The nodes that the ``wanted`` names need, in order."""
    needed, out = set(wanted), []
    for n in reversed(nodes):
        if any(o in needed for o in n.outputs if o):
            out.append(n)
            needed.update(n.inputs)
            needed.update(_captured(n))
    return out[::-1]


def _captured(n: NodeDef) -> set[str]:
    """Names that subgraphs of ``n`` read (some are their own)."""
    names: set[str] = set()
    for a in n.attributes.values():
        for g in a.value if isinstance(a.value, tuple) else (a.value,):
            if isinstance(g, GraphDef):
                names.update(v.name for v in g.outputs)
                for m in g.nodes:
                    names.update(m.inputs)
                    names |= _captured(m)
    return names
