"""Loops, branches and maps of ``ops`` against Keras' (JAX's): values, structures, gradients; variables that steps assign; errors."""

import numpy as np
import pytest

import kerogen as kg
from kerogen import ops
from kerogen.runtime.errors import ArgumentError, GradientError, ShapeError, UnsupportedOpError
from tests.compare import assert_close
from tests.oracle import oracle

keras = oracle("keras")


def leaves(x):
    if isinstance(x, dict):
        return [v for k in sorted(x) for v in leaves(x[k])]
    return [v for part in x for v in leaves(part)] if isinstance(x, (list, tuple)) else [x]


def both(fn, *arrays, tolerance=1e-5):
    """``fn(ops, *arrays)`` traced as a whole, beside Keras."""
    import jax

    theirs = jax.jit(lambda *xs: fn(keras.ops, *xs))(*arrays)
    for a, b in zip(leaves(kg.compile(lambda *xs: fn(ops, *xs))(*arrays)), leaves(theirs), strict=True):
        assert_close(np.asarray(a), np.asarray(b), tolerance)


def gradients(fn, *arrays):
    """Of the sum of fn's results, beside JAX's."""
    import jax

    def total(o, xs):
        return sum(o.sum(v) for v in leaves(fn(o, *xs)))

    _, ours = kg.value_and_grad(lambda *xs: total(ops, xs), tuple(range(len(arrays))))(*arrays)
    theirs = jax.jit(jax.grad(lambda xs: total(keras.ops, xs)))(list(arrays))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(np.asarray(a), np.asarray(b), 1e-4)


def scans(o, x, h):
    def step(carry, row):
        new = o.tanh(carry["h"] * row["a"] + row["b"])
        return {"h": new, "n": carry["n"] + 1.0}, (new * row["a"], carry["n"])

    return o.scan(step, {"h": h, "n": o.sum(h)}, {"a": x, "b": x * 2})


@pytest.mark.parametrize("reverse", [False, True])
def test_scan(reverse, rng):
    x, h = rng.standard_normal((7, 3)).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    both(scans, x, h)
    gradients(scans, x, h)
    both(lambda o, x: o.scan(lambda c, v: (c * 0.5 + v, c - v), o.zeros_like(x[0]), x, reverse=reverse), x)
    both(lambda o, x: o.scan(lambda c, _: (c * 1.5 + x[0], c), x[1], length=4), x)


def test_at_once_on_arrays(rng):
    x = rng.standard_normal((5, 3)).astype(np.float32)
    last, nothing = ops.scan(lambda c, v: (c + v, None), np.zeros(3, np.float32), x)
    assert nothing is None
    assert_close(last, x.sum(0), 1e-5)
    assert_close(ops.map(lambda v: v * 2, x), x * 2, 0)
    count, doubled = ops.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v + v), (0, x))
    assert int(count) == 3
    assert_close(doubled, x * 8, 0)
    assert_close(ops.associative_scan(ops.maximum, x), np.maximum.accumulate(x), 0)
    assert_close(ops.cond(x.sum() > x.sum() - 1, lambda: x, lambda: -x), x, 0)


def test_map_and_vectorized_map(rng):
    x, w = rng.standard_normal((5, 3, 4)).astype(np.float32), rng.standard_normal((4, 2)).astype(np.float32)
    for name in ("map", "vectorized_map"):
        def fn(o, x, w, name=name):
            return getattr(o, name)(lambda r: {"s": o.softmax(o.matmul(r, w)), "m": o.max(r, axis=0)}, x)

        both(fn, x, w)
        gradients(fn, x, w)


def test_loops_that_end_by_data(rng):
    x = rng.uniform(0.5, 1.5, 4).astype(np.float32)

    def halve(o, x, **limit):
        return o.while_loop(lambda i, v: o.sum(v) > 0.3, lambda i, v: (i + 1, v / 2), (0, x), **limit)

    both(halve, x)
    both(lambda o, x: halve(o, x, maximum_iterations=2), x)
    both(lambda o, x: o.while_loop(lambda v: o.max(v) < 9, lambda v: v * 2, x), x)
    both(lambda o, x: o.fori_loop(1, 5, lambda i, v: v * o.cast(i, "float32") + 1, x), x)
    n = np.int32(6)
    assert_close(ops.fori_loop(0, n, lambda i, v: v + 1, x), x + 6, 1e-6)
    gradients(lambda o, x: o.fori_loop(1, 5, lambda i, v: o.sin(v) * o.cast(i, "float32"), x), x)
    _, grad = kg.value_and_grad(lambda x: ops.sum(ops.while_loop(lambda v: ops.sum(v) < 30, lambda v: v * 2, (x,), maximum_iterations=9)[0]))(x)
    steps = 0
    while (x * 2**steps).sum() < 30:
        steps += 1
    assert_close(grad, np.full_like(x, 2**steps), 1e-5)
    with pytest.raises(GradientError, match="depends on data"):
        kg.value_and_grad(lambda x: ops.sum(ops.while_loop(lambda v: ops.sum(v) < 30, lambda v: v * 2, (x,))[0]))(x)


@pytest.mark.parametrize("sign", [1, -1])
def test_cond_and_switch(sign, rng):
    x = (sign * np.abs(rng.standard_normal((2, 3)))).astype(np.float32)

    def choose(o, x):
        return o.cond(o.sum(x) > 0, lambda: {"a": x * 2, "b": o.sum(x)}, lambda: {"a": o.exp(x), "b": o.max(x)})

    both(choose, x)
    gradients(choose, x)
    for i in (-3, 0, 1, 2, 8):
        got = kg.compile(lambda i, x: ops.switch(i, [lambda v: v, lambda v: v * 2, lambda v: ops.exp(v)], x))(np.int32(i), x)
        assert_close(got, [x, x * 2, np.exp(x)][min(max(i, 0), 2)], 1e-6)
        assert_close(ops.switch(i, [lambda v: v, lambda v: v * 2, lambda v: ops.exp(v)], x), got, 0)


@pytest.mark.parametrize("n,reverse", [(1, False), (2, True), (3, False), (6, True), (11, False)])
def test_associative_scan(n, reverse, rng):
    x, m = rng.standard_normal((3, n)).astype(np.float32), rng.standard_normal((n, 2, 2)).astype(np.float32)

    def everything(o, x, m):
        """Products of matrices don't commute; a linear recurrence has a pair of values."""
        return (o.associative_scan(lambda a, b: o.matmul(a, b), m, reverse=reverse),
                o.associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (x, x * 2), reverse=reverse, axis=1))

    both(everything, x, m, tolerance=1e-4)
    if n in (2, 6):
        gradients(everything, x, m)


def test_variables_assigned_in_steps_and_branches(rng):
    x = rng.standard_normal(5).astype(np.float32)
    count = kg.Variable(2.0, trainable=False)
    mean = kg.Variable(np.zeros(5, np.float32), trainable=False)
    seed = kg.random.SeedGenerator(7)

    def step(total, row):
        count.assign(count * 2)
        return total + row * count, count.value

    last, counts = ops.scan(step, 0.0, x)
    assert_close(counts, 2 * 2.0 ** np.arange(1, 6, dtype=np.float32), 0)
    assert float(count) == 64.0
    assert_close(last, (x * np.asarray(counts)).sum(), 1e-5, check_dtype=False)

    def grow(n):
        mean.assign(mean * 0.5 + x)
        return n + 1

    assert int(ops.while_loop(lambda n: n < 3, grow, (0,))[0]) == 3
    assert_close(mean.numpy(), x * 1.75, 1e-6)
    chosen = kg.compile(lambda x: ops.cond(ops.sum(x) > 0, lambda: count.assign(count + 1) * 1, lambda: count.value))
    for v in (np.ones(3, np.float32), -np.ones(3, np.float32), np.ones(3, np.float32)):
        chosen(v)
    assert float(count) == 66.0
    noise = np.asarray(ops.map(lambda r: r * 0 + kg.random.uniform((), seed=seed), x))
    assert len(np.unique(noise)) == 5 and seed.state.numpy().tolist() == [7, 5]


def test_in_functional_models_and_nested(rng, tmp_path):
    x = rng.standard_normal((3, 4, 5)).astype(np.float32)
    inputs = kg.Input((4, 5))
    rows = ops.transpose(inputs, (1, 0, 2))
    _, sums = ops.scan(lambda c, r: (c + r, c + r), ops.zeros_like(rows[0]), rows)
    model = kg.Model(inputs, ops.transpose(sums, (1, 0, 2)))
    assert model.output_shape == (4, None, 5) or model.output_shape == (None, 4, 5)
    assert_close(model.predict(x, verbose=0), np.cumsum(x, 1), 1e-5)
    with pytest.raises(UnsupportedOpError, match="holds Python functions"):
        model.save(tmp_path / "never.keras")

    def nested(o, m):
        return o.scan(lambda c, row: (o.scan(lambda d, v: (o.cond(v > 0, lambda: d + v, lambda: d * 0.5), d), c, row)[0], c), o.sum(m[0]) * 0, m)

    both(nested, x[0])
    gradients(nested, x[0])


@pytest.mark.parametrize("fn,error,words", [
    (lambda x: ops.scan(lambda c, v: ((c[0], ops.cast(c[1], "int32")), None), (0.0, x), x), ShapeError, r"carry\[1\]: it is float32\[4\].*int32\[4\]"),
    (lambda x: ops.scan(lambda c, v: ({"h": c["h"][:2]}, v), {"h": x}, x), ShapeError, r"carry\['h'\]: it is float32\[4\] before and float32\[2\] after"),
    (lambda x: ops.scan(lambda c, v: ([c], v), x, x), ArgumentError, "structure"),
    (lambda x: ops.scan(lambda c, v: c, x, x), ArgumentError, "must return a pair"),
    (lambda x: ops.scan(lambda c, v: (c, v), x), ArgumentError, "give xs, or the number of steps"),
    (lambda x: ops.scan(lambda c, v: (c, v), x, (x, x[:3])), ShapeError, "has 3 rows"),
    (lambda x: ops.scan(lambda c, v: (c, v), x, x, unroll=0), ArgumentError, "unroll"),
    (lambda x: ops.while_loop(lambda v: True, lambda v: ops.concatenate([v, v]), (x,)), ShapeError, r"loop_vars\[0\]: it is float32\[4\]"),
    (lambda x: ops.while_loop(lambda v: v > 0, lambda v: v, (x,)), ShapeError, "one bool"),
    (lambda x: ops.cond(x > 0, lambda: x, lambda: x), ShapeError, "one bool"),
    (lambda x: ops.cond(ops.sum(x) > 0, lambda: {"a": x}, lambda: {"a": ops.cast(x, "int32")}), ShapeError, r"result\['a'\] is float32\[4\] in one branch"),
    (lambda x: ops.cond(ops.sum(x) > 0, lambda: x, lambda: (x, x)), ArgumentError, "different structures"),
    (lambda x: ops.switch(ops.cast(x[0], "int32"), [lambda: x, lambda: x[:2]]), ShapeError, r"result is float32\[4\] in one branch"),
    (lambda x: ops.associative_scan(lambda a, b: a, (x, x[:3])), ShapeError, "must be equal"),
    (lambda x: ops.map(lambda v: v, ops.sum(x)), ShapeError, "no axis to step along"),
], ids=lambda v: v if isinstance(v, str) else "")
def test_errors(fn, error, words):
    with pytest.raises(error, match=words):
        kg.compile(fn)(np.ones(4, np.float32))


def test_tensors_of_a_body_stay_in_it():
    kept = []

    def step(carry, x):
        kept.append(x)
        return carry, x

    def fn(x):
        ops.scan(step, ops.zeros((4,)), x)
        return kept[0] * 2

    with pytest.raises(ArgumentError, match="body of a loop or a branch, is used outside"):
        kg.compile(fn, [kg.spec((3, 4))])


@pytest.mark.parametrize("axis", ["a", 1.5, (0, 0.5)], ids=str)
def test_an_axis_is_an_integer(axis):
    with pytest.raises(ArgumentError, match="an axis is an integer"):
        kg.compile(lambda x: ops.sum(x, axis=axis), [kg.spec((3, 4))])


def test_a_product_of_lanes_without_a_sum(rng):
    """No axis is reduced and each lane has factors of its own: a contraction in name only."""
    x, y = rng.standard_normal((3, 1, 2)), rng.standard_normal((3, 4, 2))
    (dx,) = [np.asarray(kg.compile(kg.grad(lambda x, y: ops.sum(ops.sin(ops.einsum("i...,i...->...", x, y)))))(x, y))]
    assert_close(dx, (np.cos((x * y).sum(0)) * y).sum(1, keepdims=True), 1e-10)
