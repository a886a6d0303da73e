"""Every scalar operation and every cast as Triton text, over the whole range of its type, against the kernel interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler.codegen.accuracy import ACCURACY
from kerogen.compiler.codegen.triton.interpreter import interpret
from kerogen.compiler.kernel.expr import Axis, Bitcast, Cast, Const, Load, Where, op
from kerogen.compiler.kernel.interp import run_kernel
from kerogen.compiler.kernel.ir import Buffer, Kernel, Store
from kerogen.compiler.kernel.scalar_ops import SCALAR_OPS, ScalarOp
from kerogen.runtime import dtype as d
from kerogen.runtime.dtype import DType
from tests.oracle import oracle

oracle("triton")
FLOATS = (d.float32, d.float64, d.float16, d.bfloat16)
INTS = tuple(t for t in d.ALL if t.is_int)


def values(dtype: DType, rng: np.random.Generator) -> np.ndarray:
    """Special values, then all magnitudes, then the interval where the functions vary."""
    if dtype is d.bool_:
        return rng.integers(0, 2, 400).astype(bool)
    if dtype.is_int:
        low, high = int(dtype.min), int(dtype.max)
        special = [low, low + 1, high, high - 1, 0, 1, 2, 3, 5, 7, 63, *([-1, -2, -7] if low else [])]
        wide = rng.integers(low, high, 200, dtype.np, endpoint=True)
        return np.concatenate([np.array(special, dtype.np), wide, rng.integers(0, 12, 200 - len(special)).astype(dtype.np)])
    big = float(np.finfo(np.float32).max) if dtype.itemsize >= 4 or dtype is d.bfloat16 else 6e4
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.99999, -0.99999, 88.0, -88.0, big, -big, 1e-30, 8388607.5]
    scale = np.exp(rng.uniform(-12, 12, 120)) * rng.choice([-1, 1], 120)
    with np.errstate(all="ignore"):
        return np.concatenate([special, scale, rng.uniform(-1, 1, 130), rng.uniform(-30, 30, 130)]).astype(dtype.np)


def run(expr_of, given: dict[str, np.ndarray], result: DType) -> tuple[np.ndarray, np.ndarray]:
    n = len(next(iter(given.values())))
    i = Axis("i", n)
    reads = tuple(Buffer(k, (n,), d.as_dtype(a.dtype)) for k, a in given.items())
    out = Buffer("out", (n,), result)
    kernel = Kernel("scalar", (*reads, out), 1, (i,), (Store(out, (), (i,), expr_of(*[Load(b, (i,)) for b in reads])),))
    memory = {**given, "out": np.zeros(n, result.np)}
    expected = {k: a.copy() for k, a in memory.items()}
    with np.errstate(all="ignore"):
        run_kernel(kernel, expected)
    return interpret([(kernel, {k: k for k in memory})], memory)["out"], expected["out"]


def ulps(a: np.ndarray, b: np.ndarray, dtype: DType) -> np.ndarray:
    """Distance in units of the last place of ``b`` (denormals count as the least normal number); 0 where both are nan or equal."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    eps, tiny = {d.float64: (2.0**-52, 2.0**-1022), d.float32: (2.0**-23, 2.0**-126), d.float16: (2.0**-10, 2.0**-14), d.bfloat16: (2.0**-7, 2.0**-126)}[dtype]
    with np.errstate(all="ignore"):
        unit = np.exp2(np.floor(np.log2(np.maximum(np.abs(wide_b), tiny)))) * eps
        distance = np.abs(wide_a - wide_b) / unit
    same = (wide_a == wide_b) | (np.isnan(wide_a) & np.isnan(wide_b))
    return np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))


def _supported(fn: ScalarOp, dtype: DType) -> bool:
    if fn.name in ACCURACY and dtype in (d.float32, d.float64):
        return False  # test_math holds these to their bounds
    if fn.domain == "float":
        return dtype.is_float
    if fn.domain == "int":
        if fn.name == "mulhi":
            return dtype is d.uint32
        return dtype.is_int or (dtype is d.bool_ and fn.name in ("and", "or", "xor", "not"))
    if dtype is d.bool_:
        return fn.result == "bool" or fn.name in ("add", "mul", "max", "min")
    return True


@pytest.mark.parametrize("dtype", d.ALL, ids=str)
@pytest.mark.parametrize("fn", SCALAR_OPS.values(), ids=str)
def test_operation(fn: ScalarOp, dtype: DType, rng: np.random.Generator) -> None:
    if not _supported(fn, dtype):
        return
    given = {name: values(dtype, rng) for name in "ab"[: fn.arity]}
    if fn.arity == 2:
        given["b"] = rng.permutation(given["b"])
        if fn.name in ("shl", "shr"):
            given["b"] = rng.integers(0, dtype.bits, len(given["b"])).astype(dtype.np)
        if fn.name == "pow" and dtype.is_int:
            given["b"] = rng.integers(0, 9, len(given["b"])).astype(dtype.np)
    got, expected = run(lambda *c: op(fn, *c), given, d.bool_ if fn.result == "bool" else dtype)
    if got.dtype.kind in "iub":
        wrong = got != expected
    else:
        wrong = ulps(got, expected, dtype) > 1.0
        zero = (expected == 0) & (got == 0) & (fn.name in ("copysign", "rem", "trunc", "floor", "ceil", "neg"))
        wrong |= zero & (np.signbit(got.astype(np.float64)) != np.signbit(expected.astype(np.float64)))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise AssertionError(f"{fn}({', '.join(repr(v[at]) for v in given.values())}) is {got[at]!r}, expected {expected[at]!r}; {wrong.sum()} wrong")


@pytest.mark.parametrize("source", d.ALL, ids=str)
def test_casts(source: DType, rng: np.random.Generator) -> None:
    for target in d.ALL:
        given = {"a": values(source, rng)}
        got, expected = run(lambda a, t=target: Cast(a, t), given, target)
        same = (got == expected) | ((got != got) & (expected != expected))
        assert same.all(), f"{source} to {target}: {given['a'][~same][:3]} gave {got[~same][:3]}, expected {expected[~same][:3]}"


@pytest.mark.parametrize("source, target", [(d.float32, d.int32), (d.int32, d.float32), (d.float64, d.uint64), (d.uint16, d.bfloat16),
                                            (d.float16, d.int16), (d.int8, d.uint8), (d.float32, d.uint32)], ids=str)
def test_bitcasts(source: DType, target: DType, rng: np.random.Generator) -> None:
    a = rng.integers(0, 120, (300, source.itemsize), np.uint8).reshape(-1).view(source.np)  # no nan: its payload may change
    got, expected = run(lambda a: Bitcast(a, target), {"a": a}, target)
    assert (got.view(np.uint8) == expected.view(np.uint8)).all()


@pytest.mark.parametrize("dtype", d.ALL, ids=str)
def test_choice_and_constants(dtype: DType, rng: np.random.Generator) -> None:
    """where(a < c, a, c), c a constant of the type that a literal of another type would not carry."""
    c = Const(True if dtype is d.bool_ else int(dtype.max) - 1 if dtype.is_int else 0.1, dtype)
    given = {"a": values(dtype, rng)}
    got, expected = run(lambda a: Where(op(SCALAR_OPS["lt"], a, c), a, c), given, dtype)
    assert ((got == expected) | ((got != got) & (expected != expected))).all()
    got, expected = run(lambda a: Where(op(SCALAR_OPS["eq"], a, a), c, c), given, dtype)
    assert (got == expected).all()
