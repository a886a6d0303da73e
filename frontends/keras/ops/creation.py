"""Functions of ``ops`` that make tensors of a shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ops.lift import broadcast, operands
from ....runtime.dim import Dim
from ....runtime.dtype import as_dtype
from ....runtime.errors import ArgumentError, UnsupportedOpError
from .. import config
from ..tensor import EagerTensor, KerasTensor, Tensor, standardize_shape
from .arithmetic import NUMPY, floating
from .define import operation
from .shaping import moveaxis


def _created(node_or_array: Any) -> Any:
    from ..trace import current_scope

    if current_scope() is not None:
        return Tensor(F.constant(node_or_array))
    return EagerTensor(np.ascontiguousarray(node_or_array) if np.ndim(node_or_array) else np.asarray(node_or_array))


def _dtype(dtype: Any, default: Any = None) -> Any:

    return as_dtype(dtype if dtype is not None else default or config.floatx())


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    from ..trace import as_node, current_scope

    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if current_scope() is not None or any(type(n) is Dim for n in shape) or isinstance(fill_value, Tensor):
        value = fill_value if isinstance(fill_value, (bool, int, float)) else as_node(fill_value)
        return Tensor(F.full(shape, value, _dtype(dtype)))
    return EagerTensor(np.full(standardize_shape(shape), np.asarray(fill_value), _dtype(dtype).np))


def zeros(shape: Any, dtype: Any = None) -> Any:
    return full(shape, 0, _dtype(dtype))


def ones(shape: Any, dtype: Any = None) -> Any:
    return full(shape, 1, _dtype(dtype))


def empty(shape: Any, dtype: Any = None) -> Any:
    return full(shape, 0, _dtype(dtype))


@operation(NUMPY)
def zeros_like(x: Any, dtype: Any = None) -> Any:
    return F.zeros_like(x, None if dtype is None else as_dtype(dtype))


@operation(NUMPY)
def ones_like(x: Any, dtype: Any = None) -> Any:
    return F.ones_like(x, None if dtype is None else as_dtype(dtype))


@operation(NUMPY, 2)
def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Any:
    x = F.constant(x)
    return F.full(x.shape, fill_value, x.dtype if dtype is None else as_dtype(dtype))


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """Ones on the k-th diagonal of an N x M matrix."""
    M = N if M is None else M
    if N < 0 or M < 0:
        raise ArgumentError(f"eye: {N} x {M} is no size of a matrix")
    if type(N) is Dim or type(M) is Dim:
        return Tensor(F.cast(F.eq(F.iota((N, M), 1), F.add(F.iota((N, M), 0), k)), _dtype(dtype)))
    return _created(np.eye(N, M, k, dtype=_dtype(dtype).np))


def identity(n: int, dtype: Any = None) -> Any:
    return eye(n, dtype=dtype)


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    """start, start + step, ... below stop; one argument counts from 0."""
    start, stop = (0, start) if stop is None else (start, stop)
    step = 1 if step is None else step
    if not isinstance(step, (Tensor, KerasTensor)) and step == 0:
        raise ArgumentError(f"arange from {start} to {stop}: the step can't be 0")
    for v in (start, stop, step):
        if isinstance(v, (Tensor, KerasTensor)):
            raise UnsupportedOpError("ops.arange with bounds that depend on data has a size that does; use Python numbers")
    natural = None if any(isinstance(v, (float, np.floating)) for v in (start, stop, step)) else "int32"
    dt = _dtype(dtype, natural)
    if any(type(v) is Dim for v in (start, stop, step)):
        n = (stop - start + step - 1) // step
        return Tensor(F.cast(F.add(F.mul(F.iota((n,)), step), start), dt))
    return _created(np.arange(start, stop, step).astype(dt.np))


@operation(NUMPY, 2)
def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0) -> Any:
    """``num`` values from start to stop."""
    if num < 0:
        raise ArgumentError(f"linspace: num={num} can't be negative")
    a, b = broadcast("linspace", *operands("linspace", floating(start), floating(stop)))
    step = F.div(F.sub(b, a), builtins_max(num - 1 if endpoint else num, 1))
    at = F.cast(F.iota((num, *a.shape), 0), a.dtype)
    out = F.add(F.mul(at, F.expand_dims(step, 0)), F.expand_dims(a, 0))
    if axis:
        out = moveaxis.operation.body(out, 0, axis)
    out = out if dtype is None else F.cast(out, as_dtype(dtype))
    return (out, step) if retstep else out


builtins_max = max


@operation(NUMPY, variadic=True)
def meshgrid(*x: Any, indexing: str = "xy") -> list:
    nodes = [F.constant(v) for v in x]
    swap = indexing == "xy" and len(nodes) > 1
    order = [1, 0, *range(2, len(nodes))] if swap else list(range(len(nodes)))
    sizes = [nodes[i].shape[0] for i in order]
    return [F.broadcast_to(F.reshape(n, [sizes[j] if j == order.index(i) else 1 for j in range(len(nodes))]), sizes) for i, n in enumerate(nodes)]


__all__ = [
    "arange", "empty", "eye", "full", "full_like", "identity", "linspace", "meshgrid", "ones", "ones_like", "zeros",
    "zeros_like",
]
