"""How each op class is written as ONNX operators: the table of the exporter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...compiler.ir.graph import Node
from ...runtime.dim import Dim, key
from ...runtime.dtype import int64
from .exporter import Writer, writes
from .tensors import code_of

_REDUCE = {"Sum": "ReduceSum", "Prod": "ReduceProd", "Max": "ReduceMax", "Min": "ReduceMin"}


@writes("Full")
def _full(w: Writer, n: Node) -> str:
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


writes("Constant")(lambda w, n: w.constant(n.op.array))


@writes("Cast")
def _cast(w: Writer, n: Node) -> str:
    return w.emit("Cast", [w.expanded(n.inputs[0])], to=code_of(n.op.dtype))


@writes("Broadcast")
def _broadcast(w: Writer, n: Node) -> str:
    x = n.inputs[0]
    name = w.emit("Identity", [w.names[x]])
    w.shapes[name] = w.shape(x)
    return name


@writes("Reshape")
def _reshape(w: Writer, n: Node) -> str:
    return w.emit("Reshape", [w.expanded(n.inputs[0]), w.target(n.shape)])


@writes("Transpose")
def _transpose(w: Writer, n: Node) -> str:
    return w.emit("Transpose", [w.expanded(n.inputs[0])], perm=list(n.op.perm))


@writes("Concat")
def _concat(w: Writer, n: Node) -> str:
    return w.emit("Concat", [w.expanded(i) for i in n.inputs], axis=n.op.axis)


@writes("Slice")
def _slice(w: Writer, n: Node) -> str:
    o, x = n.op, n.inputs[0]
    stops = []
    for b, m, s, whole in zip(o.starts, o.sizes, o.steps, x.shape):
        stop = b + m * s
        # A stop before the first element is written as the least integer (-1 would mean the last one); a whole axis needs no
        # computed size.
        stops.append(-(2**62) if s < 0 and stop < 0 else 2**62 if s == 1 and key((stop,)) == key((whole,)) else stop)
    axes = w.constant(np.arange(x.rank, dtype=np.int64))
    return w.emit("Slice", [w.expanded(x), w.ints(o.starts), w.ints(stops), axes, w.ints(o.steps)])


@writes("Pad")
def _pad(w: Writer, n: Node) -> str | None:
    o = n.op
    if any(type(v) is Dim or v != 0 for v in o.interior):
        return None
    return w.emit("Pad", [w.expanded(n.inputs[0]), w.ints((*o.lo, *o.hi)), w.constant(np.asarray(o.value, n.dtype.np))])


@writes("Sum", "Prod", "Max", "Min")
def _reduce(w: Writer, n: Node) -> str:
    x, op = w.expanded(n.inputs[0]), _REDUCE[n.op.name]
    if op == "ReduceSum" or w.opset >= 18:
        return w.emit(op, [x, w.constant(np.array(n.op.axes, np.int64))], keepdims=0)
    return w.emit(op, [x], axes=list(n.op.axes), keepdims=0)


@writes("ArgMax", "ArgMin")
def _arg(w: Writer, n: Node) -> str:
    out = w.emit(n.op.name, [w.expanded(n.inputs[0])], axis=n.op.axis, keepdims=0)
    return out if n.dtype is int64 else w.emit("Cast", [out], to=code_of(n.dtype))


@writes("DotGeneral")
def _dot_general(w: Writer, n: Node) -> str:
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


def _first(w: Writer, name: str, rank: int) -> str:
    return w.emit("Transpose", [name], perm=[0, rank - 1, *range(1, rank - 1)])


def _last(w: Writer, name: str, rank: int) -> str:
    return w.emit("Transpose", [name], perm=[0, *range(2, rank), 1])


def _pads(padding: Sequence[tuple[int, int]]) -> list[int] | None:
    flat = [p[0] for p in padding] + [p[1] for p in padding]
    return None if any(type(p) is Dim or p < 0 for p in flat) else flat


@writes("Conv")
def _conv(w: Writer, n: Node) -> str | None:
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


@writes("ConvInputGrad")
def _conv_transpose(w: Writer, n: Node) -> str | None:
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


@writes("MaxPool", "SumPool")
def _pool(w: Writer, n: Node) -> str | None:
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


@writes("Softmax", "LogSoftmax")
def _softmax(w: Writer, n: Node) -> str | None:
    if len(n.op.axes) != 1:
        return w.decompose(n)
    return w.emit(n.op.name, [w.expanded(n.inputs[0])], axis=n.op.axes[0])


@writes("LayerNorm")
def _layer_norm(w: Writer, n: Node) -> str | None:
    x, gamma, beta = n.inputs
    if w.opset < 17 or n.op.axes != tuple(range(x.rank - len(n.op.axes), x.rank)):
        return w.decompose(n)
    return w.emit("LayerNormalization", [w.expanded(i) for i in (x, gamma, beta)], axis=n.op.axes[0], epsilon=n.op.epsilon)


@writes("Gelu", "Silu", "LogSumExp")
def _by_parts(w: Writer, n: Node) -> str | None:
    return w.decompose(n)


@writes("Rsqrt", "Trunc", "Ne", "FloorDiv", "Mod", "Rem", "And", "Or", "Xor", "Not")
def _composed(w: Writer, n: Node) -> str | None:
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


@writes("Log1p", "Expm1")
def _near_zero(w: Writer, n: Node) -> str:
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


@writes("Iota")
def _iota(w: Writer, n: Node) -> str:
    count = n.shape[n.op.axis]
    scalar = w.constant(np.zeros(0, np.int64))
    limit = w.emit("Reshape", [w.ints((count,)), scalar])
    line = w.emit("Range", [w.constant(np.int64(0)), limit, w.constant(np.int64(1))])
    line = line if n.dtype is int64 else w.emit("Cast", [line], to=code_of(n.dtype))
    shape = tuple(count if a == n.op.axis else 1 for a in range(len(n.shape)))
    name = w.emit("Reshape", [line, w.target(shape)])
    w.shapes[name] = shape
    return name


@writes("Take", "TakeAlongAxis")
def _take(w: Writer, n: Node) -> str:
    return w.emit("Gather" if n.op.name == "Take" else "GatherElements", [w.expanded(i) for i in n.inputs], axis=n.op.axis)
