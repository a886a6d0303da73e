"""Scalar operations and conversions of kernel expressions as LLVM instructions, on scalars and vectors alike.

Registers hold bool as i1 and 16-bit floats as float; memory holds bool as i8 (0 or 1), bfloat16 as i16. Conversions between bfloat16 and float are done
on the bits, so that every target gives the same results (the native instruction flushes denormals). Integer division by zero gives 0 and never traps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....runtime.dtype import DType, bfloat16, float16
from ....runtime.errors import InternalError
from ...kernel.expr import Const, Op
from ...kernel.simplify import bounds
from .builder import Builder, Value, const, element, lanes, like
from .math import VectorMath

_REGISTER = {"float64": "double", "float32": "float", "float16": "float", "bfloat16": "float", "bool": "i1"}
_MEMORY = {"float64": "double", "float32": "float", "float16": "half", "bfloat16": "i16", "bool": "i8"}


def register_type(dtype: DType) -> str:
    """LLVM type of a value in a register."""
    return _REGISTER.get(dtype.name) or f"i{8 * dtype.itemsize}"


def memory_type(dtype: DType) -> str:
    """LLVM type of an element in memory where the target converts float16 itself; ``Scalars.memory_type`` asks the target."""
    return _MEMORY.get(dtype.name) or f"i{8 * dtype.itemsize}"


class Scalars:
    """Emits operations at the builder's cursor."""

    def __init__(self, b: Builder, isa):
        self.b, self.isa = b, isa
        self.math = VectorMath(b, isa)

    # -- memory forms

    def memory_type(self, dtype: DType) -> str:
        """LLVM type of an element in memory."""
        if dtype is float16 and not self.isa.HALF:
            return "i16"
        return memory_type(dtype)

    def from_memory(self, x: Value, dtype: DType) -> Value:
        """The register form of a loaded value."""
        b = self.b
        if dtype.kind == "b":
            return b.icmp("ne", x, const(x.type, 0))
        if dtype is bfloat16:
            wide = b.binary("shl", b.convert("zext", x, "i32"), const(like(x.type, "i32"), 16))
            return b.convert("bitcast", wide, "float")
        if dtype is float16:
            return b.convert("fpext", x, "float") if self.isa.HALF else self._half_to_float(b.convert("bitcast", x, "i16"))
        return x

    def to_memory(self, x: Value, dtype: DType) -> Value:
        """The memory form of a register value; rounds to 16-bit floats."""
        b = self.b
        if dtype.kind == "b":
            return b.convert("zext", x, "i8")
        if dtype is bfloat16:
            bits = self.math.bits(x)

            def c(v: int) -> Value:
                return const(bits.type, v)

            odd = b.and_(b.binary("lshr", bits, c(16)), c(1))
            rounded = b.binary("add", b.binary("add", bits, c(0x7FFF)), odd)
            quiet = b.or_(bits, c(0x400000))
            return b.convert("trunc", b.binary("lshr", b.select(b.fcmp("uno", x, x), quiet, rounded), c(16)), "i16")
        if dtype is float16:
            return b.convert("fptrunc", x, "half") if self.isa.HALF else self._float_to_half(x)
        return x

    def _half_to_float(self, h: Value) -> Value:
        """float16 bits to float without hardware (F. Giesen's method)."""
        b = self.b
        w = b.convert("zext", h, "i32")

        def c(v: int) -> Value:
            return const(w.type, v)

        o = b.binary("shl", b.and_(w, c(0x7FFF)), c(13))
        exponent = b.and_(o, c(0x7C00 << 13))
        normal = b.binary("add", o, c(112 << 23))
        top = b.binary("add", normal, c(112 << 23))
        magic = b.convert("bitcast", c(113 << 23), "float")
        low = b.fsub(b.convert("bitcast", b.binary("add", normal, c(1 << 23)), "float"), magic)
        o = b.select(b.icmp("eq", exponent, c(0x7C00 << 13)), top, b.select(b.icmp("eq", exponent, c(0)), b.convert("bitcast", low, "i32"), normal))
        return b.convert("bitcast", b.or_(o, b.binary("shl", b.and_(w, c(0x8000)), c(16))), "float")

    def _float_to_half(self, x: Value) -> Value:
        """float to float16 bits, round to nearest even."""
        b = self.b
        bits = self.math.bits(x)

        def c(v: int) -> Value:
            return const(bits.type, v)

        sign = b.and_(bits, c(0x80000000))
        a = b.xor(bits, sign)
        special = b.select(b.icmp("ugt", a, c(255 << 23)), c(0x7E00), c(0x7C00))
        magic = c(((127 - 15) + (23 - 10) + 1) << 23)
        low = b.fadd(b.convert("bitcast", a, "float"), b.convert("bitcast", magic, "float"))
        denormal = b.binary("sub", b.convert("bitcast", low, "i32"), magic)
        odd = b.and_(b.binary("lshr", a, c(13)), c(1))
        normal = b.binary("lshr", b.binary("add", b.binary("add", a, c(((15 - 127) << 23) + 0xFFF)), odd), c(13))
        o = b.select(b.icmp("uge", a, c((127 + 16) << 23)), special, b.select(b.icmp("ult", a, c(113 << 23)), denormal, normal))
        return b.convert("trunc", b.or_(o, b.binary("lshr", sign, c(16))), "i16")

    # -- conversions

    def cast(self, x: Value, source: DType, dtype: DType) -> Value:
        """Conversion by value; float to int truncates, saturates, and turns nan into 0."""
        b = self.b
        if source is dtype:
            return x
        to = register_type(dtype)
        if dtype.kind == "b":
            zero = const(x.type, 0)
            return b.fcmp("une", x, zero) if source.is_float else b.icmp("ne", x, zero)
        if source.kind == "b":
            return b.select(x, const(like(x.type, to), 1), const(like(x.type, to), 0))
        if dtype.is_float:
            if source.is_float:
                if dtype.itemsize == 2:
                    narrow = self._to_odd(x) if element(x.type) == "double" else x
                    return self.from_memory(self.to_memory(narrow, dtype), dtype)
                return b.convert("fpext" if to == "double" else "fptrunc", x, to)
            y = b.convert("sitofp" if source.kind == "i" else "uitofp", x, to)
            return self.from_memory(self.to_memory(y, dtype), dtype) if dtype.itemsize == 2 else y
        if source.is_float:
            t = like(x.type, to)
            return b.intrinsic("llvm.fptosi.sat" if dtype.kind == "i" else "llvm.fptoui.sat", t, [x], [t, x.type])
        if dtype.bits < source.bits:
            return b.convert("trunc", x, to)
        return x if dtype.bits == source.bits else b.convert("sext" if source.kind == "i" else "zext", x, to)

    def _to_odd(self, x: Value) -> Value:
        """double to float rounded to odd, from which a second rounding is exact."""
        b = self.b
        near = b.convert("fptrunc", x, "float")
        back = b.convert("fpext", near, "double")
        bits = self.math.bits(near)
        one = const(bits.type, 1)
        away = b.fcmp("ogt", self.math.abs(back), self.math.abs(x))
        moved = b.select(away, b.binary("sub", bits, one), b.binary("add", bits, one))
        even = b.icmp("eq", b.and_(bits, one), const(bits.type, 0))
        fix = b.and_(even, b.fcmp("one", back, x))
        return b.convert("bitcast", b.select(fix, moved, bits), "float")

    def bitcast(self, x: Value, source: DType, dtype: DType) -> Value:
        b = self.b
        raw = self.to_memory(x, source)
        kind = self.memory_type(dtype)
        return self.from_memory(b.convert("bitcast", raw, kind), dtype)

    # -- operations

    def op(self, e: Op, args: Sequence[Value]) -> Value:
        """``e.fn`` on register values of equal width."""
        dtype = e.children[0].dtype
        name = e.fn.name
        rule: Callable | None
        if dtype.is_float:
            if name == "pow" and isinstance(e.children[1], Const):
                simple = self._constant_power(args[0], e.children[1].value)
                if simple is not None:
                    return simple
            if name in ("max", "min"):
                return self._extreme(name, args, [isinstance(c, Const) and c.value == c.value for c in e.children])
            rule = getattr(self, f"_f_{name}", None)
            if rule is not None:
                return rule(*args)
            if name in _FLOAT_BINARY:
                return self.b.binary(_FLOAT_BINARY[name], *args)
            if name in _FLOAT_COMPARE:
                return self.b.fcmp(_FLOAT_COMPARE[name], *args)
            if name in _MATH:
                return getattr(self.math, name)(*args)
            if name in _ROUND:
                return self.math.round(_ROUND[name], args[0])
            raise InternalError(f"no float form of {name}")
        if name in ("eq", "ne"):
            return self.b.icmp(name, *args)
        signed = dtype.kind == "i"
        if name in ("lt", "le", "gt", "ge"):
            return self.b.icmp(("s" if signed else "u") + name, *args)
        if dtype.kind == "b":
            return self._bool(name, args)
        if name in ("floordiv", "mod") and e.dtype.name == "int64":
            fast = self._index_division(e, name, args)
            if fast is not None:
                return fast
        return self._integer(name, args, signed, e)

    def _constant_power(self, x: Value, y: float) -> Value | None:
        b = self.b
        if y == 1:
            return x
        if y == 2:
            return b.fmul(x, x)
        if y == 3:
            return b.fmul(b.fmul(x, x), x)
        return b.fdiv(const(x.type, 1.0), x) if y == -1 else None

    def _extreme(self, name: str, args: Sequence[Value], numbers: list[bool]) -> Value:
        """max and min that propagate nan: one instruction where an operand is a number for sure."""
        b = self.b
        how = "ogt" if name == "max" else "olt"
        x, y = args
        if numbers[1]:
            return b.select(b.fcmp(how, y, x), y, x)
        if numbers[0]:
            return b.select(b.fcmp(how, x, y), x, y)
        best = b.select(b.fcmp(how, x, y), x, y)  # y where either is nan
        return b.select(b.fcmp("uno", x, x), x, best)

    def _f_neg(self, x: Value) -> Value:
        return self.b.fneg(x)

    def _f_floordiv(self, x: Value, y: Value) -> Value:
        return self.math.floor_divide(x, y)

    def _f_mod(self, x: Value, y: Value) -> Value:
        return self.math.floor_mod(x, y)

    def _f_rem(self, x: Value, y: Value) -> Value:
        return self.math.fmod(x, y)

    def _f_abs(self, x: Value) -> Value:
        return self.math.abs(x)

    def _f_sign(self, x: Value) -> Value:
        b = self.b
        zero = const(x.type, 0.0)
        y = b.select(b.fcmp("olt", x, zero), const(x.type, -1.0), b.select(b.fcmp("uno", x, x), x, zero))
        return b.select(b.fcmp("ogt", x, zero), const(x.type, 1.0), y)

    def _f_signbit(self, x: Value) -> Value:
        bits = self.math.bits(x)
        return self.b.icmp("slt", bits, const(bits.type, 0))

    def _f_isnan(self, x: Value) -> Value:
        return self.b.fcmp("uno", x, x)

    def _f_isinf(self, x: Value) -> Value:
        return self.b.fcmp("oeq", self.math.abs(x), const(x.type, float("inf")))

    def _bool(self, name: str, args: Sequence[Value]) -> Value:
        b = self.b
        if name in ("and", "min", "mul"):
            return b.and_(*args)
        if name in ("or", "max", "add"):
            return b.or_(*args)
        if name in ("xor", "sub"):
            return b.xor(*args)
        if name == "not":
            return b.not_(args[0])
        raise InternalError(f"no form of {name} on bool")

    def _integer(self, name: str, args: Sequence[Value], signed: bool, e: Op) -> Value:
        b = self.b
        x = args[0]
        y = args[1] if len(args) > 1 else x
        if name in ("add", "sub", "mul"):
            return getattr(b, name)(x, y) if x.type == "i64" and _is_index(e) else b.binary(name, x, y)
        if name in ("and", "or", "xor"):
            return b.binary(name, x, y)
        if name == "not":
            return b.not_(x)
        if name in ("max", "min"):
            return b.intrinsic(f"llvm.{'s' if signed else 'u'}{name}", x.type, [x, y])
        if name == "neg":
            return b.binary("sub", const(x.type, 0), x)
        if name == "abs":
            return b.intrinsic("llvm.abs", x.type, [x, const("i1", 0)]) if signed else x
        if name == "sign":
            zero, one = const(x.type, 0), const(x.type, 1)
            negative = const(x.type, -1) if signed else zero
            return b.select(b.icmp("sgt" if signed else "ugt", x, zero), one, b.select(b.icmp("eq", x, zero), zero, negative))
        if name in ("shl", "shr"):
            return self._shift(name, x, y, signed)
        if name == "popcount":
            return b.intrinsic("llvm.ctpop", x.type, [x])
        if name == "clz":
            return b.intrinsic("llvm.ctlz", x.type, [x, const("i1", 0)])
        if name == "gcd":
            return self._gcd(x, y, signed)
        if name == "mulhi":
            wide = const(like(x.type, "i64"), 32)
            product = b.binary("mul", b.convert("zext", x, "i64"), b.convert("zext", y, "i64"))
            return b.convert("trunc", b.binary("lshr", product, wide), "i32")
        if name in ("div", "floordiv", "mod", "rem"):
            return self._division(name, x, y, signed)
        if name == "pow":
            return self._integer_power(x, y, signed)
        raise InternalError(f"no integer form of {name}")

    def _shift(self, name: str, x: Value, y: Value, signed: bool) -> Value:
        """Shifting by the width or more gives 0 (or the sign)."""
        b = self.b
        bits = int(element(x.type)[1:])
        inside = b.icmp("ult", y, const(y.type, bits))
        if name == "shr" and signed:
            return b.binary("ashr", x, b.select(inside, y, const(y.type, bits - 1)))
        count = b.select(inside, y, const(y.type, 0))
        return b.select(inside, b.binary("shl" if name == "shl" else "lshr", x, count), const(x.type, 0))

    def _gcd(self, x: Value, y: Value, signed: bool) -> Value:
        """Stein's algorithm on magnitudes, a step a bit: halve what is even, else half of the difference of two odds."""
        b = self.b
        if signed:
            x, y = (b.intrinsic("llvm.abs", v.type, [v, const("i1", 0)]) for v in (x, y))
        zero, one = const(x.type, 0), const(x.type, 1)
        common = b.intrinsic("llvm.cttz", x.type, [b.or_(b.or_(x, y), const(x.type, 1 << (int(element(x.type)[1:]) - 1))), const("i1", 1)])
        odd = b.binary("lshr", x, common), b.binary("lshr", y, common)
        swap = b.icmp("eq", b.and_(odd[0], one), zero)  # the first stays odd from here on, unless both are 0
        u, v = b.select(swap, odd[1], odd[0]), b.select(swap, odd[0], odd[1])
        with b.loop(const("i64", 0), const("i64", 2 * int(element(x.type)[1:])), state=[u, v], hint="gcd") as loop:
            u, v = loop.state
            even = b.icmp("eq", b.and_(v, one), zero)
            less = b.intrinsic("llvm.umin", x.type, [u, v])
            most = b.intrinsic("llvm.umax", x.type, [u, v])
            loop.next([b.select(even, u, less), b.binary("lshr", b.select(even, v, b.binary("sub", most, less)), one)])
        return b.binary("shl", loop.results[0], common)

    def _division(self, name: str, x: Value, y: Value, signed: bool) -> Value:
        b = self.b
        zero, one = const(x.type, 0), const(x.type, 1)
        none = b.icmp("eq", y, zero)
        safe = b.select(none, one, y)
        if not signed:
            r = b.binary("udiv" if name in ("div", "floordiv") else "urem", x, safe)
            return b.select(none, zero, r)
        minus = b.icmp("eq", y, const(x.type, -1))  # the least value over -1 traps
        safe = b.select(minus, one, safe)
        quotient, rest = b.binary("sdiv", x, safe), b.binary("srem", x, safe)
        quotient = b.select(minus, b.binary("sub", zero, x), quotient)
        rest = b.select(minus, zero, rest)
        if name in ("floordiv", "mod"):
            down = b.and_(b.icmp("ne", rest, zero), b.icmp("slt", b.xor(rest, safe), zero))
            quotient = b.select(down, b.binary("sub", quotient, one), quotient)
            rest = b.select(down, b.binary("add", rest, safe), rest)
        return b.select(none, zero, quotient if name in ("div", "floordiv") else rest)

    def _index_division(self, e: Op, name: str, args: Sequence[Value]) -> Value | None:
        """Division of an index: by its bounds in 32 bits, in double where the divisor is a parameter; vectors never divide 64-bit integers."""
        b = self.b
        x, y = args
        low, high = bounds(e.children[0])
        if low is None or high is None or not isinstance(e.children[1], Const):
            return None
        if lanes(x.type) == 1:
            if low >= 0:
                return b.binary("udiv" if name == "floordiv" else "urem", x, y)
            quotient, rest = b.binary("sdiv", x, y), b.binary("srem", x, y)
            under = b.icmp("slt", rest, const("i64", 0))
            if name == "mod":
                return b.select(under, b.add(rest, y), rest)
            return b.select(under, b.sub(quotient, const("i64", 1)), quotient)
        divisor = e.children[1].value
        if low >= 0 and high < 2**31 and type(divisor) is int and divisor < 2**31:
            short = b.binary("udiv" if name == "floordiv" else "urem", b.convert("trunc", x, "i32"), const(like(x.type, "i32"), divisor))
            return b.convert("zext", short, "i64")
        quotient = self.math.round("floor", b.fdiv(b.convert("sitofp", x, "double"), b.convert("sitofp", y, "double")))
        q = b.convert("fptosi", quotient, "i64")
        return q if name == "floordiv" else b.sub(x, b.mul(q, y))

    def _integer_power(self, x: Value, y: Value, signed: bool) -> Value:
        """By squaring; negative exponents give 1, -1 or 0 (the truncated value)."""
        b = self.b
        bits = int(element(x.type)[1:])
        zero, one = const(x.type, 0), const(x.type, 1)
        result, base = one, x
        for i in range(bits - 1 if signed else bits):
            chosen = b.icmp("ne", b.and_(y, const(y.type, 1 << i)), zero)
            result = b.select(chosen, b.binary("mul", result, base), result)
            base = b.binary("mul", base, base)
        if not signed:
            return result
        minus = const(x.type, -1)
        odd = b.icmp("ne", b.and_(y, one), zero)
        tiny = b.select(b.icmp("eq", x, one), one, b.select(b.icmp("eq", x, minus), b.select(odd, minus, one), zero))
        return b.select(b.icmp("slt", y, zero), tiny, result)


def _is_index(e: Op) -> bool:
    low, high = bounds(e)
    return low is not None and high is not None


_FLOAT_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_FLOAT_COMPARE = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_MATH = ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "cbrt", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
         "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinpi", "cospi", "erf", "erfc", "erfinv", "lgamma", "digamma", "i0e", "i1e",
         "sigmoid", "pow", "hypot", "copysign")
_ROUND = {"floor": "floor", "ceil": "ceil", "round": "roundeven", "trunc": "trunc"}
