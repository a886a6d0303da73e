"""One random graph through every executor: NumPy, the kernel interpreter, LLVM with 1 and 2 threads, each with the passes on and off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from kerogen.compiler.pipeline import compile_graph, program_of
from kerogen.compiler.program.interpret import interpret_program
from kerogen.compiler.target import Target
from kerogen.runtime import table, threads
from kerogen.runtime.config import FUEL
from kerogen.runtime.executable import Executable
from tests.compare import assert_same_bits

from .agreement import disagreement, oracle
from .generator import RandomGraph, random_graph

STEPS = 10


@contextmanager
def fuel(amount: int | None) -> Iterator[None]:
    """Rewriting and fusing stop after ``amount`` steps (None: never)."""
    saved = os.environ.pop(FUEL.name, None)
    if amount is not None:
        os.environ[FUEL.name] = str(amount)
    try:
        yield
    finally:
        os.environ.pop(FUEL.name, None)
        if saved is not None:
            os.environ[FUEL.name] = saved


@contextmanager
def every_step_shared() -> Iterator[None]:
    """Both threads work at every step: by itself the runtime gives steps as small as these to one."""
    saved = table.TINY_SECONDS, table.ALONE_SECONDS, table.INTERRUPTIBLE_SECONDS
    table.TINY_SECONDS = table.ALONE_SECONDS = table.INTERRUPTIBLE_SECONDS = 0.0
    if threads.num_threads() < 2:
        threads.set_num_threads(2)
    try:
        yield
    finally:
        table.TINY_SECONDS, table.ALONE_SECONDS, table.INTERRUPTIBLE_SECONDS = saved


def results(exe: Executable, arrays: list[np.ndarray], n: int) -> list[np.ndarray]:
    out = exe(*[a.copy() for a in arrays], threads=n)
    return out if isinstance(out, list) else [out]


def failures(seed: int, steps: int = STEPS) -> list[str]:
    """What is wrong with the graph of ``seed``, a line each; empty where all executors agree."""
    drawn: RandomGraph = random_graph(seed, steps)
    graph, arrays = drawn.graph, drawn.arrays
    exact, spread = oracle(graph, arrays)
    wrong: list[str] = []

    def judge(how: str, got: list[np.ndarray]) -> None:
        found = disagreement(graph, got, exact, spread)
        if found:
            wrong.append(f"seed {seed}, {how}: {found}")

    for amount in (None, 0):
        passes = "passes off" if amount == 0 else "passes on"
        with fuel(amount):
            judge(f"interpreter, {passes}", interpret_program(program_of(graph, Target.host()), [a.copy() for a in arrays]))
            exe = Executable(plans=[compile_graph(graph)])
        one = results(exe, arrays, 1)
        with every_step_shared():
            two = results(exe, arrays, 2)
        judge(f"LLVM, {passes}", one)
        try:
            for n, a, b in zip(graph.outputs, one, two, strict=True):
                assert_same_bits(b, a, f"seed {seed}, {passes}, {n}: 2 threads against 1")
        except AssertionError as e:
            wrong.append(str(e))
    return wrong
