"""The pipeline, in order: from a graph to a program, and from a program to a plan.

    verify - canonicalize - decompose - canonicalize - fuse - per group: lower, collapse - storage - order (``build``) - slots - emit - assemble

Derivatives are taken while a front end traces (``grad``), so that forward, loss, gradients and update are one graph here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..runtime import cache, cpu
from ..runtime.dim import Dim, recording
from ..runtime.errors import ModelFormatError, UserError
from ..runtime.executable import Executable
from ..runtime.plan import Plan, Port
from ..runtime.serialize import dumps, loads
from .build import optimize, program_of
from .dump import Dump
from .emission import Emission
from .ir.graph import Graph
from .ir.text import graph_text
from .passes.autodiff import grad
from .passes.precision import apply_precision
from .program.memory import assign_slots
from .stages import stage_text
from .target import Target
from .version import source_digest

__all__ = ["compile_graph", "executable", "grad", "program_of"]

Trace = Callable[[Mapping[str, int]], Graph]


def compile_graph(graph: Graph, *, target: Target | None = None, dims: Sequence[str] = (), guards: Mapping | None = None) -> Plan:
    """The plan for ``graph``: machine code for every kernel, and where every byte goes. ``guards`` is what tracing recorded; what the passes record joins it."""
    target = target or Target.host()
    dump = Dump(graph.name)
    program = program_of(graph, target, dump)
    slots, number = assign_slots(program)
    emission = Emission(target, dump, number)
    setup, steps = emission.steps(program.setup), emission.steps(program.calls)
    return Plan(
        name=graph.name, target=machine_of(target), dims=tuple(dims), guards=tuple((guards or {}).items()),
        inputs=tuple(Port(n.op.name, n.shape, n.dtype, n.op.role) for n in graph.inputs),
        outputs=tuple(Port(name, n.shape, n.dtype) for name, n in zip(_output_names(graph), graph.outputs)),
        aliases=graph.aliases, slots=tuple(slots), setup=setup, steps=steps, images=emission.images,
        constants=tuple(np.ascontiguousarray(a) for _, a in program.constants), errors=tuple(emission.sites), report=dump.report(program, target.name))


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
