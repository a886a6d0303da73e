"""Layers that move elements: Flatten, Reshape, Permute, RepeatVector, padding, cropping."""

from __future__ import annotations

from typing import Any

from ....compiler import ops as F
from ....runtime.errors import ArgumentError, ShapeError
from .. import config, ops
from ..input_spec import InputSpec
from ..layer import Layer
from ..tensor import Tensor, known_shape
from .arguments import integer, positive


class Flatten(Layer):
    """(batch, everything else)."""

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=1)
        self._channels_first = self.data_format == "channels_first"
        self.built = True

    def call(self, inputs: Any) -> Any:
        if self._channels_first and len(inputs.shape) > 1:
            inputs = ops.transpose(inputs, (0, *range(2, len(inputs.shape)), 1))
        if len(inputs.shape) == 1:
            return ops.expand_dims(inputs, -1)
        size: Any = 1
        for n in inputs.shape[1:]:
            size = size * n
        return ops.reshape(inputs, (inputs.shape[0], size))

    def get_config(self) -> dict:
        return {**super().get_config(), "data_format": self.data_format}


class Reshape(Layer):
    """(batch, *target_shape); one size may be -1."""

    def __init__(self, target_shape: Any, **kwargs: Any):
        super().__init__(**kwargs)
        target = tuple([integer("Reshape", "target_shape", n) for n in ([target_shape] if isinstance(target_shape, int) else target_shape)])
        if list(target).count(-1) > 1 or any(n < -1 for n in target):
            raise ArgumentError(f"Reshape: target_shape has sizes, and at most one -1, got {target}")
        self.target_shape = target
        self.built = True

    def call(self, inputs: Any) -> Any:
        shape = inputs.shape
        if -1 not in self.target_shape:
            want, have = 1, 1
            for n in self.target_shape:
                want = want * n
            for n in shape[1:]:
                have = have * n
            if want != have:
                raise ShapeError(f"Reshape '{self.name}': a sample of shape {known_shape(shape[1:])} has {have} elements, target_shape {self.target_shape} has {want}")
            return ops.reshape(inputs, (shape[0], *self.target_shape))
        rest, known = 1, 1
        for n in shape[1:]:
            rest = rest * n
        for n in self.target_shape:
            known = known * (1 if n == -1 else n)
        if known == 0 or rest % known != 0:
            raise ShapeError(f"Reshape '{self.name}': a sample of shape {known_shape(shape[1:])} has {rest} elements, which target_shape {self.target_shape} "
                             f"doesn't divide")
        return ops.reshape(inputs, (shape[0], *[rest // known if n == -1 else n for n in self.target_shape]))

    def get_config(self) -> dict:
        return {**super().get_config(), "target_shape": self.target_shape}


class Permute(Layer):
    """Axes in the order ``dims``, counted from 1 (the batch axis stays)."""

    def __init__(self, dims: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.dims = tuple([integer("Permute", "dims", d) for d in (dims if isinstance(dims, (list, tuple)) else [dims])])
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ArgumentError(f"Permute: dims must be a permutation of 1..n, got {self.dims}")
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.transpose(inputs, axes=(0, *self.dims))

    def get_config(self) -> dict:
        return {**super().get_config(), "dims": self.dims}


class RepeatVector(Layer):
    """(batch, features) to (batch, n, features)."""

    def __init__(self, n: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.n = positive("RepeatVector", "n", n)
        self.input_spec = InputSpec(ndim=2)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.broadcast_to(ops.expand_dims(inputs, 1), (inputs.shape[0], self.n, inputs.shape[1]))

    def get_config(self) -> dict:
        return {"n": self.n, **super().get_config()}


def _pairs(value: Any, n: int, name: str) -> tuple[tuple[int, int], ...]:
    """((before, after), ...): from one number, one per axis, or pairs."""
    layer, argument = name.split(": ")

    def width(x: Any) -> int:
        n = integer(layer, argument, x)
        if n < 0:
            raise ArgumentError(f"{name} must be widths of at least 0, got {value!r}")
        return n

    if isinstance(value, int):
        return ((width(value), width(value)),) * n
    if not isinstance(value, (list, tuple)):
        raise ArgumentError(f"{name} needs a number, or {n} numbers or pairs, got {value!r}")
    given = [tuple(value)] if n == 1 and len(value) == 2 and not isinstance(value[0], (list, tuple)) else list(value)
    given = [(v, v) if isinstance(v, int) else v for v in given]
    if len(given) != n or any(not isinstance(v, (list, tuple)) or len(v) != 2 for v in given):
        raise ArgumentError(f"{name} needs a number, or {n} numbers or pairs, got {value!r}")
    return tuple([(width(lo), width(hi)) for lo, hi in given])


class _Border(Layer):
    """Widths before and after every spatial axis."""

    def _widths(self, pairs: tuple, rank: int) -> list[tuple[int, int]]:
        first = getattr(self, "data_format", "channels_last") == "channels_first"
        return [(0, 0), (0, 0), *pairs] if first else [(0, 0), *pairs, (0, 0)]


class ZeroPadding1D(_Border):
    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        pair = _pairs(padding, 1, "ZeroPadding1D: padding")[0]
        self.padding = pair
        self.input_spec = InputSpec(ndim=3)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.pad(inputs, self._widths((self.padding,), 3))

    def get_config(self) -> dict:
        return {"padding": self.padding, "data_format": self.data_format, **super().get_config()}


class _ZeroPadding(_Border):
    n = 2

    def __init__(self, padding: Any = None, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.padding = _pairs(padding, self.n, f"{type(self).__name__}: padding")
        self.input_spec = InputSpec(ndim=self.n + 2)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.pad(inputs, self._widths(self.padding, self.n + 2))

    def get_config(self) -> dict:
        return {"padding": self.padding, "data_format": self.data_format, **super().get_config()}


class ZeroPadding2D(_ZeroPadding):
    """Zeros around images: ``padding`` is a number, (rows, columns), or ((top, bottom), (left, right))."""

    def __init__(self, padding: Any = (1, 1), data_format: str | None = None, **kwargs: Any):
        super().__init__(padding, data_format, **kwargs)


class ZeroPadding3D(_ZeroPadding):
    n = 3

    def __init__(self, padding: Any = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any):
        super().__init__(padding, data_format, **kwargs)


class _Cropping(_Border):
    n = 2

    def __init__(self, cropping: Any, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.cropping = _pairs(cropping, self.n, f"{type(self).__name__}: cropping")
        self.input_spec = InputSpec(ndim=self.n + 2)
        self.built = True

    def call(self, inputs: Any) -> Any:
        widths = self._widths(self.cropping if self.n > 1 else (self._pair(),), self.n + 2)
        node = inputs.node
        for i, (n, (lo, hi)) in enumerate(zip(node.shape, widths)):
            if lo + hi and n <= lo + hi:
                raise ShapeError(f"{type(self).__name__} '{self.name}': cropping {lo} and {hi} leaves nothing of axis {i} of size {n}")
        return Tensor(F.pad(node, [(-lo, -hi) for lo, hi in widths]))

    def _pair(self) -> tuple[int, int]:
        return self.cropping[0] if isinstance(self.cropping[0], tuple) else self.cropping

    def get_config(self) -> dict:
        return {"cropping": self.cropping, "data_format": self.data_format, **super().get_config()}


class Cropping1D(_Cropping):
    n = 1

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any):
        super().__init__(cropping, "channels_last", **kwargs)
        self.cropping = self.cropping[0]

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("data_format")
        return config


class Cropping2D(_Cropping):
    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any):
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(_Cropping):
    n = 3

    def __init__(self, cropping: Any = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any):
        super().__init__(cropping, data_format, **kwargs)
