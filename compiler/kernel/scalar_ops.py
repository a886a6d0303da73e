"""The scalar operations of kernel expressions. Each has a NumPy meaning (the interpreter) and an emitter per backend.

Floating division, remainders and shifts follow NumPy and C: ``div`` is true division on floats and truncates on integers
(``floordiv`` and ``mod`` round towards minus infinity, ``rem`` has the sign of the dividend). Comparisons give bool; ``max`` and ``min`` propagate nan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import special


@dataclass(frozen=True, eq=False)
class ScalarOp:
    """``result`` is "same" (the type of the operands) or "bool"; ``cost`` is in units of one addition; ``domain`` is "any", "float" or "int"."""

    name: str
    arity: int
    numpy: Callable
    result: str = "same"
    cost: int = 1
    domain: str = "any"
    commutative: bool = False

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self):
        return SCALAR_OPS.__getitem__, (self.name,)


SCALAR_OPS: dict[str, ScalarOp] = {}


def _op(name: str, arity: int, numpy: Callable, **facts) -> ScalarOp:
    op = SCALAR_OPS[name] = ScalarOp(name, arity, numpy, **facts)
    return op


def _trunc_div(a, b):
    """C division of integers; division by zero gives 0, and the least value over -1 wraps, so that no lane traps."""
    if np.issubdtype(np.asarray(a).dtype, np.floating) or np.asarray(a).dtype.kind == "V":
        return a / b
    safe = np.where(b == 0, np.ones_like(b), b)
    quotient = a // safe
    inexact = (a - quotient * safe != 0) & ((a < 0) != (safe < 0))
    return np.where(b == 0, np.zeros_like(quotient), quotient + inexact.astype(quotient.dtype))


def _floor_div(a, b):
    if np.asarray(a).dtype.kind in "iu":
        return np.where(b == 0, np.zeros_like(a), a // np.where(b == 0, np.ones_like(b), b))
    return _floor_quotient(a, b)


def _floor_mod(a, b):
    if np.asarray(a).dtype.kind in "iu":
        return np.where(b == 0, np.zeros_like(a), a % np.where(b == 0, np.ones_like(b), b))
    return np.mod(a, b)


def _rem(a, b):
    if np.asarray(a).dtype.kind in "iu":
        return np.where(b == 0, np.zeros_like(a), np.fmod(a, np.where(b == 0, np.ones_like(b), b)))
    return np.fmod(a, b)


def _sigmoid(x):
    """Stable on both sides: exp is only ever taken of a value <= 0."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def _unsigned(x):
    x = np.asarray(x)
    return x.view(x.dtype.str.replace("i", "u"))


def _popcount(x):
    x = np.asarray(x)
    return np.bitwise_count(_unsigned(x)).astype(x.dtype)


def _clz(x):
    """Leading zero bits; all of them for 0."""
    x = np.asarray(x)
    rest, n = _unsigned(x).copy(), np.full(x.shape, x.dtype.itemsize * 8, np.int64)
    for _ in range(x.dtype.itemsize * 8):
        n -= rest != 0
        rest >>= rest.dtype.type(1)
    return n.astype(x.dtype)


def _floor_quotient(a, b):
    """NumPy's floor_divide, which rounds the exact quotient: 1 // 0.1 is 9, -1 // inf is -1, inf // 1 is nan."""
    return np.asarray(np.floor_divide(a, b))


def _mulhi_u32(a, b):
    """High 32 bits of the 64-bit product of two uint32 (Philox)."""
    return ((np.asarray(a).astype(np.uint64) * np.asarray(b).astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


add = _op("add", 2, np.add, commutative=True)
sub = _op("sub", 2, np.subtract)
mul = _op("mul", 2, np.multiply, commutative=True)
div = _op("div", 2, _trunc_div, cost=8)
floordiv = _op("floordiv", 2, _floor_div, cost=12)
mod = _op("mod", 2, _floor_mod, cost=12)
rem = _op("rem", 2, _rem, cost=12)
maximum = _op("max", 2, np.maximum, commutative=True)
minimum = _op("min", 2, np.minimum, commutative=True)
pow_ = _op("pow", 2, np.power, cost=40)
atan2 = _op("atan2", 2, np.arctan2, cost=30, domain="float")
hypot = _op("hypot", 2, np.hypot, cost=20, domain="float", commutative=True)
copysign = _op("copysign", 2, np.copysign, cost=2, domain="float")
neg = _op("neg", 1, np.negative)
abs_ = _op("abs", 1, np.abs)
sign = _op("sign", 1, np.sign)
exp = _op("exp", 1, np.exp, cost=12, domain="float")
expm1 = _op("expm1", 1, np.expm1, cost=16, domain="float")
exp2 = _op("exp2", 1, np.exp2, cost=12, domain="float")
log = _op("log", 1, np.log, cost=16, domain="float")
log1p = _op("log1p", 1, np.log1p, cost=20, domain="float")
log2 = _op("log2", 1, np.log2, cost=20, domain="float")
log10 = _op("log10", 1, np.log10, cost=20, domain="float")
sqrt = _op("sqrt", 1, np.sqrt, cost=8, domain="float")
rsqrt = _op("rsqrt", 1, lambda x: (1 / np.sqrt(x)).astype(x.dtype), cost=12, domain="float")
cbrt = _op("cbrt", 1, np.cbrt, cost=30, domain="float")
sin = _op("sin", 1, np.sin, cost=20, domain="float")
cos = _op("cos", 1, np.cos, cost=20, domain="float")
tan = _op("tan", 1, np.tan, cost=30, domain="float")
sinpi = _op("sinpi", 1, special.sinpi, cost=24, domain="float")
cospi = _op("cospi", 1, special.cospi, cost=24, domain="float")
asin = _op("asin", 1, np.arcsin, cost=20, domain="float")
acos = _op("acos", 1, np.arccos, cost=20, domain="float")
atan = _op("atan", 1, np.arctan, cost=20, domain="float")
sinh = _op("sinh", 1, np.sinh, cost=20, domain="float")
cosh = _op("cosh", 1, np.cosh, cost=20, domain="float")
tanh = _op("tanh", 1, np.tanh, cost=16, domain="float")
asinh = _op("asinh", 1, np.arcsinh, cost=24, domain="float")
acosh = _op("acosh", 1, np.arccosh, cost=24, domain="float")
atanh = _op("atanh", 1, np.arctanh, cost=24, domain="float")
erf = _op("erf", 1, special.erf, cost=16, domain="float")
erfc = _op("erfc", 1, special.erfc, cost=40, domain="float")
erfinv = _op("erfinv", 1, special.erfinv, cost=120, domain="float")
lgamma = _op("lgamma", 1, special.lgamma, cost=150, domain="float")
digamma = _op("digamma", 1, special.digamma, cost=150, domain="float")
i0e = _op("i0e", 1, special.i0e, cost=80, domain="float")
i1e = _op("i1e", 1, special.i1e, cost=80, domain="float")
sigmoid = _op("sigmoid", 1, _sigmoid, cost=16, domain="float")
floor = _op("floor", 1, np.floor, domain="float")
ceil = _op("ceil", 1, np.ceil, domain="float")
round_ = _op("round", 1, np.rint, domain="float")  # half to even
trunc = _op("trunc", 1, np.trunc, domain="float")
isnan = _op("isnan", 1, np.isnan, result="bool", domain="float")
isinf = _op("isinf", 1, np.isinf, result="bool", domain="float")
signbit = _op("signbit", 1, np.signbit, result="bool", domain="float")
eq = _op("eq", 2, np.equal, result="bool", commutative=True)
ne = _op("ne", 2, np.not_equal, result="bool", commutative=True)
lt = _op("lt", 2, np.less, result="bool")
le = _op("le", 2, np.less_equal, result="bool")
gt = _op("gt", 2, np.greater, result="bool")
ge = _op("ge", 2, np.greater_equal, result="bool")
and_ = _op("and", 2, np.bitwise_and, domain="int", commutative=True)  # bool and integers alike
or_ = _op("or", 2, np.bitwise_or, domain="int", commutative=True)
xor = _op("xor", 2, np.bitwise_xor, domain="int", commutative=True)
not_ = _op("not", 1, np.invert, domain="int")
shl = _op("shl", 2, np.left_shift, domain="int")
shr = _op("shr", 2, np.right_shift, domain="int")  # arithmetic on signed types, logical on unsigned
mulhi = _op("mulhi", 2, _mulhi_u32, domain="int")  # uint32 only
popcount = _op("popcount", 1, _popcount, cost=4, domain="int")
clz = _op("clz", 1, _clz, cost=4, domain="int")
gcd = _op("gcd", 2, np.gcd, cost=400, domain="int", commutative=True)  # of magnitudes; gcd(0, 0) = 0
