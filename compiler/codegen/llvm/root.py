"""Cube roots and the hypotenuse."""

from __future__ import annotations

from .arithmetic import INF, Arithmetic
from .builder import Value, const, element, like

# FreeBSD's s_cbrt.c: 1/cbrt(x) near 1, 4 % off before and 2^-23 after
_CBRT = (
    1.87595182427177009643,
    -1.88497979543377169875,
    1.621429720105354466140,
    -0.758397934778766047437,
    0.145996192886612446982,
)


class Root(Arithmetic):
    """Roots. Bounds: ``codegen.accuracy``."""

    def cbrt(self, x: Value) -> Value:
        """FreeBSD's method: a third of the exponent, a polynomial to 23 bits, one step of Newton's iteration."""
        if element(x.type) == "float":
            return self.through_double(self.cbrt, x)
        b = self.b
        a = self.abs(x)
        small = b.fcmp("olt", a, self.c(x, 2.0**-1022))
        a = b.select(small, b.fmul(a, self.c(x, 2.0**54)), a)
        top = b.convert("trunc", b.binary("lshr", self.bits(a), self.i(x, 32)), "i32")
        third = b.binary("add", b.binary("udiv", top, const(top.type, 3)), const(top.type, 715094163))
        t = self.real(b.binary("shl", b.convert("zext", third, "i64"), self.i(x, 32)))
        r = b.fmul(b.fmul(t, t), b.fdiv(t, a))
        t = b.fmul(t, self.poly(r, _CBRT))
        t = self.real(b.and_(b.binary("add", self.bits(t), self.i(x, 0x80000000)), self.i(x, 0xFFFFFFFFC0000000)))
        r = b.fdiv(a, b.fmul(t, t))
        r = b.fdiv(b.fsub(r, t), b.fadd(b.fadd(t, t), r))
        t = b.fma(t, r, t)
        t = b.select(small, b.fmul(t, self.c(x, 2.0**-18)), t)
        whole = b.and_(b.fcmp("one", a, self.c(x, 0.0)), b.fcmp("olt", a, self.c(x, INF)))
        return self.copysign(b.select(whole, t, b.fadd(a, a)), x)

    def hypot(self, x: Value, y: Value) -> Value:
        """sqrt(x^2 + y^2) without overflow; inf beside anything, nan too, gives inf (C99)."""
        b = self.b
        ax, ay = self.abs(x), self.abs(y)
        infinite = b.or_(b.fcmp("oeq", ax, self.c(x, INF)), b.fcmp("oeq", ay, self.c(x, INF)))
        if element(x.type) == "float":  # squares of floats are exact in double, and can't overflow there
            wx, wy = b.convert("fpext", ax, "double"), b.convert("fpext", ay, "double")
            h = b.convert("fptrunc", self.sqrt(b.fadd(b.fmul(wx, wx), b.fmul(wy, wy))), "float")
        else:
            swap = b.fcmp("ogt", ay, ax)
            most, least = b.select(swap, ay, ax), b.select(swap, ax, ay)
            big, tiny = b.fcmp("ogt", most, self.c(x, 2.0**500)), b.fcmp("olt", most, self.c(x, 2.0**-450))
            down = b.select(big, self.c(x, 2.0**-600), b.select(tiny, self.c(x, 2.0**600), self.c(x, 1.0)))
            up = b.select(big, self.c(x, 2.0**600), b.select(tiny, self.c(x, 2.0**-600), self.c(x, 1.0)))
            most, least = b.fmul(most, down), b.fmul(least, down)
            s, e = self.two_product(most, most)
            t, d = self.two_product(least, least)
            s, rest = self.fast_two_sum(s, t)
            rest = b.fadd(rest, b.fadd(e, d))
            root = self.sqrt(s)
            p, q = self.two_product(root, root)
            rest = b.fadd(b.fsub(b.fsub(s, p), q), rest)
            correction = b.fdiv(rest, b.fadd(root, root))
            h = b.fadd(root, b.select(b.fcmp("ogt", root, self.c(x, 0.0)), correction, self.c(x, 0.0)))
            h = b.fmul(h, up)
        # an ordered comparison let a nan beside a number pass
        h = b.select(b.fcmp("uno", x, y), b.fadd(ax, ay), h)
        return b.select(infinite, const(like(x.type, element(x.type)), INF), h)
