"""Schedules of Triton kernels: tile sizes, warps and pipeline stages, chosen from extents and access patterns alone.

A free size counts as 64 in these choices, so that a new batch size never changes a schedule (nor compiles a kernel).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ...runtime.dim import Dim, evaluate, size
from ...runtime.dtype import bfloat16, float16, float32, float64
from ..kernel.access import load_access
from ..kernel.expr import Axis, Cast, Expr, Ref, axes_of, loads_of, post_order, substitute
from ..kernel.ir import Contract, Kernel, Reduce, Stage, Store, stage_exprs, with_exprs
from ..kernel.simplify import again

_SMS = 132  # of an H100; the choice is the same for every GPU, so that results are too


@dataclass(frozen=True)
class TritonSchedule:
    """``form`` "generic": ``rows`` grid points by ``columns`` elements of the reduced or stored axes (1: such loops run one element at a time).
    ``form`` "dot": a ``rows`` x ``columns`` output tile, ``depth`` terms at a time; ``group`` row tiles share a column tile in L2."""

    form: str
    rows: int
    columns: int = 1
    depth: int = 1
    group: int = 8
    num_warps: int = 4
    num_stages: int = 3


@dataclass(frozen=True, eq=False)
class DotForm:
    """A kernel that ``tl.dot`` tiles can compute: which grid axes only the first operand has (``rows``), only the second (``columns``), both (``batch``)."""

    contracts: tuple[Contract, ...]
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    swapped: tuple[bool, ...]


def nominal(n: int) -> int:
    """A plain number for estimates."""
    return int(evaluate(n.expr, defaultdict(lambda: 64))) if type(n) is Dim else int(n)


def power(n: int) -> int:
    """The least power of two >= n."""
    return 1 << max(0, n - 1).bit_length()


def extent(axes: Iterable[Axis]) -> int:
    return size([a.extent for a in axes])


def inline_stages(kernel: Kernel) -> Kernel:
    """``Stage``s substituted into their readers: every element is computed where it is used."""
    bodies: dict[str, Stage] = {}

    def fix(root: Expr) -> Expr:
        memo: dict[int, Expr] = {}
        for e in post_order([root]):
            children = tuple([memo[id(c)] for c in e.children])
            new = e if all(a is b for a, b in zip(children, e.children)) else again(e, children)
            if isinstance(e, Ref) and e.stage in bodies:
                body = bodies[e.stage]
                new = _at(body.expr, dict(zip(body.axes, children)))
            memo[id(e)] = new
        return memo[id(root)]

    stages: list = []
    for st in kernel.stages:
        st = with_exprs(st, [fix(e) for e in stage_exprs(st)])
        if isinstance(st, Stage):
            bodies[st.name] = st
        else:
            stages.append(st)
    return replace(kernel, stages=tuple(stages)) if bodies else kernel


def _at(e: Expr, mapping: dict) -> Expr:
    return substitute([e], mapping)[0]


def strip(e: Expr) -> Expr:
    """Under a widening cast of a 16-bit float, whose products are exact in float32 anyway."""
    return e.children[0] if isinstance(e, Cast) and e.dtype is float32 and e.children[0].dtype in (bfloat16, float16) else e


def match_dot(kernel: Kernel) -> DotForm | None:
    """The form of ``kernel`` (without Stages), or None where the generic form must compute it."""
    contracts = tuple(s for s in kernel.stages if isinstance(s, Contract))
    if not contracts or any(isinstance(s, Reduce) for s in kernel.stages):
        return None
    if any(c.axes or c.acc not in (float32, float64) or not c.a.dtype.is_float or not c.b.dtype.is_float for c in contracts):
        return None
    if any(s.axes or s.over or s.combine for s in kernel.stores):
        return None
    if any(isinstance(e, Ref) for c in contracts for e in post_order([c.a, c.b])):
        return None
    first: tuple | None = None
    swapped = []
    for c in contracts:
        used = [axes_of(x) for x in (c.a, c.b)]
        parts = [tuple(x for x in kernel.axes if (x in used[0], x in used[1]) == want) for want in ((True, True), (True, False), (False, True))]
        flip = bool(kernel.axes) and kernel.axes[-1] in parts[1]  # the fastest output axis becomes the columns
        parts = [parts[0], parts[2], parts[1]] if flip else parts
        swapped.append(flip)
        if first is not None and first != tuple(parts):
            return None
        first = tuple(parts)
    assert first is not None
    batch, rows, columns = first
    free = tuple(x for x in kernel.axes if x not in (*batch, *rows, *columns))  # only the epilogue varies with these
    m, n, k = nominal(extent(rows)), nominal(extent(columns)), nominal(extent(contracts[0].over))
    if min(m, n, k) < 8 or m * n * k < 1 << 11:
        return None
    return DotForm(contracts, (*batch, *free), rows, columns, tuple(swapped))


def serial_limit(over: tuple[Axis, ...]) -> bool:
    """Whether a reduction is a window: short enough to be looped over one element at a time."""
    n = extent(over)
    return type(n) is not Dim and n <= 16


def choose(kernel: Kernel) -> TritonSchedule:
    """The schedule of a kernel (``Stage``s inlined or not)."""
    kernel = inline_stages(kernel)
    form = match_dot(kernel)
    return _choose_dot(form) if form is not None else _choose_generic(kernel)


def _choose_dot(form: DotForm) -> TritonSchedule:
    m, n = nominal(extent(form.rows)), nominal(extent(form.columns))
    batch, k = nominal(extent(form.batch)), nominal(extent(form.contracts[0].over))
    narrow = all(strip(c.a).dtype in (bfloat16, float16) and strip(c.b).dtype in (bfloat16, float16) for c in form.contracts)
    double = any(c.acc is float64 for c in form.contracts)
    if narrow:  # (128, 256) spills registers once the epilogue's addresses join 128 accumulators a thread
        tiles = [(128, 128), (64, 256), (128, 64), (64, 128), (64, 64), (32, 64), (64, 32), (32, 32), (16, 64), (64, 16), (16, 32), (16, 16)]
    else:
        tiles = [(128, 64), (64, 128), (64, 64), (32, 64), (64, 32), (32, 32), (16, 64), (64, 16), (16, 32), (16, 16)]
    if double:
        tiles = [t for t in tiles if t[0] * t[1] <= 2048]

    def cost(t: tuple[int, int]) -> float:
        waves = -(-(-(-m // t[0]) * -(-n // t[1]) * batch) // _SMS)
        return waves * (t[0] * t[1] + 48 * (t[0] + t[1]))

    bm, bn = min(tiles, key=cost)
    depth = min(64 if narrow else 32, max(16, power(k)))
    warps = 8 if bm * bn >= 128 * 128 else 4 if bm * bn >= 32 * 32 else 2
    if len(form.contracts) > 1 and bm * bn > 64 * 64:
        warps = 8
    return TritonSchedule("dot", bm, bn, depth, 8, warps, 3 if narrow else 2)


def _choose_generic(kernel: Kernel) -> TritonSchedule:
    points = nominal(extent(kernel.axes))
    rows = [s.over for s in kernel.stages if isinstance(s, (Reduce, Contract)) and not s.axes and not serial_limit(s.over)]
    rows += [s.axes for s in kernel.stages if isinstance(s, Store) and s.axes and s.combine is None]
    if not rows:
        block = min(1024 if points >= _SMS * 2048 else 256, max(32, power(points)))
        return TritonSchedule("generic", block, num_warps=max(1, min(4, block // 64)))
    n = max(nominal(extent(r)) for r in rows)
    if _strided(kernel):
        block = min(64, power(points))
        columns = min(power(n), 2048 // block)
        return TritonSchedule("generic", block, columns, num_warps=max(1, min(8, block * columns // 256)))
    columns = min(power(n), 4096 if n <= 4096 else 2048)
    block = max(1, min(2048 // columns, power(points), power(points // _SMS + 1)))
    return TritonSchedule("generic", block, columns, num_warps=max(1, min(16 if columns >= 4096 else 8, block * columns // 256)))


def _strided(kernel: Kernel) -> bool:
    """Whether neighbouring grid points, not neighbouring reduced elements, are neighbours in memory (column reductions)."""
    if not kernel.axes:
        return False
    last, along, across = kernel.axes[-1], 0, 0
    for st in kernel.stages:
        inner = st.over[-1:] if isinstance(st, (Reduce, Contract)) and not st.axes else st.axes[-1:] if isinstance(st, Store) and not st.combine else ()
        for load in loads_of(stage_exprs(st)) if inner else ():
            a = load_access(load)
            steps = a.step(inner[0]), a.step(last)
            along += type(steps[0]) is int and steps[0] == 1
            across += type(steps[1]) is int and steps[1] == 1
    return across > along
