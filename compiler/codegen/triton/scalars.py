"""Scalar operations as Triton text.

Operands are texts of one element type. Floats are float32 or float64 here (16-bit floats are widened when loaded), bool is int1.
The meaning is that of ``kernel.scalar_ops``: nan propagates through max and min, integer division by zero gives 0, floats saturate when cast to integers.
"""

from __future__ import annotations

from ....runtime import dtype as d
from ....runtime.dtype import DType
from ....runtime.errors import InternalError

STORAGE = {d.float64: "float64", d.float32: "float32", d.float16: "float16", d.bfloat16: "bfloat16", d.int64: "int64", d.int32: "int32",
           d.int16: "int16", d.int8: "int8", d.uint64: "uint64", d.uint32: "uint32", d.uint16: "uint16", d.uint8: "uint8", d.bool_: "int8",
           **dict.fromkeys(d.STORAGE, "uint8")}
POINTER = {d.float64: "*fp64", d.float32: "*fp32", d.float16: "*fp16", d.bfloat16: "*bf16", d.int64: "*i64", d.int32: "*i32", d.int16: "*i16",
           d.int8: "*i8", d.uint64: "*u64", d.uint32: "*u32", d.uint16: "*u16", d.uint8: "*u8", d.bool_: "*i8",
           **dict.fromkeys(d.STORAGE, "*u8")}

_INFIX = {"add": "+", "sub": "-", "mul": "*", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_BITS = {"and": "&", "or": "|", "xor": "^"}
_BUILTIN = {"exp", "exp2", "log", "log2", "sin", "cos", "erf", "floor", "ceil"}
_TYPED = {"sqrt", "rsqrt", "cbrt", "hypot", "tanh", "round", "pow", "rem", "mod", "floordiv", "log10", "copysign", "sinpi", "cospi", "erfc",
          "erfinv", "lgamma", "digamma", "i0e", "i1e"}  # one text per float type
_SHARED = {"expm1", "log1p", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "sigmoid", "trunc", "atan2"}


def compute_type(dtype: DType) -> str:
    """The element type in which values of ``dtype`` are held between loads and stores."""
    if dtype is d.bool_:
        return "int1"
    return "float32" if dtype.is_float and dtype.itemsize == 2 else STORAGE[dtype]


def literal(value, type_: str) -> str:
    """A Python literal; infinities and nan by name."""
    if type_.startswith("float"):
        v = float(value)
        if v != v:
            return 'float("nan")'
        if v in (float("inf"), -float("inf")):
            return 'float("inf")' if v > 0 else '(-float("inf"))'
        return repr(v)
    return repr(bool(value)) if type_ == "int1" else repr(int(value))


def typed(value_text: str, type_: str) -> str:
    """A scalar with a type of its own."""
    return f"tl.full([], {value_text}, tl.{type_})"


class Scalars:
    """Writes operations, and notes in ``helpers`` which functions of ``mathlib`` they call."""

    def __init__(self) -> None:
        self.helpers: dict[str, None] = {}

    def call(self, name: str, *args: str) -> str:
        self.helpers[name] = None
        return f"{name}({', '.join(args)})"

    def op(self, name: str, dtype: DType, type_: str, a: list[str]) -> str:
        """``name`` of operands whose kernel type is ``dtype``, held as ``type_``."""
        if type_ == "int1":
            return self._bool(name, a)
        if name in _INFIX:
            return f"({a[0]} {_INFIX[name]} {a[1]})"
        return self._float(name, type_, a) if dtype.is_float else self._int(name, dtype, a)

    def _bool(self, name: str, a: list[str]) -> str:
        text = {"and": "&", "or": "|", "xor": "^", "add": "|", "max": "|", "mul": "&", "min": "&", "ne": "^"}.get(name)
        if text is not None:
            return f"({a[0]} {text} {a[1]})"
        if name == "not":
            return f"({a[0]} == 0)"
        if name == "eq":
            return f"(({a[0]} ^ {a[1]}) == 0)"
        if name in ("lt", "le", "gt", "ge"):
            return f"(({a[0]}).to(tl.int32) {_INFIX[name]} ({a[1]}).to(tl.int32))"
        raise InternalError(f"{name} of bool has no Triton form")

    def _float(self, name: str, type_: str, a: list[str]) -> str:
        suffix = "f64" if type_ == "float64" else "f32"
        if name in _BUILTIN:
            return f"tl.{name}({a[0]})"
        if name in _TYPED:
            return self.call(f"k_{name}_{suffix}", *a)
        if name in _SHARED:
            return self.call(f"k_{name}", *a)
        if name == "div":
            return self.call(f"k_div_{suffix}", *a)
        if name in ("max", "min"):
            return f"tl.{name}imum({a[0]}, {a[1]}, propagate_nan=tl.PropagateNan.ALL)"
        if name == "neg":
            return f"(-{a[0]})"
        if name == "abs":
            return f"tl.abs({a[0]})"
        if name == "sign":
            return self.call("k_fsign", *a)
        if name == "tan":
            return self.call(f"k_div_{suffix}", f"tl.sin({a[0]})", f"tl.cos({a[0]})")
        if name == "signbit":
            return f"({a[0]}.to(tl.int{suffix[1:]}, bitcast=True) < 0)"
        if name == "isnan":
            return f"({a[0]} != {a[0]})"
        if name == "isinf":
            return f'(tl.abs({a[0]}) == float("inf"))'
        raise InternalError(f"{name} of {type_} has no Triton form")

    def _int(self, name: str, dtype: DType, a: list[str]) -> str:
        signed = dtype.kind == "i"
        if name in _BITS:
            return f"({a[0]} {_BITS[name]} {a[1]})"
        if name in ("max", "min"):
            return f"tl.{name}imum({a[0]}, {a[1]})"
        if name == "not":
            return f"(~{a[0]})"
        if name == "neg":
            return f"(0 - {a[0]})"
        if name == "abs":
            return f"tl.abs({a[0]})" if signed else a[0]
        if name == "sign":
            return self.call("k_sign" if signed else "k_usign", *a)
        if name in ("div", "rem"):
            return self.call(f"k_{'i' if signed else 'u'}{name}", *a)
        if name in ("floordiv", "mod"):
            if signed:
                return self.call(f"k_i{name}", *a)
            return self.call("k_udiv" if name == "floordiv" else "k_urem", *a)
        if name == "pow":
            return self.call("k_ipow" if signed else "k_upow", *a)
        if name in ("popcount", "clz"):
            return self.call(f"k_{name}", a[0], str(dtype.bits))
        if name == "gcd":  # Lamé: Euclid's algorithm takes at most log(2^bits) / log(golden ratio) steps
            rounds = str(int(dtype.bits * 1.4405) + 2)
            return self.call("k_igcd", *a, f"tl.uint{dtype.bits}", f"tl.{dtype.name}", rounds) if signed else self.call("k_gcd", *a, rounds)
        if name == "mulhi":
            return f"tl.umulhi({a[0]}, {a[1]})"
        if name in ("shl", "shr"):
            count = a[1].strip("()")
            if count.isdigit() and int(count) < dtype.bits:
                return f"({a[0]} {'<<' if name == 'shl' else '>>'} {count})"
            return self.call({"shl": "k_shl", "shr": "k_shr" if signed else "k_ushr"}[name], *a, str(dtype.bits))
        raise InternalError(f"{name} of {dtype} has no Triton form")

    def cast(self, text: str, source: DType, type_: str, target: DType) -> str:
        """``text`` (of kernel type ``source``, held as ``type_``) converted by value to ``target``, held as ``compute_type(target)``."""
        to = compute_type(target)
        if target is d.bool_:
            return text if source is d.bool_ else f"({text} != 0)"
        if source.is_float and target.is_int:
            wide = "int64" if target.itemsize == 8 else "int32" if target.kind == "i" or target.itemsize < 4 else "uint32"
            if target is d.uint64:
                wide = "uint64"
            r = self.call("k_saturate", text, f"tl.{wide}", str(target.min), str(target.max), f"{float(target.min)!r}", f"{float(target.max + 1)!r}")
            return r if wide == to else f"{r}.to(tl.{to})"
        if target.is_float and target.itemsize == 2:
            if source is target:
                return text
            narrow = text if type_ == "float32" else f"{text}.to(tl.float32)"
            return f"{narrow}.to(tl.{STORAGE[target]}).to(tl.float32)"  # a cast rounds; arithmetic in between does not
        return text if to == type_ else f"{text}.to(tl.{to})"
