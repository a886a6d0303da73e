"""Reverse mode as a whole: sharing, independence, errors, derivatives of derivatives. (Each op's own rule: tests/test_ops.py.)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir import location
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf, node, post_order
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.ops.base import Composite
from kerogen.compiler.passes.autodiff import grad
from kerogen.runtime.dim import Dim, recording
from kerogen.runtime.dtype import float32, float64, int32
from kerogen.runtime.errors import GradientError, ShapeError

from ..compare import assert_close
from ..oracle import oracle


def inputs(*arrays: np.ndarray) -> list[Node]:
    return [leaf(f"x{i}", TensorType(a.shape, float64 if a.dtype == np.float64 else float32)) for i, a in enumerate(arrays)]


def test_a_network_against_jax(rng) -> None:
    jax = oracle("jax")
    jnp = jax.numpy
    x, t = rng.standard_normal((7, 6, 6, 2)).astype(np.float32), rng.integers(0, 5, 7).astype(np.int32)
    ws = [rng.standard_normal(s).astype(np.float32) * 0.3 for s in ((3, 3, 2, 4), (4,), (36, 5), (5,), (36,), (36,))]

    def reference(x, ws):
        h = (
            jax.lax.conv_general_dilated(
                x, ws[0], (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
            )
            + ws[1]
        )
        h = jax.lax.reduce_window(
            jax.nn.gelu(h, approximate=False), -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        ).reshape(7, -1)
        h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-3) * ws[4] + ws[5]
        p = jax.nn.log_softmax(jnp.dot(h, ws[2], precision="highest") + ws[3])
        return -jnp.mean(jnp.take_along_axis(p, t[:, None], 1))

    nodes = inputs(x, *ws)
    h = o.add(o.conv(nodes[0], nodes[1], 1, 1), nodes[2])
    h = o.reshape(o.max_pool(o.gelu(h), 2), (7, -1))
    h = o.layer_norm(h, nodes[5], nodes[6])
    p = o.log_softmax(o.add(o.matmul(h, nodes[3]), nodes[4]))
    loss = o.neg(o.mean(o.take_along_axis(p, t[:, None], 1)))
    got = evaluate(Graph(tuple(nodes), (loss, *grad(loss, nodes))), [x, *ws])
    value, (dx, dws) = jax.value_and_grad(reference, (0, 1))(x, ws)
    for i, (actual, expected) in enumerate(zip(got, (value, dx, *dws))):
        assert_close(actual, np.asarray(expected), 1e-5, what=f"result {i}")


def test_a_value_used_often_sums_its_cotangents(rng) -> None:
    a = rng.standard_normal((3, 4))
    (x,) = inputs(a)
    y = o.sum_(o.add(o.mul(x, o.sin(x)), o.mul(x, o.mul(x, x))))
    (got,) = evaluate(Graph((x,), tuple(grad(y, [x]))), [a])
    np.testing.assert_allclose(got, np.sin(a) + a * np.cos(a) + 3 * a**2, rtol=1e-12)


def test_no_dependence_gives_zeros() -> None:
    x, z = leaf("x", TensorType((2, 3), float32)), leaf("z", TensorType((4,), float32))
    y = o.sum_(o.add(o.stop_gradient(x), o.cast(o.cast(x, int32), float32)))
    for g, n in zip(grad(y, [x, z]), (x, z)):
        assert g.type.same(n.type)
        assert not evaluate(Graph((), (g,)), [])[0].any()


def test_xs_are_independent_variables(rng) -> None:
    """h is computed from x; with both as xs, x gets what does not pass through h."""
    a = rng.standard_normal(3)
    (x,) = inputs(a)
    h = o.mul(x, x)
    y = o.sum_(o.mul(h, x))
    gx, gh = evaluate(Graph((x,), tuple(grad(y, [x, h]))), [a])
    np.testing.assert_allclose(gx, a**2)
    np.testing.assert_allclose(gh, a)
    (whole,) = evaluate(Graph((x,), tuple(grad(y, [x]))), [a])
    np.testing.assert_allclose(whole, 3 * a**2)
    (own,) = evaluate(Graph((x,), tuple(grad(y, [y]))), [a])
    assert own == 1


def test_third_derivatives(rng) -> None:
    a = rng.uniform(0.5, 2, 5)
    (x,) = inputs(a)
    g = o.sum_(o.power(x, 5))
    for _ in range(3):
        g = o.sum_(grad(g, [x])[0])
    (third,) = evaluate(Graph((x,), (g,)), [a])
    np.testing.assert_allclose(third, np.sum(60 * a**2), rtol=1e-12)


def test_product_with_zeros_is_exact() -> None:
    a = np.array([[2.0, 0.0, 3.0], [0.0, 5.0, 0.0], [1.0, 2.0, 4.0]])
    (x,) = inputs(a)
    (first,) = grad(o.sum_(o.prod(x, 1)), [x])
    (second,) = grad(o.sum_(o.mul(first, np.array([1.0, 10.0, 100.0]))), [x])
    d, dd = evaluate(Graph((x,), (first, second)), [a])
    assert d.tolist() == [[0, 6, 0], [0, 0, 0], [8, 4, 2]]
    # d/dx_j of sum_i v_i prod_{k != i} x_k = sum_{i != j} v_i prod_{k not in (i, j)} x_k
    v, expected = [1, 10, 100], np.zeros((3, 3))
    for r in range(3):
        for j in range(3):
            expected[r, j] = sum(v[i] * np.prod([a[r, k] for k in range(3) if k not in (i, j)]) for i in range(3) if i != j)
    assert dd.tolist() == expected.tolist()


def test_ties() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])
    x, y = inputs(a, b)
    got = evaluate(
        Graph(
            (x, y),
            tuple(grad(o.sum_(o.maximum(x, y)), [x, y]))
            + tuple(grad(o.max_(o.maximum(x, 2.0)), [x]))
            + tuple(grad(o.sum_(o.relu(o.sub(x, 2.0))), [x])),
        ),
        [a, b],
    )
    assert [g.tolist() for g in got] == [[0.5, 0, 1], [0.5, 1, 0], [0, 0, 1], [0, 0, 1]]


@dataclass(frozen=True, eq=False)
class _Cube(Composite):
    """x * x * y, without a vjp of its own."""

    def infer(self, *types):
        return types[0]

    def decompose(self, *xs):
        return o.mul(o.mul(xs[0], xs[0]), xs[1])


def test_composites_without_a_rule_are_differentiated_through_their_decomposition(rng) -> None:
    a = rng.standard_normal(4)
    (x,) = inputs(a)
    h = o.sin(x)
    for second, expected in (
        (h, 2 * a * np.sin(a) + a**2 * np.cos(a)),
        (x, 3 * a**2),
    ):  # an operand that depends on another, and one given twice
        y = o.sum_(node(_Cube(), x, second))
        (got,) = evaluate(Graph((x,), tuple(grad(y, [x]))), [a])
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_derivatives_know_where_they_come_from() -> None:
    x = leaf("x", TensorType((3,), float32))
    with location.scope("encoder"), location.scope("dense"):
        h = o.tanh(x)
    with location.scope("head"):
        y = o.sum_(o.cos(h))
    made = [n for n in post_order(grad(y, [x])) if n.inputs and n not in post_order([y])]
    assert {tuple(n.origins) for n in made} >= {("encoder/dense",), ("head",)}
    assert all(n.origins for n in made)


def test_errors_name_the_op_and_the_layer() -> None:
    x, i = leaf("x", TensorType((3,), float32)), leaf("i", TensorType((3,), int32))
    with location.scope("odd_layer"):
        bits = o.bitcast(o.bitcast(x, int32), float32)
    assert not evaluate(Graph((), tuple(grad(o.sum_(bits), [x]))), [])[0].any()  # nothing flows through integers
    with location.scope("odd_layer"):
        h = node(_Stubborn(), x)
    with pytest.raises(GradientError, match=r"_Stubborn has no gradient: it refuses \(in odd_layer\)"):
        grad(o.sum_(h), [x])
    with pytest.raises(GradientError, match=r"needs floating types, got int32\[3\]"):
        grad(o.sum_(x), [i])
    with pytest.raises(GradientError, match=r"float32\[3\] needs a cotangent"):
        grad(x, [x])
    with pytest.raises(ShapeError, match=r"cotangent of float32\[3\] can't be float32\[\]"):
        grad(o.tanh(x), [x], o.constant(1.0))


@dataclass(frozen=True, eq=False)
class _Stubborn(Composite):
    differentiable = False
    no_gradient = "it refuses"

    def infer(self, *types):
        return types[0]

    def vjp(self, node_, ct):
        raise AssertionError("autodiff asks differentiable first")


def test_a_training_step_on_a_free_batch_leaves_no_guards(rng) -> None:
    with recording() as guards:
        n = Dim.free("batch", 7)
        x, t = leaf("x", TensorType((n, 8, 8, 1), float32)), leaf("t", TensorType((n,), int32))
        ws = [leaf(f"w{i}", TensorType(s, float32), "state") for i, s in enumerate([(3, 3, 1, 4), (4,), (64, 5), (5,)])]
        h = o.max_pool(o.relu(o.add(o.conv(x, ws[0], 1, 1), ws[1])), 2)
        logits = o.add(o.matmul(o.reshape(h, (n, -1)), ws[2]), ws[3])
        loss = o.neg(o.mean(o.sum_(o.mul(o.log_softmax(logits), o.one_hot(t, 5)), -1)))
        grads = grad(loss, ws)
    assert not guards, guards
    assert [g.shape for g in grads] == [w.shape for w in ws]


def test_deep_graphs_do_not_recurse() -> None:
    x = leaf("x", TensorType((2,), float64))
    y = x
    for _ in range(5000):
        y = o.add(o.sin(y), x)
    (g,) = grad(o.sum_(y), [x])
    assert len(post_order([g])) > 10000
