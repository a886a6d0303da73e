"""Control flow: ``If``, ``Loop`` and ``Scan``. What is known while importing needs no loop; the rest becomes a loop or branch that runs natively."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dim import Dim
from ...runtime.dtype import bool_, int64
from ...runtime.errors import ShapeError
from .call import Call
from .model import GraphDef
from .registry import operator
from .report import NeedsValues, Refusal
from .values import Known, Unknown, Value, Weight, evaluated, known

_MAX_UNROLLED = 4096  # operator calls of a loop that is written out


class _Incomplete(Exception):
    """A body can't be imported; the importer has the issues."""


def _guarded(handler: Callable[[Call], tuple[Value, ...]]) -> Callable[[Call], tuple[Value, ...]]:
    """Where a body can't be imported, its own issues are the report; the results are unknown."""

    def guarded(call: Call) -> tuple[Value, ...]:
        try:
            return handler(call)
        except _Incomplete:
            return tuple(Unknown() for _ in range(call.n_outputs))

    return guarded


@operator("If")
def _if(call: Call) -> tuple[Value, ...]:
    """The branch that is taken where that is known now; else both, of which one is computed: they must agree in types."""
    branches = [call.attr("then_branch"), call.attr("else_branch")]
    if not all(isinstance(b, GraphDef) for b in branches):
        raise call.invalid("has no branches", "then_branch")
    choice = _known_value(call.value(0))
    if choice is None:
        both = [call.importer.subgraph(b, call.scope) for b in branches]
        if any(isinstance(v, Unknown) for values in both for v in values):
            return tuple(Unknown() for _ in range(call.n_outputs))
        nodes = [[call.importer.as_node(v) for v in values] for values in both]
        if len(nodes[0]) == len(nodes[1]) and all(a.type.same(b.type) for a, b in zip(*nodes)):
            return tuple(ops.cond(call.node(0), lambda: nodes[0], lambda: nodes[1]))
        try:
            choice = call.static(0)
        except NeedsValues:
            raise
        except Refusal:
            types = [", ".join(str(n.type) for n in values) for values in nodes]
            raise call.refuse(f"the branches give different types, ({types[0]}) and ({types[1]}), and which is taken depends on data") from None
    return call.importer.subgraph(branches[0 if bool(np.asarray(choice).reshape(-1)[0]) else 1], call.scope)


def _known_value(v: Value) -> np.ndarray | None:
    if isinstance(v, (Known, Weight)):
        return v.array
    return None if isinstance(v, Unknown) else evaluated(v)


def _body(call: Call, inputs: int) -> GraphDef:
    body = call.attr("body")
    if not isinstance(body, GraphDef):
        raise call.invalid("has no body", "body")
    if len(body.inputs) != inputs:
        raise call.invalid(f"its body takes {len(body.inputs)} values, it gives {inputs}", "body")
    return body


def _call_body(call: Call, body: GraphDef, values: Sequence[Value]) -> list[Value]:
    out = list(call.importer.subgraph(body, call.scope, values))
    if any(isinstance(v, Unknown) for v in out):
        raise _Incomplete
    return out


@operator("Loop")
@_guarded
def _loop(call: Call) -> tuple[Value, ...]:
    """A scan where the number of steps is known and nothing ends it early. Where the body needs its step's number, or its values change their type, the
    steps are written out. Else a loop while the condition holds; then no output may be stacked, its size would depend on data."""
    init = [call.value(i) for i in range(2, len(call))]
    body = _body(call, 2 + len(init))
    stacked = len(body.outputs) - 1 - len(init)
    if stacked < 0 or call.n_outputs > len(init) + stacked:
        raise call.invalid(f"its body gives {len(body.outputs)} values, needs the condition, {len(init)} carried values and the stacked ones", "body")
    trip = _known_value(call.value(0)) if call.has(0) else None
    start = _known_value(call.value(1)) if call.has(1) else np.array(True)
    length = None if trip is None else trip.reshape(-1)[0]
    if length is not None:
        length = length if type(length) is Dim else max(0, int(length))
    if start is not None and not bool(start.reshape(-1)[0]):
        length = 0
    fixed = type(length) is int
    small = fixed and length * max(1, len(body.nodes)) <= _MAX_UNROLLED
    if length is not None and start is not None:
        for write in (_scanned, _unrolled) if small else (_scanned,):
            before = list(call.importer.issues)
            try:
                out = write(call, body, init, length)
            except (_Incomplete, ShapeError, Refusal):
                if write is _scanned and small:
                    call.importer.issues[:] = before
                    continue
                raise
            if out is not None:
                return out
    if stacked and any(call.wants(len(init) + i) for i in range(stacked)):
        for i, value in enumerate((trip, start)):
            if call.has(i) and value is None:
                call.static(i)  # raises: it must be known
        raise call.refuse("stacks a value at every step, and the number of steps depends on data", "give the trip count as a constant, and no condition")
    return _while(call, body, init, length)


def _scanned(call: Call, body: GraphDef, init: list[Value], length: int) -> tuple[Value, ...] | None:
    """As a scan; None where the body's condition isn't always true."""
    endless = True

    def step(carries: list[Node], rows: list[Node]) -> tuple[list[Node], list[Node]]:
        nonlocal endless
        out = _call_body(call, body, [rows[0], known(np.array(True)), *carries])
        goes_on = _known_value(out[0])
        endless = goes_on is not None and bool(goes_on.reshape(-1)[0])
        nodes = [call.importer.as_node(v) for v in out[1:]]
        return nodes[: len(carries)], nodes[len(carries) :]

    nodes = [call.importer.as_node(v) for v in init]
    try:
        last, ys = ops.scan(step, nodes, [ops.cast(ops.iota((length,)), int64)], length)
    except _Incomplete:
        if endless:
            raise
        return None
    return (*last, *ys) if endless else None


def _unrolled(call: Call, body: GraphDef, init: list[Value], length: int) -> tuple[Value, ...] | None:
    """Step by step, each with its number known; None where the condition isn't."""
    values = list(init)
    rows: list[list[Value]] = []
    for i in range(length):
        out = _call_body(call, body, [known(np.array(i, np.int64)), known(np.array(True)), *values])
        goes_on = _known_value(out[0])
        if goes_on is None:
            return None
        values = out[1 : 1 + len(init)]
        rows.append(out[1 + len(init) :])
        if not bool(goes_on.reshape(-1)[0]):
            break
    stacked = len(body.outputs) - 1 - len(init)
    if stacked and not rows:
        raise call.refuse("stacks a value at every step, and has no step: the value's type is unknown")
    columns = list(zip(*rows)) if rows else []
    return (*values, *[ops.stack([call.importer.as_node(v) for v in column], 0) for column in columns])


def _while(call: Call, body: GraphDef, init: list[Value], length: int | None) -> tuple[Value, ...]:
    first = call.node(1) if call.has(1) else ops.constant(np.array(True))
    limit = call.node(0) if call.has(0) else None
    if limit is not None and limit.rank:
        limit = ops.reshape(limit, ())
    start = [ops.constant(np.array(0, np.int64)), ops.cast(ops.reshape(first, ()), bool_), *[call.importer.as_node(v) for v in init]]

    def goes_on(carries: list[Node]) -> Node:
        return carries[1] if limit is None else ops.logical_and(carries[1], ops.lt(carries[0], ops.cast(limit, int64)))

    def step(carries: list[Node]) -> list[Node]:
        out = [call.importer.as_node(v) for v in _call_body(call, body, [carries[0], known(np.array(True)), *carries[2:]])]
        test = ops.cast(ops.reshape(out[0], ()), bool_)
        return [ops.add(carries[0], 1), test, *out[1 : len(carries) - 1]]

    return tuple(ops.while_loop(goes_on, step, start)[2:])


@operator("Scan")
@_guarded
def _scan(call: Call) -> tuple[Value, ...]:
    """Opset 9 and later; opset 8 has a batch axis in front of everything."""
    count = call.attr("num_scan_inputs")
    first = 1 if call.version < 9 else 0
    states = len(call) - first - count
    if count < 1 or states < 0:
        raise call.invalid(f"num_scan_inputs is {count}, it has {len(call) - first} inputs", "num_scan_inputs")
    body = _body(call, states + count)
    stacked = len(body.outputs) - states
    if stacked < 0:
        raise call.invalid(f"its body gives {len(body.outputs)} values for {states} states", "body")
    init = [call.node(first + i) for i in range(states)]
    items = [call.node(first + states + i) for i in range(count)]
    if call.version >= 9:
        return tuple(_steps(call, body, init, items, states, stacked, call.attr("scan_input_axes", None), call.attr("scan_input_directions", None)))
    if call.has(0):
        raise call.refuse("sequence_lens of opset 8 isn't supported", "export with opset 9 or later")

    def sample(_: list[Node], rows: list[Node]) -> tuple[list[Node], list[Node]]:
        return [], _steps(call, body, rows[:states], rows[states:], states, stacked, None, call.attr("directions", None))

    return tuple(ops.scan(sample, [], [*init, *items])[1])


def _steps(call: Call, body: GraphDef, init: list[Node], items: list[Node], states: int, stacked: int, axes, directions) -> list[Node]:
    """Last states and stacked outputs of one scan over ``items``, each along its axis and in its direction."""

    def listed(value, n: int, name: str) -> list[int]:
        if value is not None and len(value) != n:
            raise call.invalid(f"{name} has {len(value)} values, needs {n}", name)
        return [0] * n if value is None else list(value)

    xs = []
    for x, axis, backwards in zip(items, listed(axes, len(items), "scan_input_axes"), listed(directions, len(items), "scan_input_directions")):
        axis = call.normal(axis, x.rank)
        x = ops.transpose(x, (axis, *[i for i in range(x.rank) if i != axis]))
        xs.append(ops.flip(x, 0) if backwards else x)

    def step(carries: list[Node], rows: list[Node]) -> tuple[list[Node], list[Node]]:
        out = [call.importer.as_node(v) for v in _call_body(call, body, [*carries, *rows])]
        return out[:states], out[states:]

    last, ys = ops.scan(step, init, xs)
    newer = call.version >= 9
    out_axes = listed(call.attr("scan_output_axes", None) if newer else None, stacked, "scan_output_axes")
    out_directions = listed(call.attr("scan_output_directions", None) if newer else None, stacked, "scan_output_directions")
    outputs = []
    for y, axis, backwards in zip(ys, out_axes, out_directions):
        y = ops.flip(y, 0) if backwards else y
        axis = call.normal(axis, y.rank)
        rest = list(range(1, y.rank))
        outputs.append(ops.transpose(y, (*rest[:axis], 0, *rest[axis:])))
    return [*last, *outputs]
