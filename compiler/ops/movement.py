"""Ops that move elements: every result element is one operand element, or padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime import dim
from ...runtime.dtype import float32, int32
from ...runtime.errors import ArgumentError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import simplify as ix
from ..kernel.expr import Const, Expr, Where, index
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, is_one, shape_text
from .slicing import Slice

Cotangents = tuple[Node | None, ...]


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """The elements in row-major order under another shape of as many elements."""

    shape: tuple[int, ...]

    kind = "movement"
    cheap = True
    affine = True
    reinterprets = True

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        if dim.size(x.shape) != dim.size(self.shape):
            raise ShapeError(
                f"can't reshape {shape_text(x.shape)} ({dim.text(x.size)} elements) to {shape_text(self.shape)}"
                f" ({dim.text(dim.size(self.shape))} elements)"
            )
        return x.with_shape(self.shape)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return np.reshape(arrays[0], self.shape)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.reshape(ct, node.inputs[0].shape),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        source = node.inputs[0].shape
        out: list[Expr] = [index(0)] * len(source)
        if any(type(n) is not dim.Dim and n == 0 for n in source):  # nothing to index
            return args[0](tuple(out))
        for ins, outs in reshape_groups(source, self.shape):
            flat = ix.ravel([at[i] for i in outs], tuple([self.shape[i] for i in outs]))
            for i, e in zip(ins, ix.unravel(flat, tuple([source[i] for i in ins]))):
                out[i] = e
        return args[0](tuple(out))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(cls(to), (rng.standard_normal(shape).astype(np.float32),), tags=(tag,))
            for shape, to, tag in [
                ((3, 10), (5, 6), "odd"),
                ((0, 3), (3, 0, 2), "size0"),
                ((1, 1), (), "size1"),
                ((), (1, 1), "size1"),
                ((2, 1, 9), (2, 3, 1, 3), "broadcast"),
                ((2, 3, 5, 7), (6, 35), "odd"),
                ((6, 35), (3, 2, 5, 7), "odd"),
                ((5, 12), (5, 2, 6), "odd"),
                ((4, 9), (6, 6), "odd"),
            ]
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [
            BadSample(
                cls((4, 2)),
                (TensorType((3, 3), float32),),
                ShapeError,
                r"can't reshape \[3, 3\] \(9 elements\) to \[4, 2\] \(8 elements\)",
            )
        ]


def reshape_groups(source: tuple[int, ...], target: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of equal size, split into the smallest groups of equal size from the left.

    Axes of literal size 1 belong to none: their index is 0. Equality is that of expressions, so that a free dimension's group
    holds
    for all its values; which side grows first only decides how fine the split is.
    """
    ins = [i for i, n in enumerate(source) if not is_one(n)]
    outs = [i for i, n in enumerate(target) if not is_one(n)]
    groups, i, o = [], 0, 0
    with dim.unguarded():
        while i < len(ins) or o < len(outs):
            begin_i, begin_o, left, right = i, o, 1, 1
            while i == begin_i or o == begin_o or dim.key(left) != dim.key(right):
                if i < len(ins) and (o == len(outs) or (left <= right and not (i > begin_i and o == begin_o))):
                    left, i = left * source[ins[i]], i + 1
                elif o < len(outs):
                    right, o = right * target[outs[o]], o + 1
                else:
                    break
            groups.append((ins[begin_i:i], outs[begin_o:o]))
    return groups


@dataclass(frozen=True, eq=False)
class Transpose(Op):
    """Result axis i is operand axis ``perm[i]``."""

    perm: tuple[int, ...]

    kind = "movement"
    affine = True
    permutes = True

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        if sorted(self.perm) != list(range(x.rank)):
            raise ShapeError(f"Transpose: {self.perm} is not a permutation of the {x.rank} axes of {x}")
        return x.with_shape(tuple([x.shape[p] for p in self.perm]))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return np.transpose(arrays[0], self.perm)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.transpose(ct, inverse(self.perm)),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        return args[0](tuple([at[p] for p in inverse(self.perm)]))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(cls(perm), (rng.standard_normal(shape).astype(np.float32),), tags=(tag,))
            for shape, perm, tag in [
                ((3, 5), (1, 0), "odd"),
                ((0, 3, 2), (2, 0, 1), "size0"),
                ((), (), "size1"),
                ((2, 1, 3), (1, 2, 0), "broadcast"),
                ((2, 3, 5, 7), (0, 3, 1, 2), "odd"),
                ((2, 3, 5, 7), (2, 0, 3, 1), "odd"),
            ]
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [
            BadSample(cls((0, 0)), (TensorType((2, 3), float32),), ShapeError, r"\(0, 0\) is not a permutation of the 2 axes"),
            BadSample(cls((0,)), (TensorType((2, 3), float32),), ShapeError, "not a permutation"),
        ]


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    out = [0] * len(perm)
    for i, p in enumerate(perm):
        out[p] = i
    return tuple(out)


@dataclass(frozen=True, eq=False)
class Broadcast(Op):
    """Repeats the operand to ``shape``: its axes are the last ones of ``shape``, each of equal size or 1."""

    shape: tuple[int, ...]

    kind = "movement"
    affine = True
    cheap = True

    def reads(self, node: Node, i: int) -> str:
        return "expand"

    def repeats(self, x: TensorType) -> tuple[bool, ...]:
        """For each axis of the operand, whether its one element is repeated."""
        tail = self.shape[len(self.shape) - x.rank :]
        return tuple([dim.key(n) != dim.key(m) and (is_one(n) or n != m) for n, m in zip(x.shape, tail)])

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        fits = x.rank <= len(self.shape) and all(not r or n == 1 for r, n in zip(self.repeats(x), x.shape))
        if not fits:
            raise ShapeError(f"can't broadcast {shape_text(x.shape)} to {shape_text(self.shape)}")
        return x.with_shape(self.shape)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return np.broadcast_to(arrays[0], tuple(map(int, self.shape)))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0].type
        lead = len(self.shape) - x.rank
        axes = (*range(lead), *[lead + i for i, r in enumerate(self.repeats(x)) if r])
        return (f.reshape(f.sum_(ct, axes), x.shape),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        x = node.inputs[0].type
        tail = at[len(at) - x.rank :]
        return args[0](tuple([index(0) if r else e for e, r in zip(tail, self.repeats(x))]))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(cls(to), (rng.standard_normal(shape).astype(np.float32),), tags=(tag,))
            for shape, to, tag in [
                ((3, 1), (3, 5), "odd"),
                ((1, 3), (0, 3), "size0"),
                ((), (1,), "size1"),
                ((2, 1, 3), (2, 2, 5, 3), "broadcast"),
                ((7,), (3, 7), "odd"),
            ]
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [
            BadSample(cls((2, 4)), (TensorType((2, 3), float32),), ShapeError, r"can't broadcast \[2, 3\] to \[2, 4\]"),
            BadSample(cls((3,)), (TensorType((1, 3), float32),), ShapeError, r"can't broadcast \[1, 3\] to \[3\]"),
        ]


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """The operands one behind the other along ``axis``."""

    axis: int

    kind = "movement"

    def infer(self, *types: TensorType) -> TensorType:
        if not types:
            raise ShapeError("Concat needs at least one operand")
        first = types[0]
        if not 0 <= self.axis < first.rank:
            raise ShapeError(f"Concat: there is no axis {self.axis} in {first}")
        total: int = 0
        for t in types:
            around = [s[: self.axis] + s[self.axis + 1 :] for s in (first.shape, t.shape)]
            if t.rank != first.rank or t.dtype is not first.dtype or around[0] != around[1]:
                raise ShapeError(
                    f"Concat along axis {self.axis} needs equal types but for that axis, got {' and '.join(map(str, types))}"
                )
            total = total + t.shape[self.axis]
        return first.with_shape((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return np.concatenate(arrays, self.axis)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        out, start = [], 0
        for x in node.inputs:
            starts = (*(0,) * self.axis, start, *(0,) * (x.rank - self.axis - 1))
            out.append(f.node(Slice(starts, x.shape, (1,) * x.rank), ct))
            start = start + x.shape[self.axis]
        return tuple(out)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        # From the last to the first, each under its own condition, so that every load gets its guard.
        zero = Const(0, node.dtype)
        out: Expr | None = None
        end = node.shape[self.axis]
        for x, arg in reversed(list(zip(node.inputs, args))):
            n = x.shape[self.axis]
            begin = end - n
            local = ix.sub(at[self.axis], index(begin))
            value = arg((*at[: self.axis], local, *at[self.axis + 1 :]))
            cond = ix.both(ix.op_not(ix.less(local, index(0))), ix.less(at[self.axis], index(end)))
            out = value if cond is Const(True, f.bool_) else Where(cond, value, zero if out is None else out)
            end = begin
        assert out is not None
        return out

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        cases: list[tuple[int, list[tuple[int, ...]], str]] = [
            (0, [(3, 5), (2, 5)], "odd"),
            (1, [(3, 1), (3, 0), (3, 4)], "size0"),
            (0, [(1,)], "size1"),
            (1, [(2, 1, 3), (2, 4, 3), (2, 1, 3), (2, 2, 3)], "broadcast"),
            (2, [(1, 2, 3), (1, 2, 7)], "odd"),
            (0, [(0, 2), (0, 2)], "size0"),
        ]
        return [
            Sample(cls(axis), tuple([rng.standard_normal(shape).astype(np.float32) for shape in shapes]), tags=(tag,))
            for axis, shapes, tag in cases
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((2, 3), float32)
        return [
            BadSample(cls(0), (x, x.with_shape((2, 4))), ShapeError, r"axis 0 needs equal types.*\[2, 3\].*\[2, 4\]"),
            BadSample(cls(2), (x, x), ShapeError, "no axis 2"),
            BadSample(cls(0), (x, x.with_dtype(int32)), ShapeError, "int32"),
            BadSample(cls(0), (), ShapeError, "at least one"),
        ]


def transpose(x, perm: Sequence[int] | None = None) -> Node:
    """Result axis i is axis ``perm[i]`` of ``x``; None reverses the axes."""
    x = f.constant(x)
    perm = tuple(reversed(range(x.rank))) if perm is None else f.axes_tuple("transpose", perm, x.rank)
    if len(perm) != x.rank:
        raise ShapeError(f"transpose: {perm} is not a permutation of the {x.rank} axes of {x.type}")
    return x if perm == tuple(range(x.rank)) else f.node(Transpose(perm), x)


def expand_dims(x, axes: int | Sequence[int]) -> Node:
    """New axes of size 1 at these positions of the result."""
    x = f.constant(x)
    count = 1 if isinstance(axes, int) else len(axes)
    at = f.axes_tuple("expand_dims", axes, x.rank + count)
    rest = iter(x.shape)
    return f.reshape(x, [1 if i in at else next(rest) for i in range(x.rank + count)])


def squeeze(x, axes: int | Sequence[int] | None = None) -> Node:
    """Without these axes (None: all) of size 1."""
    x = f.constant(x)
    at = [i for i, n in enumerate(x.shape) if is_one(n)] if axes is None else f.axes_tuple("squeeze", axes, x.rank)
    for a in at:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {x.type} is not 1")
    return f.reshape(x, [n for i, n in enumerate(x.shape) if i not in at])


def concat(xs: Sequence, axis: int = 0) -> Node:
    """The tensors one behind the other along ``axis``."""
    if not len(xs):
        raise ArgumentError("concat needs at least one tensor")
    nodes = f.operands("concat", *xs)
    axis = f.one_axis("concat", axis, nodes[0].rank)
    return nodes[0] if len(nodes) == 1 else f.node(Concat(axis), *nodes)


def stack(xs: Sequence, axis: int = 0) -> Node:
    """The tensors along a new axis."""
    if not len(xs):
        raise ArgumentError("stack needs at least one tensor")
    nodes = f.operands("stack", *xs)
    axis = f.one_axis("stack", axis, nodes[0].rank + 1)
    return concat([expand_dims(x, axis) for x in nodes], axis)


def tile(x, reps: int | Sequence[int]) -> Node:
    """NumPy's tile: the whole repeated along axes."""
    x = f.constant(x)
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    reps = (1,) * (x.rank - len(reps)) + reps
    x = f.reshape(x, (1,) * (len(reps) - x.rank) + x.shape)
    doubled = [m for n in x.shape for m in (1, n)]
    wide = [m for n, r in zip(x.shape, reps) for m in (r, n)]
    return f.reshape(f.broadcast_to(f.reshape(x, doubled), wide), [n * r for n, r in zip(x.shape, reps)])
