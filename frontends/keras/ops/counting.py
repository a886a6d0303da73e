"""Functions of ``ops`` that search, count and join by number: bins, segments, membership, distances, correlations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ops.lift import operands
from ....runtime.dim import Dim
from ....runtime.dtype import as_dtype, bool_, float64, int32
from ....runtime.errors import ArgumentError, DTypeError, ShapeError, UnsupportedOpError
from ..tensor import EagerTensor, KerasTensor, Tensor, known_shape
from .arithmetic import MATH, NUMPY, floating
from .define import operation


@operation(NUMPY, 2, name="SearchSorted")
def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> Any:
    """int32 places where ``values`` keep a sorted vector sorted, before ("left") or behind ("right") equal elements."""
    if side not in ("left", "right"):
        raise ArgumentError(f"ops.searchsorted: side is 'left' or 'right', not {side!r}")
    return F.searchsorted(sorted_sequence, values, side == "right")


@operation(NUMPY, 2)
def digitize(x: Any, bins: Any) -> Any:
    """int32 number of each element's bin between rising or falling edges; 0 before the first."""
    return F.digitize(x, bins)


def _on_arrays(x: Any) -> bool:
    """Whether a function whose result's size depends on data can run: on arrays, outside of any trace."""
    from ..trace import current_scope

    return not isinstance(x, (KerasTensor, Tensor)) and current_scope() is None


def _depends(name: str, instead: str) -> UnsupportedOpError:
    return UnsupportedOpError(f"ops.{name}: the size of the result depends on data, which a compiled graph doesn't support; {instead}")


@operation(NUMPY, ("x", "weights"), name="Bincount")
def _bincount(x: Any, weights: Any = None, length: int = 0) -> Any:
    x = F.constant(x)
    x = F.cast(x, int32) if x.dtype is bool_ else x
    if x.rank == 1:
        return F.bincount(x, length, weights)
    if x.rank != 2:
        raise ShapeError(f"ops.bincount counts in a vector, or in each row of a matrix; got shape {known_shape(x.shape)}")
    # Row r counts in [r length, (r + 1) length); what is too large or negative stays out.
    rows = F.mul(F.iota(x.shape, 0, x.dtype if x.dtype.itemsize >= 4 else int32), length)
    inside = F.logical_and(F.ge(x, 0), F.lt(x, length))
    place = F.where(inside, F.add(rows, F.cast(x, rows.dtype)), -1)
    return F.reshape(F.bincount(place, x.shape[0] * length, weights), (x.shape[0], length))


def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Any:
    """How often each number stands in the integers ``x`` (their weights' sums), at least ``minlength`` numbers from 0 on; by row of a
    matrix. On arrays only: the size of the result is the greatest element's."""
    if sparse:
        raise UnsupportedOpError("ops.bincount: there are no sparse tensors; use sparse=False")
    if not _on_arrays(x) or not _on_arrays(weights):
        raise _depends("bincount", "compute it on arrays, or compare with ops.arange and sum")
    from ..trace import as_array

    array = as_array(x)
    if array.dtype.kind not in "iub":
        raise DTypeError(f"ops.bincount counts integers, got {array.dtype}")
    length = max(int(array.max()) + 1 if array.size else 0, int(minlength))
    return _bincount(array, weights, length)


@operation(NUMPY)
def histogram(x: Any, bins: int = 10, range: Any = None) -> tuple:
    """(counts, edges) of ``bins`` equal parts of ``range`` (None: from the least element to the greatest)."""
    x = F.constant(x)
    if not isinstance(bins, (int, np.integer)) or isinstance(bins, bool) or bins < 1:
        raise ArgumentError(f"ops.histogram: bins must be a positive integer, got {bins!r}")
    if range is not None and (len(range) != 2 or range[1] < range[0]):
        raise ArgumentError(f"ops.histogram: range must be (least, greatest), got {range!r}")
    if x.rank > 1:
        raise ShapeError(f"ops.histogram counts in a vector, got shape {known_shape(x.shape)}")
    return F.histogram(x, int(bins), range or None)


@operation(NUMPY, 2, name="IsIn")
def isin(x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> Any:
    """Whether each element of x1 is one of x2's: a search in x2, sorted."""
    a, b = operands("ops.isin", x1, x2)
    if a.dtype is bool_:
        a, b = F.cast(a, int32), F.cast(b, int32)
    flat = F.reshape(b, (-1,))
    n = flat.shape[0]
    if type(n) is not Dim and n == 0:
        return F.full(a.shape, invert, bool_)
    ordered = F.sort(flat)
    found = F.eq(F.take(ordered, F.minimum(F.searchsorted(ordered, a), n - 1)), a)
    return F.logical_not(found) if invert else found


def _segments(name: str, combine: str) -> Any:
    def body(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Any:
        if num_segments is None:
            raise ArgumentError(f"ops.{name} needs num_segments: the number of segments is a size of the result")
        return F.segment_reduce(F.constant(data), segment_ids, int(num_segments), combine)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"Slices of ``data`` along axis 0 joined ({combine}) by segment; numbers outside [0, num_segments) don't count."
    return operation(MATH, 2)(body)


segment_sum, segment_max = _segments("segment_sum", "add"), _segments("segment_max", "max")
segment_min, segment_prod = _segments("segment_min", "min"), _segments("segment_prod", "mul")


@operation(NUMPY)
def unravel_index(indices: Any, shape: Any) -> tuple:
    """The index along each axis of ``shape`` of flat indices, in row-major order; negative ones count from the end."""
    flat = F.constant(indices)
    if not flat.dtype.is_int:
        raise DTypeError(f"ops.unravel_index needs integers, got {flat.dtype}")
    sizes = [shape] if isinstance(shape, int) else list(shape)
    total = int(np.prod(sizes, dtype=np.int64))
    flat = F.where(F.lt(flat, 0), F.add(flat, total), flat)
    flat = F.clip(flat, 0, max(total - 1, 0))
    out = []
    for n in reversed(sizes):
        out.append(F.mod(flat, n))
        flat = F.floordiv(flat, n)
    return tuple(reversed(out))


@operation(NUMPY, 3)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """The element of the first choice whose condition holds, else ``default``."""
    if not isinstance(condlist, (list, tuple)) or not isinstance(choicelist, (list, tuple)) or not condlist or len(condlist) != len(choicelist):
        raise ArgumentError("ops.select needs two lists of one length, of conditions and of choices")
    out = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist)):
        out = F.where(condition, choice, out)
    return out


def nonzero(x: Any) -> Any:
    """int32 places of elements that aren't 0, a vector for each axis. On arrays only: their number depends on data."""
    if not _on_arrays(x):
        raise _depends("nonzero", "use ops.where(condition, x1, x2)")
    from ..trace import as_array

    return tuple([EagerTensor(v.astype(np.int32)) for v in np.nonzero(np.atleast_1d(as_array(x)))])


def unique(x: Any, sorted: bool = True, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False, axis: int | None = None,
           size: int | None = None, fill_value: Any = None) -> Any:
    """The different elements in order (along ``axis``: the different slices), and as int32 where each stands first, which one each
    element is, how often each stands. ``size``: cut to so many, or filled up with ``fill_value`` (None: the least). On arrays only: the
    number of different elements depends on data."""
    if not _on_arrays(x):
        raise _depends("unique", "compute it on arrays, or use ops.sort")
    from ..trace import as_array

    x = as_array(x)
    if axis is not None and not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"ops.unique: axis {axis} is out of range for shape {x.shape}")
    values, index, inverse, counts = np.unique(x, True, True, True, axis=axis, equal_nan=False)
    inverse = inverse.reshape(-1 if axis is not None else x.shape)
    if size is not None:
        along, more = (axis or 0), max(int(size) - len(counts), 0)
        values, index, counts = (np.take(v, range(min(int(size), len(counts))), a) for v, a in ((values, along), (index, 0), (counts, 0)))
        if more and not len(counts):
            raise ShapeError(f"ops.unique: there are no elements to make {size} of (shape {x.shape})")
        if more:
            first = np.take(values, [0] * more, along)
            values = np.concatenate([values, first if fill_value is None else np.full_like(first, fill_value)], along)
            index, counts = np.append(index, [index[0]] * more), np.append(counts, [0] * more)
    wanted = [v.astype(np.int32) for v, asked in ((index, return_index), (inverse, return_inverse), (counts, return_counts)) if asked]
    out = tuple([EagerTensor(np.ascontiguousarray(v)) for v in (values, *wanted)])
    return out if wanted else out[0]


@operation(MATH, 2, name="CDist")
def cdist(x: Any, y: Any) -> Any:
    """Euclidean distances between the rows of x (..., m, d) and of y (..., n, d): (..., m, n)."""
    a, b = operands("ops.cdist", floating(x), floating(y))
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-1]:
        raise ShapeError(f"ops.cdist needs rows of one length, got shapes {known_shape(a.shape)} and {known_shape(b.shape)}")
    return F.sqrt(F.sum_(F.square(F.sub(F.expand_dims(a, a.rank - 1), F.expand_dims(b, b.rank - 2))), -1))


@operation(NUMPY)
def corrcoef(x: Any) -> Any:
    """Pearson's correlations between the rows of a matrix."""
    x = floating(x)
    if x.rank > 2:
        raise ShapeError(f"ops.corrcoef needs the rows of a matrix, got shape {known_shape(x.shape)}")
    rows = x if x.rank == 2 else F.reshape(x, (1, -1))
    apart = F.sub(rows, F.mean(rows, 1, True))
    covariance = F.matmul(apart, F.transpose(apart, (1, 0)))
    scale = F.sqrt(F.diagonal(covariance))
    out = F.div(F.div(covariance, F.expand_dims(scale, 1)), F.expand_dims(scale, 0))
    out = F.clip(out, -1.0, 1.0)
    return out if x.rank == 2 else F.reshape(out, ())


@operation(NUMPY, 2)
def correlate(x1: Any, x2: Any, mode: str = "valid") -> Any:
    """The sums of products of a vector and another one at each shift: where they overlap wholly ("valid"), as many as the longer
    one has elements ("same"), or at all ("full")."""
    a, b = operands("ops.correlate", x1, x2)
    if mode not in ("valid", "same", "full"):
        raise ArgumentError(f"ops.correlate: mode is 'valid', 'same' or 'full', not {mode!r}")
    if a.rank != 1 or b.rank != 1 or a.shape[0] == 0 or b.shape[0] == 0:
        raise ShapeError(f"ops.correlate needs two vectors that hold elements, got shapes {known_shape(a.shape)} and {known_shape(b.shape)}")
    dtype = a.dtype if a.dtype.is_float else float64 if a.dtype.name == "int64" else as_dtype("float32")
    a, b = F.cast(a, dtype), F.cast(b, dtype)
    swapped = a.shape[0] < b.shape[0]
    longer, shorter = (b, a) if swapped else (a, b)
    n = shorter.shape[0]
    low, high = {"valid": (0, 0), "full": (n - 1, n - 1), "same": (n // 2, n - 1 - n // 2)}[mode]
    out = F.conv(F.reshape(longer, (1, -1, 1)), F.reshape(shorter, (-1, 1, 1)), (1,), ((low, high),), (1,), 1)
    out = F.reshape(out, (-1,))
    return F.flip(out, (0,)) if swapped else out


__all__ = [
    "bincount", "cdist", "correlate", "corrcoef", "digitize", "histogram", "isin", "nonzero", "searchsorted", "segment_max",
    "segment_min", "segment_prod", "segment_sum", "select", "unique", "unravel_index",
]
