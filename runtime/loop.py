"""Loops and branches in native code: two fixed functions with the ABI of kernels, whose parameters are tables of records.

They are LLVM IR text, compiled once per architecture and cached, as the runner is. A table (words of 64 bit)::

    loop:    end, condition (number of a buffer, or -1), steps, pointers (most that a step takes), first iteration, then the steps
    branch:  predicate (number of a buffer), words of the first table, then two loop tables of one iteration
    step:    function, params, units, buffers, then for each buffer: number, offset, stride, phase, modulus

A step's buffers are parts of the loop's own: buffer ``number`` + offset + stride * k, where k is the iteration plus the phase, modulo the
modulus if that isn't 0. A loop ends early when its condition is false before an iteration, or when the call's error word is set.
A long loop is several steps over spans of its iterations, so that the caller can look at the clock in between.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from . import cpu
from .plan import BranchCall, KernelCall, LoopCall, Move

LOOP_WORDS, STEP_WORDS, BUFFER_WORDS = 5, 4, 5

TEXT = f"""
define void @loop(ptr %bufs, ptr %table, i64 %begin, i64 %end, ptr %tls) {{
entry:
  %trip = load i64, ptr %table
  %cp = getelementptr i64, ptr %table, i64 1
  %condition = load i64, ptr %cp
  %sp = getelementptr i64, ptr %table, i64 2
  %steps = load i64, ptr %sp
  %mp = getelementptr i64, ptr %table, i64 3
  %most = load i64, ptr %mp
  %tp = getelementptr i64, ptr %table, i64 4
  %t0 = load i64, ptr %tp
  %first = getelementptr i64, ptr %table, i64 {LOOP_WORDS}
  %local = alloca ptr, i64 %most
  %ep = getelementptr i64, ptr %tls, i64 1
  %error = load ptr, ptr %ep
  %tested = icmp sge i64 %condition, 0
  br label %head
head:
  %t = phi i64 [ %t0, %entry ], [ %t1, %tail ]
  %more = icmp slt i64 %t, %trip
  br i1 %more, label %check, label %out
check:
  %e = load atomic i64, ptr %error monotonic, align 8
  %fine = icmp eq i64 %e, 0
  br i1 %fine, label %look, label %out
look:
  br i1 %tested, label %test, label %body
test:
  %bp = getelementptr ptr, ptr %bufs, i64 %condition
  %b = load ptr, ptr %bp
  %v = load i8, ptr %b
  %go = icmp ne i8 %v, 0
  br i1 %go, label %body, label %out
body:
  %any = icmp sgt i64 %steps, 0
  br i1 %any, label %step, label %tail
step:
  %i = phi i64 [ 0, %body ], [ %i1, %call ]
  %rec = phi ptr [ %first, %body ], [ %next, %call ]
  %f = load ptr, ptr %rec
  %pp = getelementptr i64, ptr %rec, i64 1
  %params = load ptr, ptr %pp
  %up = getelementptr i64, ptr %rec, i64 2
  %units = load i64, ptr %up
  %np = getelementptr i64, ptr %rec, i64 3
  %n = load i64, ptr %np
  %bufrecs = getelementptr i64, ptr %rec, i64 {STEP_WORDS}
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %buffer, label %call
buffer:
  %j = phi i64 [ 0, %step ], [ %j1, %place ]
  %o = mul i64 %j, {BUFFER_WORDS}
  %br = getelementptr i64, ptr %bufrecs, i64 %o
  %number = load i64, ptr %br
  %op = getelementptr i64, ptr %br, i64 1
  %offset = load i64, ptr %op
  %stp = getelementptr i64, ptr %br, i64 2
  %stride = load i64, ptr %stp
  %php = getelementptr i64, ptr %br, i64 3
  %phase = load i64, ptr %php
  %mop = getelementptr i64, ptr %br, i64 4
  %modulus = load i64, ptr %mop
  %k0 = add i64 %t, %phase
  %turns = icmp ne i64 %modulus, 0
  br i1 %turns, label %turn, label %place
turn:
  %k1 = urem i64 %k0, %modulus
  br label %place
place:
  %k = phi i64 [ %k0, %buffer ], [ %k1, %turn ]
  %sk = mul i64 %stride, %k
  %all = add i64 %offset, %sk
  %basep = getelementptr ptr, ptr %bufs, i64 %number
  %base = load ptr, ptr %basep
  %at = getelementptr i8, ptr %base, i64 %all
  %lp = getelementptr ptr, ptr %local, i64 %j
  store ptr %at, ptr %lp
  %j1 = add i64 %j, 1
  %mb = icmp slt i64 %j1, %n
  br i1 %mb, label %buffer, label %call
call:
  call void %f(ptr %local, ptr %params, i64 0, i64 %units, ptr %tls)
  %words = mul i64 %n, {BUFFER_WORDS}
  %next = getelementptr i64, ptr %bufrecs, i64 %words
  %i1 = add i64 %i, 1
  %ms = icmp slt i64 %i1, %steps
  br i1 %ms, label %step, label %tail
tail:
  %t1 = add i64 %t, 1
  br label %head
out:
  ret void
}}

define void @branch(ptr %bufs, ptr %table, i64 %begin, i64 %end, ptr %tls) {{
  %predicate = load i64, ptr %table
  %wp = getelementptr i64, ptr %table, i64 1
  %words = load i64, ptr %wp
  %then = getelementptr i64, ptr %table, i64 2
  %otherwise = getelementptr i64, ptr %then, i64 %words
  %bp = getelementptr ptr, ptr %bufs, i64 %predicate
  %b = load ptr, ptr %bp
  %v = load i8, ptr %b
  %yes = icmp ne i8 %v, 0
  %side = select i1 %yes, ptr %then, ptr %otherwise
  call void @loop(ptr %bufs, ptr %side, i64 0, i64 1, ptr %tls)
  ret void
}}
"""


@functools.cache
def _native() -> dict[str, int]:
    arch = cpu._arch()
    machine = cpu.Machine(arch, "x86-64" if arch == "x86_64" else "generic", ())
    return cpu.load(cpu.object_code(TEXT, machine, opt=2), ("loop", "branch"))


def function_of(step: LoopCall | BranchCall) -> int:
    """The address of the native function that executes the step."""
    return _native()["loop" if isinstance(step, LoopCall) else "branch"]


class Tables:
    """Builds the tables of loops and branches. ``kernel`` gives the address of a kernel, ``number`` the value of a size; the arrays of words are kept
    in ``kept``: the tables point into one another."""

    def __init__(self, kernel: Callable[[KernelCall], int], number: Callable[[int], int]):
        self.kernel, self.number = kernel, number
        self.kept: list[np.ndarray] = []

    def of(self, step: LoopCall | BranchCall, span: tuple[int, int] | None = None) -> int:
        """The address of the step's table; ``span``: of iterations [first, end) of a loop."""
        if isinstance(step, LoopCall):
            first, end = span or (0, self.number(step.trip))
            return self._keep(self._loop(first, end, step.condition, step.steps))
        then, otherwise = self._loop(0, 1, -1, step.then), self._loop(0, 1, -1, step.otherwise)
        return self._keep([step.predicate, len(then), *then, *otherwise])

    def _loop(self, first: int, end: int, condition: int, steps: Sequence[KernelCall | LoopCall | BranchCall]) -> list[int]:
        records = [r for s in steps for r in self._step(s)]
        count = sum(not (isinstance(s, KernelCall) and self.number(s.units) <= 0) for s in steps)
        return [end, condition, count, max([1, *[len(s.slots) for s in steps]]), first, *records]

    def _step(self, s: KernelCall | LoopCall | BranchCall) -> list[int]:
        if isinstance(s, KernelCall):
            units = self.number(s.units)
            if units <= 0:
                return []
            head = [self.kernel(s), self._keep([self.number(p) for p in s.params]), units]
        else:
            head = [function_of(s), self.of(s), 1]
        words = [*head, len(s.slots)]
        for i, (slot, offset) in enumerate(zip(s.slots, s.offsets, strict=True)):
            move = (s.moves[i] if s.moves else None) or Move(0)
            words += [slot, self.number(offset), self.number(move.stride), move.phase, move.modulus]
        return words

    def _keep(self, words: Sequence[int]) -> int:
        self.kept.append(np.array(words or [0], np.int64))
        return self.kept[-1].ctypes.data
