"""Grouped convolutions, and strided gradients and transposed convolutions: dense sums after ``kernel.split``."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops
from kerogen.compiler.ir.graph import Graph, Input, leaf
from kerogen.compiler.kernel.interp import run_kernel
from kerogen.compiler.kernel.ir import Contract, Kernel
from kerogen.compiler.kernel.split import split_axes
from kerogen.compiler.passes.fuse import fuse
from kerogen.compiler.passes.lower import lower_group
from kerogen.compiler.pipeline import grad, program_of
from kerogen.compiler.schedule.contraction import LanewiseSchedule
from tests.codegen.llvm.native import LEVELS, target_named
from tests.codegen.llvm.test_gemm import check, inputs_of, rng_of
from tests.compare import assert_close


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("shape", "kernel", "groups", "stride"), [
    ((1, 9, 11, 24), (3, 3, 8, 24), 3, 1),
    ((2, 8, 13, 10), (3, 2, 5, 34), 2, 2),
    ((1, 7, 7, 12), (1, 1, 3, 16), 4, 1),
    ((2, 19, 6), (5, 3, 40), 2, 1),
])
def test_groups(shape, kernel, groups: int, stride: int, level: str) -> None:
    x, w, bias = inputs_of(shape, kernel, kernel[-1:], roles="ipp")
    y = ops.relu(ops.add(ops.conv(x, w, stride, 1 if kernel[0] > 1 else 0, groups=groups), bias))
    check([y], [x, w, bias], level, tolerance=2e-5)


STRIDED = [  # image, kernel, strides, padding
    ((1, 12, 14, 5), (3, 3, 5, 18), (2, 2), ((1, 1), (1, 1))),
    ((2, 11, 13, 4), (3, 3, 4, 7), (2, 2), ((1, 1), (1, 0))),  # odd sizes: cut off
    ((1, 16, 10, 6), (4, 4, 6, 9), (2, 2), ((1, 1), (1, 1))),
    ((1, 10, 17, 3), (5, 5, 3, 20), (2, 3), ((2, 2), (1, 2))),
    ((1, 9, 12, 6), (2, 2, 6, 40), (2, 2), ((0, 1), (0, 0))),
    ((2, 23, 6), (7, 6, 21), (4,), ((3, 3),)),
    ((1, 6, 14, 8), (3, 3, 8, 16), (1, 2), ((1, 1), (0, 1))),
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("i", range(len(STRIDED)))
def test_strided_gradients(i: int, level: str) -> None:
    shape, kernel, strides, padding = STRIDED[i]
    x, w = inputs_of(shape, kernel)
    y = ops.conv(x, w, strides, padding)
    ct, r = leaf("x2", y.type), leaf("x3", x.type)
    (dx,) = grad(y, [x], ct)
    check([ops.tanh(ops.add(dx, r))], [x, w, ct, r], level, tolerance=3e-5)


def test_no_term_is_multiplied_by_zero() -> None:
    """A transposed 4x4 convolution of stride 2 sums 2x2 taps for each pixel, in one kernel with its epilogue."""
    u, w, bias = inputs_of((1, 8, 9, 20), (4, 4, 24, 20), (24,), roles="ipp")
    y = ops.relu(ops.add(ops.conv_transpose(u, w, (16, 18), 2, 1), bias))
    program = program_of(Graph((u, w, bias), (y,)), target_named("x86-64-v4"))
    (call,) = program.calls
    (contract,) = (s for s in call.kernel.stages if isinstance(s, Contract))
    assert call.schedule is not None and sorted(int(a.extent) for a in contract.over) == [2, 2, 20]


@pytest.mark.parametrize("level", LEVELS)
def test_strided_depthwise_gradient(level: str) -> None:
    x, w = inputs_of((1, 12, 14, 37), (3, 3, 1, 37))
    y = ops.conv(x, w, 2, 1, groups=37)
    ct = leaf("x2", y.type)
    (dx,) = grad(y, [x], ct)
    (schedule,) = check([dx], [x, w, ct], level, tolerance=3e-5)
    assert isinstance(schedule, LanewiseSchedule)


def lowered(graph: Graph) -> list[Kernel]:
    """The kernels before storage is chosen."""
    partition = fuse(graph)
    return [lower_group(g, lambda n: isinstance(n.op, Input) or n in partition.of).kernel for g in partition.groups]


@pytest.mark.parametrize("seed", range(8))
def test_split_kernels_mean_the_same(seed: int) -> None:
    """The interpreter on kernels as lowered and as split, random strides, sizes and groups."""
    rng = rng_of("split", seed)
    s, k = int(rng.integers(2, 5)), int(rng.integers(4, 7))
    n, low, high = int(rng.integers(2, 9)), int(rng.integers(0, 3)), int(rng.integers(0, 3))
    extra = int(rng.integers(0, s))
    groups = int(rng.integers(1, 3))
    while ((n - 1) * s + k - low - high + extra) % s:
        extra = (extra + 1) % s
    size = (n - 1) * s + k - low - high + extra
    u, w = inputs_of((2, n, 8 * groups), (k, 4, 8 * groups))
    (call,) = lowered(Graph((u, w), (ops.conv_transpose(u, w, (size,), s, ((low, high),), groups=groups),)))
    new = split_axes(call)
    assert new is not call
    arrays = {b.name: rng.standard_normal(tuple(map(int, b.shape))).astype(np.float32) for b in call.buffers}
    other = {name: a.copy() for name, a in arrays.items()}
    run_kernel(call, arrays)
    run_kernel(new, other)
    for b in call.writes:
        assert_close(other[b.name], arrays[b.name], 1e-6)
