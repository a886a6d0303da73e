"""Loops and branches written as Python functions of nodes: they become ops with closed sub-graphs.

A function may use any node from outside (a closure). What it takes from there is captured: nodes that don't depend on the function's own arguments are
computed once, outside; in a scan, products of the items alone are computed for all steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...runtime import dim
from ...runtime.dtype import bool_
from ...runtime.errors import ArgumentError, ShapeError
from ..ir.body import Body
from ..ir.graph import Graph, Input, Node, leaf, post_order
from ..ir.rewrite import substitute
from ..ir.walk import dependents
from . import functional as f
from .batching import batch_cone
from .constant import Constant
from .control import Cond, Scan, While, step_error
from .result import results


def scan(body: Callable[[list[Node], list[Node]], tuple[Sequence, Sequence]], init: Sequence, xs: Sequence = (), length: int | None = None,
         reverse: bool = False) -> tuple[list[Node], list[Node]]:
    """(last carries, ys stacked on axis 0) of ``carries, ys_t = body(carries, xs_t)`` over rows of ``xs`` [length, ...].

    ``reverse`` steps from the last row to the first. The carries keep their types: ShapeError names the one that doesn't.
    """
    init, xs = [f.constant(c) for c in init], [f.constant(x) for x in xs]
    if length is None:
        if not xs:
            raise ArgumentError("scan needs arrays to step through, or a length")
        length = xs[0].shape[0] if xs[0].rank else -1
    for i, x in enumerate(xs):
        if not x.rank or x.shape[0] != length:
            raise ShapeError(f"scan over {dim.text(length)} steps: item {i} is {x.type}; its first axis must have the steps")
    carries = [leaf(f"c{i}", c.type) for i, c in enumerate(init)]
    items = [leaf(f"x{i}", x.type.with_shape(x.shape[1:])) for i, x in enumerate(xs)]
    new, ys = body(list(carries), list(items))
    new = _typed("scan: carry", carries, new)
    outputs = [*new, *[f.constant(y) for y in ys]]
    outputs, items, xs = _hoist_items(outputs, carries, items, xs, length)
    outputs, leaves, captured = _close(outputs, [*carries, *items])
    graph = Graph((*carries, *items, *leaves), tuple(outputs), name="step")
    out = results(f.node(Scan(Body(graph), len(carries), len(items), length, reverse), *init, *xs, *captured))
    return out[: len(carries)], out[len(carries) :]


def while_loop(condition: Callable[[list[Node]], Node], body: Callable[[list[Node]], Sequence], init: Sequence, limit: int | None = None) -> list[Node]:
    """The carries after ``body`` was applied while ``condition`` held. With a ``limit``, at most so often; then it can be differentiated."""
    init = [f.constant(c) for c in init]
    if limit is not None:
        def step(cs: list[Node], _: list[Node]) -> tuple[Sequence, Sequence]:
            return cond(_one_bool("while_loop", condition(cs)), lambda: _typed("while_loop: carry", cs, body(cs)), lambda: cs), ()

        return scan(step, init, length=limit)[0]
    carries = [leaf(f"c{i}", c.type) for i, c in enumerate(init)]
    test = _one_bool("while_loop", condition(list(carries)))
    new = _typed("while_loop: carry", carries, body(list(carries)))
    (test, *new), leaves, captured = _close([test, *new], carries)
    inputs = (*carries, *leaves)
    op = While(Body(Graph(inputs, (test,), name="condition")), Body(Graph(inputs, tuple(new), name="step")), len(carries))
    return results(f.node(op, *init, *captured))


def cond(pred, then: Callable[[], Sequence], otherwise: Callable[[], Sequence]) -> list[Node]:
    """The values of ``then()`` where ``pred`` (one bool) is true, else of ``otherwise()``; only that one is computed. Branches give equal types."""
    pred = _one_bool("cond", f.constant(pred))
    a, b = [f.constant(x) for x in then()], [f.constant(x) for x in otherwise()]
    if len(a) != len(b):
        raise ShapeError(f"cond: the branches give {len(a)} and {len(b)} values")
    for i, (x, y) in enumerate(zip(a, b)):
        if not x.type.same(y.type):
            raise ShapeError(f"cond: value {i} is {x.type} in one branch and {y.type} in the other")
    # Each branch computes what only it needs; what both need, and inputs, come from outside.
    shared = set(post_order(a)) & set(post_order(b))
    inside = {n for n in (*post_order(a), *post_order(b)) if n not in shared and n.inputs}
    inside -= {n for n in inside if not _needed_once(n)}
    outputs, leaves, captured = _close([*a, *b], [], inside)
    inputs = tuple(leaves)
    op = Cond(Body(Graph(inputs, tuple(outputs[: len(a)]), name="then")), Body(Graph(inputs, tuple(outputs[len(a) :]), name="otherwise")))
    return results(f.node(op, pred, *captured))


def _needed_once(n: Node) -> bool:
    """Whether a branch may compute ``n`` itself: anything but one of several results whose step is outside."""
    return n.op.kind != "result"


def _one_bool(what: str, x) -> Node:
    x = f.constant(x)
    if x.dtype is not bool_:
        x = f.ne(x, 0)
    if x.rank and all(type(d) is not dim.Dim and d == 1 for d in x.shape):
        x = f.reshape(x, ())
    if x.rank:
        raise ShapeError(f"{what} chooses by one bool, not by {x.type}")
    return x


def _typed(what: str, before: Sequence[Node], after: Sequence) -> list[Node]:
    after = list(after)
    if len(after) != len(before):
        raise ShapeError(f"{what}: a step takes {len(before)} values and gives {len(after)}")
    out = []
    for i, (b, a) in enumerate(zip(before, after)):
        node = f.constant(a, b.dtype) if f.is_scalar(a) else f.constant(a)
        if not node.type.same(b.type):
            raise step_error(what, i, b.type, node.type)
        out.append(node)
    return out


def _close(outputs: Sequence[Node], own: Sequence[Node], inside: set[Node] | None = None) -> tuple[list[Node], list[Node], list[Node]]:
    """Closure conversion: (the outputs with what comes from outside replaced by leaves, those leaves, the outer nodes behind them).

    ``inside``: the nodes that are computed inside, where that isn't what depends on ``own``. Movements and numbers go inside too: there they are index
    arithmetic, outside they might be copies.
    """
    order = post_order(outputs)
    inner = dependents(order, own) if inside is None else set(inside)
    mapping: dict[Node, Node] = {n: n for n in own}
    leaves: list[Node] = []
    captured: list[Node] = []

    def outer(n: Node) -> None:
        stack = [n]
        while stack:
            x = stack.pop()
            if x in mapping or x in inner:
                continue
            if x.op.kind == "source" and not isinstance(x.op, (Input, Constant)):
                continue  # a number, an iota: made anew inside
            if isinstance(x.op, Constant) and x.type.size == 1:
                continue
            if x.op.kind == "movement":
                stack.extend(x.inputs)
                continue
            mapping[x] = leaf(f"k{len(leaves)}", x.type, "parameter")
            leaves.append(mapping[x])
            captured.append(x)

    for n in order:
        if n in inner and n not in mapping:
            for i in n.inputs:
                outer(i)
    for o in outputs:
        outer(o)
    return substitute(list(outputs), mapping), leaves, captured


def _hoist_items(outputs: list[Node], carries: list[Node], items: list[Node], xs: list[Node],
                 length: int) -> tuple[list[Node], list[Node], list[Node]]:
    """Contractions that depend on items but not on carries are computed for all steps before the loop, and become items themselves."""
    order = post_order(outputs)
    stateful = dependents(order, carries)
    per_step = dependents(order, items) - stateful
    stacked = dict(zip(items, xs))
    mapping: dict[Node, Node] = {}
    new_items: list[Node] = []
    new_xs: list[Node] = []
    for n in order:
        if n in per_step and n.op.kind == "contraction":
            whole = batch_cone(n, stacked, length)
            if whole is not None:
                item = leaf(f"x{len(items) + len(new_items)}", n.type)
                mapping[n], stacked[n] = item, whole
                new_items.append(item)
                new_xs.append(whole)
    if not mapping:
        return outputs, items, xs
    outputs = substitute(outputs, mapping)
    used = set(post_order(outputs))
    kept = [(i, x) for i, x in zip([*items, *new_items], [*xs, *new_xs]) if i in used]
    return outputs, [i for i, _ in kept], [x for _, x in kept]
