"""Canonicalization: small local rules until nothing changes. Each rule is a function of one node (its operands already canonical) that
gives an equal node or None; the table says which classes it looks at.

Floating rules keep results bit for bit except where a comment says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

import numpy as np

from ...runtime.config import FUEL
from ...runtime.dim import Dim, key
from ..ir import location
from ..ir.graph import Graph, Node, node
from ..ops import functional as f
from ..ops.constant import Constant, Full, array_op, full_op
from ..ops.convert import Cast
from ..ops.elementwise import Add, Div, Mul, Power, Sub
from ..ops.movement import Broadcast, Reshape, Transpose
from ..ops.reduce import Reduction
from ..ops.slicing import Pad, Slice
from ..ops.unary import Neg

FOLD_LIMIT = 1 << 12  # elements of a constant that is worth computing here

Rule = Callable[[Node], Node | None]


def canonicalize(graph: Graph, rules: dict[type, tuple[Rule, ...]] | None = None) -> Graph:
    """The graph with all rules applied; ``rules`` are a target's own, tried after the general ones."""
    table = dict(RULES)
    for cls, more in (rules or {}).items():
        table[cls] = table.get(cls, ()) + more
    fuel = FUEL.get()
    memo: dict[Node, Node] = {}

    def simplest(n: Node) -> Node:
        """``n``, whose operands are canonical, after as many rules as apply; nodes that a rule makes are canonicalized too."""
        nonlocal fuel
        for _ in range(32):
            if fuel is not None and fuel <= 0:
                return n
            new = _apply(n, table)
            if new is None or new is n:
                return n
            if fuel is not None:
                fuel -= 1
            n = convert(new)
            if n in done:
                return n
        return n

    done: set[Node] = set()

    def convert(root: Node) -> Node:
        for n in _not_yet(root, memo):
            inputs = tuple([memo.get(i, i) for i in n.inputs])
            with location.keep(n.origins):
                same = n if all(a is b for a, b in zip(inputs, n.inputs)) else node(n.op, *inputs)
                out = simplest(same) if same is n or same not in memo else memo[same]
            memo[n] = out
            memo[out] = out
            done.add(out)
        return memo.get(root, root)

    return graph.with_outputs([convert(o) for o in graph.outputs])


def _not_yet(root: Node, known: Container[Node]) -> Iterator[Node]:
    """Nodes under ``root``, operands first, that are not ``known`` when their turn comes; what lies under known ones is not walked again."""
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        n, ready = stack.pop()
        if n in known:
            continue
        if ready:
            yield n
        else:
            stack.append((n, True))
            stack.extend([(i, False) for i in reversed(n.inputs) if i not in known])


def _apply(n: Node, table: dict[type, tuple[Rule, ...]]) -> Node | None:
    if n.inputs:
        folded = _fold_constants(n)
        if folded is not None:
            return folded
    for cls in type(n.op).__mro__[:-1]:
        for rule in table.get(cls, ()):
            new = rule(n)
            if new is not None and new is not n:
                return new
    return None


def _fold_constants(n: Node) -> Node | None:
    """An op of constants is computed now, by its own ``eval``; equal numbers everywhere stay one number."""
    if not all(isinstance(i.op, (Full, Constant)) for i in n.inputs) or n.has_items or n.op.kind in ("composite", "random", "region", "result"):
        return None
    if any(isinstance(i.op, Full) and type(i.op.value) is Dim for i in n.inputs):
        return None
    if all(isinstance(i.op, Full) for i in n.inputs) and (n.op.kind == "elementwise" or isinstance(n.op, (Reshape, Broadcast, Transpose))):
        points = [np.full((1,) * (n.rank if n.op.kind == "elementwise" else 0), i.op.value, i.dtype.np) for i in n.inputs]
        value = n.op.eval(*points) if n.op.kind == "elementwise" else points[0]
        scalar = value.reshape(-1)[0]
        return node(full_op(n.shape, float(scalar) if n.dtype.is_float else scalar.item(), n.dtype))
    if any(type(d) is Dim for i in (n, *n.inputs) for d in i.shape) or n.type.size > FOLD_LIMIT:
        return None
    if any(i.type.size > FOLD_LIMIT for i in n.inputs):
        return None
    return node(array_op(n.op.eval(*[i.op.eval() for i in n.inputs])))


def _number(n: Node) -> float | int | None:
    """The number in every element of ``n``, where it is such a constant."""
    return n.op.value if isinstance(n.op, Full) and type(n.op.value) is not Dim else None


def _transpose(n: Node) -> Node | None:
    x, perm = n.inputs[0], n.op.perm
    if perm == tuple(range(len(perm))):
        return x
    if isinstance(x.op, Transpose):
        return f.transpose(x.inputs[0], tuple(x.op.perm[p] for p in perm))
    moved = [p for p in perm if not (type(x.shape[p]) is not Dim and x.shape[p] == 1)]
    if moved == sorted(moved):  # only axes of size 1 move
        return f.reshape(x, n.shape)
    return None


def _reshape(n: Node) -> Node | None:
    x = n.inputs[0]
    if key(x.shape) == key(n.shape):
        return x
    return node(n.op, x.inputs[0]) if isinstance(x.op, Reshape) else None


def _broadcast(n: Node) -> Node | None:
    x = n.inputs[0]
    if key(x.shape) == key(n.shape):
        return x
    return node(n.op, x.inputs[0]) if isinstance(x.op, Broadcast) else None


def _cast(n: Node) -> Node | None:
    x = n.inputs[0]
    return x if x.dtype is n.op.dtype else None


def _slice(n: Node) -> Node | None:
    x = n.inputs[0]
    return x if key(x.shape) == key(n.shape) and all(s == 1 for s in n.op.steps) else None


def _pad(n: Node) -> Node | None:
    op = n.op
    zero = all(type(w) is not Dim and w == 0 for w in (*op.lo, *op.hi, *op.interior))
    return n.inputs[0] if zero else None


def _add(n: Node) -> Node | None:
    a, b = n.inputs
    if _number(a) == 0 and not _negative_zero(a):
        a, b = b, a
    if _number(b) == 0 and n.dtype.is_int:
        return a
    if _negative_zero(b):  # x + -0.0 is x for every x; x + 0.0 turns -0.0 into 0.0 and stays
        return a
    return node(Sub(), a, b.inputs[0]) if isinstance(b.op, Neg) else None


def _negative_zero(n: Node) -> bool:
    v = _number(n)
    return isinstance(v, float) and v == 0 and np.signbit(v)


def _sub(n: Node) -> Node | None:
    a, b = n.inputs
    if _number(b) == 0 and not _negative_zero(b):
        return a
    return node(Add(), a, b.inputs[0]) if isinstance(b.op, Neg) else None


def _mul(n: Node) -> Node | None:
    a, b = n.inputs
    if _number(a) == 1:
        return b
    if _number(b) == 1:
        return a
    if _number(b) == -1:
        return f.neg(a)
    return f.neg(b) if _number(a) == -1 else None


def _div(n: Node) -> Node | None:
    a, b = n.inputs
    v = _number(b)
    if v == 1:
        return a
    if isinstance(v, float) and v and np.frexp(abs(v))[0] == 0.5 and 1e-30 < abs(v) < 1e30:  # the reciprocal of a power of two is exact
        return f.mul(a, f.full(b.shape, 1.0 / v, b.dtype))
    return None


def _neg(n: Node) -> Node | None:
    x = n.inputs[0]
    return x.inputs[0] if isinstance(x.op, Neg) else None


def _power(n: Node) -> Node | None:
    """Small exponents: products and roots are exact where pow is (x**0.5 differs at -0.0 and -inf, so it stays)."""
    x, y = n.inputs
    if not n.dtype.is_float:
        return None
    v = _number(y)
    if v == 1:
        return x
    if v == 2:
        return f.mul(x, x)
    return f.div(f.full(x.shape, 1.0, x.dtype), x) if v == -1 else None


def _reduction(n: Node) -> Node | None:
    return n.inputs[0] if not n.op.axes and n.type.same(n.inputs[0].type) else None


RULES: dict[type, tuple[Rule, ...]] = {
    Transpose: (_transpose,), Reshape: (_reshape,), Broadcast: (_broadcast,), Cast: (_cast,), Slice: (_slice,), Pad: (_pad,),
    Add: (_add,), Sub: (_sub,), Mul: (_mul,), Div: (_div,), Neg: (_neg,), Power: (_power,), Reduction: (_reduction,),
}

