"""Ops that move elements: every result element is one operand element, or padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime import dim
from ...runtime.dtype import float32, int32
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import simplify as ix
from ..kernel.expr import Const, Expr, Where, index
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, is_one, shape_text

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
            raise ShapeError(f"can't reshape {shape_text(x.shape)} ({dim.text(x.size)} elements) to {shape_text(self.shape)}"
                             f" ({dim.text(dim.size(self.shape))} elements)")
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
        return [Sample(cls(to), (rng.standard_normal(shape).astype(np.float32),), tags=(tag,)) for shape, to, tag in [
            ((3, 10), (5, 6), "odd"), ((0, 3), (3, 0, 2), "size0"), ((1, 1), (), "size1"), ((), (1, 1), "size1"), ((2, 1, 9), (2, 3, 1, 3), "broadcast"),
            ((2, 3, 5, 7), (6, 35), "odd"), ((6, 35), (3, 2, 5, 7), "odd"), ((5, 12), (5, 2, 6), "odd"), ((4, 9), (6, 6), "odd")]]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [BadSample(cls((4, 2)), (TensorType((3, 3), float32),), ShapeError, r"can't reshape \[3, 3\] \(9 elements\) to \[4, 2\] \(8 elements\)")]


def reshape_groups(source: tuple[int, ...], target: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of equal size, split into the smallest groups of equal size from the left.

    Axes of literal size 1 belong to none: their index is 0. Equality is that of expressions, so that a free dimension's group holds
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
        return [Sample(cls(perm), (rng.standard_normal(shape).astype(np.float32),), tags=(tag,)) for shape, perm, tag in [
            ((3, 5), (1, 0), "odd"), ((0, 3, 2), (2, 0, 1), "size0"), ((), (), "size1"), ((2, 1, 3), (1, 2, 0), "broadcast"),
            ((2, 3, 5, 7), (0, 3, 1, 2), "odd"), ((2, 3, 5, 7), (2, 0, 3, 1), "odd")]]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [BadSample(cls((0, 0)), (TensorType((2, 3), float32),), ShapeError, r"\(0, 0\) is not a permutation of the 2 axes"),
                BadSample(cls((0,)), (TensorType((2, 3), float32),), ShapeError, "not a permutation")]


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
        tail = self.shape[len(self.shape) - x.rank:]
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
        tail = at[len(at) - x.rank:]
        return args[0](tuple([index(0) if r else e for e, r in zip(tail, self.repeats(x))]))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(to), (rng.standard_normal(shape).astype(np.float32),), tags=(tag,)) for shape, to, tag in [
            ((3, 1), (3, 5), "odd"), ((1, 3), (0, 3), "size0"), ((), (1,), "size1"), ((2, 1, 3), (2, 2, 5, 3), "broadcast"), ((7,), (3, 7), "odd")]]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [BadSample(cls((2, 4)), (TensorType((2, 3), float32),), ShapeError, r"can't broadcast \[2, 3\] to \[2, 4\]"),
                BadSample(cls((3,)), (TensorType((1, 3), float32),), ShapeError, r"can't broadcast \[1, 3\] to \[3\]")]


@dataclass(frozen=True, eq=False)
class Slice(Op):
    """Along axis a the ``sizes[a]`` elements ``starts[a] + i * steps[a]``. Steps may be negative (a flip), not 0."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    kind = "movement"
    affine = True
    cheap = True

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        if not len(self.starts) == len(self.sizes) == len(self.steps) == x.rank:
            raise ShapeError(f"Slice needs a start, a size and a step for each of the {x.rank} axes of {x}, got {self}")
        for axis, (n, start, count, step) in enumerate(zip(x.shape, self.starts, self.sizes, self.steps)):
            if step == 0:
                raise ArgumentError(f"Slice: the step of axis {axis} is 0")
            if dim.key(start) == 0 and dim.key(step) == 1 and dim.key(count) == dim.key(n):
                continue
            if count == 0:
                continue
            last = start + (count - 1) * step
            if count < 0 or start < 0 or last < 0 or start >= n or last >= n:
                raise ShapeError(f"Slice: {dim.text(count)} elements from {dim.text(start)} in steps of {step} leave axis {axis} of {x}")
        return x.with_shape(self.sizes)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        for axis, (start, count, step) in enumerate(zip(self.starts, self.sizes, self.steps)):
            x = np.take(x, [start + i * step for i in range(int(count))], axis) if step != 1 else \
                x[(slice(None),) * axis + (slice(int(start), int(start + count)),)]
        return x

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        backwards = tuple([a for a, step in enumerate(self.steps) if step < 0])
        padding, interior = [], []
        for n, start, count, step in zip(node.inputs[0].shape, self.starts, self.sizes, self.steps):
            first = start if step > 0 else start + (count - 1) * step
            stride = abs(step)
            if count == 0:
                padding.append((0, n))
            else:
                padding.append((first, n - first - (count - 1) * stride - 1))
            interior.append(stride - 1)
        return (f.pad(f.flip(ct, backwards), tuple(padding), 0, tuple(interior)),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        return args[0](tuple([ix.add(ix.mul(e, step), index(start)) for e, start, step in zip(at, self.starts, self.steps)]))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(*spec), (rng.standard_normal(shape).astype(np.float32),), tags=(tag,)) for shape, spec, tag in [
            ((5, 7), ((1, 0), (3, 7), (1, 1)), "odd"), ((3, 4), ((1, 4), (2, 0), (1, 1)), "size0"), ((4, 3), ((2, 1), (1, 1), (1, 1)), "size1"),
            ((9,), ((1,), (3,), (3,)), "odd"), ((9, 2), ((8, 0), (5, 2), (-2, 1)), "odd"), ((2, 1, 5), ((0, 0, 4), (2, 1, 5), (1, 1, -1)), "broadcast"),
            ((), ((), (), ()), "size1"), ((0, 3), ((0, 2), (0, 2), (1, -2)), "size0")]]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((4, 3), float32)
        return [BadSample(cls((2, 0), (3, 3), (1, 1)), (x,), ShapeError, "3 elements from 2 in steps of 1 leave axis 0"),
                BadSample(cls((0, 1), (4, 3), (1, -1)), (x,), ShapeError, "leave axis 1"),
                BadSample(cls((0, 0), (4, 3), (1, 0)), (x,), ArgumentError, "step of axis 1 is 0"),
                BadSample(cls((0,), (4,), (1,)), (x,), ShapeError, "each of the 2 axes")]


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """``value`` around (``lo``, ``hi``: negative ones crop) and between (``interior``) the elements of every axis."""

    lo: tuple[int, ...]
    hi: tuple[int, ...]
    interior: tuple[int, ...]
    value: float | int | bool = 0

    kind = "movement"

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        if not len(self.lo) == len(self.hi) == len(self.interior) == x.rank:
            raise ShapeError(f"Pad needs widths for each of the {x.rank} axes of {x}, got {self}")
        if x.dtype.is_int and isinstance(self.value, float) and not self.value.is_integer():
            raise DTypeError(f"Pad: {self.value} is not a value of {x.dtype}")
        out = []
        for axis, (n, lo, hi, between) in enumerate(zip(x.shape, self.lo, self.hi, self.interior)):
            if between < 0:
                raise ArgumentError(f"Pad: the interior width of axis {axis} is {between}; it can't be negative")
            m = _spread(n, between) + lo + hi
            if (lo < 0 or hi < 0) and m < 0:
                raise ShapeError(f"Pad: cropping {dim.text(lo)} and {dim.text(hi)} leaves nothing of axis {axis} of {x}")
            out.append(m)
        return x.with_shape(tuple(out))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        for axis, (lo, hi, between) in enumerate(zip(self.lo, self.hi, self.interior)):
            x = np.moveaxis(x, axis, 0)
            wide = np.full((int(_spread(x.shape[0], between)), *x.shape[1:]), self.value, x.dtype)
            wide[:: int(between) + 1] = x
            around = [np.full((max(int(w), 0), *x.shape[1:]), self.value, x.dtype) for w in (lo, hi)]
            wide = np.concatenate([around[0], wide, around[1]])
            wide = wide[max(-int(lo), 0): len(wide) - max(-int(hi), 0)]
            x = np.moveaxis(wide, 0, axis)
        return x

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0].type
        cropped = f.pad(ct, tuple([(-lo, -hi) for lo, hi in zip(self.lo, self.hi)]))
        return (f.node(Slice((0,) * x.rank, x.shape, tuple([n + 1 for n in self.interior])), cropped),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        cond: Expr = Const(True, f.bool_)
        where = []
        for e, n, lo, between in zip(at, node.inputs[0].shape, self.lo, self.interior):
            p = ix.sub(e, index(lo))
            if dim.key(between) != 0:
                cond = ix.both(cond, ix.equal(ix.mod(p, between + 1), index(0)))
                p = ix.floordiv(p, between + 1)
            cond = ix.both(cond, ix.within(p, 0, n))
            where.append(p)
        x = args[0](tuple(where))
        return x if cond is Const(True, f.bool_) else Where(cond, x, Const(self.value, node.dtype))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = [Sample(cls(*spec), (rng.standard_normal(shape).astype(np.float32),), smooth=len(spec) == 3 or np.isfinite(spec[3]), tags=(tag,)) for shape, spec, tag in [
            ((3, 5), ((1, 0), (2, 3), (0, 0)), "odd"), ((0, 3), ((1, 0), (1, 0), (0, 0)), "size0"), ((), ((), (), ()), "size1"),
            ((2, 1, 4), ((0, 2, -1), (0, 1, -2), (0, 0, 0), -1.5), "broadcast"), ((5,), ((1,), (2,), (2,)), "odd"), ((1,), ((-1,), (3,), (1,)), "size1"),
            ((7, 3), ((-2, 1), (4, -3), (1, 3), float("-inf")), "odd"), ((5, 2), ((-3, 0), (-2, 0), (0, 0)), "size0")]]
        return [*out, Sample(cls((1,), (2,), (1,), 7), (rng.integers(0, 9, (5,)),), tags=("odd",))]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((3,), float32)
        return [BadSample(cls((-2,), (-2,), (0,)), (x,), ShapeError, "cropping -2 and -2 leaves nothing of axis 0"),
                BadSample(cls((0, 0), (0, 0), (0, 0)), (x,), ShapeError, "each of the 1 axes"),
                BadSample(cls((0,), (0,), (-1,)), (x,), ArgumentError, "can't be negative"),
                BadSample(cls((1,), (0,), (0,), 0.5), (x.with_dtype(int32),), DTypeError, "0.5 is not a value of int32")]


def _spread(n: int, between: int) -> int:
    """The size of an axis with ``between`` elements put between neighbours."""
    return n if type(between) is not dim.Dim and between == 0 or n == 0 else n + (n - 1) * between


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
            around = [s[: self.axis] + s[self.axis + 1:] for s in (first.shape, t.shape)]
            if t.rank != first.rank or t.dtype is not first.dtype or around[0] != around[1]:
                raise ShapeError(f"Concat along axis {self.axis} needs equal types but for that axis, got {' and '.join(map(str, types))}")
            total = total + t.shape[self.axis]
        return first.with_shape((*first.shape[: self.axis], total, *first.shape[self.axis + 1:]))

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
            value = arg((*at[: self.axis], local, *at[self.axis + 1:]))
            cond = ix.both(ix.op_not(ix.less(local, index(0))), ix.less(at[self.axis], index(end)))
            out = value if cond is Const(True, f.bool_) else Where(cond, value, zero if out is None else out)
            end = begin
        assert out is not None
        return out

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(axis), tuple([rng.standard_normal(shape).astype(np.float32) for shape in shapes]), tags=(tag,)) for axis, shapes, tag in [
            (0, [(3, 5), (2, 5)], "odd"), (1, [(3, 1), (3, 0), (3, 4)], "size0"), (0, [(1,)], "size1"), (1, [(2, 1, 3), (2, 4, 3), (2, 1, 3), (2, 2, 3)], "broadcast"),
            (2, [(1, 2, 3), (1, 2, 7)], "odd"), (0, [(0, 2), (0, 2)], "size0")]]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((2, 3), float32)
        return [BadSample(cls(0), (x, x.with_shape((2, 4))), ShapeError, r"axis 0 needs equal types.*\[2, 3\].*\[2, 4\]"), BadSample(cls(2), (x, x), ShapeError, "no axis 2"),
                BadSample(cls(0), (x, x.with_dtype(int32)), ShapeError, "int32"), BadSample(cls(0), (), ShapeError, "at least one")]
