"""Elementwise functions of ``ops`` beyond arithmetic: special functions, whole-number theory, the parts of numbers (all are real), windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ops.lift import operands
from ....runtime.dtype import as_dtype, bool_
from ....runtime.errors import ArgumentError, DTypeError, ShapeError
from .. import config
from ..tensor import known_shape
from .arithmetic import MATH, NUMPY, _binary, _of_float, _unary, floating, isclose
from .define import operation

cbrt, erfinv = _unary("cbrt", _of_float(F.cbrt)), _unary("erfinv", _of_float(F.erfinv), None, MATH)
i0, sinc = _unary("i0", _of_float(F.bessel_i0)), _unary("sinc", _of_float(F.sinc))
nextafter = _binary("nextafter", lambda a, b: F.nextafter(floating(a), floating(b)))


def _whole(name: str, fn: Any) -> Any:
    def of(a: Any, b: Any) -> Any:
        a, b = operands(f"ops.{name}", a, b)
        if not (a.dtype.is_int and b.dtype.is_int):
            raise DTypeError(f"ops.{name} is of integers, got {a.dtype} and {b.dtype}")
        return fn(a, b)

    return _binary(name, of)


gcd, lcm = _whole("gcd", F.gcd), _whole("lcm", F.lcm)


def _logaddexp2(a: Any, b: Any) -> Any:
    ln2 = math.log(2)
    return F.mul(F.logaddexp(F.mul(floating(a), ln2), F.mul(floating(b), ln2)), 1 / ln2)


logaddexp2 = _binary("logaddexp2", _logaddexp2)


def _other_than_nan(fn: Any) -> Any:
    """The extreme of two that takes the other one where either is nan."""

    def of(a: Any, b: Any) -> Any:
        a, b = operands("ops.fmax", a, b)
        out = fn(a, b)
        if not out.dtype.is_float:
            return out
        a, b = (F.broadcast_to(F.cast(v, out.dtype), out.shape) for v in (a, b))
        return F.where(F.isnan(a), b, F.where(F.isnan(b), a, out))

    return of


fmax, fmin = _binary("fmax", _other_than_nan(F.maximum)), _binary("fmin", _other_than_nan(F.minimum))


@operation(NUMPY, 2)
def ldexp(x1: Any, x2: Any) -> Any:
    """x1 * 2 ** x2, x2 whole."""
    x2 = F.constant(x2)
    if not x2.dtype.is_int:
        raise DTypeError(f"ops.ldexp: the exponent x2 must be integers, got {x2.dtype}")
    return F.ldexp(floating(x1), x2)


@operation(NUMPY, 2, weak=True)
def heaviside(x1: Any, x2: Any) -> Any:
    """0 below 0, x2 at 0, 1 above; nan of nan."""
    a, b = operands("ops.heaviside", x1, x2)
    a, b = floating(a), floating(b)
    return F.where(F.eq(a, 0), b, F.where(F.isnan(a), a, F.cast(F.gt(a, 0), a.dtype)))


def _signbit(x: Any) -> Any:
    x = F.constant(x)
    if x.dtype.is_float:
        return F.signbit(x)
    return F.zeros(x.shape, bool_) if x.dtype is bool_ else F.lt(x, 0)


def _equals(value: float) -> Any:
    def of(x: Any) -> Any:
        x = F.constant(x)
        return F.eq(x, value) if x.dtype.is_float else F.zeros(x.shape, bool_)

    return of


signbit, fabs = _unary("signbit", _signbit), _unary("fabs", _of_float(F.abs_))
isposinf, isneginf = _unary("isposinf", _equals(math.inf)), _unary("isneginf", _equals(-math.inf))

real, conjugate = _unary("real", F.constant, doc="The numbers themselves: none is complex."), _unary("conjugate", F.constant)
imag = _unary("imag", F.zeros_like, doc="Zeros: no number is complex.")
isreal = _unary("isreal", lambda x: F.ones(F.constant(x).shape, bool_), doc="True: no number is complex.")


def _angle(x: Any) -> Any:
    x = floating(x)
    return F.atan2(F.zeros_like(x), x)


angle = _unary("angle", _angle, doc="The argument: 0 of positive numbers, pi of negative ones.")


def conj(x: Any) -> Any:
    return conjugate(x)


@operation(NUMPY, 1)
def saturate_cast(x: Any, dtype: Any) -> Any:
    """``x`` as ``dtype``; what lies beyond its limits becomes the nearest limit, fractions are cut."""
    x, to = F.constant(x), as_dtype(dtype)
    if to is bool_ or not to.is_int or x.dtype is bool_:
        if to.is_float and x.dtype.is_float and to.itemsize < x.dtype.itemsize:
            import ml_dtypes

            limit = float(ml_dtypes.finfo(to.np).max)
            x = F.clip(x, -limit, limit)
        return F.cast(x, to)
    low, high = int(to.min), int(to.max)
    if x.dtype.is_int:
        low, high = max(low, int(x.dtype.min)), min(high, int(x.dtype.max))
        return F.cast(F.clip(x, low, high), to)
    # The greatest limit may be no number of x's type: compare, and choose after the cast.
    over, under = F.ge(x, float(high)), F.le(x, float(low))
    inside = F.cast(F.where(F.logical_or(F.isnan(x), F.logical_or(over, under)), 0, x), to)
    return F.where(over, F.constant(high, to), F.where(under, F.constant(low, to), inside))


@operation(NUMPY, 2, name="AllClose")
def allclose(x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Whether all elements are close (``isclose``)."""
    return F.all_(isclose.operation.body(x1, x2, rtol, atol, equal_nan))


def _window(name: str, weights: Any) -> Any:
    def body(x: Any) -> Any:
        return _length(name, x, weights)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"The {name} window of x points."

    def function(x: Any) -> Any:
        return body(x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = body.__doc__
    return function


def _length(name: str, x: Any, weights: Any) -> Any:
    from .creation import _created

    n = np.asarray(x)
    if n.ndim or n.dtype.kind not in "iu" or n < 0:
        raise ArgumentError(f"ops.{name} needs the number of points, known when the graph is built; got {x!r}")
    return _created(np.asarray(weights(int(n)), as_dtype(config.floatx()).np))


bartlett, blackman = _window("bartlett", np.bartlett), _window("blackman", np.blackman)
hamming, hanning = _window("hamming", np.hamming), _window("hanning", np.hanning)


def kaiser(x: Any, beta: float) -> Any:
    """The Kaiser window of x points with the shape parameter ``beta``."""
    return _length("kaiser", x, lambda n: np.kaiser(n, float(beta)))


@operation("keras.src.ops.nn", 2, name="PSNR")
def psnr(x1: Any, x2: Any, max_val: float) -> Any:
    """The peak signal-to-noise ratio in decibels: 20 log10(max_val) - 10 log10(mean squared difference)."""
    a, b = floating(x1), floating(x2)
    if a.shape != b.shape:
        raise ShapeError(f"ops.psnr: x1 of shape {known_shape(a.shape)} and x2 of shape {known_shape(b.shape)} must have one shape")
    return F.sub(20 * math.log10(max_val), F.mul(F.log10(F.mean(F.square(F.sub(a, b)))), 10.0))


__all__ = [
    "allclose", "angle", "bartlett", "blackman", "cbrt", "conj", "conjugate", "erfinv", "fabs", "fmax", "fmin", "gcd", "hamming",
    "hanning", "heaviside", "i0", "imag", "isneginf", "isposinf", "isreal", "kaiser", "lcm", "ldexp", "logaddexp2",
    "nextafter", "psnr", "real", "saturate_cast", "signbit", "sinc",
]
