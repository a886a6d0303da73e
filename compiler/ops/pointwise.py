"""The functions that work element by element. They take nodes, NumPy arrays and Python numbers, broadcast and promote."""

from __future__ import annotations

from math import inf

from ...runtime.dim import Dim
from ...runtime.dtype import as_dtype, bool_, float32
from ...runtime.errors import ArgumentError
from ..ir.graph import Node, node
from . import convert as _convert
from . import elementwise as _binary
from . import logic as _logic
from . import special as _special
from . import unary as _unary
from .constant import Full
from .lift import broadcast, cast, common_dtype, constant, full, is_scalar, ones_like, operands, zeros_like


def _two(op: type, name: str, a, b, *, floating: bool = False) -> Node:
    a, b = operands(name, a, b)
    if floating and not a.dtype.is_float:
        a, b = cast(a, float32), cast(b, float32)
    return node(op(), *broadcast(name, a, b))


def _one(op: type, x, *, floating: bool = False) -> Node:
    x = constant(x)
    return node(op(), cast(x, float32) if floating and not x.dtype.is_float else x)


def _is(x, value: float) -> bool:
    """A Python number, or a node filled with it."""
    if isinstance(x, Node):
        return isinstance(x.op, Full) and not isinstance(x.op.value, Dim) and x.op.value == value
    return is_scalar(x) and not isinstance(x, Dim) and x == value


# Arithmetic -------------------------------------------------------------------------------------------------------------
# --------------------------


def add(a, b) -> Node:
    """a + b; on bool the logical or."""
    a, b = broadcast("add", *operands("add", a, b))
    if a.dtype is bool_:
        return node(_logic.Or(), a, b)
    return a if _is(b, 0) and not a.dtype.is_float else node(_binary.Add(), a, b)


def sub(a, b) -> Node:
    return _two(_binary.Sub, "sub", a, b)


def mul(a, b) -> Node:
    """a * b; on bool the logical and."""
    a, b = broadcast("mul", *operands("mul", a, b))
    if a.dtype is bool_:
        return node(_logic.And(), a, b)
    return a if _is(b, 1) else b if _is(a, 1) else node(_binary.Mul(), a, b)


def div(a, b) -> Node:
    """True division: integers become float32."""
    a, b = operands("div", a, b)
    if not a.dtype.is_float:
        a, b = cast(a, float32), cast(b, float32)
    a, b = broadcast("div", a, b)
    return a if _is(b, 1) else node(_binary.Div(), a, b)


def trunc_div(a, b) -> Node:
    """Division of integers that truncates towards zero (ONNX's Div); of floats the true quotient."""
    return _two(_binary.Div, "trunc_div", a, b)


def floordiv(a, b) -> Node:
    return _two(_binary.FloorDiv, "floordiv", a, b)


def mod(a, b) -> Node:
    """The remainder with the sign of b."""
    return _two(_binary.Mod, "mod", a, b)


def rem(a, b) -> Node:
    """The remainder with the sign of a."""
    return _two(_binary.Rem, "rem", a, b)


def maximum(a, b) -> Node:
    a, b = broadcast("maximum", *operands("maximum", a, b))
    return node((_logic.Or if a.dtype is bool_ else _binary.Maximum)(), a, b)


def minimum(a, b) -> Node:
    a, b = broadcast("minimum", *operands("minimum", a, b))
    return node((_logic.And if a.dtype is bool_ else _binary.Minimum)(), a, b)


def power(a, b) -> Node:
    """a ** b. Small integral exponents and all powers of integers are products; integers need exponents >= 0."""
    if is_scalar(b) and not isinstance(b, (bool, Dim)):
        x = constant(a)
        x = cast(x, common_dtype(x, b))
        if float(b).is_integer() and (0 <= b <= 8 or not x.dtype.is_float):
            return _repeated_square(x, int(b))
        if x.dtype.is_float and b in (0.5, -0.5):  # of -0.0 as of 0.0, and of -inf as of inf
            root = sqrt if b == 0.5 else rsqrt
            return where(eq(x, -inf), inf if b == 0.5 else 0.0, root(add(x, 0.0)))
        if x.dtype.is_float and b in (-1, -2):
            return reciprocal(x) if b == -1 else square(reciprocal(x))  # x * x would overflow where its reciprocal need not
    a, b = broadcast("power", *operands("power", a, b))
    return node(_binary.Power(), a, b) if a.dtype.is_float else _integer_power(a, b)


def _repeated_square(x: Node, n: int) -> Node:
    if n < 0:
        raise ArgumentError(f"power: {x.type} can't be raised to {n}; cast it to a float first")
    out: Node | None = None
    while n:
        if n & 1:
            out = x if out is None else mul(out, x)
        n >>= 1
        x = mul(x, x) if n else x
    return ones_like(x) if out is None else out


def _integer_power(a: Node, b: Node) -> Node:
    """Wrapping integer powers by squaring over all bits of the exponent; negative exponents give what truncated division
    would.
    """
    out = ones_like(a)
    square_ = a
    bits = a.dtype.bits - (a.dtype.kind == "i")
    for i in range(bits):
        bit = node(_logic.And(), b, full(b.shape, 1 << i, b.dtype))
        out = where(ne(bit, 0), mul(out, square_), out)
        square_ = mul(square_, square_)
    if a.dtype.kind == "u":
        return out
    odd = ne(node(_logic.And(), b, ones_like(b)), 0)
    inverted = where(eq(a, 1), 1, where(eq(a, -1), where(odd, full(a.shape, -1, a.dtype), 1), 0))
    return where(lt(b, 0), inverted, out)


def atan2(y, x) -> Node:
    return _two(_binary.Atan2, "atan2", y, x, floating=True)


def hypot(a, b) -> Node:
    """sqrt(a^2 + b^2), without overflow on the way."""
    return _two(_special.Hypot, "hypot", a, b, floating=True)


def copysign(a, b) -> Node:
    """|a| with the sign of b."""
    return _two(_special.CopySign, "copysign", a, b, floating=True)


def neg(x) -> Node:
    return _one(_unary.Neg, x)


def abs_(x) -> Node:
    x = constant(x)
    return x if x.dtype.kind in "bu" else node(_unary.Abs(), x)


def sign(x) -> Node:
    return _one(_unary.Sign, x)


def square(x) -> Node:
    return mul(x, x)


def reciprocal(x) -> Node:
    x = constant(x)
    return div(1, x)


def clip(x, lo=None, hi=None) -> Node:
    """``x`` limited to [lo, hi]; None means no limit."""
    out = constant(x)
    if lo is not None:
        out = maximum(out, lo)
    return out if hi is None else minimum(out, hi)


def floor(x) -> Node:
    return _rounded(_unary.Floor, x)


def ceil(x) -> Node:
    return _rounded(_unary.Ceil, x)


def round_(x) -> Node:
    """To the nearest integer, halves to the even one."""
    return _rounded(_unary.Round, x)


def trunc(x) -> Node:
    return _rounded(_unary.Trunc, x)


def _rounded(op: type, x) -> Node:
    x = constant(x)
    return node(op(), x) if x.dtype.is_float else x


# Functions of one operand: integers and bool become float32
# ------------------------------------------------------------------------------------------


def _function(op: type):
    def function(x) -> Node:
        return _one(op, x, floating=True)

    function.__name__ = function.__qualname__ = op.__name__.lower()
    function.__doc__ = op.__doc__
    return function


exp, expm1, log, log1p = map(_function, (_unary.Exp, _unary.Expm1, _unary.Log, _unary.Log1p))
sqrt, rsqrt, erf, sigmoid = map(_function, (_unary.Sqrt, _unary.Rsqrt, _unary.Erf, _unary.Sigmoid))
sin, cos, tan, asin, acos, atan = map(_function, (_unary.Sin, _unary.Cos, _unary.Tan, _unary.Asin, _unary.Acos, _unary.Atan))
sinh, cosh, tanh, asinh, acosh, atanh = map(
    _function, (_unary.Sinh, _unary.Cosh, _unary.Tanh, _unary.Asinh, _unary.Acosh, _unary.Atanh)
)
exp2, log2, log10, cbrt = map(_function, (_special.Exp2, _special.Log2, _special.Log10, _special.Cbrt))
sinpi, cospi, erfc, erfinv = map(_function, (_special.Sinpi, _special.Cospi, _special.Erfc, _special.Erfinv))
lgamma, digamma = map(_function, (_special.Lgamma, _special.Digamma))
bessel_i0e, bessel_i1e = map(_function, (_special.BesselI0e, _special.BesselI1e))


# Comparisons, logic, bits -----------------------------------------------------------------------------------------------
# ------------------------------


def eq(a, b) -> Node:
    return _two(_logic.Eq, "eq", a, b)


def ne(a, b) -> Node:
    return _two(_logic.Ne, "ne", a, b)


def lt(a, b) -> Node:
    return _two(_logic.Lt, "lt", a, b)


def le(a, b) -> Node:
    return _two(_logic.Le, "le", a, b)


def gt(a, b) -> Node:
    return _two(_logic.Gt, "gt", a, b)


def ge(a, b) -> Node:
    return _two(_logic.Ge, "ge", a, b)


def isnan(x) -> Node:
    x = constant(x)
    return node(_logic.IsNan(), x) if x.dtype.is_float else zeros_like(x, bool_)


def isinf(x) -> Node:
    x = constant(x)
    return node(_logic.IsInf(), x) if x.dtype.is_float else zeros_like(x, bool_)


def signbit(x) -> Node:
    """Whether the sign is minus: of -0.0 too."""
    x = constant(x)
    return node(_logic.SignBit(), x) if x.dtype.is_float else lt(x, 0) if x.dtype.kind == "i" else zeros_like(x, bool_)


def isfinite(x) -> Node:
    x = constant(x)
    return lt(abs_(x), inf) if x.dtype.is_float else ones_like(x, bool_)


def _truth(x) -> Node:
    return cast(x, bool_)


def logical_and(a, b) -> Node:
    return _two(_logic.And, "logical_and", _truth(a), _truth(b))


def logical_or(a, b) -> Node:
    return _two(_logic.Or, "logical_or", _truth(a), _truth(b))


def logical_xor(a, b) -> Node:
    return _two(_logic.Xor, "logical_xor", _truth(a), _truth(b))


def logical_not(x) -> Node:
    return node(_logic.Not(), _truth(x))


def bitwise_and(a, b) -> Node:
    return _two(_logic.And, "bitwise_and", a, b)


def bitwise_or(a, b) -> Node:
    return _two(_logic.Or, "bitwise_or", a, b)


def bitwise_xor(a, b) -> Node:
    return _two(_logic.Xor, "bitwise_xor", a, b)


def bitwise_not(x) -> Node:
    return _one(_logic.Not, x)


def shift_left(a, b) -> Node:
    return _two(_logic.ShiftLeft, "shift_left", a, b)


def shift_right(a, b) -> Node:
    return _two(_logic.ShiftRight, "shift_right", a, b)


def popcount(x) -> Node:
    """The number of 1 bits of integers."""
    return _one(_logic.Popcount, x)


def count_leading_zeros(x) -> Node:
    return _one(_logic.CountLeadingZeros, x)


def gcd(a, b) -> Node:
    """The greatest common divisor of magnitudes."""
    return _two(_logic.Gcd, "gcd", a, b)


def where(cond, a, b) -> Node:
    """``a`` where ``cond`` (not 0) else ``b``."""
    a, b = operands("where", a, b)
    return node(_logic.Select(), *broadcast("where", _truth(cond), a, b))


def bitcast(x, dtype) -> Node:
    x = constant(x)
    return x if x.dtype is as_dtype(dtype) else node(_convert.Bitcast(as_dtype(dtype)), x)


def stop_gradient(x) -> Node:
    return node(_convert.StopGradient(), constant(x))
