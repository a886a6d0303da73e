"""Matrix products."""

from __future__ import annotations

from ...compiler import ops
from ...compiler.ir.graph import Node
from .call import Call
from .registry import operator


@operator("MatMul")
def _matmul(call: Call) -> Node:
    a, b = call.node(0), call.node(1)
    if a.dtype is not b.dtype:
        raise call.invalid(f"multiplies {a.type} and {b.type}")
    return ops.matmul(a, b)


@operator("Gemm")
def _gemm(call: Call) -> Node:
    a, b = call.node(0), call.node(1)
    if a.rank != 2 or b.rank != 2:
        raise call.invalid(f"needs matrices, got {a.type} and {b.type}")
    if call.attr("transA"):
        a = ops.transpose(a, (1, 0))
    if call.attr("transB"):
        b = ops.transpose(b, (1, 0))
    alpha, beta = call.attr("alpha"), call.attr("beta")
    y = ops.matmul(a, b)
    if alpha != 1:
        y = ops.mul(y, _factor(call, alpha))
    if call.has(2) and beta != 0:
        c = call.node(2)
        y = ops.add(y, c if beta == 1 else ops.mul(c, _factor(call, beta)))
    return y


def _factor(call: Call, x: float):
    if call.dtype(0).is_int and x != int(x):
        raise call.refuse(f"scales integers by {x}")
    return x if call.dtype(0).is_float else int(x)


@operator("Einsum")
def _einsum(call: Call) -> Node:
    return ops.einsum(call.attr("equation"), *call.nodes())
