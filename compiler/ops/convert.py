"""Conversions between element types, and the identity that no gradient passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.dtype import STORAGE, DType, as_dtype, bool_, float32, int32, int64
from ...runtime.errors import DTypeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import expr as e
from ..kernel import storage
from ..kernel.interp import rounded
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample


@dataclass(frozen=True, eq=False)
class Cast(Op):
    """Conversion by value: float to int truncates towards zero, saturates, and gives 0 for nan; int to a narrower int wraps;
    to bool is ``!= 0``.
    """

    dtype: DType

    kind = "elementwise"
    cheap = True
    takes_storage = True

    def infer(self, *types: TensorType) -> TensorType:
        return types[0].with_dtype(self.dtype)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        source = as_dtype(x.dtype)
        if source.storage:
            source = float32 if source.is_float else int32
            x = x.astype(source.np)
        if self.dtype is bool_:
            return x != 0
        if self.dtype.is_float:
            return rounded(x, self.dtype)
        if not source.is_float:
            return x.astype(self.dtype.np)
        out = np.empty(x.shape, self.dtype.np)
        for at, v in np.ndenumerate(x.astype(np.float64)) if x.size < 64 else ():  # small: as written in the docstring
            out[at] = 0 if np.isnan(v) else min(max(int(np.clip(v, -1e30, 1e30)), self.dtype.min), self.dtype.max)
        if x.size >= 64:
            wide = np.trunc(x.astype(np.float64))
            top = wide >= float(self.dtype.max)  # float(int64.max) is 2**63
            bottom = wide <= float(self.dtype.min)
            out = np.where(top | bottom | np.isnan(wide), 0, wide).astype(self.dtype.np)
            out[top], out[bottom] = self.dtype.max, self.dtype.min
        return out

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        x = node.inputs[0]
        return (f.cast(ct, x.dtype) if x.dtype.is_float and self.dtype.is_float else None,)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[e.Expr, ...], ctx: LowerContext) -> e.Expr:
        x = args[0](at)
        if x.dtype is self.dtype:
            return x
        return storage.convert(x, self.dtype) if x.dtype.storage or self.dtype.storage else e.Cast(x, self.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        big = np.array([0.0, -0.7, 1e30, -1e30, np.nan, np.inf, -np.inf, 2.9e9, -2.5, 255.6, 9.3e18], np.float32)
        double = as_dtype("float64")
        return [
            Sample(cls(double), (rng.standard_normal((3, 5)).astype(np.float32),), tags=("odd",)),
            Sample(cls(float32), (rng.standard_normal((0, 5)),), tags=("size0",)),
            Sample(cls(float32), (np.array([[1.25]]),), tags=("size1",)),
            Sample(cls(int32), (big,), smooth=False, tags=("odd",)),
            Sample(cls(int64), (big,), smooth=False),
            Sample(cls(as_dtype("uint8")), (big,), smooth=False),
            Sample(cls(bool_), (big,), smooth=False),
            Sample(cls(int64), (np.resize(big, (7, 11)),), smooth=False),
            Sample(cls(as_dtype("int8")), (rng.integers(-2000, 2000, (2, 1, 9)),), tags=("broadcast",)),
            Sample(cls(float32), (rng.integers(0, 2, (5,)).astype(np.bool_),)),
            Sample(cls(as_dtype("bfloat16")), (rng.standard_normal((7,)).astype(np.float32),), smooth=False),
            Sample(cls(float32), (rng.standard_normal((7,)).astype(np.float16),), smooth=False),
            Sample(cls(as_dtype("bfloat16")), (1 + 2.0**-8 * (1 + np.array([-1, 0, 1, 3]) * 2.0**-30),), smooth=False),  # rounded once
            *cls._storage_samples(rng),
        ]

    @classmethod
    def _storage_samples(cls, rng: np.random.Generator) -> list[Sample]:
        """To and from every storage type: all codes, halfway between neighbours and beside, beyond the greatest, other types."""
        out = []
        for d in STORAGE:
            codes = np.arange(1 << d.bits, dtype=np.uint8).view(d.np)
            exact = codes.astype(np.float64)
            exact = np.sort(exact[np.isfinite(exact)])
            half = (exact[1:] + exact[:-1]) / 2
            near = [exact, half, half * (1 + 2.0**-40), half * (1 - 2.0**-40), exact * 1.3, [np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30]]
            wide = np.concatenate(near) if d.is_float else np.clip(np.concatenate(near), d.min, d.max)
            for source in (wide, wide.astype(np.float32), wide.astype(as_dtype("bfloat16").np)):
                source = source if d.is_float else np.nan_to_num(source.astype(np.float64)).astype(source.dtype)
                out.append(Sample(cls(d), (source,), smooth=False))
            whole = rng.integers(-70, 70, (3, 5))
            out += [Sample(cls(d), (whole.astype(t),), smooth=False) for t in (np.int64, np.int8, np.uint32)]
            out += [Sample(cls(as_dtype(t)), (codes,), smooth=False) for t in ("float32", "float16", "float64")]
            if not d.is_float:
                out += [Sample(cls(as_dtype(t)), (codes,), smooth=False) for t in ("int32", "uint8", "bool", "int4", "uint4", "float8_e4m3fn")]
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return []


@dataclass(frozen=True, eq=False)
class Bitcast(Op):
    """The same bits as a type of equal size."""

    dtype: DType

    kind = "elementwise"
    takes_storage = True
    differentiable = False
    no_gradient = "the bits of a number are not a smooth function of it"

    def infer(self, *types: TensorType) -> TensorType:
        if types[0].dtype.itemsize != self.dtype.itemsize or bool_ in (types[0].dtype, self.dtype):
            raise DTypeError(f"Bitcast needs types of equal size, got {types[0]} and {self.dtype}")
        return types[0].with_dtype(self.dtype)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return np.frombuffer(arrays[0].tobytes(), self.dtype.np).reshape(arrays[0].shape)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[e.Expr, ...], ctx: LowerContext) -> e.Expr:
        return e.Bitcast(args[0](at), self.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(cls(as_dtype("uint32")), (rng.standard_normal((3, 5)).astype(np.float32),), tags=("odd",)),
            Sample(cls(as_dtype("float64")), (np.zeros((0, 2), np.int64),), tags=("size0",)),
            Sample(cls(float32), (np.array(0x3FC00000, np.int32),), tags=("size1",)),
            Sample(cls(as_dtype("int16")), (rng.standard_normal((2, 1, 3)).astype(np.float16),), tags=("broadcast",)),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [BadSample(cls(as_dtype("float64")), (TensorType((2,), float32),), DTypeError, "equal size, got float32")]


class StopGradient(Op):
    """The operand itself; its derivative counts as 0."""

    kind = "elementwise"
    cheap = True
    takes_storage = True
    finite_differences = False  # its derivative is not the limit of differences, by design

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return arrays[0]

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        return (None,)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[e.Expr, ...], ctx: LowerContext) -> e.Expr:
        return args[0](at)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(cls(), (rng.standard_normal(shape).astype(np.float32),), smooth=False, tags=(tag,))
            for shape, tag in [((3, 5), "odd"), ((0, 2), "size0"), ((1,), "size1"), ((2, 1, 3), "broadcast")]
        ]
