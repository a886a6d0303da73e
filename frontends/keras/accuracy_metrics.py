"""Accuracies: Keras 3's functions (a value per sample) and metrics (their mean)."""

from __future__ import annotations

from typing import Any

from .loss import squeeze_or_expand_to_same_rank
from .metric import MeanMetricWrapper


def _as_float(matches: Any) -> Any:
    from . import ops

    return ops.cast(matches, "float32")


def accuracy(y_true, y_pred):
    """1 where y_true equals y_pred, else 0."""
    from . import ops

    y_pred = ops.convert_to_tensor(y_pred)
    y_true, y_pred = squeeze_or_expand_to_same_rank(ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype), y_pred)
    return _as_float(ops.equal(y_true, y_pred))


def binary_accuracy(y_true, y_pred, threshold=0.5):
    """1 where ``y_pred > threshold`` says what y_true (0 or 1) says."""
    from . import ops

    y_true, y_pred = squeeze_or_expand_to_same_rank(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred))
    return _as_float(ops.equal(y_true, ops.cast(y_pred > threshold, y_true.dtype)))


def categorical_accuracy(y_true, y_pred):
    """1 where the largest entries of y_true (one-hot) and y_pred are at the same place."""
    from . import ops

    return _as_float(
        ops.equal(ops.argmax(ops.convert_to_tensor(y_true), axis=-1), ops.argmax(ops.convert_to_tensor(y_pred), axis=-1))
    )


def sparse_categorical_accuracy(y_true, y_pred):
    """1 where the largest entry of y_pred is number y_true."""
    from . import ops

    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, -1)
    matches = _as_float(ops.equal(ops.cast(y_true, "int32"), ops.cast(ops.argmax(y_pred, axis=-1), "int32")))
    return ops.squeeze(matches, -1) if len(matches.shape) > 1 and matches.shape[-1] == 1 else matches


def _in_top_k(labels: Any, y_pred: Any, k: int) -> Any:
    """Whether fewer than ``k`` entries are larger than the label's (so that ties count as in; a label that is no class never
    is).
    """
    from . import ops

    classes = y_pred.shape[-1]
    own = ops.sum(ops.one_hot(labels, classes, dtype=y_pred.dtype) * y_pred, axis=-1, keepdims=True)
    ahead = ops.sum(ops.cast(y_pred > own, "int32"), axis=-1)
    known = ops.logical_and(labels >= 0, labels < classes)
    return ops.logical_and(ops.logical_and(ahead < k, known), ops.isfinite(ops.squeeze(own, -1)))


def top_k_categorical_accuracy(y_true, y_pred, k=5):
    """1 where the largest entry of y_true is among the ``k`` largest of y_pred."""
    from . import ops

    return sparse_top_k_categorical_accuracy(ops.argmax(ops.convert_to_tensor(y_true), axis=-1), y_pred, k)


def sparse_top_k_categorical_accuracy(y_true, y_pred, k=5, from_sorted_ids=False):
    """1 where entry number y_true is among the ``k`` largest of y_pred (or, from_sorted_ids, where y_true is among y_pred's first
    k ids).
    """
    from . import ops

    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    if len(y_true.shape) == len(y_pred.shape):
        y_true = ops.squeeze(y_true, -1)
    if from_sorted_ids:
        first = y_pred[..., : min(int(k), y_pred.shape[-1])]
        return _as_float(ops.any(ops.equal(ops.expand_dims(ops.cast(y_true, y_pred.dtype), -1), first), axis=-1))
    return _as_float(_in_top_k(ops.cast(y_true, "int32"), y_pred, k))


class Accuracy(MeanMetricWrapper):
    def __init__(self, name="accuracy", dtype=None):
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    def __init__(self, name="binary_accuracy", dtype=None, threshold=0.5):
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)
        self.threshold = threshold


class CategoricalAccuracy(MeanMetricWrapper):
    def __init__(self, name="categorical_accuracy", dtype=None):
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    def __init__(self, name="sparse_categorical_accuracy", dtype=None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    def __init__(self, k=5, name="top_k_categorical_accuracy", dtype=None):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)
        self.k = k


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    def __init__(self, k=5, name="sparse_top_k_categorical_accuracy", dtype=None, from_sorted_ids=False):
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids)
        self.k, self.from_sorted_ids = k, from_sorted_ids
