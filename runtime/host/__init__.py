"""Functions that a plan calls between its native segments, by name: NumPy bodies of ops that have no kernel form.

They live in the runtime, so that a saved plan runs without the compiler. A function takes arrays and attributes by keyword,
and returns an array, or a tuple of arrays where it has several results; it never keeps or changes its arguments.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from math import prod
from typing import TypeVar

import numpy as np

from ..dim import resolve
from ..errors import InternalError, UnsupportedOpError
from ..plan import HostCall

F = TypeVar("F", bound=Callable)

_functions: dict[str, Callable] = {}


def register(name: str) -> Callable[[F], F]:
    """Decorator: makes a function callable from plans as ``name``; a second function of one name replaces the first."""

    def keep(function: F) -> F:
        _functions[name] = function
        return function

    return keep


def lookup(name: str) -> Callable:
    """The function registered as ``name``; ``UnsupportedOpError`` where there is none."""
    try:
        return _functions[name]
    except KeyError:
        raise UnsupportedOpError(
            f"this plan calls the host function {name!r}, which this version of kerogen doesn't have"
        ) from None


def call(step: HostCall, where: Mapping[int, int], values: Mapping[str, int]) -> None:
    """Executes a host call on the memory of its slots, whose addresses ``where`` gives."""
    function = lookup(step.function)
    n = len(step.inputs)
    arrays = []
    for slot, (shape, dtype) in zip((*step.inputs, *step.outputs), step.types, strict=True):
        arrays.append(_view(where[slot], tuple([resolve(d, values) for d in shape]), dtype.np))
    for a in arrays[:n]:
        a.flags.writeable = False
    results = function(*arrays[:n], **dict(step.attributes))
    results = results if isinstance(results, tuple) else (results,)
    if len(results) != len(step.outputs):
        raise InternalError(f"host function {step.function!r} gave {len(results)} results, not {len(step.outputs)}")
    for given, place in zip(results, arrays[n:], strict=True):
        given = np.asarray(given)
        if given.shape != place.shape or given.dtype != place.dtype:
            raise InternalError(
                f"host function {step.function!r} gave {given.dtype} {given.shape}, not {place.dtype} {place.shape}"
            )
        place[...] = given


def _view(address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    count = prod(shape)
    if count == 0:
        return np.empty(shape, dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, np.uint8).view(dtype).reshape(shape)


from . import linalg as linalg  # noqa: E402  (registers its functions)
