"""Guards: where a condition made of indices selects between values, loads under it read nothing where it fails (padding, the last part of a split axis)."""

from __future__ import annotations

from . import simplify
from .expr import Const, Expr, Fold, Load, Ref, Where, post_order


def guard_loads(roots: list[Expr]) -> list[Expr]:
    """Moves index conditions into loads: ``where(c, f(load), other)`` reads nothing where c is false.

    Only conditions made of indices count (padding, interior dilation); a condition on data selects between values that both exist.
    """
    data: dict[int, bool] = {}
    memo: dict[int, Expr] = {}
    for e in post_order(roots):
        children = tuple([memo[id(c)] for c in e.children])
        data[id(e)] = isinstance(e, (Load, Fold, Ref)) or any(data[id(c)] for c in e.children)
        same = e if all(a is b for a, b in zip(children, e.children)) else e.with_children(children)
        if isinstance(e, Where) and not data[id(e.children[0])]:
            cond, a, b = same.children
            a = _guarded(a, cond)
            if isinstance(b, Load) or not isinstance(b, Const):
                b = _guarded(b, simplify.op_not(cond))
            if isinstance(a, Load) and a.guard is cond and isinstance(b, Const):
                same = Load(a.buffer, a.index, cond, b)
            else:
                same = Where(cond, a, b)
        memo[id(e)] = same
    return [memo[id(r)] for r in roots]


def _guarded(root: Expr, cond: Expr) -> Expr:
    """``root`` with every load under it guarded by ``cond`` too."""
    memo: dict[int, Expr] = {}
    for e in post_order([root]):
        children = tuple([memo[id(c)] for c in e.children])
        if isinstance(e, Load):
            n = len(e.index)
            other = children[n + 1] if e.guard is not None else Const(0, e.dtype)
            guard = cond if e.guard is None else simplify.both(children[n], cond)
            memo[id(e)] = Load(e.buffer, children[:n], guard, other)
        else:
            memo[id(e)] = e if all(a is b for a, b in zip(children, e.children)) else e.with_children(children)
    return memo[id(root)]
