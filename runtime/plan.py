"""The plan: what the compiler hands to the runtime, as plain data.

A plan knows nothing of graphs or kernels: it is a list of native calls over numbered slots. Every number may be a ``Dim``
(an expression over free dimensions); ``Plan.bind`` makes them ints for the sizes of one call.

Kernel ABI (all generated kernels)::

    void kernel(ptr bufs, ptr params, i64 begin, i64 end, ptr tls)

``bufs`` is an array of pointers to element (0, ..., 0) of each buffer; ``params`` an array of i64; the call computes the work
units [begin, end) of ``KernelCall.units``. ``tls`` points to {ptr scratch, ptr error}: 64-byte aligned scratch memory of the
thread's own (``KernelCall.scratch`` bytes), and the call's error word (i64). A kernel with data-dependent indices has one more parameter, the
last: a number to which it adds its error site's (from 1), and which it stores there when an index lies outside its axis. Units are independent: any split over threads gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .dim import guard_text, holds, resolve, text
from .dtype import DType


@dataclass(frozen=True)
class Port:
    """One array that goes in or out. ``role``: "input" (given at each call), "parameter" (bound, read only), "state" (bound, donated: updated in place)."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    role: str = "input"

    def __repr__(self) -> str:
        return f"Port({self.name!r}, ({', '.join(map(text, self.shape))}), {self.dtype}, {self.role!r})"


@dataclass(frozen=True)
class Slot:
    """A place for a buffer. ``kind``: "input" | "output" | "constant" | "prepared" | "arena"; ``index`` numbers the
    port or constant; "prepared" slots are written by the setup steps and kept; an arena slot is live from step ``first``
    to step ``last`` (both included). An arena slot that the setup steps use lives during the setup only."""

    kind: str
    nbytes: int
    index: int = -1
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class Move:
    """How a place moves with the iterations t of the loop around a step: by ``stride`` bytes times (t + ``phase``), or times the remainder of that by
    ``modulus`` where there is one (two halves that take turns)."""

    stride: int
    phase: int = 0
    modulus: int = 0


@dataclass(frozen=True)
class KernelCall:
    """One call of a native kernel. ``slots`` and ``offsets`` (bytes) give its buffers; ``reads`` slots before it ``writes``. In a loop or a branch the
    slots are numbers in the list of that step, and ``moves`` (empty, or one for each buffer) says how they move."""

    image: str
    symbol: str
    slots: tuple[int, ...]
    offsets: tuple[int, ...]
    params: tuple[int, ...]
    units: int
    scratch: int = 0
    error: int = 0
    name: str = ""
    origin: str = ""
    flops: int = 0
    nbytes: int = 0
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    moves: tuple[Move | None, ...] = ()


@dataclass(frozen=True)
class LoopCall:
    """``steps``, ``trip`` times; with a ``condition`` (number of a bool in ``slots``), as long as that is true before an iteration. ``slots``,
    ``offsets`` and ``moves`` place what the steps touch, as a kernel call's buffers; the steps' own slots are numbers in this list."""

    slots: tuple[int, ...]
    offsets: tuple[int, ...]
    trip: int
    steps: tuple[KernelCall | LoopCall | BranchCall, ...]
    condition: int = -1
    name: str = "loop"
    origin: str = ""
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    moves: tuple[Move | None, ...] = ()


@dataclass(frozen=True)
class BranchCall:
    """``then`` where the bool number ``predicate`` in ``slots`` is true, else ``otherwise``; places as in a ``LoopCall``."""

    slots: tuple[int, ...]
    offsets: tuple[int, ...]
    predicate: int
    then: tuple[KernelCall | LoopCall | BranchCall, ...]
    otherwise: tuple[KernelCall | LoopCall | BranchCall, ...]
    name: str = "branch"
    origin: str = ""
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    moves: tuple[Move | None, ...] = ()


@dataclass(frozen=True)
class HostCall:
    """A NumPy call between native segments: ``function`` names one of ``runtime.host``'s registered functions, which gets the
    arrays of slots ``inputs`` and ``attributes`` by keyword, and returns the arrays of slots ``outputs``. ``types`` gives (shape,
    dtype) of the inputs, then of the outputs."""

    function: str
    attributes: tuple[tuple[str, object], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    origin: str = ""
    types: tuple[tuple[tuple[int, ...], DType], ...] = ()


Step = KernelCall | HostCall | LoopCall | BranchCall


@dataclass(frozen=True)
class ErrorSite:
    """What error code ``code`` means: a data-dependent index outside its axis."""

    code: int
    message: str


@dataclass(frozen=True)
class Plan:
    """A compiled program. ``aliases`` maps output numbers to the input numbers whose memory they update."""

    name: str
    target: str
    dims: tuple[str, ...]
    guards: tuple[tuple[tuple, bool], ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    aliases: tuple[tuple[int, int], ...]
    slots: tuple[Slot, ...]
    setup: tuple[Step, ...]
    steps: tuple[Step, ...]
    images: Mapping[str, bytes] = field(repr=False)
    constants: tuple = field(default=(), repr=False)  # NumPy arrays, C-contiguous
    errors: tuple[ErrorSite, ...] = ()
    report: Mapping = field(default_factory=dict, repr=False)  # plain data for explain(): kernels, fusions, phases

    def accepts(self, values: Mapping[str, int]) -> bool:
        """Whether this plan is right for these values of the free dimensions."""
        return all(v >= 1 for v in values.values()) and holds(dict(self.guards), values)

    def broken(self, values: Mapping[str, int]) -> str:
        """The first comparison that comes out otherwise at these values, as it was when the plan was made (""where none does)."""
        for (op, difference), outcome in self.guards:
            if not holds({(op, difference): outcome}, values):
                return guard_text(op, difference, outcome)
        return ""

    def number(self, x: int, values: Mapping[str, int]) -> int:
        return resolve(x, values)
