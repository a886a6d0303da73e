"""The program: kernel calls in execution order, over values whose places are decided here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...runtime.dtype import DType
from ..kernel.ir import Kernel


@dataclass(eq=False)
class Value:
    """An array of the program. ``kind``: "input" and "constant" (``index`` numbers them), "arena" (between calls), "prepared" (kept
    from the setup calls), "output" (``index``). ``donated``: the number of the state input whose memory this value replaces, or -1."""

    shape: tuple[int, ...]
    dtype: DType
    kind: str = "arena"
    index: int = -1
    donated: int = -1

    @property
    def nbytes(self) -> int:
        n: int = self.dtype.itemsize
        for d in self.shape:
            n = n * d
        return n


@dataclass(frozen=True, eq=False)
class Call:
    """One kernel over values: ``values`` in the order of ``kernel.buffers``. ``schedule``: a template's, or None for the general emitter."""

    kernel: Kernel
    values: tuple[Value, ...]
    errors: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    flops: int = 0
    schedule: object | None = None

    @property
    def reads(self) -> tuple[Value, ...]:
        return self.values[: len(self.values) - self.kernel.outputs]

    @property
    def writes(self) -> tuple[Value, ...]:
        return self.values[len(self.values) - self.kernel.outputs:]


@dataclass(eq=False)
class Program:
    """``inputs[i]`` (with role ``roles[i]``), ``outputs[i]`` and ``constants[i]`` are the values of the ports and of the constant arrays."""

    inputs: list[Value]
    roles: list[str]
    outputs: list[Value]
    constants: list[tuple[Value, object]]
    setup: list[Call] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


def readers(calls: Sequence[Call]) -> dict[Value, list[Call]]:
    """The calls that read each value."""
    out: dict[Value, list[Call]] = {}
    for c in calls:
        for v in dict.fromkeys(c.reads):
            out.setdefault(v, []).append(c)
    return out
