"""The functions behind the losses, with the numerics of Keras' JAX backend: probabilities are clipped at 1e-7; logits are logits only where
``from_logits`` says so.

A function maps ``y_true`` and ``y_pred``, shape (batch, ..., features), to the loss of each sample, shape (batch, ...). Everything is made of
``ops``, so that one definition serves arrays and traced training steps.
"""

from __future__ import annotations

from typing import Any

from ...runtime.dtype import as_dtype
from ...runtime.errors import ArgumentError, ShapeError
from .loss import squeeze_or_expand_to_same_rank

EPSILON = 1e-7


def _pair(y_true: Any, y_pred: Any, same_rank: bool = True) -> tuple[Any, Any]:
    from . import ops

    y_pred = ops.convert_to_tensor(y_pred)
    if not as_dtype(str(y_pred.dtype)).is_float:
        y_pred = ops.cast(y_pred, "float32")
    y_true = ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype)
    return squeeze_or_expand_to_same_rank(y_true, y_pred) if same_rank else (y_true, y_pred)


def _same_shape(what: str, y_true: Any, y_pred: Any) -> None:
    if len(y_true.shape) != len(y_pred.shape) or any(a != b for a, b in zip(y_true.shape, y_pred.shape)):
        raise ShapeError(f"{what}: y_true has shape {_text(y_true)}, y_pred has {_text(y_pred)}; they must be equal")


def _text(x: Any) -> str:
    return str(tuple(int(n) if n is not None else None for n in x.shape))


def mean_squared_error(y_true, y_pred):
    """mean((y_true - y_pred)^2) over the last axis."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred)
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def mean_absolute_error(y_true, y_pred):
    """mean(|y_true - y_pred|) over the last axis."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred)
    return ops.mean(ops.absolute(y_true - y_pred), axis=-1)


def mean_absolute_percentage_error(y_true, y_pred):
    """100 mean(|y_true - y_pred| / max(|y_true|, 1e-7))."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred)
    return 100.0 * ops.mean(ops.absolute((y_true - y_pred) / ops.maximum(ops.absolute(y_true), EPSILON)), axis=-1)


def mean_squared_logarithmic_error(y_true, y_pred):
    """mean((log(y_true + 1) - log(y_pred + 1))^2), both at least 1e-7."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred)
    a, b = (ops.log(ops.maximum(y, EPSILON) + 1.0) for y in (y_pred, y_true))
    return ops.mean(ops.square(a - b), axis=-1)


def _normalize(x: Any, axis: int) -> Any:
    from . import ops

    return x * ops.minimum(ops.rsqrt(ops.sum(ops.square(x), axis=axis, keepdims=True)), 1.0 / EPSILON)


def cosine_similarity(y_true, y_pred, axis=-1):
    """Minus the cosine of the angle between the two along ``axis``."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred)
    return -ops.sum(_normalize(y_true, axis) * _normalize(y_pred, axis), axis=axis)


def huber(y_true, y_pred, delta=1.0):
    """Quadratic for errors up to ``delta``, linear beyond."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred)
    error = y_pred - y_true
    size = ops.absolute(error)
    return ops.mean(ops.where(size <= delta, 0.5 * ops.square(error), delta * size - 0.5 * delta * delta), axis=-1)


def log_cosh(y_true, y_pred):
    """mean(log(cosh(y_pred - y_true)))."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred)
    x = y_pred - y_true
    return ops.mean(x + ops.softplus(x * -2.0) - 0.6931471805599453, axis=-1)


def kl_divergence(y_true, y_pred):
    """sum(y_true log(y_true / y_pred)), both clipped to [1e-7, 1]."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    y_true, y_pred = ops.clip(y_true, EPSILON, 1.0), ops.clip(y_pred, EPSILON, 1.0)
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


def poisson(y_true, y_pred):
    """mean(y_pred - y_true log(y_pred + 1e-7))."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    return ops.mean(y_pred - y_true * ops.log(y_pred + EPSILON), axis=-1)


def _signs(y_true: Any) -> Any:
    """Labels 0 and 1 become -1 and 1, if all labels are 0 or 1."""
    from . import ops

    binary = ops.all(ops.logical_or(ops.equal(y_true, 0), ops.equal(y_true, 1)))
    return ops.where(binary, 2.0 * y_true - 1.0, y_true)


def hinge(y_true, y_pred):
    """mean(max(1 - y_true y_pred, 0)), labels -1 and 1 (or 0 and 1)."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    return ops.mean(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0), axis=-1)


def squared_hinge(y_true, y_pred):
    """mean(max(1 - y_true y_pred, 0)^2), labels -1 and 1 (or 0 and 1)."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    return ops.mean(ops.square(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0)), axis=-1)


def categorical_hinge(y_true, y_pred):
    """max(largest wrong score - right score + 1, 0), y_true one-hot."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    right = ops.sum(y_true * y_pred, axis=-1)
    wrong = ops.max((1.0 - y_true) * y_pred, axis=-1)
    return ops.maximum(wrong - right + 1.0, 0.0)


def _log_probabilities(y_pred: Any, from_logits: bool, axis: int) -> Any:
    from . import ops

    if from_logits:
        return ops.log_softmax(y_pred, axis=axis)
    y_pred = y_pred / ops.sum(y_pred, axis=axis, keepdims=True)
    return ops.log(ops.clip(y_pred, EPSILON, 1.0 - EPSILON))


def _smooth(y_true: Any, label_smoothing: float, classes: Any) -> Any:
    return y_true * (1.0 - label_smoothing) + label_smoothing / classes if label_smoothing else y_true


def _check_axis(axis: Any) -> None:
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise ArgumentError(f"axis must be an int, got {axis!r}")


def categorical_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """-sum(y_true log(y_pred)) along ``axis``; y_true one-hot or probabilities, of y_pred's shape."""
    from . import ops

    _check_axis(axis)
    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    _same_shape(
        "categorical_crossentropy (labels are one-hot; for integer labels use sparse_categorical_crossentropy)", y_true, y_pred
    )
    y_true = _smooth(y_true, label_smoothing, y_true.shape[-1])
    return -ops.sum(y_true * _log_probabilities(y_pred, from_logits, axis), axis=axis)


def sparse_categorical_crossentropy(y_true, y_pred, from_logits=False, ignore_class=None, axis=-1):
    """-log(y_pred[y_true]) along ``axis``; y_true holds class numbers, shape of y_pred without ``axis`` (or with size 1
    there).
    """
    from . import ops

    _check_axis(axis)
    y_pred = ops.convert_to_tensor(y_pred)
    labels = ops.convert_to_tensor(y_true)
    if len(labels.shape) == len(y_pred.shape) and labels.shape[axis] == 1:
        labels = ops.squeeze(labels, axis=axis)
    rest = [n for i, n in enumerate(y_pred.shape) if i != axis % len(y_pred.shape)]
    if len(labels.shape) != len(rest) or any(a != b for a, b in zip(labels.shape, rest)):
        raise ShapeError(
            f"sparse_categorical_crossentropy: labels have shape {_text(labels)}, predictions {_text(y_pred)}; the labels need the "
            "predictions' shape without the class axis (for one-hot labels use categorical_crossentropy)"
        )
    valid = None
    if ignore_class is not None:
        valid = ops.not_equal(labels, ops.cast(ignore_class, labels.dtype))
        labels = ops.where(valid, labels, ops.zeros_like(labels))
        y_pred = ops.where(ops.expand_dims(valid, axis), y_pred, ops.zeros_like(y_pred))
    onehot = ops.one_hot(ops.cast(labels, "int32"), y_pred.shape[axis], axis=axis, dtype=y_pred.dtype)
    loss = -ops.sum(onehot * _log_probabilities(y_pred, from_logits, axis), axis=axis)
    if valid is not None:
        loss = ops.where(valid, loss, ops.zeros_like(loss))
        loss._keras_mask = valid
    return loss


def _binary_crossentropy(y_true: Any, y_pred: Any, from_logits: bool) -> Any:
    from . import ops

    if from_logits:
        return -1.0 * y_true * ops.log_sigmoid(y_pred) - (1.0 - y_true) * ops.log_sigmoid(-y_pred)
    y_pred = ops.clip(y_pred, EPSILON, 1.0 - EPSILON)
    return -(y_true * ops.log(y_pred) + (1.0 - y_true) * ops.log(1.0 - y_pred))


def binary_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """mean(-y_true log(y_pred) - (1 - y_true) log(1 - y_pred)) along ``axis``; y_true in [0, 1], of y_pred's shape."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    _same_shape("binary_crossentropy", y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, 2)
    return ops.mean(_binary_crossentropy(y_true, y_pred, from_logits), axis=axis)


def binary_focal_crossentropy(
    y_true, y_pred, apply_class_balancing=False, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1
):
    """Binary cross-entropy times (1 - p of the right class)^gamma (Lin et al., 2018)."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    _same_shape("binary_focal_crossentropy", y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, 2)
    if from_logits:
        y_pred = ops.sigmoid(y_pred)
    loss = _binary_crossentropy(y_true, y_pred, False)
    right = y_true * y_pred + (1.0 - y_true) * (1.0 - y_pred)
    loss = ops.power(1.0 - right, gamma) * loss
    if apply_class_balancing:
        loss = (y_true * alpha + (1.0 - y_true) * (1.0 - alpha)) * loss
    return ops.mean(loss, axis=axis)


def categorical_focal_crossentropy(y_true, y_pred, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1):
    """Categorical cross-entropy, each class weighted by alpha (1 - p)^gamma (Lin et al., 2018)."""
    from . import ops

    _check_axis(axis)
    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    _same_shape("categorical_focal_crossentropy", y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, y_true.shape[-1])
    if from_logits:
        y_pred = ops.softmax(y_pred, axis=axis)
    p = ops.clip(y_pred / ops.sum(y_pred, axis=axis, keepdims=True), EPSILON, 1.0 - EPSILON)
    return ops.sum(ops.power(1.0 - p, gamma) * alpha * (-y_true * ops.log(p)), axis=axis)


def categorical_generalized_cross_entropy(y_true, y_pred, q):
    """(1 - p^q) / q with p the probability of the right class; y_true holds class numbers (Zhang and Sabuncu, 2018)."""
    from . import ops

    y_pred = ops.convert_to_tensor(y_pred)
    onehot = ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
    return (1.0 - ops.power(ops.sum(y_pred * onehot, axis=-1), q)) / q


def dice(y_true, y_pred, axis=None):
    """1 - 2 |A B| / (|A| + |B|), sums over ``axis`` (all axes by default, the batch too)."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    common = ops.sum(y_true * y_pred, axis=axis)
    return 1.0 - 2.0 * common / (ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis) + EPSILON)


def tversky(y_true, y_pred, alpha=0.5, beta=0.5, axis=None):
    """1 - TP / (TP + alpha FP + beta FN), sums over ``axis`` (all axes by default, the batch too)."""
    from . import ops

    y_true, y_pred = _pair(y_true, y_pred, same_rank=False)
    common = ops.sum(y_true * y_pred, axis=axis)
    fp = ops.sum((1.0 - y_pred) * y_true, axis=axis)  # Keras' naming; alpha weighs this sum
    fn = ops.sum(y_pred * (1.0 - y_true), axis=axis)
    return 1.0 - common / (common + fp * alpha + fn * beta + EPSILON)
