"""Functions of ``ops`` for networks: activations, normalisation, encodings, losses on tensors, attention."""

from __future__ import annotations

from typing import Any

from ....compiler import ops as F
from ....compiler.ops.lift import common_dtype, operands
from ....runtime.dtype import as_dtype
from ....runtime.errors import ArgumentError, ShapeError
from .. import config
from ..tensor import known_shape
from .arithmetic import floating
from .define import operation

NN = "keras.src.ops.nn"


def _linear_between(x: Any, low: float, high: float) -> Any:
    return F.clip(x, low, high)


@operation(NN)
def relu(x: Any) -> Any:
    return F.relu(x)


@operation(NN, name="Relu6")
def relu6(x: Any) -> Any:
    return F.clip(x, 0, 6)


@operation(NN)
def sigmoid(x: Any) -> Any:
    return F.sigmoid(floating(x))


@operation(NN)
def sparse_sigmoid(x: Any) -> Any:
    return F.mul(F.clip(F.add(floating(x), 1.0), 0.0, 2.0), 0.5)


@operation(NN)
def softplus(x: Any) -> Any:
    return F.softplus(floating(x))


@operation(NN)
def softsign(x: Any) -> Any:
    x = floating(x)
    return F.div(x, F.add(F.abs_(x), 1.0))


@operation(NN)
def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    x = floating(x)
    return F.where(F.gt(x, threshold), F.sub(x, threshold), F.where(F.lt(x, -threshold), F.add(x, threshold), 0.0))


@operation(NN)
def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    x = floating(x)
    return F.where(F.gt(F.abs_(x), threshold), x, 0.0)


@operation(NN)
def tanh_shrink(x: Any) -> Any:
    x = floating(x)
    return F.sub(x, F.tanh(x))


@operation(NN)
def sparse_plus(x: Any) -> Any:
    x = floating(x)
    return F.where(F.le(x, -1.0), 0.0, F.where(F.ge(x, 1.0), x, F.mul(F.square(F.add(x, 1.0)), 0.25)))


@operation(NN)
def silu(x: Any) -> Any:
    return F.silu(floating(x))


@operation(NN)
def squareplus(x: Any, b: float = 4) -> Any:
    x = floating(x)
    return F.mul(F.add(x, F.sqrt(F.add(F.square(x), float(b)))), 0.5)


@operation(NN)
def log_sigmoid(x: Any) -> Any:
    return F.neg(F.softplus(F.neg(floating(x))))


@operation(NN)
def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    x = floating(x)
    return F.where(F.ge(x, 0.0), x, F.mul(x, float(negative_slope)))


@operation(NN)
def hard_sigmoid(x: Any) -> Any:
    return F.mul(F.clip(F.add(floating(x), 3.0), 0.0, 6.0), 1.0 / 6.0)


@operation(NN)
def hard_silu(x: Any) -> Any:
    x = floating(x)
    return F.mul(x, hard_sigmoid.operation.body(x))


@operation(NN)
def hard_tanh(x: Any) -> Any:
    return F.clip(floating(x), -1.0, 1.0)


def _exp_below(x: Any, scale: float) -> Any:
    """exp(x / scale) - 1 for x <= 0; the argument is kept from overflowing where the other branch is taken."""
    return F.expm1(F.div(F.minimum(x, 0.0), float(scale)))


@operation(NN)
def elu(x: Any, alpha: float = 1.0) -> Any:
    x = floating(x)
    return F.where(F.gt(x, 0.0), x, F.mul(_exp_below(x, 1.0), float(alpha)))


@operation(NN)
def celu(x: Any, alpha: float = 1.0) -> Any:
    x = floating(x)
    return F.add(F.maximum(x, 0.0), F.mul(_exp_below(x, alpha), float(alpha)))


@operation(NN)
def selu(x: Any) -> Any:
    x = floating(x)
    return F.mul(F.where(F.gt(x, 0.0), x, F.mul(_exp_below(x, 1.0), 1.6732632423543772848170429916717)), 1.0507009873554804934193349852946)


@operation(NN)
def gelu(x: Any, approximate: bool = True) -> Any:
    return F.gelu(floating(x), approximate)


@operation(NN)
def glu(x: Any, axis: int = -1) -> Any:
    x = floating(x)
    if x.shape[axis] % 2 != 0:
        raise ShapeError(f"ops.glu halves axis {axis}, whose size {x.shape[axis]} is odd")
    a, b = F.split(x, 2, axis)
    return F.mul(a, F.sigmoid(b))


@operation(NN)
def threshold(x: Any, threshold: float, default_value: float) -> Any:
    x = floating(x)
    return F.where(F.gt(x, threshold), x, default_value)


@operation(NN)
def softmax(x: Any, axis: Any = -1) -> Any:
    return F.softmax(floating(x), axis if isinstance(axis, int) or axis is None else tuple(axis))


@operation(NN)
def log_softmax(x: Any, axis: Any = -1) -> Any:
    return F.log_softmax(floating(x), axis if isinstance(axis, int) else tuple(axis))


@operation(NN)
def sparsemax(x: Any, axis: int = -1) -> Any:
    """Keras' sparsemax (after Martins and Astudillo 2016, but its threshold adds up the running sums of the support, where theirs takes the last).
    An element's rank and running sum come from comparing all pairs, without sorting."""
    x = floating(x)
    axis = axis % x.rank
    last = [i for i in range(x.rank) if i != axis] + [axis]
    z = F.transpose(x, last)
    mine, others = F.expand_dims(z, z.rank), F.expand_dims(z, z.rank - 1)
    n = z.shape[-1]
    earlier = F.le(F.iota((n, n), 1), F.iota((n, n), 0))  # equal elements stand in their own order
    above = F.cast(F.logical_or(F.gt(others, mine), F.logical_and(F.eq(others, mine), earlier)), z.dtype)
    rank, running = F.sum_(above, -1), F.sum_(F.mul(above, others), -1)
    support = F.cast(F.gt(F.sub(z, F.div(F.sub(running, 1.0), rank)), 0.0), z.dtype)
    tau = F.div(F.sub(F.sum_(F.mul(support, running), -1, True), 1.0), F.sum_(support, -1, True))
    out = F.relu(F.sub(z, tau))
    return F.transpose(out, [last.index(i) for i in range(x.rank)])


@operation(NN)
def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False) -> Any:
    x = F.constant(x)
    x = x if x.dtype.is_int else F.cast(x, as_dtype("int32"))
    return F.one_hot(x, num_classes, as_dtype(dtype or config.floatx()), axis)


@operation(NN)
def multi_hot(inputs: Any, num_classes: int | None = None, axis: int = -1, dtype: Any = None, sparse: bool = False) -> Any:
    """1 at every class that the rows name."""
    x = F.constant(inputs)
    hot = one_hot.operation.body(x, num_classes, axis, dtype)
    return F.max_(hot, 1 if x.rank > 1 else 0) if axis == -1 else F.max_(hot, x.rank - 1 if x.rank > 1 else 0)


@operation(NN, ("x", "mean", "variance", "offset", "scale"), name="BatchNorm")
def batch_normalization(x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * scale + offset`` along ``axis``."""
    x = F.constant(x)
    shape = [1] * x.rank
    shape[axis] = x.shape[axis]
    inverse = F.rsqrt(F.add(F.reshape(variance, shape), float(epsilon)))
    if scale is not None:
        inverse = F.mul(inverse, F.reshape(scale, shape))
    shift = F.mul(F.neg(F.reshape(mean, shape)), inverse)
    if offset is not None:
        shift = F.add(shift, F.reshape(offset, shape))
    return F.add(F.mul(x, inverse), shift)


@operation(NN, 3, name="LayerNorm")
def layer_normalization(x: Any, gamma: Any = None, beta: Any = None, axis: Any = -1, epsilon: float | None = None, rms_scaling: bool = False) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta`` over ``axis``; at least in float32."""
    x = floating(x)
    dtype = x.dtype
    x = F.cast(x, common_dtype(x, F.zeros((), "float32")))
    axes = sorted(a % x.rank for a in ([axis] if isinstance(axis, int) else axis))
    epsilon = config.epsilon() if epsilon is None else float(epsilon)

    def scaled(v: Any) -> Any:
        if v is None:
            return None
        v = F.cast(v, x.dtype)
        return v if v.rank == len(axes) else F.reshape(v, [x.shape[a] for a in axes])

    if rms_scaling:
        out = F.mul(x, F.rsqrt(F.add(F.var(x, axes, True), epsilon)))
        if gamma is not None:
            out = F.mul(out, F.reshape(F.cast(gamma, x.dtype), [x.shape[i] if i in axes else 1 for i in range(x.rank)]))
        return F.cast(out, dtype)
    return F.cast(F.layer_norm(x, scaled(gamma), scaled(beta), tuple(axes), epsilon), dtype)


@operation(NN, 2, name="RMSNorm")
def rms_normalization(x: Any, scale: Any = None, axis: Any = -1, epsilon: float | None = None) -> Any:
    """``x / sqrt(mean(x^2) + epsilon) * scale`` over ``axis``."""
    x = floating(x)
    dtype = x.dtype
    x = F.cast(x, common_dtype(x, F.zeros((), "float32")))
    axes = [axis] if isinstance(axis, int) else list(axis)
    epsilon = config.epsilon() if epsilon is None else float(epsilon)
    out = F.mul(x, F.rsqrt(F.add(F.mean(F.square(x), axes, True), epsilon)))
    if scale is not None:
        axes = sorted(a % x.rank for a in axes)
        out = F.mul(out, F.reshape(F.cast(scale, x.dtype), [x.shape[i] if i in axes else 1 for i in range(x.rank)]))
    return F.cast(out, dtype)


def _same_shapes(name: str, target: Any, output: Any) -> None:
    if target.rank != output.rank or any(a != b for a, b in zip(target.shape, output.shape)):
        raise ShapeError(f"ops.{name}: target has shape {known_shape(target.shape)}, output has {known_shape(output.shape)}; they must be equal")


def _log_probabilities(output: Any, from_logits: bool, axis: int) -> Any:
    if from_logits:
        return F.log_softmax(output, axis)
    epsilon = config.epsilon()
    return F.log(F.clip(F.div(output, F.sum_(output, axis, True)), epsilon, 1.0 - epsilon))


@operation(NN, 2)
def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    output = floating(output)
    target = F.cast(target, output.dtype)
    _same_shapes("categorical_crossentropy", target, output)
    return F.neg(F.sum_(F.mul(target, _log_probabilities(output, from_logits, axis)), axis))


@operation(NN, 2)
def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    output, target = floating(output), F.cast(target, as_dtype("int32"))
    if target.rank == output.rank and target.shape[-1] == 1:
        target = F.squeeze(target, -1)
    if target.rank != output.rank - 1 or any(a != b for a, b in zip(target.shape, output.shape[:-1])):
        raise ShapeError(f"ops.sparse_categorical_crossentropy: target has shape {known_shape(target.shape)}, output has {known_shape(output.shape)}; "
                         "they must agree but for output's last axis, the classes")
    log_p = _log_probabilities(output, from_logits, axis)
    return F.neg(F.sum_(F.mul(F.one_hot(target, output.shape[axis], log_p.dtype, axis), log_p), axis))


@operation(NN, 2)
def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    output = floating(output)
    target = F.cast(target, output.dtype)
    _same_shapes("binary_crossentropy", target, output)
    if from_logits:
        # -t log s(x) - (1 - t) log s(-x)
        return F.add(F.mul(target, F.softplus(F.neg(output))), F.mul(F.sub(1.0, target), F.softplus(output)))
    epsilon = config.epsilon()
    p = F.clip(output, epsilon, 1.0 - epsilon)
    return F.neg(F.add(F.mul(target, F.log(p)), F.mul(F.sub(1.0, target), F.log(F.sub(1.0, p)))))


@operation(NN, ("query", "key", "value", "bias", "mask"))
def dot_product_attention(query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, scale: float | None = None, is_causal: bool = False,
                          flash_attention: bool | None = None, attn_logits_soft_cap: float | None = None) -> Any:
    """Attention over (batch, time, heads, dim) tensors; key and value may have fewer heads (grouped queries)."""
    q, k, v = operands("dot_product_attention", floating(query), floating(key), floating(value))
    for name, x in (("query", q), ("key", k), ("value", v)):
        if x.rank != 4:
            raise ShapeError(f"ops.dot_product_attention: {name} must have shape (batch, time, heads, dim), got {known_shape(x.shape)}")
    return F.attention(q, k, v, bias, mask, scale, is_causal, soft_cap=attn_logits_soft_cap or 0.0)


@operation("keras.src.ops.math", 2)
def in_top_k(targets: Any, predictions: Any, k: int) -> Any:
    """Whether fewer than k predictions of the row exceed the target's (ties count for the target)."""
    targets, predictions = F.cast(targets, as_dtype("int32")), F.constant(predictions)
    mine = F.take_along_axis(predictions, F.expand_dims(targets, 1), 1)
    above = F.sum_(F.cast(F.gt(predictions, mine), as_dtype("int32")), 1)
    return F.logical_and(F.lt(above, k), F.isfinite(F.squeeze(mine, 1)))


swish, hard_swish = silu, hard_silu


def check_rate(rate: float, owner: str) -> float:
    if not 0 <= rate <= 1:
        raise ArgumentError(f"{owner}: rate must be in [0, 1], got {rate}")
    return rate


__all__ = [
    "batch_normalization", "binary_crossentropy", "categorical_crossentropy", "celu", "dot_product_attention", "elu", "gelu", "glu",
    "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "in_top_k", "layer_normalization", "leaky_relu", "log_sigmoid",
    "log_softmax", "multi_hot", "one_hot", "relu", "relu6", "rms_normalization", "selu", "sigmoid", "silu", "soft_shrink", "softmax",
    "softplus", "softsign", "sparse_categorical_crossentropy", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish",
    "tanh_shrink", "threshold",
]
