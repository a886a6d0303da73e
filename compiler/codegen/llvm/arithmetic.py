"""What elementary functions are made of: facts of the formats, polynomials, exact sums and products, powers of two."""

from __future__ import annotations

from dataclasses import dataclass

from .builder import Builder, Value, const, element, like


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


class Arithmetic:
    """Emits at a builder's cursor. ``isa`` may give faster forms (see ``isa``)."""

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
        """Doubles by their bits: LLVM moves roundings through its own copysign, and would round the sign from double to half
        beside a store of float16, which no instruction before AVX512-FP16 does."""
        if element(magnitude.type) == "float":
            return self.b.intrinsic("llvm.copysign", magnitude.type, [magnitude, sign])
        b, top = self.b, 1 << (self.fmt(magnitude).bits - 1)
        size = b.and_(self.bits(magnitude), self.i(magnitude, top - 1))
        return self.real(b.or_(size, b.and_(self.bits(sign), self.i(sign, top))))

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
        """``fn`` of floats computed in double."""
        return self.b.convert("fptrunc", fn(*[self.b.convert("fpext", x, "double") for x in xs]), "float")
