"""What a layer expects of its inputs, and the error that says what it got instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...runtime.dim import Dim
from ...runtime.dtype import as_dtype
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from .structure import flatten
from .tensor import standardize_shape


class InputSpec:
    """Rank (``ndim``, ``min_ndim``, ``max_ndim``), ``shape`` (None: any size), ``axes`` {axis: size}, ``dtype`` of one input."""

    def __init__(self, dtype: Any = None, shape: Any = None, ndim: int | None = None, max_ndim: int | None = None, min_ndim: int | None = None,
                 axes: dict | None = None, allow_last_axis_squeeze: bool = False, name: str | None = None, optional: bool = False):
        self.dtype = None if dtype is None else as_dtype(dtype).name
        self.shape = None if shape is None else standardize_shape(shape)
        self.ndim = ndim if shape is None else len(self.shape)
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(k): v for k, v in (axes or {}).items()}
        self.allow_last_axis_squeeze, self.name, self.optional = allow_last_axis_squeeze, name, optional

    def get_config(self) -> dict:
        return {"dtype": self.dtype, "shape": self.shape, "ndim": self.ndim, "max_ndim": self.max_ndim, "min_ndim": self.min_ndim, "axes": self.axes}

    @classmethod
    def from_config(cls, config: dict) -> InputSpec:
        return cls(**config)

    def __repr__(self) -> str:
        fields = {k: v for k, v in self.get_config().items() if v}
        return f"InputSpec({', '.join(f'{k}={v}' for k, v in fields.items())})"


def check_inputs(specs: Any, inputs: Any, layer: str) -> None:
    """Raises ShapeError, DTypeError or ArgumentError naming ``layer``, what it expects and what it got."""
    specs = [s for s in flatten(specs)]
    if isinstance(inputs, Mapping) and all(s is not None and s.name for s in specs):
        missing = [s.name for s in specs if s.name not in inputs]
        if missing:
            raise ArgumentError(f"{layer}: missing data for input {missing[0]!r}; the inputs given are {sorted(inputs)}, expected are {[s.name for s in specs]}")
        inputs = [inputs[s.name] for s in specs]
    given = flatten(inputs)
    if len(given) != len(specs):
        names = f" ({', '.join(str(s.name) for s in specs)})" if all(s is not None and s.name for s in specs) else ""
        raise ArgumentError(f"{layer} expects {len(specs)} inputs{names}, but got {len(given)} "
                            f"of shapes {', '.join(str(tuple(getattr(x, 'shape', ()))) for x in given)}")
    for i, (x, spec) in enumerate(zip(given, specs)):
        if spec is None or x is None and spec.optional:
            continue
        if not hasattr(x, "shape"):
            raise ArgumentError(f"{layer}: input {i} is {x!r} ({type(x).__name__}), not a tensor or array")
        _check_one(spec, x, f"{layer}: input {i}" + (f" '{spec.name}'" if spec.name and len(specs) > 1 else ""))


def _check_one(spec: InputSpec, x: Any, what: str) -> None:
    shape = tuple(x.shape)
    seen = f"got shape {tuple([d if d is None else d if type(d) is not Dim else None for d in shape])}"
    rank = len(shape)
    if spec.ndim is not None and not spec.allow_last_axis_squeeze and rank != spec.ndim:
        raise ShapeError(f"{what}: expected rank {spec.ndim} (ndim={spec.ndim}), {seen} of rank {rank}")
    if spec.max_ndim is not None and rank > spec.max_ndim:
        raise ShapeError(f"{what}: expected rank {spec.max_ndim} at most (max_ndim={spec.max_ndim}), {seen} of rank {rank}")
    if spec.min_ndim is not None and rank < spec.min_ndim:
        raise ShapeError(f"{what}: expected rank {spec.min_ndim} or more (min_ndim={spec.min_ndim}), {seen} of rank {rank}")
    if spec.dtype is not None and as_dtype(x.dtype).name != spec.dtype:
        raise DTypeError(f"{what}: expected dtype {spec.dtype}, got {as_dtype(x.dtype).name}")
    for axis, value in spec.axes.items():
        if value is not None and shape[axis] is not None and shape[axis] != value:
            raise ShapeError(f"{what}: expected size {value} on axis {axis} (what it was built for), {seen}")
    if spec.shape is not None:
        want = spec.shape
        if spec.allow_last_axis_squeeze:
            shape = shape[:-1] if shape and type(shape[-1]) is not Dim and shape[-1] == 1 else shape
            want = want[:-1] if want and want[-1] == 1 else want
        if len(shape) != len(want) or any(a is not None and b is not None and a != b for a, b in zip(want, shape)):
            raise ShapeError(f"{what}: expected shape {spec.shape}, {seen}")
