"""Graphs to ONNX: ``to_proto`` and ``save``. One entry per op class says how it is written; what has none is listed in one error.

Sizes that depend on free dimensions are computed in the model from the shapes of its inputs (or are a -1 where one suffices).
A ``Broadcast`` is written only where its consumer doesn't broadcast by itself, as ONNX's elementwise operators do.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from ...compiler.ir.graph import Graph, Input, Node, post_order
from ...runtime.dim import Dim, key, text, unguarded
from ...runtime.dtype import as_dtype
from ...runtime.errors import ArgumentError, ModelFormatError, UnsupportedOpError
from .tensors import code_of, raw_bytes

OPSET = 17
_IR_VERSION = 8

_SAME = {  # op class -> ONNX operator with the same operands and meaning
    "Add": "Add",
    "Sub": "Sub",
    "Mul": "Mul",
    "Div": "Div",
    "Maximum": "Max",
    "Minimum": "Min",
    "Power": "Pow",
    "Neg": "Neg",
    "Abs": "Abs",
    "Sign": "Sign",
    "Floor": "Floor",
    "Ceil": "Ceil",
    "Round": "Round",
    "Exp": "Exp",
    "Log": "Log",
    "Sqrt": "Sqrt",
    "Sin": "Sin",
    "Cos": "Cos",
    "Tan": "Tan",
    "Asin": "Asin",
    "Acos": "Acos",
    "Atan": "Atan",
    "Sinh": "Sinh",
    "Cosh": "Cosh",
    "Tanh": "Tanh",
    "Asinh": "Asinh",
    "Acosh": "Acosh",
    "Atanh": "Atanh",
    "Erf": "Erf",
    "Sigmoid": "Sigmoid",
    "Relu": "Relu",
    "Softplus": "Softplus",
    "IsNan": "IsNaN",
    "IsInf": "IsInf",
    "Eq": "Equal",
    "Lt": "Less",
    "Le": "LessOrEqual",
    "Gt": "Greater",
    "Ge": "GreaterOrEqual",
    "Select": "Where",
    "StopGradient": "Identity",
}


def to_proto(graph: Graph, bindings: Sequence[Any], *, name: str | None = None, opset: int = OPSET) -> ModelProto:
    """An ONNX model of ``graph``; ``bindings`` have the arrays of its "parameter" inputs, in order.

    Raises UnsupportedOpError that lists every op without an ONNX form, ArgumentError for an opset below 13 or a graph with
    donated state.
    """
    if not 13 <= opset <= 24:
        raise ArgumentError(f"models are written in opsets 13 to 24, not {opset}")
    if graph.aliases or any(n.op.role == "state" for n in graph.inputs):
        raise ArgumentError(f"{graph.name} updates state; only inference can be written as ONNX")
    from . import export_ops  # noqa: F401  (fills the table)

    with unguarded():
        return Writer(graph, bindings, name or graph.name, opset).proto()


def save(model: Any, path: str | os.PathLike, *, opset: int = OPSET) -> None:
    """Writes a model (anything with ``trace(dims)`` and ``bindings``: a loaded ONNX model) as the ONNX file ``path``, whole or
    not at all.
    """
    proto = to_proto(model.trace(_Free()), model.bindings, opset=opset)
    data = proto.SerializeToString()
    target = Path(path)
    try:
        fd, temporary = tempfile.mkstemp(dir=target.parent or ".", prefix=".kerogen-", suffix=".onnx")
        try:
            with os.fdopen(fd, "wb") as f:
                f.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as e:
        raise ModelFormatError(f"{target} can't be written: {e.strerror}") from None


class _Free(dict):
    """Free dimensions at an example value, whatever they are called."""

    def __missing__(self, name: str) -> Dim:
        return Dim.free(name, 7)


class Writer:
    def __init__(self, graph: Graph, bindings: Sequence[Any], name: str, opset: int) -> None:
        self.graph, self.name, self.opset = graph, name, opset
        self.nodes: list = []
        self.initializers: list = []
        self.names: dict[Node, str] = {}
        self.shapes: dict[str, tuple] = {}  # of what was written for a node, where it is not yet broadcast
        self.constants: dict[tuple, str] = {}
        self.sizes: dict[tuple, str] = {}
        self.missing: dict[str, int] = {}
        bound = iter(bindings)
        taken: set[str] = set()
        for n in graph.inputs:
            self.names[n] = _distinct(n.op.name, taken)
            if n.op.role == "parameter":
                self.initializers.append(_tensor(next(bound).array, self.names[n]))
        self.taken = taken

    def proto(self) -> ModelProto:
        g = self.graph
        for n in g.nodes:
            if not isinstance(n.op, Input):
                self.names[n] = self.node(n)
        if self.missing:
            listed = ", ".join(f"{k} ({v}x)" for k, v in sorted(self.missing.items()))
            raise UnsupportedOpError(f"{self.name} can't be written as ONNX: no operator for {listed}")
        outputs = []
        for i, o in enumerate(g.outputs):
            out = g.output_names[i] if i < len(g.output_names) else f"output_{i}"
            out = out if out not in self.taken else _distinct(out, self.taken)
            self.taken.add(out)
            self.nodes.append(helper.make_node("Identity", [self.expanded(o)], [out]))
            outputs.append(_info(out, o))
        inputs = [_info(self.names[n], n) for n in g.inputs if n.op.role == "input"]
        body = helper.make_graph(self.nodes, self.name, inputs, outputs, self.initializers)
        return helper.make_model(
            body, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=_IR_VERSION, producer_name="kerogen"
        )

    # --- writing
    def emit(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        out = _distinct(f"t{len(self.nodes)}", self.taken)
        self.nodes.append(helper.make_node(op, list(inputs), [out], **attributes))
        return out

    def constant(self, array: np.ndarray) -> str:
        identity = (array.dtype.str, array.shape, array.tobytes())
        if identity not in self.constants:
            self.constants[identity] = _distinct(f"c{len(self.constants)}", self.taken)
            self.initializers.append(_tensor(array, self.constants[identity]))
        return self.constants[identity]

    def ints(self, values: Sequence[int]) -> str:
        """An int64 vector; elements that are Dims are computed in the model."""
        if not any(type(v) is Dim for v in values):
            return self.constant(np.array([int(v) for v in values], np.int64))
        parts = [self.size(v) if type(v) is Dim else self.constant(np.array([v], np.int64)) for v in values]
        return parts[0] if len(parts) == 1 else self.emit("Concat", parts, axis=0)

    def target(self, shape: Sequence[int]) -> str:
        """The shape operand of a Reshape: one free size is -1."""
        if sum(type(d) is Dim for d in shape) == 1 and all(type(d) is Dim or d > 0 for d in shape):
            return self.constant(np.array([-1 if type(d) is Dim else d for d in shape], np.int64))
        return self.ints(shape)

    def size(self, d: Dim) -> str:
        """A Dim as an int64 vector of one element, computed from the inputs' shapes."""
        return self.polynomial(d.expr)

    def polynomial(self, expr: tuple) -> str:
        if expr in self.sizes:
            return self.sizes[expr]
        total = None
        for monomial, coefficient in expr:
            term = None if coefficient == 1 and monomial else self.constant(np.array([coefficient], np.int64))
            for atom in monomial:
                factor = self.free(atom) if isinstance(atom, str) else self.operation(*atom)
                term = factor if term is None else self.emit("Mul", [term, factor])
            total = term if total is None else self.emit("Add", [total, term])
        self.sizes[expr] = total if total is not None else self.constant(np.zeros(1, np.int64))
        return self.sizes[expr]

    def operation(self, op: str, a: tuple, b: tuple) -> str:
        names = {"//": "Div", "%": "Mod", "max": "Max", "min": "Min"}  # sizes are not negative, so Div's truncation is a floor
        return self.emit(names[op], [self.polynomial(a), self.polynomial(b)])

    def free(self, name: str) -> str:
        expr = (((name,), 1),)
        if expr not in self.sizes:
            for n in self.graph.inputs:
                for axis, d in enumerate(n.shape):
                    if n.op.role == "input" and type(d) is Dim and d.expr == expr:
                        shape = self.emit("Shape", [self.names[n]])
                        self.sizes[expr] = self.emit("Gather", [shape, self.constant(np.array([axis], np.int64))], axis=0)
                        return self.sizes[expr]
            raise UnsupportedOpError(f"{self.name}: no input has the free dimension {name!r} as a size")
        return self.sizes[expr]

    # --- values
    def shape(self, n: Node) -> tuple:
        """The shape of what stands in the model for ``n``: its own, or the smaller one of a broadcast not written."""
        return self.shapes.get(self.names[n], n.shape)

    def expanded(self, n: Node) -> str:
        """``n`` with its whole shape."""
        name = self.names[n]
        shape = self.shapes.get(name, n.shape)
        if key(shape) == key(n.shape):
            return name
        return self.emit("Expand", [name, self.ints(n.shape)])

    def broadcasting(self, n: Node) -> list[str]:
        """Operands of an elementwise operator, whose own broadcasting gives the result's shape."""
        shapes = [self.shape(i) for i in n.inputs]
        rank = len(n.shape)
        reached = all(any(len(s) >= r and key(s[-r:][:1]) == key(n.shape[-r:][:1]) for s in shapes) for r in range(1, rank + 1))
        if reached:
            return [self.names[i] for i in n.inputs]
        return [self.expanded(n.inputs[0]), *[self.names[i] for i in n.inputs[1:]]]

    def decompose(self, n: Node) -> str:
        """A composite op written by its parts."""
        out = n.op.decompose(*n.inputs)
        for m in post_order([out]):
            if m not in self.names:
                self.names[m] = self.node(m)
        return self.names[out]

    def node(self, n: Node) -> str:
        kind = n.op.name
        writer = _WRITERS.get(kind)
        if writer is not None:
            out = writer(self, n)
            if out is not None:
                return out
        elif kind in _SAME:
            return self.emit(_SAME[kind], self.broadcasting(n) if len(n.inputs) > 1 else [self.expanded(n.inputs[0])])
        self.missing[kind] = self.missing.get(kind, 0) + 1
        return ""


_WRITERS: dict[str, Callable[[Writer, Node], str | None]] = {}


def writes(*names: str) -> Callable:
    def register(fn: Callable) -> Callable:
        for k in names:
            _WRITERS[k] = fn
        return fn

    return register


def _tensor(array: np.ndarray, name: str) -> TensorProto:
    a = np.ascontiguousarray(array).reshape(np.shape(array))
    return TensorProto(name=name, data_type=code_of(as_dtype(a.dtype)), dims=a.shape, raw_data=raw_bytes(a))


def _info(name: str, n: Node):
    return helper.make_tensor_value_info(name, code_of(n.dtype), [text(d) if type(d) is Dim else int(d) for d in n.shape])


def _distinct(name: str, taken: set[str]) -> str:
    while not name or name in taken:
        name += "_"
    taken.add(name)
    return name
