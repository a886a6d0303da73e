"""One result of an op that has several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...runtime.errors import InternalError
from ..ir.graph import Node
from ..ir.types import TensorType, TupleType
from . import functional as f
from .base import Op


@dataclass(frozen=True, eq=False)
class Result(Op):
    """Item ``index`` of a tuple-typed node. Derivatives pass through it to the node itself (``passes.autodiff``)."""

    index: int

    kind = "result"

    def infer(self, *types: TensorType | TupleType) -> TensorType:
        (t,) = types
        if not isinstance(t, TupleType) or not 0 <= self.index < len(t.items):
            raise InternalError(f"there is no item {self.index} in {t}")
        return t.items[self.index]

    def eval(self, *arrays) -> np.ndarray:
        return arrays[0][self.index]


def results(n: Node) -> list[Node]:
    """All results of a tuple-typed node, in order."""
    return [f.node(Result(i), n) for i in range(len(n.type.items))]
