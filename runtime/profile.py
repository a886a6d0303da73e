"""Measuring a call: time, arithmetic and traffic of every step, as a table or as a trace for Chrome and Perfetto."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import runner as r
from .bound import Bound
from .context import Stopped
from .host import call as host_call
from .table import Call


@dataclass(frozen=True)
class Row:
    """One step (all its ``calls`` in a loop together): median ``us``, and the rates that follow from what it says to compute and to move."""

    name: str
    origin: str
    calls: int
    us: float
    gflops: float
    gbytes: float


@dataclass(frozen=True)
class Profile:
    """Steps in order of execution; ``total_us`` is the median of whole calls. ``print(profile)`` shows it, slowest first."""

    rows: tuple[Row, ...]
    total_us: float
    threads: int
    title: str

    def __str__(self) -> str:
        widths = max([4, *[len(x.name) for x in self.rows]]), max([5, *[len(x.origin) for x in self.rows]])
        name, origin = (min(w, 48) for w in widths)
        lines = [f"{'step':{name}}  {'origin':{origin}}  {'us':>10}  {'%':>5}  {'GFLOP/s':>8}  {'GB/s':>7}"]
        whole = sum(x.us for x in self.rows) or 1.0
        for x in sorted(self.rows, key=lambda x: -x.us):
            lines.append(
                f"{x.name[:name]:{name}}  {x.origin[-origin:]:{origin}}  {x.us:10.2f}  {100 * x.us / whole:5.1f}  "
                f"{x.gflops:8.1f}  {x.gbytes:7.1f}"
            )
        lines.append(
            f"{self.title}: {self.total_us:.2f} us a call on {self.threads} thread{'s' * (self.threads > 1)}, "
            f"{len(self.rows)} steps"
        )
        return "\n".join(lines)

    def to_chrome(self, path: str | os.PathLike) -> None:
        """Writes the steps of one call as a trace for chrome://tracing or ui.perfetto.dev."""
        events, at = [], 0.0
        for x in self.rows:
            arguments = {"origin": x.origin, "GFLOP/s": round(x.gflops, 2), "GB/s": round(x.gbytes, 2)}
            events.append({"name": x.name, "ph": "X", "ts": at, "dur": x.us, "pid": 1, "tid": 1, "args": arguments})
            at += x.us
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, f)


def measure(bound: Bound, arrays: list, feeds: Sequence[np.ndarray], repeat: int, title: str) -> Profile:
    """Runs a timed ``bound`` ``repeat`` times (after one warm-up) on copies of the donated state, and takes each step's
    median."""
    table = bound.table
    arrays = [a.copy() if n in bound.donated else a for n, a in enumerate(arrays)]
    context = bound.checkout()
    context.bound = None
    bound.attach(context, arrays)
    stamps = np.zeros(table.count + 1, np.int64)
    # Stamp g is written after group g, so that the first word, before it, is when the segment began.
    context.words[r.CTX_TIMES] = stamps.ctypes.data + 8
    times = np.zeros((repeat, table.count))
    host: list[list[float]] = [[] for _ in table.segments]
    wholes = []
    for n in range(-1, repeat):
        outs = bound.place(context, arrays, feeds)
        where = bound.addresses(context, arrays, outs) if not bound.whole else {}
        began = time.perf_counter_ns()
        for k, segment in enumerate(table.segments):
            t = time.perf_counter_ns()
            if segment.host is not None:
                host_call(segment.host, where, bound.values)
                host[k].append((time.perf_counter_ns() - t) / 1e3)
                continue
            try:
                if context.execute(segment.start, segment.end):
                    raise bound.failure(context)
            except Stopped as e:
                raise e.__cause__ from None
            if n >= 0:
                ends = stamps[1 + segment.start : 1 + segment.end]
                times[n, segment.start : segment.end] = np.diff(ends, prepend=t) / 1e3
        if n >= 0:
            wholes.append((time.perf_counter_ns() - began) / 1e3)
    rows: list[Row] = []
    places: dict[int, int] = {}  # of each step in the rows
    medians = np.median(times, axis=0) if repeat else np.zeros(table.count)
    for k, segment in enumerate(table.segments):
        if segment.host is not None:
            us = float(np.median(host[k][1:] or host[k]))
            rows.append(Row(segment.host.function, segment.host.origin, 1, us, 0.0, 0.0))
            continue
        for g in range(segment.start, segment.end):
            for call in table.group_calls[g]:
                us = max(float(medians[g]), 1e-3)
                k = places.setdefault(id(call.step), len(rows))
                if k == len(rows):
                    rows.append(_row(call, us))
                else:  # the same step of a loop again
                    rows[k] = _both(rows[k], _row(call, us))
    return Profile(tuple(rows), float(np.median(wholes)), table.threads, title)


def _row(call: Call, us: float) -> Row:
    name = call.step.name or getattr(call.step, "symbol", "")
    return Row(name, call.step.origin, 1, us, call.flops / us / 1e3, call.nbytes / us / 1e3)


def _both(a: Row, b: Row) -> Row:
    us = a.us + b.us
    rates = (a.gflops * a.us + b.gflops * b.us) / us, (a.gbytes * a.us + b.gbytes * b.us) / us
    return Row(a.name, a.origin, a.calls + b.calls, us, *rates)


@dataclass(frozen=True)
class Memory:
    """Bytes: ``weights`` (constants and bound arrays), ``prepared`` (made of them once), ``arena`` (of one call), and
    ``unplanned``, what the arena's buffers would take without sharing."""

    weights: int
    prepared: int
    arena: int
    unplanned: int

    @property
    def total(self) -> int:
        return self.weights + self.prepared + self.arena

    def __str__(self) -> str:
        mib = 2**20
        return (
            f"weights {self.weights / mib:.2f} MiB, prepared {self.prepared / mib:.2f} MiB, "
            f"arena {self.arena / mib:.2f} MiB (unplanned {self.unplanned / mib:.2f} MiB)"
        )
