"""The functions against NumPy: broadcasting, promotion, weak scalars, negative axes, free sizes."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.runtime.dim import Dim, key, recording
from kerogen.runtime.dtype import as_dtype, bool_, float32, int32, int64
from kerogen.runtime.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError

from ..compare import assert_close


def compute(y: Node) -> np.ndarray:
    return evaluate(Graph((), (y,)), [])[0]


def array(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.mod,
    "rem": np.fmod,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "atan2": np.arctan2,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("shapes", [((3, 5), (5,)), ((2, 1, 4), (3, 1)), ((), (2, 3)), ((0, 3), (1, 1))], ids=str)
def test_two_operands_broadcast(name: str, shapes, rng) -> None:
    a, b = (np.asarray(np.round(rng.uniform(-3, 3, s), 1) + 0.05, np.float32) for s in shapes)
    assert_close(compute(getattr(o, name)(a, b)), BINARY[name](a, b), 1e-6)


UNARY = {
    "neg": np.negative,
    "abs_": np.abs,
    "sign": np.sign,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "square": np.square,
    "reciprocal": np.reciprocal,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": lambda x: np.arccosh(x + 1),
    "atanh": np.arctanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "floor": np.floor,
    "ceil": np.ceil,
    "round_": np.round,
    "trunc": np.trunc,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "relu": lambda x: np.maximum(x, 0),
}


@pytest.mark.parametrize("name", UNARY)
def test_one_operand(name: str, rng) -> None:
    x = rng.uniform(0.05, 0.95, (3, 7)).astype(np.float32)
    given = x + np.float32(1) if name == "acosh" else x
    assert_close(compute(getattr(o, name)(given)), UNARY[name](x), 3e-6)


@pytest.mark.parametrize(
    ("a", "b", "result"),
    [
        (np.float32, 2, "float32"),
        (np.float32, 2.5, "float32"),
        (np.int32, 2, "int32"),
        (np.int32, 2.5, "float32"),
        (np.int64, 2, "int64"),
        (np.bool_, 2, "int32"),
        (np.float16, 2.5, "float16"),
        (np.float16, np.float32(2), "float32"),
        (np.int8, np.int16(300), "int16"),
        (np.uint8, np.int8(3), "int16"),
        (np.int64, np.float32(2), "float32"),
        (np.float32, np.float64(2), "float32"),
        (np.float64, np.float32(2), "float64"),
        (np.int32, True, "int32"),
    ],
)
def test_types_meet_as_in_jax(a, b, result: str) -> None:
    x = np.array([1, 0, 1]).astype(a)
    assert o.mul(x, b).dtype.name == result
    assert o.mul(b, x).dtype.name == result


def test_python_numbers_alone() -> None:
    assert o.constant(2).dtype is int32 and o.constant(2.0).dtype is float32 and o.constant(True).dtype is bool_
    assert o.constant([1.5, 2]).dtype is float32 and o.constant([[1], [2]]).dtype is int32
    assert o.constant(np.arange(3)).dtype is int64
    with pytest.raises(DTypeError, match="300 doesn't fit uint8"):
        o.add(np.ones(2, np.uint8), 300)
    with pytest.raises(ArgumentError, match="not a tensor of numbers"):
        o.constant(np.array(["a", "b"]))


def test_bool_arithmetic_is_logic() -> None:
    a, b = np.array([True, True, False]), np.array([True, False, False])
    for name, expected in (("add", a | b), ("mul", a & b), ("maximum", a | b), ("minimum", a & b), ("logical_xor", a ^ b)):
        assert_close(compute(getattr(o, name)(a, b)), expected)
    with pytest.raises(DTypeError, match="Sub needs numbers, got bool"):
        o.sub(a, b)
    assert compute(o.sum_(a)).tolist() == 2


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match=r"add: shapes \[2, 3\] and \[4\] can't be broadcast \(3 against 4\)"):
        o.add(np.ones((2, 3)), np.ones(4))
    with pytest.raises(ShapeError, match="axes .* out of range for a tensor of rank 2"):
        o.sum_(np.ones((2, 3)), 2)
    with pytest.raises(ArgumentError, match="name an axis twice"):
        o.sum_(np.ones((2, 3)), (0, -2))
    with pytest.raises(ShapeError, match=r"matmul: \[2, 3\] and \[4, 5\] don't fit"):
        o.matmul(np.ones((2, 3)), np.ones((4, 5)))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, -1, -2, 0.5, -0.5, 2.5, 11])
def test_powers(exponent, rng) -> None:
    x = rng.uniform(0.3, 2, (3, 5)).astype(np.float32)
    assert_close(compute(o.power(x, exponent)), x ** np.float32(exponent), 2e-5)


def test_integer_powers() -> None:
    a, b = np.array([2, -3, 0, 1, -1, -1, 7, 5], np.int32), np.array([10, 3, 0, -4, -3, -2, -1, 31], np.int32)
    with np.errstate(over="ignore"):
        expected = [1024, -27, 1, 1, -1, 1, 0, int(np.array(pow(5, 31) & 0xFFFFFFFF, np.uint32).view(np.int32))]
    assert compute(o.power(a, b)).tolist() == expected
    assert compute(o.power(a, 3)).tolist() == (a**3).tolist()


@pytest.mark.parametrize(
    ("axes", "keepdims"), [(None, False), (None, True), (1, False), ((0, -1), True), ((2, 0), False), ((), False)], ids=str
)
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean", "var", "any", "all"])
def test_reductions(name: str, axes, keepdims: bool, rng) -> None:
    x = rng.standard_normal((3, 4, 5)).astype(np.float32)
    x = x > 0 if name in ("any", "all") else x
    fn = getattr(o, name if name in ("mean", "var", "prod") else name + "_")
    assert_close(compute(fn(x, axes, keepdims)), np.asarray(getattr(np, name)(x, axis=axes, keepdims=keepdims)), 1e-5)


def test_positions_of_extremes(rng) -> None:
    x = rng.integers(-3, 4, (3, 5, 4)).astype(np.float32)
    assert_close(compute(o.argmax(x)), np.int32(np.argmax(x)))
    assert_close(compute(o.argmin(x, -1, keepdims=True)), np.argmin(x, -1, keepdims=True).astype(np.int32))
    assert_close(compute(o.argmax(x, 1, dtype=int64)), np.argmax(x, 1))
    assert compute(o.argmax(x, keepdims=True)).shape == (1, 1, 1)
    with pytest.raises(ArgumentError, match="one axis or over all"):
        o.argmax(x, (0, 1))


def test_movement(rng) -> None:
    x = array(rng, 4, 6, 5)
    cases = [
        (o.reshape(x, (-1, 10)), x.reshape(-1, 10)),
        (o.transpose(x), x.T),
        (o.transpose(x, (1, -1, 0)), x.transpose(1, 2, 0)),
        (o.expand_dims(x, (0, -1)), x[None, ..., None]),
        (o.squeeze(x[:1, :, :1]), x[0, :, 0]),
        (o.slice_(x, (1, 0, 4), (4, 6, -1), (1, 2, -2)), x[1:4, ::2, ::-2]),
        (o.slice_(x, (3, 0, 0), (1, 6, 5)), x[3:1]),
        (o.flip(x, (0, 2)), x[::-1, :, ::-1]),
        (o.concat([x, x[:, 1:2]], 1), np.concatenate([x, x[:, 1:2]], 1)),
        (o.stack([x, x], -1), np.stack([x, x], -1)),
        (o.tile(x, (2, 1, 3)), np.tile(x, (2, 1, 3))),
        (o.tile(x[0, 0], (2, 3)), np.tile(x[0, 0], (2, 3))),
        (o.pad(x, ((1, 2), (0, 0), (3, 0)), 1.5), np.pad(x, ((1, 2), (0, 0), (3, 0)), constant_values=1.5)),
        (o.pad(x, ((-1, 0), (2, -3), (0, 0))), np.pad(x[1:, :-3], ((0, 0), (2, 0), (0, 0)))),
        (o.broadcast_to(x[:, :1], (2, 4, 6, 5)), np.broadcast_to(x[:, :1], (2, 4, 6, 5))),
        (o.where(x > 0, x, 0), np.where(x > 0, x, np.float32(0))),
        (o.clip(x, -0.5, 0.25), np.clip(x, -0.5, 0.25)),
    ]
    for node, expected in cases:
        assert_close(compute(node), expected, 0, what=repr(node))
    for axis, sizes in ((0, 2), (1, (1, 2, 3)), (-1, [5, 0])):
        pieces = [compute(p) for p in o.split(x, sizes, axis)]
        assert_close(np.concatenate(pieces, axis), x, 0)
        assert len(pieces) == (sizes if isinstance(sizes, int) else len(sizes))
    spread = compute(o.pad(x[0, 0], ((1, 0),), 0, (2,)))
    assert spread[1::3].tolist() == x[0, 0].tolist() and np.count_nonzero(spread) == 5 and len(spread) == 14


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 5), (5, 7)),
        ((5,), (5,)),
        ((5,), (5, 3)),
        ((2, 3, 5), (5,)),
        ((2, 3, 5), (5, 4)),
        ((2, 3, 5), (2, 5, 4)),
        ((4, 1, 3, 5), (2, 5, 6)),
        ((5,), (3, 5, 2)),
        ((1, 3, 5), (4, 5, 2)),
        ((0, 3), (3, 2)),
    ],
    ids=str,
)
def test_matmul(a, b, rng) -> None:
    x, y = array(rng, *a), array(rng, *b)
    assert_close(compute(o.matmul(x, y)), np.asarray(np.matmul(x, y)), 1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(3, 4), (4, 5)]),
        ("ij,jk", [(3, 4), (4, 5)]),
        ("bij,bjk->bki", [(2, 3, 4), (2, 4, 5)]),
        ("ii->i", [(4, 4)]),
        ("iij->j", [(3, 3, 2)]),
        ("ij->", [(3, 4)]),
        ("i,j->ij", [(3,), (4,)]),
        ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 6)]),
        ("bqhd,bkhd->bhqk", [(2, 3, 2, 5), (2, 4, 2, 5)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("abc,cd,def->abe", [(2, 3, 4), (4, 5), (5, 2, 3)]),
        ("ij,ij->ij", [(3, 4), (3, 4)]),
        ("ij,i->j", [(3, 4), (3,)]),
        ("i...->...", [(3, 4, 2)]),
        ("ij,ik->i", [(3, 4), (3, 2)]),
    ],
)
def test_einsum(equation: str, shapes, rng) -> None:
    xs = [array(rng, *s) for s in shapes]
    assert_close(compute(o.einsum(equation, *xs)), np.asarray(np.einsum(equation, *xs)), 1e-5)


def test_gather_and_scatter(rng) -> None:
    x, i = array(rng, 5, 4, 3), rng.integers(0, 4, (2, 7)).astype(np.int32)
    assert_close(compute(o.take(x, i, 1)), np.take(x, i, 1), 0)
    assert_close(compute(o.take(x, np.array([-1, 0, -4]), 1, wrap=True)), x[:, [-1, 0, -4]], 0)
    order = np.argsort(x, -1)
    assert_close(compute(o.take_along_axis(x, order, -1)), np.take_along_axis(x, order, -1), 0)
    updates = array(rng, 5, 2, 7, 3)
    expected = x.copy()
    for a in range(2):
        for b in range(7):
            expected[:, i[a, b]] += updates[:, a, b]
    assert_close(compute(o.scatter_add(x, i, updates, 1)), expected, 1e-6)
    assert_close(
        compute(o.one_hot(np.array([2, -1, 0, 9]), 3)), np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]], np.float32), 0
    )
    assert_close(compute(o.one_hot(np.array([[1, 0]]), 2, int32, 0)), np.array([[[0, 1]], [[1, 0]]], np.int32), 0)
    assert_close(compute(o.iota((2, 3), 1)), np.array([[0, 1, 2]] * 2, np.int32), 0)
    with pytest.raises(IndexRangeError, match=r"index 4 is outside \[0, 4\)"):
        compute(o.take(x, np.array([0, 4]), 1))


def test_constants() -> None:
    assert compute(o.full((2, 3), 1.5, "float16")).tolist() == [[1.5] * 3] * 2
    assert compute(o.zeros_like(np.ones((2, 1), np.int8))).dtype == np.int8
    a = np.arange(6.0).reshape(2, 3)
    x, y = o.constant(a), o.constant(a.copy())
    assert x is y and o.constant(a.astype(np.float32)) is not x and o.constant(a.T) is not x
    a[0, 0] = 9  # the constant has its own copy
    assert compute(x)[0, 0] == 0
    assert o.constant(np.float32(-0.0)) is not o.constant(np.float32(0.0))
    assert compute(o.constant([1.7, -1.7], "int32")).tolist() == [1, -1]


def batch(n: int) -> Dim:
    return Dim.free("batch", n)


def test_free_sizes_stay_expressions_and_leave_no_guards(rng) -> None:
    """A network's worth of functions on a free batch: every size of every result is an expression, and nothing was compared."""
    with recording() as guards:
        x = leaf("x", TensorType((batch(6), 8, 8, 3), float32))
        h = o.relu(o.conv(x, array(rng, 3, 3, 3, 4), 2, 1))
        h = o.max_pool(h, 2)
        flat = o.reshape(h, (h.shape[0], -1))
        logits = o.add(o.matmul(flat, array(rng, 16, 5)), array(rng, 5))
        p = o.log_softmax(logits)
        loss = o.mean(o.sum_(o.mul(p, o.one_hot(o.argmax(p, -1), 5)), -1))
        split = o.reshape(logits, (-1, 5))
        normal = o.layer_norm(o.concat([flat, flat], 1))
        stats = o.var(x, (0, 1, 2))
        both = o.add(o.expand_dims(logits, 1), o.transpose(o.reshape(logits, (x.shape[0], 1, 5)), (0, 1, 2)))
        noise = o.random_uniform(np.array([1, 2], np.uint32), 3, flat.shape)
    assert not guards, guards
    assert loss.shape == () and stats.shape == (3,)
    for n in (h, flat, logits, p, split, normal, both, noise):
        assert key(n.shape[0]) == key(batch(6)), n


def test_mean_over_a_free_size_divides_by_its_value(rng) -> None:
    x = leaf("x", TensorType((batch(4), 3), float32))
    y = o.mean(x)
    a = array(rng, 4, 3)
    assert_close(evaluate(Graph((x,), (y,)), [a])[0], np.float32(a.mean(dtype=np.float64)), 1e-6)
    assert "batch" in repr(y.inputs[1].op) or "batch" in repr(y.inputs[0].op)


def test_sizes_that_must_agree_leave_a_guard() -> None:
    x, y = leaf("x", TensorType((batch(6), 2), float32)), leaf("y", TensorType((6, 2), float32))
    with recording() as guards:
        z = o.add(x, y)
    assert len(guards) == 1 and key(z.shape[0]) == 6
    with pytest.raises(ShapeError, match=r"\[batch, 2\] and \[7, 2\]"):
        o.add(x, leaf("w", TensorType((7, 2), float32)))


def test_gelu_equals_its_definition(rng) -> None:
    from math import erf, sqrt

    x = rng.uniform(-4, 4, 50).astype(np.float32)
    exact = np.array([0.5 * v * (1 + erf(v / sqrt(2))) for v in x.astype(np.float64)], np.float32)
    assert_close(compute(o.gelu(x)), exact, 1e-6)
    assert np.abs(compute(o.gelu(x, True)) - exact).max() < 1e-3
    assert np.any(compute(o.gelu(x, True)) != compute(o.gelu(x)))


def test_scalars_of_every_type_survive() -> None:
    for name, value in (("int64", -(2**63)), ("uint64", 2**64 - 1), ("bfloat16", 1.5), ("bool", True), ("float64", 1e-300)):
        d = as_dtype(name)
        assert compute(o.constant(np.array(value, d.np))).item() == value
