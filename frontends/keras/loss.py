"""The base of losses: values per sample, weighted, then reduced. The order of operations is Keras 3's, so results agree to
rounding.
"""

from __future__ import annotations

from typing import Any

from ...runtime.errors import ArgumentError, ShapeError
from .naming import auto_name
from .structure import flatten
from .tensor import known_shape

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)


def squeeze_or_expand_to_same_rank(a: Any, b: Any) -> tuple[Any, Any]:
    """``(N, 1)`` and ``(N,)`` brought to one rank; anything else is left to broadcasting."""
    from . import ops

    ra, rb = len(a.shape), len(b.shape)
    if ra == rb + 1 and a.shape[-1] == 1:
        if rb == 1:
            b = ops.expand_dims(b, -1)
        else:
            a = ops.squeeze(a, -1)
    elif rb == ra + 1 and b.shape[-1] == 1:
        if ra == 1:
            a = ops.expand_dims(a, -1)
        else:
            b = ops.squeeze(b, -1)
    return a, b


def divide_no_nan(a: Any, b: Any) -> Any:
    """a / b, and 0 where b is 0 (also in the derivative)."""
    from . import ops

    zero = ops.equal(b, 0)
    return ops.where(zero, ops.zeros_like(a), a / ops.where(zero, ops.ones_like(b), b))


def mask_of(x: Any) -> Any:
    """The mask that layers attached to a tensor, or None."""
    return getattr(x, "_keras_mask", None)


def masked_weight(sample_weight: Any, mask: Any, dtype: Any, reduction: str | None) -> Any:
    """``sample_weight`` and a mask as one weight; a mean is then over the samples that are not masked."""
    from . import ops

    if mask is None:
        return sample_weight
    weight = ops.cast(mask, dtype)
    if reduction in ("mean", "sum_over_batch_size"):
        weight = weight * divide_no_nan(ops.ones((), dtype=dtype), ops.mean(weight))
    if sample_weight is None:
        return weight
    weight, sample_weight = squeeze_or_expand_to_same_rank(weight, ops.cast(sample_weight, dtype))
    return sample_weight * weight


def reduce_weighted_values(
    values: Any, sample_weight: Any = None, mask: Any = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None
) -> Any:
    """``values`` times weights, reduced. A mean divides by the number of values, not by the sum of the weights (as in Keras)."""
    from . import ops

    values = ops.convert_to_tensor(values, dtype=dtype)
    weight = masked_weight(sample_weight, mask, values.dtype, reduction)
    if weight is not None:
        weight = ops.cast(ops.convert_to_tensor(weight), values.dtype)
        values, weight = squeeze_or_expand_to_same_rank(values, weight)
        values = values * weight
    if reduction in (None, "none") or len(values.shape) == 0:
        return values
    if reduction == "sum":
        return ops.sum(values)
    if reduction == "mean_with_sample_weight" and weight is not None:
        return divide_no_nan(ops.sum(values), ops.sum(weight))
    return ops.mean(values)


class Loss:
    """Base class: subclasses define ``call(y_true, y_pred)``, the loss of each sample, shape (batch, ...)."""

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None):
        if reduction not in REDUCTIONS:
            raise ArgumentError(f"{type(self).__name__}: reduction is one of {REDUCTIONS}, not {reduction!r}")
        self.name = name or auto_name(type(self).__name__)
        self.reduction = reduction
        self._dtype = getattr(dtype, "compute_dtype", dtype)

    @property
    def dtype(self) -> str:
        from ...runtime.dtype import as_dtype

        return str(as_dtype(self._dtype)) if self._dtype is not None else "float32"

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        from . import ops

        mask = mask_of(y_pred)
        y_pred = _cast_all(y_pred, self.dtype)
        try:
            losses = self.call(_cast_all(y_true, self.dtype), y_pred)
        except ShapeError as e:
            raise ShapeError(f"loss '{self.name}': labels of shape {_shapes(y_true)} don't fit predictions of shape {_shapes(y_pred)} ({e})") from e
        own = mask_of(losses)
        if own is not None:
            mask = own if mask is None else ops.logical_and(mask, own)
        return reduce_weighted_values(losses, sample_weight, mask, self.reduction, self.dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define call(y_true, y_pred)")

    def get_config(self) -> dict:
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: dict) -> Loss:
        return cls(**config)


def _cast_all(x: Any, dtype: str) -> Any:
    from . import ops

    if isinstance(x, dict):
        return {k: _cast_all(v, dtype) for k, v in x.items()}
    if isinstance(x, (list, tuple)) and any(hasattr(v, "shape") and len(v.shape) for v in x):
        return type(x)([_cast_all(v, dtype) for v in x])
    return ops.cast(ops.convert_to_tensor(x), dtype)


def _shapes(x: Any) -> str:
    return ", ".join([str(known_shape(tuple(v.shape))) for v in flatten(x) if hasattr(v, "shape")]) or repr(x)
