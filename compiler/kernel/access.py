"""How a buffer is addressed: the linear form of a load's element offset over axes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .expr import Axis, Expr, Load, axes_of
from .ir import Buffer
from .simplify import address


@dataclass(frozen=True)
class Access:
    """Element offset = sum(coefficients[axis] * axis) + sum(rest[expr] * expr) + constant.

    ``coefficients`` holds the plain axes, ``rest`` the terms that are not affine in axes (quotients, data).
    """

    coefficients: dict[Axis, int]
    rest: dict[Expr, int]
    constant: int

    @property
    def affine(self) -> bool:
        return not self.rest

    def step(self, axis: Axis) -> int | None:
        """Elements between neighbours along ``axis``; None where the address is not affine in it."""
        if any(axis in axes_of(e) for e in self.rest):
            return None
        return self.coefficients.get(axis, 0)


def access(buffer: Buffer, indices: Iterable[Expr]) -> Access:
    terms, constant = address(indices, buffer.steps)
    coefficients = {x: k for x, k in terms.items() if isinstance(x, Axis)}
    return Access(coefficients, {x: k for x, k in terms.items() if not isinstance(x, Axis)}, constant)


def load_access(load: Load) -> Access:
    return access(load.buffer, load.index)
