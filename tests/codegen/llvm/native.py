"""Emitted kernels called as the runtime calls them, in memory where a step outside an array is a fault."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from kerogen.compiler.codegen.llvm.module import Code, compile_kernel
from kerogen.compiler.ir.graph import Graph
from kerogen.compiler.kernel.interp import run_kernel
from kerogen.compiler.kernel.ir import Kernel
from kerogen.compiler.kernel.routine import Routine
from kerogen.compiler.pipeline import program_of
from kerogen.compiler.program.program import Call, Program
from kerogen.compiler.target import Target
from kerogen.runtime import cpu
from kerogen.runtime.errors import UnsupportedPlatformError
from tests.compare import assert_close, assert_same_bits

LEVELS = ("x86-64-v4", "x86-64-v3", "x86-64-v2")
_PAGE = mmap.PAGESIZE
_mprotect = ctypes.CDLL(None, use_errno=True).mprotect
_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def target_named(name: str) -> Target:
    """The target; skips the test where this machine can't run its code."""
    try:
        cpu.require(cpu.named_machine(name).text)
    except UnsupportedPlatformError:
        pytest.skip(f"this machine does not run {name} code")
    return Target.named(name)


def fenced(a: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy of ``a`` with an unreadable page right behind its last byte, or right before its first."""
    nbytes = -(-max(a.nbytes, 1) // _PAGE) * _PAGE
    memory = mmap.mmap(-1, nbytes + _PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fence = start + nbytes if at_end else start
    first = nbytes - a.nbytes if at_end else _PAGE
    out = np.frombuffer(memory, np.uint8, a.nbytes, first).view(a.dtype).reshape(a.shape)
    out[...] = a
    assert _mprotect(fence, _PAGE, 0) == 0  # PROT_NONE
    return out


def call_native(code: Code, arrays: Sequence[np.ndarray], cuts: Sequence[int] = (), order: Sequence[int] | None = None) -> int:
    """Runs all units of ``code``, split at ``cuts``, the pieces in ``order``, each with scratch that holds garbage; returns the error word."""
    fn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(
        cpu.load(code.object, [code.symbol])[code.symbol])
    bufs = np.array([a.ctypes.data for a in arrays], np.int64)
    params = np.array([*map(int, code.params), 0], np.int64)
    if int(code.units) == 0:
        return 0  # the runtime drops such calls
    edges = [0, *cuts, int(code.units)]
    pieces = list(zip(edges, edges[1:]))
    error = np.zeros(1, np.int64)
    for n in order or range(len(pieces)):
        size = int(code.scratch)
        raw = np.full(size + 64, 0xFF, np.uint8)  # nan
        scratch = raw.ctypes.data + -raw.ctypes.data % 64
        tls = np.array([scratch, error.ctypes.data], np.int64)
        fn(bufs.ctypes.data, params.ctypes.data, *pieces[n], tls.ctypes.data)
        tail = scratch - raw.ctypes.data + size
        assert (raw[tail:] == 0xFF).all(), "the kernel wrote beyond its scratch"
    return int(error[0])


def run_native(kernel: Kernel | Routine, given: Mapping[str, np.ndarray], target: Target, schedule: object | None = None, *, cuts: Sequence[int] = (),
               order: Sequence[int] | None = None, at_end: bool = True) -> dict[str, np.ndarray]:
    """What the emitted kernel leaves in the buffers that it writes."""
    code = compile_kernel(kernel, schedule, target)
    memory = {b.name: fenced(given[b.name], at_end) for b in kernel.buffers}
    assert call_native(code, [memory[b.name] for b in kernel.buffers], cuts, order) == 0
    for b in kernel.reads:
        assert_same_bits(memory[b.name], given[b.name], what=f"{b.name}, which is only read")
    return {b.name: memory[b.name].copy() for b in kernel.writes}


def check_kernel(kernel: Kernel | Routine, given: Mapping[str, np.ndarray], target: Target, schedule: object | None = None, *, rng: np.random.Generator,
                 tolerance: float = 2e-6) -> dict[str, np.ndarray]:
    """The emitted kernel against the interpreter; split at random points and run in random order it gives the same bits. Returns its results."""
    expected = {k: a.copy() for k, a in given.items()}
    if isinstance(kernel, Routine):
        kernel.run([expected[b.name] for b in kernel.buffers])
    else:
        run_kernel(kernel, expected)
    whole = run_native(kernel, given, target, schedule)
    for name, a in whole.items():
        close = 1e-2 if a.dtype.kind == "V" or a.dtype.itemsize == 2 else 0 if a.dtype.kind in "iub" else tolerance
        assert_close(a, expected[name], close, what=f"{kernel.name}.{name} on {target.name}")
    units = int(compile_kernel(kernel, schedule, target).units)
    if units > 1:
        cuts = sorted(int(n) for n in rng.integers(0, units + 1, int(rng.integers(1, 5))))
        order = [int(n) for n in rng.permutation(len(cuts) + 1)]
        for name, a in run_native(kernel, given, target, schedule, cuts=cuts, order=order, at_end=False).items():
            assert_same_bits(a, whole[name], what=f"{kernel.name}.{name} on {target.name}, {units} units split at {cuts}, run in order {order}")
    return whole


def check_program(graph: Graph, arrays: Sequence[np.ndarray], target: Target, rng: np.random.Generator, tolerance: float = 2e-6) -> Program:
    """Every kernel of the graph's program, on what the kernels before it gave."""
    program = program_of(graph, target)
    memory = {v: np.ascontiguousarray(a) for v, a in (*zip(program.inputs, arrays), *program.constants)}
    for call in (*program.setup, *program.calls):
        given = {}
        for b, v in zip(call.kernel.buffers, call.values):
            if v not in memory:
                memory[v] = rng.integers(0, 2, tuple(map(int, v.shape))).astype(v.dtype.np)
            given[b.name] = memory[v].reshape(tuple(map(int, b.shape)))
        done = check_kernel(call.kernel, given, target, call.schedule, rng=rng, tolerance=tolerance)
        for b, v in zip(call.kernel.buffers, call.values):
            if b.name in done:
                memory[v] = done[b.name].reshape(tuple(map(int, v.shape)))
    return program


def contractions(program: Program) -> list[Call]:
    """The calls that the GEMM template computes."""
    return [c for c in (*program.setup, *program.calls) if c.schedule is not None]
