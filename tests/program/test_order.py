"""Donated memory: every hazard gives the same state as fresh memory would, natively and interpreted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import compile_graph, program_of
from kerogen.compiler.program.interpret import interpret_program
from kerogen.compiler.target import Target
from kerogen.runtime.dtype import float32, int32
from kerogen.runtime.errors import IndexRangeError
from kerogen.runtime.executable import Executable, Value

from ..compare import assert_close, assert_same_bits
from ..oracle import oracle

N = 37


def state(name: str, *shape: int):
    return leaf(name, TensorType(shape, float32), "state")


def given(name: str, *shape: int, dtype=float32):
    return leaf(name, TensorType(shape, dtype))


def swap():
    p, q = state("p", N, N), state("q", N, N)
    return (p, q), (q, p), ((0, 0), (1, 1))


def rotate():
    p, q, r = (state(n, N, 5) for n in "pqr")
    return (p, q, r), (q, r, p), ((0, 0), (1, 1), (2, 2))


def cross():
    """p' = p + q, q' = p * q: each reads both old values."""
    p, q = state("p", N, N), state("q", N, N)
    return (p, q), (o.add(p, q), o.mul(p, q)), ((0, 0), (1, 1))


def transposed():
    p = state("p", N, N)
    return (p,), (o.add(o.transpose(p, (1, 0)), 1.0),), ((0, 0),)


def reversed_():
    p = state("p", N, 3)
    return (p,), (o.add(o.flip(p, (0,)), 1.0),), ((0, 0),)


def shifted():
    p = state("p", 1001)
    return (p,), (o.sub(p, o.concat([o.slice_(p, (1,), (1001,)), o.slice_(p, (0,), (1,))], 0)),), ((0, 0),)


def own_rows():
    """A row kernel that reads its row again after it wrote a part."""
    p = state("p", N, 53)
    return (p,), (o.softmax(p, -1),), ((0, 0),)


def centred():
    p = state("p", N, 53)
    return (p,), (o.sub(p, o.mean(p, (0,), True)),), ((0, 0),)


def product():
    p = state("p", N, N)
    return (p,), (o.mul(o.matmul(p, p), 0.1),), ((0, 0),)


def weights():
    """x' g joins the old weight: the contraction writes where it reads, at its own index."""
    p, x, g = state("p", 45, 33), given("x", N, 45), given("g", N, 33)
    return (p, x, g), (o.sub(p, o.mul(o.matmul(o.transpose(x, (1, 0)), g), 0.01)),), ((0, 0),)


def scattered():
    p, i, u = state("p", 11, 5), given("i", N, dtype=int32), given("u", N, 5)
    return (p, i, u), (o.scatter_add(p, i, u, 0),), ((0, 0),)


def gathered():
    p, i = state("p", 11, 5), given("i", 11, dtype=int32)
    return (p, i), (o.add(o.take(p, i, 0), 1.0),), ((0, 0),)


def old_and_new():
    """The old value and the new one are both asked for beside the update."""
    p, x = state("p", N, 5), given("x", N, 5)
    new = o.add(p, x)
    return (p, x), (new, o.sum_(p, (0,)), o.exp(new), p), ((0, 0),)


def momentum():
    p, m, g = state("p", N, 5), state("m", N, 5), given("g", N, 5)
    m2 = o.add(o.mul(m, 0.9), g)
    return (p, m, g), (o.sub(p, o.mul(m2, 0.1)), m2), ((0, 0), (1, 1))


def new_first():
    """The first result overwrites what the second one, in the same kernel, still reads."""
    p, m, g = state("p", N, 5), state("m", N, 5), given("g", N, 5)
    m2 = o.mul(g, 2.0)
    return (p, m, g), (o.sub(p, o.mul(m2, m)), m2), ((0, 0), (1, 1))


def new_first_rows():
    """As ``new_first``, in lanes, tails and a long loop."""
    p, m, g = state("p", 20_003), state("m", 20_003), given("g", 20_003)
    m2, q = o.exp(g), state("q", 20_003)
    p2 = o.sub(p, o.mul(m2, m))
    return (p, m, q, g), (p2, m2, o.add(o.mul(p2, q), o.mul(m, p))), ((0, 0), (1, 1), (2, 2))


def momentum_of_the_other():
    """p' takes the old m at another index."""
    p, m = state("p", N, N), state("m", N, N)
    return (p, m), (o.sub(p, o.transpose(m, (1, 0))), o.mul(m, 0.9)), ((0, 0), (1, 1))


def kept():
    p, x = state("p", N, 5), given("x", N, 5)
    return (p, x), (p, o.mul(p, x)), ((0, 0),)


def constant():
    p = state("p", 7, 5)
    return (p,), (o.constant(np.arange(35, dtype=np.float32).reshape(7, 5)), o.sum_(p)), ((0, 0),)


def twice_given():
    """One new value for two states."""
    p, q = state("p", N, 5), state("q", N, 5)
    new = o.add(p, q)
    return (p, q), (new, new), ((0, 0), (1, 1))


def reshaped():
    p = state("p", 6, 10)
    return (p,), (o.reshape(o.transpose(o.reshape(p, (10, 6)), (1, 0)), (6, 10)),), ((0, 0),)


CASES: dict[str, Callable] = {f.__name__: f for f in (
    swap, rotate, cross, transposed, reversed_, shifted, own_rows, centred, product, weights, scattered, gathered, old_and_new, momentum, new_first,
    new_first_rows, momentum_of_the_other, kept, constant, twice_given, reshaped)}


def arrays_of(graph: Graph, rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.standard_normal(x.shape).astype(np.float32) if x.dtype.is_float else rng.integers(0, 11, x.shape).astype(np.int32) for x in graph.inputs]


def calls_of(name: str, rng: np.random.Generator) -> tuple[Graph, list[np.ndarray], list[int], list[list[np.ndarray]]]:
    """A case's graph, its arrays at the start, the numbers of its states, and what three calls in a row give."""
    inputs, outputs, aliases = CASES[name]()
    graph = Graph(inputs, outputs, aliases, name=name)
    start = arrays_of(graph, rng)
    states = [i for i, x in enumerate(inputs) if x.op.role == "state"]

    expected, now = [], [a.copy() for a in start]
    for _ in range(3):
        expected.append(evaluate(graph, now))
        for out, i in aliases:
            now[i] = expected[-1][out].copy()
    return graph, start, states, expected


@pytest.mark.parametrize("name", CASES)
def test_donation_interpreted(name: str, rng: np.random.Generator) -> None:
    """Three calls of the kernels' naive meaning; one as Triton source."""
    graph, start, _, expected = calls_of(name, rng)
    memory = [a.copy() for a in start]
    program = program_of(graph, Target.host())
    for want in expected:
        for k, (a, e) in enumerate(zip(interpret_program(program, memory), want)):
            assert_close(a, e, 1e-4, what=f"{name}: interpreted output {k}")
    oracle("triton")
    from kerogen.compiler.codegen.triton.interpreter import interpret_program as triton_program

    memory = [a.copy() for a in start]
    program = program_of(graph, replace(Target.host(), arch="cuda"))
    for k, (a, e) in enumerate(zip(triton_program(program, memory), expected[0])):
        assert_close(a, e, 1e-4, what=f"{name}: output {k} by Triton")


@pytest.mark.parametrize("name", CASES)
def test_donation_native(name: str, rng: np.random.Generator) -> None:
    """Three calls in a row, with 1 and with 2 threads."""
    graph, start, states, expected = calls_of(name, rng)
    aliases = graph.aliases
    for threads in (1, 2):
        values = [Value(start[i].copy()) for i in states]
        exe = Executable(plans=[compile_graph(graph)], bindings=values)
        for want in expected:
            got = exe(*[a for i, a in enumerate(start) if i not in states], threads=threads)
            for k, (a, e) in enumerate(zip(got if isinstance(got, list) else [got], want)):
                assert_close(a, e, 1e-4, what=f"{name}: output {k} with {threads} threads")
            for out, i in aliases:
                assert_close(values[states.index(i)].array, want[out], 1e-4, what=f"{name}: state {i} with {threads} threads")


@pytest.mark.parametrize(("name", "copies"), [("momentum", 0), ("weights", 0), ("cross", 1), ("own_rows", 1), ("transposed", 1), ("centred", 0)])
def test_a_copy_only_where_one_is_needed(name: str, copies: int) -> None:
    """Updates at their own index are written where the old value lies. (``cross`` is two kernels, each of which reads both old values.)"""
    inputs, outputs, aliases = CASES[name]()
    program = program_of(Graph(inputs, outputs, aliases, name=name), Target.host())
    made = [c for c in program.calls if c.kernel.name == "copy"]
    assert len(made) <= copies, [c.kernel.name for c in program.calls]


def test_donated_writes_come_last(rng: np.random.Generator) -> None:
    """A failed check leaves the state as it was, and its version."""
    p, x, i = state("p", N, 5), given("x", N, 5), given("i", 9, dtype=int32)
    graph = Graph((p, x, i), (o.add(p, x), o.exp(o.take(x, i, 0))), ((0, 0),), name="g")
    calls = program_of(graph, Target.host()).calls
    assert [any(v.donated >= 0 for v in c.writes) for c in calls] == sorted(any(v.donated >= 0 for v in c.writes) for c in calls)
    value = Value(rng.standard_normal((N, 5)).astype(np.float32))
    before = value.array.copy()
    exe = Executable(plans=[compile_graph(graph)], bindings=[value])
    feed, wrong = rng.standard_normal((N, 5)).astype(np.float32), np.arange(9, dtype=np.int32)
    wrong[4] = N
    for threads in (1, 2):
        with pytest.raises(IndexRangeError, match=rf"{N}"):
            exe(feed, wrong, threads=threads)
        assert_same_bits(value.array, before, "state after a failed check")
        assert value.version == 0
    exe(feed, np.arange(9, dtype=np.int32))
    assert_close(value.array, before + feed, 1e-6)
    assert value.version == 1


def test_a_failed_scatter_into_donated_memory(rng: np.random.Generator) -> None:
    """The check is inside the kernel that writes the state: it must not have written."""
    inputs, outputs, aliases = scattered()
    graph = Graph(inputs, outputs, aliases, name="scatter")
    value = Value(rng.standard_normal((11, 5)).astype(np.float32))
    before = value.array.copy()
    exe = Executable(plans=[compile_graph(graph)], bindings=[value])
    index, updates = rng.integers(0, 11, N).astype(np.int32), rng.standard_normal((N, 5)).astype(np.float32)
    index[20] = 11
    with pytest.raises(IndexRangeError):
        exe(index, updates)
    assert_same_bits(value.array, before, "state after a failed scatter")
    assert value.version == 0
