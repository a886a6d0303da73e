"""Checks of layers' arguments, and the three arguments that come with every weight: its initializer, regularizer and constraint."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError, UnsupportedOpError
from .. import constraints, initializers, regularizers
from ..layer import Layer
from ..variable import Variable


def refuse(layer: str, **arguments: Any) -> None:
    """Raises for arguments that are accepted by Keras and not (yet) here, where they are set."""
    for name, value in arguments.items():
        if value is not None:
            raise UnsupportedOpError(f"{layer}: {name}={value!r} isn't supported; leave it out")


def integer(layer: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ArgumentError(f"{layer}: {name} must be an integer, got {value!r}")
    return value.__index__()


def positive(layer: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value <= 0:
        raise ArgumentError(f"{layer}: {name} must be a positive integer, got {value!r}")
    return value.__index__()


def number(layer: str, name: str, value: Any, low: float = -float("inf"), high: float = float("inf")) -> float:
    """A number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        limits = f" in [{low:g}, {high:g}]" if high < float("inf") else f" of at least {low:g}" if low > -float("inf") else ""
        raise ArgumentError(f"{layer}: {name} must be a number{limits}, got {value!r}")
    return value


def choice(layer: str, name: str, value: Any, *allowed: str) -> str:
    """One of the words ``allowed``, in lower case."""
    word = value.lower() if isinstance(value, str) else value
    if word not in allowed:
        raise ArgumentError(f"{layer}: {name} is one of {', '.join(allowed)}, not {value!r}")
    return word


def axes_in(layer: Layer, axes: Any, shape: tuple) -> list[int]:
    """``axes`` (one or several) counted from 0, each in the range of ``shape`` and none twice."""
    rank = len(shape)
    given = [axes] if isinstance(axes, int) else list(axes)
    if any(not -rank <= a < rank for a in given) or len({a % rank for a in given}) < len(given):
        raise ArgumentError(f"{type(layer).__name__} '{layer.name}': axis={axes} doesn't fit an input of shape {tuple(shape)}: axes are in "
                            f"[{-rank}, {rank - 1}], each named once")
    return [a % rank for a in given]


def known_size(layer: Layer, shape: tuple, axis: int, what: str = "axis") -> int:
    """The size of an axis that weights depend on; raises where it is free, or there is no such axis."""
    if not -len(shape) <= axis < len(shape):
        raise ArgumentError(f"{type(layer).__name__} '{layer.name}': axis {axis} is out of range for an input of shape {tuple(shape)}")
    if shape[axis] is None:
        raise ArgumentError(f"{type(layer).__name__} '{layer.name}': the {what} ({axis}) of the input must have a known size; got shape {tuple(shape)}")
    return shape[axis]


def set_weight(layer: Layer, name: str, initializer: Any, regularizer: Any = None, constraint: Any = None) -> None:
    """Keeps the arguments of the weight ``name`` as ``<name>_initializer``, ``<name>_regularizer`` and ``<name>_constraint``."""
    setattr(layer, f"{name}_initializer", initializers.get(initializer))
    setattr(layer, f"{name}_regularizer", regularizers.get(regularizer))
    setattr(layer, f"{name}_constraint", constraints.get(constraint))


def make_weight(layer: Layer, argument: str, shape: tuple, name: str | None = None, **kwargs: Any) -> Variable:
    """The weight with the arguments that ``set_weight`` kept under ``argument``."""
    return layer.add_weight(
        name=name or argument,
        shape=shape,
        initializer=getattr(layer, f"{argument}_initializer"),
        regularizer=getattr(layer, f"{argument}_regularizer"),
        constraint=getattr(layer, f"{argument}_constraint"),
        **kwargs,
    )


def weight_config(layer: Layer, *names: str) -> dict:
    """The arguments of the weights ``names``, for ``get_config``."""
    config: dict = {}
    for n in names:
        config[f"{n}_initializer"] = initializers.serialize(getattr(layer, f"{n}_initializer"))
        config[f"{n}_regularizer"] = regularizers.serialize(getattr(layer, f"{n}_regularizer"))
        config[f"{n}_constraint"] = constraints.serialize(getattr(layer, f"{n}_constraint"))
    return config
