"""Exact remainders of floats."""

from __future__ import annotations

from .arithmetic import NAN, Arithmetic
from .builder import Builder, Value, const, element, lanes


class Remainder(Arithmetic):
    """C's fmod, NumPy's mod and floor_divide, exactly."""

    def fmod(self, x: Value, y: Value) -> Value:
        """The exact remainder of x / y with the sign of x (C's fmod): per lane, by long division in a function of its own."""
        b = self.b
        if element(x.type) == "float":  # exact in double, and its remainder is a float
            return self.through_double(self.fmod, x, y)
        a, d = self.abs(x), self.abs(y)
        q = self.round("trunc", b.fdiv(a, d))
        p, e = self.two_product(q, d)
        r = b.fsub(b.fsub(a, p), e)
        r = b.select(b.fcmp("olt", r, self.c(x, 0.0)), b.fadd(r, d), r)
        r = b.select(b.fcmp("oge", r, d), b.fsub(r, d), r)
        r = b.select(b.fcmp("olt", a, d), a, r)
        # The quotient is exact enough, and no product over- or underflows, in this range; elsewhere divide bit by bit.
        easy = b.and_(b.fcmp("olt", q, self.c(x, 2.0**50)), b.and_(b.fcmp("olt", a, self.c(x, 2.0**960)), b.fcmp("ogt", d, self.c(x, 2.0**-900))))
        settled = b.or_(easy, b.fcmp("olt", a, d))

        def slow() -> list[Value]:
            slots = [b.alloca(x.type) for _ in range(3)]
            for value, slot in zip((a, d, r), slots):
                b.store(value, slot)
            _long_division(b)
            b.call("kerogen.fmod", "void", [*slots, const("i64", lanes(x.type))])
            return [b.load(slots[2], x.type)]

        (r,) = b.choose(b.any(b.not_(settled)), slow, [r], "long")
        bad = b.or_(b.or_(b.fcmp("uno", x, y), b.fcmp("oeq", y, self.c(x, 0.0))), b.fcmp("oeq", a, self.c(x, float("inf"))))
        return b.select(bad, self.c(x, NAN), self.copysign(r, x))

    def floor_mod(self, x: Value, y: Value) -> Value:
        """NumPy's mod: the remainder with the sign of y; a zero has y's sign."""
        b = self.b
        r = self.fmod(x, y)
        zero = self.c(x, 0.0)
        opposite = b.xor(b.fcmp("olt", r, zero), b.fcmp("olt", y, zero))
        moved = b.select(opposite, b.fadd(r, y), r)
        return b.select(b.fcmp("oeq", r, zero), self.copysign(zero, y), moved)

    def floor_divide(self, x: Value, y: Value) -> Value:
        """NumPy's floor_divide: the floor of the exact quotient, for (x - mod(x, y)) / y is one up to rounding."""
        b = self.b
        zero, one = self.c(x, 0.0), self.c(x, 1.0)
        r = self.fmod(x, y)
        q = b.fdiv(b.fsub(x, r), y)
        below = b.and_(b.fcmp("one", r, zero), b.xor(b.fcmp("olt", r, zero), b.fcmp("olt", y, zero)))
        q = b.select(below, b.fsub(q, one), q)
        low = self.round("floor", q)
        low = b.select(b.fcmp("ogt", b.fsub(q, low), self.c(x, 0.5)), b.fadd(low, one), low)
        plain = b.fdiv(x, y)
        low = b.select(b.fcmp("oeq", q, zero), self.copysign(zero, plain), low)
        return b.select(b.fcmp("oeq", y, zero), plain, low)


def _long_division(b: Builder) -> None:
    """void kerogen.fmod(a, d, r, n): r = fmod(a, d) exactly for finite a >= 0, d > 0 (doubles), bit by bit as in school."""
    if "kerogen.fmod" in b.module.functions:
        return
    f = Builder(b.module, "kerogen.fmod", [("ptr", "a"), ("ptr", "d"), ("ptr", "r"), ("i64", "n")], internal=True, fma=b.fma_allowed)
    m = Arithmetic(f)
    first, second, out, n = f.arguments

    def i64(v: int) -> Value:
        return const("i64", v)

    def split(v: Value) -> tuple[Value, Value]:
        """(mantissa, exponent) with the leading bit at 52, denormals too."""
        bits = m.bits(v)
        e = f.binary("lshr", bits, i64(52))
        fraction = f.and_(bits, i64((1 << 52) - 1))
        denormal = f.icmp("eq", e, i64(0))
        shift = f.sub(f.intrinsic("llvm.ctlz", "i64", [f.or_(fraction, i64(1)), const("i1", 0)]), i64(11))
        return (f.select(denormal, f.binary("shl", fraction, shift), f.or_(fraction, i64(1 << 52))),
                f.select(denormal, f.sub(i64(1), shift), e))

    with f.loop(i64(0), n, hint="lane") as loop:
        a, d = (f.load(f.gep(p, loop.index, "double"), "double") for p in (first, second))
        proper = f.and_(f.fcmp("oge", a, d), f.and_(f.fcmp("olt", a, m.c(a, float("inf"))), f.fcmp("ogt", d, m.c(a, 0.0))))
        with f.when(proper):
            (ma, ea), (md, ed) = split(a), split(d)
            with f.loop(i64(0), f.sub(ea, ed), state=[ma], hint="bit") as bit:
                r = bit.state[0]
                r = f.select(f.icmp("uge", r, md), f.sub(r, md), r)
                bit.next([f.binary("shl", r, i64(1))])
            r = bit.results[0]
            r = f.select(f.icmp("uge", r, md), f.sub(r, md), r)
            # r * 2^(ed - 1075): put the leading bit back to 52 as far as the exponent allows
            shift = f.sub(f.intrinsic("llvm.ctlz", "i64", [f.or_(r, i64(1)), const("i1", 0)]), i64(11))
            room = f.sub(ed, i64(1))
            fits = f.icmp("sle", shift, room)
            normal = f.or_(f.and_(f.binary("shl", r, shift), i64((1 << 52) - 1)), f.binary("shl", f.sub(ed, shift), i64(52)))
            up = f.icmp("sge", room, i64(0))
            denormal = f.select(up, f.binary("shl", r, f.select(up, room, i64(0))), f.binary("lshr", r, f.select(up, i64(0), f.sub(i64(0), room))))
            bits = f.select(fits, normal, denormal)
            bits = f.select(f.icmp("eq", r, i64(0)), i64(0), bits)
            f.store(m.real(bits), f.gep(out, loop.index, "double"))
    f.ret()
    f.finish()
