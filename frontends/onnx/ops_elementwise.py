"""Elementwise operators: arithmetic and functions of one number."""

from __future__ import annotations

import math

import numpy as np

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dtype import DType, as_dtype, bool_, float32, int32, int64, uint8
from .call import Call
from .registry import fold, operator
from .report import Refusal
from .tensors import dtype_name, dtype_of
from .values import Known, as_objects


def operands(call: Call) -> tuple[Node, Node]:
    """Both inputs of a binary operator, of one type; before opset 7 the second is aligned by the attribute ``axis`` and broadcast
    only if asked.
    """
    a, b = call.node(0), call.node(1)
    if a.dtype is not b.dtype:
        raise call.invalid(f"has operands of types {a.dtype} and {b.dtype}")
    if call.version < 7 and call.attr("broadcast", 0):
        axis = call.attr("axis", None)
        axis = a.rank - b.rank if axis is None else call.normal(axis, a.rank)
        if axis + b.rank > a.rank:
            raise call.invalid(f"can't align {b.type} with {a.type} at axis {axis}", "axis")
        b = ops.reshape(b, b.shape + (1,) * (a.rank - axis - b.rank))
    return a, b


def _binary(name: str, fn) -> None:
    operator(name)(lambda call: fn(*operands(call)))


_binary("Add", ops.add)
_binary("Sub", ops.sub)
_binary("Mul", ops.mul)


_binary("Div", ops.trunc_div)


@operator("PRelu")
def _prelu(call: Call) -> Node:
    x, slope = call.node(0), call.node(1)
    if call.version < 7 and slope.rank == 1 and x.rank > 1:  # one slope a channel
        slope = ops.reshape(slope, slope.shape + (1,) * (x.rank - 2))
    return ops.where(ops.lt(x, 0), ops.mul(x, slope), x)


@operator("Mod")
def _mod(call: Call) -> Node:
    a, b = operands(call)
    return ops.rem(a, b) if call.attr("fmod") else ops.mod(a, b)


@operator("Pow")
def _pow(call: Call) -> Node:
    a, b = call.node(0), call.node(1)
    if a.dtype is b.dtype:
        return ops.power(*operands(call))
    if a.dtype.is_float:
        return ops.power(a, ops.cast(b, a.dtype))
    if b.dtype.is_float:
        return ops.cast(ops.power(ops.cast(a, b.dtype), b), a.dtype)
    return ops.cast(ops.power(ops.cast(a, int64), ops.cast(b, int64)), a.dtype)


_UNARY = {
    "Neg": ops.neg,
    "Abs": ops.abs_,
    "Sign": ops.sign,
    "Sqrt": ops.sqrt,
    "Exp": ops.exp,
    "Log": ops.log,
    "Erf": ops.erf,
    "Tanh": ops.tanh,
    "Sigmoid": ops.sigmoid,
    "Relu": ops.relu,
    "Floor": ops.floor,
    "Ceil": ops.ceil,
    "Round": ops.round_,
    "Reciprocal": ops.reciprocal,
    "Sin": ops.sin,
    "Cos": ops.cos,
    "Tan": ops.tan,
    "Asin": ops.asin,
    "Acos": ops.acos,
    "Atan": ops.atan,
    "Sinh": ops.sinh,
    "Cosh": ops.cosh,
    "Asinh": ops.asinh,
    "Acosh": ops.acosh,
    "Atanh": ops.atanh,
    "IsNaN": ops.isnan,
    "Not": ops.logical_not,
    "BitwiseNot": ops.bitwise_not,
    "Softplus": ops.softplus,
}


def _unary(name: str, fn) -> None:
    def handler(call: Call) -> Node:
        x = call.node(0)
        y = fn(x)  # functions of integers are computed in float32
        return y if y.dtype is bool_ else ops.cast(y, x.dtype)

    operator(name)(handler)


for _name, _fn in _UNARY.items():
    _unary(_name, _fn)

operator("Identity")(lambda call: call.value(0))


@operator("Softsign")
def _softsign(call: Call) -> Node:
    x = call.node(0)
    return ops.div(x, ops.add(ops.abs_(x), 1.0))


@operator("LeakyRelu")
def _leaky_relu(call: Call) -> Node:
    x = call.node(0)
    return ops.where(ops.lt(x, 0), ops.mul(x, call.attr("alpha")), x)


@operator("ThresholdedRelu")
def _thresholded_relu(call: Call) -> Node:
    x = call.node(0)
    return ops.where(ops.gt(x, call.attr("alpha")), x, call.like(0))


@operator("Elu", "Selu", "Celu")
def _elu(call: Call) -> Node:
    x, alpha = call.node(0), call.attr("alpha")
    if call.op == "Celu":
        return ops.where(ops.gt(x, 0), x, ops.mul(ops.expm1(ops.div(x, alpha)), alpha))
    y = ops.where(ops.gt(x, 0), x, ops.mul(ops.expm1(x), alpha))
    return ops.mul(y, call.attr("gamma")) if call.op == "Selu" else y


@operator("HardSigmoid")
def _hard_sigmoid(call: Call) -> Node:
    return ops.clip(ops.add(ops.mul(call.node(0), call.attr("alpha")), call.attr("beta")), call.like(0), call.like(1))


@operator("HardSwish")
def _hard_swish(call: Call) -> Node:
    x = call.node(0)
    return ops.mul(x, ops.clip(ops.add(ops.mul(x, 1 / 6), 0.5), call.like(0), call.like(1)))


@operator("Gelu")
def _gelu(call: Call) -> Node:
    form = call.attr("approximate")
    if form not in ("none", "tanh"):
        raise call.invalid(f"approximate={form!r}", "approximate")
    return ops.gelu(call.node(0), form == "tanh")


@operator("Mish")
def _mish(call: Call) -> Node:
    x = call.node(0)
    return ops.mul(x, ops.tanh(ops.softplus(x)))


@operator("Swish")
def _swish(call: Call) -> Node:
    x = call.node(0)
    return ops.mul(x, ops.sigmoid(ops.mul(x, call.attr("alpha"))))


@operator("Shrink")
def _shrink(call: Call) -> Node:
    x, bias, bound = call.node(0), call.attr("bias"), call.attr("lambd")
    f = ops.cast(x, float32) if x.dtype.is_int else x
    y = ops.where(ops.lt(f, -bound), ops.add(f, bias), ops.where(ops.gt(f, bound), ops.sub(f, bias), ops.zeros_like(f)))
    return ops.cast(y, x.dtype)


@operator("IsInf")
def _is_inf(call: Call) -> Node:
    x, inf = call.node(0), call.like(math.inf)
    positive, negative = call.attr("detect_positive"), call.attr("detect_negative")
    if positive and negative:
        return ops.isinf(x)
    if not (positive or negative):
        return ops.full(x.shape, False, bool_)
    return ops.eq(x, inf if positive else ops.neg(inf))


@operator("Clip")
def _clip(call: Call) -> Node:
    x = call.node(0)
    if call.version < 11:
        low, high = call.attr("min", None), call.attr("max", None)
        # The defaults of opset 6 are float32's extremes, which are no bounds.
        low = None if low is None or low <= np.finfo(np.float32).min else call.like(low)
        high = None if high is None or high >= np.finfo(np.float32).max else call.like(high)
    else:
        low, high = call.optional(1), call.optional(2)
    if low is not None:
        x = ops.maximum(x, ops.reshape(low, ()))
    return x if high is None else ops.minimum(x, ops.reshape(high, ()))


@operator("Min", "Max", "Sum", "Mean")
def _variadic(call: Call) -> Node:
    fn = {"Min": ops.minimum, "Max": ops.maximum}.get(call.op, ops.add)
    out, *rest = call.nodes()
    for x in rest:
        if x.dtype is not out.dtype:
            raise call.invalid(f"has operands of types {out.dtype} and {x.dtype}")
        out = fn(out, x)
    return ops.div(out, call.like(len(call))) if call.op == "Mean" and len(call) > 1 else out


@operator("BitShift")
def _bit_shift(call: Call) -> Node:
    direction = call.attr("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise call.invalid(f"direction={direction!r}", "direction")
    return (ops.shift_left if direction == "LEFT" else ops.shift_right)(*operands(call))


@operator("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def _bitwise(call: Call) -> Node:
    fn = {"BitwiseAnd": ops.bitwise_and, "BitwiseOr": ops.bitwise_or, "BitwiseXor": ops.bitwise_xor}[call.op]
    return fn(*operands(call))


_CAST_NAMES = {
    "FLOAT": 1,
    "UINT8": 2,
    "INT8": 3,
    "UINT16": 4,
    "INT16": 5,
    "INT32": 6,
    "INT64": 7,
    "BOOL": 9,
    "FLOAT16": 10,
    "DOUBLE": 11,
    "UINT32": 12,
    "UINT64": 13,
    "BFLOAT16": 16,
}


def cast_target(call: Call, name: str = "to"):
    """The element type that an attribute names; refused where kerogen lacks it."""
    code = call.attr(name)
    code = _CAST_NAMES.get(code, 0) if isinstance(code, str) else code  # opset 1 has strings
    dtype = dtype_of(code)
    if dtype is None:
        raise Refusal(f"asks for element type {dtype_name(code)}, which kerogen does not compute with", attribute=name)
    return dtype


@operator("Cast")
def _cast(call: Call) -> Node:
    return converted(call, call.node(0), cast_target(call))


@operator("CastLike")
def _cast_like(call: Call) -> Node:
    return converted(call, call.node(0), call.dtype(1))


def converted(call: Call, x: Node, to: DType) -> Node:
    """``x`` as ``to``; into float8 and float4 the standard saturates by default, into int4 and int2 the low bits are kept."""
    if to.storage and to.is_int and x.dtype.is_float:
        return ops.cast(ops.cast(x, int32), to)
    narrow = to.storage and to.is_float and x.dtype is not to
    return ops.saturating_cast(x, to) if narrow and (to.bits < 8 or call.attr("saturate", 1)) else ops.cast(x, to)


@operator("BitCast")
def _bit_cast(call: Call) -> Node:
    x, to = call.node(0), cast_target(call)
    if x.dtype.itemsize != to.itemsize:
        raise call.invalid(f"reads {x.dtype} as {to}", "to")
    if x.dtype is bool_:
        return ops.bitcast(ops.cast(x, uint8), to)
    return ops.cast(ops.bitcast(x, uint8), bool_) if to is bool_ else ops.bitcast(x, to)


# --- sizes known while importing


def _fold_binary(name: str, fn) -> None:
    def rule(call: Call, a, b):
        if call.version < 7 or not all(x.dtype == object or x.dtype.kind in "iu" for x in (a, b)):
            return None
        return fn(a, b)

    fold(name)(rule)


_fold_binary("Add", lambda a, b: a + b)
_fold_binary("Sub", lambda a, b: a - b)
_fold_binary("Mul", lambda a, b: a * b)
_fold_binary("Min", lambda a, b: np.minimum(a, b))
_fold_binary("Max", lambda a, b: np.maximum(a, b))


@fold("Div")
def _fold_div(call: Call, a, b):
    if not all(x.dtype == object or x.dtype.kind in "iu" for x in (a, b)) or (np.asarray(b) == 0).any():
        return None
    a, b = np.broadcast_arrays(a, b)
    quotient = [x // y if (x >= 0) == (y > 0) else -(-x // y) for x, y in zip(a.astype(object).flat, b.astype(object).flat)]
    return as_objects(quotient).reshape(a.shape)


@fold("Mod")
def _fold_mod(call: Call, a, b):
    if call.attr("fmod") or not all(x.dtype == object or x.dtype.kind in "iu" for x in (a, b)) or (np.asarray(b) == 0).any():
        return None
    return a % b


@fold("Neg")
def _fold_neg(call: Call, a):
    return -a if a.dtype == object or a.dtype.kind == "i" else None


@fold("Cast", "CastLike")
def _fold_cast(call: Call, a, like=None):
    dtype = call.dtype(1) if call.op == "CastLike" else cast_target(call)
    if a.dtype == object:
        return Known(a, dtype) if dtype in (int64, int32) else None
    if a.dtype.kind in "iub" and dtype.kind in "iub":
        return a.astype(dtype.np)
    return None


fold("Identity")(lambda call, a: Known(a, call.dtype(0)))


@fold("Where")
def _fold_where(call: Call, c, a, b):
    if not all(x.dtype == object or x.dtype.kind in "iu" for x in (a, b)):
        return None
    return (
        np.where(c.astype(bool), a, b)
        if a.dtype == object or b.dtype == object
        else np.where(c, a, b).astype(as_dtype(a.dtype).np)
    )
