"""The generic form: correct for every kernel.

Grid points are numbered along one dimension, ``rows`` of them a program. Reductions and stores with axes of their own run along a second tile
dimension of ``columns`` elements, in one piece where they fit it (then stages share what they load) and else block by block; windows, and reductions
inside others, run one element at a time. A Store that combines (scatter) runs in order, one program per group of independent points: no atomics.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....runtime.dim import Dim, ceil_div
from ....runtime.errors import InternalError
from ...kernel.expr import Axis, Cast, Const, Expr, Load, Ref
from ...kernel.ir import Contract, Kernel, Reduce, Store
from ...kernel.monoid import Dot, Monoid
from ...kernel.simplify import index, unravel
from ...schedule.triton import TritonSchedule, extent, power, serial_limit
from .emitter import Emitter, identifier, rebase
from .scalars import STORAGE, compute_type, typed
from .tiles import Tile, Value

_P = frozenset(["p"])


def spread(flat: Expr, axes: Sequence[Axis]) -> dict[Axis, Expr]:
    """The axes as parts of one running number (row-major)."""
    live = [a for a in axes if type(a.extent) is Dim or a.extent != 1]
    parts = unravel(flat, tuple(a.extent for a in live)) if live else ()
    return {**{a: index(0) for a in axes}, **dict(zip(live, parts))}


def emit_generic(kernel: Kernel, schedule: TritonSchedule, narrow: bool) -> tuple[Emitter, int]:
    """The emitter, its text complete, and the number of programs."""
    return _Generic(kernel, schedule, narrow).run()


class _Generic:
    def __init__(self, kernel: Kernel, schedule: TritonSchedule, narrow: bool):
        self.kernel, self.schedule = kernel, schedule
        self.rank = 2 if schedule.columns > 1 else 1
        self.em = Emitter(self.rank, narrow, self.ref)
        self.points = extent(kernel.axes)
        self.stages = {s.name: s for s in kernel.stages if not isinstance(s, Store)}
        self.mapping: dict[Axis, Expr] = {}

    def run(self) -> tuple[Emitter, int]:
        if type(self.points) is not Dim and self.points == 0:
            return self.em, 0
        self._grid()
        for i, st in enumerate(self.kernel.stages):
            if isinstance(st, Store):
                self._compute_before_writing(i)
                (self._scatter if st.combine is not None else self._store)(st)
        return self.em, ceil_div(self.points, self.schedule.rows)

    # coordinates

    def _grid(self) -> None:
        em, rows = self.em, self.schedule.rows
        pid = "tl.program_id(0)" + ("" if em.narrow else ".to(tl.int64)")
        column = "[:, None]" if self.rank == 2 else ""
        em.line(f"p = {pid} * {rows} + tl.arange(0, {rows}){column}")
        with_tail = type(self.points) is Dim or self.points % rows != 0
        if with_tail:
            em.line(f"p_in = p < {em.number(self.points)}")
            self._limit(self.points)
        em.tiles["p"] = Tile("p", 0, rows, "p_in" if with_tail else None)
        axis = Axis("p", self.points)
        em.bind(axis, Value("p", em.index_type, _P, 0))
        self.mapping = spread(axis, self.kernel.axes)

    def _limit(self, n: int) -> None:
        if type(n) is Dim and not self.em.fits(n) and self.em.narrow:
            raise InternalError(f"{self.kernel.name}: {int(n)} points need narrow=False")

    def _columns(self, n: int) -> Axis:
        """The tile dimension that holds all ``n`` elements of a row; made once."""
        em, name = self.em, f"r{n}"
        axis = Axis(name, n)
        if name not in em.tiles:
            width = power(n)
            em.line(f"{name} = tl.arange(0, {width})[None, :]" + ("" if em.narrow else ".to(tl.int64)"), 0)
            masked = width != n
            if masked:
                em.line(f"{name}_in = {name} < {n}", 0)
            em.tiles[name] = Tile(name, 1, width, f"{name}_in" if masked else None)
            em.bind(axis, Value(name, em.index_type, frozenset([name]), 0))
        return axis

    def _fits_tile(self, n: int) -> bool:
        return type(n) is not Dim and 0 < n <= self.schedule.columns

    def _open_columns(self, n: int) -> tuple[Axis, str]:
        """A loop over blocks of ``columns`` elements; the axis inside it and the tile dimension's name."""
        em, width = self.em, self.schedule.columns
        name = em.fresh("c")
        self._limit(n)
        level = em.open(f"for {name}_first in range(0, {em.number(n)}, {width}):")
        em.line(f"{name} = {name}_first + tl.arange(0, {width})[None, :]" + ("" if em.narrow else ".to(tl.int64)"))
        masked = type(n) is Dim or n % width != 0
        if masked:
            em.line(f"{name}_in = {name} < {em.number(n)}")
        em.tiles[name] = Tile(name, 1, width, f"{name}_in" if masked else None)
        axis = Axis(name, n)
        em.bind(axis, Value(name, em.index_type, frozenset([name]), level))
        return axis, name

    def _open_serial(self, axes: Sequence[Axis]) -> dict[Axis, Expr]:
        """Loops over the points of ``axes`` in order, one element at a time."""
        em, mapping = self.em, {}
        for a in axes:
            if type(a.extent) is not Dim and a.extent == 1:
                mapping[a] = index(0)
                continue
            name = em.fresh("i")
            inner = Axis(name, a.extent)
            self._limit(a.extent)
            level = em.open(f"for {name}_ in range({em.number(a.extent)}):")
            em.line(f"{name} = tl.cast({name}_, tl.{em.index_type})")
            em.bind(inner, Value(name, em.index_type, frozenset(), level))
            mapping[a] = inner
        return mapping

    # stores

    def _compute_before_writing(self, i: int) -> None:
        """Values of store i and of those right after it: one may be written where the next one's operand lies."""
        for st in self.kernel.stages[i:]:
            if not isinstance(st, Store) or st.combine is not None or st.axes:
                return
            self.em.emit(rebase(st.expr, self.mapping))

    def _store(self, st: Store) -> None:
        em, n = self.em, extent(st.axes)
        if not st.axes or (type(n) is not Dim and n == 1):
            self._write(st, spread(index(0), st.axes), _P)
        elif type(n) is not Dim and n == 0:
            return
        elif self.rank == 1:
            self._serial_store(st)
        elif self._fits_tile(n):
            axis = self._columns(n)
            self._write(st, spread(axis, st.axes), frozenset(["p", axis.name]))
        else:
            axis, name = self._open_columns(n)
            self._write(st, spread(axis, st.axes), frozenset(["p", name]))
            em.close()

    def _serial_store(self, st: Store) -> None:
        depth = len(self.em.levels)
        self._write(st, self._open_serial(st.axes), _P)
        while len(self.em.levels) > depth:
            self.em.close()

    def _write(self, st: Store, own: dict[Axis, Expr], dims: frozenset[str]) -> None:
        em, mapping = self.em, {**self.mapping, **own}
        value = em.emit(rebase(st.expr, mapping))
        where = tuple(rebase(i, mapping) for i in st.index)
        guard = None if st.guard is None else rebase(st.guard, mapping)
        em.store(st.buffer, where, value, guard, dims, len(em.levels) - 1)

    def _scatter(self, st: Store) -> None:
        """In order, with a barrier between the write of one element and the read of the next: another thread may hold it."""
        em = self.em
        if any(type(a.extent) is not Dim and a.extent == 0 for a in (*st.axes, *st.over)):
            return
        assert st.combine is not None
        depth = len(em.levels)
        mapping = {**self.mapping, **self._open_serial((*st.axes, *st.over))}
        level = len(em.levels) - 1
        value = em.emit(rebase(st.expr, mapping))
        where = tuple(rebase(i, mapping) for i in st.index)
        guard = None if st.guard is None else rebase(st.guard, mapping)
        for e in (*where, *(() if guard is None else (guard,))):
            em.emit(e)
        em.line("tl.debug_barrier()")
        type_ = compute_type(st.buffer.dtype)
        old_ref, new_ref = (Ref(em.fresh(f"${side}"), (), st.buffer.dtype) for side in "on")
        old = Load(st.buffer, where) if guard is None else Load(st.buffer, where, guard, Const(0, st.buffer.dtype))
        text, dims, _ = em.offset(st.buffer, em._plan(where, st.buffer, where), [] if guard is None else [em.emit(guard)], _P)
        masks = em.masks(dims) + ([] if guard is None else [em.atom(em.emit(guard)).text])
        masked = f", mask={' & '.join(masks)}" if masks else ""
        pointer = em.fresh("at")
        em.line(f"{pointer} = {identifier(old.buffer.name)} + {text}")
        name = em.fresh("old")
        convert = " != 0" if type_ == "int1" else "" if type_ == STORAGE[st.buffer.dtype] else f".to(tl.{type_})"
        em.line(f"{name} = tl.load({pointer}{masked}){convert}")
        em.bind(old_ref, Value(name, type_, dims, level))
        em.bind(new_ref, em.as_type(em.atom(value), type_), level)
        joined = em.emit(st.combine.combine((old_ref,), (new_ref,))[0])
        em.line(f"tl.store({pointer}, {em.stored(st.buffer, joined)}{masked})")
        while len(em.levels) > depth:
            em.close()
        em.line("tl.debug_barrier()")

    # reductions

    def ref(self, e: Ref) -> Value:
        """The value of an earlier stage at an index: computed at its first use, at the place where the index is known."""
        st = self.stages[e.stage]
        found = self._reduce(st, e.children)
        for i, (v, dt) in enumerate(zip(found, (st.acc,) if isinstance(st, Contract) else st.dtypes)):
            self.em.bind(Ref(e.stage, e.children, dt, i), v)
        return found[e.item]

    def _reduce(self, st: Reduce | Contract, at: tuple[Expr, ...]) -> tuple[Value, ...]:
        em = self.em
        mapping = {**self.mapping, **dict(zip(st.axes, at))}
        where = [em.emit(x) for x in at]
        dims = frozenset().union(*[v.dims for v in where])
        level = max([v.level for v in where], default=0)
        monoid: Monoid = Dot(st.acc) if isinstance(st, Contract) else st.monoid
        exprs = (st.a, st.b) if isinstance(st, Contract) else st.exprs
        n = extent(st.over)
        inner = em.suspend(level)
        serial = self.rank == 1 or bool(dims - _P) or serial_limit(st.over)
        if serial:
            states = self._serial(st, monoid, exprs, mapping, _P | dims, level)
        elif self._fits_tile(n):
            states = self._tile(st, monoid, exprs, mapping, level)
        else:
            states = self._blocks(st, monoid, exprs, mapping, n, level)
        em.resume(inner)
        return states

    def _lifted(self, monoid: Monoid, exprs: Sequence[Expr], mapping: dict[Axis, Expr]) -> list[Value]:
        types = self._types(monoid, tuple(exprs))
        widened = [Cast(e, dt) if e.dtype is not dt and not isinstance(monoid, Dot) and e.dtype.is_float else e
                   for e, dt in zip(exprs, monoid.state_dtypes(tuple(exprs)))] if not isinstance(monoid, Dot) else list(exprs)
        return [self.em.as_type(self.em.emit(rebase(x, mapping)), t) for x, t in zip(monoid.lift(tuple(widened)), types)]

    @staticmethod
    def _types(monoid: Monoid, exprs: tuple[Expr, ...]) -> list[str]:
        return [compute_type(dt) for dt in monoid.state_dtypes(exprs)]

    def _init(self, monoid: Monoid, exprs: tuple[Expr, ...]) -> list[str]:
        out = []
        for c, t in zip(monoid.init(exprs), self._types(monoid, exprs)):
            out.append(self.em.const(c).text if t != "int1" else str(bool(c.value)))
        return out

    def _join(self, monoid: Monoid, exprs: tuple[Expr, ...], accs: list[str], new: list[Value], dims: frozenset[str]) -> None:
        """``acc = combine(acc, new)`` in the innermost block."""
        em, level = self.em, len(self.em.levels) - 1
        dtypes = monoid.state_dtypes(exprs)
        unique = em.fresh("$")
        a = tuple(Ref(f"{unique}a", (), dt, i) for i, dt in enumerate(dtypes))
        b = tuple(Ref(f"{unique}b", (), dt, i) for i, dt in enumerate(dtypes))
        for x, name, dt in zip(a, accs, dtypes):
            em.bind(x, Value(name, compute_type(dt), dims, level))
        for x, v in zip(b, new):
            em.bind(x, em.atom(v), level)
        joined = [em.emit(x) for x in monoid.combine(a, b)]
        names = [em.fresh("next") for _ in joined]
        if len(joined) == 1:
            em.line(f"{accs[0]} = {joined[0].text}")
            return
        for name, v in zip(names, joined):
            em.line(f"{name} = {v.text}")
        for acc, name in zip(accs, names):
            em.line(f"{acc} = {name}")

    def _accumulators(self, monoid: Monoid, exprs: tuple[Expr, ...], shape: str) -> list[str]:
        out = []
        for text, t in zip(self._init(monoid, exprs), self._types(monoid, exprs)):
            name = self.em.fresh("acc")
            self.em.line(f"{name} = tl.full({shape}, {text}, tl.{t})")
            out.append(name)
        return out

    def _serial(self, st, monoid: Monoid, exprs, mapping, dims: frozenset[str], level: int) -> tuple[Value, ...]:
        em = self.em
        accs = self._accumulators(monoid, exprs, em.shape(dims))
        if not any(type(a.extent) is not Dim and a.extent == 0 for a in st.over):
            depth = len(em.levels)
            inner = self._open_serial(st.over)
            self._join(monoid, exprs, accs, self._lifted(monoid, exprs, {**mapping, **inner}), dims)
            while len(em.levels) > depth:
                em.close()
        return tuple(Value(a, t, dims, level) for a, t in zip(accs, self._types(monoid, exprs)))

    def _neutral(self, monoid: Monoid, exprs, new: list[Value], dims: frozenset[str], mask: str | None) -> list[Value]:
        """``new`` over the whole tile; the neutral element where no element is."""
        em, level, out = self.em, len(self.em.levels) - 1, []
        for v, init, t in zip(new, self._init(monoid, exprs), self._types(monoid, exprs)):
            text = em.full(v, dims)
            if mask is not None:
                text = f"tl.where({mask}, {text}, {typed(init, t)})"
            out.append(Value(text if text == v.text else em.assign(text, level), t, dims, level))
        return out

    def _tile(self, st, monoid: Monoid, exprs, mapping, level: int) -> tuple[Value, ...]:
        em, axis = self.em, self._columns(extent(st.over))
        dims = frozenset(["p", axis.name])
        new = self._lifted(monoid, exprs, {**mapping, **spread(axis, st.over)})
        new = self._neutral(monoid, exprs, new, dims, em.tiles[axis.name].mask)
        return self._collapse(monoid, exprs, [v.text for v in new], level)

    def _blocks(self, st, monoid: Monoid, exprs, mapping, n: int, level: int) -> tuple[Value, ...]:
        em = self.em
        shape = f"[{self.schedule.rows}, {self.schedule.columns}]"
        accs = self._accumulators(monoid, exprs, shape)
        if type(n) is Dim or n > 0:
            axis, name = self._open_columns(n)
            dims = frozenset(["p", name])
            new = self._lifted(monoid, exprs, {**mapping, **spread(axis, st.over)})
            new = self._neutral(monoid, exprs, new, dims, em.tiles[name].mask)
            self._join(monoid, exprs, accs, new, dims)
            em.close()
        return self._collapse(monoid, exprs, accs, level)

    def _collapse(self, monoid: Monoid, exprs, texts: list[str], level: int) -> tuple[Value, ...]:
        """Joins the states along the tile's columns."""
        em, types = self.em, self._types(monoid, exprs)
        fn = self._function(monoid, exprs)
        names = [em.fresh("s") for _ in types]
        operand = texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
        em.line(f"{', '.join(names)} = tl.reduce({operand}, 1, {fn}, keep_dims=True)" if len(names) == 1 else
                f"{names[0]}_all = tl.reduce({operand}, 1, {fn}, keep_dims=True)")
        if len(names) > 1:
            for i, name in enumerate(names):
                em.line(f"{name} = {names[0]}_all[{i}]")
        return tuple(Value(name, t, _P, level) for name, t in zip(names, types))

    def _function(self, monoid: Monoid, exprs: tuple[Expr, ...]) -> str:
        """The monoid's combine as a function of the text, for ``tl.reduce``."""
        functions: dict[str, str] = self.em.functions
        dtypes = monoid.state_dtypes(exprs)
        name = f"join_{monoid.name}_{'_'.join(dt.name for dt in dtypes)}"
        if name not in functions:
            sub = Emitter(1, False, self.ref)
            sub.scalars = self.em.scalars
            a = tuple(Ref("$a", (), dt, i) for i, dt in enumerate(dtypes))
            b = tuple(Ref("$b", (), dt, i) for i, dt in enumerate(dtypes))
            for side, refs in (("a", a), ("b", b)):
                for i, (x, dt) in enumerate(zip(refs, dtypes)):
                    sub.bind(x, Value(f"{side}{i}", compute_type(dt)))
            joined = [sub.emit(x).text for x in monoid.combine(a, b)]
            body = "".join(f"    {line}\n" for line in sub.levels[0].lines)
            args = ", ".join([f"{side}{i}" for side in "ab" for i in range(len(dtypes))])
            functions[name] = f"@triton.jit\ndef {name}({args}):\n{body}    return {', '.join(joined)}\n\n\n"
        return name
