"""Running kernels as Triton source in Triton's interpreter: no GPU, no torch. One worker process serves all calls.

The worker also checks that every access lies in its buffer and that no two programs conflict. Sizes come from the kernels as they are
(a free dimension has the value it was traced with) unless ``dims`` gives others.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ....runtime.dim import resolve
from ....runtime.dtype import as_dtype
from ....runtime.errors import IndexRangeError, InternalError, UnsupportedPlatformError
from ...kernel.ir import Kernel
from ...program.interpret import interpret_program as step_by_step
from ...program.program import Call
from ...schedule.triton import TritonSchedule
from .source import Source, emit_source
from .worker import read, write

KernelCall = tuple[Kernel, Mapping[str, str]]


class TritonInterpreter:
    """A worker process. ``run`` may be called any number of times; ``close`` ends it."""

    def __init__(self) -> None:
        env = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("worker.py"))], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, env=env)
        try:
            read(self._process.stdout)
        except EOFError:
            self._process.wait()
            raise UnsupportedPlatformError("Triton's interpreter did not start (its message is above); it comes with: pip install kerogen[gpu]") from None

    def close(self) -> None:
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(10)

    def run(self, calls: Sequence[tuple[Source, int, Sequence[str]]], arrays: Mapping[str, np.ndarray], outputs: Sequence[str],
            dims: Mapping[str, int] | None = None, errors: Sequence[Sequence[str]] | None = None) -> dict[str, np.ndarray]:
        """Runs ``calls`` (source, number of written buffers, array names in the source's buffer order) in order; the arrays named ``outputs``.
        ``errors[call][site - 1]`` is what an ``IndexRangeError`` says."""
        if self._process.poll() is not None:
            raise InternalError("the Triton interpreter's process has ended")
        kernels: dict[str, int] = {}
        specs, sent = [], []
        for source, written, names in calls:
            if source.text not in kernels:
                kernels[source.text] = len(specs)
                specs.append({"name": source.name, "text": source.text, "signature": source.signature, "outputs": written, "checks": source.checks})
            sent.append({"kernel": kernels[source.text], "buffers": list(names), "grid": _number(source.grid, dims),
                         "params": [_number(n, dims) for n in source.params]})
        keys = list(arrays)
        header = {"kernels": specs, "calls": sent, "arrays": keys, "outputs": list(outputs)}
        write(self._process.stdin, header, [np.ascontiguousarray(arrays[k]).tobytes() for k in keys])
        reply, blobs = read(self._process.stdout)
        if "failed" in reply:
            raise InternalError(f"Triton interpreter: {reply['failed']}\n{reply['trace']}")
        if reply["error_word"]:
            call, site = reply["call"], reply["error_word"]
            said = errors[call][site - 1] if errors and site <= len(errors[call]) else f"index out of range in call {call}"
            raise IndexRangeError(f"{said} (site {site})")
        return {k: np.frombuffer(b, np.asarray(arrays[k]).dtype).reshape(np.shape(arrays[k])) for k, b in zip(outputs, blobs)}


def _number(n: int, dims: Mapping[str, int] | None) -> int:
    return int(n) if dims is None else resolve(n, dims)


_SHARED: TritonInterpreter | None = None


def shared() -> TritonInterpreter:
    """The process' one worker, started at first use and ended at exit."""
    global _SHARED
    if _SHARED is None or _SHARED._process.poll() is not None:
        _SHARED = TritonInterpreter()
        atexit.register(_SHARED.close)
    return _SHARED


def interpret(calls: Sequence[KernelCall], arrays: Mapping[str, np.ndarray], schedules: Sequence[TritonSchedule | None] | None = None,
              dims: Mapping[str, int] | None = None, errors: Sequence[Sequence[str]] | None = None) -> dict[str, np.ndarray]:
    """Runs kernels in order. ``calls``: (kernel, {buffer name: array name}); ``arrays`` by name, left as they are. Returns every array that was written."""
    sources, written = [], {}
    for (kernel, names), schedule in zip(calls, schedules or [None] * len(calls), strict=True):
        for b in kernel.buffers:
            a = arrays[names[b.name]]
            if b.strides is None and (as_dtype(a.dtype) is not b.dtype or a.size != _elements(b.shape, dims)):
                raise InternalError(f"{kernel.name}: {b.name} is {a.dtype}{list(a.shape)}, expected {b.dtype}{list(b.shape)}")
        sources.append((emit_source(kernel, schedule), kernel.outputs, [names[b.name] for b in kernel.buffers]))
        written.update(dict.fromkeys(names[b.name] for b in kernel.writes))
    return shared().run(sources, arrays, list(written), dims, errors)


def _elements(shape: tuple[int, ...], dims: Mapping[str, int] | None) -> int:
    n = 1
    for d in shape:
        n *= _number(d, dims)
    return n


def interpret_program(program, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """As ``program.interpret.interpret_program``, through Triton source: the outputs for ``arrays``, one per input. Donated inputs are updated in place."""
    steps = [*program.setup, *program.calls]
    if not all(isinstance(s, Call) and isinstance(s.kernel, Kernel) for s in steps):
        return step_by_step(program, arrays, _one_call)
    names: dict = {}
    memory: dict[str, np.ndarray] = {}

    def place(value, array: np.ndarray | None = None) -> str:
        if value not in names:
            names[value] = f"v{len(names)}"
            memory[names[value]] = array if array is not None else np.zeros(tuple(int(n) for n in value.shape), value.dtype.np)
        return names[value]

    for v, a in zip(program.inputs, arrays, strict=True):
        place(v, np.asarray(a))
    for v, a in program.constants:
        place(v, np.asarray(a))
    for v in program.outputs:
        if v.donated >= 0:
            names[v] = names[program.inputs[v.donated]]
    calls = [(c.kernel, {b.name: place(v) for b, v in zip(c.kernel.buffers, c.values)}) for c in steps]
    done = interpret(calls, memory, errors=[c.errors for c in steps])
    out = [done.get(place(v), memory[place(v)]) for v in program.outputs]
    for v, a in zip(program.inputs, arrays):
        if place(v) in done:
            np.copyto(a, done[place(v)])
    return out


def _one_call(call: Call, arrays: list[np.ndarray]) -> None:
    """A call of a program with loops: these hold the arrays here and send them call by call."""
    names = [b.name for b in call.kernel.buffers]
    done = interpret([(call.kernel, dict(zip(names, names)))], dict(zip(names, arrays)), errors=[call.errors])
    for name, a in zip(names, arrays):
        if name in done:
            a[...] = done[name].reshape(a.shape)
