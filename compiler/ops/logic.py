"""Elementwise comparisons, logic, bit operations, and the choice between two values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...runtime.dtype import bool_, float32, int32
from ...runtime.errors import DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import scalar_ops as s
from ..kernel.expr import Expr, Where
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample
from .elementwise import Elementwise


class _Predicate(Elementwise):
    """True or false of each element; nan compares unequal to everything, and not less or greater."""

    differentiable = False
    no_gradient = "its result is true or false"


class Eq(_Predicate):
    kind = "elementwise"
    fn = s.eq


class Ne(_Predicate):
    kind = "elementwise"
    fn = s.ne


class Lt(_Predicate):
    kind = "elementwise"
    fn = s.lt


class Le(_Predicate):
    kind = "elementwise"
    fn = s.le


class Gt(_Predicate):
    kind = "elementwise"
    fn = s.gt


class Ge(_Predicate):
    kind = "elementwise"
    fn = s.ge


class IsNan(_Predicate):
    kind = "elementwise"
    fn = s.isnan


class IsInf(_Predicate):
    """Of either sign."""

    kind = "elementwise"
    fn = s.isinf


class _Bits(Elementwise):
    """Of integers bit by bit; of bool logically."""

    differentiable = False
    no_gradient = "it works on integers"


class And(_Bits):
    kind = "elementwise"
    fn = s.and_


class Or(_Bits):
    kind = "elementwise"
    fn = s.or_


class Xor(_Bits):
    kind = "elementwise"
    fn = s.xor


class Not(_Bits):
    kind = "elementwise"
    fn = s.not_


class _Shift(_Bits):
    takes_bool = False
    ranges = ((-100, 100), (4, 4))  # the samples' counts are in [1, 7]

    def infer(self, *types: TensorType) -> TensorType:
        out = super().infer(*types)
        if out.dtype is bool_:
            raise DTypeError(f"{self.name} needs integers, got {out}")
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [*super().bad_samples(), BadSample(cls(), (TensorType((2,), bool_),) * 2, DTypeError, "needs integers, got bool")]


class ShiftLeft(_Shift):
    """a << b for 0 <= b < bits."""

    kind = "elementwise"
    fn = s.shl


class ShiftRight(_Shift):
    """a >> b for 0 <= b < bits: arithmetic on signed types, logical on unsigned."""

    kind = "elementwise"
    fn = s.shr


class Select(Op):
    """``a`` where ``cond`` (bool) else ``b``; all of one shape."""

    kind = "elementwise"

    def infer(self, *types: TensorType) -> TensorType:
        if len(types) != 3:
            raise ShapeError(f"Select takes 3 operands, got {len(types)}")
        cond, a, b = types
        if cond.dtype is not bool_:
            raise DTypeError(f"Select needs a bool condition, got {cond}")
        if not a.same(b) or not cond.same(a.with_dtype(bool_)):
            raise ShapeError(f"Select needs a condition and values of one shape and type, got {cond}, {a} and {b}")
        return a

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return np.where(*arrays)

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        cond = node.inputs[0]
        return None, f.where(cond, ct, 0), f.where(cond, 0, ct)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        return Where(*[a(at) for a in args])

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = []
        for shape, dtype, tag in [
            ((3, 5), np.float32, "odd"),
            ((0, 2), np.float32, "size0"),
            ((), np.float32, "size1"),
            ((2, 1, 3), np.int64, "broadcast"),
            ((7,), np.bool_, "odd"),
        ]:
            a, b = (np.asarray(rng.uniform(-9, 9, shape)).astype(dtype) for _ in range(2))
            out.append(Sample(cls(), (np.asarray(rng.integers(0, 2, shape)).astype(np.bool_), a, b), tags=(tag,)))
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        t, c = TensorType((2, 3), float32), TensorType((2, 3), bool_)
        return [
            BadSample(cls(), (t, t, t), DTypeError, "needs a bool condition, got float32"),
            BadSample(cls(), (c, t, t.with_dtype(int32)), ShapeError, "one shape and type"),
            BadSample(cls(), (c.with_shape((3,)), t, t), ShapeError, r"bool\[3\], float32\[2, 3\]"),
            BadSample(cls(), (c, t), ShapeError, "takes 3 operands, got 2"),
        ]
