"""Contractions that a GEMM microkernel can compute, and the tile shapes it uses.

A kernel matches when its one Contract reads two buffers at affine addresses, and the output's fastest axis belongs to one operand only.
That axis becomes the vector axis n; the axes that only the other operand has are the rows, whatever their number (the pixels of a convolution are rows like
those of a matrix); axes of both are the batch. So GEMM, batched GEMM, convolution and both gradients are one form. Where both operands lie along n
(``lanewise``) every lane has a sum of its own: depthwise convolution and its gradients.

The rows' operand may have a border: its load is guarded by bounds on what reduced axes read (taps of a window inside the image). Then a tile is a
segment of the innermost row axis, for which bounds are the same, or known when compiling. Addresses may hold quotients of batch axes (the phases that
``kernel.split`` makes).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...runtime.dim import Dim, ceil_div, size
from ...runtime.dtype import bfloat16, float16, float32, float64, int64
from ...runtime.errors import InternalError
from ..kernel.access import Access, access
from ..kernel.expr import Axis, Const, Expr, Load, Op, axes_of, post_order
from ..kernel.ir import Buffer, Contract, Kernel
from ..kernel.scalar_ops import add, and_, floordiv, ge, lt, mod, mul
from ..kernel.simplify import from_linear, linear, sub
from ..target import Target

PHASES = 4  # of a strided gradient along one axis, for which tiles may be written out
TAPS = 16  # rounds of a reduced axis that may be written out


@dataclass(frozen=True, eq=False)
class Bound:
    """One condition of a guard: ``step`` * k + ``rest`` >= 0, for a reduced axis ``k`` and an index ``rest`` over the grid."""

    k: Axis
    step: int
    rest: Expr

    @property
    def axes(self) -> set[Axis]:
        return axes_of(self.rest)

    def holds(self, k: int, at: Mapping[Axis, int]) -> bool:
        """For a round of ``k``, where the grid's axes have these values."""
        return self.step * k + value_at(self.rest, at) >= 0


def value_at(e: Expr, at: Mapping[Axis, int]) -> int:
    """An index expression at a point of the axes that it depends on."""
    if isinstance(e, Const):
        return e.value
    if isinstance(e, Axis):
        return at[e]
    if not isinstance(e, Op) or e.fn not in _ARITHMETIC:
        raise InternalError(f"{e} is not an index of axes alone")
    return _ARITHMETIC[e.fn](*[value_at(x, at) for x in e.children])


_ARITHMETIC = {add: operator.add, mul: operator.mul, floordiv: operator.floordiv, mod: operator.mod}


@dataclass(frozen=True, eq=False)
class ContractForm:
    """What a match found. ``a`` is read by rows, ``b`` by vectors along ``n``.

    ``outer``: axes of both operands, or of b beside n; ``rows``: axes of a alone; ``k``: the reduced axes, slowest first.
    16-bit floats are summed in float32: b's are converted as they are loaded, a's must be widened before (``program.storage``).
    ``packed``: b is stored as panels [outer][ceil(N / columns)][K][columns], zeros beyond N.
    """

    contract: Contract
    a: Load
    b: Load
    a_access: Access
    b_access: Access
    outer: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    n: Axis
    k: tuple[Axis, ...]
    packed: bool = False
    bounds: tuple[Bound, ...] = ()
    lanewise: bool = False

    @property
    def row_count(self) -> int:
        return size([a.extent for a in self.rows])

    @property
    def depth(self) -> int:
        """Terms of each sum."""
        return size([a.extent for a in self.k])


@dataclass(frozen=True)
class GemmSchedule:
    """``rows`` x ``vectors`` registers of ``lanes`` make the tile; ``block`` rows of tiles are one work unit; ``chain`` terms are summed in a register
    before they are folded into a tile in memory (design section 8); ``panels_outer`` orders the units."""

    rows: int
    vectors: int
    lanes: int
    block: int
    chain: int
    panels_outer: bool

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes


def match_contraction(kernel: Kernel) -> ContractForm | None:
    """The form of ``kernel``, or None where only the general emitter can compute it."""
    contracts = [s for s in kernel.stages if isinstance(s, Contract)]
    if len(contracts) != 1 or len(kernel.stages) != 1 + len(kernel.stores):
        return None
    c = contracts[0]
    if c.axes or any(s.axes or s.over or s.combine or s.guard is not None for s in kernel.stores) or not kernel.axes:
        return None
    if c.acc not in (float32, float64) or not isinstance(c.a, Load) or not isinstance(c.b, Load):
        return None
    if any(x.dtype is not c.acc and not (c.acc is float32 and x.dtype in (bfloat16, float16)) for x in (c.a, c.b)):
        return None
    a, b = c.a, c.b
    access_a, access_b = (access(x.buffer, x.index) for x in (a, b))
    n = kernel.axes[-1]
    lanewise = n in access_a.coefficients and n in access_b.coefficients
    if _swapped(lanewise, kernel.axes, a, access_a, access_b):
        a, b, access_a, access_b = b, a, access_b, access_a
    if n not in access_b.coefficients:
        return None
    packed = _in_panels(access_b, n)
    quotients = [x for t in (*access_a.rest, *(() if packed else access_b.rest)) for x in axes_of(t)]
    for s in kernel.stores:
        step = access(s.buffer, s.index).step(n)
        if step is None or type(step) is Dim or step != 1:
            return None
    if any(type(x.extent) is not Dim and x.extent == 0 for x in (*kernel.axes, *c.over)):
        return None  # nothing to compute, or sums of nothing
    rows = tuple(x for x in kernel.axes[:-1] if x in access_a.coefficients and x not in access_b.coefficients and x not in quotients)
    outer = tuple(x for x in kernel.axes[:-1] if x not in rows)
    if any(x not in outer for x in quotients) or not all(_indices(t) for t in access_a.rest) or not (packed or all(_indices(t) for t in access_b.rest)):
        return None
    form = ContractForm(c, a, b, access_a, access_b, outer, rows, n, c.over, packed, lanewise=lanewise)
    if lanewise and (not rows or not c.over or packed or not all(_is_one(x.coefficients[n]) for x in (access_a, access_b))):
        return None
    conditions = guard_conditions(a.guard)
    if any(x not in conditions for x in guard_conditions(b.guard)):  # where a's conditions fail, b isn't read either
        return None
    bounds = () if a.guard is None else _bounds(a, c.over)
    if bounds is None or ((bounds or lanewise) and not _segments(form, bounds)):
        return None
    return replace(form, bounds=bounds)


def guard_conditions(e: Expr | None) -> list[Expr]:
    """The conditions that a guard joins."""
    if e is None:
        return []
    if isinstance(e, Op) and e.fn is and_:
        return [c for x in e.children for c in guard_conditions(x)]
    return [e]


def _indices(e: Expr) -> bool:
    """Whether ``e`` is made of axes alone."""
    return all(isinstance(x, (Axis, Const)) or (isinstance(x, Op) and x.fn in _ARITHMETIC) for x in post_order([e]))


def _is_one(n: int) -> bool:
    return type(n) is not Dim and n == 1


def _swapped(lanewise: bool, axes: tuple[Axis, ...], a: Load, access_a: Access, access_b: Access) -> bool:
    """Whether the operand that is read by rows is the second: the one without n, or else the one with more of the grid's axes."""
    if not lanewise:
        return axes[-1] in access_a.coefficients
    return len([x for x in axes if x in access_b.coefficients]) > len([x for x in axes if x in access_a.coefficients])


def _bounds(a: Load, over: tuple[Axis, ...]) -> tuple[Bound, ...] | None:
    """The guard as bounds on reduced axes, one each; None where it is something else, or where others than zeros lie outside."""
    if not isinstance(a.other, Const) or type(a.other.value) is Dim or a.other.value != 0 or a.guard is None:
        return None
    out = []
    for e in guard_conditions(a.guard):
        if not isinstance(e, Op) or e.fn not in (lt, ge):
            return None
        left, right = e.children
        if left.dtype is not int64:  # a comparison of values that were cast: no index arithmetic
            return None
        terms, constant = linear(sub(left, right) if e.fn is ge else sub(right, left))
        ks = [x for x in terms if isinstance(x, Axis) and x in over]
        step = terms.pop(ks[0]) if len(ks) == 1 else 0
        rest = from_linear(terms, constant - (0 if e.fn is ge else 1))
        if type(step) is Dim or step == 0 or not _indices(rest) or any(x in over for x in axes_of(rest)):
            return None
        out.append(Bound(ks[0], step, rest))  # type: ignore[arg-type]
    return tuple(out)


def segment_bounds(form: ContractForm) -> tuple[Bound, ...]:
    """The bounds on the reduced axis whose rounds differ within a tile: for which some bound depends on the innermost row axis."""
    ks = {x.k for x in form.bounds if form.rows and form.rows[-1] in x.axes}
    return tuple(x for x in form.bounds if x.k in ks)


def phase_axes(form: ContractForm) -> tuple[Axis, ...]:
    """Batch axes on which the shapes of tiles depend: code is written for each of their values."""
    axes = {x for b in segment_bounds(form) for x in b.axes}
    return tuple(x for x in form.outer if x in axes)


def _segments(form: ContractForm, bounds: tuple[Bound, ...]) -> bool:
    """Whether tiles can be segments of the innermost row axis: constant steps, and bounds that vary within one are all known when compiling."""
    if not form.rows:
        return True
    axis = form.rows[-1]
    if type(axis.extent) is Dim or type(form.a_access.coefficients[axis]) is Dim:
        return False
    form = replace(form, bounds=bounds)
    varying, phases = segment_bounds(form), phase_axes(form)
    if len({x.k for x in varying}) > 1 or any(type(x.extent) is Dim or x.extent > PHASES for x in phases):
        return False
    known = {axis, *phases}
    return all(
        x.axes <= known and type(x.k.extent) is not Dim and x.k.extent <= TAPS and type(value_at(x.rest, dict.fromkeys(known, 0))) is not Dim
        for x in varying)


@dataclass(frozen=True)
class DirectSchedule(GemmSchedule):
    """A contraction with a border. ``rows`` neighbours along the innermost row axis make a tile; ``block`` counts whole runs of that axis."""


def segments(extent: int, rows: int) -> list[tuple[int, int]]:
    """(first, count) of the tiles along an axis: as even as they can be."""
    count = ceil_div(extent, rows)
    edges = [i * extent // count for i in range(count + 1)]
    return [(a, b - a) for a, b in zip(edges, edges[1:])]


def choose_schedule(form: ContractForm, target: Target) -> GemmSchedule:
    """The analytic schedule of any form."""
    if form.lanewise:
        return choose_lanewise(form, target)
    return choose_direct(form, target) if form.bounds else choose_gemm(form, target)


@dataclass(frozen=True)
class LanewiseSchedule(DirectSchedule):
    """Sums of each lane's own: ``rows`` neighbours along the innermost row axis make a tile; ``vectors`` of n, one after the other, are a unit's."""


def unrolled_axis(form: ContractForm) -> Axis | None:
    """The innermost reduced axis, where it is written out: then tiles load what several of its rounds read once."""
    k = form.k[-1]
    varying = {x.k for x in segment_bounds(form)}
    bounded = {x.k for x in form.bounds} - varying
    known = type(k.extent) is not Dim and k.extent <= TAPS and type(form.a_access.coefficients.get(k, 0)) is not Dim
    return k if known and varying <= {k} and k not in bounded else None


def choose_lanewise(form: ContractForm, target: Target) -> LanewiseSchedule:
    """Tiles as wide as registers allow beside the taps' weights and an element; the sums of a tap's neighbours overlap."""
    lanes = target.vector_bytes // form.contract.acc.itemsize
    width, n = form.rows[-1].extent, form.n.extent
    k = unrolled_axis(form)
    most = max(2, min(16, target.registers - 2 - (1 if k is None else k.extent)))
    rows = ceil_div(width, ceil_div(width, most))
    vectors = 8 if type(n) is Dim else min(8, ceil_div(n, lanes))
    return LanewiseSchedule(rows, vectors, lanes, max(1, 56 // width), 256, False)


def choose_direct(form: ContractForm, target: Target) -> DirectSchedule:
    """The tile that covers a run of the innermost row axis, and n, in the fewest cycles: two FMAs and two loads a cycle, latency 4."""
    lanes = vector_lanes(form, target)
    width, n = form.rows[-1].extent if form.rows else 1, form.n.extent
    spare = target.registers - (1 if target.fma and target.registers >= 32 else 2)  # beside the accumulators: a broadcast, and a product without FMA
    best: tuple[float, int, int] | None = None
    for vectors in range(1, 5 if target.registers >= 32 else 3):
        most = (spare - vectors) // vectors
        columns = 1 if type(n) is Dim else ceil_div(n, vectors * lanes)
        for rows in range(1, min(width, most, 16) + 1):
            cycles = columns * sum(tile_cycles(h, vectors) for _, h in segments(width, rows))
            per = cycles / vectors if type(n) is Dim else cycles
            if best is None or per < best[0]:
                best = per, rows, vectors
    assert best is not None
    _, rows, vectors = best
    weights = form.depth * n * form.contract.acc.itemsize
    panels_outer = type(weights) is Dim or weights > 1 << 18
    return DirectSchedule(rows, vectors, lanes, max(1, 56 // width), 256, panels_outer)


def _in_panels(b: Access, n: Axis) -> bool:
    """Whether b's address is affine but for the panel's number, n // columns."""
    return len(b.rest) == 1 and all(isinstance(e, Op) and e.fn is floordiv and e.children[0] is n for e in b.rest)


def choose_gemm(form: ContractForm, target: Target) -> GemmSchedule:
    """The analytic schedule: as many columns as N fills, then as many rows as registers allow (facts: cpu_codegen section 2)."""
    n, m = form.n.extent, form.row_count
    lanes = vector_lanes(form, target)
    if m == 1:  # of a free size too: the guard keeps single rows and several in plans of their own
        vectors = _streaming(n, lanes, target.registers // 2)
        return GemmSchedule(1, vectors, lanes, 1, 256, True)
    wide = 4 if target.registers >= 32 else 2
    if m <= 8:  # a guard again: one tile of up to eight rows
        rows = 8 if type(m) is Dim else m
        vectors = _fitting(n, lanes, max(1, min(wide, (target.registers - 2) // (rows + 1))))
    else:
        rows, vectors = _covering(m, n, lanes, wide, target.registers - 2)
    weights = form.depth * n * form.contract.acc.itemsize
    panels_outer = type(weights) is Dim or weights > 1 << 18
    return GemmSchedule(rows, vectors, lanes, 8, 256, panels_outer)


def vector_lanes(form: ContractForm, target: Target) -> int:
    """A register's, or as many as n fills where that is less than half of it (the channels of a small group)."""
    lanes, n = target.vector_bytes // form.contract.acc.itemsize, form.n.extent
    while type(n) is not Dim and lanes > 4 and lanes // 2 >= n:
        lanes //= 2
    return lanes


def _covering(m: int, n: int, lanes: int, wide: int, spare: int) -> tuple[int, int]:
    """(rows, vectors) of the tile that covers an m by n result in the fewest cycles; b's vectors and a broadcast stay in registers beside the
    accumulators, and one register per row pointer bounds the rows."""
    best: tuple[float, int, int] | None = None
    for vectors in range(wide, 0, -1):
        columns = 1 / vectors if type(n) is Dim else ceil_div(n, vectors * lanes)
        for rows in range(max(2, min(8 if vectors > 1 else 12, spare // vectors - 1)), 1, -1):
            tiles = 1 / rows if type(m) is Dim else ceil_div(m, rows)
            cycles = columns * tiles * tile_cycles(rows, vectors)
            if best is None or cycles < 0.99 * best[0]:
                best = cycles, rows, vectors
    assert best is not None
    return best[1], best[2]


def tile_cycles(rows: int, vectors: int) -> float:
    """Of one term: two FMAs and two loads a cycle, FMAs of latency 4, and what the loop costs."""
    return max(rows * vectors / 2, (rows + vectors) / 2, 4) + 0.5


def _fitting(n: int, lanes: int, most: int) -> int:
    """Vectors per panel: the count up to ``most`` that wastes fewest lanes, the largest such."""
    if type(n) is Dim:
        return most
    best = min(range(1, most + 1), key=lambda v: (ceil_div(n, v * lanes) * v, -v))
    return best


def _streaming(n: int, lanes: int, most: int) -> int:
    """Vectors per panel of a matrix-vector product, which is a stream of weights: long runs of it per term (16 registers read 1.2 times as fast as 8,
    and 1.5 times as fast as 4, on Zen 5), in panels that two threads share evenly."""
    if type(n) is Dim:
        return most
    return min(range(1, most + 1), key=lambda v: ((ceil_div(n, v * lanes) + 1) // 2 * 2 * v if n > v * lanes else v, -v))


def panels(form: ContractForm, schedule: GemmSchedule) -> int:
    return ceil_div(form.n.extent, schedule.columns)


def natural(form: ContractForm, schedule: GemmSchedule, fixed: bool) -> bool:
    """Whether b is read where it lies: unit stride along n, and it stays in the first-level cache, or few rows use it and it is not ``fixed`` (a
    weight, whose packing costs nothing in a call; packed, it is one stream)."""
    if form.lanewise:
        return True
    step = form.b_access.step(form.n)
    if step is None or type(step) is Dim or step != 1 or form.b_access.rest:
        return False
    n, m = form.n.extent, form.row_count
    if type(n) is not Dim and n == schedule.columns and _contiguous_k(form, schedule.columns):
        return True  # one panel: natural order is packed order
    if not fixed and type(m) is not Dim and m <= 2 * schedule.rows:
        return True
    bytes_ = form.depth * n * form.contract.acc.itemsize
    return type(bytes_) is not Dim and bytes_ <= 1 << 15


def _contiguous_k(form: ContractForm, columns: int) -> bool:
    step: int = columns
    for axis in reversed(form.k):
        k = form.b_access.coefficients.get(axis, 0)
        if type(k) is Dim or type(step) is Dim or k != step:
            return False
        step = step * axis.extent
    return True


def b_batch(form: ContractForm) -> tuple[Axis, ...]:
    """The batch axes of b."""
    quotients = {x for t in form.b_access.rest for x in axes_of(t)}
    return tuple(x for x in form.outer if x in form.b_access.coefficients or x in quotients)


def packed_buffer(form: ContractForm, schedule: GemmSchedule, name: str) -> Buffer:
    """The one-dimensional buffer that the panels of b fill."""
    outer = size([x.extent for x in b_batch(form)])
    return Buffer(name, (outer * panels(form, schedule) * form.depth * schedule.columns,), form.b.dtype)
