"""The naive meaning of a kernel, in NumPy: the oracle that every emitter is held to.

All points of the grid and of a stage's own axes are evaluated at once, as arrays with one dimension per axis. Loads are checked:
an index outside its buffer that no guard excludes is an ``InternalError`` (a compiler's bug), one that a ``Check`` finds
is the user's, an ``IndexRangeError``. Floats are computed in the type of the expression, 16-bit floats in float32, as the kernels do.
"""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np

from ...runtime.dtype import DType, as_dtype
from ...runtime.errors import IndexRangeError, InternalError
from . import scalar_ops as s
from .expr import Axis, Bitcast, Cast, Check, Const, Expr, Load, Op, Ref, Where, post_order
from .ir import Contract, Kernel, Reduce, Stage, Store

_CHUNK = 1 << 22  # points evaluated at once; larger kernels go slice by slice along their first axis


def run_kernel(kernel: Kernel, arrays: Mapping[str, np.ndarray]) -> None:
    """Executes ``kernel``; ``arrays`` maps buffer names to arrays of the buffers' shapes; written ones are updated in place."""
    for b in kernel.buffers:
        if tuple(arrays[b.name].shape) != tuple(b.shape) or as_dtype(arrays[b.name].dtype) is not b.dtype:
            raise InternalError(f"{kernel.name}: {b.name} is {arrays[b.name].dtype}{arrays[b.name].shape}, expected {b.dtype}{b.shape}")
    if any(int(a.extent) == 0 for a in kernel.axes):
        return  # no point, so nothing is read either: not even what depends on no axis of extent 0
    points = 1
    for st in kernel.stages:
        inner = 1
        for a in (*st.axes, *getattr(st, "over", ())):
            inner = inner * max(int(a.extent), 1)
        points = max(points, inner)
    for a in kernel.axes[1:]:
        points *= max(int(a.extent), 1)
    with np.errstate(all="ignore"):
        if not kernel.axes:
            _Run(kernel, arrays, 0, 1).execute()
            return
        n = int(kernel.axes[0].extent)
        step = max(1, _CHUNK // points)
        for begin in range(0, n, step):
            _Run(kernel, arrays, begin, min(n, begin + step)).execute()


class _Run:
    """One pass over a slice [begin, end) of the kernel's first axis."""

    def __init__(self, kernel: Kernel, arrays: Mapping[str, np.ndarray], begin: int, end: int):
        self.kernel, self.arrays, self.begin, self.end = kernel, arrays, begin, end
        self.locals: dict[str, tuple[np.ndarray, ...]] = {}

    def execute(self) -> None:
        grid = self.kernel.axes
        pending: list[tuple[Store, list[np.ndarray]]] = []  # neighbouring stores: all values first, then all writes
        for st in self.kernel.stages:
            own = st.axes
            if isinstance(st, Store) and st.combine is None:
                pending.append((st, self._stored(st, grid + own + st.over)))
                continue
            self._write(pending)
            if isinstance(st, Stage):
                dims = grid + own
                self.locals[st.name] = (self._broadcast(self._eval([st.expr], dims)[0], dims),)
            elif isinstance(st, (Reduce, Contract)):
                dims = grid + own + st.over
                exprs = st.exprs if isinstance(st, Reduce) else (st.a, st.b)
                values = [self._broadcast(v, dims) for v in self._eval(exprs, dims)]
                axes = tuple(range(len(grid) + len(own), len(dims)))
                if isinstance(st, Reduce):
                    self.locals[st.name] = st.monoid.reduce(values, axes)
                else:
                    wide = np.float64 if st.acc.is_float else st.acc.np
                    total = np.sum(values[0].astype(wide) * values[1].astype(wide), axis=axes, dtype=wide)
                    self.locals[st.name] = (total.astype(st.acc.np),)
            elif isinstance(st, Store):
                self._store(st, self._stored(st, grid + own + st.over))
        self._write(pending)

    def _write(self, pending: list[tuple[Store, list[np.ndarray]]]) -> None:
        for st, values in pending:
            self._store(st, values)
        pending.clear()

    def _stored(self, st: Store, dims: tuple[Axis, ...]) -> list[np.ndarray]:
        """What a store writes, and where: its indices, its value, its guard."""
        exprs = [*st.index, st.expr] + ([] if st.guard is None else [st.guard])
        return [self._broadcast(v, dims) for v in self._eval(exprs, dims)]

    def _store(self, st: Store, values: list[np.ndarray]) -> None:
        n = len(st.index)
        where, value = values[:n], values[n]
        keep = values[n + 1].reshape(-1) if st.guard is not None else slice(None)
        target = self.arrays[st.buffer.name]
        flat = tuple(v.reshape(-1)[keep] for v in where)
        for v, size in zip(flat, target.shape):
            if v.size and (v.min() < 0 or v.max() >= size):
                raise InternalError(f"{self.kernel.name}: store outside {st.buffer.name}{target.shape}")
        value = value.reshape(-1)[keep]
        if st.combine is None or st.combine.name == "last":
            target[flat] = value
            return
        join = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[st.combine.name]
        if as_dtype(target.dtype).is_float and target.dtype.itemsize == 2:
            for at, v in zip(zip(*flat), value.astype(np.float32)):
                target[at] = join(np.float32(target[at]), v)
        else:
            join.at(target, flat, value)

    def _broadcast(self, v: np.ndarray, dims: tuple[Axis, ...]) -> np.ndarray:
        return np.broadcast_to(v, tuple(self._extent(a) for a in dims))

    def _extent(self, axis: Axis) -> int:
        if self.kernel.axes and axis is self.kernel.axes[0]:
            return self.end - self.begin
        return int(axis.extent)

    def _eval(self, roots: list[Expr] | tuple[Expr, ...], dims: tuple[Axis, ...]) -> list[np.ndarray]:
        position = {a: i for i, a in enumerate(dims)}
        rank = len(dims)
        memo: dict[int, np.ndarray] = {}
        for e in post_order(roots):
            memo[id(e)] = self._one(e, [memo[id(c)] for c in e.children], position, rank)
        return [memo[id(r)] for r in roots]

    def _one(self, e: Expr, c: list[np.ndarray], position: dict[Axis, int], rank: int) -> np.ndarray:
        if isinstance(e, Const):
            value = int(e.value) if e.dtype.is_int else e.value
            return np.array(value, e.dtype.np).reshape((1,) * rank)
        if isinstance(e, Axis):
            if e not in position:
                raise InternalError(f"{self.kernel.name}: axis {e.name} is not in scope")
            shape = [1] * rank
            shape[position[e]] = -1
            first = self.begin if self.kernel.axes and e is self.kernel.axes[0] else 0
            return np.arange(first, first + self._extent(e), dtype=np.int64).reshape(shape)
        if isinstance(e, Load):
            return self._load(e, c)
        if isinstance(e, Ref):
            return self._ref(e, c, rank)
        if isinstance(e, Op):
            return self._op(e, c)
        if isinstance(e, Where):
            return np.where(c[0], c[1], c[2])
        if isinstance(e, Cast):
            return cast(c[0], e.dtype)
        if isinstance(e, Bitcast):
            return np.array(c[0], order="C").view(e.dtype.np)
        if isinstance(e, Check):
            if c[0].size and (c[0].min() < 0 or c[0].max() >= int(e.size)):
                raise IndexRangeError(f"index outside [0, {int(e.size)}) (site {e.code})")
            return c[0]
        raise InternalError(f"can't interpret {type(e).__name__}")

    def _load(self, e: Load, c: list[np.ndarray]) -> np.ndarray:
        array = self.arrays[e.buffer.name]
        n = len(e.index)
        where = [np.asarray(i) for i in c[:n]]
        guard = c[n] if e.guard is not None else None
        inside = np.array(True)
        for i, size in zip(where, array.shape):
            inside = inside & (i >= 0) & (i < size)
        if guard is None and not np.all(inside):
            raise InternalError(f"{self.kernel.name}: load outside {e.buffer.name}{array.shape}")
        if guard is not None and not np.all(inside | ~guard):
            raise InternalError(f"{self.kernel.name}: guarded load outside {e.buffer.name}{array.shape}")
        if guard is None:
            return array[tuple(where)] if n else array.reshape((1,) * (c[0].ndim if c else 0)).copy()
        if array.size == 0:
            return np.broadcast_to(c[n + 1], np.broadcast_shapes(guard.shape, c[n + 1].shape, *[i.shape for i in where]))
        safe = tuple(np.where(guard, i, 0) for i in where)
        return np.where(guard, array[safe] if n else array, c[n + 1])

    def _ref(self, e: Ref, c: list[np.ndarray], rank: int) -> np.ndarray:
        """Local tensors have the dimensions grid + own axes; grid positions are the reader's own."""
        value = self.locals[e.stage][e.item]
        grid = len(self.kernel.axes)
        if not c:
            return value.reshape(value.shape + (1,) * (rank - grid))
        points = tuple(np.arange(value.shape[i]).reshape([-1 if j == i else 1 for j in range(rank)]) for i in range(grid))
        return value[points + tuple(c)]

    def _op(self, e: Op, c: list[np.ndarray]) -> np.ndarray:
        dtype = e.children[0].dtype
        if dtype.kind == "b" and e.fn in (s.maximum, s.minimum, s.add, s.mul):
            return (np.logical_or if e.fn in (s.maximum, s.add) else np.logical_and)(*c)
        if dtype.is_float and dtype.itemsize == 2:
            out = e.fn.numpy(*[x.astype(np.float32) for x in c])
            return out if e.fn.result == "bool" else out.astype(dtype.np)
        out = np.asarray(e.fn.numpy(*c))
        return out if e.fn.result == "bool" else out.astype(dtype.np, copy=False)


def cast(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Conversion by value with defined results: float to int truncates towards zero, saturates, and turns nan into 0."""
    source = as_dtype(x.dtype)
    if dtype.kind == "b":
        return x != 0
    if source.is_float and dtype.is_int:
        wide = np.trunc(x.astype(np.float64))
        low, high = float(dtype.min), float(dtype.max)
        inside = (wide >= low) & (wide < high)
        exact = np.where(inside, wide, 0).astype(dtype.np)
        return np.where(inside, exact, np.where(np.isnan(wide), dtype.np.type(0), np.where(wide < low, dtype.np.type(dtype.min), dtype.np.type(dtype.max))))
    if source.np == np.dtype(ml_dtypes.bfloat16) and dtype.is_int:
        return cast(x.astype(np.float32), dtype)
    if dtype.is_float:
        return rounded(x, dtype)
    return x.astype(dtype.np)


def rounded(x: np.ndarray, dtype: DType) -> np.ndarray:
    """``x`` as a float type, with one rounding to nearest even: ml_dtypes rounds float64 to float32 on its way, which has to be to odd then."""
    with np.errstate(all="ignore"):  # infinity where a narrower float can't hold the value
        if x.dtype != np.float64 or dtype.itemsize > 2 or dtype.np == np.float16:
            return x.astype(dtype.np)
        near = np.asarray(x.astype(np.float32))
        back = near.astype(np.float64)
        other = np.nextafter(near, np.where(back < x, np.float32(np.inf), np.float32(-np.inf)))
        even = near.view(np.uint32) % 2 == 0
        return np.where((back != x) & (x == x) & even, other, near).astype(dtype.np)
