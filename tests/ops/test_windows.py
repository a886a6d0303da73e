"""Convolutions, pools and their gradients against JAX's (XLA's)."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.passes.autodiff import grad
from kerogen.runtime.dtype import float32

from ..compare import assert_close
from ..oracle import oracle

jax = oracle("jax")

LETTERS = {1: "W", 2: "HW", 3: "DHW"}
CONVS = [
    ((2, 9, 7, 3), (3, 2, 3, 5), (1, 1), ((1, 1), (0, 1)), (1, 1), 1),
    ((1, 9, 8, 4), (3, 3, 2, 6), (2, 3), ((1, 0), (2, 1)), (1, 1), 2),
    ((2, 11, 3), (3, 3, 4), (2,), ((2, 2),), (3,), 1),
    ((3, 8, 5, 3), (3, 3, 1, 6), (1, 2), ((1, 1), (1, 1)), (2, 1), 3),
    ((1, 4, 5, 3, 2), (2, 3, 2, 2, 3), (1, 2, 1), ((0, 1), (1, 0), (1, 1)), (1, 1, 2), 1),
    ((1, 8, 9, 2), (3, 2, 2, 3), (2, 1), ((-1, 2), (1, -2)), (1, 2), 1),
    ((1, 10, 3), (2, 3, 2), (3,), ((0, 0),), (1,), 1),
]
POOLS = [
    ((2, 7, 9, 3), (2, 3), (2, 3), ((0, 0), (0, 0)), (1, 1)),
    ((1, 6, 5, 2), (3, 3), (1, 2), ((1, 1), (1, 0)), (1, 1)),
    ((2, 11, 3), (3,), (2,), ((1, 2),), (2,)),
    ((1, 4, 5, 6, 2), (2, 2, 3), (2, 1, 3), ((0, 1), (0, 0), (1, 1)), (1, 1, 1)),
]


def run(inputs, outputs, arrays):
    return evaluate(Graph(tuple(inputs), tuple(outputs)), arrays)


def leaves(*arrays):
    return [leaf(f"x{i}", TensorType(a.shape, float32)) for i, a in enumerate(arrays)]


@pytest.mark.parametrize(("x", "w", "strides", "padding", "dilation", "groups"), CONVS, ids=str)
def test_convolution_and_both_gradients(x, w, strides, padding, dilation, groups, rng) -> None:
    letters = LETTERS[len(x) - 2]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")

    def reference(a, b):
        return jax.lax.conv_general_dilated(
            a,
            b,
            strides,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=numbers,
            feature_group_count=groups,
            precision="highest",
        )

    a, b = rng.standard_normal(x).astype(np.float32), rng.standard_normal(w).astype(np.float32)
    expected, pull = jax.vjp(reference, a, b)
    ct = rng.standard_normal(expected.shape).astype(np.float32)
    nodes = leaves(a, b, ct)
    y = o.conv(nodes[0], nodes[1], strides, padding, dilation, groups)
    got = run(nodes, [y, *grad(y, nodes[:2], nodes[2])], [a, b, ct])
    for actual, wanted, what in zip(got, (expected, *pull(ct)), ("y", "dx", "dw")):
        assert_close(actual, np.asarray(wanted), 1e-5, what=what)


def test_transposed_convolution(rng) -> None:
    y, w = rng.standard_normal((2, 4, 3, 5)).astype(np.float32), rng.standard_normal((3, 2, 4, 5)).astype(np.float32)
    expected = jax.lax.conv_transpose(
        y, w, (2, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), transpose_kernel=True, precision="highest"
    )
    got = run([], [o.conv_transpose(y, w, expected.shape[1:3], (2, 1))], [])[0]
    assert_close(got, np.asarray(expected), 1e-5)


@pytest.mark.parametrize(("x", "window", "strides", "padding", "dilation"), POOLS, ids=str)
@pytest.mark.parametrize("name", ["max", "sum"])
def test_pools_and_their_gradients(name, x, window, strides, padding, dilation, rng) -> None:
    """Small integers: many equal maxima, whose gradient goes to the first."""
    a = rng.integers(0, 4, x).astype(np.float32) if name == "max" else rng.standard_normal(x).astype(np.float32)

    def reference(v):
        init, fn = (-np.inf, jax.lax.max) if name == "max" else (0.0, jax.lax.add)
        return jax.lax.reduce_window(
            v, init, fn, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)), window_dilation=(1, *dilation, 1)
        )

    expected, pull = jax.vjp(reference, a)
    ct = rng.standard_normal(expected.shape).astype(np.float32)
    nodes = leaves(a, ct)
    y = (o.max_pool if name == "max" else o.sum_pool)(nodes[0], window, strides, padding, dilation)
    (back,) = grad(y, nodes[:1], nodes[1])
    value, slope = run(nodes, [y, back], [a, ct])
    assert_close(value, np.asarray(expected), 1e-5)
    if name == "max" and any(d > 1 for d in dilation):
        # XLA has no gradient for dilated maxima on ties (it picks by another rule): the mass arrives, at maxima.
        assert_close(slope.sum(), np.float32(ct.sum()), 1e-4)
        return
    assert_close(slope, np.asarray(pull(ct)[0]), 1e-5)


def test_average_pool_counts_only_what_lies_inside(rng) -> None:
    x = rng.standard_normal((2, 5, 6, 3)).astype(np.float32)
    total = np.zeros((2, 3, 3, 3))
    count = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            rows, columns = (
                [r for r in (2 * i - 1, 2 * i, 2 * i + 1) if 0 <= r < 5],
                [c for c in (2 * j, 2 * j + 1, 2 * j + 2) if c < 6],
            )
            total[:, i, j] = x[:, rows][:, :, columns].sum((1, 2))
            count[i, j] = len(rows) * len(columns)
    padding = ((1, 1), (0, 1))
    assert_close(run([], [o.avg_pool(x, 3, 2, padding)], [])[0], (total / count[None, ..., None]).astype(np.float32), 1e-6)
    assert_close(run([], [o.avg_pool(x, 3, 2, padding, count_include_pad=True)], [])[0], (total / 9).astype(np.float32), 1e-6)


def test_nan_is_the_maximum_and_gets_the_gradient() -> None:
    x = np.array([[1.0, 5.0, np.nan, 2.0, np.nan, 9.0]], np.float32).reshape(1, 6, 1)
    (node,) = leaves(x)
    y = o.max_pool(node, 3)
    value, slope = run([node], [y, *grad(o.sum_(y), [node])], [x])
    assert np.isnan(value).all() and slope.reshape(-1).tolist() == [0, 0, 1, 0, 1, 0]
