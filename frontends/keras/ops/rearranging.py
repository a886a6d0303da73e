"""Functions of ``ops`` that rearrange: mirrored and turned arrays, parts, blocks between depth and space, matrices of vectors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ops.lift import operands
from ....runtime.dim import Dim, key
from ....runtime.dim import size as product
from ....runtime.dtype import as_dtype, bool_
from ....runtime.errors import ArgumentError, DTypeError, ShapeError
from .. import config
from ..tensor import Tensor, known_shape
from .arithmetic import NUMPY, floating
from .creation import _created, _dtype
from .define import operation
from .shaping import moveaxis, one_axis, operand_list, split

NN = "keras.src.ops.nn"


def _rank(name: str, x: Any, least: int) -> Any:
    x = F.constant(x)
    if x.rank < least:
        raise ShapeError(f"ops.{name} needs a tensor of at least {least} axes, got shape {known_shape(x.shape)}")
    return x


@operation(NUMPY)
def fliplr(x: Any) -> Any:
    """Axis 1 backwards."""
    return F.flip(_rank("fliplr", x, 2), 1)


@operation(NUMPY)
def flipud(x: Any) -> Any:
    """Axis 0 backwards."""
    return F.flip(_rank("flipud", x, 1), 0)


@operation(NUMPY)
def rot90(array: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    """``k`` quarter turns from the first of ``axes`` to the second."""
    x = _rank("rot90", array, 2)
    if len(axes) != 2:
        raise ArgumentError(f"ops.rot90 turns in a plane of two axes, got axes={axes!r}")
    a, b = (one_axis(axis, x.rank, "rot90") for axis in axes)
    if a == b:
        raise ArgumentError(f"ops.rot90 turns in a plane of two axes, got axes={axes!r}")
    perm = list(range(x.rank))
    perm[a], perm[b] = b, a
    turns = k % 4
    if turns == 0:
        return x
    if turns == 2:
        return F.flip(x, (a, b))
    return F.transpose(F.flip(x, b), perm) if turns == 1 else F.flip(F.transpose(x, perm), b)


def _parts(name: str, x: Any, indices_or_sections: Any, axis: int, least: int) -> list:
    return split.operation.body(_rank(name, x, least), indices_or_sections, axis)


@operation(NUMPY)
def vsplit(x: Any, indices_or_sections: Any) -> list:
    return _parts("vsplit", x, indices_or_sections, 0, 2)


@operation(NUMPY)
def hsplit(x: Any, indices_or_sections: Any) -> list:
    """Parts of axis 1 (of axis 0 where there is no other)."""
    return _parts("hsplit", x, indices_or_sections, 0 if F.constant(x).rank == 1 else 1, 1)


@operation(NUMPY)
def dsplit(x: Any, indices_or_sections: Any) -> list:
    return _parts("dsplit", x, indices_or_sections, 2, 3)


@operation(NUMPY)
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list:
    """Parts whose sizes differ by one at most where the number of parts doesn't divide the axis; the longer ones come first."""
    x = F.constant(x)
    axis = one_axis(axis, x.rank, "array_split")
    n = x.shape[axis]
    if not isinstance(indices_or_sections, (int, np.integer)):
        raise ArgumentError(f"ops.array_split needs a number of parts, got {indices_or_sections!r}; ops.split takes places")
    if type(n) is Dim:
        raise ShapeError(f"ops.array_split along axis {axis}, whose size is free, isn't supported")
    count = int(indices_or_sections)
    if count < 1:
        raise ArgumentError(f"ops.array_split: {count} parts of axis {axis}; there must be at least one")
    return F.split(x, [n // count + (i < n % count) for i in range(count)], axis)


@operation(NUMPY)
def dstack(xs: Any) -> Any:
    """Joined along the third axis; vectors (n) count as (1, n, 1), matrices as (m, n, 1)."""
    def third(x: Any) -> Any:
        return F.reshape(x, (1, -1, 1)) if x.rank < 2 else F.expand_dims(x, 2) if x.rank == 2 else x

    return F.concat([third(x) for x in operand_list(xs)], 2)


@operation(NUMPY)
def diff(a: Any, n: int = 1, axis: int = -1) -> Any:
    """Differences of neighbours, ``n`` times; of bool: where they differ."""
    x = _rank("diff", a, 1)
    axis = one_axis(axis, x.rank, "diff")
    if n < 0:
        raise ArgumentError(f"ops.diff: the differences can't be taken n={n} times")
    for _ in range(n):
        size = x.shape[axis]
        if type(size) is not Dim and size == 0:
            break
        start = [0] * x.rank
        later, earlier = ([*x.shape], [*x.shape])
        earlier[axis] = size - 1
        behind = F.slice_(x, [1 if i == axis else 0 for i in range(x.rank)], later)
        before = F.slice_(x, start, earlier)
        x = F.ne(behind, before) if x.dtype is bool_ else F.sub(behind, before)
    return x


@operation(NUMPY, ("y", "x"))
def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    """The integral of y by the trapezoidal rule, over points ``x`` or steps ``dx``."""
    y = floating(_rank("trapezoid", y, 1))
    axis = one_axis(axis, y.rank, "trapezoid")
    n = y.shape[axis]
    behind = F.slice_(y, [1 if i == axis else 0 for i in range(y.rank)], y.shape)
    before = F.slice_(y, [0] * y.rank, [n - 1 if i == axis else m for i, m in enumerate(y.shape)])
    both = F.add(behind, before)
    if x is None:
        return F.mul(F.sum_(both, axis), dx / 2)
    points = floating(x)
    if points.rank == 1:
        step = diff.operation.body(points)
        step = F.reshape(step, [-1 if i == axis else 1 for i in range(y.rank)])
    else:
        step = diff.operation.body(points, axis=axis)
    return F.mul(F.sum_(F.mul(both, step), axis), 0.5)


@operation(NUMPY, 2)
def kron(x1: Any, x2: Any) -> Any:
    """The Kronecker product: a block of x2 for every element of x1."""
    a, b = operands("ops.kron", x1, x2)
    rank = max(a.rank, b.rank)
    m, n = ([*((1,) * (rank - v.rank)), *v.shape] for v in (a, b))
    a = F.reshape(a, [s for v in m for s in (v, 1)])
    b = F.reshape(b, [s for v in n for s in (1, v)])
    return F.reshape(F.mul(a, b), [p * q for p, q in zip(m, n)])


@operation(NUMPY)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """The matrix of powers of a vector: N columns, the greatest power first (last where ``increasing``)."""
    x = F.constant(x)
    if x.rank != 1:
        raise ShapeError(f"ops.vander needs a vector, got shape {known_shape(x.shape)}")
    count = x.shape[0] if N is None else N
    if type(count) is Dim or count < 0:
        raise ArgumentError(f"ops.vander needs a number of columns N that is known and not negative, got {count!r}")
    powers = [F.ones_like(x)][:count]
    while len(powers) < count:
        powers.append(F.mul(powers[-1], x))
    return F.stack(powers if increasing else powers[::-1], 1) if powers else F.zeros((x.shape[0], 0), x.dtype)


@operation(NUMPY)
def diagflat(x: Any, k: int = 0) -> Any:
    """The matrix with all elements of ``x`` on its k-th diagonal."""
    x = F.reshape(x, (-1,))
    n = x.shape[0] + (k if k >= 0 else -k)
    return F.diagonal_matrix(x, k, rows=n, columns=n)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """Ones at and below the k-th diagonal of an N x M matrix."""
    M = N if M is None else M
    if N < 0 or M < 0:
        raise ArgumentError(f"ops.tri: {N} x {M} is no size of a matrix")
    if type(N) is Dim or type(M) is Dim:
        return Tensor(F.tri(N, M, k, _dtype(dtype)))
    return _created(np.tri(N, M, k, dtype=_dtype(dtype).np))


@operation(NUMPY)
def empty_like(x: Any, dtype: Any = None) -> Any:
    return F.zeros_like(x, None if dtype is None else as_dtype(dtype))


@operation(NUMPY, 2)
def logspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: float = 10, dtype: Any = None, axis: int = 0) -> Any:
    """``num`` powers of ``base`` with exponents evenly from start to stop."""
    from .creation import linspace

    exponents = linspace.operation.body(start, stop, num, endpoint)
    out = F.power(F.constant(float(base), exponents.dtype), exponents)
    return _placed(out, axis, dtype)


@operation(NUMPY, 2)
def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    """``num`` numbers of one ratio from start to stop, which have one sign."""
    from .creation import linspace

    first, last = operands("ops.geomspace", floating(start), floating(stop))
    exponents = linspace.operation.body(F.log2(F.abs_(first)), F.log2(F.abs_(last)), num, endpoint)
    out = F.mul(F.exp2(exponents), F.sign(first))
    if num > 0:  # the ends as they are, not as powers give them
        at = F.reshape(F.iota((num,)), [num, *[1] * (out.rank - 1)])
        out = F.where(F.eq(at, 0), first, out)
        out = F.where(F.eq(at, num - 1), last, out) if endpoint and num > 1 else out
    return _placed(out, axis, dtype)


def _placed(out: Any, axis: int, dtype: Any) -> Any:
    out = moveaxis.operation.body(out, 0, axis) if axis else out
    return out if dtype is None else F.cast(out, as_dtype(dtype))


@operation(NUMPY)
def view(x: Any, dtype: Any = None) -> Any:
    """The bytes of ``x`` read as another type; the last axis grows or shrinks with the size of an element."""
    x = F.constant(x)
    to = x.dtype if dtype is None else as_dtype(dtype)
    if to is x.dtype:
        return x
    if bool_ in (to, x.dtype):
        raise DTypeError(f"ops.view: {x.dtype} can't be read as {to}; cast it")
    if to.itemsize != x.dtype.itemsize:
        return _repacked(x, to)
    return F.bitcast(x, to)


def _repacked(x: Any, to: Any) -> Any:
    """Little-endian: the element with the lowest address has the lowest bits."""
    size = x.dtype.itemsize
    bits = F.bitcast(x, f"uint{8 * size}")
    if not x.rank:
        raise ShapeError(f"ops.view: a scalar {x.dtype} can't be read as {to}, of another size")
    if to.itemsize < size:
        ratio = size // to.itemsize
        parts = [F.cast(F.shift_right(bits, 8 * to.itemsize * i), f"uint{8 * to.itemsize}") for i in range(ratio)]
        out = F.reshape(F.stack(parts, -1), (*x.shape[:-1], x.shape[-1] * ratio))
    else:
        ratio = to.itemsize // size
        if x.shape[-1] % ratio != 0:
            raise ShapeError(f"ops.view: the last axis of shape {known_shape(x.shape)} holds no whole number of {to} ({ratio} elements of {x.dtype} each)")
        wide = F.cast(F.reshape(bits, (*x.shape[:-1], x.shape[-1] // ratio, ratio)), f"uint{8 * to.itemsize}")
        shifts = F.mul(F.iota((ratio,), 0, wide.dtype), 8 * size)
        parts = F.split(F.shift_left(wide, shifts), [1] * ratio, -1)
        out = parts[0]
        for part in parts[1:]:
            out = F.bitwise_or(out, part)
        out = F.squeeze(out, -1)
    return F.bitcast(out, to)


def _blocks(name: str, x: Any, block_size: int) -> Any:
    x = F.constant(x)
    if x.rank != 4 or block_size < 1:
        raise ShapeError(f"ops.{name} needs images (four axes) and a block_size of at least 1, got shape {known_shape(x.shape)} and {block_size}")
    return x


@operation(NN)
def depth_to_space(x: Any, block_size: int, data_format: str = "channels_last") -> Any:
    """Channels spread over blocks of block_size x block_size positions."""
    x, b = _blocks("depth_to_space", x, block_size), block_size
    last = config.standardize_data_format(data_format) == "channels_last"
    n, h, w, c = x.shape if last else (x.shape[0], x.shape[2], x.shape[3], x.shape[1])
    if c % (b * b) != 0:
        raise ShapeError(f"ops.depth_to_space: {c} channels are no multiple of block_size squared, {b * b}")
    d = c // (b * b)
    if last:
        return F.reshape(F.transpose(F.reshape(x, (n, h, w, b, b, d)), (0, 1, 3, 2, 4, 5)), (n, h * b, w * b, d))
    return F.reshape(F.transpose(F.reshape(x, (n, d, b, b, h, w)), (0, 1, 4, 2, 5, 3)), (n, d, h * b, w * b))


@operation(NN)
def space_to_depth(x: Any, block_size: int, data_format: str = "channels_last") -> Any:
    """Blocks of block_size x block_size positions as channels."""
    x, b = _blocks("space_to_depth", x, block_size), block_size
    last = config.standardize_data_format(data_format) == "channels_last"
    n, h, w, c = x.shape if last else (x.shape[0], x.shape[2], x.shape[3], x.shape[1])
    if h % b != 0 or w % b != 0:
        raise ShapeError(f"ops.space_to_depth: block_size {b} doesn't divide the spatial axes, {h} x {w}")
    y, z = h // b, w // b
    if last:
        return F.reshape(F.transpose(F.reshape(x, (n, y, b, z, b, c)), (0, 1, 3, 2, 4, 5)), (n, y, z, c * b * b))
    return F.reshape(F.transpose(F.reshape(x, (n, c, y, b, z, b)), (0, 1, 3, 5, 2, 4)), (n, c * b * b, y, z))


_TOKEN = re.compile(r"\w+|\(|\)|\s+")


def _groups(pattern: str, side: str) -> list[list[str]]:
    """Axes of one side of a pattern; a group in parentheses is one axis made of several."""
    if "".join(_TOKEN.findall(side)) != side:
        raise ArgumentError(f"ops.rearrange: {pattern!r} may hold names, parentheses and one '->'")
    groups: list[list[str]] = []
    inside = False
    for token in _TOKEN.findall(side):
        if token.isspace():
            continue
        if token in "()":
            if inside == (token == "("):
                raise ArgumentError(f"ops.rearrange: the parentheses of {pattern!r} don't match")
            inside = token == "("
            if inside:
                groups.append([])
        elif inside:
            groups[-1].append(token)
        else:
            groups.append([token])
    if inside:
        raise ArgumentError(f"ops.rearrange: the parentheses of {pattern!r} don't match")
    return groups


def _rearranged(x: Any, pattern: str, lengths: dict[str, int]) -> Any:
    sides = pattern.split("->")
    if len(sides) != 2:
        raise ArgumentError(f"ops.rearrange: {pattern!r} needs one '->' between the axes before and after")
    before, after = (_groups(pattern, side) for side in sides)
    names, wanted = ([n for group in side for n in group] for side in (before, after))
    if sorted(names) != sorted(wanted) or len(set(names)) != len(names) or not set(lengths) <= set(names):
        raise ArgumentError(f"ops.rearrange: each axis of {pattern!r} must stand once on either side, and have the name of a length given: {sorted(lengths)}")
    if len(before) != x.rank:
        raise ShapeError(f"ops.rearrange: {pattern!r} is of {len(before)} axes, the tensor has shape {known_shape(x.shape)}")
    sizes = dict(lengths)
    for n, group in zip(x.shape, before):
        open_ = [name for name in group if name not in sizes]
        known = product([sizes[name] for name in group if name in sizes])
        if len(open_) > 1:
            raise ArgumentError(f"ops.rearrange: {pattern!r} needs the lengths of all but one of {' '.join(group)}")
        if open_:
            if known == 0 or n % known != 0:
                raise ShapeError(f"ops.rearrange: an axis of {n} can't be divided by the lengths of {' '.join(group)}, {known}")
            sizes[open_[0]] = n // known
        elif key(known) != key(n):
            raise ShapeError(f"ops.rearrange: the lengths of {' '.join(group)} make {known}, the axis has {n}")
    apart = F.transpose(F.reshape(x, [sizes[n] for n in names]), [names.index(n) for n in wanted])
    return F.reshape(apart, [product([sizes[n] for n in group]) for group in after])


@operation("keras.src.ops.einops")
def _rearrange(tensor: Any, pattern: str, axes_lengths: Any = None) -> Any:
    return _rearranged(F.constant(tensor), pattern, dict(axes_lengths or {}))


def rearrange(tensor: Any, pattern: str, **axes_lengths: int) -> Any:
    """Axes split, moved and joined as a pattern says: ``rearrange(x, "b (h r) w -> b h (r w)", r=2)`` (einops)."""
    return _rearrange(tensor, pattern, axes_lengths)


__all__ = [
    "array_split", "depth_to_space", "diagflat", "diff", "dsplit", "dstack", "empty_like", "fliplr", "flipud", "geomspace", "hsplit",
    "kron", "logspace", "rearrange", "rot90", "space_to_depth", "trapezoid", "tri", "vander", "view", "vsplit",
]
