"""From a program to a plan's steps: code for every kernel, and numbers for every place."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..runtime.config import VERIFY
from ..runtime.plan import BranchCall, ErrorSite, HostCall, KernelCall, LoopCall, Move
from ..runtime.plan import Step as PlanStep
from .check_kernels import check_kernel
from .dump import Dump
from .kernel.ir import Kernel
from .program.program import Branch, Call, HostStep, Loop, Step, Value, flat, place_of
from .target import Target


@dataclass(frozen=True)
class _Level:
    """Where steps are: at the top, or in a loop or branch, whose ``views`` move; ``number`` numbers the arrays that are known there."""

    number: Mapping[Value, int]
    views: frozenset[Value]

    def places(self, values: Sequence[Value]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[Move | None, ...]]:
        """(slots, offsets, moves) of a step's values; no moves where nothing moves."""
        found = [place_of(v, self.views) for v in values]
        moves = tuple([m for _, _, m in found])
        return tuple([self.number[b] for b, _, _ in found]), tuple([o for _, o, _ in found]), moves if any(moves) else ()

    def numbers(self, values: Sequence[Value]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.places(values)[0]))


class Emission:
    """Emits the steps of one program. ``images`` (object code) and ``sites`` (what the error words mean) grow as it goes; ``number`` numbers the slots."""

    def __init__(self, target: Target, dump: Dump, number: Mapping[Value, int]):
        self.target, self.dump = target, dump
        self.images: dict[str, bytes] = {}
        self.sites: list[ErrorSite] = []
        self._top = _Level(number, frozenset())

    def steps(self, steps: Sequence[Step]) -> tuple[PlanStep, ...]:
        return tuple([self._step(s, self._top) for s in flat(steps)])

    def _step(self, s: Step, where: _Level) -> PlanStep:
        if isinstance(s, Call):
            return self._call(s, where)
        origin = ", ".join(s.origins[:3])
        if isinstance(s, HostStep):
            types = tuple([(v.shape, v.dtype) for v in s.values])
            return HostCall(s.function, s.attributes, where.numbers(s.reads), where.numbers(s.writes), origin, types)
        views = s.views if isinstance(s, Loop) else frozenset()
        inner = _Level({v: i for i, v in enumerate(s.values)}, views)
        slots, offsets, moves = where.places(s.values)
        around = {"name": s.name, "origin": origin, "reads": where.numbers(s.reads), "writes": where.numbers(s.writes), "moves": moves}
        if isinstance(s, Loop):
            condition = -1 if s.condition is None else inner.number[s.condition]
            return LoopCall(slots, offsets, s.trip, tuple([self._step(x, inner) for x in s.steps]), condition, **around)
        assert isinstance(s, Branch)
        sides = [tuple([self._step(x, inner) for x in side]) for side in (s.then, s.otherwise)]
        return BranchCall(slots, offsets, inner.number[s.predicate], sides[0], sides[1], **around)

    def _call(self, call: Call, where: _Level) -> KernelCall:
        from .codegen.llvm.module import assembly, compile_kernel  # LLVM is loaded only when something is compiled

        started = time.perf_counter()
        base = len(self.sites)
        code = compile_kernel(call.kernel, call.schedule, self.target, base)
        self.images[code.image] = code.object
        if VERIFY.get() >= 2 and isinstance(call.kernel, Kernel):
            check_kernel(call.kernel, code.symbol, code.object, code.params, code.units, code.scratch)
        self.dump.kernel(call, code, time.perf_counter() - started, lambda: assembly(code.text, self.target))
        site = f" (in {', '.join(call.origins[:2])})" if call.origins else ""
        self.sites.extend(ErrorSite(base + i + 1, m + site) for i, m in enumerate(call.errors))
        nbytes: int = 0
        for v in dict.fromkeys(call.values):
            nbytes = nbytes + v.nbytes
        slots, offsets, moves = where.places(call.values)
        return KernelCall(
            image=code.image, symbol=code.symbol, slots=slots, offsets=offsets, params=code.params, units=code.units, scratch=code.scratch,
            error=base + 1 if call.errors else 0, name=call.kernel.name, origin=", ".join(call.origins[:3]), flops=call.flops, nbytes=nbytes,
            reads=where.numbers(call.reads), writes=where.numbers(call.writes), moves=moves)
