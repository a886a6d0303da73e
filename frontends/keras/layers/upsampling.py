"""UpSampling1D, 2D and 3D: every element several times, or values between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ir.graph import Node
from ....runtime.errors import ArgumentError
from .. import config, ops
from ..input_spec import InputSpec
from ..layer import Layer
from ..ops.spatial import channels_last, per_axis, restored
from ..tensor import Tensor
from .arguments import choice, positive


class _UpSampling(Layer):
    n = 2

    def __init__(self, size: Any, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.size = per_axis(size, self.n, f"{type(self).__name__}: size")
        if any(s <= 0 for s in self.size):
            raise ArgumentError(f"{type(self).__name__}: size {self.size} must be positive")
        self.input_spec = InputSpec(ndim=self.n + 2)
        self.built = True

    def call(self, inputs: Any) -> Any:
        first = 2 if self.data_format == "channels_first" else 1
        for i, s in enumerate(self.size):
            if s != 1:
                inputs = ops.repeat(inputs, s, axis=i + first)
        return inputs

    def get_config(self) -> dict:
        return {**super().get_config(), "size": self.size, "data_format": self.data_format}


class UpSampling1D(_UpSampling):
    """Every step ``size`` times."""

    n = 1

    def __init__(self, size: int = 2, **kwargs: Any):
        super().__init__(positive("UpSampling1D", "size", size), "channels_last", **kwargs)

    def get_config(self) -> dict:
        config = {**super().get_config(), "size": self.size[0]}
        del config["data_format"]
        return config


class UpSampling2D(_UpSampling):
    """Every row and column several times, or values between them by ``interpolation``: "bilinear", "bicubic", "lanczos3", "lanczos5"."""

    n = 2

    def __init__(self, size: Any = (2, 2), data_format: str | None = None, interpolation: str = "nearest", **kwargs: Any):
        super().__init__(size, data_format, **kwargs)
        self.interpolation = choice("UpSampling2D", "interpolation", interpolation, "nearest", *KERNELS)

    def call(self, inputs: Any) -> Any:
        if self.interpolation == "nearest":
            return super().call(inputs)
        x = channels_last(inputs.node, self.data_format)
        for i, s in enumerate(self.size):
            x = interpolate(x, i + 1, s, *KERNELS[self.interpolation])
        return Tensor(restored(x, self.data_format))

    def get_config(self) -> dict:
        return {**super().get_config(), "interpolation": self.interpolation}


class UpSampling3D(_UpSampling):
    """Every element of the three spatial axes several times."""

    n = 3

    def __init__(self, size: Any = (2, 2, 2), data_format: str | None = None, **kwargs: Any):
        super().__init__(size, data_format, **kwargs)


def interpolate(x: Node, axis: int, factor: int, radius: int, kernel: Callable[[float], float]) -> Node:
    """``axis`` with ``factor`` times as many elements: at the distance d from an old one, that one weighs kernel(d); beyond the border none.

    The centres of the new elements lie at (i + 1/2) / factor - 1/2, so the weights depend on i mod factor and the neighbour only: the sum is of
    2 radius + 1 shifted images. Weights of one element are divided by their sum, which corrects the border (as jax.image.resize does).
    """
    if factor == 1:
        return x
    n, rank = x.shape[axis], x.rank
    offsets = [(p + 0.5) / factor - 0.5 for p in range(factor)]
    wide = F.pad(x, [(radius, radius) if i == axis else (0, 0) for i in range(rank)])
    inside = F.pad(F.ones((n,), x.dtype), [(radius, radius)])
    parts, sums = None, None
    for t in range(2 * radius + 1):
        weights = np.array([kernel(abs(d - (t - radius))) for d in offsets])
        if not weights.any():
            continue
        w = F.constant(weights.astype(x.dtype.np))
        start, stop = [0] * rank, list(wide.shape)
        start[axis], stop[axis] = t, t + n
        part = F.expand_dims(F.slice_(wide, tuple(start), tuple(stop)), axis + 1)
        part = F.mul(part, F.reshape(w, (factor, *[1] * (rank - axis - 1))))
        total = F.mul(F.expand_dims(F.slice_(inside, (t,), (t + n,)), 1), w)
        parts, sums = (part, total) if parts is None else (F.add(parts, part), F.add(sums, total))
    out = F.div(parts, F.reshape(sums, (n, factor, *[1] * (rank - axis - 1))))
    return F.reshape(out, (*x.shape[:axis], n * factor, *x.shape[axis + 1:]))


def _triangle(d: float) -> float:
    return max(0.0, 1.0 - d)


def _cubic(d: float) -> float:
    """Keys' cubic convolution kernel with a = -1/2."""
    if d >= 2:
        return 0.0
    return ((1.5 * d - 2.5) * d) * d + 1.0 if d < 1 else ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0


def _lanczos(radius: int) -> Callable[[float], float]:
    def kernel(d: float) -> float:
        if d > radius:
            return 0.0
        return 1.0 if d < 1e-3 else radius * math.sin(math.pi * d) * math.sin(math.pi * d / radius) / (math.pi * d) ** 2

    return kernel


KERNELS: dict[str, tuple[int, Callable[[float], float]]] = {
    "bilinear": (1, _triangle), "bicubic": (2, _cubic), "lanczos3": (3, _lanczos(3)), "lanczos5": (5, _lanczos(5)),
}  # fmt: skip
