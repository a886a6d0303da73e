"""Large reductions with few results: in parts, by extents alone, with the results of one kernel."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import executable, program_of
from kerogen.compiler.program.interpret import interpret_program
from kerogen.compiler.target import Target
from kerogen.runtime import threads
from kerogen.runtime.dtype import as_dtype

from ..compare import assert_norm_close, assert_same_bits

CASES = {
    "sum of all": ((512, 515), "float32", lambda x: [o.sum_(x)]),
    "columns": ((10007, 16), "float32", lambda x: [o.sum_(x, (0,)), o.sum_(o.square(x), (0,))]),
    "extremes": ((99991, 3), "float32", lambda x: [o.max_(x), o.min_(x, (0,))]),
    "exponentials": ((99991,), "float32", lambda x: [o.sum_(o.exp(x))]),
    "places": ((99991, 3), "float32", lambda x: [o.argmax(x), o.argmin(x, 0)]),
    "mean of 16 bits": ((300, 1031), "bfloat16", lambda x: [o.mean(x)]),
    "integers": ((99991, 2), "int32", lambda x: [o.sum_(x, (0,)), o.prod(x, (0,))]),
    "channels first": ((5, 2, 30011), "float32", lambda x: [o.mean(x, (0, 2)), o.var(x, (0, 2))]),
    "any": ((200003,), "bool", lambda x: [o.any_(x), o.all_(x)]),
}


def draw(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    if dtype == "bool":
        return rng.uniform(size=shape) < 1e-5
    return rng.integers(-9, 10, shape).astype(dtype) if dtype == "int32" else rng.normal(0.3, 1, shape).astype(as_dtype(dtype).np)


def graph_of(name: str) -> tuple[Graph, np.ndarray]:
    shape, dtype, make = CASES[name]
    x: Node = leaf("x", TensorType(shape, as_dtype(dtype)))
    return Graph((x,), tuple(make(x)), name="g"), draw(shape, dtype)


@pytest.mark.parametrize("name", CASES)
def test_parts_give_the_whole(name: str) -> None:
    graph, a = graph_of(name)
    program = program_of(graph, Target.named("x86-64-v4"))
    assert any(c.kernel.name.endswith("_parts") for c in program.calls), [c.kernel.name for c in program.calls]
    exe = executable(lambda dims: graph, name="g")
    try:
        results = []
        for n in (1, 2):
            threads.set_num_threads(n)
            out = exe(a)
            results.append([np.asarray(r) for r in (out if isinstance(out, (list, tuple)) else [out])])
    finally:
        threads.set_num_threads(None)
    for one, two, interpreted, expected in zip(*results, interpret_program(program, [a.copy()]), evaluate(graph, [a]), strict=True):
        assert_same_bits(one, two)
        for got in (one, interpreted):
            if expected.dtype.kind in "iub":
                np.testing.assert_array_equal(got, expected)
            else:
                assert_norm_close(got, expected, 1e-2 if a.dtype.itemsize == 2 else 1e-5, 1e-5)


@pytest.mark.parametrize(("shape", "axes"), [((100, 16), (0,)), ((4096, 4096), (0,)), ((3000, 515), (1,)), ((0, 16), (0,)), ((70000, 0), (0,))], ids=str)
def test_what_is_small_or_has_many_results_stays_whole(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = leaf("x", TensorType(shape, as_dtype("float32")))
    program = program_of(Graph((x,), (o.sum_(x, axes),), name="g"), Target.named("x86-64-v4"))
    assert len(program.calls) == 1
