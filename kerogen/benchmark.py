"""``kerogen bench``: a model timed by itself or beside other runtimes, in alternated rounds of one process.

The machine that a benchmark runs on is rarely quiet, so nothing is timed once: in each round every runner is timed in turn (in
alternating
order, after a pause in which spinning worker threads of the other go to sleep), and what is reported is the median over rounds,
its spread,
and the ratio of the two times *within* a round, which a slow phase of the machine changes least.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter, sleep
from typing import Any

import numpy as np

from ._version import __version__
from .peers import open_peer
from .runtime.errors import ArgumentError
from .subject import Shape, Subject, largest_difference

WRONG = 1e-3  # largest |a - b| / (1 + |b|) between runtimes that still counts as the same result
_ROUND_SECONDS = 0.02
_PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Row:
    """One runner. Times in milliseconds a call; ``ratio``: its time over kerogen's in the same round (median, p5, p95)."""

    name: str
    median: float
    p5: float
    p95: float
    best: float
    calls_per_round: int
    compile_seconds: float
    gflops: float
    difference: float | None = None
    scaled_difference: float | None = None
    ratio: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class BenchReport:
    """What was measured, on what. ``ok``: all runners gave the same result."""

    model: str
    inputs: Mapping[str, str]
    threads: int
    precision: str
    rounds: int
    machine: str
    load: float
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        return all(r.scaled_difference is None or r.scaled_difference <= WRONG for r in self.rows)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        shapes = ", ".join(f"{k} {v}" for k, v in self.inputs.items())
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        out = [
            f"{self.model}  {shapes}   {self.precision}   {threads}   {self.rounds} alternated rounds   load {self.load:.1f}",
            "",
            f"{'':<20}{'median':>11}{'p5':>11}{'p95':>11}{'runs/s':>11}{'GFLOP/s':>10}{'compile':>10}{'max |diff|':>12}",
        ]
        for r in self.rows:
            diff = "" if r.difference is None else f"{r.difference:.1e}"
            out.append(
                f"{r.name:<20}{_time(r.median):>11}{_time(r.p5):>11}{_time(r.p95):>11}{1e3 / r.median:>11.4g}{r.gflops:>10.4g}"
                f"{r.compile_seconds:>8.2f} s{diff:>12}"
            )
        for r in self.rows[1:]:
            assert r.ratio is not None
            middle, low, high = r.ratio
            out.append(f"kerogen is {middle:.2f}x {r.name} (p5 {low:.2f}, p95 {high:.2f} over rounds; above 1 kerogen is faster)")
        if not self.ok:
            out.append(f"the results differ: more than {WRONG} of 1 + |value|")
        return "\n".join(out)


def bench(
    model: Any,
    *arrays: Any,
    peers: Sequence[str] = (),
    threads: int | None = None,
    rounds: int = 30,
    shapes: Mapping[str, Shape] | None = None,
    seed: int = 0,
) -> BenchReport:
    """Times ``model`` (a .onnx or .keras path, or a model) on ``arrays`` (or random inputs), beside ``peers`` ("onnxruntime").

    ``threads``: of every runner (default: the cores this process may use). ``shapes``: whole shapes of inputs; free dimensions
    are 1 otherwise.
    """
    from .runtime import threads as pool

    if rounds < 1:
        raise ArgumentError(f"rounds={rounds} must be positive")
    subject = Subject(model, shapes)
    feeds = subject.random(seed)
    if arrays:
        if len(arrays) != len(subject.names):
            raise ArgumentError(
                f"{subject.name} takes {len(subject.names)} inputs ({', '.join(subject.names)}), got {len(arrays)}"
            )
        feeds = dict(zip(subject.names, map(np.asarray, arrays)))
    before = pool.num_threads()
    count = before if threads is None else threads
    pool.set_num_threads(count)
    try:
        ours = subject.run(feeds)
        runners: list[tuple[str, Callable[[], Any], float]] = [
            (f"kerogen {__version__}", subject.caller(feeds), subject.compile_seconds)
        ]
        differences: list[tuple[float, float] | None] = [None]
        for name in peers:
            begin = perf_counter()
            peer = open_peer(name, subject.as_onnx(), count)
            theirs = peer.run(feeds)
            runners.append((peer.label, lambda peer=peer: peer.run(feeds), perf_counter() - begin))
            differences.append(largest_difference(ours, theirs))
        times, calls = alternate([r[1] for r in runners], rounds)
    finally:
        pool.set_num_threads(before)
    flops = subject.flops()
    rows = []
    for i, (name, _, seconds) in enumerate(runners):
        t = times[i] * 1e3
        ratio = None if i == 0 else tuple(float(np.percentile(times[i] / times[0], q)) for q in (50, 5, 95))
        middle = float(np.median(t))
        d = differences[i]
        rows.append(
            Row(
                name,
                middle,
                float(np.percentile(t, 5)),
                float(np.percentile(t, 95)),
                float(t.min()),
                calls[i],
                seconds,
                flops / middle / 1e6,
                None if d is None else d[0],
                None if d is None else d[1],
                ratio,
            )
        )  # type: ignore[arg-type]
    inputs = {n: f"{subject.inputs[i].dtype}{list(feeds[n].shape)}" for i, n in enumerate(subject.names)}
    return BenchReport(
        subject.name,
        inputs,
        count,
        "highest",
        rounds,
        f"{platform.machine()} {platform.system()} {_cpu()}",
        os.getloadavg()[0],
        tuple(rows),
    )


def alternate(runners: Sequence[Callable[[], Any]], rounds: int) -> tuple[list[np.ndarray], list[int]]:
    """Seconds per call of each runner in each round, and calls per round. The order within rounds alternates."""
    calls = []
    for f in runners:
        f()
        begin = perf_counter()
        f()
        calls.append(max(1, min(10_000, int(_ROUND_SECONDS / max(perf_counter() - begin, 1e-7)))))
    times = [np.empty(rounds) for _ in runners]
    for r in range(rounds):
        order = range(len(runners)) if r % 2 == 0 else range(len(runners) - 1, -1, -1)
        for i in order:
            f, n = runners[i], calls[i]
            if len(runners) > 1:
                sleep(_PAUSE_SECONDS)
            f()
            begin = perf_counter()
            for _ in range(n):
                f()
            times[i][r] = (perf_counter() - begin) / n
    return times, calls


def _time(ms: float) -> str:
    return f"{ms:.3g} ms" if ms >= 1 else f"{ms * 1e3:.3g} us"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as f:
            return next((line.partition(":")[2].strip() for line in f if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
