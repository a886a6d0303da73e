"""Reverse-mode differentiation on the graph: the derivative is made of ops, so it can be differentiated again."""

from __future__ import annotations

from collections.abc import Sequence

from ...runtime.errors import GradientError, InternalError, ShapeError
from ..ir import location
from ..ir.graph import Input, Node, post_order
from ..ir.walk import dependents
from ..ops import functional as f
from ..ops.base import Composite, is_one
from ..ops.constant import Full


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
    found = _pull_back(y, ct, xs)
    return [f.zeros_like(x) if c is None else c for x, c in zip(xs, found)]


def _pull_back(y: Node, ct: Node, xs: Sequence[Node]) -> list[Node | None]:
    order = post_order([y])
    active = dependents(order, xs, lambda n: n.dtype.is_float)
    ends = set(xs)
    cotangents: dict[Node, Node] = {y: ct} if y in active else {}
    for n in reversed(order):
        if n not in cotangents or n in ends or isinstance(n.op, Input) or not any(i in active for i in n.inputs):
            continue
        with location.keep(n.origins):
            parts = _vjp(n, cotangents[n])
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


def _vjp(n: Node, ct: Node) -> Sequence[Node | None]:
    op = n.op
    if isinstance(op, Composite) and type(op).vjp is Composite.vjp:
        variables = list(dict.fromkeys([i for i in n.inputs if i.dtype.is_float]))
        found = dict(zip(variables, _pull_back(op.decompose(*n.inputs), ct, variables)))
        return [found.pop(i, None) for i in n.inputs]  # an operand given twice gets its whole cotangent once
    if not op.differentiable:
        raise GradientError(f"{op.name} has no gradient{f': {op.no_gradient}' if op.no_gradient else ''}{_where(n)}")
    try:
        return op.vjp(n, ct)
    except GradientError as e:
        raise GradientError(f"{e}{_where(n)}") from None


def _is_zero(x: Node) -> bool:
    return isinstance(x.op, Full) and type(x.op.value) is float and x.op.value == 0


def _where(n: Node) -> str:
    return f" (in {', '.join(n.origins)})" if n.origins else ""
