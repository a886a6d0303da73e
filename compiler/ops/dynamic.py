"""A block at a place known only at run time: cut out, or replaced. The two are each other's derivative.

Starts are clamped so that the block lies inside, as XLA's dynamic_slice and dynamic_update_slice do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime import dim
from ...runtime.dtype import float32, int32, int64
from ...runtime.errors import DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import scalar_ops as s
from ..kernel import simplify as ix
from ..kernel.expr import TRUE, Cast, Expr, Where, index, op
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, shape_text

Cotangents = tuple[Node | None, ...]


def _check(op_: Op, x: TensorType, sizes: Sequence[int], starts: TensorType) -> None:
    if not starts.dtype.is_int or starts.rank != 1 or dim.key(starts.shape[0]) != x.rank:
        raise (ShapeError if starts.dtype.is_int else DTypeError)(
            f"{op_.name} needs a vector of {x.rank} integer starts for {x}, got {starts}")
    if len(sizes) != x.rank:
        raise ShapeError(f"{op_.name}: a block {shape_text(sizes)} of {x}")
    for axis, (n, m) in enumerate(zip(x.shape, sizes)):
        if dim.key(m) != dim.key(n) and (m > n or m < 0):
            raise ShapeError(f"{op_.name}: a block {shape_text(sizes)} does not fit axis {axis} of {x}")


def _starts(x: TensorType, sizes: Sequence[int], read: IndexFn) -> list[Expr]:
    """Where the block begins along each axis; 0 where it is as long as the axis."""
    return [
        index(0) if dim.key(n) == dim.key(m) else _clamped(read((index(a),)), n - m)
        for a, (n, m) in enumerate(zip(x.shape, sizes))
    ]


def _clamped(e: Expr, high: int) -> Expr:
    """``e`` in [0, high]."""
    e = e if e.dtype is int64 else Cast(e, int64)
    return op(s.maximum, op(s.minimum, e, index(high)), index(0))


def _corner(x: np.ndarray, sizes: Sequence[int], starts: np.ndarray) -> tuple[slice, ...]:
    """The block as NumPy slices (the oracle's)."""
    first = [min(max(int(b), 0), n - int(m)) for n, m, b in zip(x.shape, sizes, starts)]
    return tuple([slice(b, b + int(m)) for b, m in zip(first, sizes)])


# x, sizes of the block, starts, tag
_CASES = [
    ((5, 7), (3, 2), (1, 4), "odd"),
    ((5, 7), (3, 2), (4, -3), "odd"),
    ((4, 3), (0, 3), (9, 0), "size0"),
    ((1,), (1,), (3,), "size1"),
    ((2, 1, 9), (2, 1, 4), (5, -1, 5), "broadcast"),
    ((9, 4), (1, 4), (8, 0), "odd"),
    ((3, 40), (2, 33), (1, 5), "odd"),
    ((), (), (), "size1"),
]


@dataclass(frozen=True, eq=False)
class DynamicSlice(Op):
    """The block of ``sizes`` of ``x`` that begins at ``starts`` (an integer vector), clamped to lie inside."""

    sizes: tuple[int, ...]

    kind = "index"

    def infer(self, *types: TensorType) -> TensorType:
        x, starts = types
        _check(self, x, self.sizes, starts)
        return x.with_shape(self.sizes)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x, starts = arrays
        return np.array(x[_corner(x, self.sizes, starts)])

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x, starts = node.inputs
        return f.node(DynamicUpdate(), f.zeros_like(x), ct, starts), None

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        starts = _starts(node.inputs[0].type, self.sizes, args[1])
        return args[0](tuple([ix.add(e, b) for e, b in zip(at, starts)]))

    def reads(self, node: Node, i: int) -> str:
        return "view" if i == 0 else "many"

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(cls(sizes), (rng.standard_normal(x).astype(np.float32), np.array(starts, dtype)), tags=(tag,))
            for (x, sizes, starts, tag), dtype in zip(_CASES, [np.int32, np.int64] * len(_CASES))
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, i = TensorType((5, 3), float32), TensorType((2,), int32)
        return [
            BadSample(cls((6, 3)), (x, i), ShapeError, r"block \[6, 3\] does not fit axis 0"),
            BadSample(cls((2, 3)), (x, i.with_shape((3,))), ShapeError, "a vector of 2 integer starts"),
            BadSample(cls((2, 3)), (x, i.with_dtype(float32)), DTypeError, "integer starts"),
            BadSample(cls((2,)), (x, i), ShapeError, r"block \[2\] of"),
        ]


@dataclass(frozen=True, eq=False)
class DynamicUpdate(Op):
    """``x`` with the block that begins at ``starts`` (clamped to lie inside) replaced by ``update``."""

    kind = "index"

    def infer(self, *types: TensorType) -> TensorType:
        x, update, starts = types
        if update.dtype is not x.dtype:
            raise DTypeError(f"{self.name} of {x} with {update}: their types differ")
        _check(self, x, update.shape, starts)
        return x

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x, update, starts = arrays
        out = np.array(x)
        out[_corner(x, update.shape, starts)] = update
        return out

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        _, update, starts = node.inputs
        return f.node(DynamicUpdate(), ct, f.zeros_like(update), starts), f.node(DynamicSlice(update.shape), ct, starts), None

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        x, update = node.inputs[0].type, node.inputs[1].type
        if any(dim.key(m) == 0 for m in update.shape):
            return args[0](at)
        inside: Expr = TRUE
        where = []
        for e, b, n, m in zip(at, _starts(x, update.shape, args[2]), x.shape, update.shape):
            if dim.key(n) == dim.key(m):
                where.append(e)
                continue
            p = ix.sub(e, b)
            inside = ix.both(inside, ix.both(op(s.ge, p, index(0)), op(s.lt, p, index(m))))
            where.append(_clamped(p, m - 1))  # read in any case, so it lies inside in any case
        new = args[1](tuple(where))
        return new if inside is TRUE else Where(inside, new, args[0](at))

    def reads(self, node: Node, i: int) -> str:
        return ("same", "view", "many")[i]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(
                cls(),
                (*[rng.standard_normal(shape).astype(np.float32) for shape in (x, sizes)], np.array(starts, dtype)),
                tags=(tag,),
            )
            for (x, sizes, starts, tag), dtype in zip(_CASES, [np.int64, np.int32] * len(_CASES))
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, i = TensorType((5, 3), float32), TensorType((2,), int32)
        return [
            BadSample(cls(), (x, x.with_shape((5, 4)), i), ShapeError, r"block \[5, 4\] does not fit axis 1"),
            BadSample(cls(), (x, x.with_dtype(int32), i), DTypeError, "their types differ"),
            BadSample(cls(), (x, x, i.with_shape(())), ShapeError, "a vector of 2 integer starts"),
        ]


def _vector(starts) -> Node:
    """Starts as one vector: a node, or a number or scalar node for each axis."""
    if isinstance(starts, (list, tuple)):
        nodes = [f.cast(f.constant(b), int64) for b in starts]
        return f.stack(nodes, 0) if nodes else f.zeros((0,), int64)
    return f.constant(starts)


def dynamic_slice(x, starts, sizes: Sequence[int]) -> Node:
    """The block of ``sizes`` that begins at ``starts`` (an integer vector, or one number or scalar node an axis), clamped to lie
    inside ``x``."""
    return f.node(DynamicSlice(tuple(sizes)), f.constant(x), _vector(starts))


def dynamic_update(x, update, starts) -> Node:
    """``x`` with the block that begins at ``starts`` (as for ``dynamic_slice``) replaced by ``update``."""
    x = f.constant(x)
    return f.node(DynamicUpdate(), x, f.constant(update, x.dtype), _vector(starts))
