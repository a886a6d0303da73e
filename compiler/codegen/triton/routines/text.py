"""A routine's Triton function around its body: arguments are the buffers' pointers, then the routine's sizes as i64."""

from __future__ import annotations

from collections.abc import Sequence

from .....runtime.dtype import DType
from ....kernel.routine import Routine
from ..emitter import identifier
from ..scalars import POINTER
from ..source import Source

LANES = 64  # independent rows or columns that one program computes
WARPS = 2


def assemble(routine: Routine, body: Sequence[str], grid: int) -> Source:
    signature = [(identifier(b.name), POINTER[b.dtype]) for b in routine.buffers] + [(f"n{i}", "i64") for i in range(len(routine.sizes))]
    name = f"{routine.name}_kernel"
    lines = "\n".join(f"    {line}" for line in body)
    text = (f"import triton\nimport triton.language as tl\n\n\n# {routine.text}\n@triton.jit\ndef {name}({', '.join(n for n, _ in signature)}):\n{lines}\n")
    return Source(name, text, tuple(signature), tuple(b.name for b in routine.buffers), routine.sizes, (), grid, False, WARPS, 1)


def names(routine: Routine) -> list[str]:
    """The buffers' arguments."""
    return [identifier(b.name) for b in routine.buffers]


def register(dtype: DType) -> str:
    """The Triton type in which a routine computes: 16-bit floats in float32, bool as int8."""
    if dtype.kind == "b":
        return "tl.int8"
    return f"tl.{'float32' if dtype.is_float and dtype.itemsize == 2 else dtype.name}"
