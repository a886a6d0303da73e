"""Every stage of a compilation as text: what ``Executable.ir(stage)`` prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..runtime.dim import unguarded
from ..runtime.errors import ArgumentError
from .dump import program_text
from .ir.graph import Graph
from .ir.text import graph_text
from .kernel.routine import Routine
from .kernel.text import kernel_text
from .program.program import Call, Program, kernel_calls
from .target import Target

STAGES = ("traced", "optimized", "kernels", "scheduled", "llvm", "asm", "triton")


def stage_text(stage: str, graph: Graph, target: Target, optimize: Callable[[Graph, Target], Graph],
               program_of: Callable[[Graph, Target], Program]) -> str:
    """The text of ``graph`` after ``stage``: the graph as traced or optimized; kernels; the program with schedules and places; LLVM IR, assembly, or
    the Triton source of the same kernels. "final" is "llvm"."""
    stage = "llvm" if stage == "final" else stage
    if stage not in STAGES:
        raise ArgumentError(f"unknown stage {stage!r}; known: {', '.join(STAGES)}, final")
    with unguarded():
        if stage == "traced":
            return graph_text(graph)
        if stage == "optimized":
            return graph_text(optimize(graph, target))
        if stage == "triton":
            return _triton(program_of(graph, replace(target, arch="cuda")))
        program = program_of(graph, target)
        calls = _distinct(list(kernel_calls([*program.setup, *program.calls])))
        if stage == "kernels":
            return "\n".join(kernel_text(c.kernel) for c in calls)
        if stage == "scheduled":
            return program_text(program)
        return "\n".join(_code(c, target, stage == "asm") for c in calls)


def _distinct(calls: list[Call]) -> list[Call]:
    """One call for each different kernel."""
    found: dict[tuple, Call] = {}
    for c in calls:
        found.setdefault((kernel_text(c.kernel), repr(c.schedule)), c)
    return list(found.values())


def _code(call: Call, target: Target, machine_code: bool) -> str:
    from .codegen.llvm.lift import lift
    from .codegen.llvm.module import assembly, emit_text

    lifted, params = call.kernel.lifted() if isinstance(call.kernel, Routine) else lift(call.kernel)
    text, _ = emit_text(lifted, call.kernel.name, call.schedule, target, error_param=len(params))
    if machine_code:
        text = assembly(text, target)
    comment = "#" if machine_code else ";"
    return f"{comment} {call.kernel.name} ({', '.join(call.origins)})\n{text}"


def _triton(program: Program) -> str:
    from .codegen.triton.source import emit_source

    return "\n\n".join(f"# {c.kernel.name} ({', '.join(c.origins)})\n{emit_source(c.kernel).text}" for c in _distinct(list(kernel_calls(program.calls))))
