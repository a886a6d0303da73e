"""Elementwise functions of ``ops``: arithmetic, comparison, logic, powers, trigonometry."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ops.lift import common_dtype
from ....runtime.dtype import as_dtype
from .. import config
from .define import operation

NUMPY = "keras.src.ops.numpy"
MATH = "keras.src.ops.math"


def floating(x: Any) -> Any:
    """``x``, integers and bool as ``floatx()``."""
    x = F.constant(x)
    return x if x.dtype.is_float else F.cast(x, as_dtype(config.floatx()))


def _unary(name: str, fn: Any, class_name: str | None = None, module: str = NUMPY, doc: str = "") -> Any:
    def body(x: Any) -> Any:
        return fn(x)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = doc or f"{name}(x), element by element."
    return operation(module, 1, class_name)(body)


def _binary(name: str, fn: Any, class_name: str | None = None, first: str = "x1", second: str = "x2") -> Any:
    if first == "x1":
        def body(x1: Any, x2: Any) -> Any:
            return fn(x1, x2)
    else:
        def body(x: Any, y: Any) -> Any:  # type: ignore[misc]
            return fn(x, y)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"{name}({first}, {second}), element by element, broadcast and promoted."
    return operation(NUMPY, 2, class_name, weak=True)(body)


def _of_float(fn: Any) -> Any:
    return lambda x: fn(floating(x))


def _divide(a: Any, b: Any) -> Any:
    dtype = common_dtype(a, b)
    dtype = dtype if dtype.is_float else as_dtype(config.floatx())
    return F.div(F.cast(a, dtype), F.cast(b, dtype))


def _divide_no_nan(a: Any, b: Any) -> Any:
    zero = F.eq(b, 0)
    return F.where(zero, 0, _divide(a, F.where(zero, 1, b)))


add, subtract, multiply = _binary("add", F.add), _binary("subtract", F.sub), _binary("multiply", F.mul)
divide, true_divide = _binary("divide", _divide), _binary("true_divide", _divide)
divide_no_nan = _binary("divide_no_nan", _divide_no_nan)

floor_divide, mod = _binary("floor_divide", F.floordiv), _binary("mod", F.mod)
fmod = _binary("fmod", F.rem)
maximum, minimum = _binary("maximum", F.maximum), _binary("minimum", F.minimum)
arctan2 = _binary("arctan2", lambda a, b: F.atan2(floating(a), floating(b)))
logaddexp = _binary("logaddexp", lambda a, b: F.logaddexp(floating(a), floating(b)))
hypot = _binary("hypot", lambda a, b: F.hypot(floating(a), floating(b)))
equal, not_equal = _binary("equal", F.eq), _binary("not_equal", F.ne)
less, less_equal = _binary("less", F.lt), _binary("less_equal", F.le)
greater, greater_equal = _binary("greater", F.gt), _binary("greater_equal", F.ge)
logical_and, logical_or, logical_xor = (_binary("logical_and", F.logical_and), _binary("logical_or", F.logical_or),
                                        _binary("logical_xor", F.logical_xor))
bitwise_and, bitwise_or, bitwise_xor = (_binary("bitwise_and", F.bitwise_and, None, "x", "y"), _binary("bitwise_or", F.bitwise_or, None, "x", "y"),
                                        _binary("bitwise_xor", F.bitwise_xor, None, "x", "y"))
bitwise_left_shift = _binary("bitwise_left_shift", F.shift_left, None, "x", "y")
bitwise_right_shift = _binary("bitwise_right_shift", F.shift_right, None, "x", "y")
left_shift, right_shift = _binary("left_shift", F.shift_left, None, "x", "y"), _binary("right_shift", F.shift_right, None, "x", "y")


@operation(NUMPY, 2)
def power(x1: Any, x2: Any) -> Any:
    """x1 ** x2; small whole exponents are products."""
    return F.power(x1, x2)


negative, absolute, sign, square = _unary("negative", F.neg), _unary("absolute", F.abs_), _unary("sign", F.sign), _unary("square", F.square)


def abs(x: Any) -> Any:
    return absolute(x)


reciprocal = _unary("reciprocal", _of_float(F.reciprocal))
exp, expm1, log, log1p = (_unary(n, _of_float(f)) for n, f in (("exp", F.exp), ("expm1", F.expm1), ("log", F.log), ("log1p", F.log1p)))
exp2, log2, log10 = _unary("exp2", _of_float(F.exp2)), _unary("log2", _of_float(F.log2)), _unary("log10", _of_float(F.log10))
sqrt, rsqrt = _unary("sqrt", _of_float(F.sqrt)), _unary("rsqrt", _of_float(F.rsqrt), None, MATH)
sin, cos, tan = _unary("sin", _of_float(F.sin)), _unary("cos", _of_float(F.cos)), _unary("tan", _of_float(F.tan))
sinh, cosh, tanh = _unary("sinh", _of_float(F.sinh)), _unary("cosh", _of_float(F.cosh)), _unary("tanh", _of_float(F.tanh))
arcsin, arccos, arctan = _unary("arcsin", _of_float(F.asin)), _unary("arccos", _of_float(F.acos)), _unary("arctan", _of_float(F.atan))
arcsinh, arccosh, arctanh = _unary("arcsinh", _of_float(F.asinh)), _unary("arccosh", _of_float(F.acosh)), _unary("arctanh", _of_float(F.atanh))
erf = _unary("erf", _of_float(F.erf), None, MATH)
erfc = _unary("erfc", _of_float(F.erfc), None, MATH)
floor, ceil, trunc = _unary("floor", F.floor), _unary("ceil", F.ceil), _unary("trunc", F.trunc)
isnan, isinf, isfinite = _unary("isnan", F.isnan), _unary("isinf", F.isinf), _unary("isfinite", F.isfinite)
logical_not, bitwise_not = _unary("logical_not", F.logical_not), _unary("bitwise_not", F.bitwise_not)
bitwise_invert = _unary("bitwise_invert", F.bitwise_not)
deg2rad = _unary("deg2rad", lambda x: F.mul(floating(x), math.pi / 180))
rad2deg = _unary("rad2deg", lambda x: F.mul(floating(x), 180 / math.pi))
copy = _unary("copy", F.constant)


@operation(NUMPY, 1)
def round(x: Any, decimals: int = 0) -> Any:
    """To ``decimals`` places, halves to the even one."""
    if not decimals:
        return F.round_(x)
    scale = 10.0**decimals
    return F.div(F.round_(F.mul(floating(x), scale)), scale)


@operation(NUMPY, 1)
def clip(x: Any, x_min: Any, x_max: Any) -> Any:
    """Limited to [x_min, x_max]."""
    return F.clip(x, x_min, x_max)


@operation(NUMPY, 3)
def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """x1 where the condition holds, else x2."""
    from ....runtime.errors import UnsupportedOpError

    if x1 is None or x2 is None:
        raise UnsupportedOpError("ops.where with a condition alone gives as many indices as there are true elements; sizes that depend on data "
                                 "aren't supported: give x1 and x2")
    return F.where(condition, x1, x2)


@operation(NUMPY, 1)
def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """nan and infinities replaced (None: by the largest finite values)."""
    x = F.constant(x)
    if not x.dtype.is_float:
        return x
    import ml_dtypes

    info = ml_dtypes.finfo(x.dtype.np)
    high, low = (float(info.max) if posinf is None else posinf), (float(info.min) if neginf is None else neginf)
    out = F.where(F.isnan(x), nan, x)
    return F.where(F.eq(out, math.inf), high, F.where(F.eq(out, -math.inf), low, out))


@operation(NUMPY, 2)
def isclose(x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """|x1 - x2| <= atol + rtol |x2|; equal infinities are close."""
    x1, x2 = floating(x1), floating(x2)
    near = F.logical_and(F.le(F.abs_(F.sub(x1, x2)), F.add(atol, F.mul(rtol, F.abs_(x2)))), F.logical_and(F.isfinite(x1), F.isfinite(x2)))
    out = F.logical_or(near, F.eq(x1, x2))
    return F.logical_or(out, F.logical_and(F.isnan(x1), F.isnan(x2))) if equal_nan else out


def is_constant(x: Any) -> bool:
    return isinstance(x, (bool, int, float, np.ndarray, np.generic))


__all__ = [
    "abs", "absolute", "add", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clip", "copy", "cos", "cosh",
    "deg2rad", "divide", "divide_no_nan", "equal", "erf", "erfc", "exp", "exp2", "expm1", "floor", "floor_divide", "fmod", "greater",
    "greater_equal", "hypot", "isclose", "isfinite", "isinf", "isnan", "left_shift", "less", "less_equal", "log", "log10", "log1p", "log2",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "mod", "multiply", "nan_to_num",
    "negative", "not_equal", "power", "rad2deg", "reciprocal", "right_shift", "round", "rsqrt", "sign", "sin", "sinh", "sqrt", "square",
    "subtract", "tan", "tanh", "true_divide", "trunc", "where",
]
