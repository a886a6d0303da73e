"""Cutting out and padding: the two are each other's derivative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime import dim
from ...runtime.dim import Dim, key
from ...runtime.dtype import bool_, float32, int32
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import simplify as ix
from ..kernel.expr import Const, Expr, Where, index
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, shape_text

Cotangents = tuple[Node | None, ...]


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
                raise ShapeError(
                    f"Slice: {dim.text(count)} elements from {dim.text(start)} in steps of {step} leave axis {axis} of {x}"
                )
        return x.with_shape(self.sizes)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        for axis, (start, count, step) in enumerate(zip(self.starts, self.sizes, self.steps)):
            x = (
                np.take(x, [start + i * step for i in range(int(count))], axis)
                if step != 1
                else x[(slice(None),) * axis + (slice(int(start), int(start + count)),)]
            )
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
        return [
            Sample(cls(*spec), (rng.standard_normal(shape).astype(np.float32),), tags=(tag,))
            for shape, spec, tag in [
                ((5, 7), ((1, 0), (3, 7), (1, 1)), "odd"),
                ((3, 4), ((1, 4), (2, 0), (1, 1)), "size0"),
                ((4, 3), ((2, 1), (1, 1), (1, 1)), "size1"),
                ((9,), ((1,), (3,), (3,)), "odd"),
                ((9, 2), ((8, 0), (5, 2), (-2, 1)), "odd"),
                ((2, 1, 5), ((0, 0, 4), (2, 1, 5), (1, 1, -1)), "broadcast"),
                ((), ((), (), ()), "size1"),
                ((0, 3), ((0, 2), (0, 2), (1, -2)), "size0"),
            ]
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((4, 3), float32)
        return [
            BadSample(cls((2, 0), (3, 3), (1, 1)), (x,), ShapeError, "3 elements from 2 in steps of 1 leave axis 0"),
            BadSample(cls((0, 1), (4, 3), (1, -1)), (x,), ShapeError, "leave axis 1"),
            BadSample(cls((0, 0), (4, 3), (1, 0)), (x,), ArgumentError, "step of axis 1 is 0"),
            BadSample(cls((0,), (4,), (1,)), (x,), ShapeError, "each of the 2 axes"),
        ]


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
            wide = wide[max(-int(lo), 0) : len(wide) - max(-int(hi), 0)]
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
        out = [
            Sample(
                cls(*spec),
                (rng.standard_normal(shape).astype(np.float32),),
                smooth=len(spec) == 3 or np.isfinite(spec[3]),
                tags=(tag,),
            )
            for shape, spec, tag in [
                ((3, 5), ((1, 0), (2, 3), (0, 0)), "odd"),
                ((0, 3), ((1, 0), (1, 0), (0, 0)), "size0"),
                ((), ((), (), ()), "size1"),
                ((2, 1, 4), ((0, 2, -1), (0, 1, -2), (0, 0, 0), -1.5), "broadcast"),
                ((5,), ((1,), (2,), (2,)), "odd"),
                ((1,), ((-1,), (3,), (1,)), "size1"),
                ((7, 3), ((-2, 1), (4, -3), (1, 3), float("-inf")), "odd"),
                ((5, 2), ((-3, 0), (-2, 0), (0, 0)), "size0"),
            ]
        ]
        return [*out, Sample(cls((1,), (2,), (1,), 7), (rng.integers(0, 9, (5,)),), tags=("odd",))]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((3,), float32)
        return [
            BadSample(cls((-2,), (-2,), (0,)), (x,), ShapeError, "cropping -2 and -2 leaves nothing of axis 0"),
            BadSample(cls((0, 0), (0, 0), (0, 0)), (x,), ShapeError, "each of the 1 axes"),
            BadSample(cls((0,), (0,), (-1,)), (x,), ArgumentError, "can't be negative"),
            BadSample(cls((1,), (0,), (0,), 0.5), (x.with_dtype(int32),), DTypeError, "0.5 is not a value of int32"),
        ]


def _spread(n: int, between: int) -> int:
    """The size of an axis with ``between`` elements put between neighbours."""
    return n if type(between) is not dim.Dim and between == 0 or n == 0 else n + (n - 1) * between


def slice_(x, start: Sequence[int], stop: Sequence[int], step: Sequence[int] | None = None) -> Node:
    """x[start:stop:step] for every axis: starts in range, a negative step's stop may be -1 (one before the first element)."""
    x = f.constant(x)
    step = (1,) * x.rank if step is None else tuple(step)
    if not len(start) == len(stop) == len(step) == x.rank:
        raise ShapeError(f"slice_ of {x.type} needs {x.rank} starts, stops and steps, got {start}, {stop} and {step}")
    sizes = []
    for b, e, s in zip(start, stop, step):
        if s == 0:
            raise ArgumentError("slice_: a step is 0")
        n = e - b if s == 1 else (e - b + s - 1) // s if s > 0 else (b - e - s - 1) // -s
        sizes.append(n if type(n) is Dim else max(n, 0))
    if key(tuple(sizes)) == key(x.shape) and all(s == 1 for s in step):
        return x
    return f.node(Slice(tuple(start), tuple(sizes), step), x)


def flip(x, axes: int | Sequence[int] | None = None) -> Node:
    x = f.constant(x)
    at = f.axes_tuple("flip", axes, x.rank)
    if not at:
        return x
    starts = tuple([(n - 1 if n != 0 else 0) if i in at else 0 for i, n in enumerate(x.shape)])
    return f.node(Slice(starts, x.shape, tuple([-1 if i in at else 1 for i in range(x.rank)])), x)


def pad(x, padding: Sequence[tuple[int, int]], value=0, interior: Sequence[int] | None = None) -> Node:
    """``value`` around every axis, (lo, hi) elements (negative ones crop), and ``interior`` ones between neighbours."""
    x = f.constant(x)
    between = (0,) * x.rank if interior is None else tuple(interior)
    if len(padding) != x.rank or len(between) != x.rank:
        raise ShapeError(f"pad of {x.type} needs {x.rank} pairs of widths, got {tuple(padding)}")
    if all(type(w) is not Dim and w == 0 for pair in (*padding, between) for w in pair):
        return x
    value = (
        bool(value)
        if x.dtype is bool_
        else float(value)
        if x.dtype.is_float
        else int(value)
        if float(value).is_integer()
        else value
    )
    return f.node(Pad(tuple([p[0] for p in padding]), tuple([p[1] for p in padding]), between, value), x)


def split(x, sizes: int | Sequence[int], axis: int = 0) -> list[Node]:
    """Pieces of these sizes along ``axis`` (an int: that many equal ones)."""
    x = f.constant(x)
    axis = f.one_axis("split", axis, x.rank)
    if isinstance(sizes, int):
        if x.shape[axis] % sizes != 0:
            raise ShapeError(f"split: axis {axis} of {x.type} is not divisible by {sizes}")
        sizes = [x.shape[axis] // sizes] * sizes
    total: int = 0
    for n in sizes:
        total = total + n
    if total != x.shape[axis]:
        raise ShapeError(f"split: sizes {shape_text(sizes)} don't add up to axis {axis} of {x.type}")
    out, begin = [], 0
    for n in sizes:
        start, stop = [0] * x.rank, list(x.shape)
        start[axis], stop[axis] = begin, begin + n
        out.append(slice_(x, start, stop))
        begin = begin + n
    return out
