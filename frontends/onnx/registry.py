"""The table of operators: one handler each, for all versions of the operator.

``@operator("Gemm")`` registers a function of a ``Call``; versions are told apart inside it by ``call.version`` (the opset in
effect).
``@fold("Gather")`` registers how an operator computes on values known while importing (NumPy arrays, of dtype object where sizes
are free).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module

from onnx.defs import OpSchema, SchemaError, get_schema

from ...runtime.errors import InternalError

HANDLERS: dict[tuple[str, str], Callable] = {}
FOLDS: dict[tuple[str, str], Callable] = {}


def operator(*names: str, domain: str = "") -> Callable:
    """Registers the decorated ``handler(call) -> Value | tuple of Values`` under these operator names."""
    return _into(HANDLERS, names, domain)


def fold(*names: str, domain: str = "") -> Callable:
    """Registers ``fold(call, *arrays) -> array | list of arrays | None`` (None: not foldable after all); absent inputs are None.
    """
    return _into(FOLDS, names, domain)


def _into(table: dict, names: tuple[str, ...], domain: str) -> Callable:
    def register(fn: Callable) -> Callable:
        for n in names:
            if (domain, n) in table:
                raise InternalError(f"operator {n} is registered twice")
            table[domain, n] = fn
        return fn

    return register


@cache
def schema_of(op: str, domain: str, version: int) -> OpSchema | None:
    """The standard's schema in effect at this opset, or None for an operator (or version) that it doesn't have."""
    try:
        return get_schema(op, version, domain)
    except SchemaError:
        return None


_FILES = (
    "attention", "control", "conv", "elementwise", "index", "linear", "logic", "nn", "quantize",
    "recurrent", "reduce", "shape", "signal", "slice", "sort", "spatial",
)


def load_handlers() -> None:
    """Fills the tables (each file registers its operators when imported)."""
    for name in _FILES:
        import_module(f".ops_{name}", __package__)
