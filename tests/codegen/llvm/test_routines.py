"""Machine code of routines against NumPy, beyond the sizes of the ops' samples: every path of the sort, long rows, many columns, each target."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as f
from kerogen.compiler.codegen.llvm.module import compile_kernel
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.kernel.ir import Buffer
from kerogen.compiler.kernel.routine import Order, Prefix
from kerogen.compiler.pipeline import compile_graph, executable
from kerogen.compiler.target import Target
from kerogen.runtime.dim import Dim
from kerogen.runtime.dtype import as_dtype, float32, int32
from kerogen.runtime.executable import Executable

from ...compare import assert_close
from ...test_ops import runnable

TARGETS = ["native", "x86-64-v3", "x86-64-v2"]


def run(fn, *arrays: np.ndarray, target: str = "native", threads: int | None = None) -> list[np.ndarray]:
    inputs = [leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(arrays)]
    y = fn(*inputs)
    graph = Graph(tuple(inputs), tuple(y) if isinstance(y, (tuple, list)) else (y,))
    out = Executable(plans=[compile_graph(graph, target=Target.named(target))], threads=threads)(*arrays)
    return out if isinstance(out, list) else [out]


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    d = as_dtype(dtype)
    if d.kind == "b":
        return rng.random(shape) < 0.5
    if not d.is_float:
        info = np.iinfo(d.np)
        x = rng.integers(info.min, info.max, shape, dtype=d.np, endpoint=True)
        return np.where(rng.random(shape) < 0.3, x % d.np.type(3), x)
    x = (rng.standard_normal(shape) * 10 ** rng.uniform(-4, 4, shape)).astype(d.np)
    flat = x.reshape(-1)
    for special in (np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0):
        flat[rng.integers(0, max(x.size, 1), x.size // 15)] = special
    return x


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint64", "uint16", "uint8", "bool"])
def test_orders_are_stable_with_nan_greatest(dtype: str, target: str) -> None:
    if not runnable(target):
        pytest.skip(f"this machine does not run {target} code")
    rng = np.random.default_rng(5)
    for shape in [(2, 96, 1), (3, 97, 2), (1, 1000, 1), (2, 300, 3)]:
        x = drawn(rng, shape, dtype)
        wide = x.astype(np.float64) if as_dtype(dtype).is_float else x
        rank = np.unique(wide, return_inverse=True)[1].reshape(shape)  # nans and zeros are one value each
        for descending in (False, True):
            expected = np.argsort(-rank if descending else rank, 1, kind="stable")
            for k in (None, 0, 1, 5, 33, 90):
                (got,) = run(lambda v, d=descending, k=k: f.argsort(v, 1, d, k), x, target=target)
                assert np.array_equal(got, expected[:, :k]), (shape, descending, k)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(1000, 1), (3, 257, 1), (257, 37), (2, 19, 16), (5, 100)])
def test_running_folds_of_long_axes(shape: tuple[int, ...], target: str) -> None:
    if not runnable(target):
        pytest.skip(f"this machine does not run {target} code")
    rng = np.random.default_rng(6)
    x = rng.uniform(-1, 1, shape).astype(np.float32)
    for axis in range(len(shape)):
        for reverse in (False, True):
            wide = np.flip(x, axis).astype(np.float64) if reverse else x.astype(np.float64)
            for fn, numpy in ((f.cumsum, np.add), (f.cummax, np.maximum), (f.cummin, np.minimum), (f.cumlogsumexp, np.logaddexp)):
                expected = numpy.accumulate(wide, axis)
                (got,) = run(lambda v, fn=fn, a=axis, r=reverse: fn(v, a, False, r), x, target=target)
                assert_close(got, (np.flip(expected, axis) if reverse else expected).astype(np.float32), 1e-5, what=f"{fn.__name__} {axis} {reverse}")
                (without,) = run(lambda v, fn=fn, a=axis, r=reverse: fn(v, a, True, r), x, target=target)
                inner = (np.flip(got, axis) if reverse else got).take(range(shape[axis] - 1), axis)
                outer = (np.flip(without, axis) if reverse else without).take(range(1, shape[axis]), axis)
                assert_close(outer, inner, 1e-6, what=f"exclusive {fn.__name__}")


def test_a_product_of_zeros_has_the_right_derivative() -> None:
    rng = np.random.default_rng(7)
    x, ct = rng.standard_normal((2, 6)), rng.standard_normal((2, 6))
    x[0, 2] = x[1, 0] = x[1, 4] = 0
    from kerogen.compiler.passes.autodiff import grad

    (got,) = run(lambda v, c: grad(f.cumprod(v, 1), [v], c), x, ct)
    h = 1e-5
    for i in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[i] = h
        slope = np.sum(ct * (np.cumprod(x + step, 1) - np.cumprod(x - step, 1))) / (2 * h)
        assert abs(got[i] - slope) < 1e-8


def test_logsumexps_survive_where_exponentials_overflow() -> None:
    x = np.array([[-np.inf, 900.0, 901.0, -1e4, 899.0]])
    (got,) = run(lambda v: f.cumlogsumexp(v, 1), x)
    assert_close(got, np.logaddexp.accumulate(x, 1), 1e-14)


def test_threads_give_the_same_bits() -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((301, 203)).astype(np.float32)
    a = (rng.standard_normal((33, 21, 21)) + 5 * np.eye(21)).astype(np.float32)
    for fn, given in ((lambda v: f.cumsum(v, 0), x), (lambda v: f.cumsum(v, 1), x), (lambda v: f.sort(v, 1), x), (f.inv, a)):
        one, two = run(fn, given, threads=1), run(fn, given, threads=2)
        assert one[0].tobytes() == two[0].tobytes()


def test_one_object_serves_every_size() -> None:
    def code(outer: int, n: int) -> tuple[str, str]:
        shape = (outer, n, 1)
        buffers = (Buffer("in0", shape, float32), Buffer("out0", shape, float32))
        places = (buffers[0], Buffer("out0", shape, int32))
        prefix, order = Prefix("a", buffers, 1, shape, "sum", contiguous=True), Order("b", places, 1, (*shape, n), contiguous=True)
        return tuple(compile_kernel(r, None, Target.host()).image for r in (prefix, order))  # type: ignore[return-value]

    assert code(3, 5) == code(7, 100)


def test_a_free_batch_is_one_plan() -> None:
    def trace(dims) -> Graph:
        x = leaf("x", TensorType((dims["batch"], 9), float32))
        values, places = f.top_k(x, 3)
        return Graph((x,), (f.cumsum(x, 1), values, places, f.median(x, 1)))

    exe = executable(trace)
    for batch in (1, 4, 33):
        x = np.random.default_rng(batch).standard_normal((batch, 9)).astype(np.float32)
        total, values, places, middle = exe(x)
        assert_close(total, np.cumsum(x, 1, dtype=np.float64).astype(np.float32), 1e-5)
        assert np.array_equal(values, -np.sort(-x, 1)[:, :3]) and np.array_equal(np.take_along_axis(x, places, 1), values)
        assert_close(middle, np.median(x, 1), 1e-6)
    assert isinstance(exe.inputs[0].shape[0], Dim)
    assert len({id(p) for p in exe.plans}) == 1
