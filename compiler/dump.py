"""What a compilation says of itself: debug output, stage files, and the plain data that ``explain()`` prints.

``KEROGEN_DEBUG`` prints to stderr: 1 times per phase and kernel, 2 merges refused, 3 schedules, 4 generated code, 5 graphs after each pass that changed
them, 6 assembly. ``KEROGEN_DUMP=dir`` writes numbered files of every stage into a folder per compilation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from ..runtime.config import DEBUG, DUMP
from ..runtime.dim import text
from .explain import report_of
from .ir.graph import Graph
from .ir.text import graph_text
from .kernel.text import kernel_text
from .passes.fuse import Partition, Refusal, unfused
from .program.program import Branch, Call, HostStep, Loop, Program, Step, flat

_SERIAL = count()


class Dump:
    """One compilation's record. Cheap when nothing is asked for: texts are made only to be printed or written."""

    def __init__(self, name: str):
        self.name = name
        self.level = DEBUG.get()
        self.phases: dict[str, float] = {}
        self.emitted: dict[Call, dict] = {}
        self.refusals: list[Refusal] = []
        self._stage = count()
        root = DUMP.get()
        self.folder: Path | None = None
        if root:
            safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name) or "graph"
            self.folder = Path(root) / f"{next(_SERIAL):03d}-{safe}"
            self.folder.mkdir(parents=True, exist_ok=True)

    def _say(self, level: int, make: Callable[[], str]) -> None:
        if self.level >= level:
            print(make(), file=sys.stderr)

    def _line(self, what: str, seconds: float, text: str) -> str:
        return f"kerogen {self.name}: {what:<6} {1e3 * seconds:>9.1f} ms  {text}"

    def _total(self) -> str:
        emit = self.phases.get("emit", 0.0)
        total = sum(self.phases.values())
        cached = sum(e["cached"] for e in self.emitted.values())
        kernels = f"{len(self.emitted) - cached} kernels compiled, {cached} cached: {1e3 * emit:.1f} ms"
        return self._line("total", total, f"passes {1e3 * (total - emit):.1f} ms, {kernels}")

    def _write(self, suffix: str, make: Callable[[], str]) -> None:
        if self.folder is not None:
            (self.folder / f"{next(self._stage):02d}-{suffix}").write_text(make())

    def phase(self, name: str, seconds: float) -> None:
        """Adds to the time of a phase."""
        self.phases[name] = self.phases.get(name, 0.0) + seconds
        self._say(1, lambda: self._line("pass", seconds, name))

    def graph(self, name: str, graph: Graph, before: Graph | None, seconds: float) -> None:
        """A graph after a pass; printed and written where the pass changed it."""
        if before is not None:
            self.phase(name, seconds)
            if all(a is b for a, b in zip(graph.outputs, before.outputs)):
                return
        self._say(5, lambda: f"# {name}\n{graph_text(graph)}")
        self._write(f"{name.replace(' ', '-')}.graph", lambda: graph_text(graph))

    def fusion(self, partition: Partition, seconds: float) -> None:
        self.phase("fuse", seconds)
        self.refusals.extend(partition.refusals)
        self._say(2, lambda: "\n".join(f"not fused: {line}" for line in unfused(partition)))

    def program(self, program: Program) -> None:
        self._write("program.txt", lambda: program_text(program))
        self._say(3, lambda: program_text(program))

    def kernel(self, call: Call, code: Any, seconds: float, assembly: Callable[[], str]) -> None:
        """A kernel's code; ``code.fresh`` where this compilation made it."""
        self.phases["emit"] = self.phases.get("emit", 0.0) + seconds
        self.emitted[call] = {"symbol": code.symbol, "cached": not code.fresh, "seconds": seconds, "text": kernel_text(call.kernel)}
        self._say(1, lambda: self._line("kernel", seconds, f"{call.kernel.name} ({'compiled' if code.fresh else 'cached'})"))
        self._say(4, lambda: code.text)
        if code.fresh:
            self._say(6, assembly)
        self._write(f"{call.kernel.name}.ll", lambda: code.text)

    def report(self, program: Program, target: str) -> dict:
        """Plain data for ``Executable.explain``; the compilation is over."""
        self._say(1, self._total)
        return report_of(program, self.emitted, self.refusals, self.phases, self.name, target)


def program_text(program: Program) -> str:
    """Every call in order: its kernel, schedule and values."""
    names: dict[Any, str] = {}

    def name(v: Any) -> str:
        if v not in names:
            names[v] = f"%{v.kind}{v.index if v.index >= 0 else len(names)}" + (f"->input{v.donated}" if v.donated >= 0 else "")
        return names[v]

    lines = []

    def show(steps: Sequence[Step], pad: str) -> None:
        for s in flat(steps):
            shapes = ", ".join(f"{name(v)}[{','.join(map(text, v.shape))}]" for v in s.values)
            if isinstance(s, Call):
                lines.append(f"{pad}{s.kernel.name}({shapes}) {s.schedule or ''}")
                lines.extend(f"{pad}  {line}" for line in kernel_text(s.kernel).splitlines())
            elif isinstance(s, HostStep):
                lines.append(f"{pad}host {s.function}({shapes})")
            elif isinstance(s, Branch):
                for word, side in ((f"if {name(s.predicate)}", s.then), ("else", s.otherwise)):
                    lines.append(f"{pad}{word}:")
                    show(side, pad + "  ")
            elif isinstance(s, Loop):
                times = f"while {name(s.condition)}" if s.condition is not None else f"{text(s.trip)} times"
                lines.append(f"{pad}{s.name}({shapes}), {times}:")
                lines.extend(f"{pad}  {name(v)} = {name(v.base)} at {text(v.offset)}, {v.move}" for v in s.views if v.base is not None)
                show(s.steps, pad + "  ")

    for title, steps in (("setup", program.setup), ("calls", program.calls)):
        lines.append(f"{title}:")
        show(steps, "  ")
    return "\n".join(lines) + "\n"


