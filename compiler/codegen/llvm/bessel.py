"""Modified Bessel functions of the first kind, scaled by exp(-|x|)."""

from __future__ import annotations

from ..approximations import BESSEL_I0, BESSEL_I0_LARGE, BESSEL_I1, BESSEL_I1_LARGE, BESSEL_SPLIT
from .arithmetic import INF
from .builder import Value, element
from .exponential import Exponential


class Bessel(Exponential):
    """Bounds: ``codegen.accuracy``."""

    def i0e(self, x: Value) -> Value:
        """exp(-|x|) I0(x)."""
        return self.through_double(self.i0e, x) if element(x.type) == "float" else self._scaled(x, BESSEL_I0, BESSEL_I0_LARGE)

    def i1e(self, x: Value) -> Value:
        """exp(-|x|) I1(x), odd."""
        if element(x.type) == "float":
            return self.through_double(self.i1e, x)
        b = self.b
        y = self._scaled(x, BESSEL_I1, BESSEL_I1_LARGE, self.abs(x))
        return self.copysign(b.select(b.fcmp("olt", self.abs(x), self.c(x, 2.0**-60)), b.fmul(self.abs(x), self.c(x, 0.5)), y), x)

    def _scaled(self, x: Value, series, large, factor: Value | None = None) -> Value:
        """The power series (times ``factor``) and exp, or the expansion in 1/x over sqrt(x)."""
        b = self.b
        a = self.abs(x)
        small = b.fcmp("ole", a, self.c(x, BESSEL_SPLIT))
        t = self.at_most(a, BESSEL_SPLIT)
        near = b.fmul(self.exp(b.fneg(t)), self.poly(b.fmul(b.fmul(t, t), self.c(x, 0.25)), series))
        if factor is not None:
            near = b.fmul(near, factor)
        a = self.at_least(a, BESSEL_SPLIT)
        v = b.fsub(b.fdiv(self.c(x, BESSEL_SPLIT), a), self.c(x, 0.5))
        far = b.fdiv(self.poly(v, large), self.sqrt(a))
        y = b.select(small, near, far)
        return b.select(b.fcmp("oeq", a, self.c(x, INF)), self.c(x, 0.0), b.select(b.fcmp("uno", x, x), x, y))
