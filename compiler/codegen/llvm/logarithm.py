"""Logarithms, inverse hyperbolic functions, and powers."""

from __future__ import annotations

from .arithmetic import FORMATS, INF, NAN
from .builder import Value, element
from .exponential import Exponential

# FreeBSD's k_logf.h and k_log.h
_LOG = {
    "float": (0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    "double": (6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
               1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01),
}
# FreeBSD's e_log2.c, e_log10.c and their float forms: 1/ln 2, 1/ln 10 and log10 2, each with few enough leading bits that products are exact
_LOG2 = {"float": (1.4428710938, -1.7605285393e-04), "double": (1.44269504072144627571, 1.67517131648865118353e-10)}
_LOG10 = {"float": (4.3432617188e-01, -3.1689971365e-05, 3.0102920532e-01, 7.9034151668e-07),
          "double": (4.34294481878168880939e-01, 2.50829467116452752298e-11, 3.01029995663611771306e-01, 3.69423907715893078616e-13)}


class Logarithm(Exponential):
    """Logarithms and powers. Bounds: ``codegen.accuracy``."""

    def _parts(self, x: Value) -> tuple[Value, Value]:
        """x = m * 2^k for normal x > 0, m in [sqrt(1/2), sqrt(2)): (m, k as a float)."""
        b, f = self.b, self.fmt(x)
        shifted = b.binary("add", self.bits(x), self.i(x, (f.bias << f.mantissa) - f.sqrt_half))
        k = b.binary("lshr", shifted, self.i(x, f.mantissa))
        m = b.binary("add", b.and_(shifted, self.i(x, (1 << f.mantissa) - 1)), self.i(x, f.sqrt_half))
        if f.type == "float":
            k = b.convert("sitofp", k, "float")
        else:  # vectors of i64 convert slowly before AVX-512: put the integer into the mantissa of 2^52
            k = b.fsub(self.real(b.or_(k, self.i(x, 0x4330000000000000))), self.c(x, 2.0**52))
        return self.real(m), b.fsub(k, self.c(x, float(f.bias)))

    def _normal(self, x: Value) -> tuple[Value, Value]:
        """(x scaled out of the denormals, what to add to its exponent)."""
        b, f = self.b, self.fmt(x)
        small = b.fcmp("olt", x, self.c(x, 2.0 ** (1 - f.bias)))
        return b.select(small, b.fmul(x, self.c(x, 2.0 ** 54)), x), b.select(small, self.c(x, -54.0), self.c(x, 0.0))

    def _log_core(self, f: Value, k: Value, correction: Value | None) -> Value:
        """log(1 + f) + k ln 2 (+ correction)."""
        b, fmt = self.b, self.fmt(f)
        hi, lo = (6.9313812256e-01, 9.0580006145e-06) if fmt.type == "float" else (fmt.ln2_hi, fmt.ln2_lo)
        s = b.fdiv(f, b.fadd(f, self.c(f, 2.0)))
        z = b.fmul(s, s)
        r = b.fmul(z, self.poly(z, _LOG[fmt.type]))
        half = b.fmul(b.fmul(f, f), self.c(f, 0.5))
        tail = b.fmul(k, self.c(f, lo)) if correction is None else b.fma(k, self.c(f, lo), correction)
        y = b.fadd(b.fmul(s, b.fadd(half, r)), tail)
        y = b.fsub(f, b.fsub(half, y))
        return b.fma(k, self.c(f, hi), y)

    def _log_specials(self, x: Value, u: Value, y: Value) -> Value:
        """The values of log u at 0, below it, at inf and nan; x is what nan and inf come from."""
        b = self.b
        y = b.select(b.fcmp("oeq", u, self.c(x, INF)), x, y)
        y = b.select(b.fcmp("oeq", u, self.c(x, 0.0)), self.c(x, -INF), y)
        y = b.select(b.fcmp("olt", u, self.c(x, 0.0)), self.c(x, NAN), y)
        return b.select(b.fcmp("uno", x, x), x, y)

    def log(self, x: Value) -> Value:
        b = self.b
        scaled, shift = self._normal(x)
        m, k = self._parts(scaled)
        y = self._log_core(b.fsub(m, self.c(x, 1.0)), b.fadd(k, shift), None)
        return self._log_specials(x, x, y)

    def log2(self, x: Value) -> Value:
        b = self.b
        inverse, inverse_low = (self.c(x, v) for v in _LOG2[self.fmt(x).type])
        high, low, k = self._log_split(x)
        product = b.fmul(high, inverse)
        rest = b.fma(b.fadd(low, high), inverse_low, b.fmul(low, inverse))
        total, error = self.two_sum(k, product)
        return self._log_specials(x, x, b.fadd(total, b.fadd(rest, error)))

    def log10(self, x: Value) -> Value:
        b = self.b
        inverse, inverse_low, two, two_low = (self.c(x, v) for v in _LOG10[self.fmt(x).type])
        high, low, k = self._log_split(x)
        product = b.fmul(high, inverse)
        rest = b.fma(k, two_low, b.fma(b.fadd(low, high), inverse_low, b.fmul(low, inverse)))
        total, error = self.two_sum(b.fmul(k, two), product)
        return self._log_specials(x, x, b.fadd(total, b.fadd(rest, error)))

    def _log_split(self, x: Value) -> tuple[Value, Value, Value]:
        """log x = high + low + k ln 2, high with half the bits of the format."""
        b, fmt = self.b, self.fmt(x)
        scaled, shift = self._normal(x)
        m, k = self._parts(scaled)
        f = b.fsub(m, self.c(x, 1.0))
        s = b.fdiv(f, b.fadd(f, self.c(x, 2.0)))
        z = b.fmul(s, s)
        half = b.fmul(b.fmul(f, f), self.c(x, 0.5))
        r = b.fmul(s, b.fadd(half, b.fmul(z, self.poly(z, _LOG[fmt.type]))))
        high = self.real(b.and_(self.bits(b.fsub(f, half)), self.i(x, -(1 << (12 if fmt.type == "float" else 32)))))
        return high, b.fadd(b.fsub(b.fsub(f, high), half), r), b.fadd(k, shift)

    def log1p(self, x: Value) -> Value:
        b = self.b
        one = self.c(x, 1.0)
        u = b.fadd(x, one)
        m, k = self._parts(u)
        near = b.fcmp("oeq", k, self.c(x, 0.0))
        lost = b.select(b.fcmp("oge", u, self.c(x, 2.0)), b.fsub(one, b.fsub(u, x)), b.fsub(x, b.fsub(u, one)))
        f = b.select(near, x, b.fsub(m, one))
        y = self._log_core(f, k, b.select(near, self.c(x, 0.0), b.fdiv(lost, u)))
        y = b.select(b.fcmp("olt", self.abs(x), self.c(x, self.fmt(x).tiny)), x, y)
        return self._log_specials(x, u, y)

    def asinh(self, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.asinh, x)
        b = self.b
        a = self.abs(x)
        square = b.fmul(a, a)
        y = self.log1p(b.fadd(a, b.fdiv(square, b.fadd(self.sqrt(b.fadd(square, self.c(x, 1.0))), self.c(x, 1.0)))))
        large = b.fadd(self.log(a), self.c(x, 0.6931471805599453))
        return self.copysign(b.select(b.fcmp("ogt", a, self.c(x, 2.0**28)), large, y), x)

    def acosh(self, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.acosh, x)
        b = self.b
        t = b.fsub(x, self.c(x, 1.0))
        y = self.log1p(b.fadd(t, self.sqrt(b.fma(t, t, b.fadd(t, t)))))
        large = b.fadd(self.log(x), self.c(x, 0.6931471805599453))
        y = b.select(b.fcmp("ogt", x, self.c(x, 2.0**28)), large, y)
        return b.select(b.fcmp("ult", x, self.c(x, 1.0)), self.c(x, NAN), y)

    def atanh(self, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.atanh, x)
        b = self.b
        a = self.abs(x)
        t = b.fdiv(b.fadd(a, a), b.fsub(self.c(x, 1.0), a))
        return self.copysign(b.fmul(self.log1p(t), self.c(x, 0.5)), x)

    # -- power

    def _log_pair(self, x: Value) -> tuple[Value, Value]:
        """log(x) for x > 0 as a sum of two doubles, relative error about 2^-66."""
        b = self.b
        scaled, shift = self._normal(x)
        m, k = self._parts(scaled)
        k = b.fadd(k, shift)
        one = self.c(x, 1.0)
        f = b.fsub(m, one)
        u = b.fadd(m, one)
        u_low = b.fsub(m, b.fsub(u, one))
        s = b.fdiv(f, u)
        p, e = self.two_product(s, u)
        s_low = b.fdiv(b.fsub(b.fsub(b.fsub(f, p), e), b.fmul(s, u_low)), u)
        z, z_low = self.two_product(s, s)
        z_low = b.fadd(z_low, b.fmul(b.fadd(s, s), s_low))
        series = self.poly(z, [2.0 / (2 * i + 1) for i in range(2, 14)])
        a, a_low = self.fast_two_sum(self.c(x, 0.6666666666666666), b.fma(z, series, self.c(x, 3.700743415417188e-17)))
        t, t_low = self.two_product(z, a)
        t_low = b.fadd(t_low, b.fadd(b.fmul(z, a_low), b.fmul(z_low, a)))
        v, v_low = self.two_product(s, t)
        v_low = b.fadd(v_low, b.fadd(b.fmul(s, t_low), b.fmul(s_low, t)))
        hi, lo = self.fast_two_sum(b.fadd(s, s), v)
        lo = b.fadd(lo, b.fadd(b.fadd(s_low, s_low), v_low))
        f64 = FORMATS["double"]
        total, rest = self.two_sum(b.fmul(k, self.c(x, f64.ln2_hi)), hi)
        rest = b.fadd(rest, b.fma(k, self.c(x, f64.ln2_lo), lo))
        return self.fast_two_sum(total, rest)

    def pow(self, x: Value, y: Value) -> Value:
        """x ** y with the special values of C99."""
        if element(x.type) == "float":
            return self.through_double(self.pow, x, y)
        b = self.b
        zero, one, inf = self.c(x, 0.0), self.c(x, 1.0), self.c(x, INF)
        a = self.abs(x)
        hi, lo = self._log_pair(a)
        exponent = self.at_least(self.at_most(y, 2.0**990), -(2.0**990))
        p, e = self.two_product(exponent, hi)
        e = b.fma(exponent, lo, e)
        e = b.select(b.fcmp("olt", self.abs(p), self.c(x, 760.0)), e, zero)
        r = self.exp(p, e)
        y_negative = b.fcmp("olt", y, zero)
        at_zero, at_inf = b.fcmp("oeq", a, zero), b.fcmp("oeq", a, inf)
        r = b.select(at_zero, b.select(y_negative, inf, zero), r)
        r = b.select(at_inf, b.select(y_negative, zero, inf), r)
        r = b.select(b.fcmp("uno", y, y), y, r)
        r = b.select(b.fcmp("uno", x, x), x, r)
        integer = b.fcmp("oeq", self.round("trunc", y), y)
        half = b.fmul(y, self.c(x, 0.5))
        odd = b.and_(integer, b.fcmp("une", self.round("trunc", half), half))
        r = b.select(b.and_(odd, b.icmp("slt", self.bits(x), self.i(x, 0))), self.copysign(r, self.c(x, -1.0)), r)
        # A finite negative base has a power only for integers.
        bad = b.and_(b.fcmp("olt", x, zero), b.and_(b.not_(integer), b.fcmp("ogt", x, self.c(x, -INF))))
        r = b.select(bad, self.c(x, NAN), r)
        return b.select(b.or_(b.fcmp("oeq", x, one), b.fcmp("oeq", y, zero)), one, r)
