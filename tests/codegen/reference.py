"""Elementary and special functions in longdouble (64-bit significands), from NumPy or mpmath; tests only."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import mpmath
import numpy as np

from .ulp import Dtype, all_binades, around

LD = np.longdouble


def _mp(value: LD) -> mpmath.mpf:
    m, e = np.frexp(value)
    return mpmath.ldexp(mpmath.mpf(int(np.ldexp(m, 64))), int(e) - 64)


def _ld(value: mpmath.mpf) -> LD:
    sign, man, exp, bits = value._mpf_
    if man == 0:
        return LD(float(value))
    drop = max(bits - 64, 0)
    return np.ldexp(LD(int(man >> drop) & 0xFFFFFFFF) + np.ldexp(LD(int(man >> drop) >> 32), 32), exp + drop) * (-1 if sign else 1)


def _by_digits(fn: Callable, *special: tuple[float, float], digits: int = 40) -> Callable:
    """``fn`` of mpmath at finite arguments; ``special`` pairs (argument, value) go first; nan elsewhere."""
    table = {(v, bool(np.signbit(v))): r for v, r in special}

    def at(x: LD) -> LD:
        known = table.get((float(x), bool(np.signbit(x)))) if float(x) == x else None
        if known is not None:
            return LD(known)
        if not np.isfinite(x):
            return LD(np.nan)
        try:
            y = fn(_mp(x))
        except (ValueError, ZeroDivisionError):
            return LD(np.nan)
        return LD(np.nan) if isinstance(y, mpmath.mpc) else _ld(y)

    def whole(x: np.ndarray) -> np.ndarray:
        with mpmath.workdps(digits):
            return np.array([at(v) for v in x], LD)

    return whole


def _erfinv(x: mpmath.mpf) -> mpmath.mpf:
    """Newton's iteration on erfc near 1, on erf elsewhere, from Giles' leading terms."""
    if abs(x) >= 1:
        raise ValueError(x)
    a = abs(x)
    y = mpmath.mpf(np.sqrt(max(float(-mpmath.log1p(-a * a)), 0.0))) if a > 0.9 else a * mpmath.sqrt(mpmath.pi) / 2
    for _ in range(60):
        slope = 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-y * y)
        f = (mpmath.erf(y) - a) if a < 0.5 else ((1 - a) - mpmath.erfc(y))
        step = f / slope
        step = step / (1 + y * step)  # Halley
        y -= step
        if abs(step) <= abs(y) * mpmath.mpf(10) ** -30:
            break
    return y if x >= 0 else -y


def _lgamma(x: mpmath.mpf) -> mpmath.mpf:
    if x <= 0 and x == mpmath.floor(x):
        return mpmath.mpf("inf")
    if x > mpmath.mpf(10) ** 30:
        return (x - 0.5) * mpmath.log(x) - x + mpmath.log(2 * mpmath.pi) / 2
    if x < 0:
        return mpmath.log(mpmath.pi / abs(x * mpmath.sinpi(x))) - _lgamma(-x)
    return mpmath.loggamma(x)


def _digamma(x: mpmath.mpf) -> mpmath.mpf:
    if x <= 0 and x == mpmath.floor(x):
        raise ValueError(x)
    if x < 0:
        return _digamma(-x) - 1 / x - mpmath.pi * mpmath.cospi(x) / mpmath.sinpi(x)
    return mpmath.log(x) if x > mpmath.mpf(10) ** 40 else mpmath.digamma(x)


def _scaled_bessel(order: int) -> Callable:
    def at(x: mpmath.mpf) -> mpmath.mpf:
        a = abs(x)
        if a > 1e6:  # the asymptotic expansion
            mu, term, total = 4 * order * order, mpmath.mpf(1), mpmath.mpf(1)
            for k in range(1, 12):
                term *= -(mu - (2 * k - 1) ** 2) / (k * 8 * a)
                total += term
            y = total / mpmath.sqrt(2 * mpmath.pi * a)
        else:
            y = mpmath.exp(-a) * mpmath.besseli(order, a)
        return -y if order == 1 and x < 0 else y

    return at


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


INF = float("inf")
FUNCTIONS: dict[str, Callable] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "cbrt": np.cbrt, "hypot": np.hypot, "tanh": np.tanh, "sigmoid": sigmoid,
    "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2,
    "pow": np.power,
    "erf": _by_digits(mpmath.erf, (INF, 1.0), (-INF, -1.0), (-0.0, -0.0), (0.0, 0.0)),
    "erfc": _by_digits(lambda x: mpmath.erfc(x) if x < 200 else mpmath.mpf(0), (INF, 0.0), (-INF, 2.0)),
    "erfinv": _by_digits(_erfinv, (1.0, INF), (-1.0, -INF), (0.0, 0.0), (-0.0, -0.0)),
    "sinpi": _by_digits(mpmath.sinpi, (0.0, 0.0), (-0.0, -0.0)),
    "cospi": _by_digits(mpmath.cospi),
    "lgamma": _by_digits(_lgamma, (INF, INF), (-INF, INF), (0.0, INF), (-0.0, INF)),
    "digamma": _by_digits(_digamma, (INF, INF), (0.0, -INF), (-0.0, INF)),
    "i0e": _by_digits(_scaled_bessel(0), (INF, 0.0), (-INF, 0.0)),
    "i1e": _by_digits(_scaled_bessel(1), (INF, 0.0), (-INF, -0.0), (0.0, 0.0), (-0.0, -0.0)),
}
# Arguments of a function that take the interesting part of its range (float32, float64), and points to look around
RANGES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "exp": ((-110, 90), (-750, 712)), "exp2": ((-152, 129), (-1077, 1025)), "expm1": ((-20, 90), (-40, 712)),
    "log": ((0.5, 2), (0.5, 2)), "log2": ((0.5, 2), (0.5, 2)), "log10": ((0.5, 2), (0.5, 2)), "log1p": ((-1, 3), (-1, 3)),
    "tanh": ((-10, 10), (-20, 20)), "sigmoid": ((-110, 90), (-750, 700)), "erf": ((-4, 4), (-6, 6)), "erfc": ((-4, 10.5), (-6, 28)),
    "erfinv": ((-1, 1), (-1, 1)), "sinh": ((-90, 90), (-712, 712)), "cosh": ((-90, 90), (-712, 712)), "asinh": ((-5, 5), (-5, 5)),
    "acosh": ((1, 5), (1, 5)), "atanh": ((-1, 1), (-1, 1)), "sin": ((-50, 50), (-1e5, 1e5)), "cos": ((-50, 50), (-1e5, 1e5)),
    "tan": ((-50, 50), (-1e5, 1e5)), "sinpi": ((-9, 9), (-9, 9)), "cospi": ((-9, 9), (-9, 9)), "asin": ((-1, 1), (-1, 1)),
    "acos": ((-1, 1), (-1, 1)), "atan": ((-5, 5), (-5, 5)), "lgamma": ((-12, 12), (-12, 12)), "digamma": ((-12, 12), (-12, 12)),
    "i0e": ((-12, 12), (-12, 12)), "i1e": ((-12, 12), (-12, 12)),
}
_MULTIPLES = np.concatenate([np.arange(1, 60), 2.0 ** np.arange(6, 60), np.round(3.7 ** np.arange(4, 40))]) * LD("1.57079632679489661923")
_WHOLE = np.concatenate([np.arange(-20, 21) / LD(2), [2.0**22, 2.0**23 - 1, 2.0**23, 2.0**24 + 2, 2.0**51 + 0.5, 2.0**52 + 1, 2.0**53]])
_ONES = np.array([1, -1, 0.5, -0.5, 2, 0.75])
POINTS: dict[str, np.ndarray] = {
    # the last: the double and the float that are nearest to a multiple of pi/2
    "sin": np.concatenate([_MULTIPLES, -_MULTIPLES, [6381956970095103.0 * 2.0**797, 16367173.0 * 2.0**72]]),
    "sinpi": _WHOLE, "cospi": _WHOLE, "exp2": _WHOLE,
    "exp": np.log(np.array([np.finfo(t).max for t in (np.float32, np.float64)] + [np.finfo(np.float32).tiny, np.finfo(np.float64).tiny])),
    "log10": 10.0 ** np.arange(-30, 38), "log": _ONES, "log1p": _ONES, "log2": 2.0 ** np.arange(-40, 40), "cbrt": np.arange(1.0, 40) ** 3,
    "lgamma": np.concatenate([_WHOLE, [-2.457024738220797, -2.7476826467274126, 1.4616321449683622, 1.5, 3.0, 8.0, 1e36, 2.5e305]]),
    "digamma": np.concatenate([_WHOLE, [1.4616321449683622, -0.5040830082644554, -1.5734984731623904, 8.0]]),
    "erfc": np.array([0.0, 2.0, 4.0, 9.194, 10.05, 26.54, 27.22, -5.9, 0.5]), "erfinv": np.array([0.5, -0.5, 0.9, 0.99, 0.9981, 1 - 1e-7, 1 - 1e-15]),
    "tanh": _ONES, "asin": _ONES, "acosh": np.array([1.0, 2.0**28, 1.5]), "asinh": np.array([2.0**28, 1e-8]), "atanh": _ONES,
    "i0e": np.array([7.75, -7.75, 500.0]), "i1e": np.array([7.75, -7.75, 500.0]), "erf": np.array([1.0, 2.4, 0.927734375, 3.9, 5.9]),
    "sigmoid": np.array([-87.4, -103.0, 16.6, 36.7]),
}
POINTS["cos"] = POINTS["tan"] = POINTS["sin"]
POINTS["acos"] = POINTS["atan"] = POINTS["asin"]
POINTS["expm1"] = POINTS["sinh"] = POINTS["cosh"] = POINTS["exp"]


def beside(name: str, x: np.ndarray, want: np.ndarray) -> np.ndarray | float:
    """The size of the terms that cancel (the column ``beside`` of ``codegen.accuracy``)."""
    if name not in ("lgamma", "digamma"):
        return 0.0
    negative = (x < 0) & np.isfinite(x)
    at = np.where(negative & (x == x), np.abs(x), 1).astype(np.float64)
    from scipy import special

    with np.errstate(all="ignore"):
        if name == "lgamma":
            return np.where(negative & (at > 1e-300), np.maximum(np.abs(special.gammaln(at)), 1.2), 0.0)
        return np.where(negative, np.abs(special.psi(at)) + 1 / at + np.where(np.isfinite(want), np.abs(want), 0), 0.0)


TWO = ("pow", "atan2", "hypot")  # functions of two operands


@cache
def case(name: str, dtype: Dtype) -> tuple[np.ndarray, np.ndarray]:
    """Arguments over the whole range, and the true values."""
    rng = np.random.default_rng(sorted(FUNCTIONS).index(name))
    single = dtype == np.float32
    slow = FUNCTIONS[name].__name__ == "whole"
    parts = [all_binades(dtype, (4 if single else 1) if slow else (40 if single else 6), rng), around(POINTS.get(name, np.ones(1)), dtype)]
    if name in RANGES:
        parts.append(rng.uniform(*RANGES[name][0 if single else 1], 1500 if slow else 20000).astype(dtype))
    x = np.concatenate(parts)
    with np.errstate(all="ignore"):
        return x, FUNCTIONS[name](x.astype(LD))


def operands(dtype: Dtype, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of special values, of numbers of any size, and of moderate ones (the first positive)."""
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1.5, 1e-310, 1e30, -1e30], dtype)
    a, b = (v.ravel() for v in np.meshgrid(special, special))
    x = rng.choice(all_binades(dtype, 4, rng), 20000)
    y = rng.choice(all_binades(dtype, 4, rng), 20000)
    near = rng.standard_normal((2, 20000)).astype(dtype) * 20
    return np.concatenate([a, x, np.abs(near[0])]), np.concatenate([b, y, near[1]])


@cache
def pairs(name: str, dtype: Dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two operands, and the true values."""
    x, y = operands(dtype, np.random.default_rng(3))
    with np.errstate(all="ignore"):
        return x, y, FUNCTIONS[name](x.astype(LD), y.astype(LD))
