"""Attention for targets that claim it: decomposed attention becomes the composite, and transposes around it its layouts.

Recognised is softmax over the last axis of scale q k^T, with numbers added and scores left out (``where(mask, scores, low)``) in between, times v: what importers of
other frameworks' graphs and layers written by hand come down to after ``canonicalize``. Nothing is recognised where something else
reads the scores or the probabilities (a gradient was taken already, weights are returned): they would be computed twice. A query
whose scores are all -inf gives zeros then instead of nan.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ...runtime.dim import Dim
from ..ir import location
from ..ir.graph import Graph, Node, node
from ..ir.rewrite import rebuild
from ..ops import functional as f
from ..ops.attention import Attention, AttentionGrad, AttentionKeyGrad, AttentionQueryGrad
from ..ops.composite import Softmax
from ..ops.constant import Full
from ..ops.contract import DotGeneral
from ..ops.elementwise import Add, Div, Mul, Sub
from ..ops.logic import Select
from ..ops.movement import Broadcast, Transpose
from ..ops.result import Result, results

_SWAP = (0, 2, 1, 3)
LOW = -1e4  # a score of at most this much weighs nothing beside a real one


def raise_attention(graph: Graph) -> Graph:
    """``graph`` with attention as ``Attention`` nodes that read and write what lies there, without transposes around them."""
    users = graph.users
    kept = set(graph.outputs)

    def single(n: Node) -> bool:
        return len(users.get(n, ())) == 1 and n not in kept

    found: dict[Node, Node] = {}
    for n in graph.nodes:
        if isinstance(n.op, DotGeneral):
            made = _recognise(n, single)
            if made is not None:
                found[n] = made
    if found:
        graph = _replaced(graph, found)
    return _fold_results(_fold_operands(graph))


def split_gradients(graph: Graph) -> Graph:
    """``AttentionGrad`` as its two halves, for targets that claim these: one sums over keys, the other over queries."""

    def halves(n: Node) -> Node:
        if not (isinstance(n.op, Result) and isinstance(n.inputs[0].op, AttentionGrad)):
            return n
        (whole,) = n.inputs
        if not whole.op.has_routine(whole):
            return n
        fields = {x.name: getattr(whole.op, x.name) for x in dataclasses.fields(whole.op)}
        dq, *rows = results(node(AttentionQueryGrad(**fields), *whole.inputs))
        if n.op.index == 0:
            return dq
        return results(node(AttentionKeyGrad(**fields), *whole.inputs, *rows))[n.op.index - 1]

    return rebuild(graph, halves)


def _replaced(graph: Graph, found: dict[Node, Node]) -> Graph:
    """Like ``rebuild``, for replacements made of the graph's own nodes."""
    memo: dict[Node, Node] = {}
    stack = list(graph.outputs)
    while stack:
        n = stack[-1]
        if n in memo:
            stack.pop()
            continue
        if n in found:
            if found[n] in memo:
                memo[n] = memo[found[n]]
                stack.pop()
            else:
                stack.append(found[n])
            continue
        missing = [i for i in n.inputs if i not in memo]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        inputs = [memo[i] for i in n.inputs]
        memo[n] = n if all(a is b for a, b in zip(inputs, n.inputs)) else node(n.op, *inputs)
    return graph.with_outputs([memo[o] for o in graph.outputs])


@dataclass
class _Scores:
    """What was peeled off the scores, from the softmax inwards."""

    scale: float = 1.0
    bias: list[Node] = field(default_factory=list)
    masks: list[Node] = field(default_factory=list)
    empty: str = "uniform"


def _recognise(n: Node, single: Callable[[Node], bool]) -> Node | None:
    """The attention that the product ``n`` of probabilities and values is, or None."""
    op, (a, b) = n.op, n.inputs
    for p, v, left in ((a, b, True), (b, a, False)):
        own, other = ((op.contract_a, op.batch_a), (op.contract_b, op.batch_b))[:: 1 if left else -1]
        if not (isinstance(p.op, Softmax) and p.op.axes == (3,) and p.rank == 4 and v.rank == 4 and single(p)):
            continue
        if own != ((3,), (0, 1)) or len(other[0]) != 1 or not _exact(op):
            continue
        scores = _Scores()
        product = _peel(p.inputs[0], scores, single)
        if product is None:
            continue
        q, k = product.inputs
        parts = [_operand(q, product.op.batch_a, product.op.contract_a, True), _operand(k, product.op.batch_b, product.op.contract_b, True),
                 _operand(v, other[1], other[0], False)]
        out = _make(parts, scores)
        return out if left else f.transpose(out, (0, 1, 3, 2))
    return None


def _exact(op: DotGeneral) -> bool:
    return op.precision == "highest" and op.accumulate is None


def _peel(x: Node, s: _Scores, single: Callable[[Node], bool]) -> Node | None:
    """The product q k^T under ``x``, what lies between in ``s``; None where that is something else."""
    while True:
        if not single(x):
            return None
        if isinstance(x.op, DotGeneral):
            op = x.op
            fits = len(op.contract_a) == 1 and len(op.batch_a) == 2 and x.rank == 4 and all(i.rank == 4 for i in x.inputs)
            return x if fits and _exact(op) and x.dtype.is_float else None
        if isinstance(x.op, Select) and not s.bias and s.scale == 1.0:
            mask, inner, low = x.inputs
            value = _number(low)
            if value is None or value > LOW or (value > 1e5 * LOW and _adds(inner)):
                return None
            if s.masks and (s.empty == "zero") != (value == -math.inf):
                return None
            s.masks.append(mask)
            s.empty = "zero" if value == -math.inf else "uniform"
            x = inner
        elif isinstance(x.op, Add) and s.scale == 1.0:
            inner, bias = x.inputs if _holds_product(x.inputs[0]) else x.inputs[::-1]
            s.bias.append(bias)
            x = inner
        elif isinstance(x.op, Sub) and s.scale == 1.0:
            s.bias.append(f.neg(x.inputs[1]))
            x = x.inputs[0]
        elif isinstance(x.op, (Mul, Div)):
            left, right = (_number(i) for i in x.inputs)
            factor = right if right is not None else left
            if factor is None or (isinstance(x.op, Div) and (right is None or right == 0)):
                return None
            s.scale *= 1 / factor if isinstance(x.op, Div) else factor
            x = x.inputs[0 if right is not None else 1]
        else:
            return None


def _adds(x: Node) -> bool:
    return isinstance(x.op, (Add, Sub))


def _holds_product(x: Node) -> bool:
    """Whether a sum's operand is the side with the product."""
    while isinstance(x.op, (Mul, Div, Add, Sub)):
        if isinstance(x.op, Sub):
            (x, _) = x.inputs
            continue
        if isinstance(x.op, Add):
            return any(_holds_product(i) for i in x.inputs)
        x = x.inputs[0] if _number(x.inputs[1]) is not None else x.inputs[1]
    return isinstance(x.op, DotGeneral) and len(x.op.batch_a) == 2 and x.rank == 4


def _number(x: Node) -> float | None:
    while isinstance(x.op, Broadcast):
        (x,) = x.inputs
    return float(x.op.value) if isinstance(x.op, Full) and type(x.op.value) is not Dim and x.dtype.is_float else None


def _operand(x: Node, batch: tuple[int, ...], contract: tuple[int, ...], depth_is_contracted: bool) -> tuple[Node, str]:
    """(node, layout) of a product's operand, with transposes looked through."""
    (free,) = (i for i in range(4) if i not in batch + contract)
    time, depth = (free, contract[0]) if depth_is_contracted else (contract[0], free)
    axes = (batch[0], batch[1], time, depth)
    while isinstance(x.op, Transpose):
        axes = tuple([x.op.perm[i] for i in axes])
        (x,) = x.inputs
    if axes == (0, 1, 2, 3):
        return x, "BHTD"
    return (x, "BTHD") if axes == _SWAP else (f.transpose(x, axes), "BHTD")


def _make(parts: list[tuple[Node, str]], s: _Scores) -> Node:
    nodes, layouts = [p[0] for p in parts], tuple([p[1] for p in parts])
    extra = []
    if s.bias:
        bias = _narrow(s.bias[0])
        for more in s.bias[1:]:
            bias = f.add(bias, _narrow(more))
        extra.append(bias)
    if s.masks:
        mask = _narrow(s.masks[0])
        for more in s.masks[1:]:
            mask = f.logical_and(mask, _narrow(more))
        extra.append(mask)
    op = Attention(s.scale, empty=s.empty, bias=bool(s.bias), mask=bool(s.masks), layouts=(*layouts, "BHTD"))
    return f.node(op, *nodes, *extra)


def _narrow(x: Node) -> Node:
    """What was broadcast to the scores' shape, before it was; of rank 4."""
    if isinstance(x.op, Full):
        return f.full((1,) * 4, x.op.value, x.dtype)
    while isinstance(x.op, Broadcast):
        (x,) = x.inputs
    return f.reshape(x, (1,) * (4 - x.rank) + tuple(x.shape)) if x.rank < 4 else x


def _swapped(layout: str) -> str:
    return "BTHD" if layout == "BHTD" else "BHTD"


def _fold_operands(graph: Graph) -> Graph:
    """Transposes of operands become their layouts; the results of a derivative follow their operands, so they are transposed instead."""
    memo: dict[Node, Node] = {}
    turned: dict[Node, set[int]] = {}  # by the old node: its results that lie otherwise now
    for n in graph.nodes:
        with location.keep(n.origins):
            inputs = [memo[i] for i in n.inputs]
            if isinstance(n.op, (Attention, AttentionGrad)):
                memo[n], turned[n] = _with_layouts(n.op, inputs)
                continue
            same = n if all(a is b for a, b in zip(inputs, n.inputs)) else node(n.op, *inputs)
            other = isinstance(n.op, Result) and n.op.index in turned.get(n.inputs[0], ())
            memo[n] = f.transpose(same, _SWAP) if other else same
    return graph.with_outputs([memo[o] for o in graph.outputs])


def _with_layouts(op: Attention | AttentionGrad, inputs: list[Node]) -> tuple[Node, set[int]]:
    """The node that reads through transposes of ``inputs``, and the operands for which it does."""
    layouts, turned = list(op.layouts), set()
    for i, at in (*zip(range(3), range(3)), *([(op.operands, 3)] if isinstance(op, AttentionGrad) else [])):
        x = inputs[i]
        if isinstance(x.op, Transpose) and x.op.perm == _SWAP:
            inputs[i] = x.inputs[0]
            layouts[at] = _swapped(layouts[at])
            turned.add(i)
    return node(dataclasses.replace(op, layouts=tuple(layouts)), *inputs), turned


def _fold_results(graph: Graph) -> Graph:
    """A transpose that alone reads an attention becomes the layout of its result."""
    users = graph.users
    kept = set(graph.outputs)

    def turned(n: Node) -> Node:
        if not (isinstance(n.op, Transpose) and n.op.perm == _SWAP and isinstance(n.inputs[0].op, Attention)):
            return n
        inner = n.inputs[0]
        if inner in kept or len(users.get(inner, ())) > 1:
            return n
        layouts = (*inner.op.layouts[:3], _swapped(inner.op.layouts[3]))
        return node(dataclasses.replace(inner.op, layouts=layouts), *inner.inputs)

    return rebuild(graph, turned)

