"""Scans, made no larger than what is read of them: two scans that share their steps become one (a gradient adds outputs to the forward scan), then
outputs, carries and items that nothing needs go.
"""

from __future__ import annotations

from dataclasses import replace

from ...runtime.dim import key
from ..ir import location
from ..ir.body import Body
from ..ir.graph import Graph, Node, node, post_order
from ..ops.control import Scan
from ..ops.result import Result


def simplify_scans(graph: Graph) -> Graph:
    """``graph`` with scans merged and pruned."""
    if not any(isinstance(n.op, Scan) for n in graph.nodes):
        return graph
    return _rebuild(_rebuild(graph, _merged(graph)), None)


def _merged(graph: Graph) -> dict[Node, tuple[Scan, dict[int, int]]]:
    """For each scan that becomes part of a wider one: that, and where its results are found there."""
    families: dict[tuple, list[Node]] = {}
    for n in graph.nodes:
        if isinstance(n.op, Scan):
            op = n.op
            k = (n.inputs, op.body.graph.inputs, op.body.graph.outputs[: op.carries], op.reverse, key(op.length))
            families.setdefault(k, []).append(n)
    out: dict[Node, tuple[Scan, dict[int, int]]] = {}
    for members in families.values():
        if len(members) == 1:
            continue
        first = members[0].op
        body = first.body.graph
        ys = list(dict.fromkeys([y for m in members for y in m.op.body.graph.outputs[first.carries :]]))
        wide = replace(first, body=Body(Graph(body.inputs, (*body.outputs[: first.carries], *ys), name=body.name)))
        for m in members:
            own = m.op.body.graph.outputs
            out[m] = wide, {i: i if i < first.carries else first.carries + ys.index(o) for i, o in enumerate(own)}
    return out


def _rebuild(graph: Graph, merged: dict[Node, tuple[Scan, dict[int, int]]] | None) -> Graph:
    """The graph with scans replaced by the ``merged`` ones, or (None) pruned."""
    used: dict[Node, set[int]] = {}
    for n in graph.nodes:
        if isinstance(n.op, Result) and isinstance(n.inputs[0].op, Scan):
            used.setdefault(n.inputs[0], set()).add(n.op.index)
    memo: dict[Node, Node] = {}
    places: dict[Node, dict[int, int]] = {}  # of a scan: where its results are in what replaces it
    for n in graph.nodes:
        with location.keep(n.origins):
            if isinstance(n.op, Result) and n.inputs[0] in places:
                memo[n] = node(Result(places[n.inputs[0]][n.op.index]), memo[n.inputs[0]])
                continue
            inputs = tuple([memo[i] for i in n.inputs])
            op = n.op
            if isinstance(op, Scan):
                if merged is None:
                    op, inputs, places[n] = _pruned(op, inputs, used.get(n, set()))
                elif n in merged:
                    op, places[n] = merged[n]
            memo[n] = n if op is n.op and all(a is b for a, b in zip(inputs, n.inputs)) else node(op, *inputs)
    return graph.with_outputs([memo[o] for o in graph.outputs])


def _pruned(op: Scan, inputs: tuple[Node, ...], used: set[int]) -> tuple[Scan, tuple[Node, ...], dict[int, int]]:
    """The scan with only what the ``used`` results need."""
    body = op.body.graph
    c, x = op.carries, op.carries + op.items
    keep = {i for i in used if i < c}
    ys = [j for j in range(c, len(body.outputs)) if j in used]
    while True:  # a carry is needed where a needed output reads it
        reached = set(post_order([body.outputs[i] for i in (*sorted(keep), *ys)]))
        more = {i for i in range(c) if body.inputs[i] in reached} | keep
        if more == keep:
            break
        keep = more
    carries = sorted(keep)
    items = [i for i in range(c, x) if body.inputs[i] in reached]
    captures = [i for i in range(x, len(body.inputs)) if body.inputs[i] in reached]
    chosen = [*carries, *items, *captures]
    outputs = [*carries, *ys]
    places = {old: new for new, old in enumerate(outputs)}
    if len(chosen) == len(body.inputs) and len(outputs) == len(body.outputs):
        return op, inputs, places
    graph = Graph(tuple([body.inputs[i] for i in chosen]), tuple([body.outputs[i] for i in outputs]), name=body.name)
    return Scan(Body(graph), len(carries), len(items), op.length, op.reverse), tuple([inputs[i] for i in chosen]), places
