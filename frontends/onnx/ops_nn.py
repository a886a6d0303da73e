"""Normalisations and softmaxes."""

from __future__ import annotations

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dim import key, size
from ...runtime.dtype import DType, bool_, float32, float64, int64
from .call import Call
from .registry import operator
from .tensors import dtype_of
from .values import Value


def per_channel(v: Node, rank: int) -> Node:
    """A vector over the channels (axis 1) of a tensor of ``rank``, ready to broadcast."""
    return ops.reshape(v, v.shape + (1,) * (rank - 2))


@operator("BatchNormalization")
def _batch_normalization(call: Call) -> tuple[Node, ...]:
    x = call.node(0)
    scale, bias, mean, var = (call.node(i) for i in range(1, 5))
    epsilon = call.attr("epsilon")
    if call.version < 9 and not call.attr("spatial", 1):
        raise call.refuse("normalises each place of a channel for itself", attribute="spatial")
    training = call.attr("training_mode", 0) if call.version >= 14 else 0
    if call.version < 7 and not call.attr("is_test", 0) and call.wants(1):
        training = 1
    if call.version < 14 and not training and any(call.wants(i) for i in range(1, call.n_outputs)):
        raise call.refuse("computes running statistics as opsets before 14 did")
    running: tuple[Node, ...] = ()
    if training:
        axes = (0, *range(2, x.rank))
        wide = ops.cast(x, _stash(x.dtype))
        batch_mean, batch_var = ops.mean(wide, axes), ops.var(wide, axes)
        momentum = call.attr("momentum")
        running = tuple(
            ops.cast(ops.add(ops.mul(old, momentum), ops.mul(ops.cast(new, old.dtype), 1 - momentum)), old.dtype)
            for old, new in ((mean, batch_mean), (var, batch_var))
        )
        mean, var = batch_mean, batch_var
    dtype = _stash(x.dtype)
    # One multiplication and one addition a place; what hangs from the weights alone is computed once, and folds into a
    # convolution.
    factor = ops.div(ops.cast(scale, dtype), ops.sqrt(ops.add(ops.cast(var, dtype), epsilon)))
    offset = ops.sub(ops.cast(bias, dtype), ops.mul(ops.cast(mean, dtype), factor))
    y = ops.add(ops.mul(ops.cast(x, dtype), per_channel(factor, x.rank)), per_channel(offset, x.rank))
    return (ops.cast(y, x.dtype), *running)


def _stash(dtype: DType) -> DType:
    """The type in which statistics are computed."""
    return float64 if dtype is float64 else float32


def _standardised(x: Node, axes: tuple[int, ...], epsilon: float) -> tuple[Node, Node, Node]:
    """(x - mean) / sqrt(var + epsilon) over ``axes``, with mean and 1 / sqrt(var + epsilon) (axes kept)."""
    mean = ops.mean(x, axes, True)
    centred = ops.sub(x, mean)
    inverse = ops.rsqrt(ops.add(ops.mean(ops.square(centred), axes, True), epsilon))
    return ops.mul(centred, inverse), mean, inverse


@operator("InstanceNormalization")
def _instance_normalization(call: Call) -> Node:
    x = call.node(0)
    wide = ops.cast(x, _stash(x.dtype))
    y, _, _ = _standardised(wide, tuple(range(2, x.rank)), call.attr("epsilon"))
    scale, bias = (per_channel(ops.cast(call.node(i), wide.dtype), x.rank) for i in (1, 2))
    return ops.cast(ops.add(ops.mul(y, scale), bias), x.dtype)


def _stash_type(call: Call, dtype: DType) -> DType:
    code = call.attr("stash_type", 1)
    found = dtype_of(code)
    if found is None or not found.is_float:
        raise call.invalid(f"stash_type={code}", "stash_type")
    # The standard's default (1, float32) names the least precision; a float64 model's statistics stay float64.
    return float64 if dtype is float64 else found


@operator("LayerNormalization")
def _layer_normalization(call: Call) -> tuple[Value, ...]:
    x, axis = call.node(0), call.axis()
    wide = ops.cast(x, _stash_type(call, x.dtype))
    if wide is x and not call.wants(1) and not call.wants(2) and key(call.shape(1)) == key(x.shape[axis:]):
        return (ops.layer_norm(x, call.node(1), call.optional(2), tuple(range(axis, x.rank)), call.attr("epsilon")),)
    y, mean, inverse = _standardised(wide, tuple(range(axis, x.rank)), call.attr("epsilon"))
    y = ops.mul(ops.cast(y, x.dtype), call.node(1))
    y = ops.add(y, call.node(2)) if call.has(2) else y
    return y, mean, inverse


@operator("RMSNormalization")
def _rms_normalization(call: Call) -> Node:
    x, axis = call.node(0), call.axis()
    wide = ops.cast(x, _stash_type(call, x.dtype))
    square = ops.mean(ops.square(wide), tuple(range(axis, x.rank)), True)
    y = ops.mul(wide, ops.rsqrt(ops.add(square, call.attr("epsilon"))))
    return ops.mul(ops.cast(y, x.dtype), call.node(1))


@operator("GroupNormalization")
def _group_normalization(call: Call) -> Node:
    x, groups = call.node(0), call.attr("num_groups")
    n, c, *rest = x.shape
    if groups < 1 or c % groups != 0:
        raise call.invalid(f"can't divide {c} channels into {groups} groups", "num_groups")
    wide = ops.cast(x, _stash_type(call, x.dtype) if call.version >= 21 else _stash(x.dtype))
    grouped = ops.reshape(wide, (n, groups, size((c // groups, *rest))))
    y = ops.reshape(_standardised(grouped, (2,), call.attr("epsilon"))[0], x.shape)
    scale, bias = (ops.cast(call.node(i), wide.dtype) for i in (1, 2))
    if call.version < 21:  # one factor a group until opset 20
        scale, bias = (
            ops.reshape(ops.broadcast_to(ops.reshape(v, (groups, 1)), (groups, c // groups)), (c,)) for v in (scale, bias)
        )
    return ops.cast(ops.add(ops.mul(y, per_channel(scale, x.rank)), per_channel(bias, x.rank)), x.dtype)


@operator("LpNormalization")
def _lp_normalization(call: Call) -> Node:
    x, axis, p = call.node(0), call.axis(), call.attr("p")
    norm = ops.sum_(ops.abs_(x), (axis,), True) if p == 1 else ops.sqrt(ops.sum_(ops.square(x), (axis,), True))
    return ops.where(ops.eq(norm, 0), ops.zeros_like(x), ops.div(x, norm))


@operator("LRN")
def _lrn(call: Call) -> Node:
    x, n = call.node(0), call.attr("size")
    # A window sum along the channels: they become the one spatial axis of a channels-last tensor with one channel.
    before, after = (n - 1) // 2, n - 1 - (n - 1) // 2
    rows = size(x.shape[2:])
    flat = ops.reshape(ops.square(x), (x.shape[0], x.shape[1], rows))
    total = ops.reshape(ops.sum_pool(flat, (n,), (1,), ((before, after),), (1,)), x.shape)
    base = ops.add(ops.mul(total, call.attr("alpha") / n), call.attr("bias"))
    return ops.div(x, ops.power(base, call.attr("beta")))


@operator("Softmax", "LogSoftmax", "Hardmax")
def _softmax(call: Call) -> Node:
    x = call.node(0)
    fn = {"Softmax": ops.softmax, "LogSoftmax": ops.log_softmax, "Hardmax": _hardmax}[call.op]
    if call.version >= 13:
        return fn(x, call.axis())
    # Before opset 13 the axes from ``axis`` on are one.
    axis = call.axis()
    flat = ops.reshape(x, (size(x.shape[:axis]), size(x.shape[axis:])))
    return ops.reshape(fn(flat, 1), x.shape)


def _hardmax(x: Node, axis: int) -> Node:
    first = ops.argmax(x, axis, True, int64)
    return ops.cast(ops.eq(ops.iota(x.shape, axis, int64), first), x.dtype)


@operator("Dropout")
def _dropout(call: Call) -> tuple[Node, ...]:
    x = call.node(0)
    if call.version < 7:
        training = not call.attr("is_test", 0)
    else:
        training = bool(call.static(2).reshape(-1)[0]) if call.has(2) else False
    ratio = call.attr("ratio") if call.version < 12 else float(call.scalar(1)) if call.has(1) else 0.5
    if training and ratio != 0:
        raise call.refuse("is in training mode; its outcome is random", "export the model for inference", "training_mode")
    return x, ops.full(x.shape, True, bool_) if call.version >= 10 else ops.ones_like(x)
