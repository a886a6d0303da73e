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


class SignBit(_Predicate):
    """Whether the sign bit is set: of -0.0 too."""

    kind = "elementwise"
    fn = s.signbit


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


class Popcount(_Bits):
    """The number of 1 bits (of two's complement)."""

    kind = "elementwise"
    fn = s.popcount
    takes_bool = False


class CountLeadingZeros(_Bits):
    """The number of 0 bits above the highest 1; all bits of 0."""

    kind = "elementwise"
    fn = s.clz
    takes_bool = False


class Gcd(_Bits):
    """The greatest common divisor of magnitudes; gcd(x, 0) = |x|, and the magnitude of the least value wraps to itself."""

    kind = "elementwise"
    fn = s.gcd
    takes_bool = False
    ranges = ((-60, 60),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = super().samples(rng)
        for d in (np.int8, np.int32, np.int64, np.uint64):
            info = np.iinfo(d)
            a = np.array([info.min, info.min, info.max, 0, 0, 12, info.max], d)
            out.append(Sample(cls(), (a, np.array([0, 6, info.max, 0, 5, info.max, 1], d))))
        fibonacci = np.array([1134903170, 1836311903], np.int32)  # the most steps there are
        return [*out, Sample(cls(), (fibonacci, fibonacci[::-1].copy())), Sample(cls(), tuple(rng.integers(1, 2**40, (2, 9)) * 30))]


class _Shift(_Bits):
    takes_bool = False
    ranges = ((-100, 100), (4, 4))  # the samples' counts are in [1, 7]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        """Counts out of range too."""
        out = super().samples(rng)
        for d in (np.int8, np.int32, np.int64, np.uint16):
            bits = 8 * np.dtype(d).itemsize
            counts = np.array([0, 1, bits - 1, bits, bits + 1, 100, 0, bits - 1], np.int64).astype(d)
            out.append(Sample(cls(), (np.array([1, -1, 1, 3, -7, -1, 5, -128]).astype(d), counts)))
            if np.dtype(d).kind == "i":
                out.append(Sample(cls(), (np.array([1, -5], d), np.array([-1, -bits], d))))
        return out


class ShiftLeft(_Shift):
    """a << b; 0 for a count outside [0, bits)."""

    kind = "elementwise"
    fn = s.shl


class ShiftRight(_Shift):
    """a >> b, arithmetic on signed types and logical on unsigned; for a count outside [0, bits) all bits are the sign (0 for unsigned)."""

    kind = "elementwise"
    fn = s.shr


class Select(Op):
    """``a`` where ``cond`` (bool) else ``b``; all of one shape."""

    kind = "elementwise"
    takes_storage = True

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
