"""The shared expression walker: every backend emits the values of kernel expressions through it.

A backend implements ``Emitter`` over values of its own (LLVM: typed SSA names; Triton: names of Python variables). The walker visits an expression's
operands first, each once, iteratively, and asks the emitter for one value per node. What it does *not* do is decide how memory is read: ``load`` and ``ref``
get the node itself, unwalked, so that a backend can classify the index along its vector axis, build pointers, fold a guard into a mask; it asks
the walker back for those operands that it wants as values (``walk(e.index[0])``). Loops, tiles and reductions belong to the forms that own the walker.

How to use it::

    walk = Walker(emitter)
    emitter.bind(axis, value)       # the backend's own way of saying what an axis is here
    result = walk(expr)             # the value; shared parts are emitted once per scope

``Emitter.scope(e)`` says where the value of ``e`` lives: the memo of that scope is used and the scope is entered (a context manager) while the node
is emitted. A backend without hoisting keeps one scope. LLVM keeps one per loop, so that what does not depend on a loop's axis is emitted before that loop.
``apply`` evaluates an expression over given values (a monoid's ``combine`` over two states), outside every scope's memo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ...runtime.dtype import DType
from ...runtime.errors import InternalError
from ..kernel.expr import Axis, Bitcast, Cast, Check, Const, Expr, Load, Op, Ref, Where

Walk = Callable[[Expr], Any]


class Scope(Protocol):
    """Where values live. ``memo`` maps id(expr) to (expr, value): keeping the expression keeps its id from being used again."""

    memo: dict[int, tuple[Expr, Any]]

    def __enter__(self) -> Any: ...

    def __exit__(self, *exc: Any) -> Any: ...


class Emitter(Protocol):
    """What a backend provides. Values are its own; ``walk`` gives the value of any expression in the current scope."""

    def scope(self, e: Expr) -> Scope:
        """The scope in which ``e``'s value is emitted and remembered."""

    def const(self, e: Const) -> Any:
        """A number. ``e.value`` may be a Dim: then a run-time parameter."""

    def axis(self, e: Axis) -> Any:
        """The current index (or indices) of a loop axis, as int64."""

    def load(self, e: Load, walk: Walk) -> Any:
        """``e.buffer[e.index]``, where ``e.guard`` (None: always) holds, else ``e.other``. Nothing may be read where the guard fails."""

    def ref(self, e: Ref, walk: Walk) -> Any:
        """Element ``e.index`` of an earlier stage's local tensor, item ``e.item``."""

    def op(self, e: Op, args: Sequence[Any]) -> Any:
        """The scalar operation ``e.fn`` on operands of type ``e.children[0].dtype``."""

    def select(self, e: Where, cond: Any, a: Any, b: Any) -> Any: ...

    def cast(self, e: Cast, x: Any) -> Any:
        """Conversion by value from ``e.children[0].dtype`` to ``e.dtype``: float to int truncates, saturates, and turns nan into 0."""

    def bitcast(self, e: Bitcast, x: Any) -> Any: ...

    def check(self, e: Check, x: Any) -> Any:
        """``x`` clamped to [0, e.size); outside (in an active lane) the error word becomes ``e.code``."""


class _Here(AbstractContextManager):
    """A scope that is wherever the emitter stands."""

    def __init__(self) -> None:
        self.memo: dict[int, tuple[Expr, Any]] = {}

    def __exit__(self, *exc: Any) -> None:
        return None


FlatScope = _Here


class Walker:
    """Walks expressions through an emitter; call it with an expression to get its value."""

    def __init__(self, emitter: Emitter):
        self.emitter = emitter

    def __call__(self, root: Expr) -> Any:
        scope = self.emitter.scope
        found = scope(root).memo.get(id(root))
        if found is not None:
            return found[1]
        stack: list[tuple[Expr, bool]] = [(root, False)]
        while stack:
            e, ready = stack.pop()
            where = scope(e)
            if id(e) in where.memo:
                continue
            operands = () if isinstance(e, (Load, Ref)) else e.children
            if not ready and operands:
                stack.append((e, True))
                stack.extend((c, False) for c in reversed(operands))
                continue
            args = [scope(c).memo[id(c)][1] for c in operands]
            with where:
                value = self._one(e, args)
            where.memo[id(e)] = (e, value)
        return scope(root).memo[id(root)][1]

    def apply(self, roots: Iterable[Expr], values: Iterable[tuple[Expr, Any]]) -> list[Any]:
        """The values of ``roots`` where the given leaf expressions have the given values; everything is emitted in place, nothing is remembered."""
        memo = {id(e): v for e, v in values}
        out = []
        for root in roots:
            stack: list[tuple[Expr, bool]] = [(root, False)]
            while stack:
                e, ready = stack.pop()
                if id(e) in memo:
                    continue
                if not ready and e.children:
                    stack.append((e, True))
                    stack.extend((c, False) for c in reversed(e.children))
                    continue
                memo[id(e)] = self._one(e, [memo[id(c)] for c in e.children])
            out.append(memo[id(root)])
        return out

    def _one(self, e: Expr, args: list[Any]) -> Any:
        em = self.emitter
        if isinstance(e, Const):
            return em.const(e)
        if isinstance(e, Axis):
            return em.axis(e)
        if isinstance(e, Load):
            return em.load(e, self)
        if isinstance(e, Op):
            return em.op(e, args)
        if isinstance(e, Where):
            return em.select(e, *args)
        if isinstance(e, Cast):
            return em.cast(e, args[0])
        if isinstance(e, Ref):
            return em.ref(e, self)
        if isinstance(e, Bitcast):
            return em.bitcast(e, args[0])
        if isinstance(e, Check):
            return em.check(e, args[0])
        raise InternalError(f"no emitter for {type(e).__name__}")


def placeholder(name: str, dtype: DType) -> Ref:
    """A leaf that stands for a value given to ``Walker.apply``."""
    return Ref(f"%{name}", (), dtype)
