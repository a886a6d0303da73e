"""Fusion: which nodes become one kernel.

Nodes are visited consumers first. A node joins the group of its readers when all of them are in one group and its elements would not be
computed more than once; else it starts a group of its own and its value is stored. There is no fusion code per op: what a node needs to know of an op
is its ``kind`` and how it ``reads`` its operands. From these follows the *level* at which a group sees a node:

* "same": at the index of the group's own iteration space, "permuted": with its axes in another order; "view": at another index, each element about once;
* "row": one value per row, where the group is a row kernel (a reduction whose result is spread over the reduced axes again);
* "inner": inside a reduction's domain, each element once; "scalar": a value of size 1; "many": often (overlapping windows, broadcasts);
  "operand": often, by a contraction, which reads only stored values (through affine movements).

Movements and constants have no group: they are index arithmetic in whichever kernel reads through them; and where it costs less traffic than storing it, a light
node that several kernels read is computed in each (``_light``). ``merge`` then joins kernels. Every merge refused is recorded with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from ...runtime.config import FUEL
from ...runtime.dim import Dim, key, size
from ..ir.graph import Graph, Input, Node
from ..kernel.scalar_ops import add as _ADD
from ..ops.constant import Constant
from .merge import merge, squeezed

ROW_LIMIT = 1 << 15  # elements of a row that a row kernel may pass over several times (it stays in L2)
COLUMN_LIMIT = 1 << 12  # of a row that lies across memory: rows go side by side, a vector's width at least
BUNDLES = 256  # such rows that are work enough for any number of threads
SMALL = 1 << 16  # elements that are no work for several threads
GROUP_LIMIT = 64  # nodes of a group; bounds the text of one kernel
VIEW_LIMIT = 8  # indices at which a group computes one node: each is text and work again, and views of views multiply them
_FLOATING = ("movement", "source")
_OWN = frozenset([0])  # the index of a group's own iteration space
# A step of its own: no kernel of ours to fuse with, it reads arrays and stores its results. (A composite that is left was claimed by the target.)
STEP_KINDS = ("region", "routine", "host", "composite")


@dataclass(eq=False)
class Group:
    """Nodes that one kernel computes; ``roots`` are stored. ``mode``: "map", "fold", "row", "contract" or "scatter"; "step" for a
    single node that is no kernel (``STEP_KINDS``), whose roots are its results."""

    roots: list[Node]
    setup: bool = False
    mode: str = "map"
    spread: tuple[int, ...] = ()  # of a row kernel: the axes of its space that a row runs over
    members: dict[Node, str] = field(default_factory=dict)  # node -> level
    serial: int = 0

    @property
    def space(self) -> tuple[int, ...]:
        return self.roots[0].shape

    @property
    def row(self) -> tuple[int, ...]:
        """The sizes of the axes that number the rows of a row kernel."""
        return tuple([n for i, n in enumerate(self.space) if i not in self.spread])

    @property
    def name(self) -> str:
        """What the kernel is called in dumps: its anchor, then the ops around it."""
        kinds = [n.op.name.lower() for n in self.members if n.op.kind not in _FLOATING]
        heavy = [n.op.name.lower() for n in self.members if n.op.kind in ("contraction", "window", "scatter", "reduction")]
        rest = [k for k in kinds if k not in heavy]
        names = list(dict.fromkeys([*reversed(heavy), *reversed(rest)]))
        return "_".join(names[:4]) or self.roots[0].op.name.lower()


@dataclass(frozen=True)
class Refusal:
    """Why a producer was not merged into a consumer's kernel."""

    producer: Node
    reason: str


@dataclass
class Partition:
    """``groups`` in an order in which they can run; ``of`` maps every stored node to the group that stores it."""

    groups: list[Group]
    of: dict[Node, Group]
    refusals: list[Refusal]


def step_reads(n: Node) -> list[Node]:
    """The nodes whose memory a step reads, in the order of its operands: routines know their operands' shapes, so they read through reshapes."""
    return [_memory_of(i) for i in n.inputs] if n.op.kind in ("routine", "composite") else list(n.inputs)


def _memory_of(n: Node) -> Node:
    while n.op.kind == "movement" and n.op.reinterprets:
        (n,) = n.inputs
    return n


def floating(n: Node) -> bool:
    """Index arithmetic or a leaf: never stored for its own sake."""
    return n.op.kind in _FLOATING


def fuse(graph: Graph) -> Partition:
    """Partitions the graph; every output node is a root, but for inputs and constants."""
    return _Fuser(graph).run()


class _Fuser:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.groups: list[Group] = []
        self.levels: dict[Node, dict[Group, str]] = {}  # how each group that reads a node sees it
        self.views: dict[Node, dict[Group, frozenset[int]]] = {}  # at which indices, each a number:
        self.ways: dict[tuple[int, Node, int], int] = {}  # the index at which a movement, read at an index, reads its operand i
        self.homes: dict[Node, Group] = {}  # the group that stores a node
        self.refusals: list[Refusal] = []
        self.kept = {*graph.outputs, *[i for n in graph.nodes if n.op.kind in STEP_KINDS for i in step_reads(n)]}  # stored in any case
        self.setup = _setup_nodes(graph)
        self.fuel = FUEL.get()

    def run(self) -> Partition:
        order = self.graph.nodes
        for n in reversed(order):
            seen = self.levels.setdefault(n, {})
            if isinstance(n.op, (Input, Constant)):
                continue  # in memory already: where an output is one, the program copies it
            if n.op.kind == "result" or n.op.kind in STEP_KINDS:
                self._step(n)
                continue
            if n in self.kept or (not floating(n) and self._place(n, seen)):
                self._start(n)
            elif not n.inputs:
                continue
            if n not in self.kept and floating(n):
                for level in seen.values():
                    if level == "operand" and n.inputs and not n.op.affine:
                        self._refuse(n, f"{n.op.name} is not affine, so a contraction can't read through it")
                        self._start(n)
                        break
            self._visit_operands(n)
        position = {n: i for i, n in enumerate(order)}
        self.groups.sort(key=lambda g: position[g.roots[0]])
        groups = _topological(self.groups, _edges(self.groups, self.levels))
        groups = merge(groups, self.levels, lambda g: self._see(g, position), self.kept, GROUP_LIMIT, self._allow)
        for i, g in enumerate(groups):
            g.serial = i
        return Partition(groups, {r: g for g in groups for r in g.roots}, self.refusals)

    def _refuse(self, n: Node, reason: str) -> None:
        self.refusals.append(Refusal(n, reason))

    def _start(self, n: Node) -> Group:
        """A new group that stores ``n``."""
        mode = {"reduction": "fold", "window": "fold", "contraction": "contract", "scatter": "scatter"}.get(n.op.kind, "map")
        g = Group([n], n in self.setup, mode, (), {n: "same"})
        self.groups.append(g)
        self.homes[n] = g
        return g

    def _step(self, n: Node) -> None:
        """A node that is a step of its own, or one of the results of such a node (which are visited before it)."""
        step = n.inputs[0] if n.op.kind == "result" else n
        if step not in self.homes:
            g = Group([], step in self.setup, "step", (), {step: "same"})
            self.groups.append(g)
            self.homes[step] = g
        g = self.homes[step]
        if not (n is step and n.has_items):
            g.roots.append(n)
            self.homes[n] = g
        if n is step:
            for operand in step_reads(n):
                self.levels.setdefault(operand, {})[g] = "operand"

    def _visit_operands(self, n: Node) -> None:
        """Tells the operands how the groups that hold ``n`` see them."""
        home = self.homes.get(n)
        views = {} if home is not None else self.views.get(n, {})
        for group, level in ({home: "same"} if home is not None else self.levels[n]).items():
            at = views.get(group, _OWN)
            for i, operand in enumerate(n.inputs):
                seen = self.levels.setdefault(operand, {})
                new = _through(n, i, level, group)
                old = seen.get(group)
                seen[group] = new if old is None or old == new else "many"
                known = self.views.setdefault(operand, {})
                known[group] = known.get(group, frozenset()) | (self._moved(at, n, i) if n.op.kind == "movement" else at)
                if len(known[group]) > VIEW_LIMIT:
                    seen[group] = "many"
                    known[group] = _OWN  # of no consequence: it is stored, or what it is a view of is
                    if len(operand.inputs) > 1 and floating(operand):
                        self.kept.add(operand)  # a join of many, whose parts would all be looked for at each index

    def _moved(self, at: frozenset[int], n: Node, i: int) -> frozenset[int]:
        return frozenset([self.ways.setdefault((way, n, i), len(self.ways) + 1) for way in at])

    def _place(self, n: Node, seen: dict[Group, str]) -> bool:
        """Merges ``n`` into the group of its readers; True where it must start its own."""
        if not seen:
            return True
        if len(seen) > 1:
            if self._recomputed(n, seen) and self._allow():
                for group, level in seen.items():
                    group.members[n] = level
                return False
            self._refuse(n, f"{len(seen)} kernels read it")
            return True
        (group, level), = seen.items()
        reason = self._reason(n, group, level)
        if reason is None and not self._allow():
            reason = "KEROGEN_FUEL is used up"
        if reason is not None:
            self._refuse(n, reason)
            return True
        kind = n.op.kind
        if kind in ("reduction", "window"):
            group.mode = "row" if level == "row" or group.mode == "row" else "fold"
        elif kind == "contraction":
            group.mode = "contract"
        group.members[n] = level
        return False

    def _reason(self, n: Node, group: Group, level: str) -> str | None:
        """None where ``n`` may join ``group`` at ``level``, else why not."""
        if (n in self.setup) != group.setup:
            return "it depends on weights alone and is computed once"
        if len(group.members) >= GROUP_LIMIT:
            return f"the kernel has {GROUP_LIMIT} operations already"
        if level in ("many", "operand"):
            return "its elements are read many times"
        if level == "scalar" and n.op.kind not in ("elementwise", "random"):
            return "a single value is computed once, in a kernel of its own"
        kind = n.op.kind
        if kind == "scatter":
            return "a scatter stores its own result"
        if kind == "contraction":
            if group.mode != "map":
                return f"its reader is a {group.mode} kernel"
            return None if level in ("same", "permuted") else "its reader does not read it at its own index"
        if kind in ("reduction", "window"):
            if level == "row":
                return None
            if group.mode == "row" or level == "inner":
                return "a reduction of a reduction"
            if group.mode == "contract":
                return "its reader is a contraction kernel"
            if level not in ("same", "permuted", "view"):
                return "its reader does not read it at its own index"
            return self._row_reason(n, group)
        return None

    def _row_reason(self, n: Node, group: Group) -> str | None:
        return None if group.mode in ("map", "fold") else f"its reader is a {group.mode} kernel"

    def _allow(self) -> bool:
        """One merge more."""
        if self.fuel is None:
            return True
        self.fuel -= 1
        return self.fuel >= 0

    def _recomputed(self, n: Node, seen: dict[Group, str]) -> bool:
        """Whether each of the kernels that read ``n`` computes it: a light operation, and no more bytes to read than storing it would cost."""
        if not _light(n) or any(level in ("many", "operand", "scalar") or g.setup != (n in self.setup) for g, level in seen.items()):
            return False
        if any(len(g.members) >= GROUP_LIMIT or g.mode in ("scatter", "step") for g in seen):
            return False
        reads: dict[Node, bool] = {}  # large operands: whether their memory exists in any case
        for operand in n.inputs:
            source, shared = operand, len(self.graph.users[operand]) > 1
            while source.op.kind == "movement":
                source = source.inputs[0]
                shared = shared or len(self.graph.users[source]) > 1
            if key(source.type.size) == key(n.type.size) and (isinstance(source.op, Input) or source.op.kind != "source"):
                leaf = isinstance(source.op, (Input, Constant)) or source in self.kept
                reads[source] = leaf or shared
        if len(reads) > 1 and not all(isinstance(x.op, (Input, Constant)) or x in self.kept for x in reads):
            return False  # one of them may yet be computed where n is stored: then n costs nothing there
        if not all(reads.values()):
            return False  # the same: n takes its operand's place
        width, total = n.dtype.itemsize, sum(x.dtype.itemsize for x in reads)
        return len(seen) * total <= total + width * (1 + len(seen))

    def _see(self, group: Group, position: dict[Node, int]) -> dict[Node, str]:
        """How ``group`` sees everything that it computes or reads."""
        full = key(group.space)
        levels = {r: "same" if group.mode != "row" or key(r.shape) == full else "row" for r in group.roots}
        queue = [(-position[r], r) for r in group.roots]
        heapify(queue)
        done: set[Node] = set()
        while queue:
            _, n = heappop(queue)
            if n in done:
                continue
            done.add(n)
            for i, operand in enumerate(n.inputs):
                new, old = _through(n, i, levels[n], group), levels.get(operand)
                levels[operand] = new if old is None or old == new else "many"
                if operand in group.members or (floating(operand) and operand not in self.homes):
                    heappush(queue, (-position[operand], operand))
        for n in group.members:
            group.members[n] = levels[n]
        return levels


def _light(n: Node) -> bool:
    """An elementwise operation that costs no more than a load or two."""
    return n.op.kind == "elementwise" and getattr(n.op, "fn", _ADD).cost <= 2


def _through(n: Node, i: int, level: str, group: Group) -> str:
    """The level at which ``group`` sees operand i of ``n``, which it sees at ``level``."""
    reads = n.op.reads(n, i)
    operand = n.inputs[i]
    if level in ("many", "operand") or reads in ("many", "operand"):
        return "operand" if "operand" in (level, reads) else "many"
    if reads == "same":
        return level
    if level == "scalar":
        return "scalar" if reads != "reduce" else "many"
    if reads == "view":
        if n.op.reinterprets and squeezed(n.shape) == squeezed(operand.shape) and level in ("same", "row"):
            return level  # axes of size 1 come and go
        if level == "row":
            return "row" if _row_shape(operand, group) else "many"
        if level in ("same", "permuted") and n.op.permutes:
            return "permuted"
        return "inner" if level == "inner" else "view"
    if reads == "expand":
        if level == "same" and _spreads_over_rows(n, operand, group):
            return "row"
        size = operand.type.size
        return "scalar" if type(size) is not Dim and size == 1 else "many"
    # reads == "reduce"
    if level == "row":
        own = key(operand.shape) == key(group.space) and tuple(n.op.axes) == _with_ones(group)
        return "same" if own else "many"
    return "inner"


def _with_ones(group: Group) -> tuple[int, ...]:
    """The axes that a reduction of the rows of ``group`` has, where axes of size 1 that it may have too don't matter."""
    return group.spread


def _row_shape(operand: Node, group: Group) -> bool:
    """Whether ``operand`` has one value per row: the row axes' sizes, any sizes of 1."""
    return squeezed(operand.shape) == squeezed(group.row)


def _one(n: int) -> bool:
    return type(n) is not Dim and n == 1


def _spreads_over_rows(n: Node, operand: Node, group: Group) -> bool:
    """Whether broadcast ``n`` spreads one value per row of the group's space over the row; sets the group's rows at first."""
    if group.mode not in ("map", "row") or key(n.shape) != key(group.space) or operand.rank != n.rank:
        return False
    axes = _reduced(operand)
    if axes is None or any(i >= n.rank for i in axes):  # of an array of higher rank, reshaped since
        return False
    if any(_one(operand.shape[i]) != (i in axes) and not _one(n.shape[i]) for i in range(n.rank)):
        return False
    spread = tuple([i for i in axes if not _one(n.shape[i])])
    if group.mode == "row":
        return group.spread == spread
    if not _fit_rows(group.space, spread):
        return False
    group.mode, group.spread = "row", spread
    return True


def _fit_rows(space: tuple[int, ...], spread: tuple[int, ...]) -> bool:
    """Whether rows over the axes ``spread`` are short enough to be passed over several times. Rows that are columns in memory go side by side: a bundle
    of them has to fit, and there must be enough bundles for all threads (a large batch's statistics are kernels of their own)."""
    length = size([space[i] for i in spread])
    if type(length) is Dim or length < 2:
        return False
    if max(spread) == max(i for i, n in enumerate(space) if not _one(n)):
        return length <= ROW_LIMIT
    if length > COLUMN_LIMIT:
        return False
    others: int = 1
    for i, n in enumerate(space):
        others *= 1 if i in spread or type(n) is Dim else int(n)
    return others >= BUNDLES or others * length <= SMALL


def _reduced(n: Node) -> tuple[int, ...] | None:
    """The axes of the reduction from which ``n`` comes through one-value-per-row arithmetic."""
    seen: set[Node] = set()
    stack = [n]
    while stack:
        x = stack.pop()
        if x in seen or len(seen) > 16:
            continue
        seen.add(x)
        if x.op.kind == "reduction":
            axes = getattr(x.op, "axes", None)  # argmax has one axis and starts no row
            return None if axes is None else tuple(axes)
        if x.op.kind in ("elementwise", "movement"):
            stack.extend(i for i in x.inputs if i.type.size is x.type.size or key(i.type.size) == key(x.type.size))
    return None


def _setup_nodes(graph: Graph) -> set[Node]:
    """Nodes that depend on weights (role "parameter") and constants alone, at least one weight: computed once per weight version."""
    outputs = set(graph.outputs)
    given = outputs | {o.inputs[0] for o in outputs if o.op.kind == "result"}  # computed in every call, and so what reads them
    fixed: dict[Node, bool] = {}
    weights: dict[Node, bool] = {}
    for n in graph.nodes:
        if isinstance(n.op, Input):
            fixed[n] = weights[n] = n.op.role == "parameter"
        else:
            fixed[n] = n not in given and all(fixed[i] for i in n.inputs)
            weights[n] = any(weights[i] for i in n.inputs)
    chosen: set[Node] = set()
    for n in reversed(graph.nodes):  # readers first: what they read has to be there as early, though it depends on no weight
        if fixed[n] and not isinstance(n.op, Input) and (weights[n] or n in chosen):
            chosen.add(n)
            chosen.update(i for i in n.inputs if not isinstance(i.op, (Input, Constant)))
    return chosen


def _edges(groups: list[Group], levels: dict[Node, dict[Group, str]]) -> dict[Group, set[Group]]:
    stored = {r: g for g in groups for r in g.roots}
    reads: dict[Group, set[Group]] = {g: set() for g in groups}
    for n, seen in levels.items():
        owner = stored.get(n)
        if owner is not None:
            for g in seen:
                if g is not owner and g in reads:
                    reads[g].add(owner)
    return reads


def _topological(groups: list[Group], reads: dict[Group, set[Group]]) -> list[Group]:
    position = {g: i for i, g in enumerate(groups)}
    out: list[Group] = []
    done: set[Group] = set()
    for start in groups:
        stack: list[tuple[Group, bool]] = [(start, False)]
        while stack:
            g, ready = stack.pop()
            if ready:
                if g not in done:
                    done.add(g)
                    out.append(g)
            elif g not in done:
                stack.append((g, True))
                stack.extend((x, False) for x in sorted(reads[g], key=position.__getitem__, reverse=True) if x not in done)
    return out


def unfused(partition: Partition) -> Iterable[str]:
    """One line per refused merge."""
    for r in partition.refusals:
        where = f" ({', '.join(r.producer.origins)})" if r.producer.origins else ""
        yield f"{r.producer.op.name}{where}: {r.reason}"
