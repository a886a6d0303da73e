"""Data-dependent positions along an axis, and the index number itself (``scatter`` writes where these read).

An index outside its axis is the user's error: kernels clamp it and set the call's error word, ``eval`` raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.dim import key, text
from ...runtime.dtype import DType, as_dtype, bool_, float32, int32, int64
from ...runtime.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel.expr import Cast, Check, Expr
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, shape_text

Cotangents = tuple[Node | None, ...]


def check_range(name: str, indices: np.ndarray, size: int) -> None:
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        bad = indices[(indices < 0) | (indices >= size)].flat[0]
        raise IndexRangeError(f"{name}: index {bad} is outside [0, {size})")


def along_axis(op: Op, x: TensorType, indices: TensorType) -> None:
    """``indices`` pick elements of ``x`` along the op's axis: of one rank, and no longer than x along the others."""
    axis: int = op.axis  # type: ignore[attr-defined]
    if x.rank != indices.rank:
        raise ShapeError(f"{op.name} needs operands of one rank, got {x} and indices {indices}")
    if not 0 <= axis < x.rank:
        raise ShapeError(f"{op.name}: there is no axis {axis} in {x}")
    for a, (n, m) in enumerate(zip(x.shape, indices.shape)):
        if a != axis and key(n) != key(m) and m > n:
            raise ShapeError(f"{op.name}: indices {indices} leave axis {a} of {x}")


def checked(e: Expr, size: int, op: Op, ctx: LowerContext) -> Expr:
    e = e if e.dtype is int64 else Cast(e, int64)
    return Check(e, size, ctx.error(f"{op.name}: an index is outside [0, {text(size)})"))


def needs_elements(op: Op, x: TensorType, indices: TensorType) -> None:
    """An axis without elements has no index that lies inside it."""
    if key(x.shape[op.axis]) == 0 and all(key(n) != 0 for n in indices.shape):  # type: ignore[attr-defined]
        raise IndexRangeError(f"{op.name}: axis {op.axis} of {x} has no elements to take")  # type: ignore[attr-defined]


def needs_integers(op: Op, indices: TensorType) -> None:
    if not indices.dtype.is_int:
        raise DTypeError(f"{op.name} needs integer indices, got {indices}")


@dataclass(frozen=True, eq=False)
class Iota(Op):
    """The index along ``axis``, as numbers of ``dtype``, in every element of ``shape``."""

    shape: tuple[int, ...]
    axis: int
    dtype: DType

    kind = "source"
    cheap = True

    def infer(self, *types: TensorType) -> TensorType:
        if not 0 <= self.axis < len(self.shape):
            raise ShapeError(f"Iota: there is no axis {self.axis} in {shape_text(self.shape)}")
        if self.dtype is bool_:
            raise DTypeError("Iota counts in numbers, not bool")
        return TensorType(self.shape, self.dtype)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        n = int(self.shape[self.axis])
        line = np.arange(n).astype(self.dtype.np).reshape([n if i == self.axis else 1 for i in range(len(self.shape))])
        return np.broadcast_to(line, tuple(map(int, self.shape)))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return ()

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        return at[self.axis] if self.dtype is int64 else Cast(at[self.axis], self.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(cls((3, 5), 1, int32), (), tags=("odd",)),
            Sample(cls((0, 3), 1, int64), (), tags=("size0",)),
            Sample(cls((1,), 0, float32), (), tags=("size1",)),
            Sample(cls((2, 1, 7), 2, as_dtype("uint8")), (), tags=("broadcast",)),
            Sample(cls((9, 2), 0, as_dtype("float16")), ()),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [
            BadSample(cls((3,), 1, int32), (), ShapeError, "no axis 1"),
            BadSample(cls((3,), 0, bool_), (), DTypeError, "not bool"),
        ]


@dataclass(frozen=True, eq=False)
class Take(Op):
    """Slices of ``x`` along ``axis`` at ``indices``: the result's shape has the indices' shape in the axis' place."""

    axis: int

    kind = "index"

    def infer(self, *types: TensorType) -> TensorType:
        x, indices = types
        needs_integers(self, indices)
        if not 0 <= self.axis < x.rank:
            raise ShapeError(f"Take: there is no axis {self.axis} in {x}")
        needs_elements(self, x, indices)
        return x.with_shape(x.shape[: self.axis] + indices.shape + x.shape[self.axis + 1 :])

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x, indices = arrays
        check_range("Take", indices, x.shape[self.axis])
        return np.asarray(np.take(x, indices, self.axis))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x, indices = node.inputs
        return f.scatter(f.zeros_like(x), indices, ct, self.axis, "add"), None

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        x, indices = node.inputs
        end = self.axis + indices.rank
        i = checked(args[1](at[self.axis : end]), x.shape[self.axis], self, ctx)
        return args[0]((*at[: self.axis], i, *at[end:]))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(
                cls(axis),
                (rng.standard_normal(x).astype(np.float32), rng.integers(0, max(x[axis], 1), shape).astype(dtype)),
                tags=(tag,),
            )
            for axis, x, shape, dtype, tag in [
                (0, (5, 3), (7,), np.int32, "odd"),
                (1, (2, 5, 3), (3, 2), np.int64, "odd"),
                (0, (3, 2), (0,), np.int32, "size0"),
                (0, (0, 2), (0, 3), np.int32, "size0"),
                (0, (1,), (), np.int64, "size1"),
                (2, (2, 1, 4), (5, 1), np.uint8, "broadcast"),
            ]
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((5, 3), float32)
        return [
            BadSample(cls(0), (x, x), DTypeError, r"integer indices, got float32\[5, 3\]"),
            BadSample(cls(2), (x, TensorType((2,), int32)), ShapeError, "no axis 2"),
        ]


@dataclass(frozen=True, eq=False)
class TakeAlongAxis(Op):
    """x[..., indices[...], ...]: one element along ``axis`` for each element of ``indices``, whose other axes are at most as
    long as those of ``x`` (NumPy's take_along_axis, ONNX's GatherElements).
    """

    axis: int

    kind = "index"

    def infer(self, *types: TensorType) -> TensorType:
        x, indices = types
        needs_integers(self, indices)
        if not 0 <= self.axis < x.rank:
            raise ShapeError(f"TakeAlongAxis: there is no axis {self.axis} in {x}")
        needs_elements(self, x, indices)
        along_axis(self, x, indices)
        return x.with_shape(indices.shape)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x, indices = arrays
        check_range("TakeAlongAxis", indices, x.shape[self.axis])
        part = tuple([slice(None) if a == self.axis else slice(n) for a, n in enumerate(indices.shape)])
        return np.take_along_axis(x[part], indices.astype(np.int64), self.axis)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x, indices = node.inputs
        return f.scatter_along_axis(f.zeros_like(x), indices, ct, self.axis, "add"), None

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        i = checked(args[1](at), node.inputs[0].shape[self.axis], self, ctx)
        return args[0]((*at[: self.axis], i, *at[self.axis + 1 :]))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(
                cls(axis),
                (
                    rng.standard_normal(x).astype(np.float32),
                    rng.integers(0, x[axis], (*x[:axis], n, *x[axis + 1 :])).astype(dtype),
                ),
                tags=(tag,),
            )
            for axis, x, n, dtype, tag in [
                (0, (5, 3), 7, np.int32, "odd"),
                (1, (2, 5, 3), 2, np.int64, "odd"),
                (1, (3, 2), 0, np.int32, "size0"),
                (0, (1,), 1, np.int64, "size1"),
                (2, (2, 1, 4), 5, np.uint8, "broadcast"),
            ]
        ] + [
            Sample(cls(1), (rng.standard_normal((4, 5)), rng.integers(0, 5, (3, 7))), tags=("odd",)),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, i = TensorType((5, 3), float32), TensorType((5, 1), int32)
        return [
            BadSample(cls(0), (x, i.with_shape((5, 4))), ShapeError, "leave axis 1 of"),
            BadSample(cls(0), (x, i.with_shape((5,))), ShapeError, "of one rank"),
            BadSample(cls(1), (x, i.with_dtype(float32)), DTypeError, "integer indices"),
            BadSample(cls(2), (x, i), ShapeError, "no axis 2"),
        ]


def iota(shape: Sequence[int], axis: int = 0, dtype=int32) -> Node:
    """The index along ``axis`` in every element of ``shape``."""
    shape = tuple(shape)
    return f.node(Iota(shape, f.one_axis("iota", axis, len(shape)), as_dtype(dtype)))


def wrapped(indices: Node, n: int, wrap: bool) -> Node:
    return f.where(f.lt(indices, 0), f.add(indices, n), indices) if wrap and indices.dtype.kind == "i" else indices


def _admitted(name: str, indices: Node, n: int, mode: str) -> tuple[Node, Node | None]:
    """Indices that may be read, and which of them lay inside where the others are filled."""
    if mode == "raise":
        return indices, None
    if mode not in ("clip", "fill"):
        raise ArgumentError(f"{name}: mode={mode!r} is none of raise, clip, fill")
    wide = indices if indices.dtype.itemsize >= 4 else f.cast(indices, int32)
    inside = f.logical_and(f.ge(wide, 0), f.lt(wide, n)) if mode == "fill" else None
    return f.minimum(f.maximum(wide, 0), n - 1), inside


def take(x, indices, axis: int = 0, wrap: bool = False, mode: str = "raise", fill=0) -> Node:
    """Slices of ``x`` along ``axis`` at ``indices``; with ``wrap`` negative ones count from the end. Others out of range raise
    when run, read the nearest slice (``mode`` "clip"), or give ``fill`` ("fill").
    """
    x, indices = f.constant(x), f.constant(indices)
    axis = f.one_axis("take", axis, x.rank)
    n = x.shape[axis]
    if mode == "fill" and key(n) == 0:
        return f.full(x.shape[:axis] + indices.shape + x.shape[axis + 1 :], fill, x.dtype)
    places, inside = _admitted("take", wrapped(indices, n, wrap), n, mode)
    out = f.node(Take(axis), x, places)
    if inside is None:
        return out
    inside = f.reshape(inside, (*(1,) * axis, *indices.shape, *(1,) * (x.rank - axis - 1)))
    return f.where(inside, out, f.constant(fill, x.dtype))


def take_along_axis(x, indices, axis: int = -1, wrap: bool = False, mode: str = "raise", fill=0) -> Node:
    """NumPy's take_along_axis, with broadcasting of the other axes; ``wrap``, ``mode`` and ``fill`` as in ``take``."""
    x, indices = f.constant(x), f.constant(indices)
    axis = f.one_axis("take_along_axis", axis, x.rank)
    if x.rank != indices.rank:
        raise ShapeError(f"take_along_axis needs operands of one rank, got {x.type} and {indices.type}")
    rest = [s[:axis] + s[axis + 1 :] for s in (x.shape, indices.shape)]
    common = f.broadcast_shapes("take_along_axis", *rest)
    x = f.broadcast_to(x, (*common[:axis], x.shape[axis], *common[axis:]))
    indices = f.broadcast_to(indices, (*common[:axis], indices.shape[axis], *common[axis:]))
    n = x.shape[axis]
    if mode == "fill" and key(n) == 0:
        return f.full(indices.shape, fill, x.dtype)
    places, inside = _admitted("take_along_axis", wrapped(indices, n, wrap), n, mode)
    out = f.node(TakeAlongAxis(axis), x, places)
    return out if inside is None else f.where(inside, out, f.constant(fill, x.dtype))


def one_hot(indices, depth: int, dtype=float32, axis: int = -1) -> Node:
    """1 where the new axis' index equals the element's, else 0 (an index out of range gives zeros)."""
    indices = f.constant(indices)
    if indices.dtype.itemsize < 4:  # the new axis may be longer than a narrow type counts
        indices = f.cast(indices, float32 if indices.dtype.is_float else int32)
    axis = f.one_axis("one_hot", axis, indices.rank + 1)
    shape = (*indices.shape[:axis], depth, *indices.shape[axis:])
    return f.cast(f.eq(f.iota(shape, axis, indices.dtype), f.broadcast_to(f.expand_dims(indices, (axis,)), shape)), dtype)
