"""Element types: one object per dtype, shared by the compiler, the runtime and the front ends."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from .errors import DTypeError


@dataclass(frozen=True, eq=False)
class DType:
    """An element type. Instances are singletons, so ``is`` compares them.

    ``kind`` is "f" (floating), "i" (signed), "u" (unsigned) or "b" (bool); ``itemsize`` is in bytes, ``bits`` what a value has
    (bool: 1). A ``storage`` type is only held and moved, an element a byte: nothing is computed in it before a cast.
    """

    name: str
    kind: str
    itemsize: int
    np: np.dtype
    bits: int
    storage: bool = False

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self):
        return as_dtype, (self.name,)

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_int(self) -> bool:
        return self.kind in "iu"

    @property
    def min(self) -> float | int | bool:
        """Identity of max: -inf for floats, the least value for integers."""
        if self.is_float:
            return -float("inf")
        return False if self.kind == "b" else int(ml_dtypes.iinfo(self.np).min)

    @property
    def max(self) -> float | int | bool:
        """Identity of min: +inf for floats, the greatest value for integers."""
        if self.is_float:
            return float("inf")
        return True if self.kind == "b" else int(ml_dtypes.iinfo(self.np).max)


def _make(name: str, kind: str, np_type, bits: int = 0) -> DType:
    dt = np.dtype(np_type)
    return DType(name, kind, dt.itemsize, dt, bits or 8 * dt.itemsize)


def _make_storage(name: str, kind: str, bits: int) -> DType:
    dt = np.dtype(getattr(ml_dtypes, name))
    return DType(name, kind, dt.itemsize, dt, bits, storage=True)


float64 = _make("float64", "f", np.float64)
float32 = _make("float32", "f", np.float32)
float16 = _make("float16", "f", np.float16)
bfloat16 = _make("bfloat16", "f", ml_dtypes.bfloat16)
int64 = _make("int64", "i", np.int64)
int32 = _make("int32", "i", np.int32)
int16 = _make("int16", "i", np.int16)
int8 = _make("int8", "i", np.int8)
uint64 = _make("uint64", "u", np.uint64)
uint32 = _make("uint32", "u", np.uint32)
uint16 = _make("uint16", "u", np.uint16)
uint8 = _make("uint8", "u", np.uint8)
bool_ = _make("bool", "b", np.bool_, 1)
float8_e4m3fn = _make_storage("float8_e4m3fn", "f", 8)
float8_e5m2 = _make_storage("float8_e5m2", "f", 8)
float8_e4m3fnuz = _make_storage("float8_e4m3fnuz", "f", 8)
float8_e5m2fnuz = _make_storage("float8_e5m2fnuz", "f", 8)
float4_e2m1fn = _make_storage("float4_e2m1fn", "f", 4)
int4 = _make_storage("int4", "i", 4)
uint4 = _make_storage("uint4", "u", 4)
int2 = _make_storage("int2", "i", 2)
uint2 = _make_storage("uint2", "u", 2)

ALL = (float64, float32, float16, bfloat16, int64, int32, int16, int8, uint64, uint32, uint16, uint8, bool_)
STORAGE = (float8_e4m3fn, float8_e5m2, float8_e4m3fnuz, float8_e5m2fnuz, float4_e2m1fn, int4, uint4, int2, uint2)
_BY_NAME = {d.name: d for d in (*ALL, *STORAGE)}
_BY_NP = {d.np: d for d in (*ALL, *STORAGE)}
_ALIASES = {"bool_": bool_, "float": float32, "int": int32, "half": float16, "double": float64}


def as_dtype(x) -> DType:
    """A DType from a DType, a NumPy dtype or type, or a name ("float32"); raises ``DTypeError``."""
    if isinstance(x, DType):
        return x
    if isinstance(x, str):
        found = _BY_NAME.get(x) or _ALIASES.get(x)
        if found is not None:
            return found
    elif x is float:
        return float32
    elif x is int:
        return int32
    elif x is bool:
        return bool_
    try:
        return _BY_NP[np.dtype(x)]
    except (TypeError, KeyError):
        computed, stored = (", ".join(d.name for d in ds) for ds in (ALL, STORAGE))
        raise DTypeError(f"unknown dtype {x!r}; kerogen computes in {computed}, and stores {stored}") from None


# Promotion is JAX's and Keras' lattice: ints never widen a float, bfloat16 with float16 gives float32.
_INT_RANK = {int8: 0, uint8: 0, int16: 1, uint16: 1, int32: 2, uint32: 2, int64: 3, uint64: 3}
_INT_BY_RANK = {("i", 0): int8, ("i", 1): int16, ("i", 2): int32, ("i", 3): int64,
                ("u", 0): uint8, ("u", 1): uint16, ("u", 2): uint32, ("u", 3): uint64}


def promote(a: DType, b: DType) -> DType:
    """The type in which a binary operation of ``a`` and ``b`` computes (the lattice of JAX and Keras 3). A storage type beside another
    type counts as float32, int8 or uint8."""
    if a is b:
        return a
    if a is bool_:
        return b
    if b is bool_:
        return a
    if a.storage or b.storage:
        a, b = (d if not d.storage else float32 if d.is_float else int8 if d.kind == "i" else uint8 for d in (a, b))
        return promote(a, b) if a is not b else a
    if a.is_float or b.is_float:
        if not b.is_float:
            return a
        if not a.is_float:
            return b
        if a.itemsize == b.itemsize:
            return float32
        return a if a.itemsize > b.itemsize else b
    ra, rb = _INT_RANK[a], _INT_RANK[b]
    if a.kind == b.kind:
        return a if ra >= rb else b
    signed, unsigned = (ra, rb) if a.kind == "i" else (rb, ra)
    if signed > unsigned:
        return _INT_BY_RANK["i", signed]
    return _INT_BY_RANK["i", unsigned + 1] if unsigned < 3 else float32
