"""Constants. ``Full`` is one number in every element and lives inside kernels; ``Constant`` is an array known by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...runtime.dim import Dim, text
from ...runtime.dtype import DType, as_dtype, bool_, float32, int8, int64, uint64
from ...runtime.errors import ArgumentError, DTypeError, InternalError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel.expr import Cast, Const, Expr, index
from .base import BadSample, IndexFn, LowerContext, Op, Sample


@dataclass(frozen=True, eq=False)
class Full(Op):
    """``value`` in every element of ``shape``. ``value`` is a Python number of the kind of ``dtype``; a ``Dim`` stays an
    expression.
    """

    shape: tuple[int, ...]
    value: float | int | bool
    dtype: DType

    kind: ClassVar[str] = "source"
    cheap = True

    def infer(self, *types: TensorType) -> TensorType:
        if self.dtype.is_int and not self.dtype.min <= int(self.value) <= self.dtype.max:
            raise DTypeError(f"Full: {text(self.value)} doesn't fit {self.dtype}")
        return TensorType(self.shape, self.dtype)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        value = int(self.value) if isinstance(self.value, Dim) else self.value
        return np.full(tuple(map(int, self.shape)), value, self.dtype.np)

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        return ()

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        if type(self.value) is Dim:  # a float constant would lose the expression
            return index(self.value) if self.dtype is int64 else Cast(index(self.value), self.dtype)
        return Const(self.value, self.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(Full((3, 5), 0.1, float32), (), tags=("odd",)),
            Sample(Full((0, 3), 7, int8), (), tags=("size0",)),
            Sample(Full((), -1.5e300, as_dtype("float64")), (), tags=("size1",)),
            Sample(Full((2, 1, 3), True, bool_), ()),
            Sample(Full((5,), 2**64 - 1, uint64), ()),
            Sample(Full((3,), float("-inf"), as_dtype("bfloat16")), (), tags=("broadcast",)),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [BadSample(Full((2,), 300, int8), (), DTypeError, "300 doesn't fit int8")]


def full_op(shape: tuple[int, ...], value, dtype: DType) -> Full:
    """``Full`` with ``value`` converted to the kind of ``dtype``."""
    if dtype.kind == "b":
        value = bool(value)
    elif dtype.is_float:
        if type(value) is not Dim:
            value = float(value)
    elif type(value) is not Dim:
        if isinstance(value, float) and not value.is_integer():
            raise DTypeError(f"the constant {value} is not a value of {dtype}")
        value = int(value)
    return Full(tuple(shape), value, dtype)


class Array:
    """An immutable array that is equal to another when type, shape and bytes are (by digest)."""

    __slots__ = ("array", "digest")

    def __init__(self, array: np.ndarray):
        array = np.array(array, order="C", copy=True)
        dtype = as_dtype(array.dtype)
        array.flags.writeable = False
        h = hashlib.sha256(f"{dtype.name}{array.shape}".encode())
        h.update(array.tobytes())
        self.array, self.digest = array, h.hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"#{self.digest}"


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """An array known when tracing. Kernels read it as a buffer; its text shows the digest of type, shape and bytes."""

    data: Array

    kind: ClassVar[str] = "source"

    @property
    def array(self) -> np.ndarray:
        return self.data.array

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(self.array.shape, as_dtype(self.array.dtype))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return self.array

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        return ()

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        if self.array.size == 1:
            return Const(
                self.array.reshape(-1)[0].item() if self.array.dtype.kind != "V" else float(self.array.reshape(-1)[0]), node.dtype
            )
        raise InternalError("a Constant is a buffer of its kernel, not an expression")

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(Constant(Array(a)), (), tags=t)
            for a, t in [
                (rng.standard_normal((3, 5)).astype(np.float32), ("odd",)),
                (np.zeros((0, 2), np.int32), ("size0",)),
                (np.array([[2.5]], np.float64), ("size1",)),
                (rng.integers(0, 9, (2, 1, 3)), ("broadcast",)),
            ]
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return []


def array_op(x) -> Op:
    """``Full`` for a single element, else ``Constant``."""
    a = np.asarray(x)
    if a.dtype == object or a.dtype.kind in "USMmc":
        raise ArgumentError(f"a constant of NumPy type {a.dtype} is not a tensor of numbers")
    dtype = as_dtype(a.dtype)
    if a.size == 1:
        v = a.reshape(-1)[0]
        return full_op(a.shape, float(v) if dtype.is_float else v.item(), dtype)
    return Constant(Array(a))
