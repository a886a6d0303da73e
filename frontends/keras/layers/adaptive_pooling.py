"""Maxima and means over as many windows as the result has elements: window o of n covers [floor(o size / n), ceil((o + 1) size / n))."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ir.graph import Node
from ....runtime.errors import ArgumentError
from .. import config
from ..input_spec import InputSpec
from ..layer import Layer
from ..ops.spatial import channels_last, per_axis, restored
from ..tensor import Tensor
from .arguments import known_size


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

    def build(self, input_shape: Any) -> None:
        first = 1 if self.data_format == "channels_last" else 2
        for axis in range(first, first + self.n):
            known_size(self, input_shape, axis, "spatial axis")  # the windows are constants

    def call(self, inputs: Any) -> Any:
        x = channels_last(inputs.node, self.data_format)
        for i, count in enumerate(self.output_size):
            x = adaptive_pool(x, i + 1, count, self.mean)
        return Tensor(restored(x, self.data_format))

    def get_config(self) -> dict:
        return {**super().get_config(), "output_size": self.output_size, "data_format": self.data_format}


def adaptive_pool(x: Node, axis: int, count: int, mean: bool) -> Node:
    """``axis`` reduced to ``count`` windows. The windows' elements come to an axis of their own, those of shorter windows filled up with their last,
    which changes no maximum and has weight 0 in a mean."""
    size = x.shape[axis]
    starts = [o * size // count for o in range(count)]
    lengths = [-(-(o + 1) * size // count) - s for o, s in enumerate(starts)]
    widest = max(lengths)
    index = np.array([[s + min(j, n - 1) for j in range(widest)] for s, n in zip(starts, lengths)], np.int32)
    windows = F.take(x, index, axis)
    if not mean:
        return F.max_(windows, axis + 1)
    weights = np.array([[1.0 / n if j < n else 0.0 for j in range(widest)] for n in lengths])
    weights = weights.astype(x.dtype.np).reshape(count, widest, *[1] * (x.rank - axis - 1))
    return F.sum_(F.mul(windows, F.constant(weights)), axis + 1)


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
