"""Prepared buffers: what a plan's setup steps make of parameters and constants (packed weights), once per version.

Buffers are kept per executable by what they are computed from, so that plans for other batch sizes share them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import runner as r
from .context import Context, aligned
from .dim import resolve
from .errors import InternalError
from .host import call as host_call
from .plan import BranchCall, HostCall, LoopCall, Plan, Step
from .table import Place, Table


@dataclass
class _Buffer:
    memory: np.ndarray
    address: int
    made_from: dict[int, tuple[Any, int]] | None = None  # binding -> (array, version) at the last computation


@dataclass
class Store:
    """All prepared buffers of one executable, by key."""

    buffers: dict[str, _Buffer] = field(default_factory=dict)
    runs: int = 0  # setup steps executed, for stats

    @property
    def nbytes(self) -> int:
        return sum(b.memory.nbytes for b in self.buffers.values())


class Setup:
    """The setup steps of a plan for one set of sizes. ``addresses``: of the prepared slots; ``depends``: the numbers of the bound
    ports that they are computed from."""

    def __init__(
        self,
        plan: Plan,
        values: Mapping[str, int],
        sizes: Sequence[int],
        constants: Mapping[int, int],
        store: Store,
        bound_ports: Mapping[int, int],
        threads: int,
    ):
        self._plan, self._values, self._sizes, self._constants, self._threads = plan, values, sizes, constants, threads
        self._store, self._bound_ports = store, bound_ports
        self._contexts: dict[tuple[int, ...], tuple[Table, Context, list]] = {}
        self._steps = [(s, *_touched(s)) for s in plan.setup]
        self.buffers: dict[int, _Buffer] = {}
        self._needs: dict[int, set[int]] = {}  # slot -> bound ports that it is computed from
        self._identify()
        self.addresses = {s: b.address for s, b in self.buffers.items()}
        self.depends = tuple(sorted(set().union(*[self._needs[s] for s in self.buffers]))) if self.buffers else ()

    def _identify(self) -> None:
        """Gives every prepared slot a key, which tells how it is computed, and its buffer."""
        slots = self._plan.slots
        keys: dict[int, str] = {}

        def key(s: int) -> str:
            if s not in keys:
                slot = slots[s]
                if slot.kind == "constant":
                    keys[s] = "constant " + _digest(self._plan.constants[slot.index])
                    self._needs[s] = set()
                elif slot.kind == "input":
                    if slot.index not in self._bound_ports:
                        raise InternalError("a setup step reads an input that is given at each call")
                    number = self._bound_ports[slot.index]
                    keys[s], self._needs[s] = f"binding {number}", {number}
                else:
                    keys[s], self._needs[s] = f"{slot.kind} {self._sizes[s]}", set()
            return keys[s]

        for step, reads, writes in self._steps:
            described = hashlib.sha256(repr((self._describe(step), [key(s) for s in _all_slots(step)])).encode()).hexdigest()
            needs = set().union(*[self._needs[s] for s in {*reads, *writes}])
            for n, s in enumerate(writes):
                keys[s], self._needs[s] = f"{described} {n}", needs
        for s, slot in enumerate(slots):
            if slot.kind == "prepared":
                name = key(s)
                buffer = self._store.buffers.get(name)
                if buffer is None:
                    memory, address = aligned(self._sizes[s])
                    buffer = self._store.buffers[name] = _Buffer(memory, address)
                self.buffers[s] = buffer

    def _describe(self, step: Step) -> tuple:
        if isinstance(step, (LoopCall, BranchCall)):
            return self._nested(step)
        if isinstance(step, HostCall):
            return (
                step.function,
                step.attributes,
                [(tuple(resolve(d, self._values) for d in shape), t.name) for shape, t in step.types],
            )
        numbers = [tuple(resolve(x, self._values) for x in xs) for xs in (step.params, step.offsets, (step.units, step.scratch))]
        return (hashlib.sha256(self._plan.images[step.image]).hexdigest(), step.symbol, numbers)

    def _nested(self, step: LoopCall | BranchCall) -> tuple:
        sides = (step.steps,) if isinstance(step, LoopCall) else (step.then, step.otherwise)
        moves = [None if m is None else (resolve(m.stride, self._values), m.phase, m.modulus) for m in step.moves]
        own = (step.condition, resolve(step.trip, self._values)) if isinstance(step, LoopCall) else (step.predicate,)
        inner = [[(s.slots, [m and (resolve(m.stride, self._values), m.phase, m.modulus) for m in s.moves], self._describe(s)) for s in side]
                 for side in sides if all(not isinstance(s, HostCall) for s in side)]
        return (own, [resolve(o, self._values) for o in step.offsets], moves, inner)

    def refresh(self, arrays: Sequence[Any], versions: Sequence[int]) -> None:
        """Computes what is missing or was made from older values. ``arrays`` and ``versions`` of all bindings."""
        state = {s: {n: (arrays[n], versions[n]) for n in self._needs[s]} for s in self.buffers}
        wanted = {s for s, b in self.buffers.items() if not _same(b.made_from, state[s])}
        stale = set(wanted)
        if not wanted:
            return
        chosen = []
        for i in range(len(self._steps) - 1, -1, -1):
            _, reads, writes = self._steps[i]
            if not wanted.isdisjoint(writes):
                chosen.append(i)
                wanted |= {s for s in reads if s not in self.buffers or s in stale or s in writes}
        chosen.reverse()
        for s in stale:
            self.buffers[s].made_from = None
        self._execute(tuple(chosen), arrays)
        self._store.runs += len(chosen)
        for s in stale:
            self.buffers[s].made_from = state[s]

    def _execute(self, chosen: tuple[int, ...], arrays: Sequence[Any]) -> None:
        if chosen not in self._contexts:
            steps = [self._steps[i][0] for i in chosen]
            table = Table(self._plan, steps, self._values, self._place, self._sizes, frozenset(), self._threads)
            offsets, total = {}, 0
            for s in dict.fromkeys(s for step in steps for s in _all_slots(step)):
                if self._plan.slots[s].kind == "arena":
                    offsets[s] = total
                    total += -(-self._sizes[s] // 64) * 64
            context = Context(table, total, offsets, {**self.addresses, **self._constants})
            bound = [(i, s, o) for i, s, o in table.uses if self._plan.slots[s].kind == "input"]
            self._contexts[chosen] = (table, context, [offsets, bound])
        table, context, (offsets, bound) = self._contexts[chosen]
        from .context import address

        where = {**self._constants, **self.addresses, **{s: context.arena_address + o for s, o in offsets.items()}}
        for s, slot in enumerate(self._plan.slots):
            if slot.kind == "input" and slot.index in self._bound_ports:
                where[s] = address(arrays[self._bound_ports[slot.index]])
        for index, slot, offset in bound:
            context.pointers[index] = where[slot] + offset
        for segment in table.segments:
            if segment.host is not None:
                host_call(segment.host, where, self._values)
            elif context.execute(segment.start, segment.end) == r.ABORTED:
                raise InternalError("a setup step reported an index out of range")
        # Large plans prepare once: the scratch and the tables aren't worth keeping.
        self._contexts.clear()

    def _place(self, s: int) -> Place | None:
        slot = self._plan.slots[s]
        return None if slot.kind == "constant" else (slot.kind, slot.index if slot.kind == "input" else s, 0)


def _same(seen: dict[int, tuple[Any, int]] | None, now: dict[int, tuple[Any, int]]) -> bool:
    return seen is not None and all(seen[n][0] is a and seen[n][1] == v for n, (a, v) in now.items())


def _all_slots(step: Step) -> tuple[int, ...]:
    return (*step.inputs, *step.outputs) if isinstance(step, HostCall) else step.slots


def _touched(step: Step) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(step, HostCall):
        return step.inputs, step.outputs
    return (step.reads, step.writes) if step.writes else (step.slots, step.slots)


def _digest(a: np.ndarray) -> str:
    return hashlib.sha256(
        repr((a.dtype.name, a.shape)).encode() + np.ascontiguousarray(a).reshape(-1).view(np.uint8).data
    ).hexdigest()
