"""The pipeline, in order: from a graph to a program, and from a program to a plan.

    verify - canonicalize - decompose - canonicalize - fuse - per group: lower, collapse - storage - order (``build``) - slots - emit - assemble

Derivatives are taken while a front end traces (``grad``), so that forward, loss, gradients and update are one graph here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..runtime import cache, cpu
from ..runtime.config import VERIFY
from ..runtime.dim import Dim, recording
from ..runtime.errors import ModelFormatError, UserError
from ..runtime.executable import Executable
from ..runtime.plan import BranchCall, ErrorSite, HostCall, KernelCall, LoopCall, Move, Plan, Port
from ..runtime.plan import Step as PlanStep
from ..runtime.serialize import dumps, loads
from .build import optimize, program_of
from .check_kernels import check_kernel
from .dump import Dump
from .ir.graph import Graph
from .ir.text import graph_text
from .kernel.ir import Kernel
from .passes.autodiff import grad
from .passes.precision import apply_precision
from .program.memory import assign_slots
from .program.program import Branch, Call, HostStep, Loop, Step, Value, flat, place_of
from .stages import stage_text
from .target import Target
from .version import source_digest

__all__ = ["compile_graph", "executable", "grad", "program_of"]

Trace = Callable[[Mapping[str, int]], Graph]


def compile_graph(graph: Graph, *, target: Target | None = None, dims: Sequence[str] = (), guards: Mapping | None = None) -> Plan:
    """The plan for ``graph``: machine code for every kernel, and where every byte goes. ``guards`` is what tracing recorded; what the passes record joins it."""
    from .codegen.llvm.module import assembly, compile_kernel  # LLVM is loaded only when something is compiled

    target = target or Target.host()
    dump = Dump(graph.name)
    program = program_of(graph, target, dump)
    slots, number = assign_slots(program)
    images: dict[str, bytes] = {}
    sites: list[ErrorSite] = []

    def emit(call: Call, where: _Level) -> KernelCall:
        started = time.perf_counter()
        base = len(sites)
        code = compile_kernel(call.kernel, call.schedule, target, base)
        images[code.image] = code.object
        if VERIFY.get() >= 2 and isinstance(call.kernel, Kernel):
            check_kernel(call.kernel, code.symbol, code.object, code.params, code.units, code.scratch)
        dump.kernel(call, code, time.perf_counter() - started, lambda: assembly(code.text, target))
        site = f" (in {', '.join(call.origins[:2])})" if call.origins else ""
        sites.extend(ErrorSite(base + i + 1, m + site) for i, m in enumerate(call.errors))
        nbytes: int = 0
        for v in dict.fromkeys(call.values):
            nbytes = nbytes + v.nbytes
        slots, offsets, moves = where.places(call.values)
        return KernelCall(
            image=code.image, symbol=code.symbol, slots=slots, offsets=offsets, params=code.params, units=code.units, scratch=code.scratch,
            error=base + 1 if call.errors else 0, name=call.kernel.name, origin=", ".join(call.origins[:3]), flops=call.flops, nbytes=nbytes,
            reads=where.numbers(call.reads), writes=where.numbers(call.writes), moves=moves)

    def step(s: Step, where: _Level) -> PlanStep:
        if isinstance(s, Call):
            return emit(s, where)
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
            return LoopCall(slots, offsets, s.trip, tuple([step(x, inner) for x in s.steps]), condition, **around)
        assert isinstance(s, Branch)
        sides = [tuple([step(x, inner) for x in side]) for side in (s.then, s.otherwise)]
        return BranchCall(slots, offsets, inner.number[s.predicate], sides[0], sides[1], **around)

    top = _Level(number, frozenset())
    setup = tuple([step(c, top) for c in flat(program.setup)])
    steps = tuple([step(c, top) for c in flat(program.calls)])
    return Plan(
        name=graph.name, target=machine_of(target), dims=tuple(dims), guards=tuple((guards or {}).items()),
        inputs=tuple(Port(n.op.name, n.shape, n.dtype, n.op.role) for n in graph.inputs),
        outputs=tuple(Port(name, n.shape, n.dtype) for name, n in zip(_output_names(graph), graph.outputs)),
        aliases=graph.aliases, slots=tuple(slots), setup=setup, steps=steps, images=images,
        constants=tuple(np.ascontiguousarray(a) for _, a in program.constants), errors=tuple(sites), report=dump.report())


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


def machine_of(target: Target) -> str:
    """The features that a plan's code needs, as ``runtime.cpu.require`` reads them."""
    return cpu.named_machine(target.name).text


def _output_names(graph: Graph) -> tuple[str, ...]:
    return graph.output_names or tuple(f"output_{i}" for i in range(len(graph.outputs)))


def plan_of(trace: Trace, values: Mapping[str, int], options: Any = None, target: Target | None = None) -> Plan:
    """Traces for these values of the free dimensions and compiles, or takes the plan from the cache: then no pass runs.

    Sizes stay expressions, so the plan serves all values for which every comparison made on the way comes out the same (its guards).
    """
    target = target or Target.host()
    with recording() as guards:
        dims = {name: Dim.free(name, v) if v > 0 else v for name, v in values.items()}
        graph = apply_precision(trace(dims), getattr(options, "precision", "highest"))
        key = _plan_key(graph, target)
        exact = f"{key} {sorted(values.items())}"
        for k in (exact, key):
            found = _cached(k)
            if found is not None and found.accepts(values) and all(type(d) is Dim for d in dims.values()):
                return replace(found, guards=tuple({**dict(found.guards), **guards}.items()))
        plan = compile_graph(graph, target=target, dims=tuple(values), guards=guards)
    plan = replace(plan, guards=tuple(guards.items()))
    data = dumps(plan)
    for k in (exact, key):
        cache.put("plan", k, data)
    return plan


def _plan_key(graph: Graph, target: Target) -> str:
    roles = " ".join(n.op.role for n in graph.inputs)
    parts = (graph_text(graph), roles, repr(graph.aliases), target.key, source_digest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _cached(k: str) -> Plan | None:
    data = cache.get("plan", k)
    if data is None:
        return None
    try:
        return loads(data).plans[0]
    except ModelFormatError:
        return None


def executable(trace: Trace, *, bindings: Sequence[Any] = (), name: str = "graph", options: Any = None,
               unflatten: Callable | None = None, target: Target | None = None, ports: Ports | None = None) -> Executable:
    """An ``Executable`` for the graph that ``trace(dims)`` builds.

    ``trace`` is called with a value (a ``Dim``) for every free dimension, by name, whenever a new specialisation is needed; inputs of the
    graph that have role "parameter" or "state" are bound, in order, to ``bindings``: objects with ``array`` and ``version``. A graph without free
    dimensions is compiled now, others when a call tells the sizes. ``options`` has ``threads`` and ``precision`` (``kerogen.Options``); ``ports``:
    those of the graph, where the caller knows them already.
    """
    inputs, outputs = ports or _nominal_ports(trace)
    free = any(type(n) is Dim for p in inputs for n in p.shape)
    plans = [] if free else [plan_of(trace, {}, options, target)]

    def inspect(stage: str, values: Mapping[str, int]) -> str:
        graph = trace({k: Dim.free(k, v) for k, v in values.items()})
        return stage_text(stage, apply_precision(graph, getattr(options, "precision", "highest")), target or Target.host(), optimize, program_of)

    return Executable(inputs, outputs, specialize=lambda values: plan_of(trace, values, options, target), plans=plans, bindings=bindings, name=name,
                      unflatten=unflatten, threads=getattr(options, "threads", None), inspect=inspect)


Ports = tuple[list[Port], list[Port]]


def ports_of(graph: Graph) -> Ports:
    """What goes in and out of a graph, as plans describe it."""
    inputs = [Port(n.op.name, n.shape, n.dtype, n.op.role) for n in graph.inputs]
    return inputs, [Port(n, o.shape, o.dtype) for n, o in zip(_output_names(graph), graph.outputs)]


def _nominal_ports(trace: Trace) -> Ports:
    """The ports of a graph whose sizes no call has told yet. Free dimensions that a model adds, or joins to a fixed size, fit each other only at some
    values, so all have one size first, and 1 (which broadcasts) where the graph refuses that."""
    try:
        return ports_of(trace(_Nominal(83)))
    except UserError:
        try:
            return ports_of(trace(_Nominal(1)))
        except UserError:
            pass
        raise


class _Nominal(dict):
    """Every free dimension at one size."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def __missing__(self, name: str) -> int:
        self[name] = Dim.free(name, self.size)
        return self[name]
