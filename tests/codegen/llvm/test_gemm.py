"""The GEMM template: every size against its tile, every form of contraction, epilogues, packing, accuracy, machine code."""

from __future__ import annotations

import zlib
from itertools import product

import numpy as np
import pytest

from kerogen.compiler import ops
from kerogen.compiler.codegen.llvm.module import compile_kernel
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import compile_graph, executable, grad
from kerogen.compiler.schedule.contraction import GemmSchedule
from kerogen.runtime.dtype import DType, float32, float64
from kerogen.runtime.executable import Executable, Value
from tests.codegen.llvm.machine_code import calls_in, inner_loops, listing, undefined_symbols
from tests.codegen.llvm.native import LEVELS, check_program, contractions, target_named
from tests.compare import assert_close


def rng_of(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def inputs_of(*shapes: tuple[int, ...], dtype: DType = float32, roles: str = "") -> list[Node]:
    """``roles``: a letter per input, i(nput), p(arameter) or s(tate)."""
    names = {"i": "input", "p": "parameter", "s": "state"}
    return [leaf(f"x{k}", TensorType(s, dtype), names[roles[k]] if roles else "input") for k, s in enumerate(shapes)]


def check(outputs: list[Node], inputs: list[Node], level: str, count: int = 1, tolerance: float = 1e-5) -> list[GemmSchedule]:
    """Each kernel against the interpreter, the whole graph against ``eval``; ``count`` kernels are the template's. Returns their schedules."""
    rng = rng_of(level, *[tuple(map(int, x.shape)) for x in inputs])
    arrays = [rng.standard_normal(tuple(map(int, x.shape))).astype(x.dtype.np) for x in inputs]
    graph, target = Graph(tuple(inputs), tuple(outputs), name="g"), target_named(level)
    program = check_program(graph, arrays, target, rng, tolerance)
    schedules = [c.schedule for c in contractions(program)]
    assert len(schedules) == count and all(isinstance(s, GemmSchedule) for s in schedules), [c.kernel.name for c in program.calls]
    bound = [Value(a) for a, x in zip(arrays, inputs) if x.op.role != "input"]
    got = Executable(plans=[compile_graph(graph, target=target)], bindings=bound)(*[a for a, x in zip(arrays, inputs) if x.op.role == "input"])
    for y, a, e in zip(outputs, got if isinstance(got, list) else [got], evaluate(graph, arrays)):
        assert_close(a, e, tolerance, what=f"{y} on {level}")
    return schedules


SIZES = [1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 48, 63, 64, 65, 97, 129, 200]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(10))
def test_sizes(seed: int, level: str) -> None:
    """Rows, columns and terms that leave every kind of tail; b as weight (packed in setup), as input (packed in each call)."""
    rng = rng_of("sizes", seed)
    m, n, k = (int(rng.choice(SIZES)) for _ in range(3))
    n = max(n, 2)  # one column is a row sum, which has a vector axis elsewhere
    for role in "pi":
        a, b = inputs_of((m, k), (k, n), roles="i" + role)
        check([ops.matmul(a, b)], [a, b], level)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 33, 17), (1, 512, 784), (7, 1, 19), (1, 1, 301), (13, 17, 1), (2, 2, 2), (5, 100, 257), (19, 31, 1031)])
def test_single_rows_columns_and_terms(m: int, n: int, k: int) -> None:
    for level in LEVELS:
        a, b = inputs_of((m, k), (k, n))
        check([ops.matmul(a, b)], [a, b], level, count=0 if n == 1 else 1, tolerance=3e-5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("order", list(product("nt", "nt")), ids="".join)
def test_transposed_operands(order: tuple[str, str], level: str) -> None:
    m, n, k = 29, 71, 45
    a, b = inputs_of((m, k) if order[0] == "n" else (k, m), (k, n) if order[1] == "n" else (n, k))
    left, right = (x if o == "n" else ops.transpose(x, (1, 0)) for x, o in zip((a, b), order))
    check([ops.matmul(left, right)], [a, b], level)


@pytest.mark.parametrize("level", LEVELS)
def test_batches(level: str) -> None:
    """Batch axes of both operands, of one of them, and attention's (batch, time, head, feature) order."""
    a, b = inputs_of((3, 2, 19, 23), (3, 2, 23, 37))
    check([ops.matmul(a, b)], [a, b], level)
    a, b = inputs_of((5, 7, 23), (23, 37))
    check([ops.matmul(a, b)], [a, b], level)
    q, k = inputs_of((2, 21, 3, 17), (2, 34, 3, 17))
    check([ops.einsum("bqhd,bkhd->bhqk", q, k)], [q, k], level)
    p, v = inputs_of((2, 3, 21, 34), (2, 34, 3, 17))
    check([ops.einsum("bhqk,bkhd->bqhd", p, v)], [p, v], level)


EPILOGUES = {
    "bias": lambda y, bias, r: ops.add(y, bias),
    "relu": lambda y, bias, r: ops.relu(ops.add(y, bias)),
    "residual": lambda y, bias, r: ops.add(ops.relu(ops.add(y, bias)), r),
    "gelu": lambda y, bias, r: ops.gelu(ops.add(y, bias), False),  # too long for the registers: a loop over rows
    "transposed": lambda y, bias, r: ops.mul(ops.transpose(ops.add(y, bias), (1, 0)), 0.5),
    "reshaped": lambda y, bias, r: ops.reshape(ops.tanh(y), (-1,)),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", EPILOGUES)
def test_epilogues(name: str, level: str) -> None:
    """One kernel: the product and what follows it."""
    for m, n, k in ((29, 71, 45), (6, 64, 300), (1, 33, 18)):
        a, b, bias, r = inputs_of((m, k), (k, n), (n,), (m, n))
        y = EPILOGUES[name](ops.matmul(a, b), bias, r)
        check([y], [a, b, bias, r], level, tolerance=2e-5)


def test_epilogues_are_in_the_kernel() -> None:
    a, b, bias, r = inputs_of((29, 45), (45, 71), (71,), (29, 71), roles="ippi")
    for name in ("bias", "relu", "residual", "gelu"):  # transposed, the vector axis runs along the other operand, an input
        y = EPILOGUES[name](ops.matmul(a, b), bias, r)
        plan = compile_graph(Graph((a, b, bias, r), (y,), name=name), target=target_named("x86-64-v4"))
        assert len(plan.steps) == 1, f"{name}: {[s.name for s in plan.steps]}"


CONVS = [  # image, kernel, strides, padding, dilation
    ((2, 9, 11, 3), (3, 3, 3, 20), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((1, 13, 10, 17), (1, 1, 17, 33), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((2, 12, 9, 5), (1, 1, 5, 18), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((1, 23, 19, 3), (7, 7, 3, 16), (2, 2), ((3, 3), (2, 3)), (1, 1)),
    ((2, 14, 11, 4), (3, 2, 4, 9), (1, 2), ((2, 1), (0, 1)), (2, 3)),
    ((1, 8, 8, 40), (3, 3, 40, 65), (1, 1), ((1, 1), (1, 1)), (1, 1)),  # 360 terms: folded
    ((3, 17, 6), (5, 6, 21), (3,), ((2, 2),), (1,)),
    ((1, 5, 6, 4, 3), (2, 3, 2, 3, 17), (1, 1, 2), ((0, 1), (1, 1), (0, 0)), (1, 1, 1)),
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("i", range(len(CONVS)))
def test_convolutions(i: int, level: str) -> None:
    """Forward, with an epilogue."""
    shape, kernel, strides, padding, dilation = CONVS[i]
    x, w, bias = inputs_of(shape, kernel, kernel[-1:], roles="ipp")
    check([ops.relu(ops.add(ops.conv(x, w, strides, padding, dilation), bias))], [x, w, bias], level, tolerance=2e-5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("i", range(len(CONVS)))
def test_convolution_gradients(i: int, level: str) -> None:
    """Both gradients are the template's too."""
    shape, kernel, strides, padding, dilation = CONVS[i]
    x, w = inputs_of(shape, kernel)
    y = ops.conv(x, w, strides, padding, dilation)
    ct = leaf("x2", y.type)
    dx, dw = grad(y, [x, w], ct)
    check([dw], [x, w, ct], level, tolerance=3e-5)
    if shape[-1] > 1:
        check([dx], [x, w, ct], level, tolerance=3e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_dense_gradients(level: str) -> None:
    """x' @ dy sums over the batch: the batch's axis is the contraction's."""
    x, w = inputs_of((37, 45), (45, 71))
    y = ops.matmul(x, w)
    ct = leaf("x2", y.type)
    check(grad(y, [x, w], ct), [x, w, ct], level, count=2)


@pytest.mark.parametrize("level", LEVELS)
def test_float64(level: str) -> None:
    for m, n, k in ((19, 33, 300), (1, 9, 7), (64, 48, 65)):
        a, b, bias = inputs_of((m, k), (k, n), (n,), dtype=float64)
        check([ops.add(ops.matmul(a, b), bias)], [a, b, bias], level, tolerance=1e-13)


def test_accuracy_of_long_sums(rng: np.random.Generator) -> None:
    """rms error against float64 at K = 4608: folded chains are no worse than 1.2 times NumPy's, and far better than one chain."""
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((48, 4608), (4608, 64)))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    x, w = inputs_of(a.shape, b.shape)
    got = Executable(plans=[compile_graph(Graph((x, w), (ops.matmul(x, w),)), target=target_named("x86-64-v4"))])(a, b)

    def rms(y: np.ndarray) -> float:
        return float(np.sqrt(np.mean((y - exact) ** 2) / np.mean(exact**2)))

    one_chain = np.zeros(exact.shape, np.float32)
    for k in range(a.shape[1]):
        one_chain += a[:, k, None] * b[k]
    assert rms(got) <= 1.2 * rms(a @ b), f"{rms(got):.3g}, NumPy {rms(a @ b):.3g}"
    assert rms(got) <= 0.5 * rms(one_chain), f"{rms(got):.3g}, one chain {rms(one_chain):.3g}"


# -- packing


def test_weights_are_packed_once_per_version(rng: np.random.Generator) -> None:
    """A weight's panels are made by a setup call, anew when its version changes; an input's in every call."""
    arrays = {s: rng.standard_normal(s).astype(np.float32) for s in ((70, 301), (301, 130))}
    for role, setup in (("p", 1), ("i", 0)):
        a, b = inputs_of(*arrays, roles="i" + role)
        plan = compile_graph(Graph((a, b), (ops.matmul(a, b),)), target=target_named("x86-64-v4"))
        assert (len(plan.setup), len(plan.steps)) == (setup, 2 - setup), [s.name for s in (*plan.setup, *plan.steps)]
    x, w = arrays.values()
    a, b = inputs_of(*arrays, roles="ip")
    weight = Value(w.copy())
    exe = Executable(plans=[compile_graph(Graph((a, b), (ops.matmul(a, b),)))], bindings=[weight])
    for _ in range(3):
        assert_close(exe(x), x @ w, 2e-5)
    assert exe.stats()["setup_steps_run"] == 1
    weight.array[...] = w = rng.standard_normal(w.shape).astype(np.float32)
    weight.version += 1
    assert_close(exe(x), x @ w, 2e-5)
    assert exe.stats()["setup_steps_run"] == 2


def test_one_packed_copy_serves_two_readers() -> None:
    x, z, w = inputs_of((70, 301), (90, 301), (301, 130), roles="iip")
    plan = compile_graph(Graph((x, z, w), (ops.matmul(x, w), ops.matmul(z, w))), target=target_named("x86-64-v4"))
    assert len(plan.setup) == 1 and len(plan.steps) == 2


# -- free sizes


BATCHES = [1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 31, 33, 40, 64, 65, 100, 128, 200]


def dense(d) -> Graph:
    x, w, b = leaf("x", TensorType((d["batch"], 45), float32)), *inputs_of((45, 71), (71,), roles="pp")
    return Graph((x, w, b), (ops.relu(ops.add(ops.matmul(x, w), b)),), name="dense")


def attention(d) -> Graph:
    q, k = (leaf(n, TensorType((d["batch"], d["time"], 3, 17), float32)) for n in "qk")
    return Graph((q, k), (ops.einsum("bqhd,bkhd->bhqk", q, k),), name="scores")


def gradient(d) -> Graph:
    x, ct = leaf("x", TensorType((d["batch"], 45), float32)), leaf("ct", TensorType((d["batch"], 71), float32))
    (w,) = inputs_of((45, 71), roles="p")
    return Graph((x, ct, w), tuple(grad(ops.matmul(x, w), [w, x], ct)), name="gradient")


def images(exe: Executable) -> dict[str, set[str]]:
    """Distinct objects by kernel name, over all plans."""
    out: dict[str, set[str]] = {}
    for plan in exe.plans:
        for step in (*plan.setup, *plan.steps):
            out.setdefault(step.name, set()).add(step.image)
    return out


@pytest.mark.parametrize("trace", [dense, gradient])
def test_free_batch(trace, rng: np.random.Generator) -> None:
    """One row, few rows, many rows: at most three objects; the batch may be the rows or the terms."""
    ports = trace({"batch": 1})
    bound = [rng.standard_normal(x.shape).astype(np.float32) for x in ports.inputs if x.op.role == "parameter"]
    exe = executable(trace, bindings=[Value(a) for a in bound], name=trace.__name__)
    for n in BATCHES:
        graph = trace({"batch": n})
        feeds = [rng.standard_normal(x.shape).astype(np.float32) for x in graph.inputs if x.op.role == "input"]
        got = exe(*feeds)
        for a, e in zip(got if isinstance(got, list) else [got], evaluate(graph, [*feeds, *bound])):
            assert_close(a, e, 2e-5, what=f"batch {n}")
    for name, objects in images(exe).items():
        assert len(objects) <= 3, f"{name}: {len(objects)} objects for {len(BATCHES)} batch sizes"


def test_two_free_sizes(rng: np.random.Generator) -> None:
    exe = executable(attention, name="attention")
    for b, t in ((1, 1), (1, 7), (2, 16), (3, 33), (5, 2), (2, 64), (4, 5)):
        feeds = [rng.standard_normal((b, t, 3, 17)).astype(np.float32) for _ in range(2)]
        assert_close(exe(*feeds), np.einsum("bqhd,bkhd->bhqk", *feeds), 2e-5, what=f"batch {b}, time {t}")


# -- machine code


def gemm_call(m: int, n: int, k: int, level: str):
    a, b = inputs_of((m, k), (k, n), roles="ip")
    rng = rng_of(m, n, k)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n))]
    (call,) = contractions(check_program(Graph((a, b), (ops.matmul(a, b),)), arrays, target_named(level), rng, 2e-5))
    return call


@pytest.mark.parametrize(("level", "register"), [("x86-64-v4", "zmm"), ("x86-64-v3", "ymm")])
def test_the_inner_loop(level: str, register: str) -> None:
    """One FMA per accumulator on full registers, one load per column vector, nothing spilled."""
    call = gemm_call(96, 128, 200, level)
    target, schedule = target_named(level), call.schedule
    text = listing(call.kernel, target, schedule)
    main = max(inner_loops(text), key=lambda loop: sum("vfmadd" in i for i in loop))
    fmas = [i for i in main if "vfmadd" in i]
    assert len(fmas) % (schedule.rows * schedule.vectors) == 0 and all(register in i for i in fmas), main
    assert schedule.rows * schedule.vectors >= (20 if level == "x86-64-v4" else 8)
    assert not any("rsp" in i or "gather" in i or "%k" in i or "call" in i for i in main), f"spills, gathers or masks: {main}"
    assert len(main) <= 2 * len(fmas), f"{len(main)} instructions for {len(fmas)} FMAs: {main}"
    assert not calls_in(text) and not undefined_symbols(compile_kernel(call.kernel, schedule, target).object)
