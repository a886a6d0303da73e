"""Trigonometric functions and their inverses as polynomials in IR.

Angles are reduced by pi/2 in double: to 2^20 by three parts of pi/2 with exact products; beyond it (rare, so behind a branch)
by Payne and Hanek's method in integers, with the bits of 2/pi as a table, in a function of its own that the module gets once.
"""

from __future__ import annotations

from .arithmetic import NAN, Arithmetic
from .builder import Builder, Value, const, element, lanes, like

# FreeBSD's k_sin.c, k_cos.c
_SIN = (-1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04, 2.75573137070700676789e-06,
        -2.50507602534068634195e-08, 1.58969099521155010221e-10)
_COS = (4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05, -2.75573143513906633035e-07,
        2.08757232129817482790e-09, -1.13596475577881948265e-11)
# fit: (atan(x)/x - 1)/x^2 in x^2 for |x| <= tan(pi/8), relative error of atan 2^-59.4
_ATAN = (-0.333333333333332, 0.1999999999995324, -0.1428571428016583, 0.11111110782115306, -0.09090897724032992, 0.07692059694564338,
         -0.06663098932056724, 0.058478572201152004, -0.05039180865862528, 0.038061889865269136, -0.01790475850342849)
_PIO2 = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624871116645580e-21, 8.47842766036889956997e-32)
_PI2, _PI2_LOW = 1.5707963267948966, 6.123233995736766e-17
# The first 1280 bits of 2/pi.
_TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484"
    "e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b"
    "3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d", 16)
_LARGE = 2.0**20


class Trigonometry(Arithmetic):
    """Circular functions. Bounds: ``codegen.accuracy``."""

    def _reduce(self, x: Value) -> tuple[Value, Value, Value]:
        """(r, its correction, q as an integer): x = q pi/2 + r + correction, |r| <= pi/4. Doubles."""
        b = self.b
        n, whole = self.integer_part(x, 0.6366197723675814)
        p1, p2, p3, p3t = (self.c(x, p) for p in _PIO2)
        r = b.fsub(x, b.fmul(n, p1))
        w = b.fmul(n, p2)
        t = b.fsub(r, w)
        e = b.fsub(b.fsub(r, t), w)
        w = b.fmul(n, p3)
        u = b.fsub(t, w)
        e = b.fadd(e, b.fsub(b.fsub(t, u), w))
        low = b.fsub(e, b.fmul(n, p3t))
        high = b.fadd(u, low)
        low = b.fadd(b.fsub(u, high), low)
        large = b.fcmp("oge", self.abs(x), self.c(x, _LARGE))

        def slow() -> list[Value]:
            count = lanes(x.type)
            slots = [b.alloca(like(x.type, t)) for t in ("double", "double", "i64")]
            for value, slot in zip((high, low, whole), slots):
                b.store(value, slot)
            given = b.alloca(x.type)
            b.store(x, given)
            _rem_pio2(b)
            b.call("kerogen.rem_pio2", "void", [given, *slots, const("i64", count)])
            return [b.load(s, like(x.type, t)) for s, t in zip(slots, ("double", "double", "i64"))]

        high, low, whole = b.choose(b.any(large), slow, [high, low, whole], "large")
        return high, low, whole

    def _sin_kernel(self, r: Value, low: Value) -> Value:
        b = self.b
        z = b.fmul(r, r)
        v = b.fmul(z, r)
        p = self.poly(z, _SIN[1:])
        t = b.fsub(b.fmul(z, b.fsub(b.fmul(low, self.c(r, 0.5)), b.fmul(v, p))), low)
        return b.fsub(r, b.fsub(t, b.fmul(v, self.c(r, _SIN[0]))))

    def _cos_kernel(self, r: Value, low: Value) -> Value:
        b = self.b
        z = b.fmul(r, r)
        p = b.fmul(z, self.poly(z, _COS))
        half = b.fmul(z, self.c(r, 0.5))
        one = self.c(r, 1.0)
        w = b.fsub(one, half)
        return b.fadd(w, b.fadd(b.fsub(b.fsub(one, w), half), b.fsub(b.fmul(z, p), b.fmul(r, low))))

    def _quadrant(self, x: Value, shift: int) -> Value:
        """sin(x + shift pi/2)."""
        b = self.b
        r, low, q = self._reduce(x)
        if shift:
            q = b.binary("add", q, const(q.type, shift))
        one, zero = const(q.type, 1), const(q.type, 0)
        s, c = self._sin_kernel(r, low), self._cos_kernel(r, low)
        y = b.select(b.icmp("ne", b.and_(q, one), zero), c, s)
        y = b.select(b.icmp("ne", b.and_(q, const(q.type, 2)), zero), b.fneg(y), y)
        # inf gives nan: x - x is nan there
        return b.select(b.fcmp("olt", self.abs(x), self.c(x, float("inf"))), y, b.fsub(x, x))

    def sin(self, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.sin, x)
        y = self._quadrant(x, 0)
        return self.b.select(self.b.fcmp("olt", self.abs(x), self.c(x, 2.0**-30)), x, y)

    def cos(self, x: Value) -> Value:
        return self.through_double(self.cos, x) if element(x.type) == "float" else self._quadrant(x, 1)

    def tan(self, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.tan, x)
        b = self.b
        r, low, q = self._reduce(x)
        s, c = self._sin_kernel(r, low), self._cos_kernel(r, low)
        odd = b.icmp("ne", b.and_(q, const(q.type, 1)), const(q.type, 0))
        y = b.fdiv(b.select(odd, c, s), b.select(odd, b.fneg(s), c))
        y = b.select(b.fcmp("olt", self.abs(x), self.c(x, float("inf"))), y, b.fsub(x, x))
        return b.select(b.fcmp("olt", self.abs(x), self.c(x, 2.0**-30)), x, y)

    # -- of multiples of pi

    def _half_turns(self, x: Value) -> tuple[Value, Value, Value]:
        """(r, its correction, q): pi x = q pi/2 + r + correction. The reduction is exact. Doubles."""
        b = self.b
        # beyond 2^52 every double is an integer, and beyond 2^53 an even one
        small = b.select(b.fcmp("olt", self.abs(x), self.c(x, 2.0**53)), x, self.c(x, 0.0))
        turns = b.fsub(small, b.fmul(self.c(x, 2.0), self.round("roundeven", b.fmul(small, self.c(x, 0.5)))))  # in [-1, 1]
        n, q = self.integer_part(turns, 2.0)
        fraction = b.fma(n, self.c(x, -0.5), turns)
        r, low = self.two_product(fraction, self.c(x, 2 * _PI2))
        return r, b.fma(fraction, self.c(x, 2 * _PI2_LOW), low), q

    def _of_half_turns(self, x: Value, shift: int) -> Value:
        """sin(pi (x + shift/2))."""
        b = self.b
        r, low, q = self._half_turns(x)
        if shift:
            q = b.binary("add", q, const(q.type, shift))
        odd = b.icmp("ne", b.and_(q, const(q.type, 1)), const(q.type, 0))
        y = b.select(odd, self._cos_kernel(r, low), self._sin_kernel(r, low))
        y = b.select(b.icmp("ne", b.and_(q, const(q.type, 2)), const(q.type, 0)), b.fneg(y), y)
        return b.select(b.fcmp("olt", self.abs(x), self.c(x, float("inf"))), y, b.fsub(x, x))

    def sinpi(self, x: Value) -> Value:
        """sin(pi x): exactly 0 (of x's sign) at integers."""
        if element(x.type) == "float":
            return self.through_double(self.sinpi, x)
        b = self.b
        y = self._of_half_turns(x, 0)
        y = b.select(b.fcmp("oeq", self.round("trunc", x), x), b.fmul(x, self.c(x, 0.0)), y)
        # the kernel's correction underflows here
        return b.select(b.fcmp("olt", self.abs(x), self.c(x, 2.0**-500)), b.fmul(x, self.c(x, 2 * _PI2)), y)

    def cospi(self, x: Value) -> Value:
        """cos(pi x): exactly 0 at halves."""
        if element(x.type) == "float":
            return self.through_double(self.cospi, x)
        b = self.b
        half = b.fcmp("oeq", self.abs(b.fsub(x, self.round("trunc", x))), self.c(x, 0.5))
        return b.select(half, self.c(x, 0.0), self._of_half_turns(x, 1))

    # -- inverses

    def _atan2_positive(self, y: Value, x: Value) -> Value:
        """atan2 for y, x >= 0, any of them inf or 0 (0 for both 0)."""
        b = self.b
        zero, one = self.c(x, 0.0), self.c(x, 1.0)
        swap = b.fcmp("ogt", y, x)
        small, large = b.select(swap, x, y), b.select(swap, y, x)
        both = b.fcmp("oeq", small, self.c(x, float("inf")))
        small, large = b.select(both, one, small), b.select(both, one, large)
        huge = b.fcmp("ogt", large, self.c(x, 2.0**1000))  # small + large would overflow
        scale = b.select(huge, self.c(x, 2.0**-100), one)
        inf = b.fcmp("oeq", large, self.c(x, float("inf")))
        small, large = b.fmul(small, scale), b.fmul(large, scale)
        large = b.select(b.fcmp("oeq", large, zero), one, large)
        fold = b.fcmp("ogt", small, b.fmul(large, self.c(x, 0.41421356237309503)))
        num = b.select(fold, b.fsub(small, large), small)
        t = b.fdiv(num, b.select(fold, b.fadd(small, large), large))
        t = b.select(inf, zero, t)
        z = b.fmul(t, t)
        p = b.fmul(b.fmul(z, t), self.poly(z, _ATAN))
        # atan = offset + t + p, every part of pi in two doubles
        quarter, quarter_low = self.c(x, _PI2 / 2), self.c(x, _PI2_LOW / 2)
        base = b.select(fold, b.fadd(b.fadd(b.fadd(p, quarter_low), t), quarter), b.fadd(t, p))
        turned = b.fadd(b.fsub(b.fsub(self.c(x, _PI2_LOW), p), t), self.c(x, _PI2))
        turned_fold = b.fadd(b.fsub(b.fsub(quarter_low, p), t), quarter)
        return b.select(swap, b.select(fold, turned_fold, turned), base)

    def atan2(self, y: Value, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.atan2, y, x)
        b = self.b
        r = self._atan2_positive(self.abs(y), self.abs(x))
        left = b.icmp("slt", self.bits(x), self.i(x, 0))
        r = b.select(left, b.fsub(self.c(x, 2 * _PI2), b.fsub(r, self.c(x, 2 * _PI2_LOW))), r)
        return b.select(b.fcmp("uno", x, y), b.fadd(x, y), self.copysign(r, y))

    def atan(self, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.atan, x)
        r = self.copysign(self._atan2_positive(self.abs(x), self.c(x, 1.0)), x)
        return self.b.select(self.b.fcmp("uno", x, x), x, r)

    def asin(self, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.asin, x)
        b = self.b
        a, one = self.abs(x), self.c(x, 1.0)
        r = self._atan2_positive(a, self.sqrt(b.fmul(b.fsub(one, a), b.fadd(one, a))))
        return b.select(b.fcmp("ole", a, one), self.copysign(r, x), self.c(x, NAN))

    def acos(self, x: Value) -> Value:
        if element(x.type) == "float":
            return self.through_double(self.acos, x)
        b = self.b
        one = self.c(x, 1.0)
        r = self._atan2_positive(self.sqrt(b.fsub(one, x)), self.sqrt(b.fadd(one, x)))
        return b.select(b.fcmp("ole", self.abs(x), one), b.fadd(r, r), self.c(x, NAN))


def _rem_pio2(b: Builder) -> None:
    """void kerogen.rem_pio2(x, high, low, quadrant, n): replaces the results of those of n doubles that are >= 2^20."""
    if "kerogen.rem_pio2" in b.module.functions:
        return
    padded = _TWO_OVER_PI  # 64 zero bits, then the bits of 2/pi, most significant word first
    words = [0] + [(padded >> (64 * i)) & (2**64 - 1) for i in reversed(range(20))] + [0, 0, 0]
    table = b.module.constant("kerogen.two_over_pi", f"[{len(words)} x i64]",
                              "[" + ", ".join(f"i64 {w - 2**64 if w >> 63 else w}" for w in words) + "]")
    f = Builder(b.module, "kerogen.rem_pio2", [("ptr", "x"), ("ptr", "high"), ("ptr", "low"), ("ptr", "quadrant"), ("i64", "n")],
                internal=True, fma=b.fma_allowed)
    m = Arithmetic(f)
    xs, highs, lows, quadrants, n = f.arguments

    def i64(v: int) -> Value:
        return const("i64", v)

    with f.loop(i64(0), n, hint="lane") as loop:
        x = f.load(f.gep(xs, loop.index, "double"), "double")
        a = m.abs(x)
        with f.when(f.and_(f.fcmp("oge", a, m.c(a, _LARGE)), f.fcmp("olt", a, m.c(a, float("inf"))))):
            bits = m.bits(a)
            mantissa = f.or_(f.and_(bits, i64((1 << 52) - 1)), i64(1 << 52))
            e = f.sub(f.binary("lshr", bits, i64(52)), i64(1075))  # a = mantissa * 2^e
            start = f.add(e, i64(62))  # the window's first bit has weight 2: bit e - 2 of 2/pi's fraction, after 64 zeros
            word, shift = f.binary("lshr", start, i64(6)), f.and_(start, i64(63))
            w = [f.load(f.gep(f.gep(table, word, "i64"), i64(i), "i64"), "i64") for i in range(4)]
            w2, w1, w0 = (f.intrinsic("llvm.fshl", "i64", [w[i], w[i + 1], shift]) for i in range(3))
            wide = f.convert("zext", mantissa, "i128")
            sixty_four = const("i128", 64)
            p0, p1 = (f.binary("mul", f.convert("zext", v, "i128"), wide) for v in (w0, w1))
            t = f.binary("add", p1, f.binary("lshr", p0, sixty_four))
            middle = f.and_(t, Value(str(2**64 - 1), "i128"))
            top = f.binary("add", f.binary("mul", w2, mantissa), f.convert("trunc", f.binary("lshr", t, sixty_four), "i64"))
            both = f.or_(f.binary("shl", f.convert("zext", top, "i128"), sixty_four), middle)
            # both = 2 bits of quotient, then the fraction; round to nearest by reading the fraction as signed
            fraction = f.binary("shl", both, const("i128", 2))
            low_bits = f.binary("lshr", f.and_(p0, Value(str(2**64 - 1), "i128")), const("i128", 62))
            fraction = f.or_(fraction, low_bits)
            quotient = f.binary("lshr", top, i64(62))
            negative = f.icmp("slt", fraction, const("i128", 0))
            quotient = f.add(quotient, f.convert("zext", negative, "i64"))
            magnitude = f.select(negative, f.binary("sub", const("i128", 0), fraction), fraction)
            zeros = f.intrinsic("llvm.ctlz", "i128", [magnitude, const("i1", 0)])
            normal = f.binary("shl", magnitude, zeros)
            high_part = f.convert("trunc", f.binary("lshr", normal, const("i128", 75)), "i64")
            low_part = f.and_(f.convert("trunc", f.binary("lshr", normal, const("i128", 22)), "i64"), i64((1 << 53) - 1))
            h = f.fmul(f.convert("sitofp", high_part, "double"), m.c(a, 2.0**-53))
            lo = f.fmul(f.convert("sitofp", low_part, "double"), m.c(a, 2.0**-106))
            r, r_low = m.two_product(h, m.c(a, _PI2))
            r_low = f.fadd(r_low, f.fadd(f.fmul(h, m.c(a, _PI2_LOW)), f.fmul(lo, m.c(a, _PI2))))
            scale = m.power_of_two(f.sub(i64(0), f.convert("trunc", zeros, "i64")))
            flip = f.xor(negative, f.icmp("slt", m.bits(x), i64(0)))
            scale = f.select(flip, f.fneg(scale), scale)
            hi, rest = m.fast_two_sum(r, r_low)
            f.store(f.fmul(hi, scale), f.gep(highs, loop.index, "double"))
            f.store(f.fmul(rest, scale), f.gep(lows, loop.index, "double"))
            x_negative = f.icmp("slt", m.bits(x), i64(0))
            f.store(f.select(x_negative, f.sub(i64(0), quotient), quotient), f.gep(quadrants, loop.index, "i64"))
    f.ret()
    f.finish()
