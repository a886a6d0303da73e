"""Guards: where a condition made of indices selects between values, loads under it read nothing where it fails (padding, the last part of a split axis)."""

from __future__ import annotations

from ...runtime.dtype import bool_, int64
from . import simplify
from .expr import Const, Expr, Fold, Load, Op, Ref, Where, post_order


def guard_loads(roots: list[Expr]) -> list[Expr]:
    """Moves index conditions into loads: ``where(c, f(load), other)`` reads nothing where c is false.

    Only conditions made of indices count (padding, interior dilation), indices that are data themselves among them (a block at a run-time
    start, read through padding); another condition on data selects between values that both exist.
    """
    data: dict[int, bool] = {}
    memo: dict[int, Expr] = {}
    for e in post_order(roots):
        children = tuple([memo[id(c)] for c in e.children])
        data[id(e)] = isinstance(e, (Load, Fold, Ref)) or any(data[id(c)] for c in e.children)
        same = e if all(a is b for a, b in zip(children, e.children)) else e.with_children(children)
        if isinstance(e, Where) and (not data[id(e.children[0])] or _compares_indices(e.children[0])):
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


def _compares_indices(cond: Expr) -> bool:
    """Whether ``cond`` is made of comparisons of int64 alone, the type of indices. (What compares int64 data is caught too: then loads are guarded that
    needn't be.)"""
    if cond.dtype is not bool_ or not isinstance(cond, Op):
        return isinstance(cond, Const)
    if cond.children[0].dtype is bool_:
        return all(_compares_indices(c) for c in cond.children)
    return cond.children[0].dtype is int64


def _guarded(root: Expr, cond: Expr) -> Expr:
    """``root`` with every load under it guarded by ``cond`` too, but for what the condition itself reads."""
    memo: dict[int, Expr] = {id(e): e for e in post_order([cond]) if isinstance(e, Load)}
    for e in post_order([root]):
        if id(e) in memo:
            continue
        children = tuple([memo[id(c)] for c in e.children])
        if isinstance(e, Load):
            n = len(e.index)
            other = children[n + 1] if e.guard is not None else Const(0, e.dtype)
            guard = cond if e.guard is None else simplify.both(children[n], cond)
            memo[id(e)] = Load(e.buffer, children[:n], guard, other)
        else:
            memo[id(e)] = e if all(a is b for a, b in zip(children, e.children)) else e.with_children(children)
    return memo[id(root)]
