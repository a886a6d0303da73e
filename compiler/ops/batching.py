"""One op for all steps of a loop: ``batch_node`` applies an op to operands that have one more leading axis (the method of JAX's vmap).

What a loop's body computes from its items alone leaves the body this way: a recurrent layer's input projection becomes one matrix product over all
steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..ir.graph import Node, node, post_order
from . import functional as f
from .base import Composite
from .contract import DotGeneral
from .conv import Conv
from .index import Take
from .movement import Broadcast, Concat, Reshape, Transpose
from .reduce import Reduction
from .slicing import Pad, Slice


def batch_cone(root: Node, known: Mapping[Node, Node], length: int) -> Node | None:
    """``root`` for all steps, [length, ...], where ``known`` gives the leaves that differ from step to step, stacked; None where an op on the way has no rule."""
    memo: dict[Node, tuple[Node, bool]] = {n: (outer, True) for n, outer in known.items()}
    for n in post_order([root]):
        if n in memo:
            continue
        operands = [memo[i] for i in n.inputs]
        if not any(stacked for _, stacked in operands):
            memo[n] = n, False
            continue
        out = batch_node(n, operands, length)
        if out is None:
            return None
        memo[n] = out, True
    out, stacked = memo[root]
    return out if stacked else f.broadcast_to(out, (length, *out.shape))


def batch_node(n: Node, operands: Sequence[tuple[Node, bool]], length: int) -> Node | None:
    """``n`` with these operands, of which those marked True have a leading axis of ``length``; None where there is no rule."""
    op = n.op

    def spread(i: int) -> Node:
        x, stacked = operands[i]
        return x if stacked else f.broadcast_to(x, (length, *x.shape))

    if op.kind == "elementwise":
        return node(op, *[spread(i) for i in range(len(operands))])
    if isinstance(op, Composite):
        if n.has_items:
            return None
        return batch_cone(op.decompose(*n.inputs), {i: x for i, (x, stacked) in zip(n.inputs, operands) if stacked}, length)
    if isinstance(op, DotGeneral):
        return _dot(n, op, operands)
    if isinstance(op, Concat):
        return node(Concat(op.axis + 1), *[spread(i) for i in range(len(operands))])
    if isinstance(op, Take):
        (table, a), (indices, b) = operands
        return node(op, table, indices) if op.axis == 0 and b and not a else None
    if isinstance(op, Conv):
        (x, a), (w, b) = operands
        if b or not a:
            return None
        y = node(op, f.reshape(x, (length * x.shape[1], *x.shape[2:])), w)
        return f.reshape(y, (length, *n.shape))
    if len(operands) != 1:
        return None
    x = operands[0][0]
    if isinstance(op, Reshape):
        return f.reshape(x, (length, *op.shape))
    if isinstance(op, Broadcast):
        ones = (1,) * (len(op.shape) - (x.rank - 1))
        return f.broadcast_to(f.reshape(x, (length, *ones, *x.shape[1:])), (length, *op.shape))
    if isinstance(op, Transpose):
        return f.transpose(x, (0, *[p + 1 for p in op.perm]))
    if isinstance(op, Slice):
        return node(Slice((0, *op.starts), (length, *op.sizes), (1, *op.steps)), x)
    if isinstance(op, Pad):
        return node(Pad((0, *op.lo), (0, *op.hi), (0, *op.interior), op.value), x)
    if isinstance(op, Reduction):
        return node(replace(op, axes=tuple([a + 1 for a in op.axes])), x)
    return None


def _dot(n: Node, op: DotGeneral, operands: Sequence[tuple[Node, bool]]) -> Node:
    (a, in_a), (b, in_b) = operands

    def moved(axes: tuple[int, ...], stacked: bool) -> tuple[int, ...]:
        return tuple([i + 1 for i in axes]) if stacked else axes

    ca, cb = moved(op.contract_a, in_a), moved(op.contract_b, in_b)
    ba, bb = moved(op.batch_a, in_a), moved(op.batch_b, in_b)
    if in_a and in_b:
        return node(DotGeneral(ca, cb, (0, *ba), (0, *bb), op.precision), a, b)
    out = node(DotGeneral(ca, cb, ba, bb, op.precision), a, b)
    at = len(ba) if in_a else len(ba) + a.rank - len(ba) - len(ca)  # where the free axis of the steps lies in the result
    return f.transpose(out, (at, *[i for i in range(out.rank) if i != at])) if at else out
