"""Operators about order: running sums and products, top-k."""

from __future__ import annotations

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dtype import int64
from .call import Call
from .registry import operator


@operator("CumSum", "CumProd")
def _prefixes(call: Call) -> Node:
    x, axis = call.node(0), call.normal(int(call.scalar(1)), call.rank(0))
    fn = ops.cumsum if call.op == "CumSum" else ops.cumprod
    return fn(x, axis, bool(call.attr("exclusive")), bool(call.attr("reverse")))


@operator("TopK")
def _top_k(call: Call) -> tuple[Node, Node]:
    """Always in order, which ``sorted`` = 0 leaves open."""
    x, axis = call.node(0), call.axis()
    k = int(call.attr("k")) if call.version < 10 else call.scalar(1)
    if k < 0 or k > x.shape[axis]:
        raise call.invalid(f"asks for {k} of the {x.shape[axis]} elements of axis {axis}")
    values, places = ops.top_k(x, k, axis, bool(call.attr("largest", 1)))
    return values, ops.cast(places, int64)
