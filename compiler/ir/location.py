"""Where in the user's model a node came from: layer paths, ONNX node names.

Front ends wrap the tracing of a layer or node in ``scope``; every node made inside carries the whole path. A node that two
layers made alike (it is hash-consed) keeps both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_PATH: ContextVar[tuple[str, ...]] = ContextVar("kerogen_location", default=())
_FIXED: ContextVar[tuple[str, ...] | None] = ContextVar("kerogen_location_fixed", default=None)


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """Nodes made inside belong to ``name``, below the scopes already open."""
    token = _PATH.set((*_PATH.get(), name))
    try:
        yield
    finally:
        _PATH.reset(token)


@contextlib.contextmanager
def keep(origins: tuple[str, ...]) -> Iterator[None]:
    """Nodes made inside take over these origins (a rewrite's replacement, a derivative)."""
    token = _FIXED.set(origins)
    try:
        yield
    finally:
        _FIXED.reset(token)


def current() -> tuple[str, ...]:
    """The origins for a node made now: () or one path, or those kept."""
    fixed = _FIXED.get()
    if fixed is not None:
        return fixed
    path = _PATH.get()
    return ("/".join(path),) if path else ()
