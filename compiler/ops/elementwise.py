"""Elementwise ops: one scalar operation per element. Operands have equal shapes and types (``functional`` broadcasts and casts)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...runtime.dim import text
from ...runtime.dtype import bool_
from ...runtime.errors import DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import scalar_ops as s
from ..kernel.expr import Expr, op
from ..kernel.scalar_ops import ScalarOp
from .base import IndexFn, LowerContext, Op


@dataclass(frozen=True, eq=False)
class Elementwise(Op):
    """``fn`` of the elements; subclasses name the scalar operation and give the vjp."""

    fn: ClassVar[ScalarOp]
    kind = "elementwise"

    def infer(self, *types: TensorType) -> TensorType:
        first = types[0]
        for t in types[1:]:
            if not t.same(first):
                raise ShapeError(f"{self.name} needs operands of one type, got {' and '.join(map(str, types))}")
        if self.fn.domain == "float" and not first.dtype.is_float:
            raise DTypeError(f"{self.name} needs a floating type, got {first}")
        if self.fn.domain == "int" and first.dtype.is_float:
            raise DTypeError(f"{self.name} needs integers or bool, got {first}")
        return first.with_dtype(bool_) if self.fn.result == "bool" else first

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            out = np.asarray(self.fn.numpy(*arrays))
        return out if self.fn.result == "bool" else out.astype(arrays[0].dtype, copy=False)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        return op(self.fn, *[a(at) for a in args])

    def flops(self, node: Node) -> int:
        return node.type.size if node.dtype.is_float else 0


