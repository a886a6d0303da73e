"""Linear quantization: q = saturate(round(x / scale) + zero point) and back, for a tensor, an axis, or blocks of an axis.

Rounding is to nearest, halves to even, as in ONNX's QuantizeLinear, whose rules these are.
"""

from __future__ import annotations

import ml_dtypes

from ...runtime import dim
from ...runtime.dtype import as_dtype, float32, int32, uint8
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from . import functional as f


def _spread(name: str, x: Node, parameter: Node, axis: int, block: int) -> Node:
    """A scale or zero point as a tensor of x's shape: one number, one for each index of ``axis``, or one for each block of it."""
    if parameter.rank == 0 or (parameter.rank == 1 and dim.key(parameter.shape[0]) == 1):
        return f.broadcast_to(f.reshape(parameter, ()), x.shape)
    axis = f.one_axis(name, axis, x.rank)
    n = x.shape[axis]
    if not block:
        if parameter.rank != 1 or parameter.shape[0] != n:
            raise ShapeError(
                f"{name} of {x.type} along axis {axis} with parameters {parameter.type}: one for each index is wanted")
        shape = tuple([n if a == axis else 1 for a in range(x.rank)])
        return f.broadcast_to(f.reshape(parameter, shape), x.shape)
    blocks = dim.ceil_div(n, block)
    wanted = (*x.shape[:axis], blocks, *x.shape[axis + 1 :])
    if parameter.rank != x.rank or parameter.shape != wanted:
        raise ShapeError(f"{name} of {x.type} in blocks of {block} along axis {axis}: parameters have shape {list(wanted)}, got"
                         f" {parameter.type}")
    wide = f.broadcast_to(f.expand_dims(parameter, (axis + 1,)), (*wanted[: axis + 1], block, *wanted[axis + 1 :]))
    wide = f.reshape(wide, (*wanted[:axis], blocks * block, *wanted[axis + 1 :]))
    return f.slice_(wide, (0,) * x.rank, x.shape)


def saturating_cast(x, dtype) -> Node:
    """``x`` in a narrow type; what lies beyond its finite values becomes the nearest of them (nan stays, in floats)."""
    into = as_dtype(dtype)
    if into.is_int:
        low, high = float(into.min), float(into.max)
    else:
        high = float(ml_dtypes.finfo(into.np).max)
        low = -high
    x = f.constant(x)
    return f.cast(f.clip(x if x.dtype.is_float else f.cast(x, float32), low, high), into)


def quantize_linear(x, scale, zero_point=None, axis: int = 1, block: int = 0, dtype=None, saturate: bool = True) -> Node:
    """``x`` in steps of ``scale`` from ``zero_point``, in the zero point's type (or ``dtype``, default uint8)."""
    x, scale = f.constant(x), f.constant(scale)
    zero = None if zero_point is None else f.constant(zero_point)
    into = as_dtype(dtype) if dtype is not None else zero.dtype if zero is not None else uint8
    if not scale.dtype.is_float or (zero is not None and zero.dtype is not into):
        raise DTypeError(f"quantize_linear into {into}: scale {scale.type}, zero point {None if zero is None else zero.type}")
    if not (into.is_int and into.bits <= 16 or into.is_float and into.storage):
        raise ArgumentError(f"quantize_linear gives integers of at most 16 bits, or a float that is only stored, not {into}")
    wide = scale.dtype
    y = f.div(f.cast(x, wide), _spread("quantize_linear", x, scale, axis, block))
    y = f.cast(y, float32) if wide.itemsize < 4 else y
    y = f.round_(y) if into.is_int else y
    if zero is not None:
        y = f.add(y, f.cast(_spread("quantize_linear", x, zero, axis, block), y.dtype))
    return saturating_cast(y, into) if saturate or into.is_int else f.cast(y, into)


def dequantize_linear(x, scale, zero_point=None, axis: int = 1, block: int = 0, dtype=None) -> Node:
    """(x - zero_point) * scale, in the scale's type (or ``dtype``)."""
    x, scale = f.constant(x), f.constant(scale)
    if not scale.dtype.is_float:
        raise DTypeError(f"dequantize_linear needs a scale that is a float, got {scale.type}")
    wide = int32 if x.dtype.is_int else float32
    y = f.cast(x, wide)
    if zero_point is not None:
        zero = f.constant(zero_point)
        if zero.dtype is not x.dtype:
            raise DTypeError(f"dequantize_linear of {x.type} with zero points {zero.type}: their types differ")
        y = f.sub(y, f.cast(_spread("dequantize_linear", x, zero, axis, block), wide))
    y = f.mul(f.cast(y, scale.dtype), _spread("dequantize_linear", x, scale, axis, block))
    return y if dtype is None else f.cast(y, dtype)


def dynamic_quantize(x) -> tuple[Node, Node, Node]:
    """(q as uint8, scale, zero point): the range of ``x``, widened to hold 0, over the 256 values of uint8."""
    x = f.constant(x)
    high, low = f.maximum(f.max_(x), 0), f.minimum(f.min_(x), 0)
    scale = f.div(f.sub(high, low), 255.0)
    scale = f.where(f.eq(scale, 0), 1.0, scale)
    zero = f.cast(f.clip(f.round_(f.div(f.neg(low), scale)), 0.0, 255.0), uint8)
    return quantize_linear(x, scale, zero), scale, zero


def integer_matmul(a, b, a_zero=None, b_zero=None) -> Node:
    """(a - a_zero) @ (b - b_zero) in int32, for operands of 8 bits (signs may differ), which are read as they are stored: the
    zero points' parts are products with sums of rows and columns. ``a_zero``: one, or one for each row; ``b_zero``: one, or one for
    each column. int32 wraps, so the sum is exact wherever the result fits."""
    a, b = f.constant(a), f.constant(b)
    y = f.matmul(a, b, accumulate=int32)
    k = a.shape[-1]
    za = None if a_zero is None else _column(f.cast(a_zero, int32), a.rank)
    zb = None if b_zero is None else _row(f.cast(b_zero, int32), b.rank)
    if zb is not None:
        sums = f.sum_(f.cast(a, int32), (-1,), b.rank > 1)
        y = f.sub(y, f.mul(sums, zb))
    if za is not None:
        sums = f.sum_(f.cast(b, int32), (-2 if b.rank > 1 else -1,), b.rank > 1 and a.rank > 1)
        y = f.sub(y, f.mul(za, sums))
    if za is not None and zb is not None:
        y = f.add(y, f.mul(f.mul(za, zb), k))
    return y


def _column(zero: Node, rank: int) -> Node:
    """A zero point for each row, beside the last axis."""
    if zero.rank == 0 or all(dim.key(n) == 1 for n in zero.shape):
        return f.reshape(zero, ())
    return f.expand_dims(zero, (-1,)) if zero.rank == rank - 1 else zero


def _row(zero: Node, rank: int) -> Node:
    if zero.rank == 0 or all(dim.key(n) == 1 for n in zero.shape):
        return f.reshape(zero, ())
    return zero
