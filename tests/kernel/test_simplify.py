"""The index algebra against Python's integers: random expressions, evaluated at every point of their axes."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from kerogen.compiler.kernel import scalar_ops as s
from kerogen.compiler.kernel import simplify as ix
from kerogen.compiler.kernel.expr import Axis, Const, Expr, Op, Where, axes_of, index, op, post_order
from kerogen.runtime.dim import Dim, holds, recording, resolve

_INT = {
    s.add: lambda a, b: a + b,
    s.mul: lambda a, b: a * b,
    s.floordiv: lambda a, b: a // b,
    s.mod: lambda a, b: a % b,
    s.lt: lambda a, b: a < b,
    s.ge: lambda a, b: a >= b,
    s.le: lambda a, b: a <= b,
    s.gt: lambda a, b: a > b,
    s.eq: lambda a, b: a == b,
    s.ne: lambda a, b: a != b,
    s.and_: lambda a, b: a and b,
    s.not_: lambda a: not a,
}


def value(root: Expr, at: dict[str, int], dims: dict[str, int]) -> int:
    """What a kernel would compute."""
    memo: dict[Expr, int] = {}
    for e in post_order([root]):
        c = [memo[x] for x in e.children]
        if isinstance(e, Const):
            memo[e] = resolve(e.value, dims)
        elif isinstance(e, Axis):
            memo[e] = at[e.name]
        elif isinstance(e, Where):
            memo[e] = c[1] if c[0] else c[2]
        else:
            assert isinstance(e, Op)
            memo[e] = _INT[e.fn](*c)
    return memo[root]


# A random expression is a tree of tuples: built once through the algebra, evaluated once in plain Python.
positive = st.one_of(st.integers(1, 7), st.just("n"), st.just("2n"))
leaf_ = st.one_of(st.tuples(st.just("axis"), st.integers(0, 2)), st.tuples(st.just("const"), st.integers(-9, 9)))
trees = st.recursive(
    leaf_,
    lambda t: st.one_of(
        st.tuples(st.just("add"), t, t),
        st.tuples(st.just("sub"), t, t),
        st.tuples(st.just("mul"), t, st.one_of(st.integers(-4, 6), st.just("n"))),
        st.tuples(st.just("div"), t, positive),
        st.tuples(st.just("mod"), t, positive),
        st.tuples(st.just("rejoin"), t, positive),
    ),
    max_leaves=8,
)
extents = st.tuples(*[st.one_of(st.integers(1, 6), st.just("n"))] * 3)


def number(x: int | str, n: int) -> int:
    return n if x == "n" else 2 * n if x == "2n" else x


def build(tree: tuple, axes: list[Axis], n: int) -> Expr:
    kind, *rest = tree
    if kind == "axis":
        return axes[rest[0]]
    if kind == "const":
        return index(rest[0])
    a = build(rest[0], axes, n)
    if kind in ("add", "sub"):
        return (ix.add if kind == "add" else ix.sub)(a, build(rest[1], axes, n))
    k = number(rest[1], n)
    if kind == "rejoin":  # what a reshape splits comes together again
        return ix.add(ix.mul(ix.floordiv(a, k), k), ix.mod(a, k))
    return {"mul": ix.mul, "div": ix.floordiv, "mod": ix.mod}[kind](a, k)


def truth(tree: tuple, at: tuple[int, ...], n: int) -> int:
    kind, *rest = tree
    if kind == "axis":
        return at[rest[0]]
    if kind == "const":
        return rest[0]
    a = truth(rest[0], at, n)
    if kind in ("add", "sub"):
        b = truth(rest[1], at, n)
        return a + b if kind == "add" else a - b
    k = number(rest[1], n)
    return {"mul": lambda: a * k, "div": lambda: a // k, "mod": lambda: a % k, "rejoin": lambda: a}[kind]()


def points(sizes: tuple, n: int):
    return product(*[range(number(e, n)) for e in sizes])


def make_axes(sizes: tuple, n: int) -> list[Axis]:
    return [Axis(f"a{i}", number(e, n)) for i, e in enumerate(sizes)]


@settings(max_examples=400)
@given(trees, extents, st.integers(1, 5))
def test_expressions_keep_their_value_and_their_bounds(tree: tuple, sizes: tuple, n: int) -> None:
    axes = make_axes(sizes, n)
    e = build(tree, axes, n)
    lo, hi = ix.bounds(e)
    for at in points(sizes, n):
        expected = truth(tree, at, n)
        assert value(e, {f"a{i}": v for i, v in enumerate(at)}, {}) == expected, f"{e} at {at}"
        assert lo <= expected <= hi, f"{e} is {expected} at {at}, outside [{lo}, {hi}]"


@settings(max_examples=400)
@given(trees, extents, st.integers(1, 4), st.integers(1, 6))
def test_expressions_over_free_sizes_hold_wherever_the_guards_do(tree: tuple, sizes: tuple, traced: int, other: int) -> None:
    """Built with n as a free dimension, evaluated at another value of it."""
    with recording() as guards:
        n = Dim.free("n", traced)
        e = build(tree, make_axes(sizes, n), n)
        lo, hi = ix.bounds(e)
    for actual in {traced, other}:
        if holds(guards, {"n": actual}):
            for at in points(sizes, actual):
                expected = truth(tree, at, actual)
                assert value(e, {f"a{i}": v for i, v in enumerate(at)}, {"n": actual}) == expected, f"{e} at {at}, n={actual}"
                assert resolve(lo, {"n": actual}) <= expected <= resolve(hi, {"n": actual}), (
                    f"{e} at {at}, n={actual}: [{lo!r}, {hi!r}]"
                )


@settings(max_examples=300)
@given(trees, trees, extents, st.integers(1, 4), st.integers(-5, 5), st.integers(0, 9))
def test_conditions(left: tuple, right: tuple, sizes: tuple, n: int, low: int, room: int) -> None:
    axes = make_axes(sizes, n)
    a, b = build(left, axes, n), build(right, axes, n)
    made = [
        ix.less(a, b),
        ix.equal(a, b),
        ix.within(a, low, low + room),
        ix.op_not(ix.less(a, b)),
        ix.both(ix.less(a, b), ix.within(b, low, low + room)),
        ix.op_not(ix.within(a, low, low + room)),
    ]
    for at in points(sizes, n):
        x, y = truth(left, at, n), truth(right, at, n)
        expected = [x < y, x == y, low <= x < low + room, x >= y, x < y and low <= y < low + room, not low <= x < low + room]
        where = {f"a{i}": v for i, v in enumerate(at)}
        assert [bool(value(c, where, {})) for c in made] == expected, f"{made} at {at}"


@settings(max_examples=200)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_unravel_inverts_ravel(shape: list[int]) -> None:
    axes = [Axis(f"a{i}", m) for i, m in enumerate(shape)]
    flat = ix.ravel(axes, tuple(shape))
    again = ix.unravel(flat, tuple(shape))
    assert [x if m > 1 else index(0) for x, m in zip(axes, shape)] == list(again)
    for at in product(*map(range, shape)):
        number_ = value(flat, {f"a{i}": v for i, v in enumerate(at)}, {})
        expected = 0
        for v, m in zip(at, shape):
            expected = expected * m + v
        assert number_ == expected


@settings(max_examples=300)
@given(st.lists(trees, min_size=1, max_size=3), extents, st.integers(1, 4), st.tuples(*[st.integers(-3, 12)] * 3))
def test_addresses(parts: list[tuple], sizes: tuple, n: int, steps: tuple) -> None:
    axes = make_axes(sizes, n)
    terms, constant = ix.address([build(t, axes, n) for t in parts], steps)
    for at in points(sizes, n):
        where = {f"a{i}": v for i, v in enumerate(at)}
        got = constant + sum(k * value(x, where, {}) for x, k in terms.items())
        assert got == sum(truth(t, at, n) * step for t, step in zip(parts, steps))


def test_a_split_index_rejoins_in_an_address() -> None:
    i = Axis("i", 12)
    terms, constant = ix.address((ix.floordiv(i, 4), ix.mod(i, 4)), (4, 1))
    assert (terms, constant) == ({i: 1}, 0)


def test_merged_axes_split_without_quotients() -> None:
    a, b, batch = Axis("a", 3), Axis("b", 5), Axis("n", Dim.free("batch", 7))
    flat = ix.ravel((batch, a, b), (batch.extent, 3, 5))
    assert ix.unravel(flat, (batch.extent, 15)) == (batch, ix.add(ix.mul(a, 5), b))
    assert ix.unravel(flat, (batch.extent * 3, 5)) == (ix.add(ix.mul(batch, 3), a), b)


def test_quotients_of_quotients_are_one() -> None:
    i = Axis("i", 100)
    e = ix.floordiv(ix.floordiv(i, 3), 5)
    assert e is ix.floordiv(i, 15)
    assert [value(e, {"i": v}, {}) for v in range(100)] == [v // 15 for v in range(100)]


def test_equal_expressions_are_one_object() -> None:
    i, j = Axis("i", 4), Axis("j", 6)
    assert ix.add(i, j) is ix.add(j, i)
    assert ix.sub(ix.add(ix.mul(i, 3), j), j) is ix.mul(i, 3)
    assert ix.add(i, index(Dim.free("batch", 8))) is not ix.add(i, index(8))
    assert axes_of(ix.floordiv(ix.add(ix.mul(i, 6), j), 6)) == {i}


def test_rebuilding_simplifies_after_substitution() -> None:
    i = Axis("i", 8)
    quotient = op(s.floordiv, ix.add(ix.mul(i, 8), Axis("j", 8)), index(8))
    assert ix.again(quotient, (ix.mul(i, 8), index(8))) is i
