"""The logarithm of the gamma function, and its derivative."""

from __future__ import annotations

from ..approximations import DIGAMMA, DIGAMMA_LARGE, DIGAMMA_ROOT, DIGAMMA_ROOT_LOW, LGAMMA, STIRLING
from .arithmetic import INF, NAN
from .builder import Value, element
from .logarithm import Logarithm
from .trig import Trigonometry

_HALF_LOG_2PI = 0.9189385332046727
_LOG_PI = 1.1447298858494002
_PI = 3.141592653589793


class Gamma(Logarithm, Trigonometry):
    """Bounds: ``codegen.accuracy``. Negative arguments go through the reflection formulas."""

    def lgamma(self, x: Value) -> Value:
        """log |gamma(x)|: inf at 0, -1, -2, ... and at both infinities."""
        if element(x.type) == "float":
            return self.through_double(self.lgamma, x)
        b = self.b
        negative = b.fcmp("olt", x, self.c(x, 0.0))
        a = self.abs(x)
        y = self._lgamma_positive(a)
        # log |gamma(-a)| = log(pi / (a |sin pi a|)) - log gamma(a); sin pi a is exact where it vanishes
        s = self.abs(self.sinpi(a))
        reflected = b.fsub(b.fsub(self.c(x, _LOG_PI), self.log(b.fmul(a, s))), y)
        tiny = b.fcmp("olt", a, self.c(x, 2.0**-70))
        reflected = b.select(tiny, y, b.select(b.fcmp("oeq", s, self.c(x, 0.0)), self.c(x, INF), reflected))
        y = b.select(negative, reflected, y)
        y = b.select(b.fcmp("oeq", a, self.c(x, INF)), self.c(x, INF), y)
        return b.select(b.fcmp("uno", x, x), x, y)

    def _lgamma_positive(self, x: Value) -> Value:
        """Near its zeros 1 and 2 a polynomial times both factors, below 8 shifted there by the recurrence, above 8 Stirling's
        formula."""
        b = self.b
        one, two, eight = self.c(x, 1.0), self.c(x, 2.0), self.c(x, 8.0)
        half = self.c(x, 0.5)
        least, left, large = b.fcmp("olt", x, half), b.fcmp("olt", x, self.c(x, 1.5)), b.fcmp("oge", x, eight)
        y, product = self.at_most(x, 8.0), one
        for _ in range(5):
            above = b.fcmp("oge", y, self.c(x, 3.0))
            y = b.select(above, b.fsub(y, one), y)
            product = b.select(above, b.fmul(product, y), product)
        # lgamma(2 + d) = d (d + 1) g(d), and the log of what the recurrence left: from x + 2 below 1/2, from x + 1 below 3/2.
        # No d is rounded.
        d = b.select(least, x, b.select(left, b.fsub(x, one), b.fsub(y, two)))
        d = self.at_most(d, 1.0)
        factor = b.fmul(d, b.select(b.xor(least, left), x, b.fadd(d, one)))
        near = b.fmul(factor, self.poly(b.fsub(d, self.c(x, 0.25)), LGAMMA))
        log = self.log(b.select(least, b.fma(x, x, x), b.select(b.or_(left, large), x, product)))
        near = b.select(left, b.fsub(near, log), b.fadd(near, log))
        inverse = b.fdiv(one, x)
        rest = b.fadd(b.fmul(inverse, self.poly(b.fmul(inverse, inverse), STIRLING)), self.c(x, _HALF_LOG_2PI - 0.5))
        far = b.fma(b.fsub(x, half), b.fsub(log, one), rest)
        return b.select(large, far, near)

    def digamma(self, x: Value) -> Value:
        """The derivative of log gamma: nan at negative integers and -inf, -inf at 0, inf at -0."""
        if element(x.type) == "float":
            return self.through_double(self.digamma, x)
        b = self.b
        zero = self.c(x, 0.0)
        negative = b.fcmp("olt", x, zero)
        a = self.abs(x)
        y = self._digamma_positive(a)
        # digamma(-a) = digamma(a) + 1/a + pi cot(pi a)
        s, c = self.sinpi(a), self.cospi(a)
        cot = b.fdiv(b.fmul(self.c(x, _PI), c), s)
        reflected = b.fadd(b.fadd(y, b.fdiv(self.c(x, 1.0), a)), cot)
        reflected = b.select(b.fcmp("oeq", s, zero), self.c(x, NAN), reflected)
        reflected = b.select(b.fcmp("olt", a, self.c(x, 2.0**-70)), b.fdiv(self.c(x, 1.0), a), reflected)
        y = b.select(negative, reflected, y)
        y = b.select(b.fcmp("oeq", x, zero), self.copysign(self.c(x, INF), b.fneg(x)), y)
        y = b.select(b.fcmp("oeq", x, self.c(x, INF)), x, y)
        y = b.select(b.fcmp("oeq", x, self.c(x, -INF)), self.c(x, NAN), y)
        return b.select(b.fcmp("uno", x, x), x, y)

    def _digamma_positive(self, x: Value) -> Value:
        """A polynomial about its zero on [1, 2], below 8 shifted there by the recurrence, above 8 the asymptotic series."""
        b = self.b
        one = self.c(x, 1.0)
        left, large = b.fcmp("olt", x, one), b.fcmp("oge", x, self.c(x, 8.0))
        y = self.at_most(x, 8.0)
        num, den = self.c(x, 0.0), one  # the sum of 1/(x - k) as one fraction
        for _ in range(6):
            above = b.fcmp("oge", y, self.c(x, 2.0))
            y = b.select(above, b.fsub(y, one), y)
            num = b.select(above, b.fma(num, y, den), num)
            den = b.select(above, b.fmul(den, y), den)
        num, den = b.select(left, self.c(x, -1.0), num), b.select(left, x, den)
        # y - root without rounding y = x + 1 first
        root = b.select(left, self.c(x, DIGAMMA_ROOT - 1.0), self.c(x, DIGAMMA_ROOT))
        d = b.fsub(b.fsub(y, root), self.c(x, DIGAMMA_ROOT_LOW))
        at = b.fsub(y, b.select(left, self.c(x, 0.5), self.c(x, 1.5)))
        near = b.fadd(b.fmul(d, self.poly(at, DIGAMMA)), b.fdiv(num, den))
        inverse = b.fdiv(one, x)
        z = b.fmul(inverse, inverse)
        far = b.fsub(self.log(x), b.fma(z, self.poly(z, DIGAMMA_LARGE), b.fmul(inverse, self.c(x, 0.5))))
        return b.select(large, far, near)
