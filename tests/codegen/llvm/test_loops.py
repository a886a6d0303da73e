"""The general emitter against the kernel interpreter: kernels by hand, kernels of every op, on every x86-64 level; splits; machine code."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from kerogen.compiler import ops
from kerogen.compiler.codegen.llvm.module import compile_kernel
from kerogen.compiler.ir.graph import Graph, leaf, node
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.kernel import simplify
from kerogen.compiler.kernel.expr import Axis, Load, Ref
from kerogen.compiler.kernel.ir import Buffer, Kernel, Reduce, Store
from kerogen.compiler.kernel.monoid import SUM
from kerogen.compiler.ops import op_classes
from kerogen.compiler.passes.fuse import STEP_KINDS
from kerogen.compiler.pipeline import program_of
from kerogen.compiler.target import Target
from kerogen.runtime.dtype import as_dtype, float32
from tests.codegen.llvm.machine_code import calls_in, inner_loops, listing, undefined_symbols
from tests.codegen.llvm.native import LEVELS, call_native, check_kernel, check_program, fenced, target_named
from tests.codegen.triton.kernels import CASES, gather_kernel, softmax_kernel
from tests.codegen.triton.kernels import arrays as random_arrays

OPS = op_classes()


def rng_of(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def graph_of(outputs, inputs) -> Graph:
    return Graph(tuple(inputs), tuple(outputs), name="g")


def inputs_of(*shapes: tuple[int, ...], dtype=float32):
    return [leaf(f"x{i}", TensorType(s, dtype)) for i, s in enumerate(shapes)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", sorted(CASES))
def test_kernels_by_hand(name: str, level: str) -> None:
    rng = rng_of(name)
    kernel, given = CASES[name](rng)
    check_kernel(kernel, given, target_named(level), rng=rng, tolerance=1e-5)


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 15, 16, 17, 31, 33, 64, 65, 127, 300, 4099])
def test_rows_of_any_length(columns: int) -> None:
    for level in LEVELS:
        kernel, given = random_arrays(rng_of(columns), softmax_kernel(5, columns))
        check_kernel(kernel, given, target_named(level), rng=rng_of(columns))


CLAIMED = Target.named("x86-64-v4").claims
KERNELS = [n for n, op in OPS.items() if op.kind not in (*STEP_KINDS, "result") or hasattr(op, "decompose") and n not in CLAIMED]


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_of_every_op_stay_in_their_arrays(name: str) -> None:
    """Each array ends, or begins, at an unreadable page; units run split and out of order."""
    rng = rng_of(name)
    for s in OPS[name].samples(rng):
        xs = [leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(s.arrays)]
        n = node(s.op, *xs)
        check_program(graph_of(ops.results(n) if n.has_items else [n], xs), s.arrays, target_named("x86-64-v4"), rng, 1e-5)


def reductions(x):
    yield ops.sum_(x, (2,))
    yield ops.sum_(x, (1,))
    yield ops.sum_(x, (0,))
    yield ops.sum_(x, (0, 2))
    yield ops.max_(x, (0, 1, 2))
    yield ops.mean(ops.square(x), (1, 2))
    yield ops.argmax(x, 1)
    yield ops.argmax(x, 2)
    yield ops.var(x, (0, 1))
    yield ops.logsumexp(x, (2,))
    yield ops.prod(ops.add(ops.mul(x, 0.1), 1.0), (2,))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 33, 70), (19, 2, 261), (2, 517, 3), (300, 1, 17)], ids=str)
def test_reductions_along_every_axis(shape: tuple[int, ...], level: str) -> None:
    rng = rng_of(shape)
    (x,) = inputs_of(shape)
    check_program(graph_of(reductions(x), [x]), [rng.standard_normal(shape).astype(np.float32)], target_named(level), rng, 1e-5)


def movements(x, y):
    yield ops.add(ops.transpose(x, (2, 0, 1)), 1.0)
    yield ops.mul(ops.flip(x, (2,)), ops.slice_(y, (0, 0, 0), y.shape))
    yield ops.relu(ops.pad(x, ((1, 0), (2, 1), (0, 3)), 0.5, (0, 1, 2)))
    yield ops.exp(ops.concat([x, y], 1))
    yield ops.slice_(ops.add(x, y), (0, 0, 1), x.shape, (1, 2, 2))
    yield ops.reshape(ops.transpose(ops.sub(x, y), (1, 0, 2)), (-1,))
    yield ops.cast(ops.gt(x, y), float32)
    yield ops.max_pool(ops.reshape(x, (1, *x.shape)), (3, 2), (2, 1), ((1, 1), (0, 1)), (1, 1))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 9, 33), (5, 3, 16), (4, 6, 129)], ids=str)
def test_strides_guards_and_reversals(shape: tuple[int, ...], level: str) -> None:
    rng = rng_of(shape)
    x, y = inputs_of(shape, shape)
    arrays = [rng.standard_normal(shape).astype(np.float32) for _ in range(2)]
    check_program(graph_of(movements(x, y), [x, y]), arrays, target_named(level), rng)


def test_long_sums_are_folded(rng: np.random.Generator) -> None:
    """A sum of 2^20 terms: as exact as pairwise summation; with one chain in each lane the error is 2e-7 to 8e-7."""
    n = 1 << 20
    i, r, read, write = Axis("i0", 3), Axis("r0", n), Buffer("in0", (3 * n,), float32), Buffer("out0", (3,), float32)
    terms = Reduce("s0", (), (r,), SUM, (Load(read, (simplify.add(simplify.mul(i, n), r),)),))
    kernel = Kernel("sum", (read, write), 1, (i,), (terms, Store(write, (), (i,), Ref("s0", (), float32))))
    a = rng.uniform(0, 1, (3, n)).astype(np.float32)
    for level in LEVELS:
        out = check_kernel(kernel, {"in0": a.reshape(-1), "out0": np.zeros(3, np.float32)}, target_named(level), rng=rng)["out0"]
        np.testing.assert_allclose(out, a.astype(np.float64).sum(1), rtol=1.3e-7)
    chain = np.add.accumulate(a, axis=1)[:, -1]  # what one accumulator would give
    assert np.max(np.abs(chain / a.astype(np.float64).sum(1) - 1)) > 3e-6


@pytest.mark.parametrize("level", LEVELS)
def test_an_index_outside_sets_the_error_word(level: str) -> None:
    kernel, target = gather_kernel(), target_named(level)
    rng = rng_of("gather")
    for place, value in ((0, 41), (17, -1), (49, 2**40)):
        ids = rng.integers(0, 41, 50)
        ids[place] = value
        _, given = random_arrays(rng, kernel, ids=ids)
        code = compile_kernel(kernel, None, target, 100)
        memory = [fenced(given[b.name], True) for b in kernel.buffers]
        assert call_native(code, memory) == 103, "the kernel's site 3, counted from the 100 that the call adds"
        expected = given["table"][np.clip(ids, 0, 40)]
        good = np.arange(50) != place
        np.testing.assert_array_equal(memory[2][good], expected[good])


# -- machine code


def pointwise_kernel(n: int):
    x, y = inputs_of((n,), (n,))
    return program_of(graph_of([ops.relu(ops.add(ops.mul(x, y), 0.5))], [x, y]), target_named("x86-64-v4")).calls[0].kernel


@pytest.mark.parametrize(("level", "register"), [("x86-64-v4", "zmm"), ("x86-64-v3", "ymm"), ("x86-64-v2", "xmm")])
def test_the_contiguous_loop_is_full_vectors(level: str, register: str) -> None:
    code = listing(pointwise_kernel(100_003), target_named(level))
    loops = [loop for loop in inner_loops(code) if any("mulps" in i or "fmadd" in i for i in loop)]
    assert loops, code
    main = loops[0]
    assert any(register in i and ("mulps" in i or "fmadd" in i) for i in main), main
    assert not any("gather" in i or "%k" in i or "mulss" in i for i in main), f"masks, gathers or scalars in the main loop: {main}"
    assert len(main) <= 12, main


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["pointwise", "softmax", "layer_norm", "column_sum", "max_pool", "gather", "philox", "scatter_add"])
def test_kernels_call_nothing(name: str, level: str) -> None:
    kernel, _ = CASES[name](rng_of(name))
    target = target_named(level)
    assert not calls_in(listing(kernel, target))
    assert not undefined_symbols(compile_kernel(kernel, None, target).object)
