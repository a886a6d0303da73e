"""Running folds along an axis: sums, products, extremes, log-sum-exps, and the linear recurrence that products' derivatives need.

All are routines (``kernel.routine.Prefix``): one pass, the state in registers. Their derivatives are running folds from the other end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...runtime.dim import key, size
from ...runtime.dtype import as_dtype, bool_, float32, int32
from ...runtime.errors import DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel.ir import Buffer
from ..kernel.routine import Prefix
from . import functional as f
from .base import BadSample, Op, Sample, is_one

Cotangents = tuple[Node | None, ...]
_CASES = [((3, 5), 1, "odd"), ((3, 5), 0, "odd"), ((0, 3), 1, "size0"), ((3, 0), 1, "size0"), ((1,), 0, "size1"), ((2, 1, 7), 1, "broadcast"),
          ((2, 37), 1, "odd"), ((2, 5, 19), 1, "odd")]


def around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """(elements before the axis, along it, behind it)."""
    return size(shape[:axis]), shape[axis], size(shape[axis + 1:])


def has_axis(op: Op, x: TensorType, axis: int) -> None:
    if not 0 <= axis < x.rank:
        raise ShapeError(f"{op.name}: there is no axis {axis} in {x}")


def _from(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    return np.flip(x, axis) if reverse else x


class _Running(Op):
    """Base: ``fold`` is the routine's, and ``accumulate`` NumPy's on float64 or integers."""

    fold: ClassVar[str]
    accumulate: ClassVar[Any] = None
    floats_only: ClassVar[bool] = False
    axis: int
    reverse: bool

    @property
    def leaves_out(self) -> bool:
        return getattr(self, "exclusive", False)

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        has_axis(self, x, self.axis)
        if x.dtype is bool_ or self.floats_only and not x.dtype.is_float:
            raise DTypeError(f"{self.name} needs {'floats' if self.floats_only else 'numbers'}, got {x}")
        return x

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        wide = x.astype(np.float64) if as_dtype(x.dtype).is_float else x
        y = self.accumulate.accumulate(_from(wide, self.axis, self.reverse), axis=self.axis, dtype=wide.dtype)
        if self.leaves_out and y.shape[self.axis]:
            head = np.full_like(np.take(y, [0], self.axis), self.accumulate.identity)
            y = np.concatenate([head, np.take(y, range(y.shape[self.axis] - 1), self.axis)], self.axis)
        return np.ascontiguousarray(_from(y, self.axis, self.reverse)).astype(x.dtype)

    def routine(self, node: Node) -> Prefix:
        sizes = around(node.shape, self.axis)
        names = (*[f"in{i}" for i in range(len(node.inputs))], "out0")
        return Prefix(f"{self.name.lower()}", tuple([Buffer(n, sizes, node.dtype) for n in names]), 1, sizes, self.fold, self.leaves_out, self.reverse,
                      is_one(sizes[2]))

    def flops(self, node: Node) -> int:
        return node.type.size if node.dtype.is_float else 0

    @classmethod
    def _make(cls, axis: int, exclusive: bool, reverse: bool) -> Any:
        return cls(axis, exclusive, reverse)  # type: ignore[call-arg]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = []
        for i, (shape, axis, tag) in enumerate(_CASES):
            op = cls._make(axis, bool(i & 1), bool(i & 2))
            out.append(Sample(op, (rng.uniform(-1.5, 1.5, shape).astype(np.float32),), tags=(tag,)))
        out.append(Sample(cls._make(0, False, True), (rng.uniform(-1, 1, (9, 3)).astype(as_dtype("bfloat16").np),), smooth=False))
        if not cls.floats_only:
            out.append(Sample(cls._make(1, True, False), (rng.integers(-3, 4, (3, 21)),)))
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((2, 3), float32)
        wrong = x.with_dtype(int32) if cls.floats_only else x.with_dtype(bool_)
        return [BadSample(cls._make(2, False, False), (x,), ShapeError, "no axis 2"),
                BadSample(cls._make(0, False, False), (wrong,), DTypeError, "needs")]


@dataclass(frozen=True, eq=False)
class CumSum(_Running):
    """Sums over prefixes; ``exclusive``: without the element itself; ``reverse``: over suffixes. Integers wrap."""

    axis: int
    exclusive: bool = False
    reverse: bool = False

    kind = "routine"
    fold = "sum"
    accumulate = np.add

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.node(CumSum(self.axis, self.exclusive, not self.reverse), ct),)


@dataclass(frozen=True, eq=False)
class CumProd(_Running):
    """Products over prefixes; ``exclusive`` and ``reverse`` as in ``CumSum``."""

    axis: int
    exclusive: bool = False
    reverse: bool = False

    kind = "routine"
    fold = "prod"
    accumulate = np.multiply

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        # d x[j] = (product before j) * (sum over i >= j of ct[i] * product between): right where elements are 0 too
        (x,) = node.inputs
        before = node if self.exclusive else f.node(CumProd(self.axis, True, self.reverse), x)
        if self.exclusive:
            return (f.mul(before, f.node(LinearRecurrence(self.axis, True, not self.reverse), x, ct)),)
        rest = f.node(LinearRecurrence(self.axis, True, not self.reverse), x, f.mul(x, ct))
        return (f.mul(before, f.add(ct, rest)),)


class _RunningExtreme(_Running):
    """The derivative goes to the element that is the extreme: the first of equal ones."""

    @classmethod
    def _make(cls, axis: int, exclusive: bool, reverse: bool) -> Any:
        return cls(axis, reverse)  # type: ignore[call-arg]

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        (x,) = node.inputs
        n = x.shape[self.axis]
        step = (-1, 1) if self.reverse else (1, -1)
        before = f.pad(node, [step if i == self.axis else (0, 0) for i in range(x.rank)], 0)
        at = f.iota(x.shape, self.axis)
        first = f.eq(at, f.sub(n, 1) if self.reverse else 0)
        new = f.logical_or(first, f.ne(before, node))
        if self.reverse:
            place = f.node(CumMin(self.axis, True), f.where(new, at, f.constant(n, int32)))
        else:
            place = f.node(CumMax(self.axis), f.where(new, at, 0))
        return (f.scatter_along_axis(f.zeros_like(x), place, ct, self.axis, "add"),)


@dataclass(frozen=True, eq=False)
class CumMax(_RunningExtreme):
    """The greatest element of each prefix (suffix: ``reverse``); nan once there was one."""

    axis: int
    reverse: bool = False

    kind = "routine"
    fold = "max"
    accumulate = np.maximum


@dataclass(frozen=True, eq=False)
class CumMin(_RunningExtreme):
    """The least element of each prefix (suffix: ``reverse``); nan once there was one."""

    axis: int
    reverse: bool = False

    kind = "routine"
    fold = "min"
    accumulate = np.minimum


@dataclass(frozen=True, eq=False)
class CumLogSumExp(_Running):
    """log(sum(exp(x))) over prefixes (suffixes: ``reverse``), without overflow."""

    axis: int
    reverse: bool = False

    kind = "routine"
    fold = "logsumexp"
    accumulate = np.logaddexp
    floats_only = True

    @classmethod
    def _make(cls, axis: int, exclusive: bool, reverse: bool) -> Any:
        return cls(axis, reverse)

    def flops(self, node: Node) -> int:
        return 4 * node.type.size

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        # sum over i >= j of ct[i] * exp(x[j] - y[i]), for positive and negative ct apart in logarithms: exp(-y[i]) alone would overflow
        (x,) = node.inputs
        nothing = -3e4 if x.dtype.name == "float16" else -1e30
        y = f.where(f.isinf(node), 0.0, node)
        total = None
        for sign in (1, -1):
            part = f.mul(ct, sign)
            there = f.gt(part, 0)
            log = f.where(there, f.log(f.where(there, part, 1.0)), nothing)
            term = f.exp(f.add(x, f.node(CumLogSumExp(self.axis, not self.reverse), f.sub(log, y))))
            total = term if total is None else f.sub(total, term)
        return (total,)


@dataclass(frozen=True, eq=False)
class LinearRecurrence(_Running):
    """y[i] = a[i] * y[i-1] + b[i] along ``axis``, from 0; ``exclusive`` gives y[i-1], ``reverse`` runs from the end."""

    axis: int
    exclusive: bool = False
    reverse: bool = False

    kind = "routine"
    fold = "affine"
    floats_only = True

    def infer(self, *types: TensorType) -> TensorType:
        a, b = types
        if not a.same(b):
            raise ShapeError(f"LinearRecurrence needs two operands of one type, got {a} and {b}")
        return super().infer(a)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        a, b = (np.moveaxis(_from(x.astype(np.float64), self.axis, self.reverse), self.axis, 0) for x in arrays)
        state = np.zeros(a.shape[1:])
        out = []
        for x, y in zip(a, b):
            new = x * state + y
            out.append(state if self.exclusive else new)
            state = new
        y = np.moveaxis(np.array(out).reshape(a.shape), 0, self.axis)
        return np.ascontiguousarray(_from(y, self.axis, self.reverse)).astype(arrays[0].dtype)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        a, b = node.inputs
        back = LinearRecurrence(self.axis, True, not self.reverse)
        if self.exclusive:
            before, g = node, f.node(back, a, ct)
        else:
            before = f.node(LinearRecurrence(self.axis, True, self.reverse), a, b)
            g = f.add(ct, f.node(back, a, f.mul(a, ct)))
        return f.mul(g, before), g

    def flops(self, node: Node) -> int:
        return 2 * node.type.size

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [dataclass_sample(s, rng) for s in super().samples(rng)]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((2, 3), float32)
        return [BadSample(cls(2), (x, x), ShapeError, "no axis 2"), BadSample(cls(0), (x, x.with_shape((2, 2))), ShapeError, "one type"),
                BadSample(cls(0), (x.with_dtype(int32),) * 2, DTypeError, "needs floats")]


def dataclass_sample(s: Sample, rng: np.random.Generator) -> Sample:
    """The sample with a second operand like its first."""
    x = s.arrays[0]
    return Sample(s.op, (x, rng.uniform(-1, 1, x.shape).astype(x.dtype)), s.smooth, s.tags)


def cumsum(x, axis: int = -1, exclusive: bool = False, reverse: bool = False) -> Node:
    """Sums over prefixes along ``axis``; of each element with those before it (``reverse``: behind it), ``exclusive``: without it."""
    x = f.constant(x)
    return f.node(CumSum(f.one_axis("cumsum", axis, x.rank), exclusive, reverse), x)


def cumprod(x, axis: int = -1, exclusive: bool = False, reverse: bool = False) -> Node:
    """Products over prefixes along ``axis``; see ``cumsum``."""
    x = f.constant(x)
    return f.node(CumProd(f.one_axis("cumprod", axis, x.rank), exclusive, reverse), x)


def _shifted(x: Node, axis: int, reverse: bool, first) -> Node:
    step = (-1, 1) if reverse else (1, -1)
    return f.pad(x, [step if i == axis else (0, 0) for i in range(x.rank)], first)


def cummax(x, axis: int = -1, exclusive: bool = False, reverse: bool = False) -> Node:
    """Greatest elements of prefixes along ``axis``; see ``cumsum`` (the greatest of nothing is -inf, or the least integer)."""
    x = f.constant(x)
    axis = f.one_axis("cummax", axis, x.rank)
    return f.node(CumMax(axis, reverse), _shifted(x, axis, reverse, x.dtype.min) if exclusive else x)


def cummin(x, axis: int = -1, exclusive: bool = False, reverse: bool = False) -> Node:
    """Least elements of prefixes along ``axis``; see ``cumsum`` (the least of nothing is inf, or the greatest integer)."""
    x = f.constant(x)
    axis = f.one_axis("cummin", axis, x.rank)
    return f.node(CumMin(axis, reverse), _shifted(x, axis, reverse, x.dtype.max) if exclusive else x)


def cumlogsumexp(x, axis: int = -1, exclusive: bool = False, reverse: bool = False) -> Node:
    """log(sum(exp(x))) over prefixes along ``axis``; see ``cumsum``."""
    x = f.floating(x)
    axis = f.one_axis("cumlogsumexp", axis, x.rank)
    return f.node(CumLogSumExp(axis, reverse), _shifted(x, axis, reverse, -float("inf")) if exclusive else x)


def linear_recurrence(a, b, axis: int = -1, exclusive: bool = False, reverse: bool = False) -> Node:
    """y[i] = a[i] * y[i-1] + b[i] along ``axis``, y[-1] = 0; a and b are broadcast to one shape. See ``cumsum`` for the flags."""
    a, b = f.operands("linear_recurrence", a, b)
    shape = f.broadcast_shapes("linear_recurrence", a.shape, b.shape)
    axis = f.one_axis("linear_recurrence", axis, len(shape))
    if key(a.shape) != key(shape):
        a = f.broadcast_to(a, shape)
    return f.node(LinearRecurrence(axis, exclusive, reverse), a, f.broadcast_to(b, shape))
