"""Elementary functions in ULPs, over all binades and the special values, on every x86-64 level that this machine runs."""

import ctypes
import math

import numpy as np
import pytest

from kerogen.compiler.codegen.llvm.builder import Builder, Module, const, vector
from kerogen.compiler.codegen.llvm.isa import isa_of
from kerogen.compiler.codegen.llvm.math import VectorMath
from kerogen.compiler.codegen.llvm.trig import Trigonometry
from kerogen.compiler.target import Target
from kerogen.runtime import cpu
from kerogen.runtime.errors import UnsupportedPlatformError

TARGETS = ["x86-64-v4", "x86-64-v3", "x86-64-v2"]


def runnable(name):
    try:
        cpu.require(cpu.named_machine(name).text)
    except UnsupportedPlatformError:
        return False
    return True


def native(fn, dtype, arity, target_name, lanes=None):
    """Compiles fn(VectorMath, Trigonometry, *values) over arrays."""
    target = Target.named(target_name)
    t = "float" if dtype == np.float32 else "double"
    n = lanes or target.lanes(np.dtype(dtype).itemsize)
    module = Module()
    b = Builder(module, "f", [("ptr", f"a{i}") for i in range(arity)] + [("ptr", "out"), ("i64", "n")], fma=target.fma)
    m = VectorMath(b, isa_of(target))
    with b.loop(const("i64", 0), b.arguments[-1], n) as loop:
        xs = [b.load(b.gep(p, loop.index, t), vector(t, n)) for p in b.arguments[:arity]]
        b.store(fn(m, Trigonometry(m), *xs), b.gep(b.arguments[arity], loop.index, t))
    b.ret()
    b.finish()
    machine = cpu.named_machine(target_name)
    image = cpu.object_code(module.text(), machine)
    f = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arity + 1), ctypes.c_int64)(cpu.load(image, ["f"])["f"])

    def run(*arrays):
        size = -(-len(arrays[0]) // n) * n
        padded = [np.concatenate([a, np.ones(size - len(a), dtype)]).astype(dtype) for a in arrays]
        out = np.zeros(size, dtype)
        f(*[p.ctypes.data for p in padded], out.ctypes.data, size)
        return out[: len(arrays[0])]

    return run


def all_binades(dtype, per_binade, rng):
    """Random significands in every exponent (denormals too), both signs, and the special values."""
    info = np.finfo(dtype)
    kind, bits = (np.uint32, 23) if dtype == np.float32 else (np.uint64, 52)
    top = 255 if dtype == np.float32 else 2047
    exponents = np.repeat(np.arange(top, dtype=kind), per_binade)
    mantissas = rng.integers(0, 2**bits, exponents.size, dtype=kind)
    x = ((exponents << kind(bits)) | mantissas).view(dtype)
    special = np.array([0.0, np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal, 1.0, 0.5, 2.0, 3.0, 1 - info.epsneg, 1 + info.eps], dtype)
    x = np.concatenate([x, special])
    return np.concatenate([x, -x])


def ulps(got, want, dtype):
    """Distance in units of the last place of the (longdouble) result; inf and nan must agree exactly."""
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(dtype)
        edge = np.nextafter(info.max, np.inf, dtype=dtype) == rounded
        _, e = np.frexp(np.where(np.isfinite(rounded) & (rounded != 0), np.abs(want), 1))
        ulp = np.ldexp(np.longdouble(1), np.maximum(e - 1, info.minexp) - info.nmant)
        d = np.abs(got.astype(np.longdouble) - want) / ulp
        tiny = np.abs(want) < np.longdouble(info.smallest_subnormal)
        d = np.where(tiny, np.abs(got.astype(np.longdouble) - want) / np.longdouble(info.smallest_subnormal), d)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    special = ~np.isfinite(rounded) | ~np.isfinite(got)
    near_top = edge & (got == info.max)
    return np.where(special, np.where(same | near_top, 0.0, np.inf), d)


def _erf(x):
    return np.array([math.erf(v) for v in x.astype(np.float64)]).astype(np.longdouble)


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


# name: (emit, reference in longdouble, bound for float, bound for double, domain of interest added to the binades)
FUNCTIONS = {
    "exp": (lambda m, t, x: m.exp(x), np.exp, 1, 1, (-110, 90), (-750, 712)),
    "expm1": (lambda m, t, x: m.expm1(x), np.expm1, 2, 2, (-20, 90), (-40, 712)),
    "log": (lambda m, t, x: m.log(x), np.log, 1, 1, (0.5, 2), (0.5, 2)),
    "log1p": (lambda m, t, x: m.log1p(x), np.log1p, 2, 2, (-1, 3), (-1, 3)),
    "tanh": (lambda m, t, x: m.tanh(x), np.tanh, 3, 3, (-10, 10), (-20, 20)),
    "sigmoid": (lambda m, t, x: m.sigmoid(x), _sigmoid, 3, 3, (-110, 90), (-750, 700)),
    "erf": (lambda m, t, x: m.erf(x), _erf, 1.5, 2, (-4, 4), (-6, 6)),
    "sinh": (lambda m, t, x: m.sinh(x), np.sinh, 1, 3, (-90, 90), (-712, 712)),
    "cosh": (lambda m, t, x: m.cosh(x), np.cosh, 1, 3, (-90, 90), (-712, 712)),
    "asinh": (lambda m, t, x: m.asinh(x), np.arcsinh, 1, 4, (-5, 5), (-5, 5)),
    "acosh": (lambda m, t, x: m.acosh(x), np.arccosh, 1, 4, (1, 5), (1, 5)),
    "atanh": (lambda m, t, x: m.atanh(x), np.arctanh, 1, 4, (-1, 1), (-1, 1)),
    "sin": (lambda m, t, x: t.sin(x), np.sin, 1, 1, (-50, 50), (-1e5, 1e5)),
    "cos": (lambda m, t, x: t.cos(x), np.cos, 1, 1, (-50, 50), (-1e5, 1e5)),
    "tan": (lambda m, t, x: t.tan(x), np.tan, 1, 3, (-50, 50), (-1e5, 1e5)),
    "asin": (lambda m, t, x: t.asin(x), np.arcsin, 1, 3, (-1, 1), (-1, 1)),
    "acos": (lambda m, t, x: t.acos(x), np.arccos, 1, 3, (-1, 1), (-1, 1)),
    "atan": (lambda m, t, x: t.atan(x), np.arctan, 1, 3, (-5, 5), (-5, 5)),
    "rsqrt": (lambda m, t, x: m.rsqrt(x), lambda x: 1 / np.sqrt(x), 2, 2, (0, 5), (0, 5)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name, dtype, target, request):
    if not runnable(target):
        pytest.skip(f"this processor lacks {target}")
    emit, reference, bound32, bound64, range32, range64 = FUNCTIONS[name]
    rng = np.random.default_rng(list(FUNCTIONS).index(name))
    low, high = range32 if dtype == np.float32 else range64
    x = np.concatenate([all_binades(dtype, 40 if dtype == np.float32 else 6, rng), rng.uniform(low, high, 20000).astype(dtype)])
    got = native(emit, dtype, 1, target)(x)
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.longdouble))
    bound = (bound32 if dtype == np.float32 else bound64) + (0 if Target.named(target).fma else 1)
    d = ulps(got, want, dtype)
    worst = int(np.argmax(d))
    assert d[worst] <= bound, f"{name}({x[worst]!r}) = {got[worst]!r}, expected {want[worst]!r}: {d[worst]:.2f} ulp"
    zeros = (x == 0) & (want == 0)
    assert np.array_equal(np.signbit(got[zeros]), np.signbit(want[zeros])), "sign of zero"


def pairs(dtype, rng):
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1.5, 1e-310, 1e30, -1e30], dtype)
    a, b = (v.ravel() for v in np.meshgrid(special, special))
    x = rng.choice(all_binades(dtype, 4, rng), 20000)
    y = rng.choice(all_binades(dtype, 4, rng), 20000)
    near = rng.standard_normal((2, 20000)).astype(dtype) * 20
    return np.concatenate([a, x, np.abs(near[0])]), np.concatenate([b, y, near[1]])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pow(dtype, target):
    if not runnable(target):
        pytest.skip(f"this processor lacks {target}")
    rng = np.random.default_rng(3)
    x, y = pairs(dtype, rng)
    got = native(lambda m, t, x, y: m.pow(x, y), dtype, 2, target)(x, y)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    d = ulps(got, want, dtype)
    worst = int(np.argmax(d))
    assert d[worst] <= (1 if dtype == np.float32 else 2), f"pow({x[worst]!r}, {y[worst]!r}) = {got[worst]!r}, expected {want[worst]!r}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_atan2(dtype, target):
    if not runnable(target):
        pytest.skip(f"this processor lacks {target}")
    rng = np.random.default_rng(4)
    y, x = pairs(dtype, rng)
    got = native(lambda m, t, y, x: t.atan2(y, x), dtype, 2, target)(y, x)
    with np.errstate(all="ignore"):
        want = np.arctan2(y.astype(np.longdouble), x.astype(np.longdouble))
    d = ulps(got, want, dtype)
    worst = int(np.argmax(d))
    assert d[worst] <= (1 if dtype == np.float32 else 4), f"atan2({y[worst]!r}, {x[worst]!r}) = {got[worst]!r}, expected {want[worst]!r}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["fmod", "floor_mod"])
def test_remainders_are_exact(name, dtype, target):
    if not runnable(target):
        pytest.skip(f"this processor lacks {target}")
    rng = np.random.default_rng(5)
    x, y = pairs(dtype, rng)
    got = native(lambda m, t, x, y: getattr(t, name)(x, y), dtype, 2, target)(x, y)
    with np.errstate(all="ignore"):
        want = np.fmod(x, y)
        if name == "floor_mod":
            shifted = np.where((want != 0) & ((want < 0) != (y < 0)), want + y, want)
            want = np.where(want == 0, np.copysign(dtype(0), y), shifted)
    assert np.array_equal(got, want, equal_nan=True)


def test_vectors_wider_than_a_register_agree():
    rng = np.random.default_rng(6)
    x = (rng.standard_normal(4096) * 30).astype(np.float32)
    one, four = (native(lambda m, t, x: m.exp(x), np.float32, 1, "native", lanes=n)(x) for n in (1, 64))
    assert np.array_equal(one, four)
