"""The interpreter against kernels written out in NumPy and plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler.kernel import interp, monoid
from kerogen.compiler.kernel import scalar_ops as s
from kerogen.compiler.kernel import simplify as ix
from kerogen.compiler.kernel.expr import Axis, Bitcast, Cast, Check, Const, Load, Ref, Where, index, op
from kerogen.compiler.kernel.ir import Buffer, Contract, Kernel, Reduce, Stage, Store
from kerogen.runtime.dtype import ALL, as_dtype, bool_, float32, float64, int8, int32, int64, uint8, uint32
from kerogen.runtime.errors import IndexRangeError, InternalError


def run(kernel: Kernel, **arrays: np.ndarray) -> None:
    interp.run_kernel(kernel, arrays)


def test_row_kernel_of_softmax(rng: np.random.Generator) -> None:
    i, j, r, q = Axis("i", 5), Axis("j", 7), Axis("r", 7), Axis("q", 7)
    x, y = Buffer("x", (5, 7), float32), Buffer("y", (5, 7), float32)

    def shifted(k: Axis):
        return op(s.exp, op(s.sub, Load(x, (i, k)), Ref("top", (), float32)))

    kernel = Kernel(
        "softmax",
        (x, y),
        1,
        (i,),
        (
            Reduce("top", (), (r,), monoid.MAX, (Load(x, (i, r)),)),
            Reduce("total", (), (q,), monoid.SUM, (shifted(q),)),
            Store(y, (j,), (i, j), op(s.div, shifted(j), Ref("total", (), float32))),
        ),
    )
    a, out = rng.standard_normal((5, 7)).astype(np.float32), np.empty((5, 7), np.float32)
    run(kernel, x=a, y=out)
    e = np.exp(a.astype(np.float64) - a.max(1, keepdims=True))
    np.testing.assert_allclose(out, e / e.sum(1, keepdims=True), rtol=1e-6)


def test_stage_is_read_at_another_index(rng: np.random.Generator) -> None:
    """A local row, then each element minus its neighbour on the ring."""
    i, j, k = Axis("i", 4), Axis("j", 6), Axis("k", 6)
    x, y = Buffer("x", (4, 6), float64), Buffer("y", (4, 6), float64)
    kernel = Kernel(
        "ring",
        (x, y),
        1,
        (i,),
        (
            Stage("squares", (j,), op(s.mul, Load(x, (i, j)), Load(x, (i, j)))),
            Store(
                y,
                (k,),
                (i, k),
                op(s.sub, Ref("squares", (k,), float64), Ref("squares", (ix.mod(ix.add(k, index(1)), 6),), float64)),
            ),
        ),
    )
    a, out = rng.standard_normal((4, 6)), np.empty((4, 6))
    run(kernel, x=a, y=out)
    np.testing.assert_allclose(out, a**2 - np.roll(a**2, -1, 1), rtol=1e-12)


def test_kernels_larger_than_a_chunk_are_run_in_slices(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interp, "_CHUNK", 40)
    i, j, k = Axis("i", 9), Axis("j", 5), Axis("k", 3)
    a, b, c = Buffer("a", (9, 3), float32), Buffer("b", (3, 5), float32), Buffer("c", (9, 5), float32)
    kernel = Kernel(
        "dot",
        (a, b, c),
        1,
        (i, j),
        (
            Contract("s", (), (k,), Load(a, (i, k)), Load(b, (k, j)), float32),
            Store(c, (), (i, j), op(s.add, Ref("s", (), float32), Cast(i, float32))),
        ),
    )
    x, y, out = (
        rng.standard_normal((9, 3)).astype(np.float32),
        rng.standard_normal((3, 5)).astype(np.float32),
        np.empty((9, 5), np.float32),
    )
    run(kernel, a=x, b=y, c=out)
    np.testing.assert_allclose(out, x @ y + np.arange(9)[:, None], rtol=1e-5, atol=1e-6)


def test_guarded_loads_read_nothing_outside(rng: np.random.Generator) -> None:
    i = Axis("i", 7)
    x, y = Buffer("x", (4,), float32), Buffer("y", (7,), float32)
    at = ix.sub(i, index(2))
    load = Load(x, (at,), ix.within(at, 0, 4), Const(-1.5, float32))
    a, out = rng.standard_normal(4).astype(np.float32), np.empty(7, np.float32)
    run(Kernel("pad", (x, y), 1, (i,), (Store(y, (), (i,), load),)), x=a, y=out)
    assert out.tolist() == [-1.5, -1.5, *a.tolist(), -1.5]
    wrong = Load(x, (at,), ix.within(at, -1, 4), Const(0.0, float32))
    with pytest.raises(InternalError, match="guarded load outside x"):
        run(Kernel("pad", (x, y), 1, (i,), (Store(y, (), (i,), wrong),)), x=a, y=out)
    with pytest.raises(InternalError, match="load outside x"):
        run(Kernel("pad", (x, y), 1, (i,), (Store(y, (), (i,), Load(x, (at,))),)), x=a, y=out)


def test_guarded_store_and_store_outside() -> None:
    i = Axis("i", 5)
    y = Buffer("y", (3,), int32)
    out = np.full(3, 9, np.int32)
    run(Kernel("head", (y,), 1, (i,), (Store(y, (), (i,), Cast(i, int32), guard=ix.less(i, index(2))),)), y=out)
    assert out.tolist() == [0, 1, 9]
    with pytest.raises(InternalError, match="store outside y"):
        run(Kernel("head", (y,), 1, (i,), (Store(y, (), (i,), Cast(i, int32)),)), y=out)


def test_scatter_adds_in_order_and_checks(rng: np.random.Generator) -> None:
    i, u = Axis("i", 3), Axis("u", 8)
    at, x, y = Buffer("at", (8,), int64), Buffer("x", (8, 3), float64), Buffer("y", (4, 3), float64)
    kernel = Kernel(
        "scatter",
        (at, x, y),
        1,
        (i,),
        (Store(y, (), (Check(Load(at, (u,)), 4, 1), i), Load(x, (u, i)), over=(u,), combine=monoid.SUM),),
    )
    where, a, out = rng.integers(0, 4, 8), rng.standard_normal((8, 3)), np.ones((4, 3))
    expected = np.ones((4, 3))
    for k in range(8):
        expected[where[k]] += a[k]
    run(kernel, at=where, x=a, y=out)
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    with pytest.raises(IndexRangeError, match=r"outside \[0, 4\)"):
        run(kernel, at=np.full(8, 4), x=a, y=out)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_arg_monoids_take_the_first_and_prefer_nan(name: str, rng: np.random.Generator) -> None:
    i, r = Axis("i", 6), Axis("r", 9)
    x, v, p = Buffer("x", (6, 9), float32), Buffer("v", (6,), float32), Buffer("p", (6,), int64)
    a = rng.integers(-2, 3, (6, 9)).astype(np.float32)
    a[1, 4] = a[1, 7] = np.nan
    a[2] = -np.inf
    a[3] = np.inf
    m = {"argmax": monoid.ARGMAX, "argmin": monoid.ARGMIN}[name]
    kernel = Kernel(
        name,
        (x, v, p),
        2,
        (i,),
        (
            Reduce("m", (), (r,), m, (Load(x, (i, r)), r)),
            Store(v, (), (i,), Ref("m", (), float32, 0)),
            Store(p, (), (i,), Ref("m", (), int64, 1)),
        ),
    )
    value, position = np.empty(6, np.float32), np.empty(6, np.int64)
    run(kernel, x=a, v=value, p=position)
    expected = getattr(np, name)(a, 1)
    np.testing.assert_array_equal(position, expected)
    np.testing.assert_array_equal(value, a[np.arange(6), expected])


def combined(m: monoid.Monoid, elements: list[tuple], dtypes: tuple) -> tuple:
    """What an emitter does: init, then lift and combine element by element, through the monoid's own expressions."""
    buffers = [Buffer(f"e{k}", (1,), d) for k, d in enumerate(dtypes)]
    loads = tuple(Load(b, (index(0),)) for b in buffers)
    state = [c.value for c in m.init(loads)]
    state_types = m.state_dtypes(loads)
    held = [Buffer(f"s{k}", (1,), d) for k, d in enumerate(state_types)]
    outs = [Buffer(f"o{k}", (1,), d) for k, d in enumerate(state_types)]
    one = Axis("i", 1)
    new = m.combine(tuple(Load(b, (one,)) for b in held), m.lift(tuple(Load(b, (one,)) for b in buffers)))
    kernel = Kernel(
        "step", (*held, *buffers, *outs), len(outs), (one,), tuple(Store(o, (), (one,), e) for o, e in zip(outs, new))
    )
    for element in elements:
        arrays = {b.name: np.array([v], b.dtype.np) for b, v in zip((*held, *buffers), (*state, *element))}
        arrays.update({o.name: np.zeros(1, o.dtype.np) for o in outs})
        run(kernel, **arrays)
        state = [arrays[o.name][0] for o in outs]
    return tuple(state)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, d)
        for name in ("SUM", "PROD", "MAX", "MIN", "ARGMAX", "ARGMIN")
        for d in (float32, int32, bool_)
        if d is not bool_ or name not in ("SUM", "PROD")
    ],
    ids=str,
)
def test_monoids_by_init_lift_combine_equal_their_numpy_meaning(name: str, dtype, rng: np.random.Generator) -> None:
    m = getattr(monoid, name)
    for trial in range(6):
        a = (rng.integers(0, 2, 7) if dtype is bool_ else rng.integers(-3, 4, 7)).astype(dtype.np)
        if dtype is float32 and trial == 1:
            a[[2, 5]] = np.nan
        if dtype is float32 and trial == 2:
            a[:] = -np.inf if name in ("MAX", "ARGMAX") else np.inf
        p = np.arange(7)
        elements = [(v, i) if m.arity == 2 else (v,) for v, i in zip(a, p)]
        if trial == 3:
            elements.reverse()  # the order of combining doesn't matter
        got = combined(m, elements, (dtype, int64)[: m.arity])
        expected = m.reduce([a, p][: m.arity], (0,))
        np.testing.assert_array_equal(np.array(got, np.float64), np.array([float(e) for e in expected]))


def test_casts_are_defined_everywhere() -> None:
    x = np.array([0.0, 1.9, -1.9, 300.5, -300.5, 1e30, -1e30, np.inf, -np.inf, np.nan])
    assert interp.cast(x, int8).tolist() == [0, 1, -1, 127, -128, 127, -128, 127, -128, 0]
    assert interp.cast(x, uint8).tolist() == [0, 1, 0, 255, 0, 255, 0, 255, 0, 0]
    assert interp.cast(x, int64).tolist()[5:] == [2**63 - 1, -(2**63), 2**63 - 1, -(2**63), 0]
    assert interp.cast(x, bool_).tolist() == [False] + [True] * 9
    assert interp.cast(np.array([300, -1]), uint8).tolist() == [44, 255]
    half = interp.cast(np.array([65519.0, 65520.0, 1e-8]), as_dtype("float16"))
    assert half.tolist() == [65504.0, float("inf"), 0.0]
    for d in ALL:
        assert interp.cast(np.ones(3, bool), d).astype(np.float64).tolist() == [1, 1, 1]


def test_integer_arithmetic_is_defined_everywhere() -> None:
    i = Axis("i", 6)
    a, b, c = (Buffer(k, (6,), int32) for k in "abc")
    x, y = np.array([7, -7, 7, -7, 5, -(2**31)], np.int32), np.array([2, 2, -2, -2, 0, -1], np.int32)
    expected = {
        "div": [3, -3, -3, 3, 0, -(2**31)],
        "floordiv": [3, -4, -4, 3, 0, -(2**31)],
        "mod": [1, 1, -1, -1, 0, 0],
        "rem": [1, -1, 1, -1, 0, 0],
    }
    for name, values in expected.items():
        out = np.empty(6, np.int32)
        run(
            Kernel(name, (a, b, c), 1, (i,), (Store(c, (), (i,), op(s.SCALAR_OPS[name], Load(a, (i,)), Load(b, (i,)))),)),
            a=x,
            b=y,
            c=out,
        )
        assert out.tolist() == values, name


def test_bitcast_mulhi_and_where(rng: np.random.Generator) -> None:
    i = Axis("i", 5)
    x, y = Buffer("x", (5,), float32), Buffer("y", (5,), uint32)
    a, out = rng.standard_normal(5).astype(np.float32), np.empty(5, np.uint32)
    high = op(s.mulhi, Bitcast(Load(x, (i,)), uint32), Const(0xD2511F53, uint32))
    run(Kernel("bits", (x, y), 1, (i,), (Store(y, (), (i,), Where(ix.less(i, index(3)), high, Const(5, uint32))),)), x=a, y=out)
    assert out.tolist() == [(int(v) * 0xD2511F53) >> 32 for v in a.view(np.uint32)[:3]] + [5, 5]


def test_wrong_buffers_are_refused() -> None:
    i, x = Axis("i", 3), Buffer("x", (3,), float32)
    kernel = Kernel("fill", (x,), 1, (i,), (Store(x, (), (i,), Const(1.0, float32)),))
    with pytest.raises(InternalError, match="x is float64"):
        run(kernel, x=np.zeros(3))
    with pytest.raises(InternalError, match="axis j is not in scope"):
        run(Kernel("fill", (x,), 1, (i,), (Store(x, (), (i,), Cast(Axis("j", 3), float32)),)), x=np.zeros(3, np.float32))


def test_a_kernel_without_points_reads_nothing() -> None:
    """Not even what depends on no axis of extent 0."""
    i, n, r = Axis("i0", 2), Axis("i1", 0), Axis("r0", 2)
    x, y, out = Buffer("in0", (2,), float32), Buffer("in1", (0,), float32), Buffer("out0", (0,), float32)
    dot = Contract("s0", (), (r,), Load(x, (r,)), Load(y, (r,)), float32)
    kernel = Kernel("empty", (x, y, out), 1, (i, n), (dot, Store(out, (), (n,), Ref("s0", (), float32))))
    interp.run_kernel(kernel, {b.name: np.zeros(b.shape, np.float32) for b in (x, y, out)})
