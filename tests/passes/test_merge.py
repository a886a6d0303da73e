"""Kernels that share what they read become one, light values are computed where they are read; results are those of ``eval``."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.kernel.ir import Contract, Reduce, Store
from kerogen.compiler.pipeline import executable, grad, program_of
from kerogen.compiler.program.interpret import interpret_program
from kerogen.compiler.program.program import Call
from kerogen.compiler.target import Target
from kerogen.runtime.dtype import float32

from ..compare import assert_norm_close


def inputs(*shapes: tuple[int, ...], role: str = "input") -> list[Node]:
    return [leaf(f"x{i}", TensorType(s, float32), role) for i, s in enumerate(shapes)]


def calls(outputs: list[Node], xs: list[Node]) -> list[Call]:
    """The kernels but for packing, after interpreter and machine code were compared with ``eval``."""
    graph = Graph(tuple(xs), tuple(outputs), name="g")
    rng = np.random.default_rng(11)
    arrays = [rng.uniform(-1, 1, x.shape).astype(np.float32) for x in xs]
    program = program_of(graph, Target.named("x86-64-v4"))
    expected = evaluate(graph, arrays)
    given = executable(lambda dims: graph, name="g")(*arrays)
    for a, b, e in zip(interpret_program(program, [x.copy() for x in arrays]), given if isinstance(given, (list, tuple)) else [given], expected, strict=True):
        assert_norm_close(a, e, 2e-5, 1e-5)
        assert_norm_close(b, e, 2e-5, 1e-5)
    return [c for c in program.calls if c.kernel.name != "pack"]


def reductions(call: Call) -> int:
    return sum(isinstance(s, Reduce) for s in call.kernel.stages)


def test_sums_over_one_domain_are_one_kernel() -> None:
    x, ct = inputs((9, 5, 33), (9, 5, 33))
    (call,) = calls([o.sum_(x, (0, 1)), o.sum_(o.square(x), (0, 1)), o.sum_(o.mul(x, ct), (0, 1))], [x, ct])
    assert reductions(call) == 3 and len(call.reads) == 2


def test_sums_over_other_domains_stay_apart() -> None:
    x, y = inputs((9, 33), (9, 33))
    assert len(calls([o.sum_(x, (0,)), o.sum_(x, (1,))], [x, y])) == 2
    assert len(calls([o.sum_(x, (0,)), o.sum_(y, (0,))], [x, y])) == 2, "nothing is read twice"


def test_mean_and_variance_read_a_batch_twice() -> None:
    """The variance needs the mean; what else is summed goes with one of them."""
    (x,) = inputs((4, 7, 5, 19))
    both = calls([o.mean(x, (0, 1, 2)), o.var(x, (0, 1, 2)), o.sum_(o.square(x), (0, 1, 2))], [x])
    assert len(both) == 2 and sorted(map(reductions, both)) == [1, 2]


def test_a_row_kernel_keeps_what_its_gradient_needs() -> None:
    """Layer normalisation before a product, and its gradient: one kernel forward, which also stores two numbers a row; one for dx; one for gamma and beta."""
    x, g, b, w, ct = inputs((13, 45), (45,), (45,), (45, 45), (13, 45))
    y = o.matmul(o.layer_norm(x, g, b), w)
    found = [c for c in calls([y, *grad(o.sum_(o.tanh(y)), [x, g, b])], [x, g, b, w, ct]) if not c.kernel.name.startswith("dot")]
    assert len(found) == 3
    stored = sorted(v.shape for c in found for v in c.writes)
    assert stored == sorted([(13, 45), (13, 45), (13, 1), (13, 1), (45,), (45,)])


def test_normalisation_and_gradient_side_by_side() -> None:
    """Where the gradient waits for nothing, the row is read once for both."""
    x, g, b, ct = inputs((13, 45), (45,), (45,), (13, 45))
    y = o.layer_norm(x, g, b)
    assert len(calls([y, *grad(y, [x, g, b], ct)], [x, g, b, ct])) == 2


def test_a_softmax_and_its_gradient() -> None:
    x, ct = inputs((7, 3, 29), (7, 3, 29))
    assert len(calls(list(grad(o.softmax(x), [x], ct)), [x, ct])) == 1


def test_a_light_value_is_computed_again() -> None:
    """Its readers read its operand instead; a dear one is stored."""
    x, w = inputs((13, 45), (1, 45))
    light = o.sub(x, w)
    for value, stored in ((light, False), (o.exp(light), True)):
        found = calls([o.sum_(o.square(value), (0,)), o.max_(value, (1,)), o.add(o.sin(value), 1.0)], [x, w])
        kept = [v for c in found for v in c.writes if v.kind == "arena" and v.shape == (13, 45)]
        assert bool(kept) == stored, [c.kernel.name for c in found]


def test_a_contraction_stores_what_several_read() -> None:
    x, w, b = inputs((13, 45), (45, 71), (71,))
    z = o.add(o.matmul(x, w), b)
    found = calls([o.tanh(z), o.exp(z)], [x, w, b])
    assert len(found) == 1 and isinstance(found[0].kernel.stages[0], Contract)
    assert sum(isinstance(s, Store) for s in found[0].kernel.stages) == 2


def test_no_cycle_comes_of_a_merge() -> None:
    """Two sums of x would be siblings, but a third kernel lies between them."""
    x, w = inputs((13, 13), (13, 13))
    s = o.sum_(x, (0,))
    m = o.matmul(o.reshape(s, (1, 13)), w)
    t = o.sum_(o.mul(x, m), (0,))
    assert len(calls([s, t], [x, w])) == 3


@pytest.mark.parametrize("seed", range(6))
def test_random_neighbourhoods(seed: int) -> None:
    """Sums, rows, columns and maps over a few arrays, many of them siblings."""
    rng = np.random.default_rng(seed)
    x, y = xs = inputs((6, 6), (6, 6))
    pool = [x, y]
    for _ in range(14):
        a, b = (pool[int(i)] for i in rng.integers(0, len(pool), 2))
        axis = int(rng.integers(0, 2))
        drawn = [o.add(a, b), o.mul(a, 0.5), o.sub(a, o.mean(b, (axis,), True)), o.softmax(a, axis), o.tanh(a), o.matmul(a, b), o.transpose(a, (1, 0)),
                 o.tanh(o.layer_norm(a, epsilon=0.1))]
        pool.append(drawn[int(rng.integers(0, len(drawn)))])
    calls([pool[-1], o.sum_(pool[-2], (0,)), o.sum_(pool[-3], (0,)), o.max_(pool[-4], (1,))], xs)
