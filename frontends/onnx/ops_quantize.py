"""Quantized operators: linear quantization, and products and convolutions of 8-bit integers."""

from __future__ import annotations

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dtype import float32, int32
from .call import Call
from .ops_conv import convolve
from .ops_nn import per_channel
from .registry import operator
from .tensors import dtype_of


@operator("QuantizeLinear")
def _quantize(call: Call) -> Node:
    x, scale, zero = call.node(0), call.node(1), call.optional(2)
    code = call.attr("output_dtype", 0)
    into = zero.dtype if zero is not None else dtype_of(code) if code else None
    if code and dtype_of(code) is not (into or dtype_of(code)):
        raise call.invalid(f"has output_dtype={code} and zero points of {into}", "output_dtype")
    if call.attr("precision", 0):
        wide = dtype_of(call.attr("precision"))
        if wide is None or not wide.is_float:
            raise call.invalid(f"precision={call.attr('precision')}", "precision")
        scale = ops.cast(scale, wide)
    settings = _settings(call, x, scale)
    return ops.quantize_linear(x, scale, zero, *settings, into, bool(call.attr("saturate", 1)))


def _settings(call: Call, x: Node, scale: Node) -> tuple[int, int]:
    """(axis, size of a block)"""
    block = call.attr("block_size", 0)
    axis = call.attr("axis", 1)
    return call.normal(axis, x.rank) if scale.rank and x.rank and -x.rank <= axis < x.rank else 0, block


@operator("DequantizeLinear")
def _dequantize(call: Call) -> Node:
    x, scale = call.node(0), call.node(1)
    code = call.attr("output_dtype", 0)
    return ops.dequantize_linear(x, scale, call.optional(2), *_settings(call, x, scale), dtype_of(code) if code else None)


@operator("DynamicQuantizeLinear")
def _dynamic_quantize(call: Call) -> tuple[Node, ...]:
    return ops.dynamic_quantize(call.node(0))


@operator("MatMulInteger")
def _matmul_integer(call: Call) -> Node:
    return ops.integer_matmul(call.node(0), call.node(1), call.optional(2), call.optional(3))


@operator("ConvInteger")
def _conv_integer(call: Call) -> Node:
    return _integer_convolution(call, call.node(0), call.optional(2), call.node(1), call.optional(3))


def _integer_convolution(call: Call, x: Node, x_zero: Node | None, w: Node, w_zero: Node | None) -> Node:
    """The sum of (x - x_zero) * (w - w_zero) in int32; padding counts as x_zero."""
    x, w = ops.cast(x, int32), ops.cast(w, int32)
    if x_zero is not None:
        x = ops.sub(x, ops.reshape(ops.cast(x_zero, int32), ()))
    if w_zero is not None:
        w = ops.sub(w, _per_filter(ops.cast(w_zero, int32), w.rank))
    return convolve(call, x, w)


def _per_filter(v: Node, rank: int) -> Node:
    """One number, or one for each filter of a kernel (the first axis)."""
    return ops.reshape(v, (*v.shape, *(1,) * (rank - 1)) if v.rank == 1 and v.shape[0] != 1 else ())


def _requantized(call: Call, y: Node, scale: Node, y_scale: Node, y_zero: Node) -> Node:
    """int32 sums of ``scale`` in steps of ``y_scale``."""
    factor = ops.div(scale, ops.cast(y_scale, float32))
    real = ops.round_(ops.mul(ops.cast(y, float32), factor))
    return ops.saturating_cast(ops.add(real, ops.cast(y_zero, float32)), y_zero.dtype)


@operator("QLinearMatMul")
def _qlinear_matmul(call: Call) -> Node:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (call.node(i) for i in range(8))
    if any(v.type.size != 1 for v in (a_scale, a_zero, y_scale, y_zero)):
        raise call.refuse("has a scale for each row")
    one = [ops.reshape(v, ()) for v in (a_scale, y_scale, y_zero)]
    y = ops.integer_matmul(a, b, a_zero, b_zero)
    b_scale = ops.reshape(b_scale, ()) if b_scale.type.size == 1 else b_scale
    scale = ops.mul(ops.cast(one[0], float32), ops.cast(b_scale, float32))
    return _requantized(call, y, scale, *one[1:])


@operator("QLinearConv")
def _qlinear_conv(call: Call) -> Node:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (call.node(i) for i in range(8))
    y = _integer_convolution(call, x, x_zero, w, w_zero)
    y = ops.add(y, per_channel(call.node(8), y.rank)) if call.has(8) else y
    w_scale = ops.reshape(w_scale, ()) if w_scale.type.size == 1 else per_channel(w_scale, y.rank)
    scale = ops.mul(ops.reshape(x_scale, ()), w_scale)
    return _requantized(call, y, scale, ops.reshape(y_scale, ()), ops.reshape(y_zero, ()))
