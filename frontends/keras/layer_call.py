"""The arguments of a layer's call, and errors that name the layer."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...runtime.errors import ArgumentError, KerogenError
from .structure import flatten
from .tensor import Tensor, known_shape

if TYPE_CHECKING:
    from .layer import Layer


class Call:
    """The arguments of a call by name, and which of them hold tensors."""

    def __init__(self, layer: Layer, args: tuple, kwargs: dict):
        signature = layer._signature
        names = list(signature.parameters)[1:]
        takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        self.extra = {}
        if "training" in kwargs and "training" not in signature.parameters:
            self.extra["training"] = kwargs["training"]
            if not takes_any:
                kwargs.pop("training")
        try:
            bound = signature.bind(layer, *args, **kwargs)
        except TypeError as e:
            raise ArgumentError(f"{type(layer).__name__} '{layer.name}' can't be called like this: {e}; its call takes {', '.join(names)}") from None
        self.given = set(bound.arguments)
        self.positional = set(names[:len(args)])
        bound.apply_defaults()
        self.arguments = {k: v for k, v in list(bound.arguments.items())[1:]}
        self.tensors = {}
        for name, value in self.arguments.items():
            if name in ("args", "kwargs") and not value:
                continue
            leaves = flatten(value)
            if leaves and any(isinstance(x, Tensor) for x in leaves) and all(x is None or isinstance(x, Tensor) for x in leaves):
                self.tensors[name] = value
        self.first = next(iter(self.arguments.values()), None)


@contextlib.contextmanager
def error_context(layer: Layer, call: Call) -> Iterator[None]:
    """A user's error from inside a layer names the layer and the shapes that it got, once."""
    try:
        yield
    except KerogenError as e:
        if getattr(e, "_kerogen_layer", None) is None:
            label = f"{type(layer).__name__} '{layer.name}'"
            shapes = ", ".join(str(known_shape(t.shape)) for t in flatten(list(call.tensors.values())) if t is not None)
            text = str(e) if label in str(e) else f"{label} on input of shape {shapes}: {e}"
            new: Any = type(e)(text)
            new._kerogen_layer = layer.name
            raise new from e
        raise


def constructing(init: Callable) -> Callable:
    """A layer's constructor whose errors name the class, and the layer where it was given a name."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Layer, *args: Any, **kwargs: Any) -> None:
        try:
            init(self, *args, **kwargs)
        except KerogenError as e:
            raise _of_constructor(self, kwargs.get("name"), e) from e
        except TypeError as e:
            try:
                signature.bind(self, *args, **kwargs)
            except TypeError as problem:
                takes = ", ".join([n for n in signature.parameters if n not in ("self", "kwargs")])
                raise _of_constructor(self, kwargs.get("name"), ArgumentError(f"{problem}; its arguments are {takes}")) from e
            raise

    return wrapper


def _of_constructor(layer: Layer, name: Any, e: KerogenError) -> KerogenError:
    if getattr(e, "_kerogen_layer", None) is not None:
        return e
    own, text = type(layer).__name__, str(e)
    label = f"{own} '{name}'" if isinstance(name, str) else own
    if text.startswith((f"{own}:", f"{own} got")):
        text = label + text[len(own):]
    elif label not in text:
        text = f"{label}: {text}"
    new: Any = type(e)(text)
    new._kerogen_layer = name or own
    return new
