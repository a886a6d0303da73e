"""Lowering: a fused group becomes one kernel.

Each root's value at the kernel's index is asked of its op, which asks its operands in turn, until stored values are reached: fusing is
substitution. Then: conditions of padding move into the loads they protect; every Fold becomes a stage; axes that no stage's result depends on become
the stores' own (row kernels); neighbouring axes that every access steps through as one are merged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...runtime.dim import Dim, key
from ..ir.graph import Input, Node
from ..kernel import simplify
from ..kernel.expr import Axis, Expr, Fold, Load, Ref, axes_of, post_order
from ..kernel.guards import guard_loads
from ..kernel.ir import Buffer, Contract, Kernel, Reduce, Store, stage_exprs, with_exprs
from ..kernel.monoid import Dot
from ..ops.base import LowerContext
from .collapse import collapse
from .fuse import Group


@dataclass(frozen=True)
class Lowered:
    """A kernel, and the node behind each of its buffers (reads, then writes). ``errors`` are the messages of its error sites, code 1 first."""

    kernel: Kernel
    nodes: tuple[Node, ...]
    errors: tuple[str, ...]


def lower_group(group: Group, stored: Callable[[Node], bool]) -> Lowered:
    """The kernel of ``group``; ``stored(node)`` says which nodes have memory of their own."""
    return _Lowering(group, stored).run()


class Lowerer:
    """``lower_group`` for the groups of one program. Groups of equal structure (the blocks of a deep network) share one kernel, lowered once."""

    def __init__(self, stored: Callable[[Node], bool]):
        self.stored = stored
        self._known: dict[tuple, tuple[Lowered, list[int]]] = {}

    def __call__(self, group: Group) -> Lowered:
        k, nodes = _structure(group, self.stored)
        found = self._known.get(k)
        if found is None:
            lowered = lower_group(group, self.stored)
            number = {n: i for i, n in enumerate(nodes)}
            self._known[k] = (lowered, [number[n] for n in lowered.nodes])
            return lowered
        lowered, positions = found
        return replace(lowered, nodes=tuple([nodes[i] for i in positions]))


def _structure(group: Group, stored: Callable[[Node], bool]) -> tuple[tuple, list[Node]]:
    """What a group's kernel depends on: ops, types and edges from its roots to stored values, numbered in the order of the walk; and the nodes by number."""
    number: dict[Node, int] = {}
    nodes: list[Node] = []
    lines: list[tuple] = []
    roots = set(group.roots)
    stack: list[tuple[Node, bool]] = [(r, False) for r in reversed(group.roots)]
    while stack:
        n, ready = stack.pop()
        if n in number:
            continue
        ends = n not in roots and n not in group.members and stored(n)
        if not (ready or ends or not n.inputs):
            stack.append((n, True))
            stack.extend([(i, False) for i in reversed(n.inputs)])
            continue
        number[n] = len(nodes)
        nodes.append(n)
        type_ = (key(n.shape), n.dtype.name)
        lines.append(("stored", *type_) if ends or isinstance(n.op, Input) else (n.op.key, *type_, *[number[i] for i in n.inputs]))
    return (group.name, tuple([number[r] for r in group.roots]), tuple(lines)), nodes


class _Lowering:
    def __init__(self, group: Group, stored: Callable[[Node], bool]):
        self.group, self.stored = group, stored
        self.ctx = LowerContext()
        self.memo: dict[tuple, Expr] = {}
        self.reads: dict[Node, str] = {}

    def run(self) -> Lowered:
        group = self.group
        outputs = [Buffer(f"out{i}", r.shape, r.dtype) for i, r in enumerate(group.roots)]
        root = group.roots[0]
        if root.op.kind == "scatter":
            args = [self._reader(i) for i in root.inputs]
            axes, stages = root.op.lower_stages(root, args, outputs[0], self.ctx)
            stages = [with_exprs(s, guard_loads(list(stage_exprs(s)))) for s in stages]
        else:
            axes = self.ctx.axes(group.space, "i")
            places = [self._place(r, axes) for r in group.roots]
            values = guard_loads([self._root(r, at) for r, at in zip(group.roots, places)])
            stages, axes = _extract(list(values), places, axes, outputs)
        kernel = Kernel(group.name, (), len(outputs), axes, tuple(stages))
        return self._finish(kernel, outputs)

    def _place(self, r: Node, axes: tuple[Axis, ...]) -> tuple[Expr, ...]:
        """Where in ``r`` the kernel's point ``axes`` is: at sizes of 1 the index is 0; a value per row has the axes that number the rows."""
        space = self.group.space
        if key(r.shape) == key(space):
            return axes
        mine = [n for n in r.shape if not _one(n)]
        theirs = [a for a in axes if not _one(a.extent)]
        if key(tuple(mine)) != key(tuple([a.extent for a in theirs])):
            theirs = [a for i, a in enumerate(axes) if not _one(a.extent) and i not in self.group.spread]
        left = iter(theirs)
        return tuple([simplify.index(0) if _one(n) else next(left) for n in r.shape])

    def _root(self, r: Node, at: tuple[Expr, ...]) -> Expr:
        return self._load(r, at) if isinstance(r.op, Input) else self._value(r, at)

    def _reader(self, n: Node) -> Callable[[tuple[Expr, ...]], Expr]:
        return lambda at: self._value(n, tuple(at))

    def _value(self, n: Node, at: tuple[Expr, ...]) -> Expr:
        k = (n, tuple([id(e) for e in at]))
        found = self.memo.get(k)
        if found is None:
            if self.stored(n) and n not in self.group.members:
                found = self._load(n, at)
            else:
                view = self._viewed(n)
                found = self._load(view, at, n.shape) if view is not None else n.op.lower(
                    n, [self._reader(i) for i in n.inputs], at, self.ctx)
            self.memo[k] = found
            self.memo[("keep", *k)] = at  # type: ignore[assignment]  # the ids in the key stay alive
        return found

    def _viewed(self, n: Node) -> Node | None:
        """The stored node whose memory, read in another shape, is ``n`` (a reshape needs no index arithmetic then)."""
        while n.op.kind == "movement" and getattr(n.op, "reinterprets", False):
            n = n.inputs[0]
            if self.stored(n) and n not in self.group.members:
                return n
        return None

    def _load(self, n: Node, at: tuple[Expr, ...], shape: tuple[int, ...] | None = None) -> Expr:
        name = self.reads.setdefault(n, f"in{len(self.reads)}")
        return Load(Buffer(name, n.shape if shape is None else shape, n.dtype), at)

    def _finish(self, kernel: Kernel, outputs: list[Buffer]) -> Lowered:
        """Collapses axes and numbers the buffers that are still read, in the order of the text. A buffer read in two shapes keeps one name."""
        kernel = collapse(kernel)
        by_name = {name: n for n, name in self.reads.items()}
        seen: dict[tuple, Buffer] = {}
        nodes: list[Node] = []
        for stage in kernel.stages:
            for e in post_order(stage_exprs(stage)):
                if isinstance(e, Load) and e.buffer.key not in seen:
                    seen[e.buffer.key] = e.buffer
        renamed: dict[tuple, Buffer] = {}
        for i, (k, b) in enumerate(seen.items()):
            renamed[k] = replace(b, name=f"in{i}")
            nodes.append(by_name[b.name])
        stages = tuple(_rename(s, renamed) for s in kernel.stages)
        written = tuple({s.buffer.name: s.buffer for s in stages if isinstance(s, Store)}.values())
        nodes.extend(self.group.roots[int(b.name[3:])] for b in written)
        kernel = replace(kernel, buffers=(*renamed.values(), *written), outputs=len(written), stages=stages)
        return Lowered(kernel, tuple(nodes), tuple(self.ctx.errors))


def _rename(stage, renamed: dict[tuple, Buffer]):
    def fix(roots: list[Expr]) -> list[Expr]:
        mapping: dict[int, Expr] = {}
        for e in post_order(roots):
            children = tuple([mapping[id(c)] for c in e.children])
            if isinstance(e, Load):
                n = len(e.index)
                mapping[id(e)] = Load(renamed[e.buffer.key], children[:n], *children[n:])
            else:
                mapping[id(e)] = e if all(a is b for a, b in zip(children, e.children)) else e.with_children(children)
        return [mapping[id(r)] for r in roots]

    return with_exprs(stage, fix(list(stage_exprs(stage))))


def _one(n: int) -> bool:
    return type(n) is not Dim and n == 1


def _extract(values: list[Expr], places: list[tuple[Expr, ...]], axes: tuple[Axis, ...], outputs: list[Buffer]) -> tuple[list, tuple[Axis, ...]]:
    """Folds become stages; returns the stages (stores last, each at its place) and the grid axes: those that folds depend on."""
    folds = [e for e in post_order(values) if isinstance(e, Fold)]
    grid = axes
    if folds:
        # Nothing is read where nothing is stored: an axis of extent 0, which no index mentions, stays around the folds.
        used = set().union(*[axes_of(f) for f in folds], [a for a in axes if type(a.extent) is not Dim and a.extent == 0])
        inner = [a for a in axes if a not in used]
        if inner and not any(isinstance(f.monoid, Dot) for f in folds) and _long(inner):
            grid = tuple([a for a in axes if a in used])
    own = [a for a in axes if a not in grid]
    stages: list = []
    memo: dict[int, Expr] = {}
    names: dict[tuple, str] = {}
    for e in post_order(values):
        children = tuple([memo[id(c)] for c in e.children])
        if isinstance(e, Fold):
            over, exprs = e.over, children[len(e.over):]
            k = (e.monoid, over, exprs)
            if k not in names:
                names[k] = f"s{len(names)}"
                if isinstance(e.monoid, Dot):
                    stages.append(Contract(names[k], (), over, exprs[0], exprs[1], e.monoid.acc, e.monoid.precision))
                else:
                    stages.append(Reduce(names[k], (), over, e.monoid, exprs))
            ref: Expr = Ref(names[k], (), e.monoid.dtypes(exprs)[e.item], e.item)
            memo[id(e)] = ref
        else:
            memo[id(e)] = e if all(a is b for a, b in zip(children, e.children)) else e.with_children(children)
    for value, at, out in zip(values, places, outputs):
        stages.append(Store(out, tuple([a for a in own if a in at]), at, memo[id(value)]))
    return stages, grid


def _long(inner: list[Axis]) -> bool:
    """Whether the row has more than one element (else there is nothing to share)."""
    return any(type(a.extent) is Dim or a.extent > 1 for a in inner)


