"""Activation functions by Keras' names. A function here is what a layer's ``activation`` argument resolves to."""

from __future__ import annotations

import difflib
import inspect
import types
from typing import Any

from ...runtime.errors import ArgumentError, UnknownNameError
from . import ops


def relu(x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Any:
    """max(x, 0) by default; ``negative_slope`` below the threshold, at most ``max_value``."""
    if negative_slope == 0 and threshold == 0:
        return ops.relu(x) if max_value is None else ops.relu6(x) if max_value == 6 else ops.clip(x, 0.0, max_value)
    if threshold == 0 and max_value is None:
        return ops.leaky_relu(x, negative_slope=negative_slope)
    above = x if max_value is None else ops.minimum(x, max_value)
    return ops.where(ops.greater(x, threshold) if threshold else ops.greater_equal(x, 0.0), above, negative_slope * (x - threshold))


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    return ops.leaky_relu(x, negative_slope=negative_slope)


def relu6(x: Any) -> Any:
    return ops.relu6(x)


def softmax(x: Any, axis: Any = -1) -> Any:
    return ops.softmax(x, axis=axis)


def elu(x: Any, alpha: float = 1.0) -> Any:
    return ops.elu(x, alpha=alpha)


def selu(x: Any) -> Any:
    return ops.selu(x)


def softplus(x: Any) -> Any:
    return ops.softplus(x)


def softsign(x: Any) -> Any:
    return ops.softsign(x)


def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    return ops.soft_shrink(x, threshold=threshold)


def sparse_plus(x: Any) -> Any:
    return ops.sparse_plus(x)


def silu(x: Any) -> Any:
    return ops.silu(x)


def squareplus(x: Any, b: float = 4) -> Any:
    return ops.squareplus(x, b=b)


def gelu(x: Any, approximate: bool = False) -> Any:
    return ops.gelu(x, approximate=approximate)


def celu(x: Any, alpha: float = 1.0) -> Any:
    return ops.celu(x, alpha=alpha)


def glu(x: Any, axis: int = -1) -> Any:
    return ops.glu(x, axis=axis)


def tanh(x: Any) -> Any:
    return ops.tanh(x)


def tanh_shrink(x: Any) -> Any:
    return ops.tanh_shrink(x)


def hard_tanh(x: Any) -> Any:
    return ops.hard_tanh(x)


def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    return ops.hard_shrink(x, threshold=threshold)


def threshold(x: Any, threshold: float, default_value: float) -> Any:
    return ops.threshold(x, threshold, default_value)


def sigmoid(x: Any) -> Any:
    return ops.sigmoid(x)


def sparse_sigmoid(x: Any) -> Any:
    return ops.sparse_sigmoid(x)


def exponential(x: Any) -> Any:
    return ops.exp(x)


def hard_sigmoid(x: Any) -> Any:
    return ops.hard_sigmoid(x)


def log_sigmoid(x: Any) -> Any:
    return ops.log_sigmoid(x)


def log_softmax(x: Any, axis: Any = -1) -> Any:
    return ops.log_softmax(x, axis=axis)


def hard_silu(x: Any) -> Any:
    return ops.hard_silu(x)


def mish(x: Any) -> Any:
    """x tanh(softplus(x))."""
    return x * ops.tanh(ops.softplus(x))


def linear(x: Any) -> Any:
    return x


def sparsemax(x: Any, axis: int = -1) -> Any:
    return ops.sparsemax(x, axis=axis)


ALL = {f.__name__: f for f in list(vars().values()) if isinstance(f, types.FunctionType) and f.__module__ == __name__}
swish, hard_swish = silu, hard_silu
ALIASES = {"swish": silu, "hard_swish": hard_silu}


def serialize(activation: Any) -> Any:
    """A built-in activation's name; the description of the caller's own."""
    if isinstance(activation, types.FunctionType) and ALL.get(activation.__name__) is activation:
        return activation.__name__
    from .serialization import serialize_keras_object

    out = serialize_keras_object(activation)
    return out


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    if isinstance(config, str):
        from .registration import CustomObjectScope

        with CustomObjectScope(custom_objects):
            return get(config)
    from .serialization import deserialize_keras_object

    return deserialize_keras_object(config, custom_objects=custom_objects)


def get(identifier: Any) -> Any:
    """An activation from its name, its description or a callable; None is ``linear``."""
    if identifier is None:
        return linear
    if isinstance(identifier, str):
        from .registration import get_registered_object

        found = get_registered_object(identifier) or ALL.get(identifier) or ALIASES.get(identifier)
        if found is None:
            near = difflib.get_close_matches(identifier, [*ALL, *ALIASES], 3, 0.4)
            raise UnknownNameError(f"unknown activation {identifier!r}" + (f"; did you mean {', '.join(map(repr, near))}?" if near else "")
                                   + " (your own: pass the function)")
        more = [p.name for p in list(inspect.signature(found).parameters.values())[1:] if p.default is p.empty]
        if more:
            raise ArgumentError(f"activation {identifier!r} needs {' and '.join(more)}: pass a function of a tensor that gives them")
        return found
    if isinstance(identifier, dict):
        identifier = deserialize(identifier)
    if callable(identifier):
        return identifier
    raise ArgumentError(f"{identifier!r} is no activation: give a name such as 'relu', or a function of a tensor")


__all__ = [*ALL, *ALIASES, "deserialize", "get", "serialize"]
