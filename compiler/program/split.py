"""Large reductions with few results in parts: a kernel that reduces each part of an axis, and one that joins the parts.

A sum over everything, a loss, the statistics of a batch or the gradient of a bias has too few results to be work for all threads. Into how many parts it
goes follows from extents alone, so results don't depend on the number of threads; sizes of free dimensions count as 1 each, so that one plan serves all.
"""

from __future__ import annotations

from dataclasses import replace

from ...runtime.dim import Dim, ceil_div, key, size
from ..kernel import simplify
from ..kernel.access import access
from ..kernel.expr import Axis, Cast, Expr, Load, Ref, Where, index, loads_of, post_order, substitute
from ..kernel.guards import guard_loads
from ..kernel.ir import Buffer, Kernel, Reduce, Store, stage_exprs, with_exprs
from .program import Call, Program, Value

UNITS = 32  # independent results (or vectors of them) that are work enough for any number of threads
PART = 1 << 15  # elements that are worth a part
PARTS = 64  # at most
COLUMNS = 64  # neighbouring results that are computed at once where they lie side by side


def split_reductions(program: Program) -> None:
    """Replaces calls whose kernels are large reductions with few results by two calls each."""
    known: dict[int, tuple[Kernel, Kernel] | None] = {}
    program.setup = _replaced(program.setup, known, "prepared")
    program.calls = _replaced(program.calls, known, "arena")


def _replaced(steps: list, known: dict[int, tuple[Kernel, Kernel] | None], kind: str) -> list:
    out = []
    for call in steps:
        if not isinstance(call, Call) or not isinstance(call.kernel, Kernel):
            out.append(call)
            continue
        if id(call.kernel) not in known:
            known[id(call.kernel)] = split(call.kernel)
        found = known[id(call.kernel)]
        if found is None:
            out.append(call)
            continue
        first, second = found
        values = {b.name: v for b, v in zip(call.kernel.buffers, call.values)}
        values |= {b.name: Value(b.shape, b.dtype, kind) for b in first.writes}
        out.append(replace(call, kernel=first, values=tuple([values[b.name] for b in first.buffers])))
        out.append(replace(call, kernel=second, values=tuple([values[b.name] for b in second.buffers]), flops=0))
    return out


def split(kernel: Kernel) -> tuple[Kernel, Kernel] | None:
    """(the kernel of the parts, the kernel that joins them), or None where one kernel is as good."""
    reduces = [s for s in kernel.stages if isinstance(s, Reduce)]
    others = [s for s in kernel.stages if not isinstance(s, Reduce)]
    if not reduces or not all(isinstance(s, Store) and not s.axes and not s.over and s.combine is None for s in others):
        return None
    over = reduces[0].over
    for r in reduces:
        plain = len(r.exprs) == r.monoid.width and all(a is b for a, b in zip(r.monoid.lift(r.exprs), r.exprs))
        if not plain or r.axes or key(_extents(r.over)) != key(_extents(over)) or any(isinstance(e, Ref) for e in post_order(r.exprs)):
            return None
    if not over:
        return None
    results, terms = _least(size(_extents(kernel.axes))), _least(size(_extents(over)))
    if results == 0 or _units(kernel, reduces, results) >= UNITS:
        return None
    parts = min(PARTS, results * terms // PART, terms // 64)
    if parts < 2:
        return None
    place = max(range(len(over)), key=lambda i: (_least(over[i].extent), -i))
    return _split_at(kernel, reduces, place, parts)


def _extents(axes: tuple[Axis, ...]) -> tuple[int, ...]:
    return tuple([a.extent for a in axes])


def _least(n: int) -> int:
    """The size where every free dimension is 1."""
    if type(n) is not Dim:
        return int(n)
    return max(1, sum(c for atoms, c in n.expr if all(isinstance(a, str) for a in atoms)))


def _units(kernel: Kernel, reduces: list[Reduce], results: int) -> int:
    """Units of work that the kernel has as it is."""
    if not kernel.axes:
        return 1
    side_by_side = any(access(e.buffer, e.index).step(kernel.axes[-1]) == 1 for r in reduces for e in loads_of(r.exprs))
    return -(-results // COLUMNS) if side_by_side else results


def _split_at(kernel: Kernel, reduces: list[Reduce], place: int, wanted: int) -> tuple[Kernel, Kernel]:
    extent = reduces[0].over[place].extent
    parts, exact = _parts(extent, wanted)
    length = extent // parts if exact else ceil_div(extent, parts)
    part, inner = Axis("part", parts), Axis("within", length)
    at = simplify.add(simplify.mul(part, length), inner)
    inside = simplify.less(at, index(extent))
    grid = size(_extents(kernel.axes))
    row = simplify.ravel(kernel.axes, _extents(kernel.axes))
    joined = Axis("p", parts)
    first: list = []
    stores: list[Store] = []
    second: list = []
    casts: dict[Expr, Expr] = {}
    for r in reduces:
        state = r.monoid.state_dtypes(r.exprs)
        exprs = _rebuilt([e if e.dtype is d else Cast(e, d) for e, d in zip(r.exprs, state)], {r.over[place]: at})
        if not exact:
            exprs = guard_loads([Where(inside, e, zero) for e, zero in zip(exprs, r.monoid.init(r.exprs))])
        axes = tuple([inner if i == place else a for i, a in enumerate(r.over)])
        first.append(replace(r, over=axes, exprs=tuple(exprs)))
        loads = []
        for item, d in enumerate(state):
            buffer = Buffer(f"{r.name}_part{item}", (parts * grid,), d)
            stores.append(Store(buffer, (), (simplify.add(simplify.mul(part, grid), row),), Ref(r.name, (), d, item)))
            loads.append(Load(buffer, (simplify.add(simplify.mul(joined, grid), row),)))
            old = r.monoid.dtypes(r.exprs)[item]
            if old is not d:
                casts[Ref(r.name, (), old, item)] = Cast(Ref(r.name, (), d, item), old)
        second.append(replace(r, over=(joined,), exprs=tuple(loads)))
    second += [with_exprs(s, substitute(stage_exprs(s), casts)) for s in kernel.stages if isinstance(s, Store)]
    return (_kernel(f"{kernel.name}_parts", (part, *kernel.axes), [*first, *stores], tuple([s.buffer for s in stores])),
            _kernel(kernel.name, kernel.axes, second, kernel.writes))


def _parts(extent: int, wanted: int) -> tuple[int, bool]:
    """Near ``wanted``, a number of parts that divides the extent; else ``wanted``, the last part being shorter."""
    for n in sorted(range(max(2, wanted // 2), 2 * wanted), key=lambda n: abs(n - wanted)):
        rest = extent % n
        if type(rest) is not Dim and rest == 0:
            return n, True
    return wanted, False


def _rebuilt(roots: list[Expr], mapping: dict[Axis, Expr]) -> list[Expr]:
    """Substitution through the index rules."""
    memo: dict[int, Expr] = {id(k): v for k, v in mapping.items()}
    for e in post_order(roots):
        if id(e) not in memo:
            children = tuple([memo[id(c)] for c in e.children])
            memo[id(e)] = e if all(a is b for a, b in zip(children, e.children)) else simplify.again(e, children)
    return [memo[id(r)] for r in roots]


def _kernel(name: str, axes: tuple[Axis, ...], stages: list, writes: tuple[Buffer, ...]) -> Kernel:
    """A kernel of these stages, with the buffers that they read before those that they write."""
    reads = {e.buffer.key: e.buffer for s in stages for e in post_order(stage_exprs(s)) if isinstance(e, Load)}
    return Kernel(name, (*reads.values(), *writes), len(writes), axes, tuple(stages))
