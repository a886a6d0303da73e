"""Lowered kernels: their text, guards, shared loops, collapsed axes. (Their values: tests/test_ops.py, column by column.)"""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.kernel.expr import Load, Where, post_order
from kerogen.compiler.kernel.ir import Kernel, stage_exprs
from kerogen.compiler.kernel.text import kernel_text
from kerogen.compiler.pipeline import grad, program_of
from kerogen.compiler.program.program import Program
from kerogen.compiler.target import Target
from kerogen.runtime.dim import Dim
from kerogen.runtime.dtype import float32, int32

TARGET = Target.named("x86-64-v4")


def inputs(*shapes: tuple[int, ...]) -> list[Node]:
    return [leaf(f"x{i}", TensorType(s, float32)) for i, s in enumerate(shapes)]


def program(outputs: list[Node], xs: list[Node], aliases=()) -> Program:
    return program_of(Graph(tuple(xs), tuple(outputs), aliases, name="g"), TARGET)


def text(p: Program) -> str:
    return "\n".join(kernel_text(c.kernel) for c in (*p.setup, *p.calls))


def only(p: Program) -> Kernel:
    (call,) = p.calls
    return call.kernel


def softmax() -> Program:
    x, m = inputs((4, 3, 7, 9), (9,))
    return program([o.softmax(o.add(o.mul(x, 0.25), m), -1)], [x, m])


def layer_norm() -> Program:
    x, g, b = inputs((6, 33), (33,), (33,))
    return program([o.layer_norm(x, g, b)], [x, g, b])


def dense_relu() -> Program:
    x, b = inputs((13, 45), (71,))
    w = leaf("w", TensorType((45, 71), float32), "parameter")
    return program([o.relu(o.add(o.matmul(x, w), b))], [x, w, b])


def conv_relu() -> Program:
    x, w, b = inputs((2, 9, 8, 3), (3, 3, 3, 16), (16,))
    return program([o.relu(o.add(o.conv(x, w, (2, 1), ((1, 1), (0, 1)), (1, 1)), b))], [x, w, b])


def conv_gradients() -> Program:
    x, w = inputs((2, 9, 8, 3), (3, 3, 3, 16))
    y = o.conv(x, w, (2, 2), ((1, 1), (1, 1)), (1, 1))
    ct = leaf("ct", y.type)
    return program(grad(y, [x, w], ct), [x, w, ct])


def momentum() -> Program:
    p, m = (leaf(n, TensorType((37, 19), float32), "state") for n in "pm")
    g = leaf("g", TensorType((37, 19), float32))
    m2 = o.add(o.mul(m, 0.9), g)
    return program([o.sub(p, o.mul(m2, 0.1)), m2], [p, m, g], ((0, 0), (1, 1)))


def max_pool() -> Program:
    (x,) = inputs((2, 9, 8, 5))
    return program([o.max_pool(x, (3, 2), (2, 2), ((1, 1), (0, 0)), (1, 1))], [x])


def embedding() -> Program:
    table, ids = leaf("table", TensorType((11, 5), float32)), leaf("ids", TensorType((4, 3), int32))
    rows = o.take(table, ids, 0)
    ct = leaf("ct", rows.type)
    return program([o.mul(rows, 2.0), *grad(rows, [table], ct)], [table, ids, ct])


def free_batch() -> Program:
    batch = Dim.free("batch", 6)
    x, w = leaf("x", TensorType((batch, 45), float32)), leaf("w", TensorType((45, 71), float32), "parameter")
    y = o.softmax(o.matmul(x, w), -1)
    return program([y, o.mean(y, (0,))], [x, w])


@pytest.mark.parametrize("make", [softmax, layer_norm, dense_relu, conv_relu, conv_gradients, momentum, max_pool, embedding, free_batch],
                         ids=lambda f: f.__name__)
def test_text(make, golden) -> None:
    assert text(make()) == golden


# -- axes


@pytest.mark.parametrize("shape", [(105,), (15, 7), (3, 5, 7), (1, 3, 1, 5, 7, 1)], ids=str)
def test_contiguous_arrays_are_one_loop(shape: tuple[int, ...]) -> None:
    x, y = inputs(shape, shape)
    kernel = only(program([o.add(o.sin(x), y)], [x, y]))
    assert [int(a.extent) for a in kernel.axes] == [105]
    flat = inputs((105,), (105,))
    assert kernel_text(kernel) == kernel_text(only(program([o.add(o.sin(flat[0]), flat[1])], flat))), "one object serves all"


def test_axes_merge_as_far_as_every_operand_allows() -> None:
    x, row, column = inputs((4, 5, 6, 7), (7,), (4, 5, 1, 1))
    assert [int(a.extent) for a in only(program([o.add(x, row)], [x, row])).axes] == [120, 7]
    assert [int(a.extent) for a in only(program([o.add(x, column)], [x, column])).axes] == [20, 42]
    assert [int(a.extent) for a in only(program([o.add(o.add(x, column), row)], [x, row, column])).axes] == [20, 6, 7]
    assert [int(a.extent) for a in only(program([o.add(o.transpose(x, (2, 3, 0, 1)), 1.0)], [x])).axes] == [42, 20]


def test_reshapes_need_no_arithmetic() -> None:
    """A stored value in another shape is read through a view of its memory."""
    x, y = inputs((6, 35), (15, 14))
    kernel = only(program([o.mul(o.reshape(o.reshape(x, (5, 42)), (15, 14)), y)], [x, y]))
    assert "/" not in kernel_text(kernel) and "%" not in kernel_text(kernel) and len(kernel.axes) == 1


# -- guards


def loads(kernel: Kernel) -> list[Load]:
    return [e for s in kernel.stages for e in post_order(stage_exprs(s)) if isinstance(e, Load)]


def test_padding_is_a_guarded_load() -> None:
    """Nothing is read outside: the condition goes with the load, and no select is left."""
    (x,) = inputs((5, 7))
    kernel = only(program([o.exp(o.pad(x, ((1, 2), (0, 3)), -1.5))], [x]))
    (load,) = loads(kernel)
    assert load.guard is not None and load.other.value == -1.5
    assert not any(isinstance(e, Where) for s in kernel.stages for e in post_order(stage_exprs(s)))


def test_concatenation_reads_each_part_where_it_is() -> None:
    x, y = inputs((5, 7), (5, 9))
    kernel = only(program([o.exp(o.concat([x, y], 1))], [x, y]))
    assert len(loads(kernel)) == 2 and all(e.guard is not None for e in loads(kernel))


def test_a_choice_on_data_stays_a_choice() -> None:
    x, y = inputs((5, 7), (5, 7))
    kernel = only(program([o.where(o.gt(x, 0.0), x, y)], [x, y]))
    assert all(e.guard is None for e in loads(kernel))
    assert any(isinstance(e, Where) for s in kernel.stages for e in post_order(stage_exprs(s)))


# -- sharing


def test_equal_folds_are_one_stage() -> None:
    """The two reads of one sum in a layer norm, the maximum in both halves of a softmax."""
    assert [s.name for s in only(softmax()).stages[:-1]] == ["s0", "s1"]
    assert [s.name for s in only(layer_norm()).stages[:-1]] == ["s0", "s1"]


def test_no_row_means_no_read() -> None:
    """Folds over rows of an array without rows stay inside the empty grid."""
    for make in (lambda x: o.softmax(x, -1), lambda x: o.layer_norm(x, np.ones(3, np.float32), np.ones(3, np.float32))):
        for shape in ((0, 3), (2, 0, 3)):
            (x,) = inputs(shape)
            kernel = only(program([make(x)], [x]))
            assert any(int(a.extent) == 0 for a in kernel.axes), kernel_text(kernel)


def test_checks_have_codes_and_messages() -> None:
    calls = embedding().calls
    assert all(len(c.errors) == 1 and "11" in c.errors[0] for c in calls), [c.errors for c in calls]
