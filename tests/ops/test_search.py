"""Searches and counts beside NumPy on random data; what gathers give out of range."""

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import compile_graph
from kerogen.runtime.dtype import as_dtype, float32
from kerogen.runtime.errors import ArgumentError, DTypeError, ShapeError
from kerogen.runtime.executable import Executable

from ..compare import assert_close


def compiled(fn, *arrays: np.ndarray) -> list[np.ndarray]:
    """What the compiled graph gives, and that op by op evaluation gives the same."""
    xs = tuple(leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(arrays))
    graph = Graph(xs, tuple(fn(*xs)))
    out = Executable(plans=[compile_graph(graph)])(*arrays)
    out = out if isinstance(out, list) else [out]
    for a, e in zip(out, evaluate(graph, list(arrays))):
        assert_close(a, e, 1e-12 if a.dtype == np.float64 else 1e-6)
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 31, 64, 1000])
def test_searchsorted_is_numpys(n, rng) -> None:
    ordered = np.sort(rng.integers(0, n + 2, n)).astype(np.float32)
    values = rng.integers(-1, n + 3, (17, 5)).astype(np.float32)
    left, right = compiled(lambda a, v: [o.searchsorted(a, v), o.searchsorted(a, v, True)], ordered, values)
    assert np.array_equal(left, np.searchsorted(ordered, values)) and np.array_equal(right, np.searchsorted(ordered, values, "right"))


@pytest.mark.parametrize("right", [False, True])
def test_digitize_is_numpys(right, rng) -> None:
    x = rng.integers(-2, 12, (6, 7))
    for edges in (np.array([0, 3, 3, 7, 9]), np.array([9, 7, 3, 3, 0]), np.array([4])):
        (y,) = compiled(lambda a, b: [o.digitize(a, b, right)], x, edges)
        assert np.array_equal(y, np.digitize(x, edges, right))


def test_counts_are_numpys(rng) -> None:
    x = rng.integers(-3, 14, 301)
    weights = rng.standard_normal(301)
    counts, sums = compiled(lambda a, w: [o.bincount(a, 11), o.bincount(a, 11, w)], x, weights)
    kept = (x >= 0) & (x < 11)
    assert np.array_equal(counts, np.bincount(x[kept], minlength=11)) and counts.dtype == np.int32
    assert_close(sums, np.bincount(x[kept], weights[kept], 11), 1e-12)
    points = rng.standard_normal(400)
    points[7] = np.nan
    edges = np.array([-1.5, -1.0, 0.25, 0.25, 2.0])
    seen, _ = compiled(lambda a, e: o.histogram(a, e), points, edges)
    assert np.array_equal(seen, np.histogram(points[~np.isnan(points)], edges)[0])
    whole = np.delete(points, 7)
    counts, edges = compiled(lambda a: o.histogram(a, 9), whole)
    expected = np.histogram(whole, 9)
    assert np.array_equal(counts, expected[0])
    assert_close(edges, expected[1], 1e-12)


def test_segments_join_in_order(rng) -> None:
    x, segments = rng.standard_normal((40, 3)), rng.integers(-1, 7, 40).astype(np.int8)
    start = {"add": 0.0, "mul": 1.0, "max": -np.inf, "min": np.inf}
    join = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    for combine, of in join.items():
        (y,) = compiled(lambda a, s, c=combine: [o.segment_reduce(a, s, 5, c)], x, segments)
        expected = np.full((5, 3), start[combine])
        for row, s in zip(x, segments):
            if 0 <= s < 5:
                expected[s] = of(expected[s], row)
        assert_close(y, expected, 1e-12)


def test_gathers_out_of_range(rng) -> None:
    x = rng.standard_normal((4, 5))
    indices = np.array([[3, -1, 9], [-6, 4, 5]], np.int8)
    clipped, filled, along = compiled(
        lambda a, i: [o.take(a, i, 1, mode="clip"), o.take(a, i, 1, True, "fill", -2.5),
                      o.take_along_axis(o.slice_(a, (0, 0), (4, 3)), i, 0, mode="fill", fill=7)],
        x, indices,
    )
    assert np.array_equal(clipped, np.take(x, indices, 1, mode="clip"))
    wrapped = np.where(indices < 0, indices + 5, indices)
    inside = (wrapped >= 0) & (wrapped < 5)
    assert np.array_equal(filled, np.where(inside[None], np.take(x, np.where(inside, wrapped, 0), 1), -2.5))
    inside = (indices >= 0) & (indices < 4)
    assert along.shape == (2, 3) and np.array_equal(along, np.where(inside, np.take_along_axis(x[:, :3], np.where(inside, indices, 0), 0), 7))


def test_one_hot_is_zero_out_of_range_and_longer_than_its_index_counts() -> None:
    indices = np.array([-1, 3, 255 - 256, 44, 127], np.int8)
    (y,) = compiled(lambda i: [o.one_hot(i, 300)], indices)
    expected = np.zeros((5, 300), np.float32)
    for row, i in enumerate(indices):
        if i >= 0:
            expected[row, i] = 1
    assert np.array_equal(y, expected)


def test_mistakes_are_named() -> None:
    x, i = leaf("x", TensorType((4, 5), float32)), leaf("i", TensorType((3,), as_dtype("int32")))
    for error, text, call in [
        (ShapeError, "a vector to search in", lambda: o.searchsorted(x, x)),
        (DTypeError, "needs integers", lambda: o.bincount(x, 4)),
        (ShapeError, "a weight for each", lambda: o.bincount(i, 4, x)),
        (ArgumentError, "none of add, mul, max, min", lambda: o.segment_reduce(x, leaf("s", TensorType((4,), as_dtype("int32"))), 3, "mean")),
        (ShapeError, "one integer for each slice", lambda: o.segment_reduce(x, i, 3)),
        (ArgumentError, "bins must be at least 1", lambda: o.histogram(x, 0)),
        (ArgumentError, "none of raise, clip, fill", lambda: o.take(x, i, mode="wrap")),
    ]:
        with pytest.raises(error, match=text):
            call()
