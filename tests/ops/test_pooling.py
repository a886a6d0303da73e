"""Pooling functions made of several ops, against NumPy written from their definitions, with derivatives by finite differences."""

from math import ceil, floor

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.passes.autodiff import grad
from kerogen.compiler.pipeline import compile_graph
from kerogen.runtime.dtype import as_dtype
from kerogen.runtime.executable import Executable

from ..compare import assert_close


def both(fn, *arrays: np.ndarray) -> list[np.ndarray]:
    """``fn``'s results by evaluation, after comparing them with those of the compiled graph."""
    xs = tuple(leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(arrays))
    out = fn(*xs)
    graph = Graph(xs, (out,) if isinstance(out, Node) else tuple(out))
    expected = evaluate(graph, list(arrays))
    actual = Executable(plans=[compile_graph(graph)])(*arrays)
    for a, e in zip(actual if isinstance(actual, list) else [actual], expected):
        assert_close(a, e, 1e-12)
    return expected


@pytest.mark.parametrize(
    ("shape", "window", "strides", "padding", "dilation"),
    [
        ((2, 7, 9, 3), (2, 3), (2, 2), ((0, 1), (1, 1)), (1, 1)),
        ((1, 11, 2), (3,), (2,), ((1, 0),), (2,)),
        ((1, 4, 5, 3, 2), (2, 2, 3), (1, 2, 1), ((0, 1), (0, 0), (1, 1)), (1, 1, 1)),
    ],
)
def test_positions_of_maxima(shape, window, strides, padding, dilation, rng) -> None:
    x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float64)
    y, at = both(lambda v: o.max_pool_with_positions(v, window, strides, padding, dilation), x)
    spatial = x.reshape(shape[0], -1, shape[-1])
    np.testing.assert_array_equal(np.take_along_axis(spatial, at.reshape(shape[0], -1, shape[-1]), 1).reshape(y.shape), y)
    n = y.size
    back = both(lambda v, i: o.max_unpool(v, i, x.size), y, np.arange(n, dtype=np.int64)[::-1].reshape(y.shape).copy())[0]
    np.testing.assert_array_equal(back[:n], y.reshape(-1)[::-1])
    assert not back[n:].any()


def adaptive(x: np.ndarray, sizes: tuple[int, ...], fold) -> np.ndarray:
    for axis, count in enumerate(sizes, 1):
        n = x.shape[axis]
        bins = [slice(floor(i * n / count), ceil((i + 1) * n / count)) for i in range(count)]
        x = np.stack([fold(x[(slice(None),) * axis + (b,)], axis) for b in bins], axis)
    return x


CASES = [((2, 7, 10, 3), (3, 4)), ((1, 5, 2), (7,)), ((2, 4, 6, 5, 1), (2, 1, 5)), ((1, 1, 1, 2), (3, 1))]


@pytest.mark.parametrize(("shape", "sizes"), CASES)
def test_adaptive_pooling(shape, sizes, rng) -> None:
    x = rng.standard_normal(shape)
    assert_close(both(lambda v: o.adaptive_avg_pool(v, sizes), x)[0], adaptive(x, sizes, np.mean), 1e-12)
    assert_close(both(lambda v: o.adaptive_max_pool(v, sizes), x)[0], adaptive(x, sizes, np.max), 0)


@pytest.mark.parametrize(("shape", "sizes"), CASES)
def test_derivatives_of_adaptive_pooling(shape, sizes, rng) -> None:
    x, d = rng.standard_normal(shape), rng.standard_normal(shape)
    for fn, fold in ((o.adaptive_avg_pool, np.mean), (o.adaptive_max_pool, np.max)):
        ct = rng.standard_normal((shape[0], *sizes, shape[-1]))
        (g,) = both(lambda v, c, fn=fn: grad(fn(v, sizes), [v], c), x, ct)
        h = 1e-6
        slope = np.sum(ct * (adaptive(x + h * d, sizes, fold) - adaptive(x - h * d, sizes, fold))) / (2 * h)
        assert abs(np.sum(g * d) - slope) < 1e-6 * max(1, abs(slope))
