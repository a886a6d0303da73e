"""Elementwise ops: one scalar operation per element. Operands have equal shapes and types (``functional`` broadcasts and casts).

This file has the base class and the arithmetic of two operands; ``unary``, ``logic`` and ``convert`` have the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...runtime.dtype import as_dtype, bool_, float32, int32
from ...runtime.errors import DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import scalar_ops as s
from ..kernel.expr import Expr, op
from ..kernel.scalar_ops import ScalarOp
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample

Range = tuple[float, float]
# Special values, and numbers where functions leave their range or lose digits
HARD = (0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 2.0, -2.5, 1e-30, -1e-30, 11.0, -88.5, 104.0, 1e4, -3e38)


def widened(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """16-bit floats as float32: kernels compute them so."""
    return [a.astype(np.float32) if as_dtype(a.dtype).is_float and a.dtype.itemsize == 2 else a for a in arrays]


@dataclass(frozen=True, eq=False)
class Elementwise(Op):
    """``fn`` of the elements; subclasses name the scalar operation and give the vjp."""

    fn: ClassVar[ScalarOp]
    ranges: ClassVar[tuple[Range, ...]] = ((-2.0, 2.0),)  # of each operand's values in samples (the last one for all others)

    def infer(self, *types: TensorType) -> TensorType:
        if len(types) != self.fn.arity:
            raise ShapeError(f"{self.name} takes {self.fn.arity} operands, got {len(types)}")
        first = types[0]
        for t in types[1:]:
            if not t.same(first):
                raise ShapeError(f"{self.name} needs operands of one type, got {' and '.join(map(str, types))}")
        if self.fn.domain == "float" and not first.dtype.is_float:
            raise DTypeError(f"{self.name} needs a floating type, got {first}")
        if self.fn.domain == "int" and first.dtype.is_float:
            raise DTypeError(f"{self.name} needs integers or bool, got {first}")
        if self.fn.domain == "any" and self.fn.result == "same" and first.dtype is bool_:
            raise DTypeError(f"{self.name} needs numbers, got {first}")
        if self.fn.domain == "int" and first.dtype is bool_ and not self.takes_bool:
            raise DTypeError(f"{self.name} needs integers, got {first}")
        return first.with_dtype(bool_) if self.fn.result == "bool" else first

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            out = np.asarray(self.fn.numpy(*widened(arrays)))
        return out if self.fn.result == "bool" else out.astype(arrays[0].dtype, copy=False)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        return op(self.fn, *[a(at) for a in args])

    def flops(self, node: Node) -> int:
        return node.type.size if node.inputs and node.inputs[0].dtype.is_float else 0

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        """Values of each operand's range, away from zero; integers and bool where the operation takes them."""
        out = []
        dtypes = [np.dtype(np.int32)] if cls.fn.domain == "int" else [np.dtype(np.float32)]
        for shape, tag in [((3, 5), "odd"), ((0, 3), "size0"), ((), "size1"), ((2, 1, 7), "broadcast"), ((11,), "odd")]:
            out += [Sample(cls(), cls._operands(rng, shape, d), tags=(tag,)) for d in dtypes]
        if cls.fn.domain == "float" or cls.fn.domain == "any":
            out += [
                Sample(cls(), cls._operands(rng, (3, 4), as_dtype(d).np), tags=("odd",))
                for d in ("float64", "bfloat16", "float16")
            ]
            hard = np.array(HARD, np.float32)
            both = (hard, rng.permutation(hard))[: cls.fn.arity]
            out += [Sample(cls(), tuple([x.astype(d) for x in both]), smooth=False) for d in (np.float32, np.float64)]
        if cls.fn.domain == "any":
            out += [Sample(cls(), cls._operands(rng, (7,), np.dtype(d)), tags=("odd",)) for d in (np.int64, np.uint8)]
        if cls.fn.domain == "int":
            out += [
                Sample(cls(), cls._operands(rng, (7,), np.dtype(d)), tags=("odd",))
                for d in (np.bool_, np.uint8, np.int64)
                if d is not np.bool_ or cls.takes_bool
            ]
        return out

    takes_bool: ClassVar[bool] = True  # whether an operation of domain "int" takes bool

    @classmethod
    def _operands(cls, rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, ...]:
        out = []
        for i in range(cls.fn.arity):
            low, high = cls.ranges[min(i, len(cls.ranges) - 1)]
            if dtype == np.bool_:
                out.append(rng.integers(0, 2, shape).astype(np.bool_))
            elif dtype.kind in "iu":
                least = max(int(low), 0) if dtype.kind == "u" else int(low) - 3
                out.append(rng.integers(least, int(high) + 4, shape).astype(dtype))
            else:
                v = rng.uniform(low, high, shape)
                if low < 0 < high:
                    v = np.where(np.abs(v) < 0.1, v + 0.25, v)
                out.append(np.asarray(v).astype(dtype))
        return tuple(out)

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        good = int32 if cls.fn.domain == "int" else float32
        out = []
        if cls.fn.arity == 2:
            out.append(
                BadSample(
                    cls(),
                    (TensorType((2, 3), good), TensorType((2, 1), good)),
                    ShapeError,
                    r"needs operands of one type, got .*\[2, 1\]",
                )
            )
        if cls.fn.domain == "float":
            out.append(
                BadSample(cls(), (TensorType((2,), int32),) * cls.fn.arity, DTypeError, r"needs a floating type, got int32\[2\]")
            )
        if cls.fn.domain == "int":
            out.append(BadSample(cls(), (TensorType((2,), float32),) * cls.fn.arity, DTypeError, "needs integers or bool"))
        if cls.fn.domain == "any" and cls.fn.result == "same":
            out.append(BadSample(cls(), (TensorType((2,), bool_),) * cls.fn.arity, DTypeError, "needs numbers, got bool"))
        if cls.fn.domain == "int" and not cls.takes_bool:
            out.append(BadSample(cls(), (TensorType((2,), bool_),) * cls.fn.arity, DTypeError, "needs integers, got bool"))
        out.append(BadSample(cls(), (), ShapeError, "takes"))
        return out


class Add(Elementwise):
    kind = "elementwise"
    fn = s.add

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        return ct, ct


class Sub(Elementwise):
    kind = "elementwise"
    fn = s.sub

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        return ct, f.neg(ct)


class Mul(Elementwise):
    kind = "elementwise"
    fn = s.mul

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        a, b = node.inputs
        return f.mul(ct, b), f.mul(ct, a)


class Div(Elementwise):
    """True division of floats; integers truncate, and x / 0 is 0."""

    kind = "elementwise"
    fn = s.div

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        b = node.inputs[1]
        return f.div(ct, b), f.neg(f.div(f.mul(ct, node), b))


class FloorDiv(Elementwise):
    """The floor of the exact quotient (NumPy's floor_divide; 1 // 0.1 is 9); integers: x // 0 is 0. The derivative is 0 almost everywhere."""

    kind = "elementwise"
    fn = s.floordiv
    ranges = ((-4.0, 4.0), (1.1, 2.0))

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        return None, None


class Mod(Elementwise):
    """The remainder with the sign of the divisor; integers: x mod 0 is 0."""

    kind = "elementwise"
    fn = s.mod
    ranges = ((-4.0, 4.0), (1.1, 2.0))

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        a, b = node.inputs
        return ct, f.neg(f.mul(ct, f.floor(f.div(a, b))))


class Rem(Elementwise):
    """The remainder with the sign of the dividend (C's fmod); integers: x rem 0 is 0."""

    kind = "elementwise"
    fn = s.rem
    ranges = ((-4.0, 4.0), (1.1, 2.0))

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        a, b = node.inputs
        return ct, f.neg(f.mul(ct, f.trunc(f.div(a, b))))


class Maximum(Elementwise):
    """nan where either is nan. Equal operands get half the gradient each (as in JAX and PyTorch)."""

    kind = "elementwise"
    fn = s.maximum

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        a, b = node.inputs
        return _greater_share(ct, a, b), _greater_share(ct, b, a)


class Minimum(Elementwise):
    """nan where either is nan. Equal operands get half the gradient each."""

    kind = "elementwise"
    fn = s.minimum

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        a, b = node.inputs
        return _greater_share(ct, b, a), _greater_share(ct, a, b)


def _greater_share(ct: Node, a: Node, b: Node) -> Node:
    """``ct`` where a > b, half of it where a == b, else 0."""
    return f.where(f.gt(a, b), ct, f.where(f.eq(a, b), f.mul(ct, 0.5), 0))


class Power(Elementwise):
    """a ** b of floats (0 ** 0 = 1; negative a needs an integral b, else nan)."""

    kind = "elementwise"
    fn = s.pow_
    ranges = ((0.2, 2.0), (-2.0, 2.0))

    def infer(self, *types: TensorType) -> TensorType:
        out = super().infer(*types)
        if not out.dtype.is_float:
            raise DTypeError(f"Power needs a floating type, got {out}; integer powers are made of products (functional.power)")
        return out

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        a, b = node.inputs
        zero_b = f.eq(b, 0)
        da = f.where(zero_b, 0, f.mul(b, f.power(a, f.where(zero_b, 1, f.sub(b, 1)))))
        db = f.mul(node, f.log(f.where(f.eq(a, 0), 1, a)))
        return f.mul(ct, da), f.mul(ct, db)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [x for x in super().samples(rng) if as_dtype(x.arrays[0].dtype).is_float]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [
            *super().bad_samples(),
            BadSample(cls(), (TensorType((2,), int32),) * 2, DTypeError, "Power needs a floating type"),
        ]


class Atan2(Elementwise):
    """The angle of (x, y) = (second, first operand) in [-pi, pi]."""

    kind = "elementwise"
    fn = s.atan2

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        y, x = node.inputs
        scaled = f.div(ct, f.add(f.mul(x, x), f.mul(y, y)))
        return f.mul(scaled, x), f.neg(f.mul(scaled, y))
