"""Every rewrite rule: it applies, and what it gives is equal on random and on special values, signs of zeros included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Input, Node, leaf, node
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.ir.verify import verify
from kerogen.compiler.ops import op_classes
from kerogen.compiler.ops.constant import Constant, Full
from kerogen.compiler.passes.canonicalize import RULES, canonicalize
from kerogen.compiler.passes.convolution import RULES as CONVOLUTION_RULES
from kerogen.runtime.config import FUEL
from kerogen.runtime.dim import Dim
from kerogen.runtime.dtype import bool_, float32, float64, int8, int32, uint8

from ..compare import assert_close, assert_same_bits

OPS = {name: cls for name, cls in op_classes().items() if cls.kind != "result"}
SHAPE = (3, 1, 4)
Made = Callable[[Node, Node], Node]


def values(rng: np.random.Generator, dtype, shape=SHAPE) -> np.ndarray:
    """Random numbers, with special ones at random places."""
    size = int(np.prod(shape))
    if dtype is bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_int:
        info = np.iinfo(dtype.np)
        special = np.array([info.min, info.max, 0, 1, info.max // 2 + 1], dtype.np)
        out = rng.integers(info.min, info.max, size, dtype=dtype.np, endpoint=True)
    else:
        tiny = np.finfo(dtype.np).smallest_subnormal
        special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, tiny, -tiny, np.finfo(dtype.np).max, 1.0, -1.0], dtype.np)
        out = (rng.standard_normal(size) * 10.0 ** rng.integers(-3, 4, size)).astype(dtype.np)
    at = rng.random(size) < 0.5
    out[at] = rng.choice(special, int(at.sum()))
    return out.reshape(shape)


def same(actual: np.ndarray, expected: np.ndarray, ulps: int = 0) -> None:
    """Equal numbers with equal signs of zeros; nan where nan is."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    if actual.dtype.kind != "f":
        assert_same_bits(actual, expected)
        return
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), nan)
    a, b = actual[~nan], expected[~nan]
    np.testing.assert_array_equal(np.signbit(a), np.signbit(b))
    if ulps:
        with np.errstate(all="ignore"):
            fine = (a == b) | (np.abs(a - b) <= ulps * np.spacing(np.abs(b)))
        assert fine.all(), (a[~fine], b[~fine])
    else:
        np.testing.assert_array_equal(a, b)


def of(name: str, *operands) -> Node:
    """A node as a front end could make it: the functions simplify some of these themselves."""
    x = next(n for n in operands if isinstance(n, Node))
    return node(OPS[name](), *[n if isinstance(n, Node) else o.full(x.shape, n, x.dtype) for n in operands])


def is_x(n: Node) -> bool:
    return isinstance(n.op, Input)


def named(*names: str) -> Callable[[Node], bool]:
    return lambda n: n.op.name in names


def number(n: Node) -> bool:
    return isinstance(n.op, (Full, Constant))


FLOATS, INTS = (float32, float64), (int32, int8, uint8)
# name: (the graph, what its result becomes, types, ULPs)
CASES: dict[str, tuple[Made, Callable[[Node], bool], tuple, int]] = {
    "transpose of nothing": (lambda x, y: o.transpose(x, (0, 1, 2)), is_x, FLOATS, 0),
    "transpose of transpose": (lambda x, y: o.transpose(o.transpose(x, (2, 0, 1)), (1, 2, 0)), is_x, FLOATS, 0),
    "transpose of three": (lambda x, y: o.transpose(o.transpose(o.transpose(x, (2, 0, 1)), (1, 0, 2)), (0, 2, 1)), is_x, FLOATS, 0),
    "transpose of two": (lambda x, y: o.transpose(o.transpose(x, (2, 0, 1)), (1, 2, 0)), is_x, FLOATS, 0),
    "transpose of size 1": (lambda x, y: o.transpose(x, (1, 0, 2)), named("Reshape"), FLOATS, 0),
    "reshape of nothing": (lambda x, y: o.reshape(o.reshape(x, (12,)), SHAPE), is_x, FLOATS, 0),
    "reshape of reshape": (lambda x, y: o.reshape(o.reshape(x, (12,)), (4, 3)), lambda n: n.op.name == "Reshape" and is_x(n.inputs[0]), FLOATS, 0),
    "broadcast of broadcast": (lambda x, y: o.broadcast_to(o.broadcast_to(x, (3, 5, 4)), (2, 3, 5, 4)),
                               lambda n: n.op.name == "Broadcast" and is_x(n.inputs[0]), FLOATS, 0),
    "cast to its own type": (lambda x, y: node(OPS["Cast"](x.dtype), x), is_x, (*FLOATS, int32), 0),
    "slice of all": (lambda x, y: o.slice_(x, (0, 0, 0), SHAPE), is_x, FLOATS, 0),
    "slice backwards stays": (lambda x, y: o.flip(x, (2,)), lambda n: not is_x(n), FLOATS, 0),
    "pad by nothing": (lambda x, y: node(OPS["Pad"](((0, 0, 0)), (0, 0, 0), (0, 0, 0), *_pad_rest(x)), x), is_x, FLOATS, 0),
    "integer x + 0": (lambda x, y: of("Add", x, 0), is_x, INTS, 0),
    "integer 0 + x": (lambda x, y: of("Add", 0, x), is_x, INTS, 0),
    "float x + 0.0 stays": (lambda x, y: of("Add", x, 0.0), named("Add"), FLOATS, 0),
    "float 0.0 + x stays": (lambda x, y: of("Add", 0.0, x), named("Add"), FLOATS, 0),
    "x + -0.0": (lambda x, y: of("Add", x, o.full(SHAPE, -0.0, x.dtype)), is_x, FLOATS, 0),
    "x + (-y)": (lambda x, y: of("Add", x, o.neg(y)), named("Sub"), (*FLOATS, int32), 0),
    "x - 0": (lambda x, y: of("Sub", x, 0), is_x, (*FLOATS, *INTS), 0),
    "x - -0.0 stays": (lambda x, y: of("Sub", x, o.full(SHAPE, -0.0, x.dtype)), named("Sub"), FLOATS, 0),
    "x - (-y)": (lambda x, y: of("Sub", x, o.neg(y)), named("Add"), (*FLOATS, int32), 0),
    "x * 1": (lambda x, y: of("Mul", x, 1), is_x, (*FLOATS, *INTS), 0),
    "1 * x": (lambda x, y: of("Mul", 1, x), is_x, (*FLOATS, *INTS), 0),
    "x * -1": (lambda x, y: of("Mul", x, -1), named("Neg"), (*FLOATS, int32, int8), 0),
    "-1 * x": (lambda x, y: of("Mul", -1, x), named("Neg"), FLOATS, 0),
    "x * 0 stays": (lambda x, y: of("Mul", x, 0.0), named("Mul"), FLOATS, 0),
    "x / 1": (lambda x, y: of("Div", x, 1.0), is_x, FLOATS, 0),
    "x / 2^k": (lambda x, y: of("Div", x, -8.0), named("Mul"), FLOATS, 0),
    "x / 0.25": (lambda x, y: of("Div", x, 0.25), named("Mul"), FLOATS, 0),
    "x / 3 stays": (lambda x, y: of("Div", x, 3.0), named("Div"), FLOATS, 0),
    "-(-x)": (lambda x, y: of("Neg", of("Neg", x)), is_x, (*FLOATS, int32, int8), 0),
    "x ** 1": (lambda x, y: of("Power", x, 1.0), is_x, FLOATS, 0),
    "x ** 2": (lambda x, y: of("Power", x, 2.0), named("Mul"), FLOATS, 1),
    "x ** -1": (lambda x, y: of("Power", x, -1.0), named("Div"), FLOATS, 1),
    "x ** 0.5 stays": (lambda x, y: of("Power", x, 0.5), named("Power"), FLOATS, 0),
    "sum over nothing": (lambda x, y: o.sum_(x, ()), is_x, (*FLOATS, int32), 0),
    "max over nothing": (lambda x, y: o.max_(x, ()), is_x, (*FLOATS, int32), 0),
    "numbers": (lambda x, y: o.exp(o.add(o.full(SHAPE, 0.5, x.dtype), 1.5)), number, FLOATS, 1),
    "numbers, moved": (lambda x, y: o.transpose(o.broadcast_to(o.full((1, 4), 2.5, x.dtype), SHAPE), (2, 0, 1)), number, FLOATS, 0),
    "arrays": (lambda x, y: o.sum_(o.mul(o.constant(np.arange(6.0).reshape(2, 3).astype(x.dtype.np)), 1.5), (0,)), number, FLOATS, 1),
    "numbers under x": (lambda x, y: of("Add", x, o.sub(o.full(SHAPE, 0.5, x.dtype), 0.5)), named("Add"), FLOATS, 0),
    "one after another": (lambda x, y: o.neg(o.neg(o.transpose(o.transpose(of("Mul", x, 1), (2, 1, 0)), (2, 1, 0)))), is_x, FLOATS, 0),
}


def _pad_rest(x: Node) -> tuple:
    """The value of a Pad, as the function of that name makes it."""
    op = o.pad(x, ((1, 0), (0, 0), (0, 0)), 0).op
    return (op.value,) if hasattr(op, "value") else ()


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str, rng: np.random.Generator) -> None:
    make, becomes, dtypes, ulps = CASES[name]
    for dtype in dtypes:
        x, y = leaf("x", TensorType(SHAPE, dtype)), leaf("y", TensorType(SHAPE, dtype))
        graph = Graph((x, y), (make(x, y),), name="rule")
        new = canonicalize(graph)
        verify(new)
        assert new.outputs[0].type.same(graph.outputs[0].type)
        assert becomes(new.outputs[0]), f"{name} for {dtype}: {graph.outputs[0]} became {new.outputs[0]}"
        for _ in range(5):
            arrays = [values(rng, dtype), values(rng, dtype)]
            with np.errstate(all="ignore"):
                same(evaluate(new, arrays)[0], evaluate(graph, arrays)[0], ulps)


def test_every_class_with_rules_has_a_case() -> None:
    made = set()
    for make, _, dtypes, _ in CASES.values():
        x, y = leaf("x", TensorType(SHAPE, dtypes[0])), leaf("y", TensorType(SHAPE, dtypes[0]))
        for n in Graph((x, y), (make(x, y),), name="rule").nodes:
            made |= {c.__name__ for c in type(n.op).__mro__}
    assert {cls.__name__ for cls in RULES} <= made


@pytest.mark.parametrize("name", sorted(OPS))
def test_samples_of_every_op_keep_their_results(name: str) -> None:
    """With each floating operand in turn a constant, so that folding takes part."""
    for s in OPS[name].samples(np.random.default_rng(3)):
        for k in range(-1, len(s.arrays)):
            xs = [leaf(f"x{i}", TensorType(a.shape, o.constant(a).dtype)) for i, a in enumerate(s.arrays)]
            n = node(s.op, *[o.constant(a) if i != k else x for i, (x, a) in enumerate(zip(xs, s.arrays))])
            graph = Graph(tuple(xs), tuple(o.results(n)) if n.has_items else (n,), name=name)
            new = canonicalize(graph)
            verify(new)
            with np.errstate(all="ignore"):
                for a, b in zip(evaluate(new, list(s.arrays)), evaluate(graph, list(s.arrays)), strict=True):
                    assert_close(a, b, 1e-6 if a.dtype.kind == "f" and a.dtype.itemsize >= 4 else 1e-2 if a.dtype.kind not in "iub" else 0)


def test_free_sizes_are_not_folded() -> None:
    """batch happens to be 1: nothing may depend on that."""
    batch = Dim.free("batch", 1)
    x = leaf("x", TensorType((batch, 4), float32))
    turned = canonicalize(Graph((x,), (o.transpose(x, (1, 0)),), name="g")).outputs[0]
    assert turned.op.name == "Transpose", "moving an axis of free size is a transposition, whatever the size now"
    kept = canonicalize(Graph((x,), (o.add(x, o.full((batch, 4), -0.0, float32)),), name="g")).outputs[0]
    assert kept is x


def test_fuel_stops_rewriting(monkeypatch: pytest.MonkeyPatch) -> None:
    x = leaf("x", TensorType(SHAPE, float32))
    graph = Graph((x,), (of("Neg", of("Neg", of("Mul", o.exp(x), 1.0))),), name="g")
    assert canonicalize(graph).outputs[0].op.name == "Exp"
    counts = []
    for fuel in (0, 1, 2):
        monkeypatch.setenv(FUEL.name, str(fuel))
        counts.append(sum(not isinstance(n.op, (Input, Full)) for n in canonicalize(graph).nodes))
    assert counts == [4, 3, 1]


@pytest.mark.parametrize("name", ["Conv", "ConvInputGrad", "ConvWeightGrad"])
def test_convolutions(name: str) -> None:
    """A gradient of the image becomes a convolution; zeros around the image become a convolution's padding, or its padding a Pad. Equal results."""
    for s in OPS[name].samples(np.random.default_rng(5)):
        xs = [leaf(f"x{i}", TensorType(a.shape, float32)) for i, a in enumerate(s.arrays)]
        graph = Graph(tuple(xs), (node(s.op, *xs),), name=name)
        new = canonicalize(graph, CONVOLUTION_RULES)
        verify(new)
        for n in new.nodes:
            assert n.op.name != "ConvInputGrad" or n.op.groups != 1
            if n.op.name == "Pad" and len(s.arrays[0].shape) == 4 and n.shape[-1] > 1 and n.dtype is float32:
                assert any(n.op.interior) or s.op.groups > 1 or min(*n.op.lo, *n.op.hi) < 0, f"{s.op}: {n}"
        assert_close(evaluate(new, list(s.arrays))[0], evaluate(graph, list(s.arrays))[0], 1e-6, what=str(s.op))
