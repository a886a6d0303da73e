"""Calls of layers on arrays: a compiled graph of the layer, cached by shapes (the first axis is free), dtypes and ``training``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...runtime.dim import Dim
from ...runtime.dtype import as_dtype
from .phase import current_training
from .structure import flatten, pack_as
from .tensor import EagerTensor, Tensor
from .trace import ArgSpec, as_array, compile_function, current_scope
from .tracking import changes
from .variable import Variable

if TYPE_CHECKING:
    from collections.abc import Callable


class EagerCalls:
    """The part of ``Layer`` that computes at once."""

    name: str
    autocast: bool
    input_dtype: str
    _executables: dict
    _traced_call: Callable
    _ordered_losses: Callable

    def _eager_call(self, args: tuple, kwargs: dict) -> Any:
        leaves = flatten((args, kwargs))
        arrays: list[np.ndarray] = []
        marks: list = []
        for x in leaves:
            if isinstance(x, (np.ndarray, EagerTensor, Variable, np.generic)) or hasattr(x, "__array__"):
                arrays.append(self._eager_array(x))
                marks.append(None)
            else:
                marks.append(_hashable(x))
        if not arrays and args:
            # Lists of numbers, and numbers, where a tensor is due
            first = self._eager_array(args[0])
            return self._eager_call((first, *args[1:]), kwargs)
        specs = self._eager_specs(arrays)
        key = (tuple([(s.shape, s.dtype) for s in specs]), tuple(marks), _layout((args, kwargs)), current_training(), changes())
        exe = self._executables.get(key)
        if exe is None:
            sizes = {d: n for s, a in zip(specs, arrays) for d, n in zip(s.shape, a.shape) if isinstance(d, str)}

            def fn(*tensors: Tensor) -> Any:
                it = iter(tensors)
                a, k = pack_as((args, kwargs), [next(it) if m is None else x for x, m in zip(leaves, marks)])
                scope = current_scope()
                before = len(scope.losses)
                out = self._traced_call(a, k)
                return out, self._ordered_losses(scope.losses[before:])

            exe = compile_function(fn, tuple(specs), name=self.name, sizes=sizes)
            if self.__dict__["built"] and key[-1] != changes():
                key = (*key[:-1], changes())
            if len(self._executables) > 64:
                self._executables.clear()
            self._executables[key] = exe
        out, losses = exe(*arrays)
        object.__setattr__(self, "_losses", losses)
        return out

    def _eager_array(self, x: Any) -> np.ndarray:
        a = as_array(x)
        if self.autocast and as_dtype(a.dtype).is_float and as_dtype(self.input_dtype).is_float:
            a = a.astype(as_dtype(self.input_dtype).np, copy=False)
        return a

    def _eager_specs(self, arrays: list[np.ndarray]) -> list[ArgSpec]:
        """The first axis is free where all arrays share it."""
        first = {a.shape[0] if a.ndim else None for a in arrays}
        free = len(first) == 1 and None not in first
        return [ArgSpec((("batch", *a.shape[1:]) if free else a.shape), as_dtype(a.dtype).name, "inputs" if i == 0 else f"inputs_{i}")
                for i, a in enumerate(arrays)]


def _hashable(x: Any) -> Any:
    if isinstance(x, Dim):
        return int(x)
    try:
        hash(x)
    except TypeError:
        return ("object", id(x))
    return (type(x).__name__, x)


def _layout(x: Any) -> Any:
    """A hashable picture of a structure."""
    if isinstance(x, dict):
        return ("dict", *[(k, _layout(x[k])) for k in x])
    if isinstance(x, (list, tuple)):
        return ("list", *[_layout(v) for v in x])
    return None
