"""What an op is. An op instance is a frozen dataclass whose fields are its attributes; its class holds every rule about it.

Adding an op is one class in one file. The generic test (``tests/test_ops.py``) finds every concrete subclass of ``Op`` and
checks, from
``samples`` and ``bad_samples``: infer against eval, text round trip, vjp against finite differences, lower (interpreted,
LLVM, Triton) against eval.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...runtime import dim
from ...runtime.dtype import DType
from ...runtime.errors import GradientError
from ..ir.body import Body
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel.expr import Axis, Expr

IndexFn = Callable[[tuple[Expr, ...]], Expr]


class LowerContext:
    """What a ``lower`` rule may ask for: fresh loop axes and error sites. One per kernel, so names are deterministic."""

    def __init__(self) -> None:
        self._count = 0
        self.errors: list[str] = []

    def axes(self, extents: Sequence[int], prefix: str = "r") -> tuple[Axis, ...]:
        """New axes in [0, extent), for a Fold or a Store."""
        out = []
        for n in extents:
            out.append(Axis(f"{prefix}{self._count}", n))
            self._count += 1
        return tuple(out)

    def error(self, message: str) -> int:
        """The code of an error site (> 0) for ``Check``; ``message`` is what the user reads."""
        if message not in self.errors:
            self.errors.append(message)
        return self.errors.index(message) + 1


@dataclass(frozen=True)
class Sample:
    """One case for the generic test: an op instance, and the arrays (or functions of a Generator giving them) it is applied to.

    ``smooth`` says whether finite differences make sense at these values (away from kinks); ``tags`` name what it covers:
    the generic test wants "broadcast"-like, "size0", "size1" and "odd" cases for every op.
    """

    op: Any
    arrays: tuple[np.ndarray, ...]
    smooth: bool = True
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class BadSample:
    """Operand types that ``infer`` must refuse with ``error``, the message containing ``match``."""

    op: Any
    types: tuple[TensorType, ...]
    error: type[Exception]
    match: str


@dataclass(frozen=True, eq=False)
class Op:
    """Base of all ops. Subclasses are ``@dataclass(frozen=True, eq=False)``; two ops are equal when their ``key``s are."""

    # elementwise, movement, reduction, contraction, window, index, random, source, scatter, composite: kernels are made of these.
    # region (has sub-graphs), routine, host: a step of its own over stored arrays, whose type may be a TupleType; result: one
    # item of such a tuple. "": an abstract class.
    kind: ClassVar[str] = ""
    differentiable: ClassVar[bool] = True
    no_gradient: ClassVar[str] = ""  # why an op has no vjp, where differentiable is False
    cheap: ClassVar[bool] = False  # worth recomputing in every consumer rather than storing
    takes_storage: ClassVar[bool] = False  # beside the kinds that move values: whether it takes dtypes that are only stored (float8, int4)
    permutes: ClassVar[bool] = False  # a movement that only reorders axes
    reinterprets: ClassVar[bool] = False  # the operand's memory read in another shape
    affine: ClassVar[bool] = False  # a movement that only permutes, repeats or offsets indices: a contraction can read through it

    @property
    def key(self) -> tuple:
        """Identity for interning: the class and its attributes, sizes by their expression."""
        k = self.__dict__.get("_key")
        if k is None:
            k = (type(self), *[_attr_key(getattr(self, f.name)) for f in dataclasses.fields(self)])
            object.__setattr__(self, "_key", k)
        return k

    @property
    def identity(self) -> tuple:
        """What a node is interned by: ``key``, and the present values of its free sizes. Nodes that hang from no leaf
        (constants broadcast to a free
        size) would otherwise be shared between traces of different sizes, and bring the old values into comparisons.
        """
        k = self.__dict__.get("_identity")
        if k is None:
            k = self.key
            values = tuple([v for f in dataclasses.fields(self) for v in _sizes(getattr(self, f.name))])
            k = (*k, values) if values else k
            object.__setattr__(self, "_identity", k)
        return k

    @property
    def moves(self) -> bool:
        """Whether values pass through unchanged, so that types which are only stored may."""
        return self.takes_storage or self.kind in ("source", "movement", "index", "region", "result")

    @property
    def name(self) -> str:
        return type(self).__name__

    def infer(self, *types: TensorType) -> TensorType:
        """The result's type; raises ShapeError or DTypeError that states the sizes or types seen."""
        raise NotImplementedError

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        """The NumPy meaning: the oracle. Independent of ``lower``."""
        raise NotImplementedError

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        """Cotangents of the inputs (None where an input has none), made of ops, for the cotangent of the result."""
        raise GradientError(f"{self.name} has no gradient{': ' + self.no_gradient if self.no_gradient else ''}")

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        """The kernel expression of result element ``at``; ``args[i](index)`` is the expression of operand i's element."""
        raise NotImplementedError

    def reads(self, node: Node, i: int) -> str:
        """How a result element reads operand ``i``; fusion decides by it.

        "same": the element at its own index; "view": one element at another index, each read at most about once; "expand": an
        element that
        many result elements read; "reduce": many elements, each read by one result element; "many": many elements, many times
        each;
        "operand": as "many", by a contraction, whose emitters want operands that are stored.
        """
        return {"elementwise": "same", "movement": "view", "reduction": "reduce", "random": "expand",
                "contraction": "operand"}.get(self.kind, "many")

    def routine(self, node: Node) -> Any:
        """For kind "routine": what computes the node, over its operands' arrays and the results' (``compiler.kernel.routine``)."""
        raise NotImplementedError

    def host(self, node: Node) -> tuple[str, tuple[tuple[str, Any], ...]]:
        """For kind "host": the name of a function of ``runtime.host`` and its attributes."""
        raise NotImplementedError

    def flops(self, node: Node) -> int:
        """Floating point operations to compute the node (0 for movement)."""
        return 0

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        raise NotImplementedError

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return []

    def __str__(self) -> str:
        fields = ", ".join(f"{f.name}={_attr_text(getattr(self, f.name))}" for f in dataclasses.fields(self))
        return f"{self.name}({fields})"

    __repr__ = __str__


def shape_text(shape: Sequence[int]) -> str:
    """``[batch, 3]``: how error messages show sizes."""
    return "[" + ", ".join(map(dim.text, shape)) + "]"


def is_one(n: int) -> bool:
    """The literal size 1 (a free dimension that happens to be 1 is not): records no guard."""
    return type(n) is not dim.Dim and n == 1


def _attr_key(x: Any) -> Any:
    if type(x) is tuple:
        return tuple([_attr_key(v) for v in x])
    if isinstance(x, DType):
        return x.name
    if type(x) is float:
        return ("f", x.hex())
    if type(x) is bool:
        return ("b", x)
    if isinstance(x, Body):
        return x.key
    return dim.key(x)


def _sizes(x: Any) -> list[int]:
    """The values of the ``Dim``s in an attribute."""
    if type(x) is tuple:
        return [v for part in x for v in _sizes(part)]
    if isinstance(x, Body):
        return list(x.sizes)
    return [int(x)] if type(x) is dim.Dim else []


def _attr_text(x: Any) -> str:
    if type(x) is tuple:
        return "(" + ", ".join(map(_attr_text, x)) + ("," if len(x) == 1 else "") + ")"
    if isinstance(x, dim.Dim):
        return dim.text(x)
    if isinstance(x, DType):
        return x.name
    return repr(x)


class Composite(Op):
    """An op that is defined by others. ``decompose`` gives them; a target may claim the whole before that."""

    kind = "composite"

    def decompose(self, *inputs: Node) -> Any:
        """The node that it stands for; a tuple of nodes where it has several results."""
        raise NotImplementedError

    def has_routine(self, node: Node) -> bool:
        """Whether a target that claims the op can compute this node (``routine``)."""
        return False

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        """By default the derivative of the decomposition; passes.autodiff calls ``decompose`` where this is not overridden."""
        raise GradientError(f"{self.name} is differentiated through its decomposition")
