"""The caller's own classes and functions: what ``custom_objects`` and ``register_keras_serializable`` name.

Only these, and kerogen's own classes, can ever be made from a file. They come from the program that loads, never from the file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ...runtime.errors import ArgumentError

_REGISTERED: dict[str, Any] = {}
_NAMES: dict[Any, str] = {}
_SCOPE: ContextVar[dict[str, Any] | None] = ContextVar("kerogen_custom_objects", default=None)


class CustomObjectScope:
    """``with custom_object_scope({"Name": cls}):`` objects by name, for deserialisation inside the block."""

    def __init__(self, custom_objects: dict[str, Any] | None):
        self.custom_objects = dict(custom_objects or {})

    def __enter__(self) -> CustomObjectScope:
        self._token = _SCOPE.set({**(_SCOPE.get() or {}), **self.custom_objects})
        return self

    def __exit__(self, *exc: object) -> None:
        _SCOPE.reset(self._token)


custom_object_scope = CustomObjectScope


def get_custom_objects() -> dict[str, Any]:
    """The dict of registered objects; changes to it take effect."""
    return _REGISTERED


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable:
    """A decorator that lets files name the class or function, as ``package>name``."""

    def decorate(obj: Any) -> Any:
        registered = f"{package}>{name or obj.__name__}"
        if inspect.isclass(obj) and not hasattr(obj, "get_config"):
            raise ArgumentError(f"{obj.__name__} can't be registered for saving: it has no get_config()")
        _REGISTERED[registered] = obj
        _NAMES[obj] = registered
        return obj

    return decorate


def get_registered_name(obj: Any) -> str:
    """``package>name`` of a registered object, else its own name."""
    try:
        return _NAMES.get(obj) or obj.__name__
    except TypeError:  # unhashable
        return obj.__name__


def get_registered_object(
    name: str, custom_objects: dict[str, Any] | None = None, module_objects: dict[str, Any] | None = None
) -> Any:
    """The object that scopes, the caller or ``register_keras_serializable`` know by ``name``, or None."""
    for table in (_SCOPE.get() or {}, custom_objects or {}, _REGISTERED, module_objects or {}):
        if name in table:
            return table[name]
    return None
