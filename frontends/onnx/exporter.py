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
from ...runtime.dtype import as_dtype, int64
from ...runtime.errors import ArgumentError, ModelFormatError, UnsupportedOpError
from .tensors import code_of

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
_REDUCE = {"Sum": "ReduceSum", "Prod": "ReduceProd", "Max": "ReduceMax", "Min": "ReduceMin"}


def to_proto(graph: Graph, bindings: Sequence[Any], *, name: str | None = None, opset: int = OPSET) -> ModelProto:
    """An ONNX model of ``graph``; ``bindings`` have the arrays of its "parameter" inputs, in order.

    Raises UnsupportedOpError that lists every op without an ONNX form, ArgumentError for an opset below 13 or a graph with donated state.
    """
    if not 13 <= opset <= 24:
        raise ArgumentError(f"models are written in opsets 13 to 24, not {opset}")
    if graph.aliases or any(n.op.role == "state" for n in graph.inputs):
        raise ArgumentError(f"{graph.name} updates state; only inference can be written as ONNX")
    with unguarded():
        return _Writer(graph, bindings, name or graph.name, opset).proto()


def save(model: Any, path: str | os.PathLike, *, opset: int = OPSET) -> None:
    """Writes a model (anything with ``trace(dims)`` and ``bindings``: a loaded ONNX model) as the ONNX file ``path``, whole or not at all."""
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


class _Writer:
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
        if _key(shape) == _key(n.shape):
            return name
        return self.emit("Expand", [name, self.ints(n.shape)])

    def broadcasting(self, n: Node) -> list[str]:
        """Operands of an elementwise operator, whose own broadcasting gives the result's shape."""
        shapes = [self.shape(i) for i in n.inputs]
        rank = len(n.shape)
        reached = all(any(len(s) >= r and _key(s[-r:][:1]) == _key(n.shape[-r:][:1]) for s in shapes) for r in range(1, rank + 1))
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


_WRITERS: dict[str, Callable[[_Writer, Node], str | None]] = {}


def _writes(*names: str) -> Callable:
    def register(fn: Callable) -> Callable:
        for k in names:
            _WRITERS[k] = fn
        return fn

    return register


@_writes("Full")
def _full(w: _Writer, n: Node) -> str:
    if type(n.op.value) is Dim:
        one = w.emit("Reshape", [w.size(n.op.value), w.constant(np.zeros(0, np.int64))])
        name = one if n.dtype is int64 else w.emit("Cast", [one], to=code_of(n.dtype))
    else:
        name = w.constant(np.asarray(n.op.value, n.dtype.np))
    if n.shape:
        # As a scalar under its own name: consumers that broadcast take it as it is.
        name = w.emit("Identity", [name])
        w.shapes[name] = ()
    return name


_writes("Constant")(lambda w, n: w.constant(n.op.array))


@_writes("Cast")
def _cast(w: _Writer, n: Node) -> str:
    return w.emit("Cast", [w.expanded(n.inputs[0])], to=code_of(n.op.dtype))


@_writes("Broadcast")
def _broadcast(w: _Writer, n: Node) -> str:
    x = n.inputs[0]
    name = w.emit("Identity", [w.names[x]])
    w.shapes[name] = w.shape(x)
    return name


@_writes("Reshape")
def _reshape(w: _Writer, n: Node) -> str:
    return w.emit("Reshape", [w.expanded(n.inputs[0]), w.target(n.shape)])


@_writes("Transpose")
def _transpose(w: _Writer, n: Node) -> str:
    return w.emit("Transpose", [w.expanded(n.inputs[0])], perm=list(n.op.perm))


@_writes("Concat")
def _concat(w: _Writer, n: Node) -> str:
    return w.emit("Concat", [w.expanded(i) for i in n.inputs], axis=n.op.axis)


@_writes("Slice")
def _slice(w: _Writer, n: Node) -> str:
    o, x = n.op, n.inputs[0]
    stops = []
    for b, m, s, whole in zip(o.starts, o.sizes, o.steps, x.shape):
        stop = b + m * s
        # A stop before the first element is written as the least integer (-1 would mean the last one); a whole axis needs no computed size.
        stops.append(-(2**62) if s < 0 and stop < 0 else 2**62 if s == 1 and _key((stop,)) == _key((whole,)) else stop)
    axes = w.constant(np.arange(x.rank, dtype=np.int64))
    return w.emit("Slice", [w.expanded(x), w.ints(o.starts), w.ints(stops), axes, w.ints(o.steps)])


@_writes("Pad")
def _pad(w: _Writer, n: Node) -> str | None:
    o = n.op
    if any(type(v) is Dim or v != 0 for v in o.interior):
        return None
    return w.emit("Pad", [w.expanded(n.inputs[0]), w.ints((*o.lo, *o.hi)), w.constant(np.asarray(o.value, n.dtype.np))])


@_writes("Sum", "Prod", "Max", "Min")
def _reduce(w: _Writer, n: Node) -> str:
    x, op = w.expanded(n.inputs[0]), _REDUCE[n.op.name]
    if op == "ReduceSum" or w.opset >= 18:
        return w.emit(op, [x, w.constant(np.array(n.op.axes, np.int64))], keepdims=0)
    return w.emit(op, [x], axes=list(n.op.axes), keepdims=0)


@_writes("ArgMax", "ArgMin")
def _arg(w: _Writer, n: Node) -> str:
    out = w.emit(n.op.name, [w.expanded(n.inputs[0])], axis=n.op.axis, keepdims=0)
    return out if n.dtype is int64 else w.emit("Cast", [out], to=code_of(n.dtype))


@_writes("DotGeneral")
def _dot_general(w: _Writer, n: Node) -> str:
    o = n.op
    (a, b), names = n.inputs, [w.expanded(i) for i in n.inputs]
    lead = len(o.batch_a)
    if len(o.contract_a) == 1 and o.batch_a == o.batch_b == tuple(range(lead)) and o.contract_a == (a.rank - 1,):
        if o.contract_b == (lead,) and b.rank == lead + 2 and (a.rank == lead + 2 or lead == 0):
            return w.emit("MatMul", names)
    letters = [chr(ord("a") + i) for i in range(a.rank + b.rank)]
    la, lb = letters[: a.rank], letters[a.rank :]
    for i, j in zip((*o.batch_a, *o.contract_a), (*o.batch_b, *o.contract_b)):
        lb[j] = la[i]
    rest_a = [la[i] for i in range(a.rank) if i not in o.batch_a and i not in o.contract_a]
    rest_b = [lb[i] for i in range(b.rank) if i not in o.batch_b and i not in o.contract_b]
    return w.emit(
        "Einsum", names, equation=f"{''.join(la)},{''.join(lb)}->{''.join([la[i] for i in o.batch_a] + rest_a + rest_b)}"
    )


def _first(w: _Writer, name: str, rank: int) -> str:
    return w.emit("Transpose", [name], perm=[0, rank - 1, *range(1, rank - 1)])


def _last(w: _Writer, name: str, rank: int) -> str:
    return w.emit("Transpose", [name], perm=[0, *range(2, rank), 1])


def _pads(padding: Sequence[tuple[int, int]]) -> list[int] | None:
    flat = [p[0] for p in padding] + [p[1] for p in padding]
    return None if any(type(p) is Dim or p < 0 for p in flat) else flat


@_writes("Conv")
def _conv(w: _Writer, n: Node) -> str | None:
    o, (x, k) = n.op, n.inputs
    pads = _pads(o.padding)
    if pads is None or not n.dtype.is_float:
        return None
    kernel = w.emit("Transpose", [w.expanded(k)], perm=[k.rank - 1, k.rank - 2, *range(k.rank - 2)])
    y = w.emit(
        "Conv",
        [_first(w, w.expanded(x), x.rank), kernel],
        strides=list(o.strides),
        pads=pads,
        dilations=list(o.dilation),
        group=o.groups,
    )
    return _last(w, y, x.rank)


@_writes("ConvInputGrad")
def _conv_transpose(w: _Writer, n: Node) -> str | None:
    o, (y, k) = n.op, n.inputs
    extra = []
    for size, m, s, (lo, hi), d, r in zip(o.sizes, y.shape[1:-1], o.strides, o.padding, o.dilation, k.shape[:-2]):
        extra.append(size - (s * (m - 1) + (r - 1) * d + 1 - lo - hi))
    pads = _pads([(lo, hi) for lo, hi in o.padding])
    if pads is None or any(type(e) is Dim or e < 0 for e in extra):
        return None
    kernel = w.emit("Transpose", [w.expanded(k)], perm=[k.rank - 1, k.rank - 2, *range(k.rank - 2)])
    x = w.emit(
        "ConvTranspose",
        [_first(w, w.expanded(y), y.rank), kernel],
        strides=list(o.strides),
        pads=pads,
        dilations=list(o.dilation),
        group=o.groups,
        output_padding=[int(e) for e in extra],
    )
    return _last(w, x, y.rank)


@_writes("MaxPool", "SumPool")
def _pool(w: _Writer, n: Node) -> str | None:
    o, x = n.op, n.inputs[0]
    pads = _pads(o.padding)
    if pads is None:
        return None
    settings: dict[str, Any] = {"kernel_shape": list(o.window), "strides": list(o.strides), "pads": pads}
    if any(d != 1 for d in o.dilation):
        if o.name == "SumPool" and w.opset < 19:
            return None
        settings["dilations"] = list(o.dilation)
    first = _first(w, w.expanded(x), x.rank)
    if o.name == "MaxPool":
        return _last(w, w.emit("MaxPool", [first], **settings), x.rank)
    mean = w.emit("AveragePool", [first], count_include_pad=1, **settings)
    count = 1
    for k in o.window:
        count *= k
    return _last(w, w.emit("Mul", [mean, w.constant(np.asarray(count, n.dtype.np))]), x.rank)


@_writes("Softmax", "LogSoftmax")
def _softmax(w: _Writer, n: Node) -> str | None:
    if len(n.op.axes) != 1:
        return w.decompose(n)
    return w.emit(n.op.name, [w.expanded(n.inputs[0])], axis=n.op.axes[0])


@_writes("LayerNorm")
def _layer_norm(w: _Writer, n: Node) -> str | None:
    x, gamma, beta = n.inputs
    if w.opset < 17 or n.op.axes != tuple(range(x.rank - len(n.op.axes), x.rank)):
        return w.decompose(n)
    return w.emit("LayerNormalization", [w.expanded(i) for i in (x, gamma, beta)], axis=n.op.axes[0], epsilon=n.op.epsilon)


@_writes("Gelu", "Silu", "LogSumExp")
def _by_parts(w: _Writer, n: Node) -> str | None:
    return w.decompose(n)


@_writes("Rsqrt", "Trunc", "Ne", "FloorDiv", "Mod", "Rem", "And", "Or", "Xor", "Not")
def _composed(w: _Writer, n: Node) -> str | None:
    x, dtype, kind = n.inputs[0], n.inputs[0].dtype, n.op.name
    if kind == "Not":
        return (
            None if dtype.kind != "b" and w.opset < 18 else w.emit("Not" if dtype.kind == "b" else "BitwiseNot", [w.expanded(x)])
        )
    if kind in ("And", "Or", "Xor"):
        return (
            None
            if dtype.kind != "b" and w.opset < 18
            else w.emit(kind if dtype.kind == "b" else "Bitwise" + kind, w.broadcasting(n))
        )
    if kind == "Ne":
        return w.emit("Not", [w.emit("Equal", w.broadcasting(n))])
    if kind in ("Mod", "Rem"):
        return w.emit("Mod", w.broadcasting(n), fmod=int(kind == "Rem")) if dtype.is_int or kind == "Rem" else None
    if kind == "Rsqrt":
        return w.emit("Reciprocal", [w.emit("Sqrt", [w.expanded(x)])])
    if kind == "Trunc":
        return w.emit("Mul", [w.emit("Sign", [w.expanded(x)]), w.emit("Floor", [w.emit("Abs", [w.expanded(x)])])])
    if kind == "FloorDiv" and dtype.is_float:
        return w.emit("Floor", [w.emit("Div", w.broadcasting(n))])
    return None


@_writes("Log1p", "Expm1")
def _near_zero(w: _Writer, n: Node) -> str:
    """ONNX has neither function; written so that they stay accurate near 0."""
    x, one = w.expanded(n.inputs[0]), w.constant(np.ones((), n.dtype.np))
    if n.op.name == "Log1p":  # Kahan: log(u) x / (u - 1) with u = 1 + x rounded
        u = w.emit("Add", [x, one])
        exact = w.emit("Div", [w.emit("Mul", [w.emit("Log", [u]), x]), w.emit("Sub", [u, one])])
        whole = w.emit("Or", [w.emit("Equal", [u, one]), w.emit("IsInf", [u])])
        return w.emit("Where", [whole, x, exact])
    two = w.constant(np.full((), 2, n.dtype.np))  # 2 t / (1 - t) with t = tanh(x / 2), near 0
    t = w.emit("Tanh", [w.emit("Div", [x, two])])
    near = w.emit("Div", [w.emit("Mul", [t, two]), w.emit("Sub", [one, t])])
    return w.emit("Where", [w.emit("Less", [w.emit("Abs", [x]), one]), near, w.emit("Sub", [w.emit("Exp", [x]), one])])


@_writes("Iota")
def _iota(w: _Writer, n: Node) -> str:
    count = n.shape[n.op.axis]
    scalar = w.constant(np.zeros(0, np.int64))
    limit = w.emit("Reshape", [w.ints((count,)), scalar])
    line = w.emit("Range", [w.constant(np.int64(0)), limit, w.constant(np.int64(1))])
    line = line if n.dtype is int64 else w.emit("Cast", [line], to=code_of(n.dtype))
    shape = tuple(count if a == n.op.axis else 1 for a in range(len(n.shape)))
    name = w.emit("Reshape", [line, w.target(shape)])
    w.shapes[name] = shape
    return name


@_writes("Take", "TakeAlongAxis")
def _take(w: _Writer, n: Node) -> str:
    return w.emit("Gather" if n.op.name == "Take" else "GatherElements", [w.expanded(i) for i in n.inputs], axis=n.op.axis)


def _tensor(array: np.ndarray, name: str) -> TensorProto:
    a = np.ascontiguousarray(array).reshape(np.shape(array))
    return TensorProto(name=name, data_type=code_of(as_dtype(a.dtype)), dims=a.shape, raw_data=a.tobytes())


def _info(name: str, n: Node):
    return helper.make_tensor_value_info(name, code_of(n.dtype), [text(d) if type(d) is Dim else int(d) for d in n.shape])


def _key(shape: Sequence[int]) -> tuple:
    return key(tuple(shape))


def _distinct(name: str, taken: set[str]) -> str:
    while not name or name in taken:
        name += "_"
    taken.add(name)
    return name
