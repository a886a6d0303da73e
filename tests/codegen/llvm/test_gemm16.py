"""16-bit floats through the templates: summed in float32, weights converted as they are loaded."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph
from kerogen.compiler.pipeline import compile_graph
from kerogen.runtime.dtype import DType, as_dtype
from kerogen.runtime.executable import Executable, Value
from tests.codegen.llvm.native import LEVELS, check_program, contractions, target_named
from tests.codegen.llvm.test_gemm import inputs_of, rng_of
from tests.compare import assert_close

TYPES = [as_dtype("bfloat16"), as_dtype("float16")]


def check16(y, inputs, level: str) -> None:
    """As ``test_gemm.check``; results of one rounding differ by at most the last bit."""
    rng = rng_of(level, *[tuple(map(int, x.shape)) for x in inputs])
    arrays = [rng.standard_normal(tuple(map(int, x.shape))).astype(np.float32).astype(x.dtype.np) for x in inputs]
    graph, target = Graph(tuple(inputs), (y,), name="g"), target_named(level)
    assert len(contractions(check_program(graph, arrays, target, rng))) == 1
    bound = [Value(a) for a, x in zip(arrays, inputs) if x.op.role != "input"]
    got = Executable(plans=[compile_graph(graph, target=target)], bindings=bound)(*[a for a, x in zip(arrays, inputs) if x.op.role == "input"])
    (expected,) = evaluate(graph, arrays)
    assert_close(got.astype(np.float32), expected.astype(np.float32), 1e-2 if y.dtype is TYPES[0] else 2e-3)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_products(dtype: DType, level: str) -> None:
    for m, n, k in ((37, 71, 45), (1, 130, 300), (5, 33, 19), (64, 48, 600)):
        for roles in ("ip", "ii"):
            if m == 1 and roles == "ii":
                continue
            a, b = inputs_of((m, k), (k, n), roles=roles, dtype=dtype)
            check16(ops.relu(ops.matmul(a, b)), [a, b], level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("groups", [1, 2, 24])
def test_convolutions(groups: int, level: str) -> None:
    x, w = inputs_of((1, 9, 14, 24), (3, 3, 24 // groups, 24), roles="ip", dtype=TYPES[0])
    check16(ops.conv(x, w, 1, 1, groups=groups), [x, w], level)


def test_an_operand_is_widened_once() -> None:
    x, w, v = inputs_of((64, 96), (96, 80), (96, 48), roles="ipp", dtype=TYPES[0])
    plan = compile_graph(Graph((x, w, v), (ops.matmul(x, w), ops.matmul(x, v))), target=target_named("x86-64-v4"))
    assert sorted(s.name for s in plan.steps) == ["dotgeneral", "dotgeneral", "widen"]


@pytest.mark.parametrize("n", [17, 33, 15])
def test_one_lane_is_stored_as_one_element(n: int, rng: np.random.Generator) -> None:
    """The tail of a row of 16-bit results, at the end of readable memory (LLVM 22 would write four bytes for one lane of two)."""
    (x,) = inputs_of((3, n), dtype=TYPES[0])
    a = rng.standard_normal((3, n)).astype(TYPES[0].np)
    check_program(Graph((x,), (ops.softmax(ops.mul(x, 0.5)),)), [a], target_named("x86-64-v4"), rng)
    check_program(Graph((x,), (ops.exp(x),)), [a], target_named("x86-64-v4"), rng)
