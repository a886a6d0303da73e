"""Maxima and means over windows, or over all of the spatial axes."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError
from .. import config, ops
from ..input_spec import InputSpec
from ..layer import Layer
from ..ops.spatial import per_axis, pool
from ..tensor import Tensor
from .arguments import choice


class _Pooling(Layer):
    n = 2
    mean = False

    def __init__(self, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None, name: str | None = None,
                 **kwargs: Any):
        super().__init__(name=name, **kwargs)
        what = type(self).__name__
        self.pool_size = per_axis(pool_size, self.n, f"{what}: pool_size")
        self.strides = self.pool_size if strides is None else per_axis(strides, self.n, f"{what}: strides")
        self.padding = choice(what, "padding", padding, "valid", "same")
        if any(n <= 0 for n in (*self.pool_size, *self.strides)):
            raise ArgumentError(f"{what}: pool_size {self.pool_size} and strides {self.strides} must be positive")
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.n + 2)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return Tensor(pool(inputs.node, self.pool_size, self.strides, self.padding, self.data_format, self.mean, type(self).__name__))

    def get_config(self) -> dict:
        return {**super().get_config(), "pool_size": self.pool_size, "padding": self.padding, "strides": self.strides, "data_format": self.data_format}


class MaxPooling1D(_Pooling):
    n = 1

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: str = "valid", data_format: str | None = None, name: str | None = None,
                 **kwargs: Any):
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)


class MaxPooling2D(_Pooling):
    def __init__(self, pool_size: Any = (2, 2), strides: Any = None, padding: str = "valid", data_format: str | None = None, name: str | None = None,
                 **kwargs: Any):
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)


class MaxPooling3D(_Pooling):
    n = 3

    def __init__(self, pool_size: Any = (2, 2, 2), strides: Any = None, padding: str = "valid", data_format: str | None = None,
                 name: str | None = None, **kwargs: Any):
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)


class AveragePooling1D(_Pooling):
    n, mean = 1, True


class AveragePooling2D(_Pooling):
    mean = True


class AveragePooling3D(_Pooling):
    n, mean = 3, True


class _GlobalPooling(Layer):
    n = 2
    mean = False

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.keepdims = keepdims
        self.input_spec = InputSpec(ndim=self.n + 2)
        self.built = True

    def _axes(self) -> tuple[int, ...]:
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + self.n))

    def call(self, inputs: Any) -> Any:
        return (ops.mean if self.mean else ops.max)(inputs, axis=self._axes(), keepdims=self.keepdims)

    def get_config(self) -> dict:
        return {**super().get_config(), "data_format": self.data_format, "keepdims": self.keepdims}


class GlobalMaxPooling1D(_GlobalPooling):
    n = 1


class GlobalMaxPooling2D(_GlobalPooling):
    pass


class GlobalMaxPooling3D(_GlobalPooling):
    n = 3


class GlobalAveragePooling1D(_GlobalPooling):
    """Means over the steps; those that a mask leaves out don't count."""

    n, mean = 1, True

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(data_format, keepdims, **kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return super().call(inputs)
        axis = self._axes()[0]
        m = ops.expand_dims(ops.cast(mask, inputs.dtype), 2 if axis == 1 else 1)
        return ops.sum(inputs * m, axis=axis, keepdims=self.keepdims) / ops.sum(m, axis=axis, keepdims=self.keepdims)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None


class GlobalAveragePooling2D(_GlobalPooling):
    mean = True


class GlobalAveragePooling3D(_GlobalPooling):
    n, mean = 3, True


MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D = GlobalAveragePooling1D, GlobalAveragePooling2D, GlobalAveragePooling3D
