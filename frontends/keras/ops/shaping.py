"""Functions of ``ops`` that move elements: shapes, axes, joining, splitting, diagonals."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ir.graph import Node
from ....runtime.dim import Dim
from ....runtime.errors import ArgumentError, ShapeError, UnsupportedOpError
from ..tensor import known_shape
from .arithmetic import NUMPY
from .define import operation

CORE = "keras.src.ops.core"
Axis = Any


def one_axis(axis: int, rank: int, name: str) -> int:
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
    a, b = one_axis(axis1, x.rank, "swapaxes"), one_axis(axis2, x.rank, "swapaxes")
    perm[a], perm[b] = perm[b], perm[a]
    return F.transpose(x, perm)


@operation(NUMPY)
def moveaxis(x: Any, source: Axis, destination: Axis) -> Any:
    x = F.constant(x)
    src = [one_axis(a, x.rank, "moveaxis") for a in ([source] if isinstance(source, int) else source)]
    dst = [one_axis(a, x.rank, "moveaxis") for a in ([destination] if isinstance(destination, int) else destination)]
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
    axis = one_axis(axis, x.rank, "split")
    if isinstance(indices_or_sections, (int, np.integer)):
        if indices_or_sections < 1:
            raise ArgumentError(f"split: {indices_or_sections} parts of axis {axis}; there must be at least one")
        return F.split(x, int(indices_or_sections), axis)
    cuts = [0, *[int(i) for i in np.asarray(indices_or_sections)], x.shape[axis]]
    return F.split(x, [b - a for a, b in zip(cuts, cuts[1:])], axis)


@operation(CORE)
def unstack(x: Any, num: int | None = None, axis: int = 0) -> list:
    x = F.constant(x)
    axis = one_axis(axis, x.rank, "unstack")
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
    axis = one_axis(axis, x.rank, "repeat")
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iu" or (counts < 0).any() or counts.ndim > 1:
        raise ArgumentError(f"ops.repeat: repeats must be a count, or one for each element, not {repeats!r}")
    if counts.ndim and counts.size != 1:
        if counts.size != x.shape[axis]:
            raise ShapeError(f"ops.repeat: {counts.size} repeats for axis {axis} of a tensor of shape {known_shape(x.shape)}")
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
        x = _roll(x, s, one_axis(a, x.rank, "roll"))
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


@operation(NUMPY)
def tril(x: Any, k: int = 0) -> Any:
    return F.tril(x, k)


@operation(NUMPY)
def triu(x: Any, k: int = 0) -> Any:
    return F.triu(x, k)


@operation(NUMPY)
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    x = F.constant(x)
    a, b = one_axis(axis1, x.rank, "diagonal"), one_axis(axis2, x.rank, "diagonal")
    return F.diagonal(x, offset, a, b)


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
    return F.diagonal_matrix(x, k, rows=n, columns=n)


__all__ = [
    "append", "broadcast_to", "concatenate", "diag", "diagonal", "expand_dims", "flip", "hstack", "moveaxis", "pad", "ravel",
    "repeat", "reshape", "roll", "split", "squeeze", "stack", "swapaxes", "tile", "trace", "transpose", "tril", "triu",
    "unstack", "vstack",
]
