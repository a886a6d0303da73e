"""Kernels built by hand, with random arrays to run them on. Sizes are odd and unequal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kerogen.compiler.kernel import scalar_ops as s
from kerogen.compiler.kernel import simplify
from kerogen.compiler.kernel.expr import Axis, Cast, Check, Const, Expr, Load, Ref, Where, index, op
from kerogen.compiler.kernel.ir import Buffer, Contract, Kernel, Reduce, Stage, Store
from kerogen.compiler.kernel.monoid import ARGMAX, MAX, SUM
from kerogen.runtime.dtype import DType, bfloat16, float32, int32, int64, uint32

Case = tuple[Kernel, dict[str, np.ndarray]]
CASES: dict[str, Callable[[np.random.Generator], Case]] = {}


def case(fn: Callable[[np.random.Generator], Case]) -> Callable[[np.random.Generator], Case]:
    CASES[fn.__name__] = fn
    return fn


def f32(x: float) -> Const:
    return Const(x, float32)


def arrays(rng: np.random.Generator, kernel: Kernel, **given: np.ndarray) -> Case:
    """Normal numbers for every buffer that is not given, outputs included: what a kernel does not write shows."""
    out = {}
    for b in kernel.buffers:
        a = given.get(b.name)
        out[b.name] = rng.standard_normal(b.shape).astype(b.dtype.np) if a is None else a.astype(b.dtype.np)
    return kernel, out


@case
def pointwise(rng):
    """relu(x * scale[column] + y transposed), two results."""
    i, j = Axis("i", 37), Axis("j", 53)
    x, y, scale = Buffer("x", (37, 53), float32), Buffer("y", (53, 37), float32), Buffer("scale", (53,), float32)
    a, b = Buffer("a", (37, 53), float32), Buffer("b", (37, 53), float32)
    v = op(s.add, op(s.mul, Load(x, (i, j)), Load(scale, (j,))), Load(y, (j, i)))
    return arrays(rng, Kernel("pointwise", (x, scale, y, a, b), 2, (i, j), (
        Store(a, (), (i, j), op(s.maximum, v, f32(0.0))), Store(b, (), (i, j), op(s.tanh, v)))))


def softmax_kernel(rows: int, columns: int, dtype: DType = float32) -> Kernel:
    i, j = Axis("i", rows), Axis("j", columns)
    x, y = Buffer("x", (rows, columns), dtype), Buffer("y", (rows, columns), dtype)
    v = Cast(Load(x, (i, j)), float32) if dtype is not float32 else Load(x, (i, j))
    e = op(s.exp, op(s.sub, v, Ref("m", (), float32)))
    out = op(s.div, e, Ref("t", (), float32))
    return Kernel("softmax", (x, y), 1, (i,), (Reduce("m", (), (j,), MAX, (v,)), Reduce("t", (), (j,), SUM, (e,)),
                                               Store(y, (j,), (i, j), Cast(out, dtype) if dtype is not float32 else out)))


@case
def softmax(rng):
    return arrays(rng, softmax_kernel(19, 77))


@case
def softmax_long(rng):
    """Rows longer than a tile: three loops."""
    return arrays(rng, softmax_kernel(3, 5003))


@case
def softmax_bfloat16(rng):
    return arrays(rng, softmax_kernel(11, 133, bfloat16))


@case
def layer_norm(rng):
    """Mean and variance; the centred row is a Stage."""
    n = 91
    i, j = Axis("i", 23), Axis("j", n)
    x, g, b, y = Buffer("x", (23, n), float32), Buffer("g", (n,), float32), Buffer("b", (n,), float32), Buffer("y", (23, n), float32)
    mean = op(s.mul, Ref("sum", (), float32), f32(1 / n))
    centred = op(s.sub, Load(x, (i, j)), mean)
    c = Ref("c", (j,), float32)
    rstd = op(s.rsqrt, op(s.add, op(s.mul, Ref("sq", (), float32), f32(1 / n)), f32(1e-5)))
    out = op(s.add, op(s.mul, op(s.mul, c, rstd), Load(g, (j,))), Load(b, (j,)))
    return arrays(rng, Kernel("layer_norm", (x, g, b, y), 1, (i,), (
        Reduce("sum", (), (j,), SUM, (Load(x, (i, j)),)), Stage("c", (j,), centred),
        Reduce("sq", (), (j,), SUM, (op(s.mul, c, c),)), Store(y, (j,), (i, j), out))))


@case
def column_sum(rng):
    i, j = Axis("i", 211), Axis("j", 67)
    x, y = Buffer("x", (211, 67), float32), Buffer("y", (67,), float32)
    return arrays(rng, Kernel("column_sum", (x, y), 1, (j,), (
        Reduce("t", (), (i,), SUM, (Load(x, (i, j)),)), Store(y, (), (j,), Ref("t", (), float32)))))


@case
def total(rng):
    """A reduction to one number."""
    i, j = Axis("i", 173), Axis("j", 31)
    x, y = Buffer("x", (173, 31), float32), Buffer("y", (1,), float32)
    return arrays(rng, Kernel("total", (x, y), 1, (), (
        Reduce("t", (), (i, j), SUM, (Load(x, (i, j)),)), Store(y, (), (index(0),), Ref("t", (), float32)))))


@case
def argmax_rows(rng):
    """Few different values, so that ties are the rule; some nan."""
    i, j = Axis("i", 29), Axis("j", 150)
    x, v, p = Buffer("x", (29, 150), float32), Buffer("v", (29,), float32), Buffer("p", (29,), int64)
    values = rng.integers(0, 5, (29, 150)).astype(np.float32)
    values[3, 70], values[3, 90], values[8, 0] = np.nan, np.nan, np.nan
    r = Reduce("r", (), (j,), ARGMAX, (Load(x, (i, j)), j))
    return arrays(rng, Kernel("argmax_rows", (x, v, p), 2, (i,), (
        r, Store(v, (), (i,), Ref("r", (), float32, 0)), Store(p, (), (i,), Ref("r", (), int64, 1)))), x=values)


@case
def max_pool(rng):
    """3x3 windows, stride 2, padding 1, channels last; the value and where it was."""
    n, h, w, c, oh, ow = 2, 11, 9, 5, 6, 5
    b, y, x, ch = Axis("b", n), Axis("y", oh), Axis("x", ow), Axis("c", c)
    kh, kw = Axis("kh", 3), Axis("kw", 3)
    src, out, pos = Buffer("src", (n, h, w, c), float32), Buffer("out", (n, oh, ow, c), float32), Buffer("pos", (n, oh, ow, c), int32)
    iy = simplify.add(simplify.add(simplify.mul(y, 2), kh), index(-1))
    ix = simplify.add(simplify.add(simplify.mul(x, 2), kw), index(-1))
    inside = simplify.both(simplify.within(iy, 0, h), simplify.within(ix, 0, w))
    v = Load(src, (b, iy, ix, ch), inside, f32(-np.inf))
    r = Reduce("r", (), (kh, kw), ARGMAX, (v, simplify.add(simplify.mul(kh, 3), kw)))
    return arrays(rng, Kernel("max_pool", (src, out, pos), 2, (b, y, x, ch), (
        r, Store(out, (), (b, y, x, ch), Ref("r", (), float32)), Store(pos, (), (b, y, x, ch), Cast(Ref("r", (), int64, 1), int32)))))


def gemm_kernel(m: int, n: int, k: int, dtype: DType = float32, precision: str = "highest") -> Kernel:
    """relu(a @ b + bias) + residual."""
    i, j, t = Axis("i", m), Axis("j", n), Axis("t", k)
    a, b, bias = Buffer("a", (m, k), dtype), Buffer("b", (k, n), dtype), Buffer("bias", (n,), float32)
    residual, out = Buffer("residual", (m, n), float32), Buffer("out", (m, n), float32)
    acc = Ref("acc", (), float32)
    v = op(s.add, op(s.maximum, op(s.add, acc, Load(bias, (j,))), f32(0.0)), Load(residual, (i, j)))
    return Kernel("gemm", (a, b, bias, residual, out), 1, (i, j), (
        Contract("acc", (), (t,), Load(a, (i, t)), Load(b, (t, j)), float32, precision), Store(out, (), (i, j), v)))


@case
def gemm(rng):
    return arrays(rng, gemm_kernel(75, 109, 93))


@case
def gemm_bfloat16(rng):
    return arrays(rng, gemm_kernel(70, 130, 101, bfloat16))


@case
def batched_gemm(rng):
    """a transposed, b transposed, a scale on a (prologue), 3 x 5 batches."""
    p, q, i, j, t = Axis("p", 3), Axis("q", 5), Axis("i", 21), Axis("j", 35), Axis("t", 27)
    a, b, c = Buffer("a", (3, 27, 5, 21), float32), Buffer("b", (5, 35, 3, 27), float32), Buffer("c", (3, 5, 21, 35), float32)
    scale = Buffer("scale", (27,), float32)
    left = op(s.add, op(s.mul, Load(a, (p, t, q, i)), Load(scale, (t,))), f32(0.5))  # not 0 beyond the last term
    return arrays(rng, Kernel("batched_gemm", (a, scale, b, c), 1, (p, q, i, j), (
        Contract("acc", (), (t,), left, Load(b, (q, j, p, t)), float32), Store(c, (), (p, q, i, j), Ref("acc", (), float32)))))


N, H, W, C, CO, K = 2, 13, 11, 10, 12, 3
OH, OW = 7, 6


def _conv_buffers() -> tuple[Buffer, Buffer, Buffer]:
    return Buffer("x", (N, H, W, C), float32), Buffer("w", (K, K, C, CO), float32), Buffer("y", (N, OH, OW, CO), float32)


def _tap(o: Expr, k: Expr) -> Expr:
    """Position in the input, stride 2, padding 1."""
    return simplify.add(simplify.add(simplify.mul(o, 2), k), index(-1))


@case
def conv(rng):
    """Forward, 3x3, stride 2, padding 1."""
    x, w, y = _conv_buffers()
    b, oy, ox, o = Axis("b", N), Axis("oy", OH), Axis("ox", OW), Axis("o", CO)
    ky, kx, c = Axis("ky", K), Axis("kx", K), Axis("c", C)
    iy, ix = _tap(oy, ky), _tap(ox, kx)
    inside = simplify.both(simplify.within(iy, 0, H), simplify.within(ix, 0, W))
    return arrays(rng, Kernel("conv", (x, w, y), 1, (b, oy, ox, o), (
        Contract("acc", (), (ky, kx, c), Load(x, (b, iy, ix, c), inside, f32(0.0)), Load(w, (ky, kx, c, o)), float32),
        Store(y, (), (b, oy, ox, o), Ref("acc", (), float32)))))


@case
def conv_input_grad(rng):
    """dx[b, i, j, c] = sum over taps whose output position exists (i + 1 - ky is even and inside)."""
    x, w, y = _conv_buffers()
    b, i, j, c = Axis("b", N), Axis("i", H), Axis("j", W), Axis("c", C)
    ky, kx, o = Axis("ky", K), Axis("kx", K), Axis("o", CO)
    ty, tx = simplify.add(simplify.sub(i, ky), index(1)), simplify.add(simplify.sub(j, kx), index(1))
    oy, ox = simplify.floordiv(ty, 2), simplify.floordiv(tx, 2)
    guard = simplify.both(simplify.within(oy, 0, OH), simplify.within(ox, 0, OW))
    guard = simplify.both(guard, simplify.both(simplify.equal(simplify.mod(ty, 2), index(0)), simplify.equal(simplify.mod(tx, 2), index(0))))
    return arrays(rng, Kernel("conv_input_grad", (y, w, x), 1, (b, i, j, c), (
        Contract("acc", (), (ky, kx, o), Load(y, (b, oy, ox, o), guard, f32(0.0)), Load(w, (ky, kx, c, o)), float32),
        Store(x, (), (b, i, j, c), Ref("acc", (), float32)))))


@case
def conv_weight_grad(rng):
    x, w, y = _conv_buffers()
    ky, kx, c, o = Axis("ky", K), Axis("kx", K), Axis("c", C), Axis("o", CO)
    b, oy, ox = Axis("b", N), Axis("oy", OH), Axis("ox", OW)
    iy, ix = _tap(oy, ky), _tap(ox, kx)
    inside = simplify.both(simplify.within(iy, 0, H), simplify.within(ix, 0, W))
    return arrays(rng, Kernel("conv_weight_grad", (x, y, w), 1, (ky, kx, c, o), (
        Contract("acc", (), (b, oy, ox), Load(x, (b, iy, ix, c), inside, f32(0.0)), Load(y, (b, oy, ox, o)), float32),
        Store(w, (), (ky, kx, c, o), Ref("acc", (), float32)))))


@case
def depthwise(rng):
    """No axis belongs to the weights alone: the generic form."""
    x, y = Buffer("x", (N, H, W, C), float32), Buffer("y", (N, H, W, C), float32)
    w = Buffer("w", (K, K, C), float32)
    b, i, j, c, ky, kx = Axis("b", N), Axis("i", H), Axis("j", W), Axis("c", C), Axis("ky", K), Axis("kx", K)
    iy, ix = simplify.add(simplify.add(i, ky), index(-1)), simplify.add(simplify.add(j, kx), index(-1))
    inside = simplify.both(simplify.within(iy, 0, H), simplify.within(ix, 0, W))
    return arrays(rng, Kernel("depthwise", (x, w, y), 1, (b, i, j, c), (
        Contract("acc", (), (ky, kx), Load(x, (b, iy, ix, c), inside, f32(0.0)), Load(w, (ky, kx, c)), float32),
        Store(y, (), (b, i, j, c), Ref("acc", (), float32)))))


def gather_kernel(vocabulary: int = 41) -> Kernel:
    i, j = Axis("i", 50), Axis("j", 13)
    table, ids, out = Buffer("table", (vocabulary, 13), float32), Buffer("ids", (50,), int64), Buffer("out", (50, 13), float32)
    return Kernel("gather", (ids, table, out), 1, (i, j), (
        Store(out, (), (i, j), Load(table, (Check(Load(ids, (i,)), vocabulary, 3), j))),))


@case
def gather(rng):
    return arrays(rng, gather_kernel(), ids=rng.integers(0, 41, 50))


@case
def scatter_add(rng):
    """out = base, then rows are added in the order of ids, with many repeats; a guard skips some."""
    f, r, u = Axis("f", 19), Axis("r", 8), Axis("u", 60)
    base, ids, updates, out = Buffer("base", (8, 19), float32), Buffer("ids", (60,), int32), Buffer("updates", (60, 19), float32), Buffer("out", (8, 19), float32)
    at = Check(Cast(Load(ids, (u,)), int64), 8, 1)
    keep = op(s.ne, simplify.mod(u, 7), index(3))
    return arrays(rng, Kernel("scatter_add", (base, ids, updates, out), 1, (f,), (
        Store(out, (r,), (r, f), Load(base, (r, f))),
        Store(out, (), (at, f), Load(updates, (u, f)), guard=keep, over=(u,), combine=SUM))), ids=rng.integers(0, 8, 60))


@case
def philox(rng):
    """Two rounds of Philox-4x32 and a uniform float from the top 24 bits."""
    i = Axis("i", 301)
    key, bits, out = Buffer("key", (2,), uint32), Buffer("bits", (301,), uint32), Buffer("out", (301,), float32)
    c = [Cast(i, uint32), Const(7, uint32), Const(0, uint32), Const(1, uint32)]
    k = [Load(key, (index(0),)), Load(key, (index(1),))]
    m0, m1 = Const(0xD2511F53, uint32), Const(0xCD9E8D57, uint32)
    for _ in range(2):
        c = [op(s.xor, op(s.xor, op(s.mulhi, c[2], m1), c[1]), k[0]), op(s.mul, c[2], m1),
             op(s.xor, op(s.xor, op(s.mulhi, c[0], m0), c[3]), k[1]), op(s.mul, c[0], m0)]
        k = [op(s.add, k[0], Const(0x9E3779B9, uint32)), op(s.add, k[1], Const(0xBB67AE85, uint32))]
    unit = op(s.mul, Cast(op(s.shr, c[0], Const(8, uint32)), float32), f32(2.0 ** -24))
    return arrays(rng, Kernel("philox", (key, bits, out), 2, (i,), (
        Store(bits, (), (i,), op(s.xor, c[1], op(s.shl, c[3], Const(3, uint32)))), Store(out, (), (i,), unit))),
        key=rng.integers(0, 2**32, 2), bits=np.zeros(301), out=np.zeros(301))


@case
def row_of_rows(rng):
    """A reduction with axes of its own, read at another index (reversed) by the store."""
    i, j, t = Axis("i", 9), Axis("j", 33), Axis("t", 21)
    x, y = Buffer("x", (9, 33, 21), float32), Buffer("y", (9, 33), float32)
    back = simplify.sub(index(32), j)
    return arrays(rng, Kernel("row_of_rows", (x, y), 1, (i,), (
        Reduce("r", (j,), (t,), MAX, (Load(x, (i, j, t)),)),
        Store(y, (j,), (i, j), op(s.sub, Ref("r", (back,), float32), Load(x, (i, j, index(4))))))))


@case
def padded_where(rng):
    """Guards with a value that is data, a choice on data, a guarded store."""
    i, j = Axis("i", 27), Axis("j", 34)
    x, fill, y = Buffer("x", (25, 30), float32), Buffer("fill", (34,), float32), Buffer("y", (27, 34), float32)
    iy, ix = simplify.add(i, index(-1)), simplify.add(j, index(-3))
    inside = simplify.both(simplify.within(iy, 0, 25), simplify.within(ix, 0, 30))
    v = Load(x, (iy, ix), inside, Load(fill, (j,)))
    chosen = Where(op(s.gt, v, f32(0.3)), v, op(s.neg, v))
    return arrays(rng, Kernel("padded_where", (x, fill, y), 1, (i, j), (
        Store(y, (), (i, j), chosen, guard=op(s.ne, simplify.mod(simplify.add(i, j), 5), index(2))),)))
