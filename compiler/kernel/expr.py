"""Kernel expressions: one small typed algebra for values and for indices.

Expressions are immutable and interned: equal expressions are the same object, so ``is`` compares and identity keys memos.
Indices are int64. Integer constants may be ``Dim`` (sizes that carry their expression); interning keeps 8 and batch = 8 apart,
and batch = 8 and batch = 3.
The lower-case functions build index arithmetic in a canonical linear form (``simplify`` has the rules); values are built by ``op``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakValueDictionary

from ...runtime.dim import Dim, exact
from ...runtime.dtype import DType, bool_, int64
from ...runtime.errors import InternalError
from .scalar_ops import ScalarOp

_TABLE: WeakValueDictionary = WeakValueDictionary()


class Expr:
    """Base of all expressions. ``dtype`` is the element type; ``children`` the operands."""

    __slots__ = ("dtype", "children", "fields", "__weakref__")
    dtype: DType
    children: tuple[Expr, ...]
    fields: tuple

    def __new__(cls, dtype: DType, children: tuple, fields: tuple, keyed: tuple | None = None):
        k = (cls, dtype, tuple([id(c) for c in children]), fields if keyed is None else keyed)
        self = _TABLE.get(k)
        if self is None:
            self = object.__new__(cls)
            self.dtype, self.children, self.fields = dtype, children, fields
            _TABLE[k] = self
        return self

    def with_children(self, children: tuple) -> Expr:
        """The same expression over other operands."""
        return Expr.__new__(type(self), self.dtype, children, self.fields, self._keyed())

    def _keyed(self) -> tuple:
        return self.fields

    def __repr__(self) -> str:
        from .text import expr_text
        return expr_text(self)


class Const(Expr):
    """A number of type ``dtype``. ``value`` is a Python bool, int (or Dim), or float."""

    __slots__ = ()

    def __new__(cls, value, dtype: DType):
        if dtype is bool_:
            value = bool(value)
        elif dtype.is_float:
            value = float(value)
        elif type(value) is not Dim:
            value = int(value)
        return Expr.__new__(cls, dtype, (), (value,), cls._key(value))

    @staticmethod
    def _key(value) -> tuple:
        if type(value) is float:  # keeps -0.0 and nan apart from 0.0
            return ("f", value.hex())
        return (type(value) is bool, exact(value))

    def _keyed(self) -> tuple:
        return self._key(self.fields[0])

    @property
    def value(self):
        return self.fields[0]


class Axis(Expr):
    """A loop index in [0, extent). Axes are equal when name and extent are."""

    __slots__ = ()

    def __new__(cls, name: str, extent: int):
        return Expr.__new__(cls, int64, (), (name, extent), (name, exact(extent)))

    def _keyed(self) -> tuple:
        return (self.fields[0], exact(self.fields[1]))

    @property
    def name(self) -> str:
        return self.fields[0]

    @property
    def extent(self) -> int:
        return self.fields[1]


class Load(Expr):
    """``buffer[index]``; where ``guard`` is false nothing is read and the value is ``other``.

    ``buffer`` is a ``kernel.ir.Buffer``. ``guard`` and ``other`` are given together or not at all.
    """

    __slots__ = ()

    def __new__(cls, buffer, index: Iterable[Expr], guard: Expr | None = None, other: Expr | None = None):
        index = tuple(index)
        if len(index) != len(buffer.shape):
            raise InternalError(f"load of {buffer.name} {buffer.shape} with {len(index)} indices")
        extra = () if guard is None else (guard, other)
        return Expr.__new__(cls, buffer.dtype, index + extra, (buffer, guard is not None), (buffer.identity, guard is not None))

    def _keyed(self) -> tuple:
        return (self.fields[0].identity, self.fields[1])

    @property
    def buffer(self):
        return self.fields[0]

    @property
    def index(self) -> tuple[Expr, ...]:
        return self.children[:-2] if self.fields[1] else self.children

    @property
    def guard(self) -> Expr | None:
        return self.children[-2] if self.fields[1] else None

    @property
    def other(self) -> Expr | None:
        return self.children[-1] if self.fields[1] else None


class Ref(Expr):
    """Element ``index`` of the local tensor that an earlier stage of the kernel computed (item ``item`` of a tuple-valued one)."""

    __slots__ = ()

    def __new__(cls, stage: str, index: Iterable[Expr], dtype: DType, item: int = 0):
        return Expr.__new__(cls, dtype, tuple(index), (stage, item))

    @property
    def stage(self) -> str:
        return self.fields[0]

    @property
    def item(self) -> int:
        return self.fields[1]


class Op(Expr):
    """A scalar operation. Operands have one type (shift counts and comparisons too); see ``scalar_ops``."""

    __slots__ = ()

    def __new__(cls, fn: ScalarOp, args: Iterable[Expr]):
        args = tuple(args)
        if len(args) != fn.arity or any(a.dtype is not args[0].dtype for a in args):
            raise InternalError(f"{fn.name} of {[a.dtype for a in args]}")
        return Expr.__new__(cls, bool_ if fn.result == "bool" else args[0].dtype, args, (fn,))

    @property
    def fn(self) -> ScalarOp:
        return self.fields[0]


class Where(Expr):
    """``a`` where ``cond`` else ``b``."""

    __slots__ = ()

    def __new__(cls, cond: Expr, a: Expr, b: Expr):
        if cond.dtype is not bool_ or a.dtype is not b.dtype:
            raise InternalError(f"where({cond.dtype}, {a.dtype}, {b.dtype})")
        return Expr.__new__(cls, a.dtype, (cond, a, b), ())


class Cast(Expr):
    """Conversion by value: float to int truncates and saturates (nan gives 0), int to narrower int wraps, any to bool is ``!= 0``."""

    __slots__ = ()

    def __new__(cls, x: Expr, dtype: DType):
        return Expr.__new__(cls, dtype, (x,), ())


class Bitcast(Expr):
    """The same bits as another type of equal size."""

    __slots__ = ()

    def __new__(cls, x: Expr, dtype: DType):
        if x.dtype.itemsize != dtype.itemsize:
            raise InternalError(f"bitcast {x.dtype} to {dtype}")
        return Expr.__new__(cls, dtype, (x,), ())


class Check(Expr):
    """A data-dependent index: ``index`` clamped to [0, size); outside, the call's error word becomes ``code``."""

    __slots__ = ()

    def __new__(cls, index: Expr, size: int, code: int):
        return Expr.__new__(cls, int64, (index,), (size, code), (exact(size), code))

    def _keyed(self) -> tuple:
        return (exact(self.fields[0]), self.fields[1])

    @property
    def size(self) -> int:
        return self.fields[0]

    @property
    def code(self) -> int:
        return self.fields[1]


class Fold(Expr):
    """A reduction over ``over`` inside an expression, before it becomes a stage of its own (passes.lower does that).

    ``exprs`` are the reduced values (two operands for the monoid "dot"); ``item`` picks from a tuple-valued result.
    """

    __slots__ = ()

    def __new__(cls, monoid, over: Iterable[Axis], exprs: Iterable[Expr], item: int = 0, dtype: DType | None = None):
        over, exprs = tuple(over), tuple(exprs)
        dtype = dtype or monoid.dtypes(exprs)[item]
        return Expr.__new__(cls, dtype, over + exprs, (monoid, len(over), item))

    @property
    def monoid(self):
        return self.fields[0]

    @property
    def over(self) -> tuple[Axis, ...]:
        return self.children[: self.fields[1]]  # type: ignore[return-value]

    @property
    def exprs(self) -> tuple[Expr, ...]:
        return self.children[self.fields[1]:]

    @property
    def item(self) -> int:
        return self.fields[2]


def post_order(roots: Iterable[Expr]) -> list[Expr]:
    """Every expression under ``roots``, operands first, each once; iterative, since expressions can be deep."""
    seen: set[int] = set()
    out: list[Expr] = []
    stack: list[tuple[Expr, bool]] = [(r, False) for r in reversed(list(roots))]
    while stack:
        e, done = stack.pop()
        if done:
            out.append(e)
        elif id(e) not in seen:
            seen.add(id(e))
            stack.append((e, True))
            stack.extend((c, False) for c in reversed(e.children) if id(c) not in seen)
    return out


def substitute(roots: Iterable[Expr], mapping: dict[Expr, Expr]) -> list[Expr]:
    """``roots`` with every key of ``mapping`` replaced by its value (keys inside replaced parts are not visited)."""
    roots = list(roots)
    memo: dict[int, Expr] = {id(k): v for k, v in mapping.items()}
    for e in post_order(roots):
        if id(e) not in memo:
            children = tuple([memo[id(c)] for c in e.children])
            memo[id(e)] = e if all(a is b for a, b in zip(children, e.children)) else e.with_children(children)
    return [memo[id(r)] for r in roots]


def axes_of(e: Expr) -> set[Axis]:
    """The free axes of an expression: those under it that no Fold inside it binds."""
    free: dict[int, frozenset] = {}
    for x in post_order([e]):
        if isinstance(x, Axis):
            free[id(x)] = frozenset([x])
        else:
            axes = frozenset().union(*[free[id(c)] for c in x.children]) if x.children else frozenset()
            free[id(x)] = axes - frozenset(x.over) if isinstance(x, Fold) else axes
    return set(free[id(e)])


def loads_of(roots: Iterable[Expr]) -> list[Load]:
    return [e for e in post_order(roots) if isinstance(e, Load)]


def const(value: Any, dtype: DType) -> Const:
    return Const(value, dtype)


def index(value: int) -> Const:
    """An index constant (int64); ``value`` may be a Dim."""
    return Const(value, int64)


def op(fn: ScalarOp, *args: Expr) -> Expr:
    return Op(fn, args)


TRUE = Const(True, bool_)
FALSE = Const(False, bool_)
