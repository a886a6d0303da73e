"""Comparisons, logic and selection."""

from __future__ import annotations

import numpy as np

from ...compiler import ops
from ...compiler.ir.graph import Node
from .call import Call
from .ops_elementwise import operands
from .registry import fold, operator

_COMPARE = {
    "Equal": (ops.eq, "__eq__"),
    "Less": (ops.lt, "__lt__"),
    "Greater": (ops.gt, "__gt__"),
    "LessOrEqual": (ops.le, "__le__"),
    "GreaterOrEqual": (ops.ge, "__ge__"),
}
_LOGIC = {"And": ops.logical_and, "Or": ops.logical_or, "Xor": ops.logical_xor}


@operator(*_COMPARE)
def _compare(call: Call) -> Node:
    return _COMPARE[call.op][0](*operands(call))


@operator(*_LOGIC)
def _logic(call: Call) -> Node:
    return _LOGIC[call.op](*operands(call))


@operator("Where")
def _where(call: Call) -> Node:
    a, b = call.node(1), call.node(2)
    if a.dtype is not b.dtype:
        raise call.invalid(f"chooses between types {a.dtype} and {b.dtype}")
    return ops.where(call.node(0), a, b)


@fold(*_COMPARE)
def _fold_compare(call: Call, a, b):
    # A comparison of a free size records a guard: the plan serves those sizes for which it comes out the same.
    if call.version < 7:
        return None
    a, b = np.broadcast_arrays(a, b)
    method = _COMPARE[call.op][1]
    if a.dtype != object and b.dtype != object:
        return getattr(a, method)(b)
    return np.array([bool(getattr(x, method)(y)) for x, y in zip(a.astype(object).flat, b.astype(object).flat)], bool).reshape(
        a.shape
    )


@fold("Not")
def _fold_not(call: Call, a):
    return ~a if a.dtype == bool else None


@fold(*_LOGIC)
def _fold_logic(call: Call, a, b):
    if call.version < 7 or a.dtype != bool or b.dtype != bool:
        return None
    return {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}[call.op](a, b)
