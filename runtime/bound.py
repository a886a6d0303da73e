"""A plan bound to sizes: every number resolved, arena laid out, step table built. It runs calls of exactly these sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any

import numpy as np

from . import arena
from . import runner as r
from .context import Context, address
from .dim import resolve
from .errors import ArgumentError, DTypeError, IndexRangeError, OutOfMemoryError, ShapeError
from .host import call as host_call
from .plan import Plan, Port
from .prepare import Setup, Store
from .table import Place, Table


class Bound:
    """``plan`` for the free dimensions' ``values`` and a number of threads. ``timed``: as the profiler wants it, each step
    by itself."""

    def __init__(self, plan: Plan, values: Mapping[str, int], threads: int, store: Store, timed: bool = False):
        self.plan, self.values = plan, dict(values)
        self.sizes = [resolve(s.nbytes, values) for s in plan.slots]
        most = max(self.sizes, default=0)
        if most >= 2**46:  # beyond what a process can address; numbers of the step table would overflow next
            raise OutOfMemoryError(f"{plan.name}: one array of the call would take {most / 2**40:.0f} TiB")
        self.aliases = dict(plan.aliases)
        feeds = [i for i, p in enumerate(plan.inputs) if p.role == "input"]
        binds = [i for i, p in enumerate(plan.inputs) if p.role != "input"]
        self._binding_of = {i: n for n, i in enumerate(binds)}
        self._constants = {s: address(plan.constants[slot.index]) for s, slot in enumerate(plan.slots) if slot.kind == "constant"}
        self.shapes = tuple([tuple([resolve(d, values) for d in plan.inputs[i].shape]) for i in feeds])
        self.bound_ports = [plan.inputs[i] for i in binds]
        self._bound_shapes = [tuple([resolve(d, values) for d in p.shape]) for p in self.bound_ports]
        # Per output: shape, dtype, number of the binding that it updates or -1, number of the feed whose copy it updates or -1.
        self.results: list[tuple[tuple[int, ...], np.dtype, int, int]] = []
        for o, port in enumerate(plan.outputs):
            source = self.aliases.get(o)
            binding = self._binding_of.get(source, -1) if source is not None else -1
            feed = feeds.index(source) if source is not None and binding < 0 else -1
            self.results.append((tuple([resolve(d, values) for d in port.shape]), port.dtype.np, binding, feed))
        self.donated = tuple(
            sorted(
                {b for _, _, b, _ in self.results if b >= 0}
                | {self._binding_of[i] for i in binds if plan.inputs[i].role == "state"}
            )
        )
        self.setup = Setup(plan, values, self.sizes, self._constants, store, self._binding_of, threads) if plan.setup else None
        self._fixed = {**self._constants, **(self.setup.addresses if self.setup else {})}
        in_setup = {s for step in plan.setup for s in getattr(step, "slots", ())}
        planned = [s for s, slot in enumerate(plan.slots) if slot.kind == "arena" and s not in in_setup]
        intervals = [(self.sizes[s], plan.slots[s].first, plan.slots[s].last) for s in planned]
        offsets, self.arena_bytes = arena.place(intervals)
        self.unplanned_bytes = sum(-(-n // 64) * 64 for n, _, _ in intervals)
        self._offsets = dict(zip(planned, offsets, strict=True))
        donated_slots = frozenset(s for s in range(len(plan.slots)) if self._donates(s))
        self.table = Table(plan, plan.steps, values, self._place, self.sizes, donated_slots, threads, timed)
        self._uses: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for index, s, offset in self.table.uses:
            port = self._port(s)
            if port is not None:
                self._uses.setdefault(port, []).append((index, offset))
        self.feed_uses = [self._uses.get(("feed", n), []) for n in range(len(feeds))]
        self.bind_uses = [self._uses.get(("binding", n), []) for n in range(len(binds))]
        self.result_uses = [self._uses.get(("output", o), []) for o in range(len(plan.outputs))]
        self._errors = {e.code: e.message for e in plan.errors}
        self._feeds = feeds
        self._seen_versions: list[int] | None = None
        self._seen_arrays: list | None = None
        self.free: list[Context] = []
        self.whole = len(self.table.segments) == 1 and self.table.segments[0].host is None
        self.new_results = [
            (shape, dtype, uses)
            for (shape, dtype, b, f), uses in zip(self.results, self.result_uses, strict=True)
            if b < 0 and f < 0
        ]
        self.plain = self.whole and not self.donated and len(self.new_results) == len(self.results)

    def _port(self, s: int) -> tuple[str, int] | None:
        """("feed" | "binding" | "output", number) behind a slot; slots of an alias are those of what it updates."""
        slot = self.plan.slots[s]
        if slot.kind == "input":
            i = slot.index
        elif slot.kind == "output":
            if slot.index not in self.aliases:
                return "output", slot.index
            i = self.aliases[slot.index]
        else:
            return None
        if i in self._binding_of:
            return "binding", self._binding_of[i]
        return "feed", [j for j, p in enumerate(self.plan.inputs) if p.role == "input"].index(i)

    def _place(self, s: int) -> Place | None:
        kind = self.plan.slots[s].kind
        if kind == "constant":
            return None
        if kind == "arena":
            return "arena", 0, self._offsets.get(s, 0)
        if kind == "prepared":
            return "prepared", s, 0
        return (*self._port(s), 0)

    def _donates(self, s: int) -> bool:
        port = self._port(s)
        return port is not None and port[0] == "binding" and self.bound_ports[port[1]].role == "state"

    @property
    def nbytes(self) -> int:
        """Bytes of the contexts that wait for calls."""
        return sum(c.nbytes for c in self.free)

    def checkout(self) -> Context:
        """A context that no other call uses; to be appended to ``free`` afterwards."""
        try:
            return self.free.pop()
        except IndexError:
            return Context(self.table, self.arena_bytes, self._offsets, self._fixed)

    def prepare(self, bindings: Sequence[Any], arrays: list, lock) -> None:
        """Computes prepared buffers anew where a parameter that they are made from has changed."""
        depends = self.setup.depends
        versions = [bindings[n].version for n in depends]
        if versions == self._seen_versions and all(map(is_, [arrays[n] for n in depends], self._seen_arrays)):
            return
        with lock:
            for n in depends:
                self._check_bound(n, arrays[n])
            self.setup.refresh(arrays, {n: v for n, v in zip(depends, versions, strict=True)})
            self._seen_versions, self._seen_arrays = versions, [arrays[n] for n in depends]

    def attach(self, context: Context, arrays: list) -> None:
        """Writes the bound arrays' addresses into a context, where they have changed since its last call."""
        old = context.bound or [None] * len(arrays)
        for n, (a, b) in enumerate(zip(arrays, old, strict=True)):
            if a is not b:
                self._check_bound(n, a)
                at = address(a)
                for index, offset in self.bind_uses[n]:
                    context.pointers[index] = at + offset
        context.bound = arrays

    def _check_bound(self, n: int, a: Any) -> None:
        port: Port = self.bound_ports[n]
        what = f"the {port.role} bound to {port.name!r}"
        if not isinstance(a, np.ndarray) or a.dtype != port.dtype.np:
            raise DTypeError(f"{what} must be an array of {port.dtype}, not {getattr(a, 'dtype', type(a).__name__)}")
        if a.shape != self._bound_shapes[n]:
            raise ShapeError(f"{what} has shape {a.shape}, the plan was compiled for {self._bound_shapes[n]}")
        if not a.flags.c_contiguous or (n in self.donated and not a.flags.writeable):
            raise ArgumentError(f"{what} must be C-contiguous{' and writeable' if n in self.donated else ''}")

    def place(
        self, context: Context, arrays: list, feeds: Sequence[np.ndarray], outs: Sequence[np.ndarray | None] | None = None
    ) -> list:
        """Writes the pointers of one call into an attached context; returns the results' arrays, which the call will fill.
        ``outs``: arrays to write into, of exactly the results' shapes and dtypes, None for a new one."""
        pointers = context.pointers
        where = [address(a) for a in feeds]
        out: list[Any] = [None] * len(self.results)
        for o, (shape, dtype, binding, feed) in enumerate(self.results):
            if binding >= 0:
                out[o] = arrays[binding]
                continue
            given = outs[o] if outs is not None else None
            out[o] = np.empty(shape, dtype) if given is None else given
            if feed >= 0:  # updates an array of the caller's: in a copy
                out[o][...] = feeds[feed]
                where[feed] = address(out[o])
            else:
                at = address(out[o])
                for index, offset in self.result_uses[o]:
                    pointers[index] = at + offset
        for uses, at in zip(self.feed_uses, where, strict=True):
            for index, offset in uses:
                pointers[index] = at + offset
        context.feeds = where
        return out

    def run(
        self, context: Context, arrays: list, feeds: Sequence[np.ndarray], outs: Sequence[np.ndarray | None] | None = None
    ) -> list:
        """One call on a checked-out, attached context: results in the order of the plan's outputs. Raises ``IndexRangeError``
        (with donated memory unchanged), ``Stopped``."""
        out = self.place(context, arrays, feeds, outs)
        if self.whole:
            if context.execute(0, self.table.count) == r.ABORTED:
                raise self.failure(context)
            return out
        where = self.addresses(context, arrays, out)
        context.words[r.CTX_ERROR] = context.words[r.CTX_ABORT] = 0
        for segment in self.table.segments:
            if segment.host is None:
                if context.execute(segment.start, segment.end) == r.ABORTED:
                    raise self.failure(context)
            else:
                if context.words[r.CTX_ERROR]:  # its arguments may be garbage
                    raise self.failure(context)
                host_call(segment.host, where, self.values)
        return out

    def addresses(self, context: Context, arrays: list, out: list) -> dict[int, int]:
        """Where each slot lies in a call that has been placed."""
        where = dict(self._fixed)
        for s, offset in self._offsets.items():
            where[s] = context.arena_address + offset
        for s in range(len(self.plan.slots)):
            port = self._port(s)
            if port is not None:
                kind, n = port
                where[s] = context.feeds[n] if kind == "feed" else address(arrays[n] if kind == "binding" else out[n])
        return where

    def failure(self, context: Context) -> IndexRangeError:
        """The error of a call whose error word is set."""
        code = context.words[r.CTX_ERROR]
        return IndexRangeError(
            self._errors.get(code, f"an index lies outside its axis (error {code} of plan {self.plan.name!r})")
        )

    def untouched(self, context: Context) -> bool:
        """Whether the failed call of this context ended before it wrote to donated memory."""
        return bool(context.words[r.CTX_ABORT])
