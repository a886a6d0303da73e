"""Functions of ``ops`` that move elements: shapes, axes, joining, splitting, indexing."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ir.graph import Node
from ....compiler.ops.lift import broadcast, operands
from ....runtime.dim import Dim
from ....runtime.dtype import as_dtype
from ....runtime.errors import ArgumentError, ShapeError, UnsupportedOpError
from ..operation import Operation
from ..tensor import EagerTensor, KerasTensor, Operators, Tensor, known_shape, standardize_shape
from .arithmetic import NUMPY, floating
from .define import CLASSES, operation, wrap

CORE = "keras.src.ops.core"
Axis = Any


def _axis(axis: int, rank: int, name: str) -> int:
    if not -rank <= axis < rank:
        raise ShapeError(f"ops.{name}: axis {axis} is out of range for a tensor of rank {rank}")
    return axis % rank


@operation(NUMPY)
def reshape(x: Any, newshape: Any) -> Any:
    """``x`` under another shape; one size may be -1. None stands for the size that ``x`` has at that position (a free one)."""
    x = F.constant(x)
    shape = [newshape] if isinstance(newshape, int) else list(newshape)
    for i, n in enumerate(shape):
        if n is None:
            if shape.count(None) == 1 and -1 not in [m for m in shape if m is not None and type(m) is not Dim]:
                shape[i] = -1
            elif i < x.rank:
                shape[i] = x.shape[i]
            else:
                raise ShapeError(f"ops.reshape of shape {known_shape(x.shape)}: newshape {tuple(newshape)} leaves axis {i} open; give it a size, or one -1")
    return F.reshape(x, shape)


@operation(NUMPY)
def transpose(x: Any, axes: Axis = None) -> Any:
    x = F.constant(x)
    return F.transpose(x, None if axes is None else [a % x.rank for a in axes])


@operation(NUMPY)
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    x = F.constant(x)
    perm = list(range(x.rank))
    a, b = _axis(axis1, x.rank, "swapaxes"), _axis(axis2, x.rank, "swapaxes")
    perm[a], perm[b] = perm[b], perm[a]
    return F.transpose(x, perm)


@operation(NUMPY)
def moveaxis(x: Any, source: Axis, destination: Axis) -> Any:
    x = F.constant(x)
    src = [_axis(a, x.rank, "moveaxis") for a in ([source] if isinstance(source, int) else source)]
    dst = [_axis(a, x.rank, "moveaxis") for a in ([destination] if isinstance(destination, int) else destination)]
    perm = [a for a in range(x.rank) if a not in src]
    for d, s in sorted(zip(dst, src)):
        perm.insert(d, s)
    return F.transpose(x, perm)


@operation(NUMPY)
def expand_dims(x: Any, axis: Axis) -> Any:
    return F.expand_dims(x, axis if isinstance(axis, int) else tuple(axis))


@operation(NUMPY)
def squeeze(x: Any, axis: Axis = None) -> Any:
    return F.squeeze(x, axis if axis is None or isinstance(axis, int) else tuple(axis))


@operation(NUMPY)
def ravel(x: Any) -> Any:
    return F.reshape(x, (-1,))


@operation(NUMPY)
def broadcast_to(x: Any, shape: Any) -> Any:
    return F.broadcast_to(x, tuple(shape))


@operation(NUMPY)
def flip(x: Any, axis: Axis = None) -> Any:
    return F.flip(x, axis)


def operand_list(xs: Any) -> list:
    """The tensors of a list, or the rows of one tensor."""
    if isinstance(xs, Node):
        return [F.reshape(p, xs.shape[1:]) for p in F.split(xs, [1] * len(range(xs.shape[0])), 0)]
    return [F.constant(x) for x in xs]


@operation(NUMPY)
def concatenate(xs: Any, axis: int = 0) -> Any:
    return F.concat(operand_list(xs), axis)


@operation(NUMPY)
def stack(x: Any, axis: int = 0) -> Any:
    return F.stack(operand_list(x), axis)


@operation(NUMPY)
def vstack(xs: Any) -> Any:
    return F.concat([F.reshape(x, (1, -1)) if x.rank < 2 else x for x in operand_list(xs)], 0)


@operation(NUMPY)
def hstack(xs: Any) -> Any:
    nodes = [F.reshape(x, (-1,)) if x.rank == 0 else x for x in operand_list(xs)]
    return F.concat(nodes, 0 if nodes[0].rank == 1 else 1)


@operation(NUMPY, 2)
def append(x1: Any, x2: Any, axis: int | None = None) -> Any:
    if axis is None:
        return F.concat([F.reshape(x1, (-1,)), F.reshape(x2, (-1,))], 0)
    return F.concat([F.constant(x1), F.constant(x2)], axis)


@operation(NUMPY)
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list:
    """Equal parts (an int), or the parts between indices."""
    x = F.constant(x)
    axis = _axis(axis, x.rank, "split")
    if isinstance(indices_or_sections, (int, np.integer)):
        if indices_or_sections < 1:
            raise ArgumentError(f"split: {indices_or_sections} parts of axis {axis}; there must be at least one")
        return F.split(x, int(indices_or_sections), axis)
    cuts = [0, *[int(i) for i in np.asarray(indices_or_sections)], x.shape[axis]]
    return F.split(x, [b - a for a, b in zip(cuts, cuts[1:])], axis)


@operation(CORE)
def unstack(x: Any, num: int | None = None, axis: int = 0) -> list:
    x = F.constant(x)
    axis = _axis(axis, x.rank, "unstack")
    n = x.shape[axis]
    if type(n) is Dim and num is None:
        raise ShapeError("ops.unstack along an axis whose size is free needs the argument num")
    return [F.squeeze(p, axis) for p in F.split(x, [1] * (num or n), axis)]


@operation(NUMPY)
def tile(x: Any, repeats: Any) -> Any:
    return F.tile(x, repeats if isinstance(repeats, int) else tuple(int(r) for r in np.asarray(repeats).ravel()))


@operation(NUMPY)
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Every element ``repeats`` times (a number, or one for each)."""
    x = F.constant(x)
    if axis is None:
        x, axis = F.reshape(x, (-1,)), 0
    axis = _axis(axis, x.rank, "repeat")
    counts = np.asarray(repeats)
    if counts.ndim and counts.size > 1:
        return F.take(x, np.repeat(np.arange(counts.size, dtype=np.int32), counts), axis)
    n, r = x.shape[axis], int(counts.ravel()[0])
    wide = F.broadcast_to(F.expand_dims(x, axis + 1), (*x.shape[:axis + 1], r, *x.shape[axis + 1:]))
    return F.reshape(wide, (*x.shape[:axis], n * r, *x.shape[axis + 1:]))


@operation(NUMPY)
def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    x = F.constant(x)
    if axis is None:
        return F.reshape(_roll(F.reshape(x, (-1,)), shift, 0), x.shape)
    shifts, axes = ([shift], [axis]) if isinstance(axis, int) else ([shift] * len(axis) if isinstance(shift, int) else shift, axis)
    for s, a in zip(shifts, axes):
        x = _roll(x, s, _axis(a, x.rank, "roll"))
    return x


def _roll(x: Any, shift: int, axis: int) -> Any:
    n = x.shape[axis]
    if n == 0:
        return x
    first = (n - shift) % n
    return x if first == 0 else F.concat(list(reversed(F.split(x, [first, n - first], axis))), axis)


@operation(NUMPY, ("x", "constant_values"))
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Any:
    """``pad_width`` is ((before, after), ...) (or one pair, or one number, for every axis); modes "constant", "reflect", "symmetric", "edge"."""
    x = F.constant(x)
    widths = np.broadcast_to(np.asarray(pad_width, np.int64), (x.rank, 2)).tolist()
    if any(n < 0 for pair in widths for n in pair):
        raise ArgumentError(f"ops.pad: pad_width {pad_width!r} has a negative width; slice to take elements away")
    if mode == "constant":
        return F.pad(x, widths, 0 if constant_values is None else constant_values)
    if constant_values is not None:
        raise ArgumentError(f"ops.pad: constant_values has no meaning with mode={mode!r}")
    if mode not in ("reflect", "symmetric", "edge"):
        raise UnsupportedOpError(f"ops.pad: mode {mode!r} isn't supported; 'constant', 'reflect', 'symmetric' and 'edge' are")
    for axis, (lo, hi) in enumerate(widths):
        if lo or hi:
            n = x.shape[axis]
            if type(n) is Dim:
                raise ShapeError(f"ops.pad: mode {mode!r} along an axis whose size is free isn't supported")
            x = F.take(x, np.pad(np.arange(n, dtype=np.int32), (lo, hi), mode=mode), axis)
    return x


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


def _triangle(x: Any, k: int, lower: bool) -> Any:
    x = F.constant(x)
    rows, cols = F.iota(x.shape, x.rank - 2), F.iota(x.shape, x.rank - 1)
    inside = F.le(cols, F.add(rows, k)) if lower else F.ge(cols, F.add(rows, k))
    return F.where(inside, x, F.zeros_like(x))


@operation(NUMPY)
def tril(x: Any, k: int = 0) -> Any:
    return _triangle(x, k, True)


@operation(NUMPY)
def triu(x: Any, k: int = 0) -> Any:
    return _triangle(x, k, False)


@operation(NUMPY)
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    x = F.constant(x)
    a, b = _axis(axis1, x.rank, "diagonal"), _axis(axis2, x.rank, "diagonal")
    x = F.transpose(x, [i for i in range(x.rank) if i not in (a, b)] + [a, b])
    rows, cols = x.shape[-2:]
    n = max(min(rows + min(offset, 0), cols - max(offset, 0)), 0)
    picks = (np.arange(n) + max(-offset, 0)) * cols + np.arange(n) + max(offset, 0)
    return F.take(F.reshape(x, (*x.shape[:-2], rows * cols)), picks.astype(np.int32), x.rank - 2)


@operation(NUMPY)
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return F.sum_(diagonal.operation.body(x, offset, axis1, axis2), -1)


@operation(NUMPY)
def diag(x: Any, k: int = 0) -> Any:
    """The diagonal of a matrix, or the matrix of a diagonal."""
    x = F.constant(x)
    if x.rank == 2:
        return diagonal.operation.body(x, k)
    if x.rank != 1:
        raise ShapeError(f"ops.diag needs a vector or a matrix, got shape {known_shape(x.shape)}")
    n = x.shape[0] + (k if k >= 0 else -k)
    wide = F.broadcast_to(F.expand_dims(F.pad(x, ((max(-k, 0), max(k, 0)),)), 1), (n, n))
    return F.where(F.eq(F.iota((n, n), 1), F.add(F.iota((n, n), 0), k)), wide, 0)


@operation(CORE)
def cast(x: Any, dtype: Any) -> Any:
    return F.cast(F.constant(x), as_dtype(dtype))


@operation(CORE)
def stop_gradient(variable: Any) -> Any:
    return F.stop_gradient(variable)


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


def _block(x: Node, start_indices: Any, shape: Any) -> Node:
    if isinstance(start_indices, (Tensor, Node)):
        raise UnsupportedOpError("ops.slice: start_indices must be known when the model is compiled, not computed from data")
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


def ndim(x: Any) -> int:
    return len(shape(x))


def size(x: Any) -> Any:
    out: Any = 1
    for n in shape(x):
        out = None if n is None or out is None else out * n
    return out


# Indexing ---------------------------------------------------------------------------------------------------------------------------------------------


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


# Creation ---------------------------------------------------------------------------------------------------------------------------------------------


def _created(node_or_array: Any) -> Any:
    from ..trace import current_scope

    if current_scope() is not None:
        return Tensor(F.constant(node_or_array))
    return EagerTensor(np.ascontiguousarray(node_or_array) if np.ndim(node_or_array) else np.asarray(node_or_array))


def _dtype(dtype: Any, default: Any = None) -> Any:
    from .. import config

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
    "GetItem", "Slice", "append", "arange", "array", "broadcast_to", "cast", "concatenate", "convert_to_numpy", "convert_to_tensor",
    "diag", "diagonal", "empty", "expand_dims", "eye", "flip", "full", "full_like", "get_item", "hstack", "identity", "is_tensor",
    "linspace", "meshgrid", "moveaxis", "ndim", "ones", "ones_like", "pad", "ravel", "repeat", "reshape", "roll", "shape", "size", "slice",
    "split", "squeeze", "stack", "stop_gradient", "swapaxes", "take", "take_along_axis", "tile", "trace", "transpose", "tril", "triu",
    "unstack", "vstack", "zeros", "zeros_like",
]
