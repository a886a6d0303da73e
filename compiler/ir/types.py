"""The type of a graph value: its shape and element type."""

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

    def same(self, other: TensorType) -> bool:
        """Equal as expressions: records no guard."""
        return self.key == other.key

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        return TensorType(tuple(shape), self.dtype)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(self.shape, dtype)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(text, self.shape))}]"

    __repr__ = __str__
