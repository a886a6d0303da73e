"""Keras' layers."""

from __future__ import annotations

from .frontends.keras.layers import *  # the names are in __all__ there
from .runtime.errors import UnknownNameError as _UnknownNameError


class _MissingLayerError(_UnknownNameError, AttributeError):
    """A layer that kerogen doesn't have; an AttributeError as well, so that hasattr() is False."""


def __getattr__(name: str) -> object:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import difflib

    from .frontends.keras import layers

    near = difflib.get_close_matches(name, layers.__all__, 3, 0.7)
    hint = f"did you mean {' or '.join(near)}?" if near else "write it as a Layer subclass, made of kerogen.ops"
    raise _MissingLayerError(f"kerogen has no layer {name!r}; {hint}")
