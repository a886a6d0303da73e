"""Reverse-mode differentiation on the graph: the derivative is made of ops, so it can be differentiated again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...runtime.errors import GradientError, InternalError, ShapeError
from ..ir import location
from ..ir.graph import Input, Node, post_order
from ..ir.walk import dependents
from ..ops import functional as f
from ..ops.base import Composite, is_one
from ..ops.constant import Full
from ..ops.control import Region
from ..ops.result import Result
from .autodiff_region import region_vjp


def grad(y: Node, xs: Sequence[Node], ct: Node | None = None) -> list[Node]:
    """The derivative of ``y`` with respect to each of ``xs``, contracted with ``ct`` (of y's type).

    The xs may be any nodes. They count as independent variables: where one is computed from another, paths through it end at
    it. Without ``ct``, ``y`` must be a single number. Where y does not depend on an x smoothly, its derivative is zeros.
    Nodes of integers and bool
    carry no derivative. Raises GradientError, naming the op and where it came from, for an op that has none.
    """
    for x in (y, *xs):
        if not x.dtype.is_float:
            raise GradientError(f"a derivative needs floating types, got {x.type}{_where(x)}")
    if ct is None:
        if any(not is_one(n) for n in y.shape):
            raise GradientError(f"the derivative of {y.type} needs a cotangent (or reduce it to one number first)")
        ct = f.ones(y.shape, y.dtype)
    if not ct.type.same(y.type):
        raise ShapeError(f"the cotangent of {y.type} can't be {ct.type}")
    found = pull_back([y], [ct], xs)
    return [f.zeros_like(x) if c is None else c for x, c in zip(xs, found)]


def pull_back(ys: Sequence[Node], cts: Sequence[Node | None], xs: Sequence[Node]) -> list[Node | None]:
    """The cotangent of each of ``xs`` for the cotangents of ``ys`` (None: zero), summed over the ys; None where none reaches it."""
    order = post_order(ys)
    active = dependents(order, xs, lambda n: n.has_items or n.dtype.is_float)
    ends = set(xs)
    cotangents: dict[Node, Node] = {}
    items: dict[Node, list[Node | None]] = {}  # of nodes with several results
    for y, ct in zip(ys, cts, strict=True):
        if ct is not None and y in active:
            cotangents[y] = f.add(cotangents[y], ct) if y in cotangents else ct
    for n in reversed(order):
        if n not in cotangents and n not in items or n in ends or isinstance(n.op, Input) or not any(i in active for i in n.inputs):
            continue
        if isinstance(n.op, Result):
            (source,) = n.inputs
            items.setdefault(source, [None] * len(source.type.items))[n.op.index] = cotangents[n]
            continue
        with location.keep(n.origins):
            parts = _vjp(n, items[n] if n.has_items else cotangents[n])
        if len(parts) != len(n.inputs):
            raise InternalError(f"{n.op.name}.vjp gives {len(parts)} cotangents for {len(n.inputs)} operands")
        for i, part in zip(n.inputs, parts):
            if part is None or i not in active or _is_zero(part):
                continue
            if not part.type.same(i.type):
                raise InternalError(f"{n.op.name}.vjp gives {part.type} for an operand of type {i.type}")
            if i in cotangents:
                with location.keep(i.origins):
                    part = f.add(cotangents[i], part)
            cotangents[i] = part
    return [cotangents.get(x) for x in xs]


def _vjp(n: Node, ct: Any) -> Sequence[Node | None]:
    """``ct`` is a list, with None for a result that has no cotangent, where the op has several results."""
    op = n.op
    if isinstance(op, Composite) and type(op).vjp is Composite.vjp:
        variables = list(dict.fromkeys([i for i in n.inputs if i.dtype.is_float]))
        whole = op.decompose(*n.inputs)
        ys, cts = (whole, ct) if n.has_items else ([whole], [ct])
        found = dict(zip(variables, pull_back(ys, cts, variables)))
        return [found.pop(i, None) for i in n.inputs]  # an operand given twice gets its whole cotangent once
    if not op.differentiable:
        raise GradientError(f"{op.name} has no gradient{f': {op.no_gradient}' if op.no_gradient else ''}{_where(n)}")
    try:
        if isinstance(op, Region):
            return region_vjp(n, ct, pull_back)
        return op.vjp(n, ct)
    except GradientError as e:
        raise GradientError(f"{e}{_where(n)}") from None


def _is_zero(x: Node) -> bool:
    return isinstance(x.op, Full) and type(x.op.value) is float and x.op.value == 0


def _where(n: Node) -> str:
    return f" (in {', '.join(n.origins)})" if n.origins else ""
