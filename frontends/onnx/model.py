"""A ``ModelProto`` as plain checked records: what the importer walks. Nothing later touches protobuf fields of the file.

Structure is checked here (names defined before use, each once; attributes typed; every tensor's bytes against its shape), so that
a hostile or
damaged file is refused with a ``ModelFormatError`` before anything is computed from it. Whether operators are *supported* is the
importer's question.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto
from onnx.defs import onnx_opset_version

from ...runtime.dtype import DType
from ...runtime.errors import ArgumentError, ModelFormatError, UnsupportedOpError
from .external import ExternalData
from .tensors import MAX_RANK, dtype_name, dtype_of, to_array

_MAX_FILE = 2**31  # protobuf's own limit


@dataclass(frozen=True)
class ValueInfo:
    """A graph input or output. ``shape`` has ints, names (str) and None (unknown size); it is None where the rank is unknown.

    ``dtype`` is None where kerogen has no such element type or the value is no tensor; ``kind`` then names it.
    """

    name: str
    dtype: DType | None
    shape: tuple[int | str | None, ...] | None
    kind: str = "tensor"


@dataclass(frozen=True)
class Reference:
    """An attribute inside a function body that takes its value from the caller's attribute ``name``."""

    name: str


@dataclass(frozen=True)
class Refused:
    """Stands for a value that can't be read (an element type that kerogen lacks); ``reason`` says why."""

    reason: str


@dataclass(frozen=True)
class Attribute:
    """``value``: int, float, str, array, GraphDef, a tuple of one of these, Reference or Refused. ``proto`` is what the file has.
    """

    value: Any
    proto: AttributeProto = field(repr=False)


@dataclass(frozen=True)
class NodeDef:
    """One operator call. ``label`` is what errors name: the node's name, or operator and position where it has none."""

    op: str
    domain: str
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    overload: str = ""


@dataclass(frozen=True)
class GraphDef:
    name: str
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    initializers: Mapping[str, np.ndarray | Refused]
    nodes: tuple[NodeDef, ...]


@dataclass(frozen=True)
class FunctionDef:
    """A function body: ``defaults`` are attributes with default values, ``opsets`` its own imports."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    defaults: Mapping[str, Attribute]
    nodes: tuple[NodeDef, ...]
    opsets: Mapping[str, int]


@dataclass(frozen=True)
class ModelDef:
    graph: GraphDef
    opsets: Mapping[str, int]
    functions: Mapping[tuple[str, str, str], FunctionDef]
    name: str
    producer: str
    ir_version: int
    nbytes: int


def utf8(name: str | bytes) -> str:
    """A name in a file. protobuf gives bytes where the file's are not UTF-8."""
    if not isinstance(name, str):
        raise ModelFormatError(f"a name in the file is not UTF-8: {name[:40]!r}")
    return name


def domain_of(name: str) -> str:
    """ "ai.onnx" and "" are one domain."""
    return "" if utf8(name) == "ai.onnx" else name


def read_model(src: Any, *, opset: int | None = None, allow_links: bool = False) -> ModelDef:
    """The model in ``src``: a path, the file's bytes, or a ``ModelProto``. ``opset`` overrides the version of the default domain
    that the file states.
    """
    folder, name = None, "model"
    if isinstance(src, ModelProto):
        proto, nbytes = src, 0
    elif isinstance(src, (bytes, bytearray, memoryview)):
        nbytes = len(src)
        proto = _parse(bytes(src), "the given bytes")
    elif isinstance(src, (str, os.PathLike)):
        path = Path(src)
        name, folder = path.stem, path.parent
        data = _read(path)
        nbytes = len(data)
        proto = _parse(data, str(path))
    else:
        raise ArgumentError(f"an ONNX model is given as a path, bytes or ModelProto, not {type(src).__name__}")
    reader = _Reader(ExternalData(folder, allow_links=allow_links))
    return reader.model(proto, name, nbytes, opset)


def read_function(f) -> FunctionDef:
    """A FunctionProto as a record (its tensors are all stored inside)."""
    return _Reader(ExternalData(None)).function(f, complete=False)


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as f:
            size = os.fstat(f.fileno()).st_size
            if size >= _MAX_FILE:
                raise ModelFormatError(
                    f"{path} has {size} bytes; a protobuf file holds less than 2 GiB (larger weights go to external data)"
                )
            return f.read(_MAX_FILE)
    except FileNotFoundError:
        raise ModelFormatError(f"{path}: no such file") from None
    except OSError as e:
        raise ModelFormatError(f"{path} can't be read: {e.strerror}") from None


def _parse(data: bytes, what: str) -> ModelProto:
    from google.protobuf.message import DecodeError

    if not data:
        raise ModelFormatError(f"{what}: empty, not an ONNX model")
    try:
        return ModelProto.FromString(data)
    except DecodeError:
        raise ModelFormatError(f"{what}: not an ONNX model (truncated, damaged, or another format)") from None


class _Reader:
    def __init__(self, external: ExternalData) -> None:
        self.external = external

    def model(self, m: ModelProto, name: str, nbytes: int, opset: int | None) -> ModelDef:
        if not m.HasField("graph") or not (m.graph.node or m.graph.output):
            raise ModelFormatError(f"{name}: not an ONNX model, or one without a graph")
        opsets = self.opsets(m.opset_import, m.ir_version)
        if opset is not None:
            opsets[""] = int(opset)
        newest = onnx_opset_version()
        if not 1 <= opsets.get("", 1) <= newest:
            raise UnsupportedOpError(
                f"{name} needs opset {opsets['']}; this kerogen reads 1 to {newest} (a newer onnx package may read it)"
            )
        functions = {}
        for f in m.functions:
            key = (domain_of(f.domain), utf8(f.name), utf8(f.overload))
            if key in functions:
                raise ModelFormatError(f"function {f.domain}.{f.name} is defined twice")
            functions[key] = self.function(f)
        graph = self.graph(m.graph, utf8(m.graph.name) or name, frozenset())
        producer = " ".join(x for x in (utf8(m.producer_name), utf8(m.producer_version)) if x)
        return ModelDef(
            graph, opsets, functions, m.graph.name if name == "model" and m.graph.name else name, producer, m.ir_version, nbytes
        )

    def opsets(self, imports, ir_version: int) -> dict[str, int]:
        opsets: dict[str, int] = {}
        for o in imports:
            d = domain_of(o.domain)
            if opsets.get(d, o.version) != o.version:
                raise ModelFormatError(f"two versions of domain {d!r} are imported: {opsets[d]} and {o.version}")
            opsets[d] = o.version
        if not opsets:
            if ir_version >= 3:
                raise ModelFormatError("the model imports no operator set")
            opsets[""] = 1
        return opsets

    def function(self, f, complete: bool = True) -> FunctionDef:
        """A function body. Those that onnx's own schemas carry may leave optional outputs out (not ``complete``)."""
        label = f"function {utf8(f.name)}"
        defaults = {utf8(a.name): Attribute(self.value(a, label), a) for a in f.attribute_proto}
        defined = {utf8(x) for x in f.input}
        if len(defined) != len(f.input):
            raise ModelFormatError(f"{label} names an input twice")
        nodes = self.nodes(f.node, defined, label)
        for o in map(utf8, f.output):
            if o not in defined and complete:
                raise ModelFormatError(f"{label}: output {o!r} is not computed by any node")
        return FunctionDef(f.name, tuple(f.input), tuple(f.output), defaults, nodes, self.opsets(f.opset_import, 10))

    def graph(self, g: GraphProto, name: str, outer: frozenset[str]) -> GraphDef:
        inputs = tuple(self.value_info(v) for v in g.input)
        names = [v.name for v in inputs]
        if len(set(names)) != len(names):
            raise ModelFormatError(f"graph {name!r} names an input twice: {names}")
        initializers: dict[str, np.ndarray | Refused] = {}
        for t in g.initializer:
            if not utf8(t.name) or t.name in initializers:
                raise ModelFormatError(
                    f"graph {name!r}: initializer {t.name!r} {'is defined twice' if t.name else 'without a name'}"
                )
            initializers[t.name] = self.tensor(t, f"initializer {t.name!r}")
        for s in g.sparse_initializer:
            t = utf8(s.values.name)
            if not t or t in initializers:
                raise ModelFormatError(
                    f"graph {name!r}: sparse initializer {t!r} {'is defined twice' if t else 'without a name'}"
                )
            initializers[t] = self.sparse(s, f"sparse initializer {t!r}")
        defined = set(outer) | set(names) | set(initializers)
        nodes = self.nodes(g.node, defined, f"graph {name!r}")
        outputs = tuple(self.value_info(v) for v in g.output)
        for v in outputs:
            if v.name not in defined:
                raise ModelFormatError(f"graph {name!r}: output {v.name!r} is not computed by any node")
        return GraphDef(name, inputs, outputs, initializers, nodes)

    def nodes(self, protos, defined: set[str], where: str) -> tuple[NodeDef, ...]:
        out = []
        for i, n in enumerate(protos):
            label = utf8(n.name) or f"{utf8(n.op_type)}#{i}"
            for x in map(utf8, n.input):
                if x and x not in defined:
                    raise ModelFormatError(f"{where}: node {label!r} ({n.op_type}) reads {x!r}, which nothing before it defines")
            out.append(self.node(n, label, frozenset(defined)) if _has_graph(n) else self.node(n, label, frozenset()))
            for x in map(utf8, n.output):
                if x in defined and x:
                    raise ModelFormatError(f"{where}: node {label!r} ({n.op_type}) defines {x!r} a second time")
                defined.add(x)
        return tuple(out)

    def node(self, n: NodeProto, label: str, outer: frozenset[str]) -> NodeDef:
        if not n.op_type:
            raise ModelFormatError(f"node {label!r} names no operator")
        attributes: dict[str, Attribute] = {}
        for a in n.attribute:
            if not utf8(a.name) or a.name in attributes:
                raise ModelFormatError(
                    f"node {label!r} ({n.op_type}): attribute {a.name!r} {'is given twice' if a.name else 'without a name'}"
                )
            attributes[a.name] = Attribute(self.value(a, f"node {label!r} ({n.op_type}), attribute {a.name!r}", outer), a)
        return NodeDef(n.op_type, domain_of(n.domain), label, tuple(n.input), tuple(n.output), attributes, utf8(n.overload))

    def value(self, a: AttributeProto, what: str, outer: frozenset[str] = frozenset()) -> Any:
        """An attribute's value in Python types."""
        if a.ref_attr_name:
            return Reference(utf8(a.ref_attr_name))
        kind = a.type
        if kind == AttributeProto.INT:
            return a.i
        if kind == AttributeProto.FLOAT:
            return a.f
        if kind == AttributeProto.STRING:
            return _text(a.s)
        if kind == AttributeProto.INTS:
            return tuple(a.ints)
        if kind == AttributeProto.FLOATS:
            return tuple(a.floats)
        if kind == AttributeProto.STRINGS:
            return tuple(_text(s) for s in a.strings)
        if kind == AttributeProto.TENSOR:
            return self.tensor(a.t, what)
        if kind == AttributeProto.TENSORS:
            return tuple(self.tensor(t, what) for t in a.tensors)
        if kind == AttributeProto.GRAPH:
            return self.graph(a.g, utf8(a.g.name) or what, outer)
        if kind == AttributeProto.GRAPHS:
            return tuple(self.graph(g, utf8(g.name) or what, outer) for g in a.graphs)
        if kind == AttributeProto.SPARSE_TENSOR:
            return self.sparse(a.sparse_tensor, what)
        if kind == AttributeProto.UNDEFINED:
            raise ModelFormatError(f"{what} states no type")
        return Refused(f"{what} is of kind {AttributeProto.AttributeType.Name(kind)}")

    def tensor(self, t: TensorProto, what: str) -> np.ndarray | Refused:
        try:
            return to_array(t, self.external, what)
        except UnsupportedOpError as e:
            return Refused(str(e))

    def sparse(self, s, what: str) -> np.ndarray | Refused:
        """A sparse tensor made dense (at most 2**28 elements)."""
        values, indices = self.tensor(s.values, what + " (values)"), self.tensor(s.indices, what + " (indices)")
        if isinstance(values, Refused) or isinstance(indices, Refused):
            return values if isinstance(values, Refused) else indices
        shape = tuple(s.dims)
        count = 1
        for d in shape:
            count *= d
        if any(d <= 0 for d in shape) or len(shape) > MAX_RANK or count > 2**28:
            raise ModelFormatError(f"{what}: {list(shape)} can't be made dense")
        if values.ndim != 1 or indices.dtype != np.int64 or indices.shape not in ((values.size,), (values.size, len(shape))):
            raise ModelFormatError(f"{what}: {list(values.shape)} values with {list(indices.shape)} {indices.dtype} indices")
        if indices.ndim == 2:
            if ((indices < 0) | (indices >= np.array(shape))).any():
                raise ModelFormatError(f"{what}: an index lies outside {list(shape)}")
            indices = np.ravel_multi_index(tuple(indices.T), shape) if values.size else indices[:, 0]
        if ((indices < 0) | (indices >= count)).any() or (np.diff(indices) <= 0).any():
            raise ModelFormatError(f"{what}: indices must be ascending, distinct and inside {list(shape)}")
        dense = np.zeros(count, values.dtype)
        dense[indices] = values
        return dense.reshape(shape)

    def value_info(self, v) -> ValueInfo:
        if not utf8(v.name):
            raise ModelFormatError("a graph input or output has no name")
        return typed(v.name, v.type)


def typed(name: str, t: TypeProto) -> ValueInfo:
    """A ValueInfo from an ONNX type."""
    kind = t.WhichOneof("value")
    if kind != "tensor_type":
        return ValueInfo(name, None, None, "value of unstated type" if kind is None else kind.removesuffix("_type"))
    tensor = t.tensor_type
    dtype = dtype_of(tensor.elem_type)
    shape = None
    if tensor.HasField("shape"):
        if len(tensor.shape.dim) > MAX_RANK:
            raise ModelFormatError(f"{name!r} has {len(tensor.shape.dim)} dimensions; at most {MAX_RANK} are read")
        sizes: list[int | str | None] = []
        for d in tensor.shape.dim:
            which = d.WhichOneof("value")
            if which == "dim_value" and d.dim_value < 0:
                # Exporters write -1 for "unknown"; the standard has no negative sizes.
                sizes.append(None)
            else:
                sizes.append(
                    d.dim_value if which == "dim_value" else utf8(d.dim_param) if which == "dim_param" and d.dim_param else None
                )
        shape = tuple(sizes)
    return ValueInfo(name, dtype, shape, "tensor" if dtype else f"tensor of {dtype_name(tensor.elem_type)}")


def _has_graph(n: NodeProto) -> bool:
    return any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in n.attribute)


def _text(s: bytes) -> str:
    return s.decode("utf-8", "replace")
