"""Loops and branches through the whole pipeline: nested in one another, over free sizes, on one and two threads, saved and loaded."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import numpy as np
import pytest

from kerogen.compiler import ops as f
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.text import constants_of, graph_text, parse_graph
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.ir.verify import verify
from kerogen.compiler.ops.control import Scan
from kerogen.compiler.passes.autodiff import grad
from kerogen.compiler.passes.scan import simplify_scans
from kerogen.compiler.pipeline import compile_graph, executable, program_of
from kerogen.compiler.program.interpret import interpret_program
from kerogen.compiler.program.program import Loop, flat, kernel_calls
from kerogen.compiler.target import Target
from kerogen.runtime import table, threads
from kerogen.runtime.dtype import float32, float64, int32
from kerogen.runtime.errors import ArgumentError, GradientError, IndexRangeError, ShapeError
from kerogen.runtime.executable import Executable
from kerogen.runtime.serialize import dumps, loads
from tests.compare import assert_close, assert_same_bits

SIZES = dict(batch=3, units=5, steps=7, depth=4)


class Bound:
    def __init__(self, array: np.ndarray):
        self.array, self.version = array, 1


def arrays_for(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 3, tuple(map(int, n.shape))).astype(n.dtype.np) if not n.dtype.is_float
            else (0.5 * rng.standard_normal(tuple(map(int, n.shape)))).astype(n.dtype.np) for n in graph.inputs]


def run(graph: Graph, arrays: list[np.ndarray], n: int = 1) -> list[np.ndarray]:
    bound = [Bound(a.copy()) for x, a in zip(graph.inputs, arrays) if x.op.role != "input"]
    exe = Executable(plans=[compile_graph(graph)], bindings=bound)
    out = exe(*[a for x, a in zip(graph.inputs, arrays) if x.op.role == "input"], threads=n)
    return out if isinstance(out, list) else [out]


def check(graph: Graph, tolerance: float = 1e-5, seed: int = 0) -> None:
    """Evaluated, interpreted and native, steps of loops inside one step and listed one by one: all agree; native ones bit for bit."""
    verify(graph)
    arrays = arrays_for(graph, seed)
    expected = evaluate(graph, arrays)
    together = run(graph, arrays)
    saved = table.INTERRUPTIBLE_SECONDS, table.TINY_SECONDS, table.ALONE_SECONDS
    try:
        table.INTERRUPTIBLE_SECONDS = table.TINY_SECONDS = table.ALONE_SECONDS = 0.0
        if threads.num_threads() < 2:
            threads.set_num_threads(2)
        listed = [run(graph, arrays, n) for n in (1, 2)]
    finally:
        table.INTERRUPTIBLE_SECONDS, table.TINY_SECONDS, table.ALONE_SECONDS = saved
    interpreted = interpret_program(program_of(graph, Target.host()), [a.copy() for a in arrays])
    for k, (e, a, b, c, i) in enumerate(zip(expected, together, *listed, interpreted, strict=True)):
        assert_close(a, e, tolerance, what=f"output {k}, native")
        assert_close(i, e, tolerance, what=f"output {k}, interpreted")
        assert_same_bits(a, b, what=f"output {k}, listed")
        assert_same_bits(b, c, what=f"output {k}, two threads")


def recurrent(dtype=float32, reverse: bool = False, batch: int = 3, units: int = 5, steps: int = 7, depth: int = 4) -> tuple[list[Node], list[Node], list[Node]]:
    """An LSTM: (inputs, last states, all hidden states)."""
    x = leaf("x", TensorType((steps, batch, depth), dtype))
    w, r, b = (leaf(n, TensorType(s, dtype), "parameter") for n, s in (("w", (depth, 4 * units)), ("r", (units, 4 * units)), ("b", (4 * units,))))

    def cell(state: list[Node], now: list[Node]) -> tuple[list[Node], list[Node]]:
        h, c = state
        i, g, k, o = f.split(f.add(f.add(f.matmul(now[0], w), f.matmul(h, r)), b), 4, 1)
        c = f.add(f.mul(f.sigmoid(g), c), f.mul(f.sigmoid(i), f.tanh(k)))
        h = f.mul(f.sigmoid(o), f.tanh(c))
        return [h, c], [h]

    zero = f.zeros((batch, units), dtype)
    state, ys = f.scan(cell, [zero, zero], [x], reverse=reverse)
    return [x, w, r, b], state, ys


@pytest.mark.parametrize("reverse", [False, True])
def test_an_lstm_and_its_gradient(reverse: bool) -> None:
    inputs, state, ys = recurrent(reverse=reverse)
    loss = f.add(f.sum_(f.square(ys[0])), f.sum_(f.mul(state[1], 0.3)))
    check(Graph(tuple(inputs), (loss, ys[0], *state, *grad(loss, inputs))))


def test_the_gradient_of_an_lstm_equals_finite_differences() -> None:
    inputs, state, ys = recurrent(float64)
    loss = f.add(f.sum_(f.square(ys[0])), f.sum_(state[0]))
    value, full = Graph(tuple(inputs), (loss,)), Graph(tuple(inputs), tuple(grad(loss, inputs)))
    arrays = arrays_for(value)
    rng = np.random.default_rng(1)
    for k, g in enumerate(run(full, arrays)):
        d = rng.standard_normal(g.shape)
        at = [float(evaluate(value, [a + t * d if n == k else a for n, a in enumerate(arrays)])[0]) for t in (1e-5, -1e-5)]
        assert abs((at[0] - at[1]) / 2e-5 - float(np.sum(g * d))) < 1e-6 * max(1, abs(at[0]))


def test_the_input_projection_is_one_product_over_all_steps_and_weights_are_packed_once() -> None:
    inputs, state, ys = recurrent()
    loss = f.sum_(f.square(ys[0]))
    program = program_of(simplify_scans(Graph(tuple(inputs), (loss, *grad(loss, inputs)))), Target.host())
    loops = [s for s in flat(program.calls) if isinstance(s, Loop)]
    assert len(loops) == 2, "one scan forward, with what the gradient stores, one backward"
    for loop in loops:
        products = [c for c in kernel_calls(loop.steps) if "dotgeneral" in c.kernel.name]
        assert len(products) == 1, "only the product with the state is left in the loop"
        assert not any(c.kernel.name == "pack" for c in kernel_calls(loop.steps))
    outside = [c for c in flat(program.calls) if not isinstance(c, Loop) and "dotgeneral" in c.kernel.name]
    assert len(outside) == 4, "x w; the gradients of x, of w and of r, each one product over all steps"


def test_scans_are_pruned_to_what_is_read() -> None:
    inputs, state, ys = recurrent()
    (only,) = [n for n in simplify_scans(Graph(tuple(inputs), (state[0],))).nodes if isinstance(n.op, Scan)]
    assert len(only.type.items) == 2, "the last hidden state needs both carries and no stacked output"


def nested(steps: int = 4, inner: int = 3) -> Graph:
    """A scan in a scan, whose body also sees the outer item."""
    x = leaf("x", TensorType((steps, 5), float32))
    a = leaf("a", TensorType((inner, 5), float32), "parameter")

    def outer(state: list[Node], now: list[Node]) -> tuple[list[Node], list[Node]]:
        def body(s: list[Node], row: list[Node]) -> tuple[list[Node], list[Node]]:
            new = f.add(f.mul(s[0], 0.5), f.mul(f.tanh(row[0]), now[0]))
            return [new], [f.mul(new, state[0])]

        last, stacked = f.scan(body, [state[0]], [a], reverse=True)
        return [f.add(last[0], now[0])], [f.sum_(stacked[0], (0,)), stacked[0]]

    state, ys = f.scan(outer, [f.ones((5,))], [x])
    loss = f.add(f.sum_(f.square(ys[0])), f.sum_(state[0]))
    return Graph((x, a), (loss, *state, *ys, *grad(loss, [x, a])))


def test_a_scan_in_a_scan() -> None:
    check(nested())


def choosing() -> Graph:
    """A branch in a scan, and a scan in a branch."""
    x, go = leaf("x", TensorType((6, 4), float32)), leaf("go", TensorType((6,), int32))
    w = leaf("w", TensorType((4, 4), float32), "parameter")

    def body(state: list[Node], now: list[Node]) -> tuple[list[Node], list[Node]]:
        h = state[0]
        (new,) = f.cond(f.gt(now[1], 0), lambda: [f.tanh(f.add(f.matmul(h, w), now[0]))], lambda: [f.mul(h, 0.9)])
        return [new], [f.sum_(new)]

    state, ys = f.scan(body, [f.ones((4,))], [x, go])

    def long() -> list[Node]:
        return f.scan(lambda s, n: ([f.add(f.mul(s[0], w), n[0])], []), [f.zeros((4, 4))], [x])[0]

    (m,) = f.cond(f.gt(f.sum_(ys[0]), 0.0), long, lambda: [f.neg(w)])
    loss = f.add(f.sum_(f.square(state[0])), f.sum_(f.mul(m, m)))
    return Graph((x, go, w), (loss, *state, *ys, m, *grad(loss, [x, w])))


@pytest.mark.parametrize("seed", range(4))
def test_branches_and_scans_in_one_another(seed: int) -> None:
    check(choosing(), seed=seed)


def test_only_the_chosen_branch_is_computed() -> None:
    i, x = leaf("i", TensorType((), int32)), leaf("x", TensorType((5,), float32))
    out = f.cond(f.lt(i, 5), lambda: [f.reshape(f.take(x, f.reshape(i, (1,))), ())], lambda: [f.sum_(x)])
    graph = Graph((i, x), tuple(out))
    x0 = np.arange(5, dtype=np.float32)
    assert run(graph, [np.array(3, np.int32), x0])[0] == 3.0
    assert run(graph, [np.array(9, np.int32), x0])[0] == 10.0  # taking element 9 would be an error


def test_a_while_loop_in_a_scan_and_a_limit_gives_it_a_gradient() -> None:
    x = leaf("x", TensorType((5, 3), float32))

    def collatz(state: list[Node], now: list[Node]) -> tuple[list[Node], list[Node]]:
        n, row = f.while_loop(lambda s: f.lt(f.sum_(f.abs_(s[1])), 20.0), lambda s: [f.add(s[0], 1), f.add(f.mul(s[1], 2.0), 0.1)], [f.constant(0), now[0]])
        return [f.add(state[0], n)], [row]

    state, ys = f.scan(collatz, [f.constant(0)], [x])
    check(Graph((x,), (*state, *ys)))
    with pytest.raises(GradientError, match="number of its steps depends on data"):
        grad(f.sum_(ys[0]), [x])

    y = leaf("y", TensorType((3,), float64))
    (z,) = f.while_loop(lambda s: f.lt(f.sum_(f.abs_(s[0])), 9.0), lambda s: [f.mul(s[0], f.add(f.square(s[0]), 1.5))], [y], limit=6)
    loss = f.sum_(f.sin(z))
    graph = Graph((y,), (loss, *grad(loss, [y])))
    check(graph, 1e-12)
    at = np.array([0.3, -0.5, 0.2])
    d = np.array([0.4, 0.1, -0.7])
    value = [float(evaluate(graph, [at + t * d])[0]) for t in (1e-6, -1e-6)]
    assert abs((value[0] - value[1]) / 2e-6 - float(evaluate(graph, [at])[1] @ d)) < 1e-7


def test_gradients_of_gradients() -> None:
    x = leaf("x", TensorType((4, 3), float64))
    w = leaf("w", TensorType((3, 3), float64))

    def total() -> Node:
        state, ys = f.scan(lambda s, n: ([f.tanh(f.add(f.matmul(s[0], w), n[0]))], [s[0]]), [f.ones((3,), float64)], [x])
        return f.add(f.sum_(f.square(state[0])), f.sum_(f.mul(ys[0], x)))

    first = grad(total(), [x, w])
    z = f.add(f.sum_(f.sin(first[0])), f.sum_(f.square(first[1])))
    graph = Graph((x, w), (z, *grad(z, [x, w])))
    check(graph, 1e-11)
    arrays, rng = arrays_for(graph), np.random.default_rng(2)
    for k in range(2):
        d = rng.standard_normal(arrays[k].shape)
        at = [float(evaluate(graph, [a + t * d if n == k else a for n, a in enumerate(arrays)])[0]) for t in (1e-6, -1e-6)]
        assert abs((at[0] - at[1]) / 2e-6 - float(np.sum(evaluate(graph, arrays)[1 + k] * d))) < 1e-6


def test_the_number_of_steps_may_be_free() -> None:
    w = Bound(np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32))

    def trace(dims) -> Graph:
        x = leaf("x", TensorType((dims["time"], dims["batch"], 4), float32))
        r = leaf("r", TensorType((4, 4), float32), "parameter")
        state, ys = f.scan(lambda s, n: ([f.tanh(f.add(f.matmul(s[0], r), n[0]))], [s[0]]), [f.zeros((dims["batch"], 4))], [x])
        return Graph((x, r), (state[0], ys[0]))

    exe = executable(trace, bindings=[w])
    rng = np.random.default_rng(1)
    for time, batch in ((5, 3), (2, 3), (9, 2), (1, 4), (40, 3), (6, 1)):
        x = rng.standard_normal((time, batch, 4)).astype(np.float32)
        last, ys = exe(x)
        h, before = np.zeros((batch, 4), np.float32), []
        for t in range(time):
            before.append(h)
            h = np.tanh(h @ w.array + x[t])
        assert_close(last, h, 1e-5)
        assert_close(ys, np.stack(before), 1e-5)
    assert exe.stats()["plans"] <= 4, exe.stats()


def test_saved_plans_and_text_hold_loops() -> None:
    graph = choosing()
    plan = compile_graph(graph)
    again = loads(dumps(plan)).plans[0]
    assert again.steps == plan.steps and again.setup == plan.setup
    text = graph_text(graph)
    assert graph_text(parse_graph(text, _classes(), constants_of(graph))) == text


def _classes() -> dict:
    from kerogen.compiler.ops import op_classes

    return op_classes()


def test_a_scan_over_weights_alone_runs_once_per_version() -> None:
    w, x = leaf("w", TensorType((6, 3), float32), "parameter"), leaf("x", TensorType((3,), float32))
    (total,), _ = f.scan(lambda s, n: ([f.add(f.mul(s[0], 0.5), n[0])], []), [f.zeros((3,))], [w])
    graph = Graph((w, x), (f.mul(total, x),))
    program = program_of(graph, Target.host())
    assert any(isinstance(s, Loop) for s in flat(program.setup)) and not any(isinstance(s, Loop) for s in flat(program.calls))
    check(graph)


def test_carries_that_are_state_are_updated_in_place() -> None:
    s, x = leaf("s", TensorType((4,), float32), "state"), leaf("x", TensorType((5, 4), float32))
    (last,), ys = f.scan(lambda c, n: ([f.add(f.mul(c[0], 0.5), n[0])], [c[0]]), [s], [x])
    graph = Graph((s, x), (last, ys[0]), aliases=((0, 0),))
    arrays = arrays_for(graph)
    expected = evaluate(graph, arrays)
    state = Bound(arrays[0].copy())
    out = Executable(plans=[compile_graph(graph)], bindings=[state])(arrays[1])
    assert_close(state.array, expected[0], 1e-6)
    assert_close(out[1], expected[1], 1e-6)


def test_an_index_out_of_range_in_a_loop_leaves_the_state_as_it_was() -> None:
    s = leaf("s", TensorType((4,), float32), "state")
    i = leaf("i", TensorType((5,), int32))
    (last,), _ = f.scan(lambda c, n: ([f.add(c[0], f.take(c[0], f.reshape(n[0], (1,))))], []), [s], [i])
    graph = Graph((s, i), (last,), aliases=((0, 0),))
    state = Bound(np.arange(4, dtype=np.float32))
    exe = Executable(plans=[compile_graph(graph)], bindings=[state])
    with pytest.raises(IndexRangeError):
        exe(np.array([0, 3, 4, 1, 0], np.int32))
    assert_same_bits(state.array, np.arange(4, dtype=np.float32))
    exe(np.array([0, 3, 3, 1, 0], np.int32))
    assert state.array[0] > 3


@pytest.mark.parametrize(("write", "error", "match"), [
    (lambda x: f.scan(lambda s, n: ([f.sum_(n[0])], []), [f.zeros((3,))], [x]), ShapeError, r"carry 0 has type float32\[3\].* before a step and float32\[\]"),
    (lambda x: f.scan(lambda s, n: ([], []), [f.zeros((3,))], [x]), ShapeError, "takes 1 values and gives 0"),
    (lambda x: f.scan(lambda s, n: (s, []), [f.zeros((3,))], [x], length=9), ShapeError, "item 0 is float32.5, 3.; its first axis must have the steps"),
    (lambda x: f.scan(lambda s, n: (s, []), [f.zeros((3,))]), ArgumentError, "or a length"),
    (lambda x: f.cond(x, lambda: [x], lambda: [x]), ShapeError, "cond chooses by one bool"),
    (lambda x: f.cond(f.gt(f.sum_(x), 0.0), lambda: [x], lambda: [f.sum_(x)]), ShapeError, "value 0 is float32.5, 3. in one branch and float32.. in the other"),
    (lambda x: f.while_loop(lambda s: f.gt(s[0], 0.0), lambda s: s, [x]), ShapeError, "while_loop chooses by one bool"),
])
def test_functions_that_do_not_fit_are_refused(write: Callable, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        write(leaf("x", TensorType((5, 3), float32)))


def test_a_signal_ends_a_loop_whose_length_nobody_knows() -> None:
    """The loop is steps over growing spans of iterations: the caller looks at the clock, and at signals, between them."""
    x, n = leaf("x", TensorType((3,), float32)), leaf("n", TensorType((), int32))
    out = f.while_loop(lambda s: f.lt(s[0], n), lambda s: [f.add(s[0], 1), f.mul(s[1], 0.5)], [f.constant(0), x])
    exe = Executable(plans=[compile_graph(Graph((x, n), tuple(out)))])
    one = np.ones(3, np.float32)
    assert_same_bits(exe(one, np.array(3, np.int32))[1], one / 8)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        exe(one, np.array(2**31 - 1, np.int32))  # most of a minute
    timer.join()
    steps, last = exe(one, np.array(200_000, np.int32))
    assert steps == 200_000 and not last.any()


def test_spans_of_a_scan_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan too long to be listed runs in parts; carries that take turns and rows go on where the part before ended."""
    monkeypatch.setattr(table, "SPAN_SECONDS", 1e-7)
    monkeypatch.setattr(table, "UNROLLED_STEPS", 16)
    x = leaf("x", TensorType((57, 3), float32))
    state, ys = f.scan(lambda s, n: ([f.add(f.mul(s[0], 0.7), n[0])], [s[0]]), [f.ones((3,))], [x], reverse=True)
    graph = Graph((x,), (*state, *ys))
    arrays = arrays_for(graph)
    for a, e in zip(run(graph, arrays), evaluate(graph, arrays)):
        assert_close(a, e, 1e-6)
