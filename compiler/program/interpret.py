"""Running a program in the kernel interpreter: the oracle for emitted code, and what KEROGEN_VERIFY=2 compares with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...runtime.host import lookup
from ..kernel.interp import run_kernel
from ..kernel.ir import Kernel
from .program import Branch, Call, HostStep, Loop, Program, Step, Value, flat, place_of

RunCall = Callable[[Call, list[np.ndarray]], None]


def interpret_program(program: Program, arrays: Sequence[np.ndarray], run: RunCall | None = None) -> list[np.ndarray]:
    """The outputs for ``arrays``, one per input. Donated inputs are updated in place, as native code does. ``run(call, arrays)`` computes a call on the
    arrays of its values, each of its value's shape (default: the kernel interpreter)."""
    memory: dict[Value, np.ndarray] = {}
    for v, a in zip(program.inputs, arrays, strict=True):
        memory[v] = a
    for v, constant in program.constants:
        memory[v] = np.ascontiguousarray(constant)
    for v in program.outputs:
        if v.donated >= 0:
            memory[v] = memory[program.inputs[v.donated]]

    def array(v: Value) -> np.ndarray:
        if v not in memory:
            memory[v] = np.empty(tuple(int(n) for n in v.shape), v.dtype.np)
        return memory[v]

    _run(flat([*program.setup, *program.calls]), array, {}, run or interpret_call)
    return [array(v) for v in program.outputs]


def interpret_call(call: Call, arrays: list[np.ndarray]) -> None:
    """Computes a call in NumPy."""
    buffers = call.kernel.buffers
    shaped = [a.reshape(tuple(int(n) for n in b.shape)) for b, a in zip(buffers, arrays)]
    if isinstance(call.kernel, Kernel):
        run_kernel(call.kernel, {b.name: a for b, a in zip(buffers, shaped)})
    else:
        call.kernel.run(shaped)


def _run(steps: Sequence[Step], array: Callable[[Value], np.ndarray], views: Mapping[Value, np.ndarray], run: RunCall) -> None:
    def at(v: Value) -> np.ndarray:
        if v in views:
            return views[v]
        base, offset, move = place_of(v, frozenset())
        return array(v) if base is v else _part(array(base), v, offset)

    for s in steps:
        if isinstance(s, Call):
            run(s, [at(v) for v in s.values])
        elif isinstance(s, HostStep):
            found = lookup(s.function)(*[at(v) for v in s.reads], **dict(s.attributes))
            for v, a in zip(s.writes, found if isinstance(found, tuple) else (found,), strict=True):
                at(v)[...] = a
        elif isinstance(s, Branch):
            _run(s.then if at(s.predicate) else s.otherwise, array, views, run)
        else:
            assert isinstance(s, Loop)
            for t in range(int(s.trip)) if s.condition is None else iter(int, 1):
                if s.condition is not None and not at(s.condition):
                    break
                moved = {v: _row(at(v.base), v, t) for v in s.views if v.base is not None}
                _run(s.steps, array, {**views, **moved}, run)


def _row(base: np.ndarray, v: Value, t: int) -> np.ndarray:
    """Where ``v`` lies in iteration t."""
    assert v.move is not None
    k = t + v.move.phase
    return _part(base, v, int(v.offset) + int(v.move.stride) * (k % v.move.modulus if v.move.modulus else k))


def _part(base: np.ndarray, v: Value, offset: int) -> np.ndarray:
    """``nbytes`` bytes of ``base`` from ``offset``, as ``v``."""
    raw = base.reshape(-1).view(np.uint8)[int(offset) : int(offset) + int(v.nbytes)]
    return raw.view(v.dtype.np).reshape(tuple(int(n) for n in v.shape))
