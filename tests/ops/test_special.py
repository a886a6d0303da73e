"""Functions made of several ops, and powers, at the values where a shorter formula goes wrong; ``tests/test_ops.py`` has each op."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.passes.autodiff import grad
from kerogen.compiler.pipeline import compile_graph
from kerogen.compiler.target import Target
from kerogen.runtime.dtype import as_dtype
from kerogen.runtime.errors import DTypeError
from kerogen.runtime.executable import Executable

TARGETS = ["native", "x86-64-v2"]
HARD = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.5, -1e30, 1e-30, 1e38, 1e-40, -3e-45]


def run(fn, *arrays: np.ndarray, target: str = "native") -> np.ndarray:
    xs = tuple(leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(arrays))
    return Executable(plans=[compile_graph(Graph(xs, (fn(*xs),)), target=Target.named(target))])(*arrays)


def same(got: np.ndarray, want: np.ndarray) -> None:
    """Equal values, and signs of zero."""
    assert got.dtype == want.dtype
    wrong = ~((got == want) | (np.isnan(got) & np.isnan(want))) | ((want == 0) & (np.signbit(got) != np.signbit(want)))
    assert not wrong.any(), f"{got[wrong][:4]}, expected {want[wrong][:4]}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("exponent", [0.5, -0.5, -1.0, -2.0, 2, 3, 0])
def test_powers_with_constant_exponents_are_powers(exponent: float, target: str, rng) -> None:
    """-inf ** 0.5 is inf and -0.0 ** 0.5 is 0.0; 1e20 ** -2 is a denormal, though 1e20 ** 2 overflows."""
    x = np.concatenate([HARD, rng.standard_normal(50), 10.0 ** rng.uniform(-38, 38, 200), [1e20, -1e22]]).astype(np.float32)
    got = run(lambda v: o.power(v, exponent), x, target=target)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), np.full(x.shape, exponent)).astype(np.float32)  # a scalar 0.5 would be sqrt
    ulp = np.spacing(np.maximum(np.abs(np.where(np.isfinite(want), want, 1)), np.finfo(np.float32).tiny))
    with np.errstate(all="ignore"):
        close = (got == want) | (np.isnan(got) & np.isnan(want)) | (np.abs(got.astype(np.float64) - want) <= 3 * ulp)
    assert close.all(), (x[~close], got[~close], want[~close])
    zero = (want == 0) & (got == 0)
    assert np.array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floor_division_of_floats_is_numpys(dtype, target: str, rng) -> None:
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.1, -0.1, 3.0, 7.0, 1e30, 1e-38], dtype)
    a, b = (v.ravel() for v in np.meshgrid(special, special))
    a = np.concatenate([a, rng.integers(-99, 99, 400).astype(dtype), rng.standard_normal(400).astype(dtype) * 1e6]).astype(dtype)
    b = np.concatenate([b, rng.choice([0.1, 0.3, -0.7, 3.0], 400), rng.standard_normal(400)]).astype(dtype)
    with np.errstate(all="ignore"):
        same(run(o.floordiv, a, b, target=target), np.floor_divide(a, b))


INTEGERS = {"trunc_div": lambda a, b: a - np.fmod(a, b), "floordiv": np.floor_divide, "mod": np.mod, "rem": np.fmod}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint64"])
@pytest.mark.parametrize("name", INTEGERS)
def test_integer_division_never_traps(name: str, dtype: str, target: str, rng) -> None:
    """By 0 it gives 0; the least value by -1 wraps to itself, and leaves no remainder. Else NumPy's, from int64 or Python's integers."""
    info = np.iinfo(dtype)
    special = np.array([0, 1, 2, 3, 7, info.max, info.min, info.max - 1, *([-1, -2, -3, -7] if info.min else [])], dtype)
    a, b = (v.ravel() for v in np.meshgrid(special, special))
    a = np.concatenate([a, rng.integers(info.min, info.max, 300, dtype, endpoint=True)])
    b = np.concatenate([b, rng.integers(-9 if info.min else 0, 9, 300).astype(dtype)])

    def exact(x: int, y: int) -> int:
        if y == 0:
            return 0
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        value = {"trunc_div": quotient, "floordiv": x // y, "mod": x % y, "rem": x - quotient * y}[name]
        return (value - info.min) % (int(info.max) - int(info.min) + 1) + int(info.min)

    want = np.array([exact(int(x), int(y)) for x, y in zip(a, b)], dtype)
    assert np.array_equal(run(getattr(o, name), a, b, target=target), want)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_nextafter(dtype: str, target: str) -> None:
    t = as_dtype(dtype).np
    top = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}.get(dtype) or float(np.finfo(t).max)
    values = np.array([0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, top, -top, 1e-3, 6e-8]).astype(t)
    a, b = (v.ravel() for v in np.meshgrid(values, values))
    got = run(o.nextafter, a, b, target=target)
    same(got.astype(np.float64), np.where(a == b, b, np.nextafter(a, b)).astype(np.float64))  # NumPy's float16 gives a's zero


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ldexp_rounds_once(dtype, target: str, rng) -> None:
    least = -1074 if dtype == np.float64 else -149
    x = np.concatenate([np.array(HARD), rng.standard_normal(400), rng.standard_normal(400) * 2.0**100]).astype(dtype)
    n = np.concatenate(
        [rng.integers(-9, 9, len(HARD)), rng.integers(least - 5, least + 60, 400), rng.integers(-2500, 2500, 400)]
    ).astype(np.int32)
    with np.errstate(all="ignore"):
        same(run(o.ldexp, x, n, target=target), np.ldexp(x, n))
        extreme = np.array([2**31 - 1, -(2**31)], np.int32)
        same(run(o.ldexp, x[:2] + 1, extreme, target=target), np.array([np.inf, 0.0], dtype))


def test_ldexp_needs_an_integer_exponent() -> None:
    with pytest.raises(DTypeError, match="exponent must be an integer, got float32"):
        o.ldexp(np.ones(2, np.float32), np.ones(2, np.float32))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_lcm(dtype, rng) -> None:
    a, b = (rng.integers(0 if dtype == np.uint8 else -12, 13, 300).astype(dtype) for _ in range(2))
    assert np.array_equal(run(o.lcm, a, b), np.lcm(a, b))


def test_log2_and_log10_are_exact_at_powers() -> None:
    k = np.arange(-149, 128)
    assert np.array_equal(run(o.log2, np.ldexp(1.0, k).astype(np.float32)), k.astype(np.float32))
    assert np.array_equal(run(o.log2, np.ldexp(1.0, np.arange(-1074, 1024))), np.arange(-1074, 1024).astype(np.float64))
    assert np.array_equal(run(o.log10, 10.0 ** np.arange(0, 23)), np.arange(0, 23).astype(np.float64))
    assert np.array_equal(run(o.exp2, np.arange(-149, 128).astype(np.float32)), np.ldexp(1.0, k).astype(np.float32))


@pytest.mark.parametrize("name", ["sinc", "bessel_i0", "bessel_i1", "bessel_i0e", "bessel_i1e"])
def test_slopes_near_zero_keep_their_digits(name: str) -> None:
    """Quotients of differences cancel there: the slope of sinc at x is -pi^2 x / 3."""
    import mpmath

    exact = {
        "sinc": lambda x: mpmath.sincpi(x),
        "bessel_i0": lambda x: mpmath.besseli(0, x),
        "bessel_i1": lambda x: mpmath.besseli(1, x),
        "bessel_i0e": lambda x: mpmath.exp(-x) * mpmath.besseli(0, x),
        "bessel_i1e": lambda x: mpmath.exp(-x) * mpmath.besseli(1, x),
    }[name]
    x = np.array([1e-9, 1e-4, 0.03, 0.2499, 0.2501, 0.7, 3.3])
    with mpmath.workdps(60):
        want = np.array([float(mpmath.diff(exact, mpmath.mpf(v))) for v in x])
    got = run(lambda v: grad(o.sum_(getattr(o, name)(v)), [v])[0], x)
    assert np.all(np.abs(got - want) <= 1e-13 * np.maximum(np.abs(want), 0 if name in ("sinc", "bessel_i0") else 1)), (got, want)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_polygamma_left_and_right_of_zero(order: int) -> None:
    import mpmath

    x = np.array([-7.3, -2.5, -0.9, -0.1, 0.05, 0.9, 1.46, 3.0, 8.5, 40.0, 1e6])
    with mpmath.workdps(40):
        want = np.array([float(mpmath.polygamma(order, mpmath.mpf(v))) for v in x])
    got = run(lambda v: o.polygamma(order, v), x)
    assert np.all(np.abs(got - want) <= 1e-12 * np.abs(want)), (got, want)
