"""Elementary functions in ULPs, over all binades and the special values, on every x86-64 level that this machine runs."""

import ctypes

import numpy as np
import pytest

from kerogen.compiler.codegen.accuracy import ACCURACY
from kerogen.compiler.codegen.llvm.builder import Builder, Module, const, vector
from kerogen.compiler.codegen.llvm.isa import isa_of
from kerogen.compiler.codegen.llvm.math import VectorMath
from kerogen.compiler.codegen.llvm.scalars import _MATH
from kerogen.compiler.target import Target
from kerogen.runtime import cpu
from kerogen.runtime.errors import UnsupportedPlatformError

from ..reference import FUNCTIONS, TWO, beside, case, operands, pairs
from ..ulp import ulps

TARGETS = ["x86-64-v4", "x86-64-v3", "x86-64-v2"]


def runnable(name):
    try:
        cpu.require(cpu.named_machine(name).text)
    except UnsupportedPlatformError:
        return False
    return True


def native(fn, dtype, arity, target_name, lanes=None):
    """Compiles fn(VectorMath, *values) over arrays."""
    target = Target.named(target_name)
    t = "float" if dtype == np.float32 else "double"
    n = lanes or target.lanes(np.dtype(dtype).itemsize)
    module = Module()
    b = Builder(module, "f", [("ptr", f"a{i}") for i in range(arity)] + [("ptr", "out"), ("i64", "n")], fma=target.fma)
    m = VectorMath(b, isa_of(target))
    with b.loop(const("i64", 0), b.arguments[-1], n) as loop:
        xs = [b.load(b.gep(p, loop.index, t), vector(t, n)) for p in b.arguments[:arity]]
        b.store(fn(m, *xs), b.gep(b.arguments[arity], loop.index, t))
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


def bound(name, dtype, target):
    row = ACCURACY[name]
    return (row.float32 if dtype == np.float32 else row.float64) + (0 if Target.named(target).fma else row.without_fma)


def test_every_function_is_in_the_table():
    assert set(ACCURACY) == set(FUNCTIONS)
    assert set(ACCURACY) <= set(_MATH)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [n for n in ACCURACY if n not in TWO])
def test_function(name, dtype, target):
    if not runnable(target):
        pytest.skip(f"this processor lacks {target}")
    x, want = case(name, dtype)
    got = native(lambda m, x: getattr(m, name)(x), dtype, 1, target)(x)
    d = ulps(got, want, dtype, beside(name, x, want))
    worst = int(np.argmax(d))
    assert d[worst] <= bound(name, dtype, target), f"{name}({x[worst]!r}) = {got[worst]!r}, expected {want[worst]!r}: {d[worst]:.2f} ulp"
    zeros = (x == 0) & (want == 0)
    assert np.array_equal(np.signbit(got[zeros]), np.signbit(want[zeros])), "sign of zero"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TWO)
def test_function_of_two(name, dtype, target):
    if not runnable(target):
        pytest.skip(f"this processor lacks {target}")
    x, y, want = pairs(name, dtype)
    got = native(lambda m, x, y: getattr(m, name)(x, y), dtype, 2, target)(x, y)
    d = ulps(got, want, dtype)
    worst = int(np.argmax(d))
    assert d[worst] <= bound(name, dtype, target), f"{name}({x[worst]!r}, {y[worst]!r}) = {got[worst]!r}, expected {want[worst]!r}: {d[worst]:.2f} ulp"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["fmod", "floor_mod"])
def test_remainders_are_exact(name, dtype, target):
    if not runnable(target):
        pytest.skip(f"this processor lacks {target}")
    x, y = operands(dtype, np.random.default_rng(5))
    got = native(lambda m, x, y: getattr(m, name)(x, y), dtype, 2, target)(x, y)
    with np.errstate(all="ignore"):
        want = np.fmod(x, y)
        if name == "floor_mod":
            shifted = np.where((want != 0) & ((want < 0) != (y < 0)), want + y, want)
            want = np.where(want == 0, np.copysign(dtype(0), y), shifted)
    assert np.array_equal(got, want, equal_nan=True)


def test_vectors_wider_than_a_register_agree():
    rng = np.random.default_rng(6)
    x = (rng.standard_normal(4096) * 30).astype(np.float32)
    one, four = (native(lambda m, x: m.exp(x), np.float32, 1, "native", lanes=n)(x) for n in (1, 64))
    assert np.array_equal(one, four)
