"""The type of a graph value: its shape and element type; or a tuple of such, for an op with several results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ...runtime.dim import key, size, text
from ...runtime.dtype import DType


@dataclass(frozen=True, eq=False)
class TensorType:
    """``shape`` is a tuple of ints (or ``Dim``s); a scalar's is (). Types are compared with ``same``."""

    shape: tuple[int, ...]
    dtype: DType

    @cached_property
    def key(self) -> tuple:
        return (key(self.shape), self.dtype.name)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return size(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def same(self, other: TensorType | TupleType) -> bool:
        """Equal as expressions: records no guard."""
        return self.key == other.key

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        return TensorType(tuple(shape), self.dtype)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(self.shape, dtype)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(text, self.shape))}]"

    __repr__ = __str__


@dataclass(frozen=True, eq=False)
class TupleType:
    """What an op with several results gives (loops, sorting, factorisations). Only ``ops.result.Result`` reads such a node: it
    takes one item."""

    items: tuple[TensorType, ...]

    @cached_property
    def key(self) -> tuple:
        return ("tuple", *[t.key for t in self.items])

    def same(self, other: TensorType | TupleType) -> bool:
        """Equal as expressions: records no guard."""
        return self.key == other.key

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.items)) + ")"

    __repr__ = __str__


def items_of(t: TensorType | TupleType) -> tuple[TensorType, ...]:
    """The tensor types in a node's type."""
    return t.items if isinstance(t, TupleType) else (t,)
