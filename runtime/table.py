"""Step tables: a plan's steps with every number resolved, cut into groups and chunks, in the form that the runner executes.

What is decided here never changes a result: which steps form one group (chains of tiny ones, on one thread without a
barrier), into how many chunks a large one is cut, and which earlier groups a group has to wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import cpu
from . import runner as r
from .dim import resolve
from .loop import Tables, function_of
from .plan import BranchCall, HostCall, KernelCall, LoopCall, Move, Plan, Step

# Rough rates of one core, to tell a tiny step from a large one.
FLOPS_PER_SECOND = 60e9
BYTES_PER_SECOND = 20e9
TINY_SECONDS = 2e-6  # a step below this isn't worth a barrier (0.2-0.5 us) and cold caches on another core
CHUNK_SECONDS = 40e-6
MAX_CHUNKS = 64  # per thread
ALONE_SECONDS = 6e-6  # a whole call below this isn't worth waking the pool
GROUP_SECONDS = 100e-6  # a chain longer than this is cut: the clock is looked at between groups
INTERRUPTIBLE_SECONDS = 200e-6
BUDGET_NANOSECONDS = 50_000_000
UNROLLED_STEPS = 1 << 15  # steps of a loop that the table may list one by one
UNKNOWN_TRIP = 16  # iterations assumed of a loop that its condition ends
SPAN_SECONDS = 5e-3  # of a long loop are one step: between steps the caller looks at the clock

# Where a slot's memory is: (kind, number, offset in bytes); two accesses of the same (kind, number) may overlap.
Place = tuple[str, int, int]


@dataclass(frozen=True)
class Call:
    """A kernel call with plain ints, or a loop or branch that is executed as a whole. ``slots`` and ``offsets`` place its buffers."""

    step: KernelCall | LoopCall | BranchCall
    slots: tuple[int, ...]
    offsets: tuple[int, ...]
    params: tuple[int, ...]
    units: int
    seconds: float
    flops: int
    nbytes: int
    span: tuple[int, int] | None = None  # iterations [first, end) of a loop; None: all


@dataclass(frozen=True)
class Segment:
    """Groups [start, end) of the table, or a host call."""

    start: int
    end: int
    host: HostCall | None = None


@dataclass
class _Group:
    calls: list[int]
    chunks: int
    seconds: float
    flags: int = 0
    after: int = -1


def resolve_call(step: KernelCall, sizes: Sequence[int], values: Mapping[str, int]) -> Call:
    """``step`` for these values of the free dimensions. Where it doesn't say its bytes, its slots' do (no ``sizes``: in a
    loop, whose slots are other numbers)."""
    flops, nbytes = resolve(step.flops, values), resolve(step.nbytes, values)
    if not flops and not nbytes and sizes:
        nbytes = sum(sizes[s] for s in set(step.slots))
    return Call(
        step,
        step.slots,
        tuple([resolve(o, values) for o in step.offsets]),
        tuple([resolve(p, values) for p in step.params]),
        resolve(step.units, values),
        max(flops / FLOPS_PER_SECOND, nbytes / BYTES_PER_SECOND),
        flops,
        nbytes,
    )


class _Control:
    """Loops and branches for these sizes: how long they take, and their steps one by one."""

    def __init__(self, sizes: Sequence[int], values: Mapping[str, int], threads: int):
        self.sizes, self.values, self.threads = sizes, values, threads

    def resolve(self, step: LoopCall | BranchCall) -> Call:
        """The step as a whole: one unit, on one thread."""
        offsets = tuple([resolve(o, self.values) for o in step.offsets])
        seconds, flops, nbytes = self._cost(step)
        return Call(step, step.slots, offsets, (), 1, seconds, flops, nbytes)

    def _cost(self, step: Step) -> tuple[float, int, int]:
        if isinstance(step, KernelCall):
            call = resolve_call(step, (), self.values)
            return (call.seconds, call.flops, call.nbytes) if call.units > 0 else (0.0, 0, 0)
        assert not isinstance(step, HostCall)
        if isinstance(step, BranchCall):
            return max(self._sum(step.then), self._sum(step.otherwise))
        seconds, flops, nbytes = self._sum(step.steps)
        trip = UNKNOWN_TRIP if step.condition >= 0 else resolve(step.trip, self.values)
        return trip * seconds, trip * flops, trip * nbytes

    def _sum(self, steps: Sequence[Step]) -> tuple[float, int, int]:
        costs = [self._cost(s) for s in steps]
        return sum(c[0] for c in costs), sum(c[1] for c in costs), sum(c[2] for c in costs)

    def spans(self, step: LoopCall | BranchCall) -> list[Call]:
        """The step as one call, or a long loop as calls over spans of its iterations. Of a loop that its condition ends nobody knows the length: each span
        is three times the one before, so that a signal waits at most about twice as long as the loop took until then."""
        whole = self.resolve(step)
        if not isinstance(step, LoopCall):
            return [whole]
        trip = resolve(step.trip, self.values)
        each = max(1e-9, self._sum(step.steps)[0])
        if step.condition < 0 and trip * each <= 2 * SPAN_SECONDS:
            return [whole]
        length = max(1, min(trip, round(SPAN_SECONDS / each)))
        if step.condition < 0:
            length = max(length, -(-trip // UNROLLED_STEPS))
        out, first = [], 0
        while first < trip:
            end = min(trip, first + length)
            share = (end - first) / trip if step.condition < 0 else 0.0 if out else 1.0
            out.append(replace(whole, span=(first, end), seconds=whole.seconds * share, flops=round(whole.flops * share), nbytes=round(whole.nbytes * share)))
            first, length = end, length if step.condition < 0 else 3 * length
        return out

    def worth_listing(self, step: LoopCall | BranchCall, timed: bool) -> bool:
        """Whether a loop is better listed step by step: its steps are worth sharing, or it takes so long that Ctrl-C must get through."""
        if not isinstance(step, LoopCall) or step.condition >= 0:
            return False
        trip = resolve(step.trip, self.values)
        if trip * len(step.steps) > UNROLLED_STEPS:
            return False
        if timed or trip * self._sum(step.steps)[0] > INTERRUPTIBLE_SECONDS:
            return True
        return self.threads > 1 and any(self._cost(s)[0] >= TINY_SECONDS for s in step.steps)

    def listed(self, step: LoopCall) -> list[Call]:
        """The calls of all iterations, in order, over the slots of the plan."""
        out: list[Call] = []
        outer = [resolve(o, self.values) for o in step.offsets]
        inner = [self._inner(s, step.slots, outer) for s in step.steps]
        for t in range(resolve(step.trip, self.values)):
            for call, moves in inner:
                if call.units <= 0:
                    continue
                if moves:
                    at = list(call.offsets)
                    for i, stride, phase, modulus in moves:
                        at[i] += stride * ((t + phase) % modulus if modulus else t + phase)
                    call = replace(call, offsets=tuple(at))
                out.append(call)
        return out

    def _inner(self, s: Step, slots: Sequence[int], outer: Sequence[int]) -> tuple[Call, list[tuple[int, int, int, int]]]:
        """A step of a loop over the plan's slots, as in iteration 0 without its moves; and these, by buffer."""
        assert not isinstance(s, HostCall)
        call = resolve_call(s, (), self.values) if isinstance(s, KernelCall) else self.resolve(s)
        offsets = tuple([o + outer[n] for o, n in zip(call.offsets, s.slots)])
        moves = [(i, resolve(m.stride, self.values), m.phase, m.modulus) for i, m in enumerate(s.moves) if isinstance(m, Move)]
        around = {"reads": tuple([slots[n] for n in s.reads]), "writes": tuple([slots[n] for n in s.writes])}
        return replace(call, step=replace(s, **around), slots=tuple([slots[n] for n in s.slots]), offsets=offsets), moves


class Table:
    """The resolved steps of one plan for one set of sizes. ``places`` tells where a slot lies, ``sizes`` its bytes, ``donated``
    which slots are memory that must not change if the call fails. ``timed``: every step is a group of its own, for profiling.

    ``uses``: (index in the pointer table, slot, offset) of every pointer that the kernels take. ``gate``: the group that tests
    the error word before the first donated write, or -1."""

    def __init__(
        self,
        plan: Plan,
        steps: Sequence[Step],
        values: Mapping[str, int],
        places: Callable[[int], Place | None],
        sizes: Sequence[int],
        donated: frozenset[int],
        threads: int,
        timed: bool = False,
    ):
        self.timed = timed
        self.calls: list[Call] = []
        self.uses: list[tuple[int, int, int]] = []
        self.segments: list[Segment] = []
        self.scratch = max((-(-resolve(s.scratch, values) // 64) * 64 for s in kernels(steps)), default=0)
        self._values = values
        self.gate = -1
        self._groups: list[_Group] = []
        self._places, self._sizes = places, sizes
        self._known: dict[int, tuple[set, set]] = {}
        self._accesses: list[tuple[set, set]] = []  # of each group: places read, places written
        self._first = 0  # group at which the current segment starts
        self._donated = donated
        self._threads = threads
        control = _Control(sizes, values, threads)
        endless = False
        for step in steps:
            if isinstance(step, (LoopCall, BranchCall)):
                self._gate_before(step.writes)
                endless |= isinstance(step, LoopCall) and step.condition >= 0
                for call in control.listed(step) if control.worth_listing(step, timed) else control.spans(step):
                    self._add(call)
            elif isinstance(step, HostCall):
                self._gate_before(step.outputs)
                self._close()
                self.segments.append(Segment(0, 0, step))
            else:
                call = resolve_call(step, sizes, values)
                if call.units > 0:
                    self._gate_before(step.writes or step.slots)
                    self._add(call)
        self._close()
        self.seconds = sum(g.seconds for g in self._groups)
        if threads > 1 and self.seconds < ALONE_SECONDS and not timed:
            threads = 1
        self.threads = threads if any(g.chunks > 1 for g in self._groups) else 1
        self.budget = BUDGET_NANOSECONDS if self.seconds > INTERRUPTIBLE_SECONDS or endless else 0
        self._emit(plan)

    def _gate_before(self, writes: Sequence[int]) -> None:
        if self.gate < 0 and self._donated and not self._donated.isdisjoint(writes):
            self.gate = len(self._groups)
            self._groups.append(_Group([], 1, 0.0, r.CHECK, self.gate - 1))
            self._accesses.append((set(), set()))

    def _close(self) -> None:
        if len(self._groups) > self._first:
            self.segments.append(Segment(self._first, len(self._groups)))
        self._first = len(self._groups)

    def _add(self, call: Call) -> None:
        index = len(self.calls)
        self.calls.append(call)
        chunks = self._chunks(call)
        known = self._known.get(id(call.step))  # the iterations of a loop share their steps
        reads, writes = known if known is not None else self._known.setdefault(id(call.step), self._touched(call))
        last = self._groups[-1] if len(self._groups) > self._first else None
        if (
            chunks == 1
            and last is not None
            and last.chunks == 1
            and not last.flags
            and not self.timed
            and call.span is None
            and last.seconds < GROUP_SECONDS
        ):
            last.calls.append(index)
            last.seconds += call.seconds
            old_reads, old_writes = self._accesses[-1]
            self._accesses[-1] = (old_reads | reads, old_writes | writes) if not (reads <= old_reads and writes <= old_writes) else (old_reads, old_writes)
            # The chain as a whole waits for what any of its steps needs.
            last.after = max(last.after, self._after(len(self._groups) - 1, reads, writes))
            return
        at = len(self._groups)
        after = at - 1 if self.timed else self._after(at, reads, writes)
        self._groups.append(_Group([index], chunks, call.seconds, 0, max(after, self.gate if self.gate >= self._first else -1)))
        self._accesses.append((reads, writes))

    def _chunks(self, call: Call) -> int:
        if self._threads == 1 or call.seconds < TINY_SECONDS:
            return 1
        per_thread = max(1, min(MAX_CHUNKS, round(call.seconds / self._threads / CHUNK_SECONDS)))
        return max(1, min(call.units, self._threads * per_thread))

    def _touched(self, call: Call) -> tuple[set, set]:
        step = call.step
        if step.reads or step.writes:
            return self._ranges(step.reads), self._ranges(step.writes)
        both = self._ranges(call.slots)
        return both, set(both)

    def _ranges(self, slots: Sequence[int]) -> set[tuple[str, int, int, int]]:
        out = set()
        for s in dict.fromkeys(slots):
            place = self._places(s)
            if place is not None:
                kind, number, offset = place
                out.add((kind, number, offset, offset + self._sizes[s]))
        return out

    def _after(self, at: int, reads: set, writes: set) -> int:
        """The latest group before ``at``, in this segment, that touches what this one writes or writes what it reads."""
        for g in range(at - 1, self._first - 1, -1):
            old_reads, old_writes = self._accesses[g]
            if _meet(writes, old_writes) or _meet(writes, old_reads) or _meet(reads, old_writes):
                return g
        return self._first - 1

    def _emit(self, plan: Plan) -> None:
        symbols: dict[str, set[str]] = {}
        for step in kernels([c.step for c in self.calls]):
            symbols.setdefault(step.image, set()).add(step.symbol)
        addresses = {image: cpu.load(plan.images[image], names) for image, names in symbols.items()}
        tables = Tables(lambda step: addresses[step.image][step.symbol], lambda n: resolve(n, self._values))
        self._tables = tables.kept
        counts = [len(c.params) for c in self.calls]
        params = np.zeros(max(1, sum(counts)), np.int64)
        steps = np.zeros((max(1, len(self.calls)), r.STEP_WORDS), np.int64)
        base = params.ctypes.data
        at = pointers = 0
        order = [i for g in self._groups for i in g.calls]
        for row, i in enumerate(order):
            call = self.calls[i]
            params[at : at + len(call.params)] = call.params
            if isinstance(call.step, KernelCall):
                steps[row] = (addresses[call.step.image][call.step.symbol], 8 * pointers, base + 8 * at, call.units)
            else:
                steps[row] = (function_of(call.step), 8 * pointers, tables.of(call.step, call.span), 1)
            for slot, offset in zip(call.slots, call.offsets, strict=True):
                self.uses.append((pointers, slot, offset))
                pointers += 1
            at += len(call.params)
        groups = np.zeros((max(1, len(self._groups)), r.GROUP_WORDS), np.int64)
        row = 0
        for i, g in enumerate(self._groups):
            groups[i, :5] = row, len(g.calls), g.chunks, g.after, g.flags | (r.CLOCK if self.budget else 0)
            row += len(g.calls)
        self.steps, self.groups, self.params, self.pointers = steps, groups, params, max(1, pointers)
        self.group_calls = [[self.calls[i] for i in g.calls] for g in self._groups]
        del self._groups, self._accesses, self._known

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.group_calls)


def kernels(steps: Sequence[Step]) -> Iterator[KernelCall]:
    """The kernel calls among ``steps``, those in loops and branches too."""
    for s in steps:
        if isinstance(s, KernelCall):
            yield s
        elif isinstance(s, LoopCall):
            yield from kernels(s.steps)
        elif isinstance(s, BranchCall):
            yield from kernels((*s.then, *s.otherwise))


def _meet(a: set, b: set) -> bool:
    return not a.isdisjoint(b) or any(ka == kb and na == nb and x < w and v < y for ka, na, x, y in a for kb, nb, v, w in b)
