"""The contraction form: ``tl.dot`` over tiles, operands and epilogue being any expressions at tile coordinates.

Grid axes that only one operand reads are the rows or the columns of the output tile, axes of both are the batch; the summed axes are flattened, or (where
the last of them fills blocks of ``depth``) looped over with the last one innermost. So GEMM, batched GEMM, convolution and both its gradients
are one form: their addresses differ, and their padding is the masks of the loads.
"""

from __future__ import annotations

from ....runtime import dtype as d
from ....runtime.dim import Dim, ceil_div, unguarded
from ....runtime.errors import InternalError
from ...kernel.expr import Axis, Const, Expr, Load, Ref
from ...kernel.ir import Contract, Kernel
from ...schedule.triton import DotForm, TritonSchedule, extent, strip
from .emitter import Emitter, rebase
from .generic import spread
from .scalars import STORAGE, compute_type
from .tiles import Tile, Value

_PRECISION = {"highest": "ieee", "high": "tf32x3", "tf32": "tf32", "bfloat16": "ieee"}


def emit_dot(kernel: Kernel, form: DotForm, schedule: TritonSchedule, narrow: bool) -> tuple[Emitter, int]:
    """The emitter, its text complete, and the number of programs."""
    return _Dot(kernel, form, schedule, narrow).run()


class _Dot:
    def __init__(self, kernel: Kernel, form: DotForm, schedule: TritonSchedule, narrow: bool):
        self.kernel, self.form, self.schedule = kernel, form, schedule
        self.em = Emitter(2, narrow, self._ref)
        self.mapping: dict[Axis, Expr] = {}

    def run(self) -> tuple[Emitter, int]:
        grid = self._coordinates()
        for c, swapped in zip(self.form.contracts, self.form.swapped):
            self._contract(c, swapped)
        em = self.em
        for st in self.kernel.stores:
            value = em.emit(rebase(st.expr, self.mapping))
            where = tuple(rebase(i, self.mapping) for i in st.index)
            guard = None if st.guard is None else rebase(st.guard, self.mapping)
            em.store(st.buffer, where, value, guard, frozenset(["m", "n"]), 0)
        return em, grid

    def _ref(self, e: Ref) -> Value:
        raise InternalError(f"{self.kernel.name}: {e!r} is not a contraction of this kernel")

    def _axis(self, name: str, n: int, tile: Tile | None) -> Axis:
        axis, em = Axis(name, n), self.em
        em.bind(axis, Value(name, em.index_type, frozenset([name]) if tile else frozenset(), len(em.levels) - 1))
        if tile is not None:
            em.tiles[name] = tile
        return axis

    def _span(self, name: str, first: str, n: int, width: int, position: int) -> Axis:
        """A tile dimension of ``width`` elements from ``first`` on, masked where ``n`` does not fill it."""
        em = self.em
        where = "[:, None]" if position == 0 else "[None, :]"
        em.line(f"{name} = {first} + tl.arange(0, {width}){where}" + ("" if em.narrow else ".to(tl.int64)"))
        masked = type(n) is Dim or n % width != 0
        if masked:
            if em.narrow and not em.fits(n):
                raise InternalError(f"{self.kernel.name}: {int(n)} needs narrow=False")
            em.line(f"{name}_in = {name} < {em.number(n)}")
        return self._axis(name, n, Tile(name, position, width, f"{name}_in" if masked else None))

    def _coordinates(self) -> int:
        """Programs in groups of row tiles that share column tiles, so that both operands stay in L2."""
        em, sch, form = self.em, self.schedule, self.form
        m, n, z = extent(form.rows), extent(form.columns), extent(form.batch)
        tiles_m, tiles_n = ceil_div(m, sch.rows), ceil_div(n, sch.columns)
        for size in (m, n, z, tiles_m, tiles_n, tiles_m * tiles_n):
            if type(size) is Dim and em.narrow and not em.fits(size):
                raise InternalError(f"{self.kernel.name}: {int(size)} needs narrow=False")
        em.line("pid = tl.program_id(0)" + ("" if em.narrow else ".to(tl.int64)"))
        if type(z) is Dim or z != 1:
            em.line(f"z = pid // {em.number(tiles_m * tiles_n)}")
            em.line(f"pid = pid % {em.number(tiles_m * tiles_n)}")
            self.mapping.update(spread(self._axis("z", z, None), form.batch))
        else:
            self.mapping.update({a: Const(0, d.int64) for a in form.batch})
        with unguarded():
            grouped = type(tiles_m) is Dim or type(tiles_n) is Dim or (tiles_m > 1 and tiles_n > 1)
        if grouped:
            em.line(f"group = pid // {em.number(sch.group * tiles_n)}")
            em.line(f"group_rows = tl.minimum({em.number(tiles_m)} - group * {sch.group}, {sch.group})")
            em.line(f"tile_m = group * {sch.group} + (pid % {em.number(sch.group * tiles_n)}) % group_rows")
            em.line(f"tile_n = (pid % {em.number(sch.group * tiles_n)}) // group_rows")
        else:
            em.line("tile_m = pid" if tiles_n == 1 else "tile_m = pid * 0")
            em.line("tile_n = pid * 0" if tiles_n == 1 else "tile_n = pid")
        rows = self._span("m", f"tile_m * {sch.rows}", m, sch.rows, 0)
        columns = self._span("n", f"tile_n * {sch.columns}", n, sch.columns, 1)
        self.mapping.update(spread(rows, form.rows))
        self.mapping.update(spread(columns, form.columns))
        return z * tiles_m * tiles_n

    def _contract(self, c: Contract, swapped: bool) -> None:
        em, sch = self.em, self.schedule
        a, b = (c.b, c.a) if swapped else (c.a, c.b)
        type_ = self._operand_type(a, b, c)
        if type_ not in ("float32", "float64"):
            a, b = strip(a), strip(b)
        acc = em.fresh("acc")
        acc_type = compute_type(c.acc)
        em.line(f"{acc} = tl.zeros([{sch.rows}, {sch.columns}], tl.{acc_type})")
        outer, inner = c.over[:-1], c.over[-1:]
        if not self._blocked(c):
            outer, inner = (), c.over
        depth = extent(inner)
        blocks = ceil_div(depth, sch.depth)
        trips = extent(outer) * blocks
        for size in (depth, trips):
            if type(size) is Dim and em.narrow and not em.fits(size):
                raise InternalError(f"{self.kernel.name}: {int(size)} needs narrow=False")
        step = em.fresh("step")
        em.open(f"for {step}_ in range({em.number(trips)}):")
        em.line(f"{step} = tl.cast({step}_, tl.{em.index_type})")
        mapping = dict(self.mapping)
        if outer and (type(trips) is Dim or extent(outer) != 1):
            name = em.fresh("o")
            em.line(f"{name} = {step} // {em.number(blocks)}")
            mapping.update(spread(self._axis(name, extent(outer), None), outer))
            first = f"({step} % {em.number(blocks)}) * {sch.depth}"
        else:
            mapping.update(spread(Const(0, d.int64), outer))
            first = f"{step} * {sch.depth}"
        ka = self._span(em.fresh("ka"), first, depth, sch.depth, 1)
        kb = self._span(em.fresh("kb"), first, depth, sch.depth, 0)
        left = self._operand(a, {**mapping, **spread(ka, inner)}, type_, frozenset(["m", ka.name]), em.tiles[ka.name].mask)
        right = self._operand(b, {**mapping, **spread(kb, inner)}, type_, frozenset([kb.name, "n"]), em.tiles[kb.name].mask)
        precision = f', input_precision="{_PRECISION[c.precision]}"' if type_ == "float32" else ""
        em.line(f"{acc} = tl.dot({left}, {right}, {acc}{precision}, out_dtype=tl.{acc_type})")
        em.close()
        em.bind(Ref(c.name, (), c.acc), Value(acc, acc_type, frozenset(["m", "n"]), 0))

    def _blocked(self, c: Contract) -> bool:
        """Whether blocks of the last summed axis waste little, so that the others can be scalar loops."""
        n, depth = c.over[-1].extent, self.schedule.depth
        if len(c.over) == 1:
            return True
        return type(n) is Dim or n % depth == 0 or n >= 4 * depth

    @staticmethod
    def _operand_type(a: Expr, b: Expr, c: Contract) -> str:
        a, b = strip(a), strip(b)
        if c.acc is d.float64:
            return "float64"
        if a.dtype is b.dtype and a.dtype.itemsize == 2:
            return STORAGE[a.dtype]
        return "bfloat16" if c.precision == "bfloat16" else "float32"

    def _operand(self, e: Expr, mapping: dict[Axis, Expr], type_: str, dims: frozenset[str], mask: str | None) -> str:
        """``e`` over the whole operand tile, in ``type_``, 0 beyond the summed axis' end."""
        em, e = self.em, rebase(e, mapping)
        if isinstance(e, Load) and (e.other is None or (isinstance(e.other, Const) and e.other.value == 0)):
            v = em.read(e, raw=STORAGE[e.dtype] == type_, zero=[] if mask is None else [mask])
            covered = mask is None or any(mask == em.tiles[t].mask for t in v.dims)
        else:
            v, covered = em.emit(e), mask is None
        v = em.as_type(v, type_)
        text = em.full(v, dims)
        return text if covered else f"tl.where({mask}, {text}, {0.0 if v.lit else f'tl.zeros([1, 1], tl.{type_})'})"
