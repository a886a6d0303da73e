"""Elementary functions as polynomials in IR, for float and double, scalars and vectors of any width. No libm.

Every function is right over the whole range: inf, nan, denormals, signed zeros, overflow and underflow. Bounds below are in units of the last place
(ULP) of the result against the true value, measured by ``tests/codegen/llvm/test_math.py`` over all binades; with two roundings instead of a fused
multiply-add (x86-64-v2) they grow by at most 1.

================  ======  =======   ==========================================================================
function           float   double   method
================  ======  =======   ==========================================================================
exp                   1        1    Cody-Waite reduction by ln 2, minimax polynomial, exact scaling by 2^n
expm1                 2        2    the same polynomial of exp(r)-1, then 2^n * p + (2^n - 1)
log, log1p            1        2    FreeBSD's s = f/(2+f) series; log1p carries the rounding of 1 + x
tanh                  3        3    -t/(t+2), t = expm1(-2|x|)
sigmoid               3        3    1/(1+e) or e/(1+e), e = exp(-|x|)
erf                   1        2    odd polynomial below about 1, else 1 - exp(polynomial)
sinh cosh             1        3    from expm1 and exp; float through double
asinh acosh atanh     1        4    from log1p; float through double
sin cos tan           1      1 1 3  Cody-Waite by pi/2 to 2^20, beyond it Payne-Hanek in integers
asin acos atan atan2  1        3    atan's minimax polynomial after two reductions
pow                   1        2    log in two doubles, exp with a correction; float through double
rsqrt                 2        2    1/sqrt
================  ======  =======   ==========================================================================

Polynomials marked "fit" were fitted for this file by the Remez exchange in 50-digit arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from .builder import Builder, Value, const, element, like

# fit: (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, relative error of exp(r)-1 2^-32.0 and 2^-61.7
_EXP = {
    "float": (0.5000000044163088, 0.16666666370503533, 0.04166636091474126, 0.008333389378947688, 0.001394062731761298, 0.00019845867014379572),
    "double": (0.5, 0.16666666666666677, 0.04166666666666651, 0.008333333333321691, 0.0013888888888962394, 0.00019841269885966133,
               2.4801587172498786e-05, 2.755724437403734e-06, 2.755740267481601e-07, 2.5108978927265916e-08, 2.087532046450363e-09),
}
# FreeBSD's k_logf.h and k_log.h
_LOG = {
    "float": (0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    "double": (6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
               1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01),
}
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


@dataclass(frozen=True)
class _Format:
    """Facts of an IEEE format."""

    type: str
    int_type: str
    bits: int
    mantissa: int  # stored bits
    bias: int
    magic: float  # 1.5 * 2^mantissa: adding it rounds to an integer
    ln2_hi: float  # few enough bits that n * ln2_hi is exact
    ln2_lo: float
    exp_low: float  # below: exp is 0
    exp_high: float  # above: exp is inf
    expm1_low: float  # below: expm1 rounds to -1
    sqrt_half: int  # bits of sqrt(1/2)
    tiny: float  # |x| below which sin x = tanh x = expm1 x = x to the last bit


FORMATS = {
    "float": _Format("float", "i32", 32, 23, 127, 12582912.0, 0.693359375, -2.12194440054690583e-4, -104.0, 89.0, -18.0, 0x3F3504F3, 2.0**-30),
    "double": _Format("double", "i64", 64, 52, 1023, 6755399441055744.0, 6.93147180369123816490e-01, 1.90821492927058770002e-10, -746.0, 710.0, -40.0,
                      0x3FE6A09E667F3BCD, 2.0**-60),
}
INF = float("inf")
NAN = float("nan")


class VectorMath:
    """Emits elementary functions at a builder's cursor. ``isa`` may give faster forms (see ``isa``)."""

    def __init__(self, b: Builder, isa=None):
        self.b, self.isa = b, isa

    # -- small pieces

    def c(self, x: Value, number: float) -> Value:
        return const(x.type, number)

    def i(self, x: Value, number: int) -> Value:
        """An integer constant for the bits of ``x``."""
        return const(self.int_type(x), number)

    def int_type(self, x: Value) -> str:
        return like(x.type, self.fmt(x).int_type)

    def fmt(self, x: Value) -> _Format:
        return FORMATS[element(x.type)]

    def bits(self, x: Value) -> Value:
        return self.b.convert("bitcast", x, self.fmt(x).int_type)

    def real(self, i: Value) -> Value:
        """The float of these bits."""
        return self.b.convert("bitcast", i, "float" if element(i.type) == "i32" else "double")

    def poly(self, x: Value, coefficients, first: Value | None = None) -> Value:
        """c0 + c1 x + c2 x^2 + ... by Horner's rule; ``first`` continues one."""
        y = first
        for k in reversed(coefficients):
            y = self.c(x, k) if y is None else self.b.fma(y, x, self.c(x, k))
        return y  # type: ignore[return-value]

    def abs(self, x: Value) -> Value:
        return self.b.intrinsic("llvm.fabs", x.type, [x])

    def copysign(self, magnitude: Value, sign: Value) -> Value:
        return self.b.intrinsic("llvm.copysign", magnitude.type, [magnitude, sign])

    def sqrt(self, x: Value) -> Value:
        return self.b.intrinsic("llvm.sqrt", x.type, [x])

    def rsqrt(self, x: Value) -> Value:
        return self.b.fdiv(self.c(x, 1.0), self.sqrt(x))

    def round(self, name: str, x: Value) -> Value:
        """``name``: floor, ceil, trunc or roundeven."""
        return self.b.intrinsic(f"llvm.{name}", x.type, [x])

    def at_most(self, x: Value, high: float) -> Value:
        """min(x, high); nan stays nan."""
        return self.b.select(self.b.fcmp("ogt", x, self.c(x, high)), self.c(x, high), x)

    def at_least(self, x: Value, low: float) -> Value:
        return self.b.select(self.b.fcmp("olt", x, self.c(x, low)), self.c(x, low), x)

    def integer_part(self, x: Value, scale: float) -> tuple[Value, Value]:
        """(n as a float, n as an integer), n the integer nearest x * scale. nan gives any n, never poison."""
        b, f = self.b, self.fmt(x)
        t = b.fma(x, self.c(x, scale), self.c(x, f.magic))
        n = b.fsub(t, self.c(x, f.magic))
        return n, b.sub(self.bits(t), b.convert("bitcast", self.c(x, f.magic), f.int_type))

    def power_of_two(self, n: Value) -> Value:
        """2^n for an integer n in the range of normal numbers."""
        f = FORMATS["float" if element(n.type) == "i32" else "double"]
        return self.real(self.b.binary("shl", self.b.binary("add", n, const(n.type, f.bias)), const(n.type, f.mantissa)))

    def scale(self, y: Value, n: Value, whole: Value) -> Value:
        """y * 2^n with one rounding (y near 1); n is given as float and as integer."""
        done = self.isa.scale(self.b, y, n) if self.isa else None
        if done is not None:
            return done
        b = self.b
        half = b.binary("sub", b.binary("lshr", b.binary("add", whole, self.i(y, 4096)), self.i(y, 1)), self.i(y, 2048))
        return b.fmul(b.fmul(y, self.power_of_two(half)), self.power_of_two(b.binary("sub", whole, half)))

    def two_product(self, x: Value, y: Value) -> tuple[Value, Value]:
        """x * y exactly, as a sum (hi, lo)."""
        b = self.b
        hi = b.fmul(x, y)
        if b.fma_allowed:
            return hi, b.fma(x, y, b.fneg(hi))
        (xh, xl), (yh, yl) = self._halves(x), self._halves(y)
        e = b.fsub(b.fmul(xh, yh), hi)
        e = b.fadd(b.fadd(e, b.fmul(xh, yl)), b.fmul(xl, yh))
        return hi, b.fadd(e, b.fmul(xl, yl))

    def _halves(self, x: Value) -> tuple[Value, Value]:
        """Dekker's split."""
        b = self.b
        t = b.fmul(x, self.c(x, 134217729.0 if element(x.type) == "double" else 4097.0))
        high = b.fsub(t, b.fsub(t, x))
        return high, b.fsub(x, high)

    def fast_two_sum(self, x: Value, y: Value) -> tuple[Value, Value]:
        """x + y exactly as (hi, lo), where |x| >= |y|."""
        s = self.b.fadd(x, y)
        return s, self.b.fsub(y, self.b.fsub(s, x))

    def two_sum(self, x: Value, y: Value) -> tuple[Value, Value]:
        b = self.b
        s = b.fadd(x, y)
        t = b.fsub(s, x)
        return s, b.fadd(b.fsub(x, b.fsub(s, t)), b.fsub(y, t))

    def through_double(self, fn, *xs: Value) -> Value:
        return self.b.convert("fptrunc", fn(*[self.b.convert("fpext", x, "double") for x in xs]), "float")

    # -- exponential family

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

    # -- logarithm family

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

    # -- erf

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
