"""Expressions to LLVM values: the ``Emitter`` that the shared walker drives.

Every open loop has a ``Scope``; a value is emitted in the innermost scope that it depends on, so what a loop does not change is computed before it. One axis
may be the vector axis: values that depend on it are vectors of ``lanes`` elements, all others scalars. Loads are classified along it: uniform (one
scalar load), unit stride (a vector load), else a gather. A mask, where a scope has one, says which lanes exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ....runtime.dim import Dim, key
from ....runtime.dtype import DType, int64
from ....runtime.errors import InternalError
from ...kernel.access import Access, access, load_access
from ...kernel.expr import Axis, Bitcast, Cast, Check, Const, Expr, Load, Op, Ref, Where
from ...kernel.ir import Buffer, Kernel, Store
from ...target import Target
from ..emit import Walker, placeholder
from .builder import Builder, Cursor, Value, const, iota, lanes, like, size_of, vector
from .isa import isa_of
from .scalars import Scalars, memory_type, register_type


class Scope:
    """Where values live while a loop is open: its cursor, what was computed there, and its lane mask (None: all lanes exist)."""

    def __init__(self, b: Builder, cursor: Cursor, mask: Value | None = None):
        self.b, self.cursor, self.mask = b, cursor, mask
        self.memo: dict[int, tuple[Expr, Any]] = {}
        self.parts: dict[tuple, Value] = {}
        self._stack: list[Any] = []

    def __enter__(self) -> None:
        entered = self.b.at(self.cursor)
        self._stack.append(entered)
        entered.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._stack.pop().__exit__(*exc)


class Values:
    """The emitter of one kernel function. ``bind`` says what an axis is, ``loop_scope`` opens a scope, ``walk`` gives values."""

    def __init__(self, b: Builder, kernel: Kernel, target: Target):
        self.b, self.kernel, self.target = b, kernel, target
        self.isa = isa_of(target)
        self.scalars = Scalars(b, self.isa)
        self.walk = Walker(self)
        self.scopes: list[Scope] = [Scope(b, b.cursor)]
        self.axis_at: dict[Axis, tuple[int, Value]] = {}  # depth of the scope in which the axis has its (scalar, first lane's) value
        self.stages: dict[str, tuple[int, Sequence[Value]]] = {}
        self.vector_axis: Axis | None = None
        self.lanes = 1
        self._depends: dict[int, tuple[Expr, frozenset]] = {}
        bufs, self.params, _, _, self.tls = b.arguments
        self.buffers: dict[str, Value] = {}
        for i, buffer in enumerate(kernel.buffers):
            self.buffers[buffer.name] = b.load(b.gep(bufs, const("i64", i), "ptr"), "ptr", hint="buf")
        self.error: int | None = None
        self._dummy: Value | None = None

    # -- scopes

    @contextmanager
    def loop_scope(self, cursor: Cursor, axes: Mapping[Axis, Value] | None = None, mask: Value | None = None) -> Iterator[Scope]:
        """Values that depend on ``axes`` are emitted at ``cursor`` from here on."""
        scope = Scope(self.b, cursor, mask)
        self.scopes.append(scope)
        saved = {a: self.axis_at.get(a) for a in axes or ()}
        for a, v in (axes or {}).items():
            self.axis_at[a] = (len(self.scopes) - 1, v)
        stages = dict(self.stages)
        try:
            yield scope
        finally:
            self.scopes.pop()
            for a, old in saved.items():
                if old is None:
                    del self.axis_at[a]
                else:
                    self.axis_at[a] = old
            self.stages = stages

    @contextmanager
    def vectorized(self, axis: Axis | None, count: int) -> Iterator[None]:
        """Inside, ``axis`` is the vector axis with ``count`` lanes (1: it is a scalar)."""
        saved = self.vector_axis, self.lanes
        self.vector_axis, self.lanes = (axis, count) if count > 1 else (None, 1)
        try:
            yield
        finally:
            self.vector_axis, self.lanes = saved

    def define(self, stage: str, values: Sequence[Value]) -> None:
        """From here on, in the current scope and below, Refs to ``stage`` have these values."""
        self.stages[stage] = (len(self.scopes) - 1, values)

    def depends(self, e: Expr) -> frozenset:
        """The axes and stages under ``e``."""
        found = self._depends.get(id(e))
        if found is not None:
            return found[1]
        stack = [e]
        while stack:
            x = stack[-1]
            if id(x) in self._depends:
                stack.pop()
                continue
            missing = [c for c in x.children if id(c) not in self._depends]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if isinstance(x, Axis):
                deps = frozenset([x])
            else:
                deps = frozenset().union(*[self._depends[id(c)][1] for c in x.children]) if x.children else frozenset()
                if isinstance(x, Ref):
                    deps |= {x.stage}
            self._depends[id(x)] = (x, deps)
        return self._depends[id(e)][1]

    def depth(self, e: Expr) -> int:
        out = 0
        for d in self.depends(e):
            at = self.axis_at.get(d) if isinstance(d, Axis) else self.stages.get(d)
            if at is None:
                raise InternalError(f"{self.kernel.name}: {d} has no value here")
            out = max(out, at[0])
        return out

    def scope(self, e: Expr) -> Scope:
        return self.scopes[self.depth(e)]

    @property
    def mask(self) -> Value | None:
        """The lane mask here: that of the innermost scope that has one."""
        return next((s.mask for s in reversed(self.scopes) if s.mask is not None), None)

    # -- sizes

    def size(self, x: int) -> Value:
        """An int as a constant. The kernel is lifted: its Dims are polynomials in parameters p0, p1, ..., each loaded once, at the function's entry."""
        if type(x) is not Dim:
            return const("i64", x)
        root = self.scopes[0]
        if ("size", x.expr) not in root.parts:
            with root:
                root.parts["size", x.expr] = self._polynomial(x.expr)
        return root.parts["size", x.expr]

    def _polynomial(self, expr: tuple) -> Value:
        b = self.b
        out = const("i64", 0)
        for monomial, coefficient in expr:
            term = const("i64", coefficient)
            for atom in monomial:
                term = b.mul(self._atom(atom), term)
            out = b.add(out, term)
        return out

    def _atom(self, atom) -> Value:
        b = self.b
        if isinstance(atom, str):
            parts = self.scopes[0].parts
            if ("parameter", atom) not in parts:
                parts["parameter", atom] = b.load(b.gep(self.params, const("i64", int(atom[1:])), "i64"), "i64", hint="n")
            return parts["parameter", atom]
        op, x, y = atom[0], self._polynomial(atom[1]), self._polynomial(atom[2])
        if op in ("//", "%"):  # sizes are not negative
            return b.binary("udiv" if op == "//" else "urem", x, y)
        return b.select(b.icmp("sgt" if op == "max" else "slt", x, y), x, y)

    # -- the Emitter protocol

    def const(self, e: Const) -> Value:
        if e.dtype is int64:
            return self.size(e.value)
        return const(register_type(e.dtype), e.value)

    def axis(self, e: Axis) -> Value:
        _, first = self.axis_at[e]
        if e is not self.vector_axis:
            return first
        t = vector("i64", self.lanes)
        return self.b.binary("add", self.b.splat(first, self.lanes), iota(t))

    def wide(self, e: Expr, x: Value) -> Value:
        """``x``, the value of ``e``, as a vector; the copying is done where ``e`` lives."""
        if lanes(x.type) == self.lanes:
            return x
        if x.text[0] not in "%@":
            return self.b.splat(x, self.lanes)
        scope = self.scope(e)
        k = ("splat", x.text, self.lanes)
        if k not in scope.parts:
            with scope:
                scope.parts[k] = self.b.splat(x, self.lanes)
        return scope.parts[k]

    def _operands(self, e: Expr, args: Sequence[Value]) -> list[Value]:
        if all(lanes(a.type) == 1 for a in args):
            return list(args)
        return [self.wide(c, a) for c, a in zip(e.children, args)]

    def op(self, e: Op, args: Sequence[Value]) -> Value:
        return self.scalars.op(e, self._operands(e, args))

    def select(self, e: Where, cond: Value, a: Value, b: Value) -> Value:
        if lanes(cond.type) == 1 and lanes(a.type) == 1 and lanes(b.type) == 1:
            return self.b.select(cond, a, b)
        return self.b.select(*self._operands(e, (cond, a, b)))

    def cast(self, e: Cast, x: Value) -> Value:
        return self.scalars.cast(x, e.children[0].dtype, e.dtype)

    def bitcast(self, e: Bitcast, x: Value) -> Value:
        return self.scalars.bitcast(x, e.children[0].dtype, e.dtype)

    def ref(self, e: Ref, walk: Walker) -> Value:
        if e.index:
            raise InternalError(f"{self.kernel.name}: stage {e.stage} has axes of its own")
        return self.stages[e.stage][1][e.item]

    def check(self, e: Check, x: Value) -> Value:
        b = self.b
        high = self.b.splat(self.size(e.size), lanes(x.type))
        bad = b.icmp("uge", x, high)
        mask = self.mask if lanes(x.type) > 1 else None
        if mask is not None:
            bad = b.and_(bad, mask)
        with b.when(b.any(bad), "outside"):
            if self.error is None:
                raise InternalError(f"{self.kernel.name}: a check without an error site")
            base = b.load(b.gep(self.params, const("i64", self.error), "i64"), "i64")
            word = b.load(b.gep(self.tls, const("i64", 1), "ptr"), "ptr")
            b.store(b.add(base, const("i64", e.code)), word)
        zero = const(x.type, 0)
        inside = b.select(b.icmp("slt", x, zero), zero, x)
        return b.select(b.icmp("sge", inside, high), b.binary("sub", high, const(x.type, 1)), inside)

    # -- memory

    def offset(self, a: Access, skip: Axis | None = None) -> Value:
        """The element offset of the first lane, as a scalar: terms are added where they change, outermost first. Terms that are vectors are left out."""
        out = self.size(a.constant)
        terms = [(self.depth(x), x, k) for x, k in (*a.coefficients.items(), *a.rest.items())]
        for depth, x, k in sorted(terms, key=lambda t: t[0]):
            if x is skip or (not isinstance(x, Axis) and self._is_vector(x)):
                continue
            scope = self.scopes[depth]
            token = ("offset", out.text, id(x), key(k))
            if token not in scope.parts:
                value = self.axis_at[x][1] if isinstance(x, Axis) else self.walk(x)
                with scope:
                    scope.parts[token] = self.b.add(out, self.b.mul(value, self.size(k)))
            out = scope.parts[token]
        return out

    def _is_vector(self, e: Expr) -> bool:
        """Whether ``e`` is a vector here: it depends on the vector axis, or on a stage that is one."""
        if self.lanes == 1:
            return False
        return any(d is self.vector_axis or (isinstance(d, str) and any(lanes(v.type) > 1 for v in self.stages[d][1])) for d in self.depends(e))

    def _offsets(self, a: Access, first: Value) -> Value:
        """The vector of element offsets, lane by lane, where the first lane's affine part is ``first``."""
        b, t = self.b, vector("i64", self.lanes)
        out = b.splat(first, self.lanes)
        step = a.coefficients.get(self.vector_axis, 0) if self.vector_axis is not None else 0
        if key(step) != 0:
            out = b.binary("add", out, b.binary("mul", iota(t), b.splat(self.size(step), self.lanes)) if type(step) is Dim or step != 1 else iota(t))
        for x, k in a.rest.items():
            if self._is_vector(x):
                out = b.binary("add", out, b.binary("mul", self.walk(x), b.splat(self.size(k), self.lanes)))
        return out

    def _stride(self, a: Access) -> int | None:
        """Elements between lanes: 0 uniform, None where lanes are not evenly spaced by a plain number."""
        if self.lanes == 1:
            return 0
        if any(self._is_vector(x) for x in a.rest):
            return None
        step = a.coefficients.get(self.vector_axis, 0) if self.vector_axis is not None else 0
        return None if type(step) is Dim else step

    def load(self, e: Load, walk: Walker) -> Value:
        b, dtype = self.b, e.dtype
        a = load_access(e)
        guard = None if e.guard is None else walk(e.guard)
        other = None if e.other is None else walk(e.other)
        base = self.buffers[e.buffer.name]
        memory = memory_type(dtype)
        stride = self._stride(a)
        if stride == 0 and (guard is None or lanes(guard.type) == 1) and (other is None or lanes(other.type) == 1):
            pointer = b.gep(base, self.offset(a), memory)
            if guard is None:
                return self._from(b.load(pointer, memory), dtype)
            x = self._from(b.load(b.select(guard, pointer, self._spare()), memory), dtype)
            return b.select(guard, x, other)
        t = vector(memory, self.lanes)
        mask = None if guard is None else b.splat(guard, self.lanes)
        if self.mask is not None:
            mask = self.mask if mask is None else b.and_(mask, self.mask)
        nothing = const(t, 0)
        if stride == 1:
            pointer = b.gep(base, self.offset(a), memory)
            x = b.load(pointer, t, size_of(memory)) if mask is None else b.masked_load(pointer, mask, nothing)
        else:
            pointers = b.gep(base, self._offsets(a, self.offset(a)), memory)
            x = b.gather(pointers, mask if mask is not None else const(vector("i1", self.lanes), 1), nothing)
        x = self._from(x, dtype)
        return x if guard is None else b.select(b.splat(guard, self.lanes), x, b.splat(other, self.lanes))

    def _from(self, x: Value, dtype: DType) -> Value:
        return self.scalars.from_memory(x, dtype)

    def _spare(self) -> Value:
        """Memory that may always be read."""
        if self._dummy is None:
            self._dummy = self.b.alloca("[8 x i64]")
            with self.scopes[0]:
                self.b.store(const("i64", 0), self._dummy)
        return self._dummy

    def address(self, buffer: Buffer, index: Sequence[Expr]) -> tuple[Access, Value]:
        """Where a store goes: its access and the pointer to the first lane."""
        a = access(buffer, index)
        return a, self.b.gep(self.buffers[buffer.name], self.offset(a), memory_type(buffer.dtype))

    def store(self, s: Store) -> None:
        """One Store at the current point (all its axes are bound), lanes at once; with ``combine`` it joins what is there."""
        b, dtype = self.b, s.buffer.dtype
        value = self.walk(s.expr)
        guard = None if s.guard is None else self.walk(s.guard)
        a, pointer = self.address(s.buffer, s.index)
        memory = memory_type(dtype)
        stride = self._stride(a)
        if self.lanes == 1:
            if guard is None:
                self._join(s, value, pointer, None)
            else:
                with b.when(guard):
                    self._join(s, value, pointer, None)
            return
        if stride == 0:
            raise InternalError(f"{self.kernel.name}: lanes of a store to {s.buffer.name} fall on one element")
        mask = None if guard is None else b.splat(guard, self.lanes)
        if self.mask is not None:
            mask = self.mask if mask is None else b.and_(mask, self.mask)
        value = b.splat(value, self.lanes)
        if stride == 1:
            self._join(s, value, pointer, mask)
            return
        pointers = b.gep(self.buffers[s.buffer.name], self._offsets(a, self.offset(a)), memory)
        every = mask if mask is not None else const(vector("i1", self.lanes), 1)
        if s.combine is not None:
            old = self._from(b.gather(pointers, every, const(vector(memory, self.lanes), 0)), dtype)
            value = self._combined(s, old, value)
        b.scatter(self.scalars.to_memory(value, dtype), pointers, every)

    def _combined(self, s: Store, old: Value, new: Value) -> Value:
        p, q = placeholder("old", s.buffer.dtype), placeholder("new", s.buffer.dtype)
        return self.walk.apply(s.combine.combine((p,), (q,)), [(p, old), (q, new)])[0]

    def _join(self, s: Store, value: Value, pointer: Value, mask: Value | None) -> None:
        b, dtype = self.b, s.buffer.dtype
        t = like(value.type, memory_type(dtype))
        if s.combine is not None:
            raw = b.load(pointer, t, size_of(memory_type(dtype))) if mask is None else b.masked_load(pointer, mask, const(t, 0))
            value = self._combined(s, self._from(raw, dtype), value)
        out = self.scalars.to_memory(value, dtype)
        if mask is None:
            b.store(out, pointer, size_of(memory_type(dtype)))
        else:
            b.masked_store(out, pointer, mask)

