"""Nested structures of tensors: lists, tuples and dicts (whose keys are taken in sorted order, as Keras does). Everything else is a leaf."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ...runtime.errors import ShapeError


def is_nested(x: Any) -> bool:
    return isinstance(x, (list, tuple, Mapping))


def children(x: Any) -> list:
    """The parts of one level, in the order in which ``flatten`` visits them."""
    return [x[k] for k in ordered_keys(x)] if isinstance(x, Mapping) else list(x)


def ordered_keys(x: Mapping) -> list:
    try:
        return sorted(x)
    except TypeError:  # keys of several types: insertion order
        return list(x)


def flatten(x: Any) -> list:
    """The leaves, depth first. None is a leaf."""
    if not is_nested(x):
        return [x]
    out: list = []
    for v in children(x):
        out.extend(flatten(v))
    return out


def map_structure(fn: Callable, x: Any, *rest: Any) -> Any:
    """``x`` with every leaf replaced by ``fn(leaf, corresponding leaves of rest...)``."""
    if isinstance(x, Mapping):
        return {k: map_structure(fn, x[k], *[r[k] for r in rest]) for k in x}
    if isinstance(x, (list, tuple)):
        parts = [map_structure(fn, *vs) for vs in zip(x, *rest, strict=True)]
        return rebuild_sequence(x, parts)
    return fn(x, *rest)


def rebuild_sequence(like: Any, parts: list) -> Any:
    """A list or tuple (named tuples included) of the type of ``like``."""
    if isinstance(like, list):
        return list(parts)
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)


def pack_as(like: Any, leaves: Iterable) -> Any:
    """The structure of ``like`` with these leaves, in the order of ``flatten``."""
    return _pack(like, iter(leaves))


def _pack(like: Any, leaves: Iterator) -> Any:
    if isinstance(like, Mapping):
        filled = {k: _pack(like[k], leaves) for k in ordered_keys(like)}
        return {k: filled[k] for k in like}
    if isinstance(like, (list, tuple)):
        return rebuild_sequence(like, [_pack(v, leaves) for v in like])
    return next(leaves)


def same_structure(a: Any, b: Any) -> bool:
    """Whether the two nest alike; lists and tuples count as the same."""
    if isinstance(a, Mapping) or isinstance(b, Mapping):
        return isinstance(a, Mapping) and isinstance(b, Mapping) and set(a) == set(b) and all(same_structure(a[k], b[k]) for k in a)
    if is_nested(a) or is_nested(b):
        return is_nested(a) and is_nested(b) and len(a) == len(b) and all(map(same_structure, a, b))
    return True


def is_shape(x: Any) -> bool:
    """Whether ``x`` is a shape (a list or tuple of ints and None), not a structure of shapes."""
    return isinstance(x, (list, tuple)) and all(d is None or isinstance(d, int) for d in x)


def map_shapes(fn: Callable, x: Any) -> Any:
    """``fn`` of every shape in a structure of shapes."""
    if x is None or is_shape(x):
        return fn(x)
    if isinstance(x, Mapping):
        return {k: map_shapes(fn, v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return rebuild_sequence(x, [map_shapes(fn, v) for v in x])
    raise ShapeError(f"{x!r} is no shape: a tuple of ints and None is")
