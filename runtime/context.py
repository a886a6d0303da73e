"""The memory of one call in flight: pointer table, scratch, arena, error word. A context serves one call at a time."""

from __future__ import annotations

from ctypes import addressof, c_char
from functools import partial

import numpy as np

from . import runner as r
from . import threads
from .errors import OutOfMemoryError
from .table import Table

HELD_SECONDS = 20e-6  # a call shorter than this keeps Python's lock

_from_buffer = c_char.from_buffer


def address(a: np.ndarray) -> int:
    """Where the elements of a C-contiguous array begin. (``a.ctypes.data`` takes three times as long.)"""
    try:
        return addressof(_from_buffer(a))
    except (TypeError, ValueError, BufferError):  # read-only, empty, or a dtype that buffers can't describe
        return a.ctypes.data


def aligned(nbytes: int) -> tuple[np.ndarray, int]:
    """Uninitialised bytes and the first address in them that is a multiple of 64; ``nbytes`` follow it."""
    try:
        memory = np.empty(nbytes + 64, np.uint8)
    except (MemoryError, ValueError, OverflowError):
        raise OutOfMemoryError(f"a call needs {nbytes / 2**30:.1f} GiB of working memory, which can't be had") from None
    return memory, (address(memory) + 63) & ~63


class Context:
    """One call's memory for the steps of ``table``. ``arena_bytes`` is the arena's size; ``fixed`` gives the addresses of the
    slots that stay where they are (constants, prepared), ``arena_offsets`` those of the slots in the arena."""

    def __init__(self, table: Table, arena_bytes: int, arena_offsets: dict[int, int], fixed: dict[int, int]):
        self.table = table
        pool = threads.pool()
        n, words = table.threads, r.CTX_WORDS
        tls, done, pointers = words, words + 8 * n, words + 8 * n + table.count
        pointers = (pointers + 7) // 8 * 8
        total = pointers + table.pointers
        raw, base = aligned(8 * total)
        head = raw[base - address(raw) :][: 8 * total].view(np.int64)
        head[:] = 0
        scratch_raw, scratch = aligned(table.scratch * n + arena_bytes)
        arena = scratch + table.scratch * n
        head[r.CTX_STEPS] = table.steps.ctypes.data
        head[r.CTX_GROUPS] = table.groups.ctypes.data
        head[r.CTX_BUFFERS] = base + 8 * pointers
        head[r.CTX_END] = head[r.CTX_COUNT] = table.count
        head[r.CTX_THREADS] = n
        head[r.CTX_TLS] = base + 8 * tls
        head[r.CTX_DONE] = base + 8 * done
        head[r.CTX_BUDGET] = table.budget
        head[r.CTX_POOL] = pool.address
        for t in range(n):
            head[tls + 8 * t] = scratch + t * table.scratch
            head[tls + 8 * t + 1] = base + 8 * r.CTX_ERROR
        for index, slot, offset in table.uses:
            if slot in fixed:
                head[pointers + index] = fixed[slot] + offset
            elif slot in arena_offsets:
                head[pointers + index] = arena + arena_offsets[slot] + offset
        self.arena_address = arena
        self.address = base
        self.words = memoryview(head)
        self.pointers = memoryview(head[pointers:])
        self.bound: list | None = None  # the arrays behind the bound ports, as last written to the pointer table
        self.feeds: list[int] = []  # addresses of the inputs of the call that has been placed
        self._memory = (raw, scratch_raw, table)
        self._pool = pool
        self.nbytes = raw.nbytes + scratch_raw.nbytes
        native = r.native()
        # Runs, or goes on with, the groups that the words START and END give; letting go of the GIL costs more than a short call.
        self.call = partial(native.run_held if table.seconds < HELD_SECONDS and not table.budget else native.run, base)
        self._interrupt = native.interrupt

    def execute(self, start: int, end: int) -> int:
        """Runs groups [start, end): ``DONE``, or ``ABORTED`` with the error word set. An exception that a signal handler raises
        (Ctrl-C) ends the call early where nothing donated has been written yet; see ``Stopped``."""
        self.words[r.CTX_START], self.words[r.CTX_END] = start, end
        try:
            status = self.call()
            while status == r.YIELDED:
                status = self.call()
        except BaseException as e:
            raise self.stopped(start, end) from e
        return status

    def stopped(self, start: int, end: int) -> Stopped:
        """Ends the call of groups [start, end) that an exception has interrupted."""
        words, gate = self.words, self.table.gate
        if words[r.CTX_MODE] and (gate < 0 or gate >= start):
            # A gate in a later segment: nothing donated is written in this one.
            if not self._interrupt(self.address, gate if gate < end else -1):
                return Stopped(complete=False)
        while words[r.CTX_MODE]:
            try:
                self.call()
            except BaseException:  # noqa: BLE001 - a second Ctrl-C: the state would be torn, so the call still has to end
                continue
        return Stopped(complete=True)

    def __del__(self):
        pool = getattr(self, "_pool", None)
        if pool is not None and self.table.threads > 1:
            pool.free(self.address, self._memory)


class Stopped(BaseException):
    """An exception (its ``__cause__``) came during a call. ``complete``: the call was past its first donated write, and has been
    executed to its end; else nothing donated was written."""

    def __init__(self, complete: bool):
        super().__init__()
        self.complete = complete
