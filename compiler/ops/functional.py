"""The functions that everything above writes graphs with. They take nodes, NumPy arrays and Python numbers, broadcast and promote,
and return a node. Errors name the function and the sizes seen.
"""

# ruff: noqa: F401  (this file is also the list of the functions that other files define)
from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from ...runtime.dim import Dim, key, size
from ...runtime.dtype import as_dtype, bool_, float32, int32
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node, node
from . import convert as _convert
from . import elementwise as _binary
from . import logic as _logic
from . import movement as _movement
from . import reduce as _reduce
from . import unary as _unary
from .base import is_one, shape_text
from .constant import Full
from .lift import (
    axes_tuple,
    broadcast,
    broadcast_shapes,
    broadcast_to,
    cast,
    common_dtype,
    constant,
    full,
    is_scalar,
    one_axis,
    ones,
    ones_like,
    operands,
    reshape,
    zeros,
    zeros_like,
)
from .movement import inverse


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


# Arithmetic ---------------------------------------------------------------------------------------------------------------------------------------


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
        if x.dtype.is_float and b in (0.5, -0.5, -1, -2):
            return sqrt(x) if b == 0.5 else rsqrt(x) if b == -0.5 else reciprocal(x) if b == -1 else reciprocal(square(x))
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
    """Wrapping integer powers by squaring over all bits of the exponent; negative exponents give what truncated division would."""
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


# Functions of one operand: integers and bool become float32 ------------------------------------------------------------------------------------------


def _function(op: type):
    def function(x) -> Node:
        return _one(op, x, floating=True)
    function.__name__ = function.__qualname__ = op.__name__.lower()
    function.__doc__ = op.__doc__
    return function


exp, expm1, log, log1p = map(_function, (_unary.Exp, _unary.Expm1, _unary.Log, _unary.Log1p))
sqrt, rsqrt, erf, sigmoid = map(_function, (_unary.Sqrt, _unary.Rsqrt, _unary.Erf, _unary.Sigmoid))
sin, cos, tan, asin, acos, atan = map(_function, (_unary.Sin, _unary.Cos, _unary.Tan, _unary.Asin, _unary.Acos, _unary.Atan))
sinh, cosh, tanh, asinh, acosh, atanh = map(_function, (_unary.Sinh, _unary.Cosh, _unary.Tanh, _unary.Asinh, _unary.Acosh, _unary.Atanh))


# Comparisons, logic, bits -----------------------------------------------------------------------------------------------------------------------------


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


def where(cond, a, b) -> Node:
    """``a`` where ``cond`` (not 0) else ``b``."""
    a, b = operands("where", a, b)
    return node(_logic.Select(), *broadcast("where", _truth(cond), a, b))


def bitcast(x, dtype) -> Node:
    x = constant(x)
    return x if x.dtype is as_dtype(dtype) else node(_convert.Bitcast(as_dtype(dtype)), x)


def stop_gradient(x) -> Node:
    return node(_convert.StopGradient(), constant(x))


# Movement ----------------------------------------------------------------------------------------------------------------------------------------------


def transpose(x, perm: Sequence[int] | None = None) -> Node:
    """Result axis i is axis ``perm[i]`` of ``x``; None reverses the axes."""
    x = constant(x)
    perm = tuple(reversed(range(x.rank))) if perm is None else axes_tuple("transpose", perm, x.rank)
    if len(perm) != x.rank:
        raise ShapeError(f"transpose: {perm} is not a permutation of the {x.rank} axes of {x.type}")
    return x if perm == tuple(range(x.rank)) else node(_movement.Transpose(perm), x)


def expand_dims(x, axes: int | Sequence[int]) -> Node:
    """New axes of size 1 at these positions of the result."""
    x = constant(x)
    count = 1 if isinstance(axes, int) else len(axes)
    at = axes_tuple("expand_dims", axes, x.rank + count)
    rest = iter(x.shape)
    return reshape(x, [1 if i in at else next(rest) for i in range(x.rank + count)])


def squeeze(x, axes: int | Sequence[int] | None = None) -> Node:
    """Without these axes (None: all) of size 1."""
    x = constant(x)
    at = [i for i, n in enumerate(x.shape) if is_one(n)] if axes is None else axes_tuple("squeeze", axes, x.rank)
    for a in at:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {x.type} is not 1")
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in at])


def slice_(x, start: Sequence[int], stop: Sequence[int], step: Sequence[int] | None = None) -> Node:
    """x[start:stop:step] for every axis: starts in range, a negative step's stop may be -1 (one before the first element)."""
    x = constant(x)
    step = (1,) * x.rank if step is None else tuple(step)
    if not len(start) == len(stop) == len(step) == x.rank:
        raise ShapeError(f"slice_ of {x.type} needs {x.rank} starts, stops and steps, got {start}, {stop} and {step}")
    sizes = []
    for b, e, s in zip(start, stop, step):
        if s == 0:
            raise ArgumentError("slice_: a step is 0")
        n = e - b if s == 1 else (e - b + s - 1) // s if s > 0 else (b - e - s - 1) // -s
        sizes.append(n if type(n) is Dim else max(n, 0))
    if key(tuple(sizes)) == key(x.shape) and all(s == 1 for s in step):
        return x
    return node(_movement.Slice(tuple(start), tuple(sizes), step), x)


def flip(x, axes: int | Sequence[int] | None = None) -> Node:
    x = constant(x)
    at = axes_tuple("flip", axes, x.rank)
    if not at:
        return x
    starts = tuple([(n - 1 if n != 0 else 0) if i in at else 0 for i, n in enumerate(x.shape)])
    return node(_movement.Slice(starts, x.shape, tuple([-1 if i in at else 1 for i in range(x.rank)])), x)


def pad(x, padding: Sequence[tuple[int, int]], value=0, interior: Sequence[int] | None = None) -> Node:
    """``value`` around every axis, (lo, hi) elements (negative ones crop), and ``interior`` ones between neighbours."""
    x = constant(x)
    between = (0,) * x.rank if interior is None else tuple(interior)
    if len(padding) != x.rank or len(between) != x.rank:
        raise ShapeError(f"pad of {x.type} needs {x.rank} pairs of widths, got {tuple(padding)}")
    if all(type(w) is not Dim and w == 0 for pair in (*padding, between) for w in pair):
        return x
    value = bool(value) if x.dtype is bool_ else float(value) if x.dtype.is_float else int(value) if float(value).is_integer() else value
    return node(_movement.Pad(tuple([p[0] for p in padding]), tuple([p[1] for p in padding]), between, value), x)


def concat(xs: Sequence, axis: int = 0) -> Node:
    """The tensors one behind the other along ``axis``."""
    if not len(xs):
        raise ArgumentError("concat needs at least one tensor")
    nodes = operands("concat", *xs)
    axis = one_axis("concat", axis, nodes[0].rank)
    return nodes[0] if len(nodes) == 1 else node(_movement.Concat(axis), *nodes)


def stack(xs: Sequence, axis: int = 0) -> Node:
    """The tensors along a new axis."""
    if not len(xs):
        raise ArgumentError("stack needs at least one tensor")
    nodes = operands("stack", *xs)
    axis = one_axis("stack", axis, nodes[0].rank + 1)
    return concat([expand_dims(x, axis) for x in nodes], axis)


def split(x, sizes: int | Sequence[int], axis: int = 0) -> list[Node]:
    """Pieces of these sizes along ``axis`` (an int: that many equal ones)."""
    x = constant(x)
    axis = one_axis("split", axis, x.rank)
    if isinstance(sizes, int):
        if x.shape[axis] % sizes != 0:
            raise ShapeError(f"split: axis {axis} of {x.type} is not divisible by {sizes}")
        sizes = [x.shape[axis] // sizes] * sizes
    total: int = 0
    for n in sizes:
        total = total + n
    if total != x.shape[axis]:
        raise ShapeError(f"split: sizes {shape_text(sizes)} don't add up to axis {axis} of {x.type}")
    out, begin = [], 0
    for n in sizes:
        start, stop = [0] * x.rank, list(x.shape)
        start[axis], stop[axis] = begin, begin + n
        out.append(slice_(x, start, stop))
        begin = begin + n
    return out


def tile(x, reps: int | Sequence[int]) -> Node:
    """NumPy's tile: the whole repeated along axes."""
    x = constant(x)
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    reps = (1,) * (x.rank - len(reps)) + reps
    x = reshape(x, (1,) * (len(reps) - x.rank) + x.shape)
    doubled = [m for n in x.shape for m in (1, n)]
    wide = [m for n, r in zip(x.shape, reps) for m in (r, n)]
    return reshape(broadcast_to(reshape(x, doubled), wide), [n * r for n, r in zip(x.shape, reps)])


# Reductions --------------------------------------------------------------------------------------------------------------------------------------------


def _fold(op: type, name: str, x: Node, axes, keepdims: bool) -> Node:
    at = tuple(sorted(axes_tuple(name, axes, x.rank)))
    out = node(op(at), x) if at else x
    return reshape(out, [1 if i in at else n for i, n in enumerate(x.shape)]) if keepdims else out


def sum_(x, axes=None, keepdims: bool = False) -> Node:
    """The sum over ``axes`` (None: all); bool counts as int32."""
    x = constant(x)
    return _fold(_reduce.Sum, "sum", cast(x, int32) if x.dtype is bool_ else x, axes, keepdims)


def prod(x, axes=None, keepdims: bool = False) -> Node:
    x = constant(x)
    return _fold(_reduce.Prod, "prod", cast(x, int32) if x.dtype is bool_ else x, axes, keepdims)


def max_(x, axes=None, keepdims: bool = False) -> Node:
    return _fold(_reduce.Max, "max", constant(x), axes, keepdims)


def min_(x, axes=None, keepdims: bool = False) -> Node:
    return _fold(_reduce.Min, "min", constant(x), axes, keepdims)


def any_(x, axes=None, keepdims: bool = False) -> Node:
    return _fold(_reduce.Max, "any", _truth(x), axes, keepdims)


def all_(x, axes=None, keepdims: bool = False) -> Node:
    return _fold(_reduce.Min, "all", _truth(x), axes, keepdims)


def mean(x, axes=None, keepdims: bool = False) -> Node:
    """The mean over ``axes``; integers become float32."""
    x = constant(x)
    x = x if x.dtype.is_float else cast(x, float32)
    at = axes_tuple("mean", axes, x.rank)
    return div(sum_(x, at, keepdims), size([x.shape[a] for a in at]))


def var(x, axes=None, keepdims: bool = False) -> Node:
    """The mean square distance from the mean (two passes: exact where the mean is large)."""
    x = constant(x)
    x = x if x.dtype.is_float else cast(x, float32)
    return mean(square(sub(x, mean(x, axes, True))), axes, keepdims)


def _arg(op: type, name: str, x, axes, keepdims: bool, dtype) -> Node:
    x = constant(x)
    shape = x.shape
    if axes is None:
        x, axis, kept = reshape(x, (x.type.size,)), 0, [1] * len(shape)
    else:
        at = axes_tuple(name, axes, x.rank)
        if len(at) != 1:
            raise ArgumentError(f"{name} works along one axis or over all, got axes {at}")
        axis = at[0]
        kept = [1 if i == axis else n for i, n in enumerate(shape)]
    out = node(op(axis, as_dtype(dtype)), x)
    return reshape(out, kept) if keepdims else out


def argmax(x, axes=None, keepdims: bool = False, dtype=int32) -> Node:
    """The position of the greatest element along an axis (None: in the flattened tensor), the first of equal ones."""
    return _arg(_reduce.ArgMax, "argmax", x, axes, keepdims, dtype)


def argmin(x, axes=None, keepdims: bool = False, dtype=int32) -> Node:
    return _arg(_reduce.ArgMin, "argmin", x, axes, keepdims, dtype)


from .composite import gelu, layer_norm, log_softmax, logsumexp, relu, silu, softmax, softplus  # noqa: E402
from .contract import dot_general, einsum, matmul  # noqa: E402
from .conv import conv, conv_transpose  # noqa: E402
from .index import iota, one_hot, scatter_add, take, take_along_axis  # noqa: E402
from .random import random_bits, random_normal, random_uniform  # noqa: E402
from .window import avg_pool, max_pool, sum_pool  # noqa: E402

__all__ = [
    "abs_", "acos", "acosh", "add", "all_", "any_", "argmax", "argmin", "asin", "asinh", "atan", "atan2", "atanh", "avg_pool", "bitcast", "bitwise_and",
    "bitwise_not", "bitwise_or", "bitwise_xor", "broadcast_shapes", "broadcast_to", "cast", "ceil", "clip", "concat", "constant", "conv", "conv_transpose",
    "cos", "cosh", "div", "dot_general", "einsum", "eq", "erf", "exp", "expand_dims", "expm1", "flip", "floor", "floordiv", "full", "ge", "gelu", "gt",
    "iota", "isfinite", "isinf", "isnan", "layer_norm", "le", "log", "log1p", "log_softmax", "logical_and", "logical_not", "logical_or", "logical_xor",
    "logsumexp", "lt", "matmul", "max_", "max_pool", "maximum", "mean", "min_", "minimum", "mod", "mul", "ne", "neg", "one_hot", "ones", "ones_like",
    "pad", "power", "prod", "random_bits", "random_normal", "random_uniform", "reciprocal", "relu", "rem", "reshape", "round_", "rsqrt", "scatter_add",
    "shift_left", "shift_right", "sigmoid", "sign", "silu", "sin", "sinh", "slice_", "softmax", "softplus", "split", "sqrt", "square", "squeeze", "stack",
    "stop_gradient", "sub", "sum_", "sum_pool", "take", "take_along_axis", "tan", "tanh", "tile", "transpose", "trunc", "trunc_div", "var", "where",
    "zeros", "zeros_like",
]
