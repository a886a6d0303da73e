"""Contractions that a GEMM microkernel can compute, and the tile shapes it uses.

A kernel matches when its one Contract reads two buffers at affine, unguarded addresses, and the output's fastest axis belongs to one operand only.
That axis becomes the vector axis n; the axes that only the other operand has are the rows, whatever their number (the pixels of a convolution are rows like
those of a matrix); axes of both are the batch. So GEMM, batched GEMM, convolution (input already padded) and both gradients are one form.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.dim import Dim, ceil_div, size
from ...runtime.dtype import float32, float64
from ..kernel.access import Access, access
from ..kernel.expr import Axis, Load, Op
from ..kernel.ir import Buffer, Contract, Kernel
from ..kernel.scalar_ops import floordiv
from ..target import Target


@dataclass(frozen=True, eq=False)
class ContractForm:
    """What a match found. ``a`` is read by rows, ``b`` by vectors along ``n``.

    ``outer``: axes of both operands, or of b beside n; ``rows``: axes of a alone; ``k``: the reduced axes, slowest first.
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
    if any(x.dtype is not c.acc or x.guard is not None for x in (c.a, c.b)):
        return None
    a, b = c.a, c.b
    access_a, access_b = (access(x.buffer, x.index) for x in (a, b))
    n = kernel.axes[-1]
    if n in access_a.coefficients:
        a, b, access_a, access_b = b, a, access_b, access_a
    if n in access_a.coefficients or n not in access_b.coefficients or not access_a.affine:
        return None
    packed = not access_b.affine
    if packed and not _in_panels(access_b, n):
        return None
    for s in kernel.stores:
        step = access(s.buffer, s.index).step(n)
        if step is None or type(step) is Dim or step != 1:
            return None
    if any(type(x.extent) is not Dim and x.extent == 0 for x in (*kernel.axes, *c.over)):
        return None  # nothing to compute, or sums of nothing
    rows = tuple(x for x in kernel.axes if x in access_a.coefficients and x not in access_b.coefficients)
    outer = tuple(x for x in kernel.axes[:-1] if x not in rows)
    if kernel.axes != (*outer, *rows, n):  # rows between batch axes would change the order of stores, not their values
        outer = tuple(x for x in kernel.axes if x in outer)
    return ContractForm(c, a, b, access_a, access_b, outer, rows, n, c.over, packed)


def _in_panels(b: Access, n: Axis) -> bool:
    """Whether b's address is affine but for the panel's number, n // columns."""
    return len(b.rest) == 1 and all(isinstance(e, Op) and e.fn is floordiv and e.children[0] is n for e in b.rest)


def choose_gemm(form: ContractForm, target: Target) -> GemmSchedule:
    """The analytic schedule: as many columns as N fills, then as many rows as registers allow (facts: cpu_codegen section 2)."""
    lanes = target.vector_bytes // form.contract.acc.itemsize
    n, m = form.n.extent, form.row_count
    if m == 1:  # of a free size too: the guard keeps single rows and several in plans of their own
        vectors = _fitting(n, lanes, 8)
        return GemmSchedule(1, vectors, lanes, 1, 256, True)
    wide = 4 if target.registers >= 32 else 2
    few = m <= 8  # a guard again: one tile of up to eight rows
    if few:
        rows = 8 if type(m) is Dim else m
        vectors = _fitting(n, lanes, max(1, min(wide, (target.registers - 2) // (rows + 1))))
    else:
        vectors = _fitting(n, lanes, wide)
        spare = target.registers - 2 - vectors  # B vectors and one broadcast stay in registers beside the accumulators
        rows = max(2, min(8 if vectors > 1 else 12, spare // vectors))  # one register per row pointer bounds them too
        if type(m) is not Dim:
            rows = ceil_div(m, ceil_div(m, rows))
    weights = form.depth * n * form.contract.acc.itemsize
    panels_outer = type(weights) is Dim or weights > 1 << 18
    return GemmSchedule(rows, vectors, lanes, 8, 256, panels_outer)


def _fitting(n: int, lanes: int, most: int) -> int:
    """Vectors per panel: the count up to ``most`` that wastes fewest lanes, the largest such."""
    if type(n) is Dim:
        return most
    best = min(range(1, most + 1), key=lambda v: (ceil_div(n, v * lanes) * v, -v))
    return best


def panels(form: ContractForm, schedule: GemmSchedule) -> int:
    return ceil_div(form.n.extent, schedule.columns)


def natural(form: ContractForm, schedule: GemmSchedule) -> bool:
    """Whether b can be read where it lies: unit stride along n, and either few rows use it or it stays in the second-level cache."""
    step = form.b_access.step(form.n)
    if step is None or type(step) is Dim or step != 1:
        return False
    n, m = form.n.extent, form.row_count
    if type(n) is not Dim and n == schedule.columns and _contiguous_k(form, schedule.columns):
        return True  # one panel: natural order is packed order
    if type(m) is not Dim and m <= 2 * schedule.rows:
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


def packed_buffer(form: ContractForm, schedule: GemmSchedule, name: str) -> Buffer:
    """The one-dimensional buffer that the panels of b fill."""
    outer = size([x.extent for x in form.outer if x in form.b_access.coefficients])
    return Buffer(name, (outer * panels(form, schedule) * form.depth * schedule.columns,), form.b.dtype)
