"""The compiled steps of a model: training (forward, loss, gradients, optimizer, metrics in one graph), evaluation, prediction.

Each is an executable for one structure, rank and dtype of data; the batch axis, and every axis that the model leaves open, is a
free dimension. Variables
that a step assigns (weights, optimizer slots, metric state, seed counters, moving statistics) are donated: updated in place,
never copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...compiler import ops as F
from ...runtime.dtype import as_dtype, float32
from ...runtime.errors import ArgumentError, GradientError
from .gradient import differentiate
from .structure import flatten, is_nested, map_structure, pack_as
from .tensor import Tensor
from .trace import ArgSpec, TraceScope, compile_function, current_scope
from .variable import Variable


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

    def record(self, model: Any, method: str, logs: Any) -> tuple:
        """The logs' values, which become the outputs of the step."""
        from . import ops

        if not isinstance(logs, Mapping):
            raise ArgumentError(f"{type(model).__name__}.{method} must return a dictionary of logs (name: number), it returned {logs!r}")
        self.names = tuple(map(str, logs))
        return tuple([ops.convert_to_tensor(v) if isinstance(v, Variable) else v for v in logs.values()])

    def __call__(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.names, arrays))


def data_of(parts: Sequence[Any]) -> tuple:
    """What ``train_step`` and ``test_step`` get: (x, y, sample_weight) without what isn't there at the end."""
    parts = tuple(parts)
    while len(parts) > 1 and parts[-1] is None:
        parts = parts[:-1]
    return parts


def unpack(data: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of a step's data, None for what isn't there."""
    given = tuple(data) if isinstance(data, (list, tuple)) else (data,)
    if len(given) > 3:
        raise ArgumentError(f"a step's data is x, (x, y) or (x, y, sample_weight), not {len(given)} parts")
    return (*given, *[None] * (3 - len(given)))  # type: ignore[return-value]


def train_executable(model: Any, parts: tuple) -> Callable:
    """``exe(*arrays)`` does one ``model.train_step`` and returns the logs, name -> 0-d array."""
    named = _Named()

    def step(*args: Any) -> tuple:
        _build(model, args[0])
        return named.record(model, "train_step", model.train_step(data_of(args)))

    return _compile(model, step, parts, "train", named)


def test_executable(model: Any, parts: tuple) -> Callable:
    """``exe(*arrays)`` does one ``model.test_step``: adds a batch to the metrics and returns the logs so far."""
    named = _Named()

    def step(*args: Any) -> tuple:
        return named.record(model, "test_step", model.test_step(data_of(args)))

    return _compile(model, step, parts, "test", named)


test_executable.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever its name


def _build(model: Any, x: Any) -> None:
    """Makes the variables of a model that no data told its sizes yet: a trace of a call, whose results are dropped."""
    from .layer import Layer

    if not model.built and type(model).call is not Layer.call:
        with TraceScope():
            model(x, training=True)


def train_step(model: Any, data: Any) -> dict[str, Any]:
    """The step of models that define none: forward, loss, gradients, update, metrics."""
    x, y, w = unpack(data)
    variables = model.trainable_variables
    if not variables:
        raise ArgumentError(f"{model.name}: no variable is trainable; nothing to train")

    def loss_fn() -> tuple[Any, tuple]:
        y_pred = model(x, training=True)
        loss = model._loss_of(x, y, y_pred, w, training=True)
        return model.optimizer.scale_loss(loss), (y_pred, loss)

    try:
        (_, (y_pred, loss)), _, grads = differentiate(loss_fn, (), (), variables, has_aux=True, first=not current_scope().updates)
    except GradientError as e:
        raise GradientError(f"{model.name} can't be trained: {e}") from e
    model.optimizer.apply(grads, variables)
    return _logs(model, x, y, y_pred, w, loss)


def test_step(model: Any, data: Any) -> dict[str, Any]:
    """The step of ``evaluate``: forward, loss, metrics."""
    x, y, w = unpack(data)
    y_pred = model(x, training=False)
    return _logs(model, x, y, y_pred, w, model._loss_of(x, y, y_pred, w, training=False))


test_step.__test__ = False  # type: ignore[attr-defined]


def _logs(model: Any, x: Any, y: Any, y_pred: Any, w: Any, loss: Any) -> dict[str, Any]:
    from . import ops

    model._loss_tracker.update_state(ops.reshape(loss, (1,)), sample_weight=batch_count(x))
    return model.compute_metrics(x, y, y_pred, w)


def predict_executable(model: Any, parts: tuple) -> Callable:
    """``exe(*arrays)`` returns what ``model.predict_step`` gives, in its structure, as arrays."""
    seen: list[Any] = []

    def step(x: Any, *_: Any) -> Any:
        out = model.predict_step((x,))
        seen[:] = [map_structure(lambda t: None, out)]
        return out

    return _compile(model, step, parts, "predict", lambda arrays: pack_as(seen[0], arrays[: len(flatten(seen[0]))]))
