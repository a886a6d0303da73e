"""Storage types (8-bit and 4-bit floats, 4-bit and 2-bit integers) from and to float32 and int8, as kernel expressions on
their bytes.

So that backends only move them: an element is a byte in memory and in registers, and no backend knows a format. Conversions
to a storage float round to nearest even, from float64 without a rounding in between; what they do beyond the greatest value
is ml_dtypes': e5m2 gives infinity, the other 8-bit formats nan, e2m1 its greatest value. Conversions to a storage integer
keep the low bits of an integer, and saturate a float (nan gives 0). The formats: Micikevicius et al., "FP8 Formats for Deep
Learning" (2022); Noune et al., "8-bit Numerical Formats for Deep Neural Networks" (2022, fnuz); OCP Microscaling Formats 1.0
(e2m1).
"""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.dtype import DType, bool_, float32, float64, int8, int64, uint8, uint32
from . import scalar_ops as s
from .expr import Bitcast, Cast, Const, Expr, Where, op
from .scalar_ops import ScalarOp


@dataclass(frozen=True)
class SmallFloat:
    """``greatest``: the code of the greatest finite number; ``over``: the code of what is beyond; ``nan``: a nan's code (both without
    sign); ``infinite``: whether ``over`` is infinity; ``zeros``: 2 where there is a -0.0, else 1 (nan is its code then).
    """

    exponent: int
    mantissa: int
    bias: int
    greatest: int
    over: int
    nan: int
    infinite: bool = False
    zeros: int = 2

    @property
    def magnitude(self) -> int:
        """Bits without the sign."""
        return self.exponent + self.mantissa


FLOATS = {
    "float8_e4m3fn": SmallFloat(4, 3, 7, 0x7E, 0x7F, 0x7F),
    "float8_e5m2": SmallFloat(5, 2, 15, 0x7B, 0x7C, 0x7E, infinite=True),
    "float8_e4m3fnuz": SmallFloat(4, 3, 8, 0x7F, 0x80, 0x80, zeros=1),
    "float8_e5m2fnuz": SmallFloat(5, 2, 16, 0x7F, 0x80, 0x80, zeros=1),
    "float4_e2m1fn": SmallFloat(2, 1, 1, 0x7, 0x7, 0x8),
}


def _c(x: Expr, value: int) -> Const:
    return Const(value, x.dtype)


def _with(fn: ScalarOp, x: Expr, value: int) -> Expr:
    return op(fn, x, _c(x, value))


def _decode_float(byte: Expr, f: SmallFloat) -> Expr:
    """The code's exponent and mantissa put where float32 has them, times what the biases differ by: exact, denormals too."""
    code = _with(s.and_, Cast(byte, uint32), (1 << (f.magnitude + 1)) - 1)
    magnitude = _with(s.and_, code, (1 << f.magnitude) - 1)
    sign = _with(s.shl, _with(s.shr, code, f.magnitude), 31)
    scaled = op(s.mul, Bitcast(_with(s.shl, magnitude, 23 - f.mantissa), float32), Const(2.0 ** (127 - f.bias), float32))
    value = Bitcast(op(s.or_, Bitcast(scaled, uint32), sign), float32)
    nan = Const(float("nan"), float32)
    if f.zeros == 1:
        return Where(_with(s.eq, code, f.nan), nan, value)
    if f.infinite:
        infinity = Bitcast(_with(s.or_, sign, 0x7F800000), float32)
        return Where(_with(s.gt, magnitude, f.over), nan, Where(_with(s.eq, magnitude, f.over), infinity, value))
    return Where(_with(s.eq, magnitude, f.nan), nan, value) if f.nan <= (1 << f.magnitude) - 1 else value


def _encode_float(x: Expr, f: SmallFloat) -> Expr:
    """Nearest even by integer arithmetic on float32's bits; denormals by adding a number whose last place is theirs."""
    bits = Bitcast(x, uint32)
    a = _with(s.and_, bits, 0x7FFFFFFF)
    shift = 23 - f.mantissa
    odd = _with(s.and_, _with(s.shr, a, shift), 1)
    normal = _with(s.shr, op(s.add, _with(s.add, a, (1 << (shift - 1)) - 1), odd), shift)
    normal = _with(s.sub, normal, (127 - f.bias) << f.mantissa)
    last_place = (127 + 1 - f.bias - f.mantissa + 23) << 23  # bits of the power of 2 whose last place is a denormal's
    moved = op(s.add, Bitcast(a, float32), Bitcast(_c(a, last_place), float32))
    denormal = _with(s.sub, Bitcast(moved, uint32), last_place)
    code = Where(_with(s.lt, a, (127 - f.bias + 1) << 23), denormal, normal)
    code = Where(_with(s.gt, code, f.greatest), _c(code, f.over), code)
    nan = _with(s.gt, a, 0x7F800000)
    sign = _with(s.shl, _with(s.shr, bits, 31), f.magnitude)
    signed = op(s.or_, code, sign)
    if f.zeros == 1:
        signed = Where(op(s.or_, _with(s.eq, code, 0), _with(s.eq, code, f.nan)), code, signed)
    if f.zeros == 1 or f.nan >> f.magnitude:
        signed = Where(nan, _c(code, f.nan), signed)
    else:
        signed = Where(nan, _with(s.or_, sign, f.nan), signed)
    return Cast(signed, uint8)


def _to_odd(x: Expr) -> Expr:
    """float64 to float32 rounded to odd, from which a second rounding is exact (Boldo and Melquiond, 2008)."""
    near = Cast(x, float32)
    back = Cast(near, float64)
    bits = Bitcast(near, uint32)
    away = op(s.gt, op(s.abs_, back), op(s.abs_, x))
    moved = Where(away, _with(s.sub, bits, 1), _with(s.add, bits, 1))
    inexact = op(s.and_, op(s.ne, back, x), op(s.eq, x, x))
    fix = op(s.and_, inexact, _with(s.eq, _with(s.and_, bits, 1), 0))
    return Bitcast(Where(fix, moved, bits), float32)


def convert(x: Expr, dtype: DType) -> Expr:
    """``x`` converted by value to ``dtype``, where either type is a storage type."""
    if x.dtype.storage:
        byte = Bitcast(x, uint8)
        if x.dtype.is_float:
            value = _decode_float(byte, FLOATS[x.dtype.name])
        else:
            value = _with(s.and_, byte, (1 << x.dtype.bits) - 1)
            if x.dtype.kind == "i":
                half = 1 << (x.dtype.bits - 1)
                value = Bitcast(_with(s.sub, _with(s.xor, value, half), half), int8)
        if not dtype.storage:
            return value if value.dtype is dtype else Cast(value, dtype)
        x = value
    if dtype.is_float:
        x = _to_odd(x) if x.dtype is float64 else x if x.dtype is float32 else Cast(x, float32)
        return Bitcast(_encode_float(x, FLOATS[dtype.name]), dtype)
    if x.dtype.is_float:
        wide = Cast(x, int64)
        low, high = Const(int(dtype.min), int64), Const(int(dtype.max), int64)
        x = op(s.minimum, op(s.maximum, wide, low), high)
    if x.dtype is bool_:
        x = Cast(x, int8)
    return Bitcast(_with(s.and_, x if x.dtype is uint8 else Cast(x, uint8), (1 << dtype.bits) - 1), dtype)
