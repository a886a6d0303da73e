"""Quantization against its definition in NumPy and against ONNX Runtime; products of 8-bit integers exactly."""

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import compile_graph
from kerogen.runtime.dtype import as_dtype
from kerogen.runtime.errors import DTypeError, ShapeError
from kerogen.runtime.executable import Executable


def compiled(fn, *arrays: np.ndarray) -> list[np.ndarray]:
    """Results of the compiled graph, after comparing them with evaluation."""
    xs = tuple(leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(arrays))
    out = fn(*xs)
    graph = Graph(xs, (out,) if isinstance(out, Node) else tuple(out))
    got = Executable(plans=[compile_graph(graph)])(*arrays)
    got = got if isinstance(got, list) else [got]
    for a, e in zip(got, evaluate(graph, list(arrays))):
        np.testing.assert_array_equal(a.astype(np.float64), e.astype(np.float64))
    return got


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int4", "uint4"])
@pytest.mark.parametrize("form", ["tensor", "axis", "blocks"])
def test_to_and_fro(dtype, form, rng) -> None:
    d = as_dtype(dtype)
    x = rng.uniform(-1, 1, (3, 10, 5)).astype(np.float32) * float(d.max)
    x[0, :3, 0] = np.inf, -np.inf, 0.5
    shape = {"tensor": (), "axis": (10,), "blocks": (3, 3, 5)}[form]
    scale = rng.uniform(0.5, 2, shape).astype(np.float32)
    zero = np.asarray(rng.integers(0, d.max, shape)).astype(d.np)
    axis, block = 1, 4 if form == "blocks" else 0
    (q,) = compiled(lambda a, s, z: o.quantize_linear(a, s, z, axis, block), x, scale, zero)
    (y,) = compiled(lambda a, s, z: o.dequantize_linear(a, s, z, axis, block), q, scale, zero)

    def wide(v: np.ndarray) -> np.ndarray:
        if form == "axis":
            return v.reshape(1, 10, 1)
        return v.repeat(4, 1)[:, :10] if form == "blocks" else v

    s, z = wide(scale), wide(zero).astype(np.float64)
    expected = np.clip(np.rint(x / s) + z, d.min, d.max)
    np.testing.assert_array_equal(q.astype(np.float64), expected)
    np.testing.assert_array_equal(y, ((expected - z).astype(np.float32) * s).astype(np.float32))


@pytest.mark.parametrize(("a", "b"), [("uint8", "int8"), ("int8", "uint8"), ("int8", "int8"), ("uint8", "uint8")])
@pytest.mark.parametrize("zeros", ["none", "one", "each"])
def test_integer_matmul_is_exact(a, b, zeros, rng) -> None:
    draw = [rng.integers(as_dtype(t).min, as_dtype(t).max + 1, s).astype(t) for t, s in ((a, (2, 5, 37)), (b, (2, 37, 9)))]
    shapes = {"none": [], "one": [(), ()], "each": [(2, 5), (9,)]}[zeros]
    points = [rng.integers(0, 100, s).astype(t) for s, t in zip(shapes, (a, b))]
    (y,) = compiled(lambda p, q, *z: o.integer_matmul(p, q, *z), *draw, *points)
    left, right = (v.astype(np.int64) for v in draw)
    if zeros != "none":
        left = left - (points[0][..., None] if zeros == "each" else points[0])
        right = right - points[1].astype(np.int64)
    np.testing.assert_array_equal(y, left @ right)


def test_dynamic_range_holds_zero(rng) -> None:
    for low, high in ((0.5, 3.0), (-4.0, -1.0), (-2.0, 5.0), (0.0, 0.0)):
        x = rng.uniform(low, high, (7, 9)).astype(np.float32)
        q, scale, zero = compiled(o.dynamic_quantize, x)
        back = (q.astype(np.float32) - zero.astype(np.float32)) * scale
        assert np.max(np.abs(back - x)) <= 0.51 * scale
        assert 0 <= zero <= 255


def test_float8_saturates(rng) -> None:
    x = np.array([1e6, -1e6, 3.3, np.nan, np.inf, 0.1], np.float32)
    for name in ("float8_e4m3fn", "float8_e5m2"):
        d = as_dtype(name)
        (q,) = compiled(lambda v, d=d: o.quantize_linear(v, np.float32(1), dtype=d), x)
        top = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}[name]
        np.testing.assert_array_equal(q.astype(np.float32)[[0, 1, 4]], [top, -top, top])
        assert np.isnan(q.astype(np.float32)[3])
        np.testing.assert_array_equal(q[[2, 5]], x[[2, 5]].astype(d.np))


def test_errors() -> None:
    x = leaf("x", TensorType((3, 4), as_dtype("float32")))
    with pytest.raises(ShapeError, match="along axis 1 with parameters"):
        o.quantize_linear(x, np.ones(3, np.float32))
    with pytest.raises(ShapeError, match=r"parameters have shape \[3, 2\]"):
        o.quantize_linear(x, np.ones((3, 3), np.float32), block=2)
    with pytest.raises(DTypeError, match="scale int32"):
        o.quantize_linear(x, np.ones(4, np.int32))
