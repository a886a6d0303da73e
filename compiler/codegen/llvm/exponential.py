"""exp and what is made of it: expm1, exp2, tanh, sigmoid, sinh, cosh."""

from __future__ import annotations

from .arithmetic import Arithmetic
from .builder import Value, element

# fit: (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, relative error of exp(r)-1 2^-32.0 and 2^-61.7
_EXP = {
    "float": (0.5000000044163088, 0.16666666370503533, 0.04166636091474126, 0.008333389378947688, 0.001394062731761298, 0.00019845867014379572),
    "double": (0.5, 0.16666666666666677, 0.04166666666666651, 0.008333333333321691, 0.0013888888888962394, 0.00019841269885966133,
               2.4801587172498786e-05, 2.755724437403734e-06, 2.755740267481601e-07, 2.5108978927265916e-08, 2.087532046450363e-09),
}
# fit: (2^r - 1)/r on |r| <= 1/2, relative error 2^-25.4 and 2^-54.2
_EXP2 = {
    "float": (0.693147182, 0.240226507, 0.0555035695, 0.00961808302, 0.00133908633, 0.000154531634),
    "double": (0.6931471805599453, 0.24022650695910072, 0.055504108664821625, 0.00961812910762848, 0.001333355814640647,
               0.00015403530393370734, 1.5252733841556773e-05, 1.3215486808705563e-06, 1.0178057087733941e-07, 7.0548973041554995e-09,
               4.4558179083360645e-10, 2.5729324177362305e-11),
}


class Exponential(Arithmetic):
    """Exponential functions. Bounds: ``codegen.accuracy``."""

    def exp(self, x: Value, low: Value | None = None) -> Value:
        """exp(x); with ``low``, exp(x + low) for a correction |low| << 1."""
        b, f = self.b, self.fmt(x)
        x = self.at_least(self.at_most(x, f.exp_high), f.exp_low)
        n, whole = self.integer_part(x, 1.4426950408889634)
        r = b.fma(n, self.c(x, -f.ln2_hi), x)
        r = b.fma(n, self.c(x, -f.ln2_lo), r)
        if low is not None:
            r = b.fadd(r, low)
        y = b.fma(b.fmul(r, r), self.poly(r, _EXP[f.type]), r)
        return self.scale(b.fadd(y, self.c(x, 1.0)), n, whole)

    def exp2(self, x: Value) -> Value:
        b, f = self.b, self.fmt(x)
        a = self.at_least(self.at_most(x, f.bias + 2.0), -(f.bias + f.mantissa + 2.0))
        n, whole = self.integer_part(a, 1.0)
        r = b.fsub(a, n)
        return self.scale(b.fma(r, self.poly(r, _EXP2[f.type]), self.c(x, 1.0)), n, whole)

    def expm1(self, x: Value) -> Value:
        b, f = self.b, self.fmt(x)
        a = self.at_least(self.at_most(x, f.exp_high), f.expm1_low)
        n, whole = self.integer_part(a, 1.4426950408889634)
        high = b.fma(n, self.c(x, -f.ln2_hi), a)
        low = b.fmul(n, self.c(x, f.ln2_lo))
        r = b.fsub(high, low)
        correction = b.fsub(b.fsub(high, r), low)
        p = b.fma(b.fmul(r, r), self.poly(r, _EXP[f.type]), correction)
        p = b.fadd(p, r)
        half = self.power_of_two(b.binary("sub", whole, self.i(x, 1)))  # 2^(n-1): 2^n itself overflows where the result need not
        y = b.fma(half, p, b.fsub(half, self.c(x, 0.5)))
        y = b.fadd(y, y)
        return b.select(b.fcmp("olt", self.abs(x), self.c(x, f.tiny)), x, y)

    def tanh(self, x: Value) -> Value:
        b = self.b
        t = self.expm1(b.fmul(self.abs(x), self.c(x, -2.0)))
        return self.copysign(b.fdiv(t, b.fadd(t, self.c(x, 2.0))), x)

    def sigmoid(self, x: Value) -> Value:
        b = self.b
        e = self.exp(b.fneg(self.abs(x)))
        one = self.c(x, 1.0)
        return b.fdiv(b.select(b.fcmp("oge", x, self.c(x, 0.0)), one, e), b.fadd(one, e))

    def sinh(self, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.sinh, x)
        b = self.b
        a = self.abs(x)
        t = self.expm1(a)
        y = b.fmul(b.fadd(t, b.fdiv(t, b.fadd(t, self.c(x, 1.0)))), self.c(x, 0.5))
        large = b.fcmp("ogt", a, self.c(x, 700.0))  # expm1 overflows before sinh does
        e = self.exp(b.fmul(a, self.c(x, 0.5)))
        y = b.select(large, b.fmul(b.fmul(e, self.c(x, 0.5)), e), y)
        return self.copysign(y, x)

    def cosh(self, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.cosh, x)
        b = self.b
        a = self.abs(x)
        e = self.exp(a)
        y = b.fadd(b.fmul(e, self.c(x, 0.5)), b.fdiv(self.c(x, 0.5), e))
        h = self.exp(b.fmul(a, self.c(x, 0.5)))
        return b.select(b.fcmp("ogt", a, self.c(x, 700.0)), b.fmul(b.fmul(h, self.c(x, 0.5)), h), y)
