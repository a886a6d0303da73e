"""Function bodies that the standard's own schemas carry: operators without a handler are inlined from them."""

from __future__ import annotations

from onnx import FunctionProto, NodeProto, TypeProto

from ...runtime.dim import Dim
from .call import Call
from .model import FunctionDef, read_function
from .tensors import code_of


def standard_body(call: Call) -> FunctionDef | None:
    """The body of ``call``'s operator at its opset, or None where the standard defines none."""
    schema = call.schema
    if schema is None:
        return None
    if schema.has_function:
        version = _newest(schema.function_opset_versions, call.version)
        data = schema.get_function_with_opset_version(version) if version else None
    elif schema.has_context_dependent_function:
        version = _newest(schema.context_dependent_function_opset_versions, call.version)
        data = schema.get_context_dependent_function_with_opset_version(version, _proto(call), _types(call)) if version else None
    else:
        return None
    if not data:
        return None
    f = FunctionProto.FromString(data)
    if not f.opset_import:
        f.opset_import.add(domain="", version=version)
    return read_function(f)


def _newest(versions: list[int], at: int) -> int:
    return max((v for v in versions if v <= at), default=0)


def _proto(call: Call) -> bytes:
    n = NodeProto(op_type=call.op, domain=call.domain, name="call")
    n.input.extend([f"i{k}" if call.has(k) else "" for k in range(len(call))])
    n.output.extend([f"o{k}" if call.wants(k) else "" for k in range(call.n_outputs)])
    for name, a in call.attributes.items():
        p = n.attribute.add()
        p.CopyFrom(a.proto)
        p.name = name
    return n.SerializeToString()


def _types(call: Call) -> list[bytes]:
    out = []
    for v in call.values:
        t = TypeProto()
        if v is not None:
            t.tensor_type.elem_type = code_of(v.dtype)
            t.tensor_type.shape.SetInParent()
            for d in v.shape:
                one = t.tensor_type.shape.dim.add()
                if type(d) is not Dim:
                    one.dim_value = int(d)
        out.append(t.SerializeToString())
    return out
