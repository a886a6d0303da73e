"""Depthwise convolutions and their gradients: every geometry, tails of channels, long sums."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import executable, grad
from kerogen.compiler.schedule.contraction import LanewiseSchedule
from kerogen.runtime.dtype import float32, float64
from kerogen.runtime.executable import Value
from tests.codegen.llvm.machine_code import inner_loops, listing
from tests.codegen.llvm.native import LEVELS, check_program, contractions, target_named
from tests.codegen.llvm.test_gemm import check, inputs_of, rng_of
from tests.compare import assert_close

CONVS = [  # image, spatial kernel, strides, padding, dilation
    ((2, 9, 11, 24), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((1, 10, 13, 33), (3, 3), (2, 2), ((0, 1), (0, 1)), (1, 1)),
    ((1, 7, 7, 160), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((1, 12, 31, 5), (5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1)),
    ((1, 11, 40, 16), (3, 3), (1, 2), ((2, 2), (2, 2)), (2, 2)),
    ((3, 17, 19), (4,), (1,), ((3, 0),), (1,)),
    ((1, 5, 6, 9, 18), (2, 3, 3), (1, 1, 2), ((0, 1), (1, 1), (1, 1)), (1, 1, 1)),
    ((2, 8, 9, 37), (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((1, 9, 12, 20), (3, 1), (1, 1), ((1, 1), (0, 0)), (1, 1)),  # the innermost tap is bounded by the row alone
    ((1, 20, 21, 3), (17, 18), (1, 1), ((0, 0), (0, 0)), (1, 1)),  # 306 terms: folded
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("i", range(len(CONVS)))
def test_depthwise(i: int, level: str) -> None:
    shape, taps, strides, padding, dilation = CONVS[i]
    c = shape[-1]
    x, w, bias = inputs_of(shape, (*taps, 1, c), (c,), roles="ipp")
    y = ops.relu(ops.add(ops.conv(x, w, strides, padding, dilation, groups=c), bias))
    (schedule,) = check([y], [x, w, bias], level, tolerance=3e-5)
    assert isinstance(schedule, LanewiseSchedule)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("i", [0, 2, 3, 5, 7, 8])
def test_gradients(i: int, level: str) -> None:
    shape, taps, strides, padding, dilation = CONVS[i]
    x, w = inputs_of(shape, (*taps, 1, shape[-1]))
    y = ops.conv(x, w, strides, padding, dilation, groups=shape[-1])
    ct = leaf("x2", y.type)
    dx, dw = grad(y, [x, w], ct)
    check([dx], [x, w, ct], level, tolerance=3e-5)
    check([dw], [x, w, ct], level, tolerance=5e-5)


@pytest.mark.parametrize("seed", range(10))
def test_random(seed: int) -> None:
    rng = rng_of("lanewise", seed)
    while True:
        size, kernel = rng.integers(2, 30, 2), rng.integers(2, 6, 2)
        strides, dilation, padding = rng.integers(1, 4, 2), rng.integers(1, 3, 2), rng.integers(0, 4, (2, 2))
        out = (size + padding.sum(1) - (kernel - 1) * dilation - 1) // strides + 1
        if (out > 1).all():
            break
    c = int(rng.integers(2, 150))
    dtype = (float32, float64)[seed % 2]
    x, w, r = inputs_of((2, *map(int, size), c), (*map(int, kernel), 1, c), (2, *map(int, out), c), roles="ipi", dtype=dtype)
    y = ops.conv(x, w, tuple(map(int, strides)), tuple((int(a), int(b)) for a, b in padding), tuple(map(int, dilation)), groups=c)
    check([ops.add(ops.tanh(y), r)], [x, w, r], LEVELS[seed % 3], tolerance=3e-5)


def test_lanewise_products_of_any_kind() -> None:
    """sum over k of a[b, t, k, c] * b[k, c]."""
    a, b = inputs_of((3, 13, 7, 20), (7, 20))
    check([ops.einsum("btkc,kc->btc", a, b)], [a, b], "x86-64-v4")
    check([ops.einsum("kc,btkc->btc", b, a)], [a, b], "x86-64-v3")


def test_free_batch(rng: np.random.Generator) -> None:
    def trace(d):
        x, w = leaf("x", TensorType((d["batch"], 8, 10, 21), float32)), inputs_of((3, 3, 1, 21), roles="p")[0]
        return Graph((x, w), (ops.conv(x, w, 1, 1, groups=21),), name="conv")

    w = rng.standard_normal((3, 3, 1, 21)).astype(np.float32)
    exe = executable(trace, bindings=[Value(w)], name="conv")
    for n in (1, 2, 3, 5):
        x = rng.standard_normal((n, 8, 10, 21)).astype(np.float32)
        assert_close(exe(x), evaluate(trace({"batch": n}), [x, w])[0], 2e-5, what=f"batch {n}")


def test_the_inner_loop() -> None:
    """Between the edges: one load for each element of a row that the tile reads, one for each weight, nothing spilled."""
    x, w = inputs_of((1, 28, 56, 32), (3, 3, 1, 32), roles="ip")
    arrays = [np.zeros(tuple(map(int, n.shape)), np.float32) for n in (x, w)]
    target = target_named("x86-64-v4")
    (call,) = contractions(check_program(Graph((x, w), (ops.conv(x, w, 1, 1, groups=32),)), arrays, target, rng_of(0)))
    rows = call.schedule.rows
    loops = [loop for loop in inner_loops(listing(call.kernel, target, call.schedule)) if sum("vfmadd" in i for i in loop) == 3 * rows]
    assert loops
    for loop in loops:
        assert not any("rsp" in i or "%k" in i for i in loop), loop
        assert sum("zmm" in i and "(" in i for i in loop) == rows + 2 + 3, loop
