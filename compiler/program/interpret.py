"""Running a program in the kernel interpreter: the oracle for emitted code, and what KEROGEN_VERIFY=2 compares with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..kernel.interp import run_kernel
from .program import Program, Value


def interpret_program(program: Program, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs for ``arrays``, one per input. Donated inputs are updated in place, as native code does."""
    memory: dict[Value, np.ndarray] = {}
    for v, a in zip(program.inputs, arrays, strict=True):
        memory[v] = a
    for v, a in program.constants:
        memory[v] = np.asarray(a)
    for v in program.outputs:
        if v.donated >= 0:
            memory[v] = memory[program.inputs[v.donated]]
    for call in (*program.setup, *program.calls):
        for v in call.values:
            if v not in memory:
                memory[v] = np.empty(tuple(int(n) for n in v.shape), v.dtype.np)
        shaped = {b.name: memory[v].reshape(tuple(int(n) for n in b.shape)) for b, v in zip(call.kernel.buffers, call.values)}
        run_kernel(call.kernel, shaped)
    return [memory[v] for v in program.outputs]
