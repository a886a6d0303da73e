"""A node as its handler sees it: values of its inputs, attributes with the standard's defaults, the opset in effect."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import AttributeProto

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dim import Dim
from ...runtime.dtype import DType
from .model import Attribute, NodeDef, Refused
from .registry import schema_of
from .report import NeedsValues, Refusal
from .values import Known, Value, Weight, as_node, evaluated, ints, small_inputs

_MISSING = object()


class Call:
    """One call of an operator. ``version`` is the opset of its domain; ``values`` has None for absent optional inputs."""

    def __init__(
        self, importer, n: NodeDef, version: int, values: list[Value | None], attributes: dict[str, Attribute], scope: Any
    ) -> None:
        self.importer, self.node_def, self.version, self.scope = importer, n, version, scope
        self.op, self.domain, self.label = n.op, n.domain, n.label
        self.values, self.attributes = values, attributes
        self.schema = schema_of(n.op, n.domain, version)

    # --- outputs
    @property
    def n_outputs(self) -> int:
        return len(self.node_def.outputs)

    def wants(self, i: int) -> bool:
        """Whether output ``i`` is named, so that something may read it."""
        return i < self.n_outputs and bool(self.node_def.outputs[i])

    # --- inputs
    def __len__(self) -> int:
        return len(self.values)

    def has(self, i: int) -> bool:
        return i < len(self.values) and self.values[i] is not None

    def value(self, i: int) -> Value:
        if not self.has(i):
            raise Refusal(f"input {i} ({self._input_name(i)}) is missing", kind="invalid")
        return self.values[i]

    def shape(self, i: int) -> tuple[int, ...]:
        return self.value(i).shape

    def rank(self, i: int) -> int:
        return len(self.value(i).shape)

    def dtype(self, i: int) -> DType:
        return self.value(i).dtype

    def node(self, i: int) -> Node:
        """Input ``i`` as a tensor of the graph."""
        v = self.value(i)
        if isinstance(v, Known):
            return as_node(v)
        return self.importer.leaf_of(v) if isinstance(v, Weight) else v

    def nodes(self) -> list[Node]:
        return [self.node(i) for i in range(len(self.values))]

    def optional(self, i: int) -> Node | None:
        return self.node(i) if self.has(i) else None

    def static(self, i: int) -> np.ndarray:
        """Input ``i`` as an array known now (dtype object where sizes are free); refused where it depends on data."""
        v = self.value(i)
        if isinstance(v, (Known, Weight)):
            return v.array
        a = evaluated(v)
        if a is None:
            names = small_inputs(v, self.importer.given)
            if names:
                raise NeedsValues(names)
            raise Refusal(
                f"input {i} ({self._input_name(i)}) is computed from the model's data; it must be known when compiling",
                "give it as a constant, or fold the part of the model that computes it",
            )
        return a

    def ints(self, i: int) -> tuple[int, ...]:
        """``static(i)``'s elements as ints or Dims."""
        a = self.static(i)
        if a.dtype.kind not in "iubO":
            raise Refusal(f"input {i} ({self._input_name(i)}) must be integers, is {a.dtype}", kind="invalid")
        return ints(a)

    def plain_ints(self, i: int) -> tuple[int, ...]:
        """``ints(i)`` where no element may depend on a free dimension (axes, paddings)."""
        out = self.ints(i)
        if any(type(v) is Dim for v in out):
            raise Refusal(
                f"input {i} ({self._input_name(i)}) depends on a free dimension", "fix the dimension with dims={name: size}"
            )
        return out

    def scalar(self, i: int):
        """The one element of input ``i``, as a Python number or Dim."""
        a = self.static(i)
        if a.size != 1:
            raise Refusal(f"input {i} ({self._input_name(i)}) must have one element, has shape {list(a.shape)}", kind="invalid")
        v = a.reshape(-1)[0]
        return v if type(v) is Dim else v.item() if hasattr(v, "item") else v

    # --- attributes
    def attr(self, name: str, default: Any = _MISSING) -> Any:
        """An attribute's value: the node's, else the standard's default at this opset, else ``default``; refused where there is
        none.
        """
        a = self.attributes.get(name)
        if a is not None:
            if isinstance(a.value, Refused):
                raise Refusal(a.value.reason, attribute=name)
            self._typed(name, a.proto)
            return a.value
        if self.schema is not None and name in self.schema.attributes:
            value = _default(self.schema.attributes[name].default_value)
            if value is not None:
                return value
        if default is _MISSING:
            raise Refusal(f"attribute {name!r} is missing", attribute=name, kind="invalid")
        return default

    def has_attr(self, name: str) -> bool:
        return name in self.attributes

    def axis(self, name: str = "axis", rank: int | None = None) -> int:
        """An axis attribute, normalised to [0, rank)."""
        return self.normal(self.attr(name), self.rank(0) if rank is None else rank)

    def normal(self, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            raise Refusal(f"axis {axis} lies outside rank {rank}", attribute="axis", kind="invalid")
        return axis % rank if rank else 0

    def normal_axes(self, axes, rank: int) -> tuple[int, ...]:
        out = tuple(self.normal(int(a), rank) for a in axes)
        if len(set(out)) != len(out):
            raise Refusal(f"axes {list(axes)} name one axis twice", attribute="axes", kind="invalid")
        return out

    def refuse(self, reason: str, hint: str = "", attribute: str = "") -> Refusal:
        return Refusal(reason, hint, attribute)

    def invalid(self, reason: str, attribute: str = "") -> Refusal:
        return Refusal(reason, attribute=attribute, kind="invalid")

    def like(self, x: float, i: int = 0) -> Node:
        """A scalar constant of input ``i``'s element type."""
        return ops.constant(np.asarray(x).astype(self.dtype(i).np))

    def _input_name(self, i: int) -> str:
        if self.schema is None or not self.schema.inputs:
            return "?"
        return self.schema.inputs[min(i, len(self.schema.inputs) - 1)].name

    def _typed(self, name: str, proto: AttributeProto) -> None:
        if self.schema is not None and name in self.schema.attributes:
            wanted = int(self.schema.attributes[name].type)
            if wanted != proto.type and wanted:
                kinds = AttributeProto.AttributeType.Name
                raise Refusal(
                    f"attribute {name!r} is {kinds(proto.type)}, the standard has {kinds(wanted)}", attribute=name, kind="invalid"
                )


def _default(proto: AttributeProto) -> Any:
    kind = proto.type
    if kind == AttributeProto.INT:
        return proto.i
    if kind == AttributeProto.FLOAT:
        return proto.f
    if kind == AttributeProto.STRING:
        return proto.s.decode()
    if kind == AttributeProto.INTS:
        return tuple(proto.ints)
    if kind == AttributeProto.FLOATS:
        return tuple(proto.floats)
    return None
