"""Writing to computed places: rows along an axis, elements along an axis, and index tuples; each is the derivative of the gather
that reads there (``Take``, ``TakeAlongAxis``, ``GatherND``).

Several updates may meet in one place. They are joined in row-major order of the updates, one after the other, so the result is
the same in every run; what can't meet (axes not scattered over) runs in parallel. An index outside its axis is the user's error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...runtime import dim
from ...runtime.dtype import as_dtype, bool_, float32, int32, int64
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import monoid as m
from ..kernel import simplify as ix
from ..kernel.expr import TRUE, Axis, Const, Expr, Where
from ..kernel.ir import Buffer, Store
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, shape_text
from .gather_nd import GatherND, check_tuples, tuple_at, wrapped_tuples
from .index import Take, TakeAlongAxis, along_axis, check_range, checked, needs_integers, wrapped

Cotangents = tuple[Node | None, ...]
Grid = tuple[tuple[Axis, ...], list[Store]]
COMBINES = {"set": m.LAST, "add": m.SUM, "mul": m.PROD, "max": m.MAX, "min": m.MIN}
_JOIN: dict[str, Callable] = {
    "set": lambda old, new: new, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


@dataclass(frozen=True, eq=False)
class Scatters(Op):
    """Base: ``x`` with ``updates`` joined to what lies where ``indices`` point. ``combine``: "set" (the last update stays),
    "add", "mul", "max", "min"."""

    kind = ""
    combine = "set"  # a field of every subclass, after the one that ``place`` names
    place: ClassVar[str]

    def gather(self) -> Op:
        """The op that reads, from a tensor like ``x``, what lies where the updates go."""
        raise NotImplementedError

    def _check(self, x: TensorType, indices: TensorType) -> None:
        needs_integers(self, indices)
        if self.combine not in COMBINES:
            raise ArgumentError(f"{self.name}: combine={self.combine!r} is none of {', '.join(COMBINES)}")
        if x.dtype is bool_ and self.combine in ("add", "mul"):
            raise DTypeError(f"{self.name} needs numbers to {self.combine}, got {x}")

    def infer(self, *types: TensorType) -> TensorType:
        x, indices, updates = types
        self._check(x, indices)
        expected = self._updates(x, indices)
        if not updates.same(expected):
            raise ShapeError(
                f"{self.name}: updates for {x} at indices {shape_text(indices.shape)} have type {expected}, got {updates}")
        return x

    def _updates(self, x: TensorType, indices: TensorType) -> TensorType:
        raise NotImplementedError

    def _places(self, numbers: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """For each update, the element number of its place (from x's element numbers)."""
        raise NotImplementedError

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x, indices, updates = arrays
        floats = as_dtype(x.dtype).is_float
        out = x.astype(np.float64 if floats else x.dtype).reshape(-1)
        join = _JOIN[self.combine]
        at = self._places(np.arange(x.size).reshape(x.shape), indices)
        for i, u in zip(at.reshape(-1), updates.astype(out.dtype).reshape(-1)):
            out[i] = join(out[i], u)
        return out.reshape(x.shape).astype(x.dtype)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x, indices, u = node.inputs

        def scattered(combine: str, base: Node, updates: Node) -> Node:
            return f.node(_with_combine(self, combine), base, indices, updates)

        def gathered(v: Node) -> Node:
            return f.node(self.gather(), v, indices)

        if self.combine == "add":
            return ct, None, gathered(ct)
        if self.combine == "set":  # the update with the greatest number stays
            number = f.reshape(f.iota((u.type.size,), 0, int64), u.shape)
            stays = f.eq(gathered(scattered("max", f.full(x.shape, -1, int64), number)), number)
            return scattered("set", ct, f.zeros_like(u)), None, f.where(stays, gathered(ct), 0)
        if self.combine == "mul":
            # The product of the others: the product of all factors but 0, and how many are 0 (exact where one of them is 0).
            count = scattered("add", f.cast(f.eq(x, 0), int32), f.cast(f.eq(u, 0), int32))
            rest = gathered(scattered("mul", f.where(f.eq(x, 0), 1, x), f.where(f.eq(u, 0), 1, u)))
            count, own = gathered(count), f.where(f.eq(u, 0), 1, u)
            others = f.where(f.eq(count, f.cast(f.eq(u, 0), int32)), f.div(rest, own), 0)
            return f.mul(ct, scattered("mul", f.ones_like(x), u)), None, f.mul(gathered(ct), others)
        # Equal extremes share the gradient evenly, as those of a reduction do.
        mine, theirs = f.cast(f.eq(x, node), x.dtype), f.cast(f.eq(u, gathered(node)), x.dtype)
        share = f.div(ct, f.maximum(scattered("add", mine, theirs), 1))
        return f.mul(share, mine), None, f.mul(gathered(share), theirs)

    def flops(self, node: Node) -> int:
        return node.inputs[2].type.size if node.dtype.is_float and self.combine != "set" else 0


def _with_combine(op: Scatters, combine: str) -> Scatters:
    return type(op)(getattr(op, op.place), combine)  # type: ignore[call-arg]


def _case(cls, rng: np.random.Generator, place: int, combine: str, x, indices: np.ndarray, updates, dtype, tag: str) -> Sample:
    def draw(shape, offset: float) -> np.ndarray:
        d = as_dtype(dtype)
        if d is bool_:
            return rng.integers(0, 2, shape).astype(bool)
        # values apart from each other: no extreme changes hands within a finite difference
        n = int(np.prod(shape, dtype=np.int64))
        return (rng.permutation(2 * n + 3)[:n] - n + offset).reshape(shape).astype(d.np)

    return Sample(cls(place, combine), (draw(x, 0.25), indices, draw(updates, 0.625)), tags=(tag,))


@dataclass(frozen=True, eq=False)
class Scatter(Scatters):
    """``x`` with ``updates``, of the type that ``Take(axis)`` of x at ``indices`` has, joined to the slices at ``indices``."""

    axis: int
    combine: str = "add"

    kind = "scatter"
    place: ClassVar[str] = "axis"

    def gather(self) -> Op:
        return Take(self.axis)

    def _updates(self, x: TensorType, indices: TensorType) -> TensorType:
        if not 0 <= self.axis < x.rank:
            raise ShapeError(f"{self.name}: there is no axis {self.axis} in {x}")
        return x.with_shape(x.shape[: self.axis] + indices.shape + x.shape[self.axis + 1 :])

    def _places(self, numbers: np.ndarray, indices: np.ndarray) -> np.ndarray:
        check_range(self.name, indices, numbers.shape[self.axis])
        return np.take(numbers, indices, self.axis)

    def lower_stages(self, node: Node, args: Sequence[IndexFn], out: Buffer, ctx: LowerContext) -> Grid:
        """(grid axes, stages): ``x`` is stored, then the updates are joined to it one index after the other. Grid points share
        no element: they number the axes not scattered over."""
        x, indices = node.inputs[0].type, node.inputs[1].type
        grid = ctx.axes(x.shape[: self.axis] + x.shape[self.axis + 1 :], "i")
        before, after = grid[: self.axis], grid[self.axis :]
        (row,) = ctx.axes([x.shape[self.axis]], "i")
        over = ctx.axes(indices.shape, "u")
        i = checked(args[1](over), x.shape[self.axis], self, ctx)
        return grid, [
            Store(out, (row,), (*before, row, *after), args[0]((*before, row, *after))),
            Store(out, (), (*before, i, *after), args[2]((*before, *over, *after)), over=over, combine=COMBINES[self.combine]),
        ]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            _case(cls, rng, axis, combine, x, rng.integers(0, max(x[axis], 1), shape).astype(dtype),
                  x[:axis] + shape + x[axis + 1 :], value, tag)
            for axis, combine, x, shape, dtype, value, tag in [
                (0, "add", (5, 3), (9,), np.int32, np.float32, "odd"),
                (1, "set", (2, 5, 3), (3, 2), np.int64, np.float32, "odd"),
                (0, "max", (3, 2), (0,), np.int32, np.float32, "size0"),
                (0, "mul", (1,), (), np.int64, np.float32, "size1"),
                (2, "min", (2, 1, 4), (5, 1), np.uint8, np.float32, "broadcast"),
                (0, "mul", (4,), (7,), np.int32, np.float32, "odd"),
                (0, "max", (4, 2), (9,), np.int32, np.float32, "odd"),
                (1, "add", (3, 4), (9,), np.int32, np.int16, "odd"),
                (0, "add", (3, 17), (5,), np.int32, np.float16, "odd"),
                (0, "set", (3, 2), (5,), np.int32, np.bool_, "odd"),
                (0, "max", (3, 2), (5,), np.int32, np.bool_, "odd"),
            ]
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, i = TensorType((5, 3), float32), TensorType((2,), int32)
        return [
            BadSample(cls(0), (x, i, TensorType((3, 2), float32)), ShapeError, r"have type float32\[2, 3\], got float32\[3, 2\]"),
            BadSample(cls(2), (x, i, x), ShapeError, "no axis 2"),
            BadSample(cls(0), (x, i.with_dtype(float32), x), DTypeError, "integer indices"),
            BadSample(cls(0), (x.with_dtype(bool_), i, x), DTypeError, "needs numbers to add"),
            BadSample(cls(0, "sum"), (x, i, x), ArgumentError, "'sum' is none of set, add"),
        ]


@dataclass(frozen=True, eq=False)
class ScatterAlongAxis(Scatters):
    """``x`` with each element of ``updates`` (of the indices' shape) joined to the element that ``TakeAlongAxis(axis)`` reads
    for it (ONNX's ScatterElements)."""

    axis: int
    combine: str = "set"

    kind = "scatter"
    place: ClassVar[str] = "axis"

    def gather(self) -> Op:
        return TakeAlongAxis(self.axis)

    def _updates(self, x: TensorType, indices: TensorType) -> TensorType:
        along_axis(self, x, indices)
        return x.with_shape(indices.shape)

    def _places(self, numbers: np.ndarray, indices: np.ndarray) -> np.ndarray:
        check_range(self.name, indices, numbers.shape[self.axis])
        part = tuple([slice(None) if a == self.axis else slice(n) for a, n in enumerate(indices.shape)])
        return np.take_along_axis(numbers[part], indices.astype(np.int64), self.axis)

    def lower_stages(self, node: Node, args: Sequence[IndexFn], out: Buffer, ctx: LowerContext) -> Grid:
        """Lines along the axis are independent. Where indices are fewer than lines, the other lines are only copied."""
        x, indices = node.inputs[0].type, node.inputs[1].type
        grid = ctx.axes(x.shape[: self.axis] + x.shape[self.axis + 1 :], "i")
        before, after = grid[: self.axis], grid[self.axis :]
        (row,) = ctx.axes([x.shape[self.axis]], "i")
        (along,) = over = ctx.axes([indices.shape[self.axis]], "u")
        inside: Expr = TRUE
        for a, n in zip(grid, indices.shape[: self.axis] + indices.shape[self.axis + 1 :]):
            if dim.key(n) != dim.key(a.extent):
                inside = ix.both(inside, ix.within(a, 0, n))
        at = (*before, along, *after)
        i, u = (v if inside is TRUE else Where(inside, v, Const(0, v.dtype)) for v in (args[1](at), args[2](at)))
        i = checked(i, x.shape[self.axis], self, ctx)
        return grid, [
            Store(out, (row,), (*before, row, *after), args[0]((*before, row, *after))),
            Store(out, (), (*before, i, *after), u, None if inside is TRUE else inside, over, COMBINES[self.combine]),
        ]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            _case(cls, rng, axis, combine, x, rng.integers(0, x[axis], shape).astype(dtype), shape, value, tag)
            for axis, combine, x, shape, dtype, value, tag in [
                (0, "set", (5, 3), (7, 3), np.int32, np.float32, "odd"),
                (1, "add", (2, 5, 3), (2, 9, 3), np.int64, np.float32, "odd"),
                (1, "max", (3, 2), (3, 0), np.int32, np.float32, "size0"),
                (0, "min", (1,), (1,), np.int64, np.float32, "size1"),
                (2, "mul", (2, 1, 4), (2, 1, 7), np.uint8, np.float32, "broadcast"),
                (1, "set", (5, 4), (3, 6), np.int32, np.float32, "odd"),
                (0, "add", (3, 19), (5, 18), np.int32, np.float32, "odd"),
                (1, "min", (3, 4), (2, 9), np.int32, np.int32, "odd"),
                (0, "max", (3, 9), (5, 9), np.int32, np.float64, "odd"),
            ]
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, i = TensorType((5, 3), float32), TensorType((2, 3), int32)
        return [
            BadSample(cls(0), (x, i, x), ShapeError, r"have type float32\[2, 3\], got float32\[5, 3\]"),
            BadSample(cls(2), (x, i, x), ShapeError, "no axis 2"),
            BadSample(cls(0), (x, i.with_shape((2, 4)), x), ShapeError, "leave axis 1"),
            BadSample(cls(0, "mean"), (x, i, x), ArgumentError, "'mean' is none of"),
        ]


@dataclass(frozen=True, eq=False)
class ScatterND(Scatters):
    """``x`` with slices ``updates`` joined where index tuples (the last axis of ``indices``) point; the first ``batch_dims`` axes
    of all three run together. ``updates`` has the type that ``GatherND(batch_dims)`` of x at ``indices`` has."""

    batch_dims: int = 0
    combine: str = "set"

    kind = "scatter"
    place: ClassVar[str] = "batch_dims"

    def gather(self) -> Op:
        return GatherND(self.batch_dims)

    def _updates(self, x: TensorType, indices: TensorType) -> TensorType:
        n = self.batch_dims + check_tuples(self, x, indices, self.batch_dims)
        return x.with_shape(indices.shape[:-1] + x.shape[n:])

    def _places(self, numbers: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return GatherND(self.batch_dims).eval(numbers, indices)

    def lower_stages(self, node: Node, args: Sequence[IndexFn], out: Buffer, ctx: LowerContext) -> Grid:
        """Grid: batch axes, and those that the tuples don't index."""
        x, indices = node.inputs[0].type, node.inputs[1].type
        n, b = self.batch_dims + int(indices.shape[-1]), self.batch_dims
        batch, rest = ctx.axes(x.shape[:b], "i"), ctx.axes(x.shape[n:], "i")
        own = ctx.axes(x.shape[b:n], "i")
        over = ctx.axes(indices.shape[b:-1], "u")
        at = tuple_at(self, x.shape[b:n], args[1], (*batch, *over), ctx)
        whole = (*batch, *own, *rest)
        return (*batch, *rest), [
            Store(out, own, whole, args[0](whole)),
            Store(out, (), (*batch, *at, *rest), args[2]((*batch, *over, *rest)), over=over, combine=COMBINES[self.combine]),
        ]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = []
        for b, combine, x, outer, k, dtype, value, tag in [
            (0, "set", (5, 3), (9,), 2, np.int64, np.float32, "odd"),
            (0, "add", (5, 3), (9,), 1, np.int32, np.float32, "odd"),
            (1, "max", (2, 5, 3), (2, 7), 1, np.int64, np.float32, "odd"),
            (0, "mul", (3, 2), (0,), 2, np.int64, np.float32, "size0"),
            (0, "min", (1,), (), 1, np.int32, np.float32, "size1"),
            (2, "mul", (2, 3, 4, 1), (2, 3, 6), 1, np.uint8, np.float32, "broadcast"),
            (0, "set", (3, 4, 2), (3, 3), 2, np.int64, np.float32, "odd"),
            (0, "add", (3, 4), (11,), 2, np.int64, np.int32, "odd"),
        ]:
            indices = np.stack([rng.integers(0, x[b + j], outer) for j in range(k)], -1).astype(dtype)
            out.append(_case(cls, rng, b, combine, x, indices, outer + x[b + k :], value, tag))
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, i = TensorType((5, 3), float32), TensorType((4, 2), int32)
        return [
            BadSample(cls(), (x, i, x), ShapeError, r"have type float32\[4\], got float32\[5, 3\]"),
            BadSample(cls(), (x, i.with_shape((4, 3)), x), ShapeError, "index tuples of length 3"),
            BadSample(cls(1), (x, i.with_shape((4, 1)), x), ShapeError, "batch axes"),
            BadSample(cls(0, "or"), (x, i, x), ArgumentError, "'or' is none of"),
        ]


def scatter(x, indices, updates, axis: int = 0, combine: str = "set", wrap: bool = False) -> Node:
    """``x`` with ``updates`` joined to its slices along ``axis`` at ``indices``; ``combine``: "set", "add", "mul", "max", "min".
    With ``wrap`` negative indices count from the end; others out of range raise IndexRangeError when run."""
    x, updates = f.operands("scatter", x, updates)
    indices = f.constant(indices)
    axis = f.one_axis("scatter", axis, x.rank)
    updates = f.broadcast_to(updates, x.shape[:axis] + indices.shape + x.shape[axis + 1 :])
    return f.node(Scatter(axis, combine), x, wrapped(indices, x.shape[axis], wrap), updates)


def scatter_add(x, indices, updates, axis: int = 0) -> Node:
    """``x`` with ``updates`` added along ``axis`` at ``indices``."""
    return scatter(x, indices, updates, axis, "add")


def scatter_along_axis(x, indices, updates, axis: int = -1, combine: str = "set", wrap: bool = False) -> Node:
    """``x`` with each element of ``updates`` joined to x's element along ``axis`` at its index (see ``scatter``); the other axes
    of ``indices`` may be shorter than those of ``x``."""
    x, updates = f.operands("scatter_along_axis", x, updates)
    indices = f.constant(indices)
    axis = f.one_axis("scatter_along_axis", axis, x.rank)
    updates = f.broadcast_to(updates, indices.shape)
    return f.node(ScatterAlongAxis(axis, combine), x, wrapped(indices, x.shape[axis], wrap), updates)


def scatter_nd(x, indices, updates, combine: str = "set", batch_dims: int = 0, wrap: bool = False) -> Node:
    """``x`` with slices ``updates`` joined where index tuples (the last axis of ``indices``) point (see ``scatter``)."""
    x, updates = f.operands("scatter_nd", x, updates)
    op = ScatterND(batch_dims, combine)
    indices = wrapped_tuples(x, f.constant(indices), batch_dims, wrap)
    return f.node(op, x, indices, f.broadcast_to(updates, op._updates(x.type, indices.type).shape))
