"""What becomes one kernel, what doesn't and why."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.kernel.ir import Contract, Reduce
from kerogen.compiler.passes.canonicalize import canonicalize
from kerogen.compiler.passes.decompose import decompose
from kerogen.compiler.passes.fuse import fuse, unfused
from kerogen.compiler.pipeline import compile_graph, grad, program_of
from kerogen.compiler.program.interpret import interpret_program
from kerogen.compiler.program.program import Program
from kerogen.compiler.target import Target
from kerogen.runtime.config import FUEL
from kerogen.runtime.dtype import float32, int32

from ..compare import assert_close


def inputs(*shapes: tuple[int, ...], role: str = "input") -> list[Node]:
    return [leaf(f"x{i}", TensorType(s, float32), role) for i, s in enumerate(shapes)]


def program(outputs: list[Node], xs: list[Node], aliases=()) -> Program:
    """The program, checked against ``eval``."""
    graph = Graph(tuple(xs), tuple(outputs), aliases, name="g")
    rng = np.random.default_rng(7)
    arrays = [rng.uniform(0.1, 1, x.shape).astype(x.dtype.np) if x.dtype.is_float else rng.integers(0, 3, x.shape).astype(x.dtype.np) for x in xs]
    out = program_of(graph, Target.named("x86-64-v4"))
    for a, e in zip(interpret_program(out, [a.copy() for a in arrays]), evaluate(graph, arrays)):
        assert_close(a, e, 1e-5)
    return out


def kernels(p: Program) -> list[str]:
    return [c.kernel.name for c in p.calls]


ROWS = {
    "softmax": lambda x, g, b: o.softmax(x, -1),
    "log_softmax": lambda x, g, b: o.log_softmax(x, -1),
    "layer_norm": lambda x, g, b: o.layer_norm(x, g, b, -1, 1e-3),
    "softmax of scaled": lambda x, g, b: o.softmax(o.add(o.mul(x, 0.3), b), -1),
    "layer_norm then gelu": lambda x, g, b: o.gelu(o.layer_norm(x, g, b), True),
    "rms norm": lambda x, g, b: o.mul(o.mul(x, o.rsqrt(o.add(o.mean(o.square(x), (-1,), True), 1e-3))), g),
}


@pytest.mark.parametrize("shape", [(5, 33), (2, 3, 7, 19)], ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_rows_are_one_kernel(name: str, shape: tuple[int, ...]) -> None:
    """Reductions along the row and what follows them over the row: the row is read once from memory."""
    x, g, b = inputs(shape, shape[-1:], shape[-1:])
    (call,) = program([ROWS[name](x, g, b)], [x, g, b]).calls
    assert len(call.kernel.axes) == 1 and int(call.kernel.axes[0].extent) == np.prod(shape[:-1])
    assert [s for s in call.kernel.stages if isinstance(s, Reduce)] and all(len(s.axes) == 1 for s in call.kernel.stores)


def test_softmax_over_several_axes_is_one_kernel() -> None:
    (x,) = inputs((3, 5, 7))
    assert len(program([o.softmax(x, (1, 2))], [x]).calls) == 1


@pytest.mark.parametrize(("shape", "axes"), [((5, 33), 0), ((3, 7, 19), 1), ((3, 7, 5, 4), (1, 2)), ((6, 6), 0), ((1, 5, 1, 33), 1)], ids=str)
def test_rows_may_lie_across_memory(shape: tuple[int, ...], axes: int | tuple[int, ...]) -> None:
    """A softmax over any axes is one kernel; its rows go side by side."""
    (x,) = inputs(shape)
    (call,) = program([o.softmax(x, axes)], [x]).calls
    assert len([s for s in call.kernel.stages if isinstance(s, Reduce)]) == 2


def test_rows_too_long_are_several_kernels() -> None:
    """A column of a large batch is no row: its statistics are kernels of their own, which all threads work at."""
    (x,) = inputs((1 << 13, 16))
    assert len(program([o.softmax(x, 0)], [x]).calls) > 1


def test_dense_and_convolution_take_their_epilogues() -> None:
    x, w, b, r = inputs((13, 45), (45, 71), (71,), (13, 71))
    p = program([o.add(o.relu(o.add(o.matmul(x, w), b)), r)], [x, w, b, r])
    assert len([n for n in kernels(p) if n != "pack"]) == 1 and isinstance(p.calls[-1].kernel.stages[0], Contract)
    x, w, b = inputs((2, 9, 8, 3), (3, 3, 3, 17), (17,))
    p = program([o.relu(o.add(o.conv(x, w, (1, 1), ((1, 1), (1, 1)), (1, 1)), b))], [x, w, b])
    assert len([n for n in kernels(p) if n.startswith("conv")]) == 1 and not any("relu" in n for n in kernels(p) if not n.startswith("conv")), kernels(p)


def adam(p: Node, m: Node, v: Node, g: Node, t: Node) -> list[Node]:
    m2 = o.add(o.mul(m, 0.9), o.mul(g, 0.1))
    v2 = o.add(o.mul(v, 0.999), o.mul(o.square(g), 0.001))
    step = o.div(o.mul(0.01, o.sqrt(o.sub(1.0, o.power(0.999, t)))), o.sub(1.0, o.power(0.9, t)))
    return [o.sub(p, o.div(o.mul(step, m2), o.add(o.sqrt(v2), 1e-7))), m2, v2]


def test_an_optimizer_update_is_one_kernel() -> None:
    """Three new arrays of one iteration space, each read once and written in place."""
    p, m, v = (leaf(n, TensorType((37, 19), float32), "state") for n in "pmv")
    g, t = leaf("g", TensorType((37, 19), float32)), leaf("t", TensorType((), float32))
    calls = program(adam(p, m, v, g, t), [p, m, v, g, t], ((0, 0), (1, 1), (2, 2))).calls
    big = [c for c in calls if any(n > 1 for x in c.writes for n in x.shape)]
    assert len(big) == 1 and len(big[0].writes) == 3, [c.kernel.name for c in calls]
    assert all(x.donated >= 0 for x in big[0].writes)


def test_gradient_and_update_of_a_bias() -> None:
    """loss -> column sum -> update: the update joins the sum's kernel, or reads it; the state is right."""
    x, ct = inputs((29, 17), (29, 17))
    b = leaf("b", TensorType((17,), float32), "state")
    (g,) = grad(o.add(x, b), [b], ct)
    p = program([o.sub(b, o.mul(g, 0.1))], [x, ct, b], ((0, 2),))
    assert len(p.calls) == 1


def refusals(outputs: list[Node], xs: list[Node]) -> list[str]:
    graph = canonicalize(decompose(canonicalize(Graph(tuple(xs), tuple(outputs), name="g"))))
    return list(unfused(fuse(graph)))


def test_every_refusal_has_its_reason() -> None:
    x, y, w = inputs((13, 45), (13, 45), (45, 71))
    twice = o.exp(x)
    assert refusals([o.sum_(twice, (0,)), o.matmul(twice, w)], [x, w]) == ["Exp: 2 kernels read it"]
    assert "Exp: its elements are read many times" in refusals([o.matmul(o.exp(x), w)], [x, w])
    assert "Sum: a reduction of a reduction" in refusals([o.max_(o.sum_(x, (0,)), (0,))], [x])
    (z,) = inputs((1, 13, 45, 3))
    window = refusals([o.sum_pool(o.exp(z), (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1))], [z])
    assert window == ["Exp: its elements are read many times"]
    p = leaf("p", TensorType((45, 71), float32), "parameter")
    assert any("computed once" in r for r in refusals([o.matmul(x, o.exp(p))], [x, p])) or not refusals([o.matmul(x, o.exp(p))], [x, p])
    two = refusals([o.matmul(o.matmul(x, w), o.transpose(w, (1, 0)))], [x, w])
    assert len(two) == 1 and two[0].startswith("DotGeneral: ")


def test_the_report_holds_the_reasons() -> None:
    x, w = inputs((13, 45), (45, 71))
    plan = compile_graph(Graph((x, w), (o.matmul(o.exp(x), w),), name="g"))
    assert "read many times" in str(plan.report)


def test_work_on_weights_alone_is_done_in_setup() -> None:
    x = leaf("x", TensorType((13, 45), float32))
    w, s = leaf("w", TensorType((45, 71), float32), "parameter"), leaf("s", TensorType((71,), float32), "parameter")
    p = program([o.matmul(x, o.mul(w, o.exp(s)))], [x, w, s])
    assert p.setup and not any("exp" in n for n in kernels(p)), (kernels(p), [c.kernel.name for c in p.setup])


def test_without_fuel_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = inputs((5, 7), (5, 7))
    graph = Graph((x, y), (o.tanh(o.mul(o.exp(x), o.sin(y))),), name="g")
    target = Target.host()
    assert len(program_of(graph, target).calls) == 1
    for fuel, calls in ((0, 4), (1, 3), (3, 1)):
        monkeypatch.setenv(FUEL.name, str(fuel))
        assert len(program_of(graph, target).calls) == calls, f"fuel {fuel}"


def test_long_chains_are_cut() -> None:
    """The text of one kernel is bounded."""
    (x,) = inputs((5, 7))
    y = x
    for i in range(200):
        y = o.add(o.sin(y), float(i))
    calls = program([y], [x]).calls
    assert 3 <= len(calls) <= 12


def test_an_output_that_is_an_input_beside_its_reader() -> None:
    """A graph may give an input back; the kernels that read it are not its neighbours' business."""
    x, y = inputs((5, 7), (5, 7))
    i = leaf("i", TensorType((5,), int32))
    assert len(program([o.sub(x, y), x, o.neg(x), o.take(x, i, 0)], [x, y, i]).calls) >= 3


def test_the_order_of_groups_respects_dependence() -> None:
    """Siblings join only where no third kernel lies between them."""
    x, y = inputs((6, 6), (6, 6))
    a = o.exp(x)
    b = o.matmul(a, y)
    program([a, o.add(a, b), o.add(o.sin(x), b)], [x, y])


def test_a_sum_over_more_axes_than_its_reader_has() -> None:
    """One number, reshaped and spread over a vector (a spectral norm divides a bias by it): its axes are not the reader's."""
    w, x = inputs((4, 5), (7,))
    total = o.reshape(o.sum_(o.square(w), (0, 1)), (1,))
    program([o.div(x, o.broadcast_to(total, (7,)))], [w, x])


def test_padding_read_at_a_run_time_start_reads_nothing_outside() -> None:
    """The condition of the border depends on data there, and still keeps the load inside (the interpreter refuses one outside)."""
    x, s = leaf("x", TensorType((4, 5), float32)), leaf("s", TensorType((2,), int32))
    y = o.dynamic_slice(o.exp(o.pad(x, ((1, 2), (2, 1)))), s, (3, 4))
    (call,) = program([y], [x, s]).calls
    assert "dynamicslice" in call.kernel.name and "exp" in call.kernel.name
