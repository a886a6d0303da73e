"""Sampling at computed points: jax.scipy.ndimage as oracle, derivatives by finite differences."""

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.passes.autodiff import grad
from kerogen.compiler.pipeline import compile_graph
from kerogen.runtime.dtype import as_dtype
from kerogen.runtime.errors import ArgumentError, ShapeError
from kerogen.runtime.executable import Executable

from ..compare import assert_close
from ..oracle import oracle

JAX = {"constant": "constant", "border": "nearest", "wrap": "wrap", "mirror": "mirror", "reflect": "reflect"}


def compiled(fn, *arrays: np.ndarray) -> list[np.ndarray]:
    xs = tuple(leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(arrays))
    graph = Graph(xs, tuple(fn(*xs)))
    out = Executable(plans=[compile_graph(graph)])(*arrays)
    out = out if isinstance(out, list) else [out]
    for a, e in zip(out, evaluate(graph, list(arrays))):
        assert_close(a, e, 1e-12)
    return out


@pytest.mark.parametrize("boundary", JAX)
@pytest.mark.parametrize("method", ["nearest", "linear"])
@pytest.mark.parametrize("shape", [(7,), (5, 4), (3, 1, 6)])
def test_map_coordinates_is_jax(boundary, method, shape, rng) -> None:
    jax = oracle("jax")
    from jax.scipy.ndimage import map_coordinates

    x = rng.standard_normal(shape)
    points = [rng.uniform(-1.6 * n, 2.6 * n, (4, 9)) for n in shape]
    (y,) = compiled(lambda v, *p: [o.map_coordinates(v, p, method, boundary, 0.75)], x, *points)
    with jax.enable_x64(True):
        expected = map_coordinates(x, points, int(method == "linear"), JAX[boundary], 0.75)
    assert_close(y, np.asarray(expected), 1e-10)


@pytest.mark.parametrize("boundary", JAX)
@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_derivatives_by_image_and_points(boundary, method, rng) -> None:
    x, points = rng.standard_normal((2, 5, 4, 3)), rng.uniform(-3, 8, (2, 6, 2))
    points += 0.15 * (np.abs(points - np.round(points)) < 0.1)  # away from the kinks at whole numbers
    ct, dx, dp = rng.standard_normal((2, 6, 3)), rng.standard_normal(x.shape), rng.standard_normal(points.shape)
    gx, gp = compiled(lambda v, p, c: grad(o.sample(v, p, method, boundary, 0.5), [v, p], c), x, points, ct)

    def loss(h: float) -> float:
        leaves = leaf("x", TensorType(x.shape, as_dtype("float64"))), leaf("p", TensorType(points.shape, as_dtype("float64")))
        graph = Graph(leaves, (o.sample(*leaves, method, boundary, 0.5),))
        return float(np.sum(ct * evaluate(graph, [x + h * dx, points + h * dp])[0]))

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert abs(np.sum(gx * dx) + np.sum(gp * dp) - slope) < 1e-6 * max(1, abs(slope))


def test_points_that_are_no_numbers_read_nothing_outside(rng) -> None:
    x = rng.standard_normal((1, 3, 2, 2))
    points = np.array([[[np.nan, 0.0], [np.inf, 1.0], [-1e300, 0.5], [1.0, 1.0]]])
    (y,) = compiled(lambda v, p: [o.sample(v, p, "nearest", "constant", 9.0)], x, points)
    np.testing.assert_array_equal(y[0, :3], 9.0)
    np.testing.assert_array_equal(y[0, 3], x[0, 1, 1])


def test_errors() -> None:
    x, p = leaf("x", TensorType((1, 4, 4, 2), as_dtype("float32"))), leaf("p", TensorType((1, 5, 2), as_dtype("float32")))
    with pytest.raises(ArgumentError, match="'bilinear' of nearest, linear"):
        o.sample(x, p, "bilinear")
    with pytest.raises(ShapeError, match=r"at points \(N, \*out, 2\)"):
        o.sample(x, leaf("q", TensorType((1, 5, 3), as_dtype("float32"))))
    with pytest.raises(ShapeError, match="needs 2 arrays of one shape"):
        o.map_coordinates(leaf("y", TensorType((4, 4), as_dtype("float32"))), [p])
