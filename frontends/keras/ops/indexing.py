"""Functions of ``ops`` that read and write at places: indexing, blocks, gathers, scatters."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ir.graph import Node
from ....compiler.ops.lift import broadcast
from ....runtime.dim import Dim
from ....runtime.dtype import as_dtype
from ....runtime.errors import ArgumentError, ShapeError, UnsupportedOpError
from ..operation import Operation
from ..tensor import EagerTensor, KerasTensor, Operators, Tensor, known_shape
from .arithmetic import NUMPY
from .define import CLASSES, operation, wrap
from .shaping import CORE


@operation(NUMPY, 2)
def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Slices at ``indices`` along ``axis`` (None: of the flattened tensor); negative indices count from the end."""
    x = F.constant(x)
    indices = F.constant(indices)
    indices = indices if indices.dtype.is_int else F.cast(indices, as_dtype("int32"))
    return F.take(F.reshape(x, (-1,)) if axis is None else x, indices, axis or 0, wrap=True)


@operation(NUMPY, 2)
def take_along_axis(x: Any, indices: Any, axis: int | None = None) -> Any:
    if axis is None:
        return F.take_along_axis(F.reshape(x, (-1,)), F.reshape(indices, (-1,)), 0, wrap=True)
    return F.take_along_axis(x, indices, axis, wrap=True)


class Slice(Operation):
    """The block of ``shape`` that begins at ``start_indices``, as an operation of a functional model."""

    keras_module = CORE

    def __init__(self, shape: Any, *, name: str | None = None):
        super().__init__(name)
        self.shape = shape

    def call(self, inputs: Any, start_indices: Any) -> Any:
        from ..trace import as_node

        return Tensor(_block(as_node(inputs), start_indices, self.shape))

    def get_config(self) -> dict:
        return {"name": self.name, "shape": self.shape}


CLASSES["Slice"] = Slice


def _starts(start_indices: Any, as_node: Any) -> Any:
    """Start indices that depend on data: a vector, or a list of numbers and scalars."""
    if isinstance(start_indices, (list, tuple)):
        return [v if isinstance(v, (int, np.integer)) else as_node(v) for v in start_indices]
    return as_node(start_indices)


def _block(x: Node, start_indices: Any, shape: Any) -> Node:
    if isinstance(start_indices, (Tensor, Node)) or any(isinstance(v, (Tensor, Node)) for v in np.ravel(start_indices)):
        from ..trace import as_node

        if any(n == -1 for n in shape):
            raise ShapeError(f"ops.slice: a size of -1 has no meaning beside start_indices that depend on data, got {tuple(shape)}")
        return F.dynamic_slice(x, _starts(start_indices, as_node), tuple(shape))
    start = [int(v) for v in np.asarray(start_indices).ravel()]
    if len(start) != x.rank or len(shape) != x.rank:
        raise ShapeError(f"ops.slice of shape {known_shape(x.shape)} needs {x.rank} start_indices and sizes, got {start} and {tuple(shape)}")
    sizes = [x.shape[i] - start[i] if n == -1 else n for i, n in enumerate(shape)]
    for i, (n, b, m) in enumerate(zip(x.shape, start, sizes)):
        if type(n) is not Dim and not 0 <= b <= b + m <= n:
            raise ShapeError(f"ops.slice: {m} elements from {b} on don't lie on axis {i} of size {n}")
    return F.slice_(x, start, [a + n for a, n in zip(start, sizes)])


def slice(inputs: Any, start_indices: Any, shape: Any) -> Any:
    """The block of this shape (-1: to the end) that begins at ``start_indices``."""
    if isinstance(inputs, KerasTensor):
        return Slice(shape).symbolic_call(inputs, start_indices)
    from ..trace import as_array, as_node, current_scope

    if isinstance(inputs, Tensor) or current_scope() is not None:
        return Tensor(_block(as_node(inputs), start_indices, shape))
    block = _block(as_node(as_array(inputs)), start_indices, shape)  # checks; the value is a view
    start = [int(v) for v in np.asarray(start_indices).ravel()]
    return EagerTensor(as_array(inputs)[tuple([builtin_slice(b, b + n) for b, n in zip(start, block.shape)])])


@operation(CORE, 3)
def slice_update(inputs: Any, start_indices: Any, updates: Any) -> Any:
    """``inputs`` with the block that begins at ``start_indices`` replaced by ``updates``; starts are clamped so that it fits."""
    starts = [F.constant(v) for v in start_indices] if isinstance(start_indices, (list, tuple)) else F.constant(start_indices)
    return F.dynamic_update(F.constant(inputs), F.constant(updates), starts)


@operation(CORE, 2)
def scatter(indices: Any, values: Any, shape: Any) -> Any:
    """Zeros of ``shape`` with ``values`` added where index tuples (the last axis of ``indices``) point."""
    values = F.constant(values)
    return F.scatter_nd(F.zeros(tuple(shape), values.dtype), indices, values, "add", wrap=True)


_REDUCTIONS = {None: "set", "add": "add", "max": "max", "min": "min", "mul": "mul"}


@operation(CORE, 3)
def scatter_update(inputs: Any, indices: Any, updates: Any, reduction: str | None = None) -> Any:
    """``inputs`` with ``updates`` written (or joined by "add", "max", "min", "mul") where index tuples point."""
    if reduction not in _REDUCTIONS:
        raise ArgumentError(f"ops.scatter_update: reduction {reduction!r} is none of None, add, max, min, mul")
    return F.scatter_nd(F.constant(inputs), indices, updates, _REDUCTIONS[reduction], wrap=True)


def index(x: Node, key: Any) -> Node:
    """x[key] with ints, slices, None, Ellipsis and one or several integer arrays side by side (broadcast together)."""
    keys = list(key) if isinstance(key, tuple) else [key]
    keys = [np.asarray(k) if isinstance(k, (list, EagerTensor)) else k for k in keys]
    keys = [k.node if isinstance(k, Tensor) else k for k in keys]
    for k in keys:
        if (isinstance(k, (Node, np.ndarray)) and as_dtype(k.dtype).kind == "b"):
            raise UnsupportedOpError("indexing with a boolean mask gives a size that depends on data; use ops.where")
    used = len([k for k in keys if k is not None and k is not Ellipsis])
    if used > x.rank or len([k for k in keys if k is Ellipsis]) > 1:
        raise ShapeError(f"{len(keys)} indices for a tensor of shape {known_shape(x.shape)}")
    if not any(k is Ellipsis for k in keys):
        keys.append(Ellipsis)
    at = next(i for i, k in enumerate(keys) if k is Ellipsis)
    keys[at:at + 1] = [builtin_slice(None)] * (x.rank - used)
    start, stop, step, shape_, arrays = [], [], [], [], []
    axis = 0
    for k in keys:
        if k is None:
            shape_.append(1)
            continue
        n = x.shape[axis]
        if isinstance(k, (int, np.integer)) and not isinstance(k, bool):
            i = k if type(k) is Dim else int(k)
            i = i + n if i < 0 else i
            if type(n) is not Dim and not 0 <= i < n:
                raise ShapeError(f"index {k} is out of range for axis {axis} of size {n}")
            b, e, s = i, i + 1, 1
        elif isinstance(k, builtin_slice):
            b, e, s = _bounds(k, n)
            shape_.append(None)
        elif isinstance(k, (Node, np.ndarray)):
            arrays.append((len(shape_), k))
            b, e, s = 0, n, 1
            shape_.append(None)
        else:
            raise ArgumentError(f"a tensor can't be indexed with {k!r}; ints, slices, None, ... and integer arrays can")
        start.append(b)
        stop.append(e)
        step.append(s)
        axis += 1
    out = F.slice_(x, start, stop, step)
    # Axes that an int removed go, new ones come.
    kept = iter([n for n, k in zip(out.shape, [k for k in keys if k is not None]) if not _is_int(k)])
    out = F.reshape(out, [1 if s == 1 else next(kept) for s in shape_])
    return _gather(out, arrays) if arrays else out


builtin_slice = type(np.s_[:])


def _is_int(k: Any) -> bool:
    return isinstance(k, (int, np.integer)) and not isinstance(k, bool)


def _bounds(k: Any, n: int) -> tuple[int, int, int]:
    """A slice's start, stop and step for an axis of size n, in range."""
    step = 1 if k.step is None else int(k.step)
    if step == 0:
        raise ArgumentError("a slice's step can't be 0")
    if type(n) is not Dim and not isinstance(k.start, Dim) and not isinstance(k.stop, Dim):
        return builtin_slice(k.start, k.stop, step).indices(n)

    def clamp(i: int, low: int, high: int) -> int:
        i = i + n if i < 0 else i
        return low if i < low else high if i > high else i

    if step > 0:
        b = 0 if k.start is None else clamp(k.start, 0, n)
        return b, n if k.stop is None else clamp(k.stop, 0, n), step
    b = n - 1 if k.start is None else clamp(k.start, -1, n - 1)
    return b, -1 if k.stop is None else clamp(k.stop, -1, n - 1), step


def _gather(x: Node, arrays: list) -> Node:
    nodes = [F.constant(np.asarray(a, np.int32) if isinstance(a, np.ndarray) and a.dtype == np.int64 else a) for _, a in arrays]
    axes = [a for a, _ in arrays]
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise UnsupportedOpError("integer arrays as indices must stand side by side")
    nodes = list(broadcast("index", *nodes))
    flat, size_ = None, 1
    for a, i in zip(reversed(axes), reversed(nodes)):
        n = x.shape[a]
        i = F.where(F.lt(i, 0), F.add(i, n), i)
        flat = i if flat is None else F.add(flat, F.mul(i, size_))
        size_ = size_ * n
    merged = F.reshape(x, (*x.shape[:axes[0]], size_, *x.shape[axes[-1] + 1:]))
    return F.take(merged, flat, axes[0])


class GetItem(Operation):
    """x[key] as an operation of a functional model."""

    keras_module = NUMPY

    def call(self, x: Any, key: Any) -> Any:
        from ..trace import as_node

        return Tensor(index(as_node(x), tuple(key) if isinstance(key, list) else key))


CLASSES["GetItem"] = GetItem


def get_item(x: Any, key: Any) -> Any:
    """x[key]."""
    if isinstance(x, KerasTensor):
        return GetItem().symbolic_call(x, key)
    if isinstance(x, EagerTensor):
        return x[key]
    from ..trace import as_array, as_node, current_scope

    if isinstance(x, Tensor) or current_scope() is not None:
        return wrap(index(as_node(x), key))
    return EagerTensor(as_array(x))[key] if not isinstance(key, Operators) else EagerTensor(as_array(x))[np.asarray(key)]


__all__ = [
    "GetItem", "Slice", "get_item", "scatter", "scatter_update", "slice", "slice_update", "take", "take_along_axis",
]
