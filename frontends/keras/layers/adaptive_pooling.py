"""Maxima and means over as many windows as the result has elements: window o of n covers [floor(o size / n), ceil((o + 1) size / n))."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError
from .. import config, ops
from ..input_spec import InputSpec
from ..layer import Layer
from ..ops.spatial import per_axis


class _AdaptivePooling(Layer):
    n = 2
    mean = False

    def __init__(self, output_size: Any, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        what = type(self).__name__
        self.output_size = per_axis(output_size, self.n, f"{what}: output_size")
        if any(not isinstance(s, int) or isinstance(s, bool) or s <= 0 for s in self.output_size):
            raise ArgumentError(f"{what}: output_size must be positive integers, got {output_size!r}")
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.n + 2)

    def call(self, inputs: Any) -> Any:
        pool = ops.adaptive_average_pool if self.mean else ops.adaptive_max_pool
        return pool(inputs, self.output_size, self.data_format)

    def get_config(self) -> dict:
        return {**super().get_config(), "output_size": self.output_size, "data_format": self.data_format}


class AdaptiveMaxPooling1D(_AdaptivePooling):
    n = 1


class AdaptiveMaxPooling2D(_AdaptivePooling):
    n = 2


class AdaptiveMaxPooling3D(_AdaptivePooling):
    n = 3


class AdaptiveAveragePooling1D(_AdaptivePooling):
    n, mean = 1, True


class AdaptiveAveragePooling2D(_AdaptivePooling):
    n, mean = 2, True


class AdaptiveAveragePooling3D(_AdaptivePooling):
    n, mean = 3, True
