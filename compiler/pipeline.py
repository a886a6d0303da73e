"""The pipeline, in order: from a graph to a program, and from a program to a plan.

    verify - canonicalize - decompose - canonicalize - fuse - per group: lower, collapse - storage - order - slots - emit - assemble

Derivatives are taken while a front end traces (``grad``), so that forward, loss, gradients and update are one graph here. Reasons for the order stand
at the calls in ``program_of``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..runtime import cache, cpu
from ..runtime.config import VERIFY
from ..runtime.dim import Dim, recording
from ..runtime.errors import ModelFormatError, UserError
from ..runtime.executable import Executable
from ..runtime.plan import ErrorSite, KernelCall, Plan, Port
from ..runtime.serialize import dumps, loads
from .check_kernels import check_kernel
from .dump import Dump
from .ir.graph import Graph, Input, Node
from .ir.text import graph_text
from .ir.verify import verify
from .ops.constant import Constant
from .passes.autodiff import grad
from .passes.canonicalize import canonicalize
from .passes.convolution import RULES as CONVOLUTION_RULES
from .passes.decompose import decompose
from .passes.fuse import Partition, fuse
from .passes.lower import Lowerer
from .passes.precision import apply_precision
from .program.copy import copy_kernel
from .program.memory import assign_slots
from .program.order import order_calls
from .program.program import Call, Program, Value
from .program.storage import assign_storage
from .stages import stage_text
from .target import Target
from .version import source_digest

__all__ = ["compile_graph", "executable", "grad", "program_of"]

Trace = Callable[[Mapping[str, int]], Graph]


def optimize(graph: Graph, target: Target, dump: Dump | None = None) -> Graph:
    """The graph that fusion sees: canonical, composites decomposed, convolutions in the form that the target's templates read."""
    dump = dump or Dump(graph.name)
    check = VERIFY.get() > 0
    rules = CONVOLUTION_RULES if _packs(target) else None

    def step(name: str, fn: Callable[[Graph], Graph], g: Graph) -> Graph:
        started = time.perf_counter()
        out = fn(g)
        dump.graph(name, out, g, time.perf_counter() - started)
        if check:
            verify(out, name)
        return out

    dump.graph("traced", graph, None, 0.0)
    if check:
        verify(graph, "tracing")
    graph = step("canonicalize", canonicalize, graph)
    graph = step("decompose", decompose, graph)  # after the first canonicalize: its rules see composites whole
    return step("canonicalize decomposed", lambda g: canonicalize(g, rules), graph)


def _packs(target: Target) -> bool:
    """Whether the target's templates want convolutions without borders and panels of weights (a GPU's read with masks)."""
    return target.arch != "cuda"


def program_of(graph: Graph, target: Target, dump: Dump | None = None) -> Program:
    """The program for ``graph`` on ``target``: kernels in order, no code yet."""
    dump = dump or Dump(graph.name)
    graph = optimize(graph, target, dump)
    started = time.perf_counter()
    partition = fuse(graph)  # on canonical graphs only: it decides by the kinds of neighbouring ops
    dump.fusion(partition, time.perf_counter() - started)

    started = time.perf_counter()
    program = _lower(graph, partition)
    dump.phase("lower", time.perf_counter() - started)
    if _packs(target):
        started = time.perf_counter()
        assign_storage(program, target)  # before ordering: packing calls need places in the order too
        dump.phase("storage", time.perf_counter() - started)
    started = time.perf_counter()
    order_calls(program, _copy)
    dump.phase("order", time.perf_counter() - started)
    dump.program(program)
    return program


def _lower(graph: Graph, partition: Partition) -> Program:
    """One call per group, over values: ports, constants, and what lies between."""
    values: dict[Node, Value] = {n: Value(n.shape, n.dtype, "input", i) for i, n in enumerate(graph.inputs)}
    inputs = list(values.values())
    constants: list[tuple[Value, np.ndarray]] = []
    for n in graph.nodes:
        if isinstance(n.op, Constant):
            values[n] = Value(n.shape, n.dtype, "constant", len(constants))
            constants.append((values[n], n.op.array))

    def stored(n: Node) -> bool:
        return isinstance(n.op, (Input, Constant)) or n in partition.of

    donated = dict(graph.aliases)
    outputs: list[Value] = []
    produced: dict[Node, Value] = {}
    copies: list[tuple[Node, Value]] = []
    for i, o in enumerate(graph.outputs):
        value = Value(o.shape, o.dtype, "output", i, donated.get(i, -1))
        outputs.append(value)
        if o in produced or o in values:  # an output that is an input, a constant, or an earlier output again
            copies.append((o, value))
        else:
            produced[o] = value
    for g in partition.groups:
        for r in g.roots:
            if r not in values:
                values[r] = produced.get(r) or Value(r.shape, r.dtype, "prepared" if g.setup else "arena")
    program = Program(inputs, [n.op.role for n in graph.inputs], outputs, constants)
    lower = Lowerer(stored)
    for g in partition.groups:
        lowered = lower(g)
        origins = tuple(dict.fromkeys(o for n in g.members for o in n.origins))
        flops: int = 0
        for n in g.members:
            flops = flops + n.op.flops(n)
        call = Call(lowered.kernel, tuple(values[n] for n in lowered.nodes), lowered.errors, origins, flops)
        (program.setup if g.setup else program.calls).append(call)
    for n, value in copies:
        program.calls.append(_copy(values[n], value))
    return program


def _copy(source: Value, target: Value) -> Call:
    return Call(copy_kernel(source.shape, source.dtype), (source, target))


def compile_graph(graph: Graph, *, target: Target | None = None, dims: Sequence[str] = (), guards: Mapping | None = None) -> Plan:
    """The plan for ``graph``: machine code for every kernel, and where every byte goes. ``guards`` is what tracing recorded; what the passes record joins it."""
    from .codegen.llvm.module import assembly, compile_kernel  # LLVM is loaded only when something is compiled

    target = target or Target.host()
    dump = Dump(graph.name)
    program = program_of(graph, target, dump)
    slots, number = assign_slots(program)
    images: dict[str, bytes] = {}
    sites: list[ErrorSite] = []

    def emit(call: Call) -> KernelCall:
        started = time.perf_counter()
        base = len(sites)
        code = compile_kernel(call.kernel, call.schedule, target, base)
        images[code.image] = code.object
        if VERIFY.get() >= 2:
            check_kernel(call.kernel, code.symbol, code.object, code.params, code.units, code.scratch)
        dump.kernel(call, code, time.perf_counter() - started, lambda: assembly(code.text, target))
        where = f" (in {', '.join(call.origins[:2])})" if call.origins else ""
        sites.extend(ErrorSite(base + i + 1, m + where) for i, m in enumerate(call.errors))
        nbytes: int = 0
        for v in dict.fromkeys(call.values):
            nbytes = nbytes + v.nbytes
        return KernelCall(
            image=code.image, symbol=code.symbol, slots=tuple(number[v] for v in call.values), offsets=(0,) * len(call.values),
            params=code.params, units=code.units, scratch=code.scratch, error=base + 1 if call.errors else 0, name=call.kernel.name,
            origin=", ".join(call.origins[:3]), flops=call.flops, nbytes=nbytes,
            reads=tuple(number[v] for v in call.reads), writes=tuple(number[v] for v in call.writes))

    setup = tuple(emit(c) for c in program.setup)
    steps = tuple(emit(c) for c in program.calls)
    return Plan(
        name=graph.name, target=machine_of(target), dims=tuple(dims), guards=tuple((guards or {}).items()),
        inputs=tuple(Port(n.op.name, n.shape, n.dtype, n.op.role) for n in graph.inputs),
        outputs=tuple(Port(name, n.shape, n.dtype) for name, n in zip(_output_names(graph), graph.outputs)),
        aliases=graph.aliases, slots=tuple(slots), setup=setup, steps=steps, images=images,
        constants=tuple(np.ascontiguousarray(a) for _, a in program.constants), errors=tuple(sites), report=dump.report())


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
