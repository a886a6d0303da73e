"""Kernel expressions as Triton text at tile coordinates.

Every expression is written once per block of text in which it is known, in the outermost such block. Index arithmetic is 32-bit wherever bounds
prove that it fits (``limits`` collects the sizes, with free dimensions in them, on which that rests).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np

from ....runtime import dtype as d
from ....runtime.dim import Dim, key, size, unguarded
from ....runtime.errors import InternalError
from ...kernel import scalar_ops as s
from ...kernel import simplify
from ...kernel.expr import Axis, Bitcast, Cast, Check, Const, Expr, Load, Op, Ref, Where, post_order
from ...kernel.ir import Buffer
from ...kernel.simplify import bounds, from_linear, linear
from ..emit import Walk, Walker
from .scalars import STORAGE, Scalars, compute_type, literal, typed
from .tiles import Tile, Value, Writer

_INLINE = 28  # a longer text gets a name of its own


def rebase(root: Expr, mapping: dict[Axis, Expr]) -> Expr:
    """``root`` with axes replaced by other index expressions, simplified again."""
    if not mapping:
        return root
    memo: dict[int, Expr] = {}
    for e in post_order([root]):
        if isinstance(e, Axis):
            memo[id(e)] = mapping.get(e, e)
        else:
            children = tuple([memo[id(c)] for c in e.children])
            memo[id(e)] = e if all(a is b for a, b in zip(children, e.children)) else simplify.again(e, children)
    return memo[id(root)]


def identifier(name: str) -> str:
    """A Python name that cannot collide with the emitter's own."""
    return re.sub(r"\W", "_", name) + "_ptr"


class _Memo:
    """What is known in the open blocks, innermost first, in the shape that the shared walker asks for."""

    def __init__(self, writer: Writer):
        self.writer = writer

    def get(self, k: int) -> tuple[None, Value] | None:
        for level in reversed(self.writer.levels):
            v = level.values.get(k)
            if v is not None:
                return None, v
        return None

    def __contains__(self, k: int) -> bool:
        return self.get(k) is not None

    def __getitem__(self, k: int) -> tuple[None, Value]:
        found = self.get(k)
        if found is None:
            raise KeyError(k)
        return found

    def __setitem__(self, k: int, entry: tuple[Expr, Value]) -> None:
        self.writer.bind(*entry)


class _Scope(AbstractContextManager):
    """One scope for the walker: a value is remembered in the block that it was written in, which its operands decide."""

    def __init__(self, writer: Writer):
        self.memo = _Memo(writer)

    def __exit__(self, *exc: object) -> None:
        return None


class Emitter(Writer):
    """The shared walker's ``Emitter`` over ``Value``s. ``refs(ref)`` emits the value of a Ref; the forms (generic, contraction) provide it. ``rank`` is the number of tensor dimensions."""

    def __init__(self, rank: int, narrow: bool, refs: Callable[[Ref], Value]):
        super().__init__()
        self.rank, self.narrow, self.refs = rank, narrow, refs
        self.walk, self._scope = Walker(self), _Scope(self)
        self.scalars = Scalars()
        self.tiles: dict[str, Tile] = {}
        self.params: dict[tuple, tuple[str, Dim]] = {}
        self.limits: dict[tuple, Dim] = {}
        self.functions: dict[str, str] = {}  # combine functions of reductions, by name
        self.checks = False
        self._plans: dict[int, tuple[dict[Expr, int], int]] = {}

    # sizes

    def number(self, n: int) -> str:
        """A size in the text: digits, or the run-time argument that carries a free dimension's expression."""
        if type(n) is not Dim:
            return str(int(n))
        k = key(n)
        if k not in self.params:
            self.params[k] = (f"n{len(self.params)}", n)
        return self.params[k][0]

    def fits(self, n: int | None) -> bool:
        """Whether ``n`` is known to fit 32 bits; a free size is taken to, and becomes one of ``limits``."""
        if n is None or not self.narrow:
            return False
        if type(n) is Dim:
            if not -(1 << 31) <= int(n) < 1 << 31:
                return False
            self.limits[key(n)] = n
            return True
        return -(1 << 31) <= n < 1 << 31

    def small(self, e: Expr) -> bool:
        with unguarded():
            low, high = bounds(e)
            return self.fits(low) and self.fits(high)

    @property
    def index_type(self) -> str:
        return "int32" if self.narrow else "int64"

    # shapes and masks

    def shape(self, dims: frozenset[str]) -> str:
        out = ["1"] * self.rank
        for name in dims:
            out[self.tiles[name].position] = str(self.tiles[name].size)
        return "[" + ", ".join(out) + "]"

    def full(self, v: Value, dims: frozenset[str]) -> str:
        """``v`` as a tensor over all of ``dims``."""
        shape = self.shape(dims)
        if v.lit:
            return f"tl.full({shape}, {v.text}, tl.{v.type})"
        return v.text if v.dims == dims and dims else f"tl.broadcast_to({v.text}, {shape})"

    def masks(self, dims: frozenset[str]) -> list[str]:
        return [t.mask for t in self.tiles.values() if t.name in dims and t.mask is not None]

    # values

    def value(self, text: str, type_: str, dims: frozenset[str], level: int, name: bool = False) -> Value:
        if name or len(text) > _INLINE:
            text = self.assign(text, level)
        return Value(text, type_, dims, level)

    def atom(self, v: Value) -> Value:
        """``v`` as a scalar or tensor with methods (a literal gets a type)."""
        return Value(typed(v.text, v.type), v.type, v.dims, v.level) if v.lit else v

    def as_type(self, v: Value, type_: str) -> Value:
        if v.type == type_:
            return v
        if v.lit:
            return Value(v.text, type_, v.dims, v.level, True)
        return self.value(f"{v.text}.to(tl.{type_})", type_, v.dims, v.level)

    # the Emitter protocol

    def emit(self, root: Expr) -> Value:
        """The value of ``root``, written where it was not yet."""
        return self.walk(root)

    def scope(self, e: Expr) -> _Scope:
        return self._scope

    def axis(self, e: Axis) -> Value:
        raise InternalError(f"Triton: axis {e.name} is not bound to a tile coordinate")

    def ref(self, e: Ref, walk: Walk) -> Value:
        return self.refs(e)

    def const(self, e: Const) -> Value:
        if type(e.value) is Dim:
            if e.dtype is not d.int64:
                return self.value(f"{self.number(e.value)}.to(tl.{compute_type(e.dtype)})", compute_type(e.dtype), frozenset(), 0)
            return Value(self.number(e.value), "int32" if self.fits(e.value) else "int64")
        type_ = compute_type(e.dtype)
        if e.dtype.storage:  # its byte
            return Value(str(int(np.array(e.value, e.dtype.np).view(np.uint8))), type_, lit=True)
        if e.dtype is d.int64 and self.fits(e.value):
            type_ = "int32"
        return Value(literal(e.value, type_), type_, lit=True)

    def _join(self, values: list[Value]) -> tuple[frozenset[str], int]:
        return frozenset().union(*[v.dims for v in values]), max(v.level for v in values)

    def _unify(self, e: Expr, c: list[Value]) -> list[Value]:
        """Operands in one machine type: an int64 operation is done in 32 bits where it and its operands fit."""
        if e.children[-1].dtype is d.int64:
            fits = all(v.type == "int32" for v in c) and (e.dtype is not d.int64 or self.small(e))
            c = [self.as_type(v, "int32" if fits else "int64") for v in c]
        if all(v.lit for v in c) or (c[0].lit and c[0].type in ("float64", "uint64", "int64")):
            c = [self.atom(c[0]), *c[1:]]
        return c

    def op(self, e: Op, args: Sequence[Value]) -> Value:
        dims, level = self._join(list(args))
        c = self._unify(e, list(args))
        type_ = c[0].type
        if e.fn in (s.floordiv, s.mod) and e.children[0].dtype is d.int64 and isinstance(e.children[1], Const) and e.children[1].value > 0:
            with unguarded():
                (low, high), divisor = bounds(e.children[0]), e.children[1].value
                plain = low is not None and low >= 0
                shifted = low is not None and not plain and type(low) is not Dim and type(divisor) is not Dim and (
                    high is not None and self.fits(high - low + divisor))
            sign = "//" if e.fn is s.floordiv else "%"
            if plain:
                return self.value(f"({c[0].text} {sign} {c[1].text})", type_, dims, level)
            if shifted:  # C's division truncates: make the dividend positive by a multiple of the divisor
                up = -(low // divisor)  # type: ignore[operator]
                text = f"(({c[0].text} + {up * divisor}) {sign} {c[1].text})"
                return self.value(text if e.fn is s.mod else f"({text} - {up})", type_, dims, level)
        if e.fn.name in _HELPED or (e.fn in (s.maximum, s.minimum) and type_ not in ("float32", "int32")) or type_ == "int1":
            shift = e.fn in (s.shl, s.shr) and c[1].lit and 0 <= int(c[1].text) < e.dtype.bits
            c = [v if shift and i == 1 else self.atom(v) for i, v in enumerate(c)]  # functions need operands with a type
        operands = [v.text for v in c]
        text = self.scalars.op(e.fn.name, e.children[0].dtype, type_, operands)
        return self.value(text, "int1" if e.fn.result == "bool" else type_, dims, level)

    def select(self, e: Where, cond: Value, a: Value, b: Value) -> Value:
        dims, level = self._join([cond, a, b])
        if e.dtype is d.int64 and a.type != b.type:
            a, b = self.as_type(a, "int64"), self.as_type(b, "int64")
        a, b = self.atom(a), self.atom(b)
        return self.value(f"tl.where({self.atom(cond).text}, {a.text}, {b.text})", a.type, dims, level)

    def cast(self, e: Cast, x: Value) -> Value:
        c = self.atom(x)
        text = self.scalars.cast(c.text, e.children[0].dtype, c.type, e.dtype)
        return self.value(text, compute_type(e.dtype), c.dims, c.level)

    def bitcast(self, e: Bitcast, x: Value) -> Value:
        source, target = e.children[0].dtype, e.dtype
        c = self.as_type(self.atom(x), STORAGE[source])
        text = c.text if STORAGE[target] == c.type else f"{c.text}.to(tl.{STORAGE[target]}, bitcast=True)"
        return self.as_type(self.value(text, STORAGE[target], c.dims, c.level), compute_type(target))

    def check(self, e: Check, x: Value) -> Value:
        c = self.atom(x)
        if c.type == "int32" and type(e.size) is not Dim and not self.fits(e.size):
            c = self.as_type(c, "int64")
        n = self.number(e.size)
        self.checks = True
        bad = self.value(f"(({c.text} < 0) | ({c.text} >= {n}))", "int1", c.dims, c.level, name=True)
        mask = " & ".join([bad.text, *self.masks(c.dims)])
        where = f"error_ptr + tl.zeros({self.shape(c.dims)}, tl.int32)" if c.dims else "error_ptr"
        self.line(f"tl.store({where}, {e.code}, mask={mask})", c.level)
        text = f"tl.minimum(tl.maximum({c.text}, 0), {n} - 1)"
        small = self.fits(e.size)
        return self.value(text + (".to(tl.int32)" if small and c.type != "int32" else ""), "int32" if small else "int64", c.dims, c.level, name=True)

    # addresses

    def _plan(self, owner: object, buffer: Buffer, indices: tuple[Expr, ...]) -> tuple[dict[Expr, int], int]:
        """The element offset as a linear form: the cheaper of the plain and the rejoined one."""
        plan = self._plans.get(id(owner))
        if plan is None:
            offset: Expr = simplify.index(0)
            for i, step in zip(indices, buffer.steps):
                offset = simplify.add(offset, simplify.mul(i, step))
            plain, joined = linear(offset), simplify.address(indices, buffer.steps)
            plan = self._plans[id(owner)] = min((joined, plain), key=lambda p: _cost(p[0]))
            self._kept.append(owner)  # type: ignore[arg-type]
        return plan

    def offset(self, buffer: Buffer, plan: tuple[dict[Expr, int], int], more: list[Value], dims: frozenset[str] = frozenset()) -> tuple[
            str, frozenset[str], int]:
        """Text of the element offset, over at least the tile dimensions of ``dims`` and of the values in ``more``. Terms are added block by block,
        so that what a loop does not change is added outside it."""
        terms, constant = plan
        groups: dict[tuple, dict[Expr, int]] = {}
        for x, k in terms.items():
            v = self.emit(x)
            groups.setdefault((v.level, len(v.dims), tuple(sorted(v.dims))), {})[x] = k
        order = sorted(groups)
        exprs = [from_linear(groups[g], constant if i == 0 else 0) for i, g in enumerate(order)] or [simplify.index(constant)]
        values = [self.emit(x) for x in exprs]
        have, level = self._join(values)
        want, deepest = self._join([*values, *more])
        want = want | dims
        with unguarded():
            wide = not self.fits(size(buffer.shape))
        if wide:
            values = [self.as_type(v, "int64") for v in values]
        text = " + ".join(v.text for v in values)
        if have != want:
            text += f" + tl.zeros({self.shape(want)}, tl.int32)"
        return text, want, max(level, deepest)

    def load(self, e: Load, walk: Walk) -> Value:
        return self.read(e)

    def read(self, e: Load, raw: bool = False, zero: list[str] | None = None) -> Value:
        """``raw`` leaves a 16-bit float as it is stored (operands of ``tl.dot``); ``zero``: further masks, outside which the value is 0."""
        guard = None if e.guard is None else self.emit(e.guard)
        other = None if e.other is None else self.emit(e.other)
        more = [] if guard is None else [guard]
        text, dims, level = self.offset(e.buffer, self._plan(e, e.buffer, e.index), more)
        masks = self.masks(dims)
        if guard is not None:
            masks.append(guard.text if not guard.lit else typed(guard.text, "int1"))
        masks = list(dict.fromkeys([*masks, *(zero or ())]))
        storage = STORAGE[e.buffer.dtype]
        args = [f"{identifier(e.buffer.name)} + {text}" if text != "0" else identifier(e.buffer.name)]
        select = False
        if masks:
            args.append(f"mask={' & '.join(masks)}")
            if other is not None and other.lit:
                args.append(f"other={int(other.text == 'True') if storage == 'int8' and other.type == 'int1' else other.text}")
            elif other is not None or zero:
                select = other is not None
                args.append("other=0" if not storage.startswith("float") and storage != "bfloat16" else "other=0.0")
        loaded = f"tl.load({', '.join(args)})"
        type_ = compute_type(e.dtype)
        if e.dtype is d.bool_:
            loaded += " != 0"
        elif type_ != storage and not raw:
            loaded += f".to(tl.{type_})"
        out = Value(self.assign(loaded, level, "x"), storage if raw and type_ != storage else type_, dims, level)
        if select and guard is not None and other is not None:
            all_dims, deep = self._join([out, guard, other])
            return self.value(f"tl.where({guard.text}, {out.text}, {other.text})", type_, all_dims, deep)
        return out

    def store(self, buffer: Buffer, indices: tuple[Expr, ...], v: Value, guard: Expr | None, dims: frozenset[str], level: int) -> None:
        """Writes ``v`` for every real point of the tile ``dims`` where ``guard`` holds."""
        condition = None if guard is None else self.emit(guard)
        more = [v] if condition is None else [v, condition]
        text, dims, _ = self.offset(buffer, self._plan(indices, buffer, indices), more, dims)
        masks = self.masks(dims)
        if condition is not None:
            masks.append(condition.text if not condition.lit else typed(condition.text, "int1"))
        mask = f", mask={' & '.join(masks)}" if masks else ""
        self.line(f"tl.store({identifier(buffer.name)} + {text}, {self.stored(buffer, v)}{mask})", level)

    def stored(self, buffer: Buffer, v: Value) -> str:
        """``v`` in the buffer's storage type."""
        storage = STORAGE[buffer.dtype]
        if v.lit:
            return typed(str(int(v.text == "True")) if v.type == "int1" else v.text, storage)
        return v.text if v.type == storage else f"{v.text}.to(tl.{storage})"


_HELPED = {"div", "rem", "floordiv", "mod", "pow", "atan2", "shl", "shr", "mulhi"} | {n for n, fn in s.SCALAR_OPS.items() if fn.arity == 1}


def _cost(terms: dict[Expr, int]) -> int:
    """Operations to compute a linear form; divisions are dear."""
    divisions = sum(isinstance(e, Op) and e.fn in (s.floordiv, s.mod) for e in post_order(terms))
    return len(terms) + 4 * divisions
