"""erf, erfc, and erf's inverse."""

from __future__ import annotations

from ..approximations import (
    ERFC,
    ERFC_K,
    ERFC_K_SINGLE,
    ERFC_SINGLE,
    ERFINV_CENTRE,
    ERFINV_MIDDLE,
    ERFINV_TAIL,
    ERFINV_TAIL_AT,
)
from .arithmetic import INF, NAN
from .builder import Value, element
from .logarithm import Logarithm

# fit: erf(x)/x - 1 in x^2 for |x| < 1 (2^-68), log(erfc(t)) around 1.7 and 4.2 (2^-58, 2^-69 of erf)
_ERF_SMALL = (0.1283791670955126, -0.37612638903183754, 0.11283791670955119, -0.026866170645129733, 0.005223977625422087,
              -0.0008548327021853247, 0.00012055332899359869, -1.4925647465171315e-05, 1.6462043408811492e-06, -1.6364614434805423e-07,
              1.4792145870927415e-08, -1.2163042596350363e-09, 8.70379212117948e-11, -4.2228995768756654e-12)
_ERF_MIDDLE = (-4.1221552342439045, -3.8687732683897655, -0.9067887448410026, -0.021488370462220824, 0.004872603969572517,
               -0.0010177070504512598, 0.00018288062257265967, -2.3986044268256426e-05, 3.788724787374797e-07, 1.1080421518729034e-06,
               -4.6752954857894634e-07, 1.2766062112003404e-07, -2.5808744575038823e-08, 2.08475508031491e-09, 1.261193496212254e-09)
_ERF_LARGE = (-19.67402091614044, -8.626191978514928, -0.9755877153528292, -0.00336168716992282, 0.0004990388824358383, -7.57287922529839e-05,
              1.1459831316665522e-05, -1.7001725908983686e-06, 2.4436281365627254e-07, -3.634116753607977e-08, 1.1285169054413746e-09,
              -2.5899558709310367e-09, -7.932189179227371e-10, -1.9899706983036887e-10, -2.254296982848365e-11)
# N. Juffa's single precision erf
_ERF_SMALL_F = (1.28379166e-1, -3.76125336e-1, 1.12819925e-1, -2.67681349e-2, 4.99119423e-3, -5.96761703e-4)
_ERF_LARGE_F = (-1.28717512e-1, -6.34846687e-1, -1.06777877e-1, 2.42546219e-2, -3.88396438e-3, 3.83197126e-4, -1.72853470e-5)


class ErrorFunction(Logarithm):
    """The error functions. Bounds: ``codegen.accuracy``."""

    def erf(self, x: Value) -> Value:
        b = self.b
        s = b.fmul(x, x)
        single = element(x.type) == "float"
        t = self.at_most(self.abs(x), 4.0 if single else 6.0)
        small = b.fma(self.poly(s, _ERF_SMALL_F if single else _ERF_SMALL), x, x)
        if single:
            r = b.fma(self.poly(t, _ERF_LARGE_F), t, b.fneg(t))
            large = b.fsub(self.c(x, 1.0), self.exp(r))
            return b.select(b.fcmp("ogt", t, self.c(x, 0.927734375)), self.copysign(large, x), small)
        middle = self.poly(b.fsub(t, self.c(x, 1.7)), _ERF_MIDDLE)
        r = b.select(b.fcmp("olt", t, self.c(x, 2.4)), middle, self.poly(b.fsub(t, self.c(x, 4.2)), _ERF_LARGE))
        large = b.fsub(self.c(x, 1.0), self.exp(r))
        return b.select(b.fcmp("olt", t, self.c(x, 1.0)), small, b.select(b.fcmp("uno", x, x), x, self.copysign(large, x)))

    def erfc(self, x: Value) -> Value:
        """1 - erf(x), with all its digits in the right tail: exp(-x^2) p(q) / (1 + 2x), q = (x - K)/(x + K)."""
        b = self.b
        single = element(x.type) == "float"
        k = self.c(x, ERFC_K_SINGLE if single else ERFC_K)
        a = self.at_most(self.abs(x), 11.0 if single else 28.0)  # erfc is 0 there
        q = b.fdiv(b.fsub(a, k), b.fadd(a, k))
        p = b.fdiv(self.poly(q, ERFC_SINGLE if single else ERFC), b.fma(a, self.c(x, 2.0), self.c(x, 1.0)))
        square, low = self.two_product(a, a)
        tail = b.fmul(self.exp(b.fneg(square), b.fneg(low)), p)
        y = b.select(b.fcmp("olt", x, self.c(x, 0.0)), b.fsub(self.c(x, 2.0), tail), tail)
        return b.select(b.fcmp("uno", x, x), x, y)

    def erfinv(self, x: Value) -> Value:
        """The y with erf(y) = x: inf at 1, nan beyond."""
        if element(x.type) == "float":
            return self.through_double(self.erfinv, x)
        b = self.b
        one = self.c(x, 1.0)
        a = self.abs(x)
        inside = b.fcmp("olt", a, one)
        # (1 - x)(1 + x) by its exact factor 1 - |x| near 1, and 1 - x^2 where that keeps more
        w = b.fneg(self.log1p(b.fneg(b.fmul(b.select(inside, a, self.c(x, 0.0)), a))))
        near_one = b.fneg(self.log(b.fmul(b.select(inside, b.fsub(one, a), one), b.fadd(one, a))))
        w = b.select(b.fcmp("ogt", a, self.c(x, 0.5)), near_one, w)
        s = self.sqrt(b.select(b.fcmp("ogt", w, self.c(x, 6.25)), w, self.c(x, 6.25)))
        centre = self.poly(b.fsub(self.at_most(w, 6.25), self.c(x, 3.125)), ERFINV_CENTRE)
        middle = self.poly(b.fsub(self.at_most(s, 4.0), self.c(x, 3.25)), ERFINV_MIDDLE)
        tail = self.poly(b.fsub(s, self.c(x, ERFINV_TAIL_AT)), ERFINV_TAIL)
        p = b.select(b.fcmp("ole", w, self.c(x, 6.25)), centre, b.select(b.fcmp("ole", s, self.c(x, 4.0)), middle, tail))
        y = b.select(inside, b.fmul(p, x), self.copysign(self.c(x, INF), x))
        return b.select(b.fcmp("ule", a, one), b.select(b.fcmp("uno", x, x), x, y), self.c(x, NAN))
