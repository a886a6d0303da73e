"""Automatic names ("dense", "dense_1") and the scopes that make variables' paths ("sequential/dense/kernel")."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from ...runtime.errors import ArgumentError

_COUNTS: Counter = Counter()
_SCOPES: ContextVar[tuple] = ContextVar("kerogen_name_scopes", default=())


def snake_case(name: str) -> str:
    """Keras' rule: Conv2D -> conv2d, MultiHeadAttention -> multi_head_attention, PReLU -> p_re_lu."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def auto_name(prefix: str) -> str:
    """``prefix``, then ``prefix_1``, ... : counted over the process until ``reset_names``."""
    prefix = snake_case(prefix)
    n = _COUNTS[prefix]
    _COUNTS[prefix] += 1
    return prefix if n == 0 else f"{prefix}_{n}"


def uniquify(name: str) -> str:
    """As ``auto_name``, without changing the spelling."""
    n = _COUNTS[name]
    _COUNTS[name] += 1
    return name if n == 0 else f"{name}_{n}"


def reset_names() -> None:
    """Starts counting again (``utils.clear_session``)."""
    _COUNTS.clear()


def check_name(name: object, owner: str) -> str:
    if not isinstance(name, str) or "/" in name:
        raise ArgumentError(f"{owner}: name must be a string without '/', got {name!r}")
    return name


def current_path() -> str:
    parts: list[str] = []
    for name, _, parent in _SCOPES.get():
        if parent is not None:
            parts = [p for p in parent.split("/") if p]
        parts.append(name)
    return "/".join(parts)


@contextlib.contextmanager
def name_scope(name: str, caller: Any = None) -> Iterator[None]:
    """Variables made inside have ``name`` in their path. A layer (``caller``) that opens its own scope twice in a row enters it once; one that
    was first called inside some scope keeps that scope's path wherever it is called later (its ``_parent_path``)."""
    scopes = _SCOPES.get()
    if caller is not None and scopes and scopes[-1][0] == name and scopes[-1][1] is caller:
        yield
        return
    token = _SCOPES.set((*scopes, (name, caller, getattr(caller, "_parent_path", None))))
    try:
        yield
    finally:
        _SCOPES.reset(token)
