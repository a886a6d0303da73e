"""Functions that NumPy lacks, in float64, for the interpreter: by other methods than the backends', so that each checks the
other.

Arrays of any shape; results have the operand's dtype. Relative errors are below 1e-13 but where a value cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


def _in_double(fn: Callable[[float], float]) -> Callable:
    """``fn`` of Python floats for every element, computed in float64."""
    each = np.frompyfunc(fn, 1, 1)

    def whole(x):
        x = np.asarray(x)
        with np.errstate(all="ignore"):
            return np.asarray(each(x.astype(np.float64)), np.float64).astype(x.dtype)

    return whole


def _erfinv(x: float) -> float:
    """Halley's iteration on erf, on erfc near 1, from Winitzki's approximation."""
    a = abs(x)
    if not a < 1:
        return math.copysign(math.inf, x) if a == 1 else math.nan
    if a < 1e-8:
        return x / _TWO_OVER_ROOT_PI
    log = math.log1p(-a) + math.log1p(a)
    t = 2 / (math.pi * 0.147) + log / 2
    y = math.sqrt(max(math.sqrt(t * t - log / 0.147) - t, 0.0))
    for _ in range(4):
        error = math.erf(y) - a if a < 0.5 else (1 - a) - math.erfc(y)
        step = error / (_TWO_OVER_ROOT_PI * math.exp(-y * y))
        y -= step / (1 + y * step)
    return math.copysign(y, x)


def _lgamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except ValueError:  # a pole
        return math.inf
    except OverflowError:
        return math.inf


def _digamma(x: float) -> float:
    """Recurrence up to 16, then the asymptotic series; reflection below 0."""
    if x == 0:
        return math.copysign(math.inf, -x)
    if x < 0:
        if math.isinf(x):
            return math.nan
        fraction = math.remainder(x, 1.0)  # exact
        if fraction == 0:
            return math.nan
        return _digamma(-x) - 1 / x - math.pi * math.cos(math.pi * fraction) / math.sin(math.pi * fraction)
    if abs(x - 1.4616321449683622) < 1e-3:  # its zero: the Taylor series there
        d = (x - 1.4616321449683622) - 9.549995429965697e-17
        return d * (
            0.9676722454476212
            + d * (-0.44276316898359208 + d * (0.25849976095565103 + d * (-0.1639427054424065 + d * 0.10782405069126)))
        )
    total = 0.0
    while x < 16:
        total -= 1 / x
        x += 1
    z = 1 / (x * x)
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z * (1 / 132 - z * 691 / 32760)))))
    return total + (math.log(x) - 0.5 / x - series)


def _scaled_bessel(order: int) -> Callable[[float], float]:
    def at(x: float) -> float:
        a = abs(x)
        if not a < math.inf:
            return math.copysign(0.0, x if order else 1.0) if a == math.inf else x
        if a < 30:  # the power series
            term = total = (a / 2) ** order
            for k in range(1, 90):
                term *= (a * a / 4) / (k * (k + order))
                total += term
            y = total * math.exp(-a)
        else:  # the asymptotic expansion
            mu, term, total = 4 * order * order, 1.0, 1.0
            for k in range(1, 30):
                term *= -(mu - (2 * k - 1) ** 2) / (k * 8 * a)
                total += term
            y = total / math.sqrt(2 * math.pi * a)
        return math.copysign(y, x) if order else y

    return at


def _half_turns(x: float, shift: int) -> float:
    """sin(pi (x + shift/2))."""
    if not abs(x) < math.inf:
        return math.nan
    r = math.remainder(x, 2.0)
    quarter = round(2 * r)
    r = math.pi * (r - quarter / 2)
    quarter = (quarter + shift) % 4
    y = math.sin(r) if quarter % 2 == 0 else math.cos(r)
    return (-y if quarter >= 2 else y) + (0.0 if shift else math.copysign(0.0, x))


def _sinpi(x: float) -> float:
    return math.copysign(0.0, x) if x == x and abs(x) < math.inf and x == math.floor(x) else _half_turns(x, 0)


def _cospi(x: float) -> float:
    return 0.0 if abs(x) < math.inf and abs(math.remainder(x, 1.0)) == 0.5 else _half_turns(x, 1)


erf = _in_double(math.erf)
erfc = _in_double(math.erfc)
erfinv = _in_double(_erfinv)
lgamma = _in_double(_lgamma)
digamma = _in_double(_digamma)
i0e = _in_double(_scaled_bessel(0))
i1e = _in_double(_scaled_bessel(1))
sinpi = _in_double(_sinpi)
cospi = _in_double(_cospi)
