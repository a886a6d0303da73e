"""Penalties on weights, added to the loss: names, arguments and values are Keras 3's."""

from __future__ import annotations

import math
from typing import Any

from ...runtime.errors import ArgumentError, ShapeError


def _coefficient(owner: str, name: str, value: Any, default: float) -> float:
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ArgumentError(f"{owner}: {name} must be a finite number >= 0, got {value!r}")
    return float(value)


class Regularizer:
    """Base class: ``regularizer(weight)`` gives a scalar tensor."""

    def __call__(self, x: Any) -> Any:
        return 0.0

    @classmethod
    def from_config(cls, config: dict) -> Regularizer:
        return cls(**config)

    def get_config(self) -> dict:
        raise NotImplementedError(f"{type(self).__name__} must define get_config() to be saved")


class L1L2(Regularizer):
    """``l1 * sum(|w|) + l2 * sum(w^2)``."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1, self.l2 = _coefficient("L1L2", "l1", l1, 0.0), _coefficient("L1L2", "l2", l2, 0.0)

    def __call__(self, x: Any) -> Any:
        from . import ops

        terms = []
        if self.l1:
            terms.append(self.l1 * ops.sum(ops.absolute(x)))
        if self.l2:
            terms.append(self.l2 * ops.sum(ops.square(x)))
        return 0.0 if not terms else terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def get_config(self) -> dict:
        return {"l1": self.l1, "l2": self.l2}


class L1(L1L2):
    """``l1 * sum(|w|)``."""

    def __init__(self, l1: float = 0.01):
        super().__init__(_coefficient("L1", "l1", l1, 0.01), 0.0)

    def get_config(self) -> dict:
        return {"l1": self.l1}


class L2(L1L2):
    """``l2 * sum(w^2)``."""

    def __init__(self, l2: float = 0.01):
        super().__init__(0.0, _coefficient("L2", "l2", l2, 0.01))

    def get_config(self) -> dict:
        return {"l2": self.l2}


class OrthogonalRegularizer(Regularizer):
    """Mean absolute cosine between pairs of the matrix' rows (or columns), times ``factor``."""

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        if mode not in ("rows", "columns"):
            raise ArgumentError(f"OrthogonalRegularizer: mode is 'rows' or 'columns', not {mode!r}")
        self.factor, self.mode = _coefficient("OrthogonalRegularizer", "factor", factor, 0.01), mode

    def __call__(self, x: Any) -> Any:
        from . import ops

        if len(x.shape) != 2:
            raise ShapeError(f"OrthogonalRegularizer needs a matrix, got shape {tuple(x.shape)}")
        rows = x if self.mode == "rows" else ops.transpose(x)
        norm = ops.sqrt(ops.maximum(ops.sum(ops.square(rows), axis=1, keepdims=True), 1e-12))
        rows = rows / norm
        n = rows.shape[0]
        product = ops.matmul(rows, ops.transpose(rows)) * (1.0 - ops.eye(n, dtype=rows.dtype))
        return self.factor * 0.5 * ops.sum(ops.absolute(product)) / (n * (n - 1.0) / 2.0)

    def get_config(self) -> dict:
        return {"factor": self.factor, "mode": self.mode}


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer
CLASSES: dict[str, type[Regularizer]] = {c.__name__: c for c in (L1, L2, L1L2, OrthogonalRegularizer)}
ALIASES: dict[str, type[Regularizer]] = {
    "l1": L1,
    "l2": L2,
    "l1_l2": L1L2,
    "l1l2": L1L2,
    "orthogonal_regularizer": OrthogonalRegularizer,
}

__all__ = ["Regularizer", "deserialize", "get", "l1", "l1_l2", "l2", "orthogonal_regularizer", "serialize", *CLASSES]


def serialize(regularizer: Any) -> Any:
    from .serialization import serialize_keras_object

    return serialize_keras_object(regularizer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    from .serialization import deserialize_keras_object

    return deserialize_keras_object(config, custom_objects=custom_objects)


def get(identifier: Any) -> Any:
    """A regularizer from a name, a config dict, a class or a callable; None stays None."""
    from .serialization import from_identifier

    return from_identifier("regularizer", identifier, "a name such as 'l2', a Regularizer or a callable of the weight", CLASSES, ALIASES)
