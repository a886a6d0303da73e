"""Convolutions over images stored without their border, and their gradients: every bound on a tap, every kind of edge tile."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import compile_graph, executable, grad
from kerogen.compiler.schedule.contraction import DirectSchedule, segments
from kerogen.runtime.dtype import float32
from kerogen.runtime.executable import Value
from tests.codegen.llvm.native import LEVELS, target_named
from tests.codegen.llvm.test_gemm import check, inputs_of, rng_of
from tests.compare import assert_close

CONVS = [  # image, kernel, strides, padding, dilation
    ((2, 9, 11, 3), (3, 3, 3, 20), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((1, 23, 37, 3), (7, 7, 3, 16), (2, 2), ((3, 3), (2, 3)), (1, 1)),
    ((2, 14, 11, 4), (3, 2, 4, 9), (1, 2), ((2, 1), (0, 1)), (2, 3)),
    ((1, 7, 7, 40), (3, 3, 40, 65), (1, 1), ((1, 1), (1, 1)), (1, 1)),  # 360 terms: folded; both edges in one tile
    ((3, 17, 6), (5, 6, 21), (3,), ((2, 2),), (1,)),
    ((1, 5, 6, 4, 3), (2, 3, 2, 3, 17), (1, 1, 2), ((0, 1), (1, 1), (1, 0)), (1, 1, 1)),
    ((1, 5, 31, 2), (3, 9, 2, 24), (1, 1), ((0, 0), (4, 4)), (1, 1)),
    ((2, 4, 3, 5), (3, 3, 5, 17), (1, 1), ((4, 3), (3, 2)), (1, 1)),  # rows and columns of nothing but border
    ((1, 16, 30, 5), (3, 3, 5, 40), (1, 1), ((5, 6), (5, 5)), (5, 5)),
    ((1, 12, 9, 4), (3, 3, 4, 8), (2, 1), ((-1, 2), (1, -2)), (1, 1)),  # cropped on one side
    ((1, 6, 20, 300), (1, 3, 300, 33), (1, 1), ((0, 0), (1, 1)), (1, 1)),  # each tap longer than a chain
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("i", range(len(CONVS)))
def test_borders(i: int, level: str) -> None:
    shape, kernel, strides, padding, dilation = CONVS[i]
    x, w, bias = inputs_of(shape, kernel, kernel[-1:], roles="ipp")
    y = ops.relu(ops.add(ops.conv(x, w, strides, padding, dilation), bias))
    (schedule,) = check([y], [x, w, bias], level, tolerance=5e-5)
    assert isinstance(schedule, DirectSchedule)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("i", range(len(CONVS)))
def test_gradients(i: int, level: str) -> None:
    shape, kernel, strides, padding, dilation = CONVS[i]
    x, w = inputs_of(shape, kernel)
    y = ops.conv(x, w, strides, padding, dilation)
    ct = leaf("x2", y.type)
    dx, dw = grad(y, [x, w], ct)
    check([dw], [x, w, ct], level, tolerance=3e-5)
    check([dx], [x, w, ct], level, tolerance=3e-5)


@pytest.mark.parametrize("seed", range(12))
def test_random(seed: int) -> None:
    """Any geometry that leaves a window."""
    rng = rng_of("direct", seed)
    while True:
        rank = int(rng.integers(1, 3))
        size, kernel = rng.integers(2, 24, rank), rng.integers(2, 6, rank)
        strides, dilation, padding = rng.integers(1, 4, rank), rng.integers(1, 4, rank), rng.integers(0, 5, (rank, 2))
        out = (size + padding.sum(1) - (kernel - 1) * dilation - 1) // strides + 1
        if (out > 1).all() and padding[-1].any():
            break
    c, o = int(rng.integers(2, 20)), int(rng.integers(2, 70))
    x, w, r = inputs_of((2, *map(int, size), c), (*map(int, kernel), c, o), (2, *map(int, out), o), roles="ipi")
    y = ops.conv(x, w, tuple(map(int, strides)), tuple((int(a), int(b)) for a, b in padding), tuple(map(int, dilation)))
    check([ops.add(ops.gelu(y, False), r)], [x, w, r], LEVELS[seed % 3], tolerance=3e-5)


def test_zeros_around_an_image_are_its_border() -> None:
    """No step makes the padded image, and a residual is added in the convolution's kernel."""
    x, w, r = inputs_of((1, 9, 12, 16), (3, 3, 16, 24), (1, 5, 6, 24), roles="ipi")
    y = ops.add(ops.conv(ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), w, 2), r)
    plan = compile_graph(Graph((x, w, r), (y,), name="g"), target=target_named("x86-64-v4"))
    assert len(plan.steps) == 1, [s.name for s in plan.steps]
    check([y], [x, w, r], "x86-64-v4", tolerance=2e-5)


def test_free_batch(rng: np.random.Generator) -> None:
    def trace(d):
        x, w = leaf("x", TensorType((d["batch"], 8, 10, 5), float32)), inputs_of((3, 3, 5, 18), roles="p")[0]
        return Graph((x, w), (ops.relu(ops.conv(x, w, 1, 1)),), name="conv")

    w = rng.standard_normal((3, 3, 5, 18)).astype(np.float32)
    exe = executable(trace, bindings=[Value(w)], name="conv")
    for n in (1, 2, 3, 5, 9):
        x = rng.standard_normal((n, 8, 10, 5)).astype(np.float32)
        assert_close(exe(x), evaluate(trace({"batch": n}), [x, w])[0], 2e-5, what=f"batch {n}")
    assert len({s.image for p in exe.plans for s in p.steps}) <= 2


def test_segments() -> None:
    for extent in range(1, 70):
        for rows in range(1, 17):
            tiles = segments(extent, rows)
            assert [a for a, _ in tiles] == [0, *np.cumsum([n for _, n in tiles])[:-1]] and sum(n for _, n in tiles) == extent
            assert max(n for _, n in tiles) <= rows and max(n for _, n in tiles) - min(n for _, n in tiles) <= 1
