"""Kernels: buffers, parallel axes, and stages in order.

The meaning of a kernel (``interp`` executes it): for every point of ``axes`` (independent of each other, in any order), run the stages in
order. A ``Reduce`` or ``Contract`` stage computes, for every point of its own ``axes``, the fold of its operands over ``over``;
a ``Stage`` an expression; later stages read them by ``Ref(name, index)``. A ``Store`` writes, for every point of its own axes,
``buffer[index] = expr`` where ``guard`` holds; with ``combine`` it loops over ``over`` in order and joins each
value to what the buffer holds (scatter). Two points of ``axes`` never store to the same element. Neighbouring Stores without ``combine``
are one assignment: all their values are computed before any is written (an update may be written where its old value lies).

Kinds of kernels that the emitters tell apart by form:
* map: one or more Stores whose own axes are empty (all axes are parallel);
* row kernel: ``axes`` number the rows, Reduce stages and Stores have the row's axes of their own (softmax, layer norm);
* window and column reductions: all output axes are parallel, Reduce stages have no axes of their own;
* contraction: one Contract without own axes, then Stores (the epilogue).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ...runtime.dim import exact, key
from ...runtime.dtype import DType
from .expr import Axis, Expr, Ref
from .monoid import Monoid


@dataclass(frozen=True)
class Buffer:
    """An array that a kernel reads or writes. ``strides`` (in elements; None: row-major) belong to its storage."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    strides: tuple[int, ...] | None = None

    @cached_property
    def key(self) -> tuple:
        return (self.name, key(self.shape), self.dtype.name, None if self.strides is None else key(self.strides))

    @cached_property
    def identity(self) -> tuple:
        """``key`` with the present values of free sizes."""
        return (self.key, exact(self.shape), None if self.strides is None else exact(self.strides))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Strides in elements, row-major where none are given."""
        if self.strides is not None:
            return self.strides
        out, step = [], 1
        for n in reversed(self.shape):
            out.append(step)
            step = n * step
        return tuple(reversed(out))


@dataclass(frozen=True)
class Stage:
    """A local tensor over ``axes``: one value per point."""

    name: str
    axes: tuple[Axis, ...]
    expr: Expr


@dataclass(frozen=True)
class Reduce:
    """A local tensor over ``axes`` (often none: a scalar per grid point): the fold of ``exprs`` over ``over``."""

    name: str
    axes: tuple[Axis, ...]
    over: tuple[Axis, ...]
    monoid: Monoid
    exprs: tuple[Expr, ...]

    @property
    def dtypes(self) -> tuple[DType, ...]:
        return self.monoid.dtypes(self.exprs)


@dataclass(frozen=True)
class Contract:
    """A local tensor over ``axes``: the sum over ``over`` of a * b, accumulated in ``acc``."""

    name: str
    axes: tuple[Axis, ...]
    over: tuple[Axis, ...]
    a: Expr
    b: Expr
    acc: DType
    precision: str = "highest"


@dataclass(frozen=True)
class Store:
    """Writes ``expr`` to ``buffer[index]`` for every point of ``axes``; see the module for ``combine`` and ``over``."""

    buffer: Buffer
    axes: tuple[Axis, ...]
    index: tuple[Expr, ...]
    expr: Expr
    guard: Expr | None = None
    over: tuple[Axis, ...] = ()
    combine: Monoid | None = None


@dataclass(frozen=True)
class Kernel:
    """One fused loop nest. ``buffers`` in the order of the ABI: those read, then those written (``outputs`` of them)."""

    name: str
    buffers: tuple[Buffer, ...]
    outputs: int
    axes: tuple[Axis, ...]
    stages: tuple[Stage | Reduce | Contract | Store, ...]

    @property
    def stores(self) -> tuple[Store, ...]:
        return tuple(s for s in self.stages if isinstance(s, Store))

    @property
    def reads(self) -> tuple[Buffer, ...]:
        return self.buffers[: len(self.buffers) - self.outputs]

    @property
    def writes(self) -> tuple[Buffer, ...]:
        return self.buffers[len(self.buffers) - self.outputs:]

    def stage(self, ref: Ref | str) -> Stage | Reduce | Contract:
        name = ref if isinstance(ref, str) else ref.stage
        return next(s for s in self.stages if not isinstance(s, Store) and s.name == name)


def stage_exprs(stage: Stage | Reduce | Contract | Store) -> tuple[Expr, ...]:
    """The expressions that a stage evaluates."""
    if isinstance(stage, Stage):
        return (stage.expr,)
    if isinstance(stage, Reduce):
        return stage.exprs
    if isinstance(stage, Contract):
        return (stage.a, stage.b)
    return (*stage.index, stage.expr, *(() if stage.guard is None else (stage.guard,)))


def with_exprs(stage: Stage | Reduce | Contract | Store, new: Sequence[Expr]) -> Stage | Reduce | Contract | Store:
    """The stage evaluating other expressions, in the order of ``stage_exprs``."""
    if isinstance(stage, Stage):
        return replace(stage, expr=new[0])
    if isinstance(stage, Reduce):
        return replace(stage, exprs=tuple(new))
    if isinstance(stage, Contract):
        return replace(stage, a=new[0], b=new[1])
    n = len(stage.index)
    return replace(stage, index=tuple(new[:n]), expr=new[n], guard=None if stage.guard is None else new[n + 1])


def with_axes(stage: Stage | Reduce | Contract | Store, fn: Callable[[tuple[Axis, ...]], tuple[Axis, ...]]):
    """The stage over other axes: ``fn`` maps each of its lists of axes."""
    stage = replace(stage, axes=fn(stage.axes))
    return replace(stage, over=fn(stage.over)) if getattr(stage, "over", ()) else stage
