"""From a graph to a program: the passes over graphs, fusion, lowering, and what is decided over whole programs. Reasons for the order stand at the calls."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..runtime.config import VERIFY
from .dump import Dump
from .ir.graph import Graph, Input, Node
from .ir.verify import verify
from .ops.constant import Constant
from .passes.attention import raise_attention, split_gradients
from .passes.canonicalize import canonicalize
from .passes.claims import claims_of
from .passes.convolution import RULES as CONVOLUTION_RULES
from .passes.decompose import decompose
from .passes.fuse import Group, Partition, floating, fuse, step_reads
from .passes.lower import Lowerer
from .passes.scan import simplify_scans
from .program.copy import copy_kernel
from .program.order import order_calls
from .program.program import Call, HostStep, Program, Value
from .program.split import split_reductions
from .program.storage import assign_storage
from .regions import RegionLowering
from .target import Target


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
    graph = step("scans", simplify_scans, graph)  # first: a gradient's scans share nodes with the forward's as long as no pass rewrote them
    graph = step("canonicalize", canonicalize, graph)
    if "Attention" in target.claims:
        graph = step("raise", raise_attention, graph)  # on canonical graphs: few ways to write one thing
    if "AttentionKeyGrad" in target.claims:
        graph = step("split gradients", split_gradients, graph)
    graph = step("decompose", lambda g: decompose(g, claims_of(target)), graph)  # after the first canonicalize: its rules see composites whole
    return step("canonicalize decomposed", lambda g: canonicalize(g, rules), graph)


def _packs(target: Target) -> bool:
    """Whether the target's templates want convolutions without borders and panels of weights (a GPU's read with masks)."""
    return target.arch != "cuda"


def program_of(graph: Graph, target: Target, dump: Dump | None = None) -> Program:
    """The program for ``graph`` on ``target``: steps in order, no code yet."""
    dump = dump or Dump(graph.name)
    program = _program(graph, target, dump)
    dump.program(program)
    return program


def _program(graph: Graph, target: Target, dump: Dump) -> Program:
    graph = optimize(graph, target, dump)
    started = time.perf_counter()
    partition = fuse(graph)  # on canonical graphs only: it decides by the kinds of neighbouring ops
    dump.fusion(partition, time.perf_counter() - started)

    started = time.perf_counter()
    program = _lower(graph, partition, lambda body: _program(body, target, dump))
    dump.phase("lower", time.perf_counter() - started)
    if _packs(target):
        started = time.perf_counter()
        split_reductions(program)
        dump.phase("split", time.perf_counter() - started)
        started = time.perf_counter()
        assign_storage(program, target)  # before ordering: packing calls need places in the order too
        dump.phase("storage", time.perf_counter() - started)
    started = time.perf_counter()
    order_calls(program, _copy)
    dump.phase("order", time.perf_counter() - started)
    return program


def _lower(graph: Graph, partition: Partition, build: Callable[[Graph], Program]) -> Program:
    """One step per group, over values: ports, constants, and what lies between."""
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
    region = RegionLowering(program, build, _copy)
    for g in partition.groups:
        if g.mode == "step":
            _step(g, values, program, region)
            continue
        lowered = lower(g)
        members = list(reversed(g.members))  # they joined readers first
        origins = tuple(dict.fromkeys(o for n in members for o in n.origins))
        ops = tuple([n.op.name for n in members if not floating(n)])
        flops: int = 0
        for n in g.members:
            flops = flops + n.op.flops(n)
        call = Call(lowered.kernel, tuple(values[n] for n in lowered.nodes), lowered.errors, origins, flops, ops=ops)
        (program.setup if g.setup else program.calls).append(call)
        if g.setup:
            region.fixed.update(call.writes)
    for n, value in copies:
        program.calls.append(_copy(values[n], value))
    return program


def _step(g: Group, values: dict[Node, Value], program: Program, region: RegionLowering) -> None:
    """The step of a node that is no kernel."""
    n = next(iter(g.members))
    reads = tuple([values[i] for i in step_reads(n)])
    found = {r.op.index if r is not n else 0: values[r] for r in g.roots}
    if n.op.kind == "region":
        region(n, reads, found, g.setup)
        if g.setup:
            region.fixed.update(found.values())
        return
    types = n.type.items if n.has_items else (n.type,)
    writes = tuple([found.get(i) or Value(t.shape, t.dtype, "prepared" if g.setup else "arena") for i, t in enumerate(types)])
    if n.op.kind == "host":
        function, attributes = n.op.host(n)
        step: Call | HostStep = HostStep(function, attributes, reads, writes, n.origins)
    else:
        step = Call(n.op.routine(n), (*reads, *writes), (), n.origins, n.op.flops(n))
    (program.setup if g.setup else program.calls).append(step)
    if g.setup:
        region.fixed.update(writes)


def _copy(source: Value, target: Value) -> Call:
    return Call(copy_kernel(target.shape, source.dtype), (source, target))
