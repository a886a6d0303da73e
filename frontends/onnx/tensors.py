"""``TensorProto`` to NumPy arrays. Every count is checked in Python ints before a buffer is made."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from onnx import TensorProto

from ...runtime.dtype import DType, as_dtype
from ...runtime.errors import ModelFormatError, UnsupportedOpError
from .external import ExternalData

MAX_RANK = 64

_NP = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
    TensorProto.INT8: np.int8,
    TensorProto.INT16: np.int16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.UINT8: np.uint8,
    TensorProto.UINT16: np.uint16,
    TensorProto.UINT32: np.uint32,
    TensorProto.UINT64: np.uint64,
    TensorProto.BOOL: np.bool_,
    TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz,
    TensorProto.FLOAT4E2M1: ml_dtypes.float4_e2m1fn,
    TensorProto.INT4: ml_dtypes.int4,
    TensorProto.UINT4: ml_dtypes.uint4,
    TensorProto.INT2: ml_dtypes.int2,
    TensorProto.UINT2: ml_dtypes.uint2,
}
_PACKED = {  # bits of types that share a byte, the first element lowest
    TensorProto.FLOAT4E2M1: 4,
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.INT2: 2,
    TensorProto.UINT2: 2,
}
_DTYPES = {code: as_dtype(np.dtype(t)) for code, t in _NP.items()}
_CODES = {d: code for code, d in _DTYPES.items()}

# The repeated field that holds a type's elements where raw_data does not.
_FIELD = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}


def dtype_name(code: int) -> str:
    """ONNX's name of an element type."""
    try:
        return TensorProto.DataType.Name(code)
    except ValueError:
        return f"element type {code}"


def dtype_of(code: int) -> DType | None:
    """The element type with this ONNX number, or None where kerogen doesn't have it."""
    return _DTYPES.get(code)


def code_of(dtype: DType) -> int:
    """ONNX's number of an element type."""
    return _CODES[dtype]


def checked_shape(dims, what: str) -> tuple[int, ...]:
    """Stored dims as a shape whose number of elements is below 2**48; raises ModelFormatError."""
    shape = tuple(int(d) for d in dims)
    if len(shape) > MAX_RANK:
        raise ModelFormatError(f"{what} has {len(shape)} dimensions; at most {MAX_RANK} are read")
    count = 1
    for d in shape:
        if d < 0:
            raise ModelFormatError(f"{what} has a negative size: {list(shape)}")
        count *= d
    if count >= 2**48 or any(d >= 2**48 for d in shape):
        raise ModelFormatError(f"{what} declares {list(shape)}, more elements than any machine holds")
    return shape


def to_array(t: TensorProto, external: ExternalData, what: str = "") -> np.ndarray:
    """The array of a TensorProto (read-only). Raises ModelFormatError, or UnsupportedOpError for an element type that kerogen
    lacks.
    """
    what = what or f"tensor {t.name!r}"
    shape = checked_shape(t.dims, what)
    if t.HasField("segment"):
        raise ModelFormatError(f"{what} is stored in segments, which no writer uses")
    if t.data_type not in _NP:
        raise UnsupportedOpError(f"{what} has element type {dtype_name(t.data_type)}, which kerogen does not compute with")
    np_type = np.dtype(_NP[t.data_type])
    count = 1
    for d in shape:
        count *= d
    bits = _PACKED.get(t.data_type, 8 * np_type.itemsize)
    nbytes = -(-count * bits // 8)
    if t.data_location == TensorProto.EXTERNAL:
        raw = _external(t, external, nbytes, what)
    elif t.HasField("raw_data"):
        raw = np.frombuffer(t.raw_data, np.uint8)
    else:
        return _typed(t, np_type, count, what).reshape(shape)
    if raw.nbytes != nbytes:
        raise ModelFormatError(
            f"{what} of {list(shape)} {dtype_name(t.data_type)} needs {nbytes} bytes and has {raw.nbytes}"
        )
    if t.data_type in _PACKED:
        return _unpacked(raw, bits, count, np_type).reshape(shape)
    if t.data_type == TensorProto.BOOL:
        return (raw != 0).reshape(shape)  # any non-zero byte is true; NumPy's bool must be 0 or 1
    little = np_type if np_type.kind == "V" or np_type.itemsize == 1 else np_type.newbyteorder("<")
    return raw.view(little).astype(np_type, copy=False).reshape(shape)


def _typed(t: TensorProto, np_type: np.dtype, count: int, what: str) -> np.ndarray:
    values = getattr(t, _FIELD.get(t.data_type, "int32_data"))
    bits = _PACKED.get(t.data_type)
    if len(values) != (count if bits is None else -(-count * bits // 8)):
        raise ModelFormatError(f"{what} of {list(t.dims)} needs {count} elements and has {len(values)}")
    if bits is not None:
        return _unpacked(np.array(values, np.int64).astype(np.uint8), bits, count, np_type)
    if np_type.kind == "V" and np_type.itemsize == 1:
        return np.array(values, np.int64).astype(np.uint8).view(np_type)
    if t.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return np.array(values, np.int64).astype(np.uint16).view(np_type)
    if t.data_type in _FIELD and t.data_type != TensorProto.UINT32:
        return np.array(values, np_type)
    return np.array(values, np.uint64 if t.data_type == TensorProto.UINT32 else np.int64).astype(np_type)


def raw_bytes(a: np.ndarray) -> bytes:
    """What a TensorProto's raw_data holds: little-endian elements, those below a byte packed."""
    bits = _PACKED.get(code_of(as_dtype(a.dtype)))
    if bits is None:
        return a.astype(a.dtype.newbyteorder("<"), copy=False).tobytes() if a.dtype.kind in "iuf" else a.tobytes()
    codes = (a.view(np.uint8) & ((1 << bits) - 1)).reshape(-1)
    per = 8 // bits
    codes = np.pad(codes, (0, -codes.size % per)).reshape(-1, per)
    return sum((codes[:, k] << (bits * k) for k in range(per)), np.zeros(len(codes), np.uint8)).astype(np.uint8).tobytes()


def _unpacked(raw: np.ndarray, bits: int, count: int, np_type: np.dtype) -> np.ndarray:
    """Elements of ``bits`` each, several a byte."""
    per, mask = 8 // bits, (1 << bits) - 1
    codes = np.stack([(raw >> (bits * k)) & mask for k in range(per)], -1).reshape(-1)[:count].astype(np.uint8)
    if np_type == np.dtype(ml_dtypes.float4_e2m1fn):
        return codes.view(np_type)
    if np_type in (np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.int2)):  # the highest bit counts negatively
        return ((codes.astype(np.int8) ^ (1 << (bits - 1))) - (1 << (bits - 1))).astype(np_type)
    return codes.astype(np_type)


def _external(t: TensorProto, external: ExternalData, expected: int, what: str) -> np.ndarray:
    entries: dict[str, str] = {}
    for e in t.external_data:
        if e.key in entries:
            raise ModelFormatError(f"{what}: external data names {e.key!r} twice")
        entries[e.key] = e.value
    numbers = {}
    for k in ("offset", "length"):
        text = entries.get(k)
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 19):
            raise ModelFormatError(f"{what}: external data's {k} is {text[:40]!r}, not a number")
        numbers[k] = None if text is None else int(text)
    if "location" not in entries:
        raise ModelFormatError(f"{what}: external data without a location")
    if numbers["length"] is not None and numbers["length"] != expected:
        raise ModelFormatError(f"{what} of {list(t.dims)} needs {expected} bytes, its external data has {numbers['length']}")
    return external.read(entries["location"], numbers["offset"] or 0, expected, t.name or what)
