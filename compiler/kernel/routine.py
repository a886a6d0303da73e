"""Routines: what has no expression form (running folds, sorting, factorisations, rejection sampling).

A ``Routine`` stands where a ``Kernel`` does: it has a name and buffers (those read, then those written) and becomes code of the same ABI. It
is a frozen record of what its text depends on; ``sizes`` are run-time arguments of the code, so that one object serves every
shape. ``run`` is its NumPy meaning. Each backend has one emitter per class, in a file of its own.

Buffers are given as their op collapses them: ``(outer, n, inner)`` around the axis worked along, or a batch of matrices. The work
units of a routine (rows, matrices) are independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np

from ...runtime.dim import Dim, key, unguarded
from ...runtime.errors import InternalError
from .ir import Buffer, Stage


@dataclass(frozen=True)
class Routine:
    """Base. ``outputs`` of the ``buffers``, the last ones, are written; ``sizes`` name the extents that the code asks for, in the class' order."""

    name: str
    buffers: tuple[Buffer, ...]
    outputs: int
    sizes: tuple[int, ...]

    axes: ClassVar[tuple] = ()
    stages: ClassVar[tuple[Stage, ...]] = ()  # no loop nest to look into

    @property
    def reads(self) -> tuple[Buffer, ...]:
        return self.buffers[: len(self.buffers) - self.outputs]

    @property
    def writes(self) -> tuple[Buffer, ...]:
        return self.buffers[len(self.buffers) - self.outputs:]

    @property
    def attributes(self) -> tuple[tuple[str, object], ...]:
        """What distinguishes routines of one class beside types and sizes."""
        return tuple((f.name, getattr(self, f.name)) for f in fields(self) if f.name not in ("name", "buffers", "outputs", "sizes"))

    @property
    def key(self) -> tuple:
        return (type(self).__name__, *self.attributes, tuple(b.key for b in self.buffers), key(self.sizes))

    @property
    def text(self) -> str:
        """What code is cached by: class, attributes and element types; sizes don't enter."""
        given = "".join(f", {k}={v!r}" for k, v in self.attributes)
        buffers = ", ".join(f"{b.name}: {b.dtype}" for b in self.buffers)
        return f"routine {type(self).__name__}({buffers}; {self.outputs} written{given})"

    def lifted(self) -> tuple[Routine, tuple[int, ...]]:
        """(the routine over run-time parameters p0, p1, ..., the sizes that these stand for)."""
        with unguarded():
            names = tuple(Dim.free(f"p{i}", 1 << 40) for i in range(len(self.sizes)))
            return replace(self, sizes=names), self.sizes

    def run(self, arrays: Sequence[np.ndarray]) -> None:
        """The NumPy meaning, on one array per buffer, of the buffers' shapes; written ones are updated in place."""
        for b, x in zip(self.buffers, arrays, strict=True):
            if x.shape != tuple(int(n) for n in b.shape):
                raise InternalError(f"{self.name}: {b.name} has shape {x.shape}, expected {b.shape}")
        n = len(self.reads)
        with np.errstate(all="ignore"):
            for place, value in zip(arrays[n:], self.compute(*arrays[:n]), strict=True):
                place[...] = value

    def compute(self, *reads: np.ndarray) -> tuple[np.ndarray, ...]:
        """The arrays written, of the arrays read."""
        raise NotImplementedError


def _wide(x: np.ndarray) -> np.ndarray:
    """16-bit floats as float32, which is what registers hold."""
    return x.astype(np.float32) if x.dtype.kind not in "iub" and x.dtype.itemsize == 2 else x


@dataclass(frozen=True)
class Prefix(Routine):
    """Running folds along the middle of (outer, n, inner). ``fold``: sum, prod, max, min, logsumexp, or affine, which has two operands a, b:
    y[i] = a[i] * y[i-1] + b[i] from 0. ``exclusive`` leaves an element out of its own prefix; ``reverse`` folds from the end.
    ``contiguous`` states that inner is 1. Sizes: outer, n, inner.
    """

    fold: str
    exclusive: bool = False
    reverse: bool = False
    contiguous: bool = False

    def compute(self, *reads: np.ndarray) -> tuple[np.ndarray, ...]:
        xs = [_wide(x)[:, ::-1] if self.reverse else _wide(x) for x in reads]
        if self.fold == "affine":
            y = _affine(*xs)
        else:
            y = _ACCUMULATE[self.fold](xs[0], axis=1, dtype=xs[0].dtype)
        if self.exclusive:
            first = np.full_like(y[:, :1], neutral(self.fold, reads[0].dtype))
            y = np.concatenate([first, y[:, :-1]], 1)[:, : y.shape[1]]
        return ((y[:, ::-1] if self.reverse else y).astype(reads[0].dtype),)


_ACCUMULATE = {"sum": np.add.accumulate, "prod": np.multiply.accumulate, "max": np.maximum.accumulate, "min": np.minimum.accumulate,
               "logsumexp": np.logaddexp.accumulate}


def neutral(fold: str, dtype: np.dtype):
    """What an empty prefix gives."""
    if fold in ("sum", "prod", "affine"):
        return 1 if fold == "prod" else 0
    if dtype.kind in "iub":
        return np.iinfo(dtype).max if fold == "min" else np.iinfo(dtype).min
    return np.inf if fold == "min" else -np.inf


def _affine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    y = np.empty_like(b)
    state = np.zeros_like(b[:, 0] if b.shape[1] else b.sum(1))
    for i in range(b.shape[1]):
        state = a[:, i] * state + b[:, i]
        y[:, i] = state
    return y


@dataclass(frozen=True)
class Order(Routine):
    """Where the first k elements of the sorted middle of (outer, n, inner) stand: int32 (outer, k, inner). Stable: of equal elements the
    earlier one comes first in either direction; nan is greater than every number, -0 equals 0. Sizes: outer, n, inner, k.
    """

    descending: bool = False
    contiguous: bool = False

    def compute(self, *reads: np.ndarray) -> tuple[np.ndarray, ...]:
        keys = _wide(reads[0])
        if keys.dtype.kind == "f":
            nan = np.isnan(keys)
            order = np.lexsort((np.where(nan, 0, keys), nan), axis=1) if not self.descending else np.lexsort((-np.where(nan, 0, keys), ~nan), axis=1)
        else:
            order = np.argsort(~keys if self.descending else keys, axis=1, kind="stable")
        return (order[:, : int(self.sizes[3])].astype(np.int32),)


@dataclass(frozen=True)
class Factor(Routine):
    """A factorisation of a batch of square matrices (batch, n, n), without blocks. ``form``: "cholesky" (the lower factor, of the lower half; nan
    from the first row on that is not positive definite) or "lu" (both factors in one matrix, the order of the rows, and the row that each
    step exchanged with its own, int32 (batch, n): partial pivoting, first of equal pivots). Sizes: batch, n.
    """

    form: str

    def compute(self, *reads: np.ndarray) -> tuple[np.ndarray, ...]:
        if self.form == "cholesky":
            return (_cholesky(reads[0]),)
        return _lu(reads[0])


def _cholesky(a: np.ndarray) -> np.ndarray:
    low = np.zeros_like(a)
    for j in range(a.shape[1]):
        rest = a[:, j:, j] - np.einsum("bik,bk->bi", low[:, j:, :j], low[:, j, :j])
        pivot = np.sqrt(rest[:, :1])
        low[:, j:, j] = np.concatenate([pivot, rest[:, 1:] / pivot], 1)
    return low


def _lu(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a = a.copy()
    batch, n = a.shape[:2]
    rows = np.tile(np.arange(n, dtype=np.int32), (batch, 1))
    exchanged = rows.copy()
    every = np.arange(batch)
    for k in range(n):
        p = k + np.argmax(np.abs(a[:, k:, k]), 1) if batch else np.zeros(0, np.int64)
        exchanged[:, k] = p
        for x in (a, rows):
            x[every, k], x[every, p] = x[every, p].copy(), x[every, k].copy()
        pivot = a[:, k, k][:, None]
        a[:, k + 1:, k] = np.where(pivot == 0, a[:, k + 1:, k], a[:, k + 1:, k] / np.where(pivot == 0, 1, pivot))
        a[:, k + 1:, k + 1:] -= a[:, k + 1:, k, None] * a[:, k, None, k + 1:]
    return a, rows, exchanged


@dataclass(frozen=True)
class TriangularSolve(Routine):
    """X of op(A) X = B for a triangular A (batch, n, n) and B (batch, n, m). ``lower``: which half of A holds it (the other is not read);
    ``transposed``: op(A) is A's transpose; ``unit``: the diagonal counts as ones. Sizes: batch, n, m.
    """

    lower: bool
    transposed: bool
    unit: bool

    def compute(self, *reads: np.ndarray) -> tuple[np.ndarray, ...]:
        a, b = reads
        n = a.shape[1]
        a = np.swapaxes(a, 1, 2) if self.transposed else a
        forward = self.lower != self.transposed
        x = np.zeros_like(b)
        for i in range(n) if forward else reversed(range(n)):
            done = slice(0, i) if forward else slice(i + 1, n)
            x[:, i] = b[:, i] - np.einsum("bk,bkm->bm", a[:, i, done], x[:, done])
            if not self.unit:
                x[:, i] /= a[:, i, i, None]
        return (x,)
