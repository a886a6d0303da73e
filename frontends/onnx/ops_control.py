"""Control flow that needs no loop: ``If``."""

from __future__ import annotations

import numpy as np

from ...compiler import ops
from ...compiler.ir.graph import Node
from .call import Call
from .model import GraphDef
from .registry import operator
from .values import Known, Unknown, Value, Weight, evaluated


@operator("If")
def _if(call: Call) -> tuple[Value, ...]:
    """The branch that is taken where that is known now; else both, and a selection if they agree in type (nodes have no effects).
    """
    branches = [call.attr("then_branch"), call.attr("else_branch")]
    if not all(isinstance(b, GraphDef) for b in branches):
        raise call.invalid("has no branches", "then_branch")
    condition = call.value(0)
    known = condition.array if isinstance(condition, (Known, Weight)) else evaluated(condition)
    if known is None:
        both = [call.importer.subgraph(b, call.scope) for b in branches]
        if any(isinstance(v, Unknown) for values in both for v in values):
            return tuple(Unknown() for _ in range(call.n_outputs))
        nodes = [[call.importer.as_node(v) for v in values] for values in both]
        if len(nodes[0]) == len(nodes[1]) and all(a.type.same(b.type) for a, b in zip(*nodes)):
            return tuple(_select(call.node(0), a, b) for a, b in zip(*nodes))
        known = call.static(0)
    return call.importer.subgraph(branches[0 if bool(np.asarray(known).reshape(-1)[0]) else 1], call.scope)


def _select(condition: Node, a: Node, b: Node) -> Node:
    return ops.where(ops.reshape(condition, ()), a, b)
