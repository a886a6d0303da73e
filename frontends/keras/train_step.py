"""The compiled steps of a model: training (forward, loss, gradients, optimizer, metrics in one graph), evaluation, prediction.

Each is an executable for one structure, rank and dtype of data; the batch axis, and every axis that the model leaves open, is a
free dimension. Variables
that a step assigns (weights, optimizer slots, metric state, seed counters, moving statistics) are donated: updated in place,
never copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...compiler import ops as F
from ...compiler import pipeline
from ...runtime.dtype import as_dtype, float32
from ...runtime.errors import ArgumentError, GradientError
from .structure import flatten, is_nested, map_structure, pack_as
from .tensor import Tensor
from .trace import ArgSpec, compile_function, current_scope


def batch_count(x: Any) -> Tensor:
    """The number of samples, float32 of shape (1,): the weight of a batch in a mean over batches."""
    return Tensor(F.reshape(F.sum_(F.ones((flatten(x)[0].shape[0],), float32)), (1,)))


def signature(parts: tuple) -> tuple:
    """What an executable is specific to: shapes without the batch, and dtypes."""
    return tuple(
        [None if part is None else (structure_key(part), *[(a.shape[1:], a.dtype.num) for a in flatten(part)]) for part in parts]
    )


def structure_key(x: Any) -> Any:
    if not is_nested(x):
        return None
    if isinstance(x, dict):
        return tuple((k, structure_key(v)) for k, v in sorted(x.items()))
    return tuple(map(structure_key, x))


def specs(model: Any, parts: tuple) -> tuple:
    """Argument specifications of (x, y, sample_weight), the parts that are None left out."""
    out = []
    open_axes = [tuple(t.shape) for t in flatten(getattr(model, "inputs", None) or [])]
    for letter, part in zip(("x", "y", "sample_weight"), parts):
        if part is None:
            continue
        leaves = flatten(part)
        named = []
        for i, a in enumerate(leaves):
            name = letter if len(leaves) == 1 else f"{letter}_{i}"
            known = open_axes[i] if letter == "x" and len(open_axes) == len(leaves) and len(open_axes[i]) == a.ndim else None
            rest = [f"{name}_{j}" if known is not None and known[j] is None else int(n) for j, n in enumerate(a.shape) if j > 0]
            named.append(ArgSpec(("batch", *rest), as_dtype(a.dtype).name, name))
        out.append(pack_as(part, named))
    return tuple(out)


def sizes(model: Any, parts: tuple) -> dict[str, int]:
    """The sizes of the free dimensions in this batch."""
    given: dict[str, int] = {}
    arrays = [a for part in parts if part is not None for a in flatten(part)]
    for spec, a in zip(flatten(specs(model, parts)), arrays):
        for d, n in zip(spec.shape, a.shape):
            if isinstance(d, str):
                given.setdefault(d, n)
    return given


def _arguments(args: tuple, parts: tuple) -> list:
    given = iter(args)
    return [None if part is None else next(given) for part in parts]


def _compile(model: Any, fn: Callable, parts: tuple, name: str, unflatten: Callable) -> Callable:
    present = tuple(None if p is None else True for p in parts)
    return compile_function(
        lambda *args: fn(*_arguments(args, present)),
        specs(model, parts),
        name=f"{model.name}_{name}",
        sizes=sizes(model, parts),
        unflatten=unflatten,
    )


class _Named:
    """The result of a step: its first outputs, by name."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()

    def record(self, logs: dict[str, Any]) -> tuple:
        self.names = tuple(logs)
        return tuple(logs.values())

    def __call__(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.names, arrays))


def train_executable(model: Any, parts: tuple) -> Callable:
    """``exe(*arrays)`` does one step and returns the logs, name -> 0-d array."""
    named = _Named()

    def step(x: Any, y: Any, w: Any) -> tuple:
        y_pred = model(x, training=True)
        loss = model._loss_of(x, y, y_pred, w, training=True)
        variables = model.trainable_variables
        if not variables:
            raise ArgumentError(f"{model.name}: no variable is trainable; nothing to train")
        scope = current_scope()
        try:
            grads = pipeline.grad(model.optimizer.scale_loss(loss).node, [scope.initial(v) for v in variables])
        except GradientError as e:
            raise GradientError(f"{model.name} can't be trained: {e}") from e
        model.optimizer.apply([Tensor(g) for g in grads], variables)
        return named.record(_logs(model, x, y, y_pred, w, loss))

    return _compile(model, step, parts, "train", named)


def test_executable(model: Any, parts: tuple) -> Callable:
    """``exe(*arrays)`` adds a batch to the metrics and returns the logs so far."""
    named = _Named()

    def step(x: Any, y: Any, w: Any) -> tuple:
        y_pred = model(x, training=False)
        loss = model._loss_of(x, y, y_pred, w, training=False)
        return named.record(_logs(model, x, y, y_pred, w, loss))

    return _compile(model, step, parts, "test", named)


test_executable.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever its name


def _logs(model: Any, x: Any, y: Any, y_pred: Any, w: Any, loss: Any) -> dict[str, Any]:
    from . import ops

    model._loss_tracker.update_state(ops.reshape(loss, (1,)), sample_weight=batch_count(x))
    return model.compute_metrics(x, y, y_pred, w)


def predict_executable(model: Any, parts: tuple) -> Callable:
    """``exe(*arrays)`` returns the model's outputs, in its structure, as arrays."""
    seen: list[Any] = []

    def step(x: Any, *_: Any) -> Any:
        out = model(x, training=False)
        seen[:] = [map_structure(lambda t: None, out)]
        return out

    return _compile(model, step, parts, "predict", lambda arrays: pack_as(seen[0], arrays[: len(flatten(seen[0]))]))
