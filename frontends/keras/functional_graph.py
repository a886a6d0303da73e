"""The calls between symbolic inputs and outputs: their order, Keras' order of operations, and copies that begin at intermediate tensors."""

from __future__ import annotations

from typing import Any

from ...runtime.errors import ArgumentError, StateError
from .operation import Operation, SymbolicNode
from .structure import flatten, pack_as
from .tensor import KerasTensor


def producer(x: KerasTensor) -> SymbolicNode:
    return x._keras_history.operation._inbound_nodes[x._keras_history.node_index]


def build_map(inputs: list[KerasTensor], outputs: list[KerasTensor]) -> tuple[list[SymbolicNode], dict[Operation, int]]:
    """Calls in topological order, and for every operation when the depth-first search first met it. Iterative: models may be deep."""
    declared = {id(x) for x in inputs}
    finished: set[int] = set()
    order: list[SymbolicNode] = []
    met: dict[Operation, int] = {}
    for output in outputs:
        stack: list[tuple[KerasTensor | None, SymbolicNode | None]] = [(output, None)]
        while stack:
            tensor, done = stack.pop()
            if done is not None:
                if id(done) not in finished:
                    finished.add(id(done))
                    order.append(done)
                continue
            if tensor._keras_history is None:
                continue
            node = producer(tensor)
            if id(node) in finished or not node.is_input and id(tensor) in declared:
                continue
            met.setdefault(node.operation, len(met))
            stack.append((None, node))
            stack.extend([(x, None) for x in reversed(node.input_tensors)])
    return order, met


def map_graph(inputs: list[KerasTensor], outputs: list[KerasTensor]) -> tuple:
    """Keys (operation id, call number) of the calls in the graph; calls by depth; operations in Keras' order; operations by depth.

    A call's depth is its longest distance to an output; operations are ordered from the deepest, then as the search met them.
    """
    order, met = build_map(inputs, outputs)
    inside = {id(n) for n in order}
    position = {id(n): {id(m): i for i, m in enumerate(n.operation._inbound_nodes)}[id(n)] for n in order}
    keys = {(id(n.operation), position[id(n)]) for n in order}
    depth: dict[int, int] = {}
    op_depth: dict[Operation, int] = {}
    by_id = {id(n): n for n in order}
    for node in reversed(order):
        d = max(depth.setdefault(id(node), 0), op_depth.get(node.operation, 0))
        op_depth[node.operation] = depth[id(node)] = d
        for parent in node.parents:
            if id(parent) in inside:
                depth[id(parent)] = max(d + 1, depth.get(id(parent), 0))
    for x in inputs:  # inputs that no output needs stay part of the model
        op, index, _ = x._keras_history
        if op not in op_depth and producer(x).is_input:
            op_depth[op] = 0
            met[op] = -1
            node = producer(x)
            by_id[id(node)] = node
            depth[id(node)] = 0
            keys.add((id(op), index))
    nodes_by_depth: dict[int, list[SymbolicNode]] = {}
    for i, d in depth.items():
        nodes_by_depth.setdefault(d, []).append(by_id[i])
    ops_by_depth: dict[int, list[Operation]] = {}
    for op, d in op_depth.items():
        ops_by_depth.setdefault(d, []).append(op)
    operations: list[Operation] = []
    for d in sorted(ops_by_depth, reverse=True):
        operations.extend(sorted(ops_by_depth[d], key=lambda op: met[op]))
    known = {id(x) for x in inputs}
    for d in sorted(nodes_by_depth, reverse=True):
        for node in nodes_by_depth[d]:
            if node.is_input:
                continue  # known where it is declared
            for x in node.input_tensors:
                if id(x) not in known:
                    raise StateError(f"the graph is disconnected: '{node.operation.name}' needs {x!r}, which doesn't come from the model's inputs "
                                     f"({', '.join(t.name for t in inputs)}); add its Input to `inputs`")
            known.update(id(x) for x in node.outputs)
    names = [op.name for op in operations]
    double = sorted({n for n in names if names.count(n) > 1})
    if double:
        raise ArgumentError(f"the name '{double[0]}' is used {names.count(double[0])} times in the model; every operation needs a name of its own")
    return keys, nodes_by_depth, operations, ops_by_depth


def clone_between(inputs: Any, outputs: Any) -> tuple[Any, Any]:
    """For a model that begins at intermediate tensors: new Inputs in their place, and every call in between again."""
    from .layers.input_layer import Input

    order, _ = build_map(flatten(inputs), flatten(outputs))
    values: dict[int, Any] = {}
    new_inputs = []
    for x in flatten(inputs):
        y = x if producer(x).is_input else Input(batch_shape=x.shape, dtype=x.dtype, name=f"{x.name}CLONE")
        values[id(x)] = y
        new_inputs.append(y)
    for node in order:
        if node.is_input or all(id(x) in values for x in node.outputs):
            values.update({id(x): values.get(id(x), x) for x in node.outputs})
            continue
        args, kwargs = node.fill_in(values)
        clones = [KerasTensor(x.shape, x.dtype, name=f"{x.name}_clone") for x in node.outputs]
        SymbolicNode(node.operation, args, kwargs, clones)
        values.update({id(x): y for x, y in zip(node.outputs, clones) if id(x) not in values})
    return pack_as(inputs, new_inputs), pack_as(outputs, [values[id(x)] for x in flatten(outputs)])
