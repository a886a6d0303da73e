"""Kernel expressions as LLVM values: the ``Emitter`` behind the shared walker.

One *scope* per open loop. A value is emitted in the outermost scope that binds everything it depends on, so loop-invariant work is hoisted as it is
written. At most one axis is the *vector axis*: expressions that depend on it are vectors of ``lanes`` neighbours, all others scalars.

Loads are classified along the vector axis: unit stride (one vector load), no dependence (a scalar, broadcast where it is used), minus one (a load and
a reversal), anything else a gather, or scalar loads where the target has none. Where a guard fails nothing is read: a guard that is the same for all lanes
redirects the pointer to a block of zeros, a guard that differs becomes a lane mask. The address of a load is built scope by scope, so that the innermost loop adds
one register; constant displacements come last and fold into the instruction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ....runtime.dim import Dim, Poly
from ....runtime.dtype import DType, int64
from ....runtime.errors import InternalError
from ...kernel.access import Access, access
from ...kernel.expr import Axis, Bitcast, Cast, Check, Const, Expr, Load, Op, Ref, Where, post_order
from ...kernel.ir import Buffer, Store
from ...kernel.simplify import bounds, from_linear, linear, sub
from ...target import Target
from ..emit import Walk, Walker
from .builder import Builder, Cursor, Loop, Module, Value, const, element, iota, lanes, size_of, vector
from .isa import isa_of
from .scalars import Scalars, register_type

ZEROS = 512  # bytes of the block that failed guards read: the widest vector of the widest element


class Scope:
    """The values of one loop (or of one round of an unrolled loop)."""

    def __init__(self, em: LLVMEmitter, cursor: Cursor):
        self.em, self.cursor = em, cursor
        self.memo: dict[int, tuple[Expr, Any]] = {}
        self.named: dict[Any, Any] = {}
        self._saved: list[Cursor] = []

    def __enter__(self) -> None:
        self._saved.append(self.em.b.cursor)
        self.em.b.cursor = self.cursor

    def __exit__(self, *exc: Any) -> None:
        self.em.b.cursor = self._saved.pop()


class Binding:
    """What an axis is: ``value`` its first index, ``lanes`` how many follow each other, ``mask`` which of them are real (None: all)."""

    __slots__ = ("lanes", "level", "mask", "value")

    def __init__(self, value: Value, level: int, n: int = 1, mask: Value | None = None):
        self.value, self.level, self.lanes, self.mask = value, level, n, mask


class Local:
    """A stage's results: registers (``values``), or memory of the thread: ``buffers`` with elements of ``width`` lanes at byte ``offsets`` of the scratch."""

    __slots__ = ("buffers", "level", "offsets", "values", "vector", "width")

    def __init__(self, level: int, values: Sequence[Value] = (), buffers: Sequence[Buffer] = (), offsets: Sequence[int] = (), width: int = 1,
                 vector_axis: Axis | None = None):
        self.level, self.values, self.buffers, self.offsets, self.width, self.vector = level, values, buffers, offsets, width, vector_axis


class LLVMEmitter:
    """Emits one kernel function; the forms (``loops``, ``gemm``) open loops, bind axes and stage results, and ask ``walk`` for values."""

    def __init__(self, module: Module, name: str, buffers: Sequence[Buffer], target: Target):
        self.target, self.isa = target, isa_of(target)
        self.b = Builder(module, name, [("ptr noalias", "bufs"), ("ptr noalias", "params"), ("i64", "begin"), ("i64", "end"), ("ptr noalias", "tls")],
                         fma=target.fma)
        self.bufs, self.params, self.begin, self.end, self.tls = self.b.arguments
        self.scalars = Scalars(self.b, self.isa)
        self.scopes = [Scope(self, self.b.cursor)]
        self.walk = Walker(self)
        self.axes: dict[Axis, Binding] = {}
        self.locals: dict[str, Local] = {}
        self.vector: Axis | None = None
        self.number = {b.name: i for i, b in enumerate(buffers)}
        self.error_param: int | None = None
        self._deps: dict[int, tuple[Expr, frozenset]] = {}
        self._access: dict[int, tuple[Expr, Access]] = {}

    # -- scopes, loops

    @property
    def level(self) -> int:
        return len(self.scopes) - 1

    def _push(self, cursor: Cursor) -> None:
        self.scopes.append(Scope(self, cursor))

    def _pop(self) -> None:
        self.scopes.pop()

    @contextlib.contextmanager
    def loop(self, axis: Axis | None, begin: Value, end: Value, step: int = 1, n: int = 1, mask: Value | None = None, state: Sequence[Value] = (),
             nonempty: bool = False, hint: str = "") -> Iterator[Loop]:
        """A loop that binds ``axis`` to its counter; n > 1 makes it the vector axis, in vectors of n."""
        with self.b.loop(begin, end, step, state, hint or (axis.name if axis else "i"), nonempty) as loop:
            self._push(loop.cursor)
            with self.bound(axis, loop.index, n, mask) if axis is not None else contextlib.nullcontext():
                yield loop
            self._pop()

    @contextlib.contextmanager
    def inline(self, axis: Axis, value: Value, n: int = 1, mask: Value | None = None) -> Iterator[None]:
        """One round of a loop without the loop: binds ``axis`` for code that goes where it stands."""
        with self.within(Scope(self, self.scopes[-1].cursor), axis, value, n, mask):
            yield

    @contextlib.contextmanager
    def within(self, scope: Scope, axis: Axis, value: Value, n: int = 1, mask: Value | None = None) -> Iterator[None]:
        """``inline`` in a scope of the caller's, which may be entered again (with the same binding, in the same place): its values are found there."""
        self.scopes.append(scope)
        with self.bound(axis, value, n, mask):
            yield
        self._pop()

    @contextlib.contextmanager
    def bound(self, axis: Axis, value: Value, n: int = 1, mask: Value | None = None) -> Iterator[None]:
        """Binds an axis in the innermost scope."""
        saved, saved_vector = self.axes.get(axis), self.vector
        self.axes[axis] = Binding(value, self.level, n, mask)
        if n > 1:
            self.vector = axis
        elif self.vector is axis:
            self.vector = None
        try:
            yield
        finally:
            self.vector = saved_vector
            if saved is None:
                del self.axes[axis]
            else:
                self.axes[axis] = saved

    def deps(self, e: Expr) -> frozenset:
        """Axes and stage names that ``e`` depends on."""
        found = self._deps.get(id(e))
        if found is None:
            for x in post_order([e]):
                if id(x) not in self._deps:
                    own: frozenset = frozenset([x]) if isinstance(x, Axis) else frozenset([x.stage]) if isinstance(x, Ref) else frozenset()
                    self._deps[id(x)] = (x, own.union(*[self._deps[id(c)][1] for c in x.children]) if x.children else own)
            found = self._deps[id(e)]
        return found[1]

    def varies(self, e: Expr) -> bool:
        """Whether ``e`` differs along the vector axis."""
        v = self.vector
        if v is None:
            return False
        d = self.deps(e)
        return v in d or any(type(x) is str and self.locals[x].vector is v for x in d)

    def level_of(self, e: Expr) -> int:
        level = 0
        for x in self.deps(e):
            bound = self.locals.get(x) if type(x) is str else self.axes.get(x)
            if bound is None:
                raise InternalError(f"{x} is not in scope")
            level = max(level, bound.level)
        return level

    def scope(self, e: Expr) -> Scope:
        return self.scopes[self.level_of(e)]

    @property
    def mask(self) -> Value | None:
        """Which lanes are real; None: all."""
        return self.axes[self.vector].mask if self.vector is not None else None

    @property
    def lanes(self) -> int:
        return self.axes[self.vector].lanes if self.vector is not None else 1

    def full(self, x: Value) -> Value:
        """``x`` as a vector of all lanes."""
        return self.b.splat(x, self.lanes) if lanes(x.type) == 1 else x

    def masked(self, c: Value | None) -> Value | None:
        """``c`` (i1, per lane or for all) and the lanes that are real."""
        m = self.mask
        if c is None:
            return m
        c = self.full(c)
        return c if m is None else self.b.and_(c, m)

    # -- sizes and addresses

    def size(self, n: int) -> Value:
        """A size as i64: a number, or its polynomial over the parameters, evaluated at entry."""
        if type(n) is not Dim:
            return const("i64", int(n))
        return self._poly(n.expr)

    def _poly(self, expr: Poly) -> Value:
        top = self.scopes[0]
        found = top.named.get(("poly", expr))
        if found is not None:
            return found
        b = self.b
        with top:
            total = const("i64", 0)
            for monomial, coefficient in expr:
                term = const("i64", coefficient)
                for atom in monomial:
                    term = b.mul(self._atom(atom), term)
                total = b.add(total, term)
        top.named[("poly", expr)] = total
        return total

    def _atom(self, atom: Any) -> Value:
        top = self.scopes[0]
        found = top.named.get(("atom", atom))
        if found is None:
            b = self.b
            with top:
                if isinstance(atom, str):
                    found = b.load(b.gep(self.params, const("i64", int(atom[1:])), "i64"), "i64", hint=atom + ".")
                else:
                    how, x, y = atom[0], self._poly(atom[1]), self._poly(atom[2])
                    if how in ("max", "min"):
                        found = b.intrinsic(f"llvm.s{how}", "i64", [x, y])
                    else:  # sizes are not negative
                        found = b.binary("udiv" if how == "//" else "urem", x, y)
            top.named[("atom", atom)] = found
        return found

    def access_of(self, key: Expr, buffer: Buffer, index: Sequence[Expr]) -> Access:
        found = self._access.get(id(key))
        if found is None:
            found = self._access[id(key)] = (key, access(buffer, index))
        return found[1]

    def base(self, name: str) -> Value:
        """The pointer of a buffer."""
        top = self.scopes[0]
        found = top.named.get(name)
        if found is None:
            b = self.b
            with top:
                found = b.load(b.gep(self.bufs, const("i64", self.number[name]), "ptr"), "ptr", hint=f"{name}.")
            top.named[name] = found
        return found

    def scratch(self, offset: int) -> Value:
        top = self.scopes[0]
        found = top.named.get(("scratch", offset))
        if found is None:
            b = self.b
            with top:
                start = b.load(self.tls, "ptr", hint="scratch")
                found = b.gep(start, const("i64", offset), "i8", "scratch")
            top.named[("scratch", offset)] = found
        return found

    def _offset(self, a: Access) -> tuple[list[tuple[int, tuple]], int, int | None, list[tuple[Expr, int]]]:
        """An access as (uniform terms by scope, constant displacement, step along the vector axis, terms that vary otherwise)."""
        uniform: dict[int, list] = {}
        displacement: int = a.constant
        step: int = 0
        varying: list[tuple[Expr, int]] = []
        for x, k in (*a.coefficients.items(), *a.rest.items()):
            if x is self.vector:
                bound = self.axes[self.vector]
                step = k
                uniform.setdefault(bound.level, []).append((x, k))
            elif self.varies(x):
                varying.append((x, k))
            else:
                number = self.axes[x].value.number if isinstance(x, Axis) else None
                if number is not None:
                    displacement = displacement + number * k
                else:
                    uniform.setdefault(self.level_of(x), []).append((x, k))
        return [(level, tuple(terms)) for level, terms in sorted(uniform.items())], displacement, (None if varying else step), varying

    def pointer(self, base: Value, type_: str, a: Access, width: int = 1) -> Value:
        """The address of lane 0 (without terms that vary otherwise), elements ``width`` values apart."""
        b = self.b
        groups, displacement, _, _ = self._offset(a)
        p = base
        if type(displacement) is Dim:
            groups = [(0, (("d", displacement),)), *groups]
            displacement = 0
        for level, terms in groups:
            where = self.scopes[level]
            key = ("gep", p.text, type_, width, tuple((id(x), k if type(k) is not Dim else k.expr) for x, k in terms))
            found = where.named.get(key)
            if found is None:
                # the vector axis itself goes last, as an index that the addressing mode takes
                with where:
                    offset = const("i64", 0)
                    for x, k in terms:
                        if x == "d":
                            offset = b.add(offset, self.size(k))
                            continue
                        i = self.axes[x].value if isinstance(x, Axis) else self.walk(x)
                        offset = b.add(offset, b.mul(i, self.size(k)))
                    found = (b.gep(p, b.mul(offset, const("i64", width)), type_), terms)
                where.named[key] = found
            p = found[0]
        return b.gep(p, const("i64", displacement * width), type_) if displacement else p

    def _lane_offsets(self, a: Access) -> Value:
        """Element offsets of all lanes relative to ``pointer``, in 32 bits where they fit."""
        b = self.b
        _, _, step, varying = self._offset(a)
        n = self.lanes
        k = a.coefficients.get(self.vector, 0) if self.vector is not None else 0
        if not varying:
            fits = type(k) is not Dim and abs(k) * n < 2**31
            t = vector("i32" if fits else "i64", n)
            return b.mul(iota(t), b.splat(self.size(k) if not fits else const("i32", k), n))
        rest = from_linear(dict(varying), 0)
        total = self.full(self.walk(rest))
        low, high = bounds(rest)
        fits = low is not None and high is not None and low > -(2**30) and high < 2**30 and type(k) is not Dim and abs(k) * n < 2**30
        if fits:
            total = b.convert("trunc", total, "i32")
        if type(k) is Dim or k:
            t = total.type
            total = b.binary("add", total, b.binary("mul", iota(t), b.splat(self.size(k) if not fits else const("i32", k), n)))
        return total

    def zeros(self) -> Value:
        return self.b.module.constant("kerogen.zeros", f"[{ZEROS} x i8]", "zeroinitializer")

    # -- the walker's questions

    def const(self, e: Const) -> Value:
        if type(e.value) is Dim:
            v = self.size(e.value)
            return v if e.dtype.name == "int64" else self.scalars.cast(v, int64, e.dtype)
        value = e.value
        if e.dtype.storage:  # its byte
            value = int(np.array(value, e.dtype.np).view(np.uint8))
        elif e.dtype.is_float and e.dtype.itemsize == 2:
            value = float(e.dtype.np.type(value))
        return const(register_type(e.dtype), value)

    def axis(self, e: Axis) -> Value:
        bound = self.axes[e]
        if bound.lanes == 1:
            return bound.value
        t = vector("i64", bound.lanes)
        return self.b.binary("add", self.b.splat(bound.value, bound.lanes), iota(t))

    def op(self, e: Op, args: Sequence[Value]) -> Value:
        lane_mask = self._lane_compare(e)
        if lane_mask is not None:
            return lane_mask
        return self.scalars.op(e, self._even(args))

    def _even(self, args: Sequence[Value]) -> list[Value]:
        n = max([lanes(a.type) for a in args], default=1)
        return list(args) if n == 1 else [self.b.splat(a, n) for a in args]

    def _lane_compare(self, e: Op) -> Value | None:
        """index < bound along the vector axis, for an index linear in it: lane numbers against one scalar, in 32 bits."""
        if self.vector is None or e.fn.name not in ("lt", "ge") or e.children[0].dtype.name != "int64" or not self.varies(e):
            return None
        terms, constant = linear(sub(e.children[0], e.children[1]))
        k = terms.get(self.vector)
        if type(k) is not int or k == 0 or any(x is not self.vector and self.varies(x) for x in terms):
            return None
        b, n = self.b, self.lanes
        rest = dict(terms)
        del rest[self.vector]
        # k * (base + lane) + rest < 0   <=>   k * lane < room
        start = b.add(b.mul(self.axes[self.vector].value, const("i64", k)), self.walk(from_linear(rest, constant)))
        room = b.sub(const("i64", 0), start)
        low, high = (0, k * n) if k > 0 else (k * n, 1)
        room = b.intrinsic("llvm.smax", "i64", [b.intrinsic("llvm.smin", "i64", [room, const("i64", high)]), const("i64", low)])
        t = vector("i32", n)
        steps = b.mul(iota(t), const(t, k)) if k != 1 else iota(t)
        return b.icmp("slt" if e.fn.name == "lt" else "sge", steps, b.splat(b.convert("trunc", room, "i32"), n))

    def select(self, e: Where, cond: Value, a: Value, b: Value) -> Value:
        if lanes(cond.type) == 1:
            x, y = self._even([a, b])
            return self.b.select(cond, x, y)
        return self.b.select(*self._even([cond, a, b]))

    def cast(self, e: Cast, x: Value) -> Value:
        return self.scalars.cast(x, e.children[0].dtype, e.dtype)

    def bitcast(self, e: Bitcast, x: Value) -> Value:
        return self.scalars.bitcast(x, e.children[0].dtype, e.dtype)

    def check(self, e: Check, x: Value) -> Value:
        b = self.b
        size = b.splat(self.size(e.size), lanes(x.type))
        inside = b.icmp("ult", x, size)
        bad = b.not_(inside)
        if lanes(x.type) > 1 and self.mask is not None:
            bad = b.and_(bad, self.mask)
        base = self._error_base()  # here: what is loaded in the branch is not known after it
        with b.when(b.any(bad), "outside"):
            word = b.load(b.gep(self.tls, const("i64", 1), "ptr"), "ptr")
            # The first error is the one to tell of: what comes after works on a clamped index.
            known = b.load(word, "i64")
            b.store(b.select(b.icmp("eq", known, const("i64", 0)), b.add(base, const("i64", e.code)), known), word)
        return b.select(inside, x, const(x.type, 0))

    def _error_base(self) -> Value:
        if self.error_param is None:
            return const("i64", 0)
        return self._atom(f"p{self.error_param}")

    def load(self, e: Load, walk: Walk) -> Value:
        a = self.access_of(e, e.buffer, e.index)
        if any(type(n) is int and n == 0 for n in e.buffer.shape):
            return walk(e.other) if e.other is not None else const(register_type(e.buffer.dtype), 0)
        return self._read(a, self.base(e.buffer.name), e.buffer.dtype, e.guard, e.other, walk)

    def _read(self, a: Access, base: Value, dtype: DType, guard: Expr | None, other: Expr | None, walk: Walk, width: int = 1) -> Value:
        b, t = self.b, self.scalars.memory_type(dtype)
        _, _, step, _ = self._offset(a)
        p = self.pointer(base, t, a, width)
        uniform = self.vector is None or (step is not None and type(step) is not Dim and step == 0)
        lane_guard = guard is not None and self.varies(guard)
        zero = other is None or (isinstance(other, Const) and type(other.value) is not Dim and other.value == 0
                                 and not (other.dtype.is_float and str(other.value)[0] == "-"))
        if lane_guard:
            condition = self.masked(walk(guard))
            assert condition is not None
            if uniform:
                p = b.select(b.any(condition), p, self.zeros())
                x = self.scalars.from_memory(b.load(p, t), dtype)
            else:
                x = self._vector_load(p, t, a, step, condition, dtype)
            return x if zero and not uniform else b.select(condition, self.full(x), self.full(walk(other) if other is not None else const(x.type, 0)))
        condition = walk(guard) if guard is not None else None
        if condition is not None:
            # A gather's lanes lie anywhere: there the guard becomes a mask.
            if not uniform and not (type(step) is int and step == 1):
                x = self._vector_load(p, t, a, step, self.masked(condition), dtype)
                return x if zero else b.select(condition, x, self.full(walk(other)))
            p = b.select(condition, p, self.zeros())
        x = self.scalars.from_memory(b.load(p, t), dtype) if uniform else self._vector_load(p, t, a, step, self.mask, dtype)
        if condition is None or zero:
            return x
        y = walk(other)
        return b.select(condition, *self._even([x, y]))

    def _vector_load(self, p: Value, t: str, a: Access, step: int | None, mask: Value | None, dtype: DType) -> Value:
        """Lanes where ``mask`` holds, 0 elsewhere, in register form."""
        b, n = self.b, self.lanes
        vt = vector(t, n)
        static = step if type(step) is int else None
        if static == 1:
            if mask is None:
                return self.scalars.from_memory(b.load(p, vt), dtype)
            if self.isa.masked(size_of(t)):
                return self.scalars.from_memory(b.masked_load(p, mask, const(vt, 0)), dtype)
        if static == -1 and mask is None:
            first = b.gep(p, const("i64", 1 - n), t)
            return self.scalars.from_memory(b.shuffle(b.load(first, vt), None, range(n - 1, -1, -1)), dtype)
        offsets = self._lane_offsets(a)
        if self.isa.GATHER and size_of(t) >= 4:
            everywhere = mask if mask is not None else const(vector("i1", n), 1)
            return self.scalars.from_memory(b.gather(b.gep(p, offsets, t), everywhere, const(vt, 0)), dtype)
        out = Value("poison", vt)
        for lane in range(n):
            at = const("i64", lane * static) if static is not None else b.convert("sext", b.extract(offsets, lane), "i64")
            q = b.gep(p, at, t)
            if mask is not None:
                q = b.select(b.extract(mask, lane), q, self.zeros())
            out = b.insert(out, b.load(q, t), lane)
        return self.scalars.from_memory(out, dtype)

    def ref(self, e: Ref, walk: Walk) -> Value:
        local = self.locals[e.stage]
        if local.values:
            return local.values[e.item]
        buffer = local.buffers[e.item]
        a = self.access_of(e, buffer, e.children)
        base = self.scratch(local.offsets[e.item])
        if local.width == 1:
            return self._read(a, base, buffer.dtype, None, None, walk)
        # one vector of the grid's vector axis per point
        t = self.scalars.memory_type(buffer.dtype)
        if any(self.varies(c) for c in e.children):
            raise InternalError(f"{e.stage} is indexed by the vector axis")
        p = self.pointer(base, t, a, local.width)
        return self.scalars.from_memory(self.b.load(p, vector(t, local.width)), buffer.dtype)

    # -- stores

    def store(self, st: Store, value: Value, condition: Value | None) -> None:
        """Writes ``value`` to the store's element(s) where ``condition`` (None: always) and the lane mask hold."""
        dtype = st.buffer.dtype
        a = access(st.buffer, st.index)
        raw = self.scalars.to_memory(value, dtype)
        t = element(raw.type)
        p = self.pointer(self.base(st.buffer.name), t, a)
        self._write(p, a, raw, condition)

    def _write(self, p: Value, a: Access, raw: Value, condition: Value | None) -> None:
        b, t = self.b, element(raw.type)
        _, _, step, _ = self._offset(a)
        if self.vector is None:
            with b.when(condition, "store") if condition is not None else contextlib.nullcontext():
                b.store(raw, p)
            return
        raw = self.full(raw)
        mask = self.masked(condition)
        if type(step) is int and step == 1:
            if mask is None:
                b.store(raw, p)
                return
            if self.isa.masked(size_of(t)):
                b.masked_store(raw, p, mask)
                return
        offsets = self._lane_offsets(a)
        if self.isa.SCATTER and size_of(t) >= 4:
            b.scatter(raw, b.gep(p, offsets, t), mask if mask is not None else const(vector("i1", self.lanes), 1))
            return
        for lane in range(self.lanes):
            at = b.convert("sext", b.extract(offsets, lane), "i64")
            with b.when(b.extract(mask, lane), "lane") if mask is not None else contextlib.nullcontext():
                b.store(b.extract(raw, lane), b.gep(p, at, t))
