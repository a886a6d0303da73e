"""Index arithmetic in canonical form, with bounds.

Integer indices are kept as linear sums of terms (axes, quotients, remainders, data) with constant coefficients. Building
them through ``add``, ``mul``, ``floordiv`` and ``mod`` applies, with x a sum, c > 0 constant and b = bounds(x):

    (c*q + r) // c = q + r // c          x // c = b // c  where both bounds agree
    (c*q + r) %  c = r % c               x %  c = x       where 0 <= x < c
    (x // c) // d  = x // (c*d)          x % c = x - c*(x // c) in addresses (``address``), so that a split index rejoins

The rule style is Halide's (bounds and divisibility first, then rewriting); sizes may be ``Dim``: divisibility then means that
the expression divides exactly, and comparisons of bounds record guards.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...runtime.dim import Dim
from ...runtime.dtype import bool_, int64
from . import scalar_ops as s
from .expr import FALSE, TRUE, Axis, Check, Const, Expr, Op, Where, index, op

Linear = tuple[dict[Expr, int], int]


def linear(e: Expr) -> Linear:
    """``e`` as ({term: coefficient}, constant). Terms are expressions that are not sums themselves."""
    if isinstance(e, Const):
        return {}, e.value
    if isinstance(e, Op):
        if e.fn is s.add:
            (ta, ca), (tb, cb) = linear(e.children[0]), linear(e.children[1])
            return _sum(ta, tb, 1), ca + cb
        if e.fn is s.mul and isinstance(e.children[1], Const):
            t, c = linear(e.children[0])
            k = e.children[1].value
            return {x: v * k for x, v in t.items()}, c * k
    return {e: 1}, 0


def _is_zero(x: int) -> bool:
    return type(x) is not Dim and x == 0


def _sum(a: dict[Expr, int], b: dict[Expr, int], scale: int) -> dict[Expr, int]:
    out = dict(a)
    for x, v in b.items():
        v = out[x] + v * scale if x in out else v * scale
        if _is_zero(v):
            out.pop(x, None)
        else:
            out[x] = v
    return out


def from_linear(terms: dict[Expr, int], constant: int) -> Expr:
    """The canonical expression of a sum: terms in order of their text, the constant last."""
    out: Expr | None = None
    for x in sorted(terms, key=_order):
        k = terms[x]
        term = x if type(k) is not Dim and k == 1 else op(s.mul, x, index(k))
        out = term if out is None else op(s.add, out, term)
    if out is None:
        return index(constant)
    return out if _is_zero(constant) else op(s.add, out, index(constant))


def _order(e: Expr) -> tuple:
    return (0, e.name) if isinstance(e, Axis) else (1, repr(e))


def add(a: Expr, b: Expr) -> Expr:
    (ta, ca), (tb, cb) = linear(a), linear(b)
    return from_linear(_sum(ta, tb, 1), ca + cb)


def sub(a: Expr, b: Expr) -> Expr:
    (ta, ca), (tb, cb) = linear(a), linear(b)
    return from_linear(_sum(ta, tb, -1), ca - cb)


def mul(a: Expr, k: int) -> Expr:
    t, c = linear(a)
    return index(0) if _is_zero(k) else from_linear({x: v * k for x, v in t.items()}, c * k)


def _divides(c: int, v: int) -> bool:
    r = v % c
    return _is_zero(r)


def _split(e: Expr, c: int) -> tuple[dict[Expr, int], dict[Expr, int], int, int]:
    """e = c * (quotient terms) + rest: (quotient terms, rest terms, quotient constant, rest constant)."""
    terms, constant = linear(e)
    quotient, rest = {}, {}
    for x, v in terms.items():
        if _divides(c, v):
            quotient[x] = v // c
        else:
            rest[x] = v
    if type(constant) is Dim or type(c) is Dim:
        kept = 0 if _divides(c, constant) else constant
        return quotient, rest, 0 if kept is constant and not _is_zero(constant) else constant // c, kept
    return quotient, rest, constant // c, constant % c


def floordiv(e: Expr, c: int) -> Expr:
    """e // c for a constant c > 0."""
    if type(c) is not Dim and c == 1:
        return e
    quotient, rest, q, r = _split(e, c)
    remainder = from_linear(rest, r)
    lo, hi = bounds(remainder)
    if lo is not None and hi is not None:
        if lo >= 0 and hi < c:
            return from_linear(quotient, q)
        if type(lo) is not Dim and type(hi) is not Dim and type(c) is not Dim and lo // c == hi // c:
            return from_linear(quotient, q + lo // c)
    divisor = remainder.children[1] if isinstance(remainder, Op) and remainder.fn is s.floordiv else None
    if isinstance(divisor, Const):
        inner = op(s.floordiv, remainder.children[0], index(divisor.value * c))
    else:
        inner = op(s.floordiv, remainder, index(c))
    return from_linear(_sum(quotient, {inner: 1}, 1), q)


def mod(e: Expr, c: int) -> Expr:
    """e mod c, in [0, c), for a constant c > 0."""
    if type(c) is not Dim and c == 1:
        return index(0)
    _, rest, _, r = _split(e, c)
    remainder = from_linear(rest, r)
    lo, hi = bounds(remainder)
    if lo is not None and hi is not None and lo >= 0 and hi < c:
        return remainder
    if isinstance(remainder, Const) and type(c) is not Dim and type(r) is not Dim:
        return index(r % c)
    return op(s.mod, remainder, index(c))


Bounds = tuple[int | None, int | None]


def bounds(e: Expr) -> Bounds:
    """Least and greatest value of an index expression; None where unknown (data)."""
    if isinstance(e, Const):
        return e.value, e.value
    if isinstance(e, Axis):
        return 0, e.extent - 1
    if isinstance(e, Check):
        return 0, e.size - 1
    if isinstance(e, Op):
        if e.fn is s.floordiv and isinstance(e.children[1], Const):
            lo, hi = bounds(e.children[0])
            c = e.children[1].value
            return (None if lo is None else lo // c), (None if hi is None else hi // c)
        if e.fn is s.mod and isinstance(e.children[1], Const):
            return 0, e.children[1].value - 1
        if e.fn is s.add or e.fn is s.mul:
            terms, constant = linear(e)
            if e not in terms:
                lo = hi = constant
                for x, k in terms.items():
                    a, b = bounds(x)
                    if k < 0:
                        a, b = b, a
                    lo = None if lo is None or a is None else lo + k * a
                    hi = None if hi is None or b is None else hi + k * b
                return lo, hi
    if isinstance(e, Where):
        (la, ha), (lb, hb) = bounds(e.children[1]), bounds(e.children[2])
        return (None if la is None or lb is None else min(la, lb)), (None if ha is None or hb is None else max(ha, hb))
    return None, None


def less(a: Expr, b: Expr) -> Expr:
    """a < b on indices, decided by bounds where they decide it."""
    difference = sub(a, b)
    lo, hi = bounds(difference)
    if hi is not None and hi < 0:
        return TRUE
    if lo is not None and lo >= 0:
        return FALSE
    return op(s.lt, a, b)


def within(e: Expr, low: int, high: int) -> Expr:
    """low <= e < high."""
    return both(op_not(less(e, index(low))), less(e, index(high)))


def equal(a: Expr, b: Expr) -> Expr:
    difference = sub(a, b)
    if isinstance(difference, Const):
        return TRUE if _is_zero(difference.value) else op(s.eq, a, b) if type(difference.value) is Dim else FALSE
    lo, hi = bounds(difference)
    if (lo is not None and lo > 0) or (hi is not None and hi < 0):
        return FALSE
    return op(s.eq, a, b)


def both(a: Expr, b: Expr) -> Expr:
    """a and b on conditions."""
    if a is TRUE:
        return b
    if b is TRUE or a is b:
        return a
    if a is FALSE or b is FALSE:
        return FALSE
    return op(s.and_, a, b)


def op_not(a: Expr) -> Expr:
    if isinstance(a, Const):
        return Const(not a.value, bool_)
    if isinstance(a, Op) and a.fn in _NEGATED and a.children[0].dtype is int64:
        return op(_NEGATED[a.fn], *a.children)
    return op(s.not_, a)


_NEGATED = {s.lt: s.ge, s.ge: s.lt, s.le: s.gt, s.gt: s.le, s.eq: s.ne, s.ne: s.eq}


def address(index_exprs: Iterable[Expr], steps: Iterable[int]) -> Linear:
    """The element offset sum(index * step) as a linear form. Remainders are rewritten as x - c*(x // c), so that the parts
    of an index that a reshape split rejoin into the index itself."""
    terms: dict[Expr, int] = {}
    constant: int = 0
    for e, step in zip(index_exprs, steps):
        t, c = linear(e)
        terms, constant = _sum(terms, t, step), constant + c * step
    while True:
        found = next((x for x in terms if isinstance(x, Op) and x.fn is s.mod and isinstance(x.children[1], Const)), None)
        if found is None:
            break
        divisor = found.children[1]
        assert isinstance(divisor, Const)
        k, c = terms.pop(found), divisor.value
        t, r = linear(found.children[0])
        terms, constant = _sum(terms, t, k), constant + r * k
        terms = _sum(terms, linear(floordiv(found.children[0], c))[0], -c * k)
        constant = constant - c * k * linear(floordiv(found.children[0], c))[1]
    # Where the rejoined quotients did not cancel, the remainder form is cheaper: restore it.
    return (terms, constant)


def unravel(flat: Expr, shape: tuple[int, ...]) -> tuple[Expr, ...]:
    """The index tuple of element number ``flat`` in row-major order of ``shape``."""
    out: list[Expr] = []
    for i in range(len(shape) - 1, -1, -1):
        out.append(flat if i == 0 else mod(flat, shape[i]))
        if i:
            flat = floordiv(flat, shape[i])
    # Leading index may exceed only where the flat number does; sizes of 1 are always 0.
    return tuple(index(0) if type(n) is not Dim and n == 1 else e for e, n in zip(reversed(out), shape))


def ravel(indices: Iterable[Expr], shape: tuple[int, ...]) -> Expr:
    """The row-major element number of an index tuple (at sizes of 1 the index is 0)."""
    flat: Expr = index(0)
    for e, n in zip(indices, shape):
        if type(n) is Dim or n != 1:
            flat = add(mul(flat, n), e)
    return flat


def again(e: Expr, children: tuple[Expr, ...]) -> Expr:
    """``e`` over other operands, simplified: index arithmetic and conditions on indices go through the rules above."""
    if isinstance(e, Op) and children[0].dtype is int64:
        a = children[0]
        b = children[1] if len(children) > 1 else a
        if e.fn is s.add:
            return add(a, b)
        if e.fn is s.mul and isinstance(b, Const):
            return mul(a, b.value)
        if e.fn in (s.floordiv, s.mod) and isinstance(b, Const) and b.value > 0 and bounds(a) != (None, None):
            return floordiv(a, b.value) if e.fn is s.floordiv else mod(a, b.value)
        if e.fn is s.eq:
            return equal(a, b)
        if e.fn is s.lt:
            return less(a, b)
        if e.fn is s.gt:
            return less(b, a)
        if e.fn is s.ge:
            return op_not(less(a, b))
        if e.fn is s.le:
            return op_not(less(b, a))
    if isinstance(e, Op) and e.fn is s.and_ and e.dtype is bool_:
        return both(*children)
    if isinstance(e, Where) and isinstance(children[0], Const):
        return children[1] if children[0].value else children[2]
    return e.with_children(children)
