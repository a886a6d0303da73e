"""What a name stands for while a model is imported.

* ``Node``: a tensor of the graph.
* ``Known``: a value known now. Its array may be of dtype object and then holds ints that can be ``Dim``s: shape arithmetic over a
free batch stays
  an expression (NumPy's own functions on object arrays do the arithmetic by calling Python's operators).
* ``Weight``: an initializer that becomes a "parameter" input where it is used as a tensor, so that a plan serves new weights.
* ``Unknown``: the result of a node that can't be compiled; what hangs from it is not reported again.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

import numpy as np

from ...compiler import ops
from ...compiler.ir.evaluate import evaluate
from ...compiler.ir.graph import Graph, Input, Node, post_order
from ...runtime.dim import Dim
from ...runtime.dtype import DType, as_dtype, int64
from ...runtime.errors import ShapeError

_FOLD_ELEMENTS = 2**20
_SMALL_INPUT = 256  # elements of an input whose values may shape the graph


@dataclass(frozen=True, eq=False)
class Known:
    """``array`` with element type ``dtype``; of NumPy dtype object only if some element is a Dim (``dtype`` is then an integer
    type).
    """

    array: np.ndarray
    dtype: DType

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


@dataclass(eq=False)
class Weight:
    """A bound parameter: ``array`` may be replaced (same shape and type); ``version`` counts the replacements."""

    name: str
    array: np.ndarray = field(repr=False)
    version: int = 0

    @property
    def dtype(self) -> DType:
        return as_dtype(self.array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def assign(self, array: np.ndarray) -> None:
        """A new value of the same shape; compiled plans use it from the next call on."""
        array = np.asarray(array)
        if array.shape != self.array.shape:
            raise ShapeError(f"weight {self.name!r} is {list(self.array.shape)}, got {list(array.shape)}")
        self.array = np.ascontiguousarray(array, self.array.dtype)
        self.version += 1


@dataclass(frozen=True)
class Unknown:
    """No value: the node that should give it (or one before it) can't be compiled."""


Value = Node | Known | Weight | Unknown


def known(x, dtype: DType | None = None) -> Known:
    """A Known from an array, an int, or (nested) lists of ints and Dims. Object arrays without a Dim become numbers."""
    if not isinstance(x, np.ndarray):
        x = as_objects(x)
    if x.dtype == object:
        dtype = dtype or int64
        if not any(type(v) is Dim for v in x.flat):
            x = x.astype(dtype.np)
        return Known(x, dtype)
    if dtype is not None and x.dtype != dtype.np:
        x = x.astype(dtype.np)
    return Known(x, as_dtype(x.dtype))


def as_objects(x) -> np.ndarray:
    """An int, or a flat sequence of ints, as an object array (np.array would drop a Dim's expression)."""
    if isinstance(x, (list, tuple)):
        out = np.empty(len(x), object)
        for i, v in enumerate(x):
            out[i] = v
        return out
    out = np.empty((), object)
    out[()] = x
    return out


def symbolic(x: Known) -> bool:
    """Whether some element depends on a free dimension."""
    return x.array.dtype == object


def ints(array: np.ndarray) -> tuple[int, ...]:
    """The elements as Python ints, Dims kept."""
    return tuple(v if type(v) is Dim else int(v) for v in array.reshape(-1))


def as_node(x: Known) -> Node:
    """A known value as a tensor of the graph. Elements that depend on free dimensions stay expressions."""
    if not symbolic(x):
        return ops.constant(x.array)
    return ops.reshape(ops.stack([ops.constant(v, x.dtype) for v in x.array.flat], 0), x.array.shape)


def small_inputs(n: Node, inputs: Container[Node]) -> tuple[str, ...]:
    """Names of the model's inputs (whose nodes are ``inputs``) that ``n`` depends on, if it depends on nothing else than constants
    and they are small vectors (shapes, axes, scales) or scalars. Leaves that stand for a loop's values are no inputs.
    """
    leaves = [m for m in post_order([n]) if isinstance(m.op, Input)]
    small = all(
        m in inputs
        and (m.rank <= 1 or m.type.size <= 1)
        and m.type.size <= _SMALL_INPUT
        for m in leaves
    )
    return tuple(m.op.name for m in leaves) if small else ()


def evaluated(n: Node) -> np.ndarray | None:
    """The value of a node that depends on constants alone (and on no free dimension); None where it doesn't, or is large."""
    cone = post_order([n])
    for m in cone:
        if isinstance(m.op, Input) or any(type(d) is Dim for d in m.shape) or m.type.size > _FOLD_ELEMENTS:
            return None
    return evaluate(Graph((), (n,)), [])[0]
