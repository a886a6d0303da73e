"""Slices at index tuples (ONNX's GatherND; NumPy's x[i, j, ...] with arrays)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.dim import Dim, key
from ...runtime.dtype import float32, int32
from ...runtime.errors import ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel.expr import Expr, index
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, shape_text
from .index import check_range, checked, needs_integers


def check_tuples(op: Op, x: TensorType, indices: TensorType, batch_dims: int) -> int:
    """The length of the index tuples; raises ShapeError where they don't fit ``x``."""
    if not indices.rank or type(indices.shape[-1]) is Dim:
        raise ShapeError(f"{op.name} needs index tuples of a known length on the last axis of its indices, got {indices}")
    k = int(indices.shape[-1])
    common = x.shape[:batch_dims], indices.shape[:batch_dims]
    if not 0 <= batch_dims < max(min(x.rank, indices.rank), 1) or key(common[0]) != key(common[1]) and common[0] != common[1]:
        raise ShapeError(f"{op.name}: {batch_dims} batch axes are not the first ones of {x} and of indices {indices}")
    if not 1 <= k <= x.rank - batch_dims:
        raise ShapeError(f"{op.name}: index tuples of length {k} for {shape_text(x.shape[batch_dims:])}")
    return k


def tuple_at(op: Op, sizes: Sequence[int], read: IndexFn, at: tuple[Expr, ...], ctx: LowerContext) -> tuple[Expr, ...]:
    """The indices of the tuple at ``at``, checked against ``sizes``."""
    return tuple([checked(read((*at, index(j))), n, op, ctx) for j, n in enumerate(sizes)])


@dataclass(frozen=True, eq=False)
class GatherND(Op):
    """The slices of ``x`` at index tuples, the last axis of ``indices``; the first ``batch_dims`` axes of both run together."""

    batch_dims: int = 0

    kind = "index"

    def infer(self, *types: TensorType) -> TensorType:
        x, indices = types
        needs_integers(self, indices)
        n = self.batch_dims + check_tuples(self, x, indices, self.batch_dims)
        return x.with_shape(indices.shape[:-1] + x.shape[n:])

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x, indices = arrays
        b, k = self.batch_dims, indices.shape[-1]
        for j in range(k):
            check_range(self.name, indices[..., j], x.shape[b + j])
        outer = indices.shape[:-1]
        batch = np.meshgrid(*[np.arange(n) for n in outer], indexing="ij")[:b] if b else []
        return np.asarray(x[(*batch, *[indices[..., j].astype(np.int64) for j in range(k)])]).reshape(outer + x.shape[b + k :])

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        x, indices = node.inputs
        return f.scatter_nd(f.zeros_like(x), indices, ct, "add", self.batch_dims), None

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        x, indices = node.inputs
        b, outer = self.batch_dims, indices.rank - 1
        sizes = x.shape[b : b + int(indices.shape[-1])]
        return args[0]((*at[:b], *tuple_at(self, sizes, args[1], at[:outer], ctx), *at[outer:]))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = []
        for b, x, outer, k, dtype, tag in [
            (0, (5, 3), (7,), 2, np.int32, "odd"),
            (0, (2, 5, 3), (3, 2), 1, np.int64, "odd"),
            (1, (2, 5, 3), (2, 7), 2, np.int64, "odd"),
            (0, (3, 2), (0,), 2, np.int32, "size0"),
            (0, (1,), (), 1, np.int64, "size1"),
            (2, (2, 3, 4, 1), (2, 3, 6), 1, np.uint8, "broadcast"),
        ]:
            parts = [rng.integers(0, x[b + j], outer) for j in range(k)]
            indices = np.stack(parts, -1).astype(dtype)
            out.append(Sample(cls(b), (rng.standard_normal(x).astype(np.float32), indices), tags=(tag,)))
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, i = TensorType((5, 3), float32), TensorType((4, 3), int32)
        return [
            BadSample(cls(), (x, i), ShapeError, "index tuples of length 3"),
            BadSample(cls(1), (x, i), ShapeError, "1 batch axes are not the first"),
            BadSample(cls(), (x, i.with_shape(())), ShapeError, "index tuples of a known length"),
        ]


def wrapped_tuples(x: Node, indices: Node, batch_dims: int, wrap: bool) -> Node:
    """Index tuples whose negative entries count from the end of their axis."""
    if not wrap or indices.dtype.kind != "i":
        return indices
    k = check_tuples(GatherND(batch_dims), x.type, indices.type, batch_dims)
    sizes = f.concat([f.full((1,), n, indices.dtype) for n in x.shape[batch_dims : batch_dims + k]], 0)
    return f.where(f.lt(indices, 0), f.add(indices, f.broadcast_to(sizes, indices.shape)), indices)


def gather_nd(x, indices, batch_dims: int = 0, wrap: bool = False) -> Node:
    """Slices of ``x`` at index tuples (the last axis of ``indices``); with ``wrap`` negative indices count from the end."""
    x, indices = f.constant(x), f.constant(indices)
    return f.node(GatherND(batch_dims), x, wrapped_tuples(x, indices, batch_dims, wrap))
