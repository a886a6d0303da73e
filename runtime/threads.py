"""The pool of threads: parked in native code, one pool per process, made at first need and anew after a fork.

The threads are made by pthread_create, know nothing of Python, and take no signals. They spin for about 20 us after a call,
then sleep on a futex. The pool's memory is never unmapped, since a thread may look at it at any time.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import config, runner
from .errors import ArgumentError, InternalError

SPIN_NANOSECONDS = 20_000

_lock = threading.Lock()
_pool: Pool | None = None
_wanted: int | None = None
on_change: list[Callable[[], None]] = []  # called when the pool is replaced: what was laid out for its threads is stale


class Pool:
    """``threads`` threads, the caller included. ``address`` is what the runner takes."""

    def __init__(self, threads: int):
        self.threads = threads
        self.address = _map(runner.POOL_WORDS * runner.WORD)
        self._words = (ctypes.c_int64 * runner.POOL_WORDS).from_address(self.address)
        self._kept: dict[int, tuple[int, object]] = {}  # every change of it is one atomic step: ``free`` is called by destructors
        self._numbers = itertools.count()
        self._started = False

    def start(self) -> None:
        """Starts the threads, once."""
        native = runner.native()
        w = self._words
        w[runner.POOL_THREADS] = self.threads
        w[runner.POOL_EPOCH] = 1
        w[runner.POOL_SPINS] = _spins(native) if self.threads <= available() else 64
        libc = ctypes.CDLL(None)
        # A thread inherits the mask: signals go to Python's threads.
        old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for t in range(1, self.threads):
                line = runner.POOL_HAZARDS + 16 * t
                w[line + 1], w[line + 2], w[line + 3] = self.address, t, w[runner.POOL_SEQUENCE]
                handle = ctypes.c_ulong()
                failed = libc.pthread_create(
                    ctypes.byref(handle), None, ctypes.c_void_p(native.worker), ctypes.c_void_p(self.address + runner.WORD * line)
                )
                if failed:  # a limit on processes: the others do the work, with the same bits
                    break
                libc.pthread_detach(handle)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        self._started = True

    def retire(self) -> None:
        """Lets the threads end once the call that they are in has ended."""
        if self._started:
            runner.native().retire(self.address)

    def free(self, context: int, memory: object) -> None:
        """Lets go of ``memory``, which holds the context at this address, when no late thread still reads it."""
        self._kept[next(self._numbers)] = context, memory
        kept = list(self._kept.items())  # before the threads are looked at: a later one may have been entered since
        inside = {self._words[runner.POOL_HAZARDS + 16 * t] for t in range(1, self.threads)}
        for number, (at, _) in kept:
            if at not in inside:
                self._kept.pop(number, None)


def _map(nbytes: int) -> int:
    """Zeroed pages of the process, never given back."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    address = libc.mmap(None, nbytes, 3, 0x22, -1, 0)  # PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
    if address in (None, ctypes.c_void_p(-1).value):
        raise InternalError(f"no memory for the thread pool: {os.strerror(ctypes.get_errno())}")
    return address


def _spins(native: runner.Native) -> int:
    """How many relaxations of a core take 20 us: 10 to 40 ns each, depending on the CPU."""
    best = math.inf
    for _ in range(3):
        t = time.perf_counter_ns()
        native.relax(500)
        best = min(best, (time.perf_counter_ns() - t) / 500)
    return max(100, int(SPIN_NANOSECONDS / best))


def available() -> int:
    """Cores that this process may use: its affinity mask, capped by the CPU quota of its control group; at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cores = os.cpu_count() or 1
    quota = _quota()
    return max(1, min(cores, int(quota)) if quota is not None else cores)


def _quota(proc: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> float | None:
    """The least CPU quota, in cores, of this process' control group and those above it (both versions of cgroups)."""
    try:
        lines = Path(proc).read_text().splitlines()
    except OSError:
        return None
    least = None
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            base, read = Path(root), _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = Path(root) / controllers, _quota_v1
            if not base.is_dir():
                base = Path(root) / "cpu"
        else:
            continue
        parts = [p for p in path.split("/") if p not in ("", "..")]
        for n in range(len(parts) + 1):
            found = read(base.joinpath(*parts[:n]))
            if found is not None and (least is None or found < least):
                least = found
    return least


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota, period = (int((folder / f"cpu.cfs_{x}_us").read_text()) for x in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def num_threads() -> int:
    """Threads that a call uses: ``set_num_threads``, else KEROGEN_NUM_THREADS, else ``available()``."""
    global _wanted
    if _wanted is None:
        n = config.NUM_THREADS.get()
        _wanted = _checked(n) if n is not None else min(available(), runner.MAX_THREADS)
    return _wanted


def _checked(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= runner.MAX_THREADS:
        raise ArgumentError(f"the number of threads must be from 1 to {runner.MAX_THREADS}, not {n!r}")
    return n


def set_num_threads(n: int | None) -> None:
    """Sets the number of threads of this process' calls from now on (None: back to the default). Results don't depend on it."""
    global _wanted, _pool
    n = None if n is None else _checked(n)
    with _lock:
        _wanted = n
        if _pool is not None and _pool.threads != num_threads():
            _pool.retire()
            _pool = None
    for told in on_change:
        told()


def pool() -> Pool:
    """The pool of this process."""
    global _pool
    if _pool is None:
        with _lock:
            if _pool is None:
                fresh = Pool(num_threads())
                if fresh.threads > 1:
                    fresh.start()
                _pool = fresh
    return _pool


def _after_fork() -> None:
    global _pool, _lock
    _pool, _lock = None, threading.Lock()  # the child has none of the threads
    for told in on_change:
        told()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
