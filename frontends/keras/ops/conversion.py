"""Functions of ``ops`` between values and tensors: conversion, types, shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....compiler import ops as F
from ....runtime.dtype import as_dtype
from ....runtime.errors import UnsupportedOpError
from ..tensor import EagerTensor, KerasTensor, Tensor
from .define import operation
from .shaping import CORE, operand_list


@operation(CORE)
def cast(x: Any, dtype: Any) -> Any:
    return F.cast(F.constant(x), as_dtype(dtype))


@operation(CORE)
def stop_gradient(variable: Any) -> Any:
    return F.stop_gradient(variable)


@operation(CORE, 1, name="ConvertToTensor")
def _convert(x: Any, dtype: Any = None, sparse: Any = None, ragged: Any = None) -> Any:
    x = F.stack(operand_list(x), 0) if isinstance(x, list) else F.constant(x)
    return x if dtype is None else F.cast(x, as_dtype(dtype))


def convert_to_tensor(x: Any, dtype: Any = None, sparse: Any = None, ragged: Any = None) -> Any:
    """A tensor of a value; ``dtype`` casts."""
    if sparse or ragged:
        raise UnsupportedOpError("sparse and ragged tensors aren't supported")
    if isinstance(x, KerasTensor):
        return x if dtype is None or as_dtype(dtype).name == x.dtype else cast(x, dtype)
    if isinstance(x, Tensor) and dtype is None:
        return x
    from ..trace import as_array, current_scope

    if current_scope() is None and not isinstance(x, Tensor):
        a = as_array(x)
        return EagerTensor(a if dtype is None else a.astype(as_dtype(dtype).np, copy=False))
    return _convert(x, dtype=dtype)


def array(x: Any, dtype: Any = None) -> Any:
    return convert_to_tensor(x, dtype)


def convert_to_numpy(x: Any) -> np.ndarray:
    """The value as a NumPy array."""
    return np.asarray(x)


def is_tensor(x: Any) -> bool:
    return isinstance(x, (Tensor, EagerTensor))


def shape(x: Any) -> tuple:
    """The sizes: ints, None where a symbolic tensor's is free."""
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def dtype(x: Any) -> str:
    """The name of the element type; "float32", ..."""
    return str(x.dtype) if hasattr(x, "dtype") else str(convert_to_tensor(x).dtype)


def ndim(x: Any) -> int:
    return len(shape(x))


def size(x: Any) -> Any:
    out: Any = 1
    for n in shape(x):
        out = None if n is None or out is None else out * n
    return out


__all__ = [
    "array", "cast", "convert_to_numpy", "convert_to_tensor", "dtype", "is_tensor", "ndim", "shape", "size", "stop_gradient",
]
