"""Merging of fused groups: kernels that share what they read become one kernel with several results.

``fuse`` gives every stored node a kernel of its own. Here two of them join where that saves memory traffic, and no third kernel lies between:

* *reader and producer* over one iteration space (optimizer updates; what follows a reduction or contraction), or a row kernel and the kernel of a value per row
  that it reads (the mean and deviation that a normalisation's gradient needs again): the producer's value is a local of the joint kernel, stored only
  where others read it;
* *siblings*: reductions over one domain, maps over one space, row kernels over the same rows, that read the same arrays.

The order of groups is kept topological: a group may move only within the stretch between the two that join (Pearce and Kelly, "A dynamic topological sort
algorithm for directed acyclic graphs", 2006), so a join costs what lies between, not the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ...runtime.dim import Dim, key
from ..ir.graph import Input, Node
from ..ops.constant import Constant

if TYPE_CHECKING:
    from .fuse import Group

RESULTS = 8  # stored results of one kernel
TRIES = 8  # earlier siblings that are looked at
STRETCH = 256  # groups between two siblings that may join: further apart the results would lie about for long

Levels = dict[Node, str]


def merge(groups: list[Group], levels: dict[Node, dict[Group, str]], see: Callable[[Group], Levels], kept: set[Node], limit: int,
          allow: Callable[[], bool]) -> list[Group]:
    """The merged groups in an order in which they can run. ``groups`` is in such an order; ``levels`` tells how groups see the nodes that they read,
    ``see(group)`` computes that anew; ``kept`` nodes are stored in any case; ``limit`` bounds the nodes of a group; ``allow`` is asked before each join."""
    return _Merger(groups, levels, see, kept, limit, allow).run()


def squeezed(shape: tuple[int, ...]) -> tuple:
    """The key of a shape without its sizes of 1."""
    return key(tuple([n for n in shape if type(n) is Dim or n != 1]))


class _Merger:
    def __init__(self, groups: list[Group], levels: dict[Node, dict[Group, str]], see: Callable[[Group], Levels], kept: set[Node], limit: int,
                 allow: Callable[[], bool]):
        self.levels, self.see, self.kept, self.limit, self.allow = levels, see, kept, limit, allow
        self.order: list[Group | None] = list(groups)
        self.position = {g: i for i, g in enumerate(groups)}
        self.owner = {r: g for g in groups for r in g.roots}
        self.seen: dict[Group, Levels] = {g: {} for g in groups}
        for n, by in levels.items():
            for g, level in by.items():
                self.seen[g][n] = level
        self.stopped = False

    def run(self) -> list[Group]:
        changed = True
        while changed and not self.stopped:
            changed = self._siblings()
            changed = self._producers() or changed
        return [g for g in self.order if g is not None]

    # -- edges

    def _reads(self, g: Group) -> Iterable[Group]:
        """Groups that store what ``g`` reads, in order."""
        found = {self.owner[n] for n in self.seen[g] if n in self.owner} - {g}
        return sorted(found, key=self.position.__getitem__)

    def _readers(self, g: Group) -> set[Group]:
        return {x for r in g.roots for x in self.levels.get(r, ())} - {g}

    def _between(self, first: Group, last: Group) -> set[Group] | None:
        """What depends on ``first`` in the stretch up to ``last``; None where ``last`` depends on one of them."""
        end = self.position[last]
        found: set[Group] = set()
        stack = [first]
        while stack:
            for x in self._readers(stack.pop()):
                if self.position[x] < end and x not in found:
                    found.add(x)
                    stack.append(x)
        return None if any(last in self._readers(x) for x in found) else found

    # -- joining

    def _join(self, a: Group, b: Group, into: Group) -> bool:
        """Joins two groups, one of which may read the other, where nothing between needs them apart."""
        first, last = sorted((a, b), key=self.position.__getitem__)
        after = self._between(first, last)
        if after is None:
            return False
        if not self.allow():
            self.stopped = True
            return False
        other = a if into is b else b
        into.members = {**other.members, **into.members}
        space, roots = key(into.space), [*first.roots, *last.roots]
        into.roots = sorted(roots, key=lambda r: key(r.shape) != space)  # those over the kernel's own space first
        for r in other.roots:
            self.owner[r] = into
        start, end = self.position[first], self.position[last]
        stretch = [g for g in self.order[start: end + 1] if g is not None and g is not a and g is not b]
        new = [*[g for g in stretch if g not in after], into, *[g for g in stretch if g in after]]
        self.order[start: end + 1] = [*new, *[None] * (end + 1 - start - len(new))]
        for i, g in enumerate(new):
            self.position[g] = start + i
        del self.position[other]
        for g in (a, b):
            for n in self.seen.pop(g):
                self.levels[n].pop(g, None)
        self._look(into)
        self._drop(into)
        return True

    def _look(self, g: Group) -> None:
        self.seen[g] = self.see(g)
        for n, level in self.seen[g].items():
            self.levels.setdefault(n, {})[g] = level

    def _drop(self, g: Group) -> None:
        """Results that nothing else reads need no memory."""
        space = key(g.space)
        full = [r for r in g.roots if key(r.shape) == space]
        for r in list(g.roots):
            alone = self.levels.get(r, {}).keys() == {g} and self.seen[g][r] in ("same", "row")
            last = full == [r] and (g.mode == "row" or len(g.roots) == 1)
            if alone and r not in self.kept and not last:
                g.roots = [x for x in g.roots if x is not r]
                full = [x for x in full if x is not r]
                g.members[r] = self.seen[g][r]
                del self.owner[r]

    def _fits(self, a: Group, b: Group) -> bool:
        return a.setup == b.setup and len(a.members) + len(b.members) <= self.limit and len(a.roots) + len(b.roots) <= RESULTS

    # -- producers

    def _producers(self) -> bool:
        changed = False
        for g in list(self.order):
            while g is not None and g in self.position and g.mode in ("map", "row") and not self.stopped:
                if not any(self._absorb(h, g) for h in self._reads(g)):
                    break
                changed = True
        return changed

    def _absorb(self, h: Group, g: Group) -> bool:
        """Joins ``h``, whose results ``g`` reads, to ``g``."""
        if not self._fits(h, g):
            return False
        seen = {self.seen[g][r] for r in h.roots if r in self.seen[g]}
        if g.mode == "map":
            if h.mode not in ("map", "fold", "contract", "row") or seen != {"same"} or squeezed(h.space) != squeezed(g.space):
                return False
            if h.mode != "map" and key(h.space) != key(g.space) and h.mode != "fold":
                return False
            return self._join(h, g, g if h.mode == "map" else h)
        if h.mode in ("map", "row") and seen == {"same"} and key(h.space) == key(g.space):
            return (h.mode == "map" or h.spread == g.spread) and self._join(h, g, g)
        if h.mode in ("map", "fold") and seen == {"row"} and squeezed(h.space) == squeezed(g.row):
            return (h.mode == "map" or self._domain(h) == (key(g.space), g.spread)) and self._join(h, g, g)
        return False

    def _domain(self, g: Group) -> tuple | None:
        """(shape, axes) of what a fold reduces, where all its reductions agree."""
        found = set()
        for n in g.members:
            if n.op.kind in ("reduction", "window"):
                axes = getattr(n.op, "axes", None)
                found.add(None if axes is None or n.op.kind == "window" else (key(n.inputs[0].shape), tuple(axes)))
        return found.pop() if len(found) == 1 else None

    # -- siblings

    def _siblings(self) -> bool:
        changed = False
        alike: dict[tuple, list[Group]] = {}
        for g in list(self.order):
            k = None if g is None else self._kind(g)
            if k is None or g is None:
                continue
            known = alike.setdefault(k, [])
            for h in reversed(known[-TRIES:]):
                if self.stopped or h not in self.position:
                    continue
                if self._fits(h, g) and self.position[g] - self.position[h] <= STRETCH and self._share(h, g) and self._join(h, g, h):
                    changed = True
                    break
            else:
                known.append(g)
        return changed

    def _kind(self, g: Group) -> tuple | None:
        """What siblings have in common."""
        if g.mode == "map":
            return ("map", g.setup, squeezed(g.space))
        if g.mode == "row":
            return ("row", g.setup, key(g.space), g.spread)
        domain = self._domain(g) if g.mode == "fold" else None
        return None if domain is None else ("fold", g.setup, domain, squeezed(g.space))

    def _share(self, h: Group, g: Group) -> bool:
        """Whether they read the same arrays: reductions and row kernels one at least, maps all large ones of one of them. Neither reads the other."""
        if any(self.owner.get(n) is h for n in self.seen[g]) or any(self.owner.get(n) is g for n in self.seen[h]):
            return False
        a, b = self._large(h), self._large(g)
        return bool(a & b) if g.mode != "map" else bool(a and b) and (a <= b or b <= a)

    def _large(self, g: Group) -> set[Node]:
        """Stored nodes that ``g`` reads at (about) every point."""
        return {n for n, level in self.seen[g].items() if level in ("same", "permuted", "view", "inner") and self._stored(n) and self.owner.get(n) is not g}

    def _stored(self, n: Node) -> bool:
        return n in self.owner or isinstance(n.op, (Input, Constant))
