"""Each rule of ``verify``, broken once."""

from __future__ import annotations

import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.graph import Graph, leaf, node, post_order
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.ir.verify import verify
from kerogen.compiler.ir.walk import dependents, depth, leaves
from kerogen.compiler.ops.unary import Neg
from kerogen.runtime.dtype import float32, int32
from kerogen.runtime.errors import InternalError

T = TensorType((2, 3), float32)


def refused(graph: Graph, message: str) -> None:
    with pytest.raises(InternalError, match=message):
        verify(graph, "some pass")


def test_rules() -> None:
    x, w = leaf("x", T), leaf("w", T, "state")
    y = o.mul(x, w)
    verify(Graph((x, w), (y,), ((0, 1),)))
    refused(Graph((x,), (y,)), r"after some pass: Input\('w'\) is used but is not one of the inputs")
    refused(Graph((x, x, w), (y,)), "listed twice")
    refused(Graph((x, w, y), (y,)), "not a leaf")
    refused(Graph((x, w), (y,), ((0, 0),)), "Input.'x'. is not donated .its role is 'input'")
    refused(Graph((x, w), (y,), ((1, 1),)), "names no output")
    refused(Graph((x, w), (o.sum_(y),), ((0, 1),)), r"float32\[\] replaces float32\[2, 3\]")
    refused(Graph((x, w), (y, x), ((0, 1), (1, 1))), "an input has two aliases")
    refused(Graph((x, w), (y,), (), ("a", "b")), "output names")
    refused(Graph((x, w), (y, x), (), ("a", "a")), "output names")
    odd = leaf("odd", T, "weights")
    refused(Graph((odd,), (o.neg(odd),)), "unknown role 'weights'")


def test_types_are_inferred_again() -> None:
    x = leaf("x", T)
    y = node(Neg(), x)
    y.type = T.with_dtype(int32)
    try:
        refused(Graph((x,), (y,)), r"should have type float32\[2, 3\]")
    finally:
        y.type = T


def test_walks() -> None:
    x, w = leaf("x", T), leaf("w", T)
    h = o.tanh(x)
    y = o.add(o.mul(h, w), h)
    order = post_order([y])
    assert leaves([y]) == [x, w]
    assert dependents(order, [w]) == {w, y, y.inputs[0]}
    assert dependents(order, [x], lambda n: n is not h) == {x}
    assert depth([y]) == 4
